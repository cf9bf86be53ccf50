//! A look at Thrift's compact form, in which parquet files describe themselves: whether it ends within the file and its lists
//! are no longer than what holds them. The library skips what it does not know for as long as a list says.

/// Structures within structures that the library goes into.
const DEEPEST: usize = 64;
const LONG: u8 = 15;

/// Whether a structure at the start of `bytes` is whole.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    Skimmer { rest: bytes, left: bytes.len() }.structure(DEEPEST).is_some()
}

/// The next field, where it is a number of 32 bits that follows on the field before, from 0 on.
pub(crate) fn number(fields: &mut &[u8]) -> Option<u64> {
    let mut skimmer = Skimmer { rest: fields.strip_prefix(&[0x15])?, left: 0 };
    let zigzag = skimmer.varint()?;
    *fields = skimmer.rest;
    (zigzag & 1 == 0).then_some(zigzag >> 1)
}

struct Skimmer<'a> {
    rest: &'a [u8],
    /// Items of lists that may still come: there are never more than bytes.
    left: usize,
}

impl Skimmer<'_> {
    fn structure(&mut self, depth: usize) -> Option<()> {
        loop {
            let field = self.byte()?;
            if field == 0 {
                return Some(());
            }
            // The number of a field that does not follow on the one before.
            if field >> 4 == 0 {
                self.varint()?;
            }
            self.value(field & LONG, depth)?;
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            // Truth values stand in the field itself; those of a list the library does not read either.
            1 | 2 => Some(()),
            3 => self.skip(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length.try_into().ok()?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let size = if head >> 4 == LONG { self.varint()? } else { u64::from(head >> 4) };
                self.items(size, &[head & LONG], depth)
            }
            11 => match self.varint()? {
                0 => Some(()),
                size => {
                    let kinds = self.byte()?;
                    self.items(size, &[kinds >> 4, kinds & LONG], depth)
                }
            },
            12 => self.structure(depth),
            13 => self.skip(16),
            _ => None,
        }
    }

    fn items(&mut self, size: u64, kinds: &[u8], depth: usize) -> Option<()> {
        let size = usize::try_from(size).ok()?;
        self.left = self.left.checked_sub(size)?;
        (0..size).try_for_each(|_| kinds.iter().try_for_each(|&kind| self.value(kind, depth)))
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_must_end_and_hold_what_its_lists_say() {
        // A number, a text, a list of two truth values, a structure with a double.
        let whole = [0x15, 4, 0x18, 1, b'x', 0x19, 0x21, 0x1c, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_whole(&whole) && !is_whole(&whole[..whole.len() - 1]));
        // Two billion truth values, which take no bytes; texts without end; structures without end.
        assert!(!is_whole(&[0x19, 0xf1, 0xfe, 0xff, 0xff, 0xff, 7, 0]));
        assert!(!is_whole(&[0x18, 0xff, 0xff, 3, 0]));
        assert!(!is_whole(&[0x1c; 1000]));
    }

    #[test]
    fn numbers_are_read_as_thrift_writes_them() {
        let mut fields = &[0x15, 0xd8, 4, 0x15, 1, 0][..];
        assert_eq!((number(&mut fields), fields.len()), (Some(300), 3));
        assert_eq!(number(&mut fields), None);
    }
}

//! The normaliser's table of a sentencepiece model: a double-array trie of what is replaced, and the replacements.
//!
//! Layout: the trie's size in bytes (u32, little-endian), the trie's units (u32), then the replacements, each ended by a
//! zero byte. A leaf's value is where its replacement starts.

/// A checked table.
pub struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

fn label(unit: u32) -> u32 {
    unit & (1 << 31 | 0xff)
}

fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

fn value(unit: u32) -> usize {
    (unit & !(1 << 31)) as usize
}

impl Charsmap {
    /// Reads a table; an empty one replaces nothing.
    ///
    /// # Errors
    /// A truncated table, or one whose trie leads out of it.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        if data.is_empty() {
            return Ok(Charsmap { units: Vec::new(), replacements: String::new() });
        }
        let truncated = || "the normaliser's table is truncated".to_string();
        let (size, rest) = data.split_first_chunk::<4>().ok_or_else(truncated)?;
        let (trie, replacements) = rest.split_at_checked(u32::from_le_bytes(*size) as usize).ok_or_else(truncated)?;
        let units = trie.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
        let replacements = String::from_utf8(replacements.to_vec())
            .map_err(|e| format!("the normaliser's replacements are not UTF-8: {e}"))?;
        let table = Charsmap { units, replacements };
        if table.is_sound() { Ok(table) } else { Err("the normaliser's trie leads out of its table".into()) }
    }

    /// Whether every node that can be reached has all its possible children in the table, and every leaf a replacement.
    fn is_sound(&self) -> bool {
        let mut seen = vec![false; self.units.len()];
        let mut open = vec![0u32];
        while let Some(node) = open.pop() {
            let Some(&unit) = self.units.get(node as usize) else { return false };
            if std::mem::replace(&mut seen[node as usize], true) {
                continue;
            }
            let children = node ^ offset(unit);
            let Some(block) = self.units.get(..=(children | 0xff) as usize) else { return false };
            if has_leaf(unit) && !self.replacements.is_char_boundary(value(block[children as usize])) {
                return false;
            }
            let child = |byte: u32| children ^ byte;
            open.extend((1..=0xff).filter(|&byte| label(block[child(byte) as usize]) == byte).map(child));
        }
        true
    }

    /// The longest start of `text` that the table replaces: its length in bytes and the replacement.
    pub fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut node = 0u32;
        let mut unit = *self.units.first()?;
        let mut found = None;
        for (index, &byte) in text.as_bytes().iter().enumerate() {
            node ^= offset(unit) ^ u32::from(byte);
            unit = *self.units.get(node as usize)?;
            if byte == 0 || label(unit) != u32::from(byte) {
                break;
            }
            if has_leaf(unit) {
                let leaf = *self.units.get((node ^ offset(unit)) as usize)?;
                found = Some((index + 1, value(leaf)));
            }
        }
        let (length, start) = found.filter(|(length, _)| text.is_char_boundary(*length))?;
        let replacement = self.replacements.get(start..)?;
        Some((length, replacement.split('\0').next().unwrap_or_default()))
    }
}

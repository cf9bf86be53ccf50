//! Lines of a text.

/// Number, from 1, of the line on which the record that begins at a byte stands. A reader may begin it before a line end: between
/// the two characters of a Windows one, or at empty lines.
pub fn line_of(text: &str, byte: u64) -> usize {
    let at = usize::try_from(byte).unwrap_or(usize::MAX).min(text.len());
    let (before, rest) = text.as_bytes().split_at(at);
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    1 + before.iter().chain(skipped).filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_where_its_text_stands_whatever_ends_the_lines() {
        for end in ["\n", "\r\n", "\n\n"] {
            let text = ["head", "one", "two"].join(end);
            let length = end.len() as u64;
            let lines = if end == "\n\n" { [1, 3, 5] } else { [1, 2, 3] };
            assert_eq!([0, 4 + length, 7 + 2 * length].map(|byte| line_of(&text, byte)), lines, "{end:?}");
            assert_eq!(line_of(&text, 3 + length), lines[1], "one byte early");
        }
        assert_eq!(line_of("a", 99), 1);
    }
}

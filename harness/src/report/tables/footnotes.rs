//! Numbered footnotes of a table.

use std::collections::HashMap;

/// Footnotes in the order of their first use; one with the same text is used again.
#[derive(Default)]
pub struct Footnotes {
    texts: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Footnotes {
    /// Mark of a footnote.
    pub fn mark(&mut self, text: String) -> String {
        let next = self.texts.len() + 1;
        let number = *self.numbers.entry(text.clone()).or_insert(next);
        if number == next {
            self.texts.push(text);
        }
        format!("[{number}]")
    }

    /// The notes below the table.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.texts.iter().enumerate().map(|(index, text)| format!("[{}] {text}.", index + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_one_number() {
        let mut notes = Footnotes::default();
        let marks = ["a", "b", "a"].map(|text| notes.mark(text.into()));
        assert_eq!(marks, ["[1]", "[2]", "[1]"]);
        assert_eq!(notes.lines().collect::<Vec<_>>(), ["[1] a.", "[2] b."]);
    }
}

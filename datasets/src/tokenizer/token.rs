//! A token of an option file.

use tokenizers::AddedToken;

/// A token given as text or with its flags; the two are added in different ways.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// Its text.
    Text(String),
    /// Its text and flags.
    Added(AddedToken),
}

impl Token {
    /// Its text.
    pub fn content(&self) -> &str {
        match self {
            Token::Text(content) => content,
            Token::Added(token) => &token.content,
        }
    }
}

//! The two readings of a sentencepiece model.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a sentencepiece model is read; other tokenizers have one way only, which is `fast`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behaviour {
    /// As sentencepiece itself, and so the slow tokenizer of transformers, which the released code used (spec §4.2).
    #[default]
    Sentencepiece,
    /// As the fast tokenizer that transformers 4.57 converts from it.
    Fast,
}

impl Behaviour {
    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Behaviour::Sentencepiece => "sentencepiece",
            Behaviour::Fast => "fast",
        }
    }
}

impl std::str::FromStr for Behaviour {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Behaviour::Sentencepiece, Behaviour::Fast];
        let found = all.into_iter().find(|behaviour| behaviour.name() == name);
        found.ok_or_else(|| Error::unknown("tokenizer behaviour", name, all.map(Behaviour::name)))
    }
}

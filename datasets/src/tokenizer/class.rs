//! Which tokenizer class of transformers reads a checkpoint.

use tokenizers::AddedToken;

use crate::tokenizer::token::Token;

/// Classes that read in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// WordPiece after BERT's normaliser.
    Bert,
    /// Byte-level BPE.
    Roberta,
    /// A sentencepiece unigram model.
    Deberta,
    /// `tokenizer.json` as it stands.
    Json,
}

/// One class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Its name, without `Fast`.
    pub name: &'static str,
    /// How it reads.
    pub family: Family,
    /// Whether the model is given segments.
    pub has_type_ids: bool,
    special: &'static [(&'static str, &'static str)],
}

const BERT_TOKENS: &[(&str, &str)] = &[
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
const DEBERTA_TOKENS: &[(&str, &str)] = &[
    ("bos_token", "[CLS]"),
    ("eos_token", "[SEP]"),
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
const ROBERTA_TOKENS: &[(&str, &str)] = &[
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];

const fn class(
    name: &'static str,
    family: Family,
    has_type_ids: bool,
    special: &'static [(&'static str, &'static str)],
) -> Class {
    Class { name, family, has_type_ids, special }
}

const BERT: Class = class("BertTokenizer", Family::Bert, true, BERT_TOKENS);
const ROBERTA: Class = class("RobertaTokenizer", Family::Roberta, false, ROBERTA_TOKENS);
const DEBERTA: Class = class("DebertaV2Tokenizer", Family::Deberta, true, DEBERTA_TOKENS);
const JSON: Class = class("PreTrainedTokenizer", Family::Json, true, &[]);
const CLASSES: &[Class] = &[
    BERT,
    ROBERTA,
    DEBERTA,
    JSON,
    class("DistilBertTokenizer", Family::Bert, false, BERT_TOKENS),
    class("ElectraTokenizer", Family::Bert, true, BERT_TOKENS),
    class("TokenizersBackend", Family::Json, true, &[]),
    class("XLMRobertaTokenizer", Family::Json, false, ROBERTA_TOKENS),
];

impl Class {
    /// The class of a name, with or without `Fast`.
    ///
    /// # Errors
    /// A class that is not supported, with those that are.
    pub fn named(name: &str) -> Result<Class, String> {
        let plain = name.strip_suffix("Fast").unwrap_or(name);
        CLASSES.iter().find(|class| class.name == plain).copied().ok_or_else(|| {
            let known: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
            format!("the option tokenizer_class = {name:?} is not supported; known: {}", known.join(", "))
        })
    }

    /// The class of a model; `None` where transformers would take another one than those here.
    pub fn of_model(model_type: &str) -> Option<Class> {
        match model_type {
            "bert" => Some(BERT),
            "roberta" => Some(ROBERTA),
            "deberta-v2" => Some(DEBERTA),
            _ => None,
        }
    }

    /// The class of a family, where no file names one.
    pub fn of_family(family: Family) -> Class {
        match family {
            Family::Bert => BERT,
            Family::Roberta => ROBERTA,
            Family::Deberta => DEBERTA,
            Family::Json => JSON,
        }
    }

    /// The class's own special token of an attribute.
    pub fn special(&self, attribute: &str) -> Option<Token> {
        let (_, content) = self.special.iter().find(|(name, _)| *name == attribute)?;
        Some(self.as_token(attribute, content))
    }

    /// A token that is given as text, as the class's constructor makes it.
    pub fn as_token(&self, attribute: &str, content: &str) -> Token {
        let is_mask = attribute == "mask_token";
        match self.family {
            // The mask behaves like a word: it takes the space before it.
            Family::Roberta if is_mask => Token::Added(AddedToken::from(content, false).lstrip(true).normalized(false)),
            // XLM-RoBERTa's.
            Family::Json if is_mask && !self.special.is_empty() => {
                Token::Added(AddedToken::from(content, false).lstrip(true).normalized(true))
            }
            _ => Token::Text(content.to_string()),
        }
    }
}

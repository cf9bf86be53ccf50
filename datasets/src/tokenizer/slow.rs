//! DeBERTa's slow tokenizer of transformers around [`SentencePiece`]: added tokens are cut out of the text first, then
//! sentencepiece reads what is left.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;
use tokenizers::AddedToken;

use crate::tokenizer::sentencepiece::SentencePiece;
use crate::tokenizer::settings::Settings;
use crate::tokenizer::token::Token;

/// A slow tokenizer ready for use.
pub struct Slow {
    model: SentencePiece,
    /// Added tokens with their ids.
    added: Vec<(AddedToken, u32)>,
    lower: Option<Vec<String>>,
    punctuation: Option<Regex>,
    split_special_tokens: bool,
    /// Reading of pieces whose text is an added token's.
    aliases: HashMap<u32, u32>,
}

/// Added tokens of a slow tokenizer: those of the files, then the special ones that are in none.
pub struct Added {
    by_id: BTreeMap<u32, AddedToken>,
    ids: HashMap<String, u32>,
}

impl Added {
    /// Numbers the tokens: one that `vocabulary` knows keeps its id, a new one comes after the last.
    pub fn new(settings: &Settings, vocabulary: &HashMap<&str, u32>) -> Self {
        let mut by_id = settings.added.clone();
        let mut ids: HashMap<String, u32> = by_id.iter().map(|(id, token)| (token.content.clone(), *id)).collect();
        ids.extend(settings.json_ids.clone());
        let fresh = ids.keys().filter(|content| !vocabulary.contains_key(content.as_str())).count();
        let mut next = (vocabulary.len() + fresh) as u32;
        for token in settings.unique_special() {
            let token = match token {
                Token::Text(content) if ids.contains_key(content) => continue,
                Token::Text(content) => AddedToken::from(content.as_str(), true),
                Token::Added(token) => token.clone().special(true),
            };
            if token.content.is_empty() {
                continue;
            }
            let known = ids.get(&token.content).or_else(|| vocabulary.get(token.content.as_str())).copied();
            let id = known.unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            ids.insert(token.content.clone(), id);
            by_id.insert(id, token);
        }
        Added { by_id, ids }
    }

    /// The id of a token among them.
    pub fn id(&self, content: &str) -> Option<u32> {
        self.ids.get(content).copied()
    }
}

impl Slow {
    /// Puts the parts together. `vocabulary` are the ids of the model's pieces.
    ///
    /// # Errors
    /// A broken build.
    pub fn new(
        model: SentencePiece,
        settings: &Settings,
        added: &Added,
        vocabulary: &HashMap<String, u32>,
    ) -> Result<Self, String> {
        let tokens: Vec<(AddedToken, u32)> = added
            .ids
            .iter()
            .filter_map(|(content, id)| {
                Some((added.by_id.get(id).filter(|token| token.content == *content)?.clone(), *id))
            })
            .collect();
        let kept = || {
            let special = settings.unique_special().into_iter().map(|token| token.content().to_string());
            let added = added.by_id.values().filter(|token| !token.special && token.normalized);
            special.chain(added.map(|token| token.content.clone())).collect()
        };
        let punctuation = r"[\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e\p{P}]";
        let aliases = tokens.iter().filter_map(|(token, id)| Some((*vocabulary.get(&token.content)?, *id)));
        Ok(Slow {
            lower: settings.do_lower_case.then(kept),
            punctuation: settings
                .split_by_punct
                .then(|| Regex::new(punctuation))
                .transpose()
                .map_err(|e| e.to_string())?,
            split_special_tokens: settings.split_special_tokens,
            aliases: aliases.filter(|(piece, id)| piece != id).collect(),
            added: tokens,
            model,
        })
    }

    /// Ids of a text, special tokens of a row not included; added tokens that stand in the text are kept.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let lowered = self.lower.as_ref().map(|kept| lower(text, kept));
        let text = lowered.as_deref().unwrap_or(text);
        let mut ids = Vec::new();
        if self.split_special_tokens || self.first(text).is_none() {
            self.encode_plain(text, &mut ids);
            return ids;
        }
        for part in self.parts(text) {
            match self.added.iter().find(|(token, _)| token.content == part) {
                Some((_, id)) => ids.push(*id),
                None if part.is_empty() => {}
                None => self.encode_plain(&part, &mut ids),
            }
        }
        ids
    }

    /// The text cut at added tokens, which have taken the space that is theirs.
    fn parts(&self, text: &str) -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        let mut rest = text;
        while let Some((start, token)) = self.first(rest) {
            if start > 0 {
                parts.push(rest[..start].to_string());
            }
            parts.push(token.content.clone());
            rest = &rest[start + token.content.len()..];
        }
        if !rest.is_empty() {
            parts.push(rest.to_string());
        }
        for at in 0..parts.len() {
            let Some((token, _)) = self.added.iter().find(|(token, _)| token.content == parts[at]) else { continue };
            self.strip_around(&mut parts, at, token);
        }
        parts
    }

    fn strip_around(&self, parts: &mut [String], at: usize, token: &AddedToken) {
        let left = at.checked_sub(1).map(|left| parts[left].clone()).filter(|text| !text.is_empty());
        let right = parts.get(at + 1).cloned().filter(|text| !text.is_empty());
        if let (true, Some(right)) = (token.rstrip, &right) {
            parts[at + 1] = right.trim_start_matches(is_space).to_string();
        }
        if let (true, Some(left)) = (token.lstrip, &left) {
            parts[at - 1] = left.trim_end_matches(is_space).to_string();
        }
        if !token.single_word {
            return;
        }
        if left.is_some_and(|left| !left.ends_with(' ')) {
            parts[at - 1].push_str(&token.content);
            parts[at].clear();
        } else if right.is_some_and(|right| !right.starts_with(' ')) {
            parts[at + 1].insert_str(0, &token.content);
            parts[at].clear();
        }
    }

    /// The leftmost added token, the longest of those that begin there.
    fn first(&self, text: &str) -> Option<(usize, &AddedToken)> {
        let found = self.added.iter().filter_map(|(token, _)| Some((text.find(&token.content)?, token)));
        found.min_by_key(|(start, token)| (*start, std::cmp::Reverse(token.content.len())))
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) {
        let start = ids.len();
        // transformers does it once more for what was put together again.
        let lowered = self.lower.as_ref().map(|_| text.to_lowercase());
        let text = lowered.as_deref().unwrap_or(text);
        match &self.punctuation {
            None => self.model.encode(text, ids),
            Some(punctuation) => {
                let mut end = 0;
                for found in punctuation.find_iter(text) {
                    for word in [&text[end..found.start()], found.as_str()] {
                        self.model.encode(word, ids);
                    }
                    end = found.end();
                }
                self.model.encode(&text[end..], ids);
            }
        }
        if !self.aliases.is_empty() {
            for id in &mut ids[start..] {
                *id = self.aliases.get(id).copied().unwrap_or(*id);
            }
        }
    }

    /// Everything that decides ids besides the model, as one text.
    pub fn effect(&self) -> String {
        let text = |(token, id): &(AddedToken, u32)| {
            let AddedToken { content, single_word, lstrip, rstrip, .. } = token;
            format!("{id} {content:?} {single_word} {lstrip} {rstrip}")
        };
        let mut added: Vec<String> = self.added.iter().map(text).collect();
        added.sort_unstable();
        let Slow { lower, punctuation, split_special_tokens, .. } = self;
        format!("{added:?} {lower:?} {} {split_special_tokens}", punctuation.is_some())
    }
}

/// Lower case letter by letter, the `kept` texts excepted, the first of the list that fits.
fn lower(text: &str, kept: &[String]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let found = kept.iter().find(|kept| !kept.is_empty() && rest.starts_with(kept.as_str()));
        let length = match found {
            Some(kept) => {
                out.push_str(kept);
                kept.len()
            }
            None => {
                out.extend(letter.to_lowercase());
                letter.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

/// Python's `str.isspace`.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

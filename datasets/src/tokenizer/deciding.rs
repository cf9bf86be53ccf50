//! Which files of a checkpoint decide ids.

use std::path::Path;

use crate::tokenizer::choice::class_of;
use crate::tokenizer::class::Family;
use crate::tokenizer::files::{BPE, CONFIG, FILES, JSON, OPTION_FILES, SPM, WORDPIECE};

/// Files that decide the ids of the checkpoint in `dir`, whether they are there or not, as far as the others tell.
pub fn deciding_files(dir: &Path) -> Vec<&'static str> {
    let config = std::fs::read(dir.join(CONFIG)).ok();
    let config: serde_json::Value = config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut files = vec![CONFIG];
    if config.get("added_tokens_decoder").is_none() {
        files.extend(OPTION_FILES.into_iter().filter(|file| *file != CONFIG));
    }
    files.push(JSON);
    let family = class_of(dir).map(|class| class.family);
    let has_json = dir.join(JSON).is_file();
    match family {
        Some(Family::Deberta) => files.push(SPM),
        Some(Family::Bert) if !has_json => files.push(WORDPIECE),
        Some(Family::Roberta) if !has_json => files.extend(BPE),
        Some(_) => {}
        None => files.extend(FILES.into_iter().filter(|file| *file != JSON)),
    }
    files
}

/// The family whose vocabulary lies in `dir`; `None` where there is none.
pub(crate) fn family_of_files(dir: &Path) -> Option<Family> {
    let has = |file: &str| dir.join(file).is_file();
    match () {
        () if has(SPM) => Some(Family::Deberta),
        () if has(JSON) => {
            let json = std::fs::read(dir.join(JSON)).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
            Some(if json["normalizer"]["type"] == "BertNormalizer" { Family::Bert } else { Family::Json })
        }
        () if has(WORDPIECE) => Some(Family::Bert),
        () if BPE.into_iter().all(has) => Some(Family::Roberta),
        () => None,
    }
}

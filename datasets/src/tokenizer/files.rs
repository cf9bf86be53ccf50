//! Names of a checkpoint's tokenizer files, and reading them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(crate) const SPM: &str = "spm.model";
pub(crate) const JSON: &str = "tokenizer.json";
pub(crate) const WORDPIECE: &str = "vocab.txt";
pub(crate) const BPE: [&str; 2] = ["vocab.json", "merges.txt"];
pub(crate) const CONFIG: &str = "tokenizer_config.json";
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
pub(crate) const ADDED_TOKENS: &str = "added_tokens.json";
pub(crate) const MODEL_CONFIG: &str = "config.json";
/// Every file that may hold a vocabulary.
pub const FILES: [&str; 5] = [SPM, JSON, WORDPIECE, BPE[0], BPE[1]];
/// Files beside a vocabulary that decide ids.
pub const OPTION_FILES: [&str; 3] = [CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS];
const GET_AGAIN: &str = "Download the checkpoint's tokenizer files again";

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: PathBuf::from(path), source })
}

pub(crate) fn corrupt(path: &Path, format: &'static str, detail: String) -> Error {
    Error::Corrupt { path: path.to_path_buf(), format, detail, help: GET_AGAIN.into() }
}

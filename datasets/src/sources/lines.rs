//! Lines of a text file.

use std::path::Path;

use crate::error::Result;
use crate::sources::columns::{BYTE_ORDER_MARK, LinePosition};

/// The lines without their ends; empty ones at the end of the file are dropped. Lines may end in LF or in CR LF, and the
/// last one in nothing. `may_be_cut`: lines that a line break within a text cut short are left out anyway.
pub(crate) fn lines<'a>(content: &'a [u8], path: &Path, may_be_cut: bool) -> Result<Vec<&'a [u8]>> {
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let mut lines = Vec::with_capacity(1 + content.iter().filter(|&&byte| byte == b'\n').count());
    lines.extend(content.split(|&byte| byte == b'\n'));
    let is_blank = |line: &&[u8]| line.is_empty() || *line == b"\r";
    let has_last_end = lines.last().is_some_and(|line| line.is_empty());
    let ended = if has_last_end || lines.len() == 1 { lines.len() } else { lines.len() - 1 };
    while lines.last().is_some_and(is_blank) {
        lines.pop();
    }
    let ended = ended.min(lines.len());
    let has_return = |line: &[u8]| line.ends_with(b"\r");
    let with = lines.iter().position(|line| has_return(line));
    let without = lines[..ended].iter().position(|line| !has_return(line));
    if let (Some(with), Some(without), false) = (with, without, may_be_cut) {
        let line = with.max(without) + 1;
        let (expected, got) = if with > without { ("LF", "CR LF") } else { ("CR LF", "LF alone") };
        let expected = format!("a line that ends in {expected} as the lines before it");
        return Err(LinePosition { path, line }.error(expected, got.into(), "Write all line ends in one way"));
    }
    Ok(lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect())
}

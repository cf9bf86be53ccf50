//! Sets that lie in several parquet files. The Hub's GLUE is in one piece for every task; others' may be in several.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::dataset::{Example, ParsedFile};
use crate::error::{Error, Result};
use crate::sources::parquet;
use crate::task::{Source, Task};

/// Reads a set that may lie in several pieces, of which `first` is the first.
pub(crate) fn read(task: &Task, source: &Source, dir: &Path, first: &str) -> Result<ParsedFile> {
    let Some(pieces) = pieces(first) else { return parquet::read(&task.labels, source, &dir.join(first)) };
    let (mut examples, mut hash) = (Vec::new(), Sha256::new());
    for piece in pieces {
        let path = dir.join(&piece);
        if !path.is_file() {
            let help = "Every piece of the set must be there".into();
            return Err(Error::Missing { what: format!("a piece of a set of {}", task.title), path, help });
        }
        let rows = parquet::read(&task.labels, source, &path)?;
        hash.update(format!("{}\n", rows.sha256));
        let start = examples.len();
        examples.extend(rows.examples.into_iter().map(|row| Example { row: start + row.row, ..row }));
    }
    Ok(ParsedFile { examples, sha256: hex::encode(hash.finalize()) })
}

/// The names of all pieces of a set, by that of the first; none of a set in one piece. They are made one by one: a name may say any count.
fn pieces(first: &str) -> Option<impl Iterator<Item = String>> {
    let (stem, digits) = first.strip_suffix(".parquet")?.rsplit_once("-00000-of-")?;
    let count = digits.parse::<usize>().ok().filter(|count| *count > 1)?;
    Some((0..count).map(move |at| format!("{stem}-{at:05}-of-{digits}.parquet")))
}

/// The first piece below `dir` of a set whose name in one piece is `whole`.
pub(crate) fn first(dir: &Path, whole: &str) -> Option<String> {
    let (folder, start) = whole.strip_suffix("00001.parquet")?.rsplit_once('/')?;
    let entries = std::fs::read_dir(dir.join(folder)).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_first = |name: &String| {
        let digits = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(".parquet"));
        digits.is_some_and(|digits| digits.len() == 5 && digits.parse::<usize>().is_ok_and(|count| count > 1))
    };
    names.filter(is_first).min().map(|name| format!("{folder}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_pieces_whatever_their_count() {
        let mut two = pieces("a/train-00000-of-00002.parquet").unwrap();
        assert_eq!(two.nth(1).as_deref(), Some("a/train-00001-of-00002.parquet"));
        assert!(two.next().is_none());
        let all = format!("train-00000-of-{}.parquet", usize::MAX);
        assert!(pieces(&all).unwrap().nth(1).unwrap().starts_with("train-00001-of-"));
        for whole in ["train.parquet", "train-00000-of-00001.parquet", "train-00000-of-00000.parquet"] {
            assert!(pieces(whole).is_none(), "{whole}");
        }
    }
}

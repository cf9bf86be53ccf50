//! Token ids of many checkpoint directories at once, for `just parity tokens`. Reads
//! `{"cases": [[name, folder, behaviour]], "rows": [[first, second or null]], "max_length": n}` from its first argument and
//! writes `{name: [ids of each row] or the refusal}` to its second.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use datasets::tokenizer::{Behaviour, Tokenizer};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Job {
    cases: Vec<(String, PathBuf, Behaviour)>,
    rows: Vec<(String, Option<String>)>,
    max_length: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Found {
    Ids { ids: Vec<Vec<u32>>, sha256: String },
    Refused(String),
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (from, to) = (arguments.next().ok_or("no job")?, arguments.next().ok_or("no output")?);
    let job: Job = serde_json::from_slice(&std::fs::read(from)?)?;
    let read = |(name, folder, behaviour): &(String, PathBuf, Behaviour)| {
        let found = Tokenizer::from_dir(folder, *behaviour).and_then(|tokenizer| {
            let ids = |(first, second): &(String, Option<String>)| {
                Ok(tokenizer.encode(first, second.as_deref(), job.max_length)?.ids)
            };
            let ids = job.rows.iter().map(ids).collect::<datasets::Result<_>>()?;
            Ok(Found::Ids { ids, sha256: tokenizer.sha256().to_string() })
        });
        (name.clone(), found.unwrap_or_else(|error| Found::Refused(error.to_string())))
    };
    let found: BTreeMap<String, Found> = job.cases.iter().map(read).collect();
    std::fs::write(to, serde_json::to_vec(&found)?)?;
    Ok(())
}

//! Tokens a second of the synthetic rows: with the vocabulary of the default backbone where it is at hand, and with a small
//! sentencepiece model in both its behaviours. (`just parity tokens` measures them beside transformers' on real rows.)

use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datasets::Example;
use datasets::micro;
use datasets::tasks;
use datasets::tokenizer::{Behaviour, Tokenizer};

/// Longest row in tokens; the synthetic rows are shorter.
const MAX_LENGTH: usize = 128;

fn tokenize(criterion: &mut Criterion) {
    let rows: Vec<Example> =
        micro::tasks().flat_map(|name| micro::dataset(tasks::find(name).unwrap()).unwrap().train).collect();
    let backbone = backbone();
    let made_up = tempfile::tempdir().unwrap();
    let (name, dir) = match &backbone {
        Some(dir) => ("backbone", dir.as_path()),
        None => {
            std::fs::write(made_up.path().join("vocab.txt"), vocabulary(&rows)).unwrap();
            ("made_up_vocabulary", made_up.path())
        }
    };
    let spm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity/e1_tokenizer_small_unigram");
    let mut group = criterion.benchmark_group("tokenize");
    group.sample_size(20);
    for (name, dir, behaviour) in [
        (name, dir, Behaviour::Fast),
        ("sentencepiece", &spm, Behaviour::Sentencepiece),
        ("sentencepiece_fast", &spm, Behaviour::Fast),
    ] {
        let tokenizer = Tokenizer::from_dir(dir, behaviour).unwrap();
        let encoded = tokenizer.encode_all(&rows, MAX_LENGTH).unwrap();
        let tokens = encoded.iter().map(|row| row.encoding.ids.len()).sum::<usize>();
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| tokenizer.encode_all(black_box(&rows), MAX_LENGTH).unwrap());
        });
    }
    group.finish();
}

/// `RANKBENCH_BACKBONE`, or what `just setup` puts into the cache.
fn backbone() -> Option<PathBuf> {
    let cached = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/backbones/all-MiniLM-L6-v2");
    let dir = std::env::var_os("RANKBENCH_BACKBONE").map_or(cached, PathBuf::from);
    dir.is_dir().then_some(dir)
}

/// The words of the rows, and every letter so that none is unknown.
fn vocabulary(rows: &[Example]) -> String {
    let texts = rows.iter().flat_map(|row| [Some(row.first.as_str()), row.second.as_deref()]).flatten();
    let words: BTreeSet<String> = texts.flat_map(str::split_whitespace).map(str::to_lowercase).collect();
    let letters = ('!'..='~').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from);
    let tokens: Vec<String> = special.into_iter().chain(letters).chain(words).collect();
    tokens.join("\n")
}

criterion_group!(benches, tokenize);
criterion_main!(benches);

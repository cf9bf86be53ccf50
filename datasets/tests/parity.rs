//! Metrics, permutations and token ids against scikit-learn, SciPy, PyTorch, NumPy and transformers, case by case.

mod support;

use std::path::{Path, PathBuf};

use datasets::Error;
use datasets::batch::{Padding, batches};
use datasets::metrics::Metric;
use datasets::permutation::{numpy_permutation, torch_randperm};
use datasets::tokenizer::{Behaviour, TokenizedExample, Tokenizer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{Case, cases, directory, folders};

const METRICS: [Metric; 5] = [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Pearson, Metric::Spearman];

#[test]
fn metrics_are_those_of_scikit_learn_and_scipy() {
    for case in cases("e5") {
        for entry in case.json["cases"].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap();
            let read = |part: &str| case.tensor(&format!("{name}.{part}")).unwrap().1;
            let (labels, predictions) = (read("labels"), read("predictions"));
            let tolerance = if name.ends_with("_f32") { rounding(&labels).max(rounding(&predictions)) } else { 1e-12 };
            let known = METRICS.iter().filter(|metric| !entry[metric.name()].is_null());
            assert!(known.clone().count() > 0, "{name} holds no metric");
            for metric in known {
                let got = metric.compute(&labels, &predictions).unwrap();
                // 'nan' stands for a correlation with a constant side, which is 0 here.
                let want = entry[metric.name()].as_f64().unwrap_or(0.0);
                let what = format!("{} {name} {}", case.name(), metric.name());
                assert!((got - want).abs() <= tolerance, "{what}: got {got}, expected {want}");
            }
        }
    }
}

/// SciPy computes in the type of its input: what 32 bits lose of values that far from zero for their spread.
fn rounding(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if spread == 0.0 { 0.0 } else { largest / spread * f64::from(f32::EPSILON) }
}

#[test]
fn permutations_are_those_of_torch_and_numpy() {
    for case in cases("e6") {
        for entry in case.json["rows"].as_array().unwrap() {
            let number = |key: &str| entry[key].as_u64().unwrap();
            let permutation = match entry["kind"].as_str().unwrap() {
                kind if kind.starts_with("torch") => torch_randperm,
                kind if kind.starts_with("numpy") => numpy_permutation,
                other => panic!("{}: unknown kind {other}", case.name()),
            };
            let order = permutation(number("N") as usize, number("seed"));
            let what = format!("{} {entry}", case.name());
            let first = indices(&entry["first"]);
            assert_eq!(order[..first.len()], first, "{what}");
            if let Some(last) = entry.get("last").map(indices) {
                assert_eq!(order[order.len() - last.len()..], last, "{what}");
            }
            if let Some((_, whole)) = entry["tensor"].as_str().map(|name| case.tensor(name).unwrap()) {
                assert!(order.iter().zip(&whole).all(|(got, want)| *got as f64 == *want), "{what}");
            }
            let bytes: Vec<u8> = order.iter().flat_map(|&i| (i as i64).to_le_bytes()).collect();
            assert_eq!(hex::encode(Sha256::digest(bytes)), entry["sha256_int64_le"], "{what}");
        }
    }
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

#[test]
fn token_ids_are_those_of_transformers() {
    for class in ["e1", "e2", "e3", "e4"] {
        for case in cases(class) {
            let Some(dir) = files(&case) else { continue };
            follow(&case, &Tokenizer::from_dir(&dir, Behaviour::Fast).unwrap());
            let has_spm = dir.join("spm.model").is_file();
            if has_spm {
                follow(&case, &Tokenizer::from_dir(&dir, Behaviour::Sentencepiece).unwrap());
            }
            // What transformers itself converted the model to.
            if has_spm && dir.join("tokenizer.json").is_file() {
                let alone = tempfile::tempdir().unwrap();
                std::fs::copy(dir.join("tokenizer.json"), alone.path().join("tokenizer.json")).unwrap();
                follow(&case, &Tokenizer::from_dir(alone.path(), Behaviour::Sentencepiece).unwrap());
            }
        }
    }
}

fn follow(case: &Case, tokenizer: &Tokenizer) {
    let entries = case.json["cases"].as_array().unwrap();
    for entry in entries {
        let limit = entry["max_length"].as_u64().map_or(usize::MAX, |limit| limit as usize);
        let encoding = tokenizer.encode(entry["text"].as_str().unwrap(), entry["pair"].as_str(), limit).unwrap();
        let what = format!("{} {:?} {entry}", case.name(), tokenizer.behaviour());
        let ids: Vec<usize> = encoding.ids.iter().map(|&id| id as usize).collect();
        if tokenizer.behaviour() == Behaviour::Sentencepiece {
            let want = entry.get("ids_sentencepiece").unwrap_or(&entry["ids"]);
            assert_eq!(ids, indices(want), "{what}");
            continue;
        }
        assert_eq!(ids, indices(&entry["ids"]), "{what}");
        assert_eq!(ids.len() as u64, entry["attention_mask_length"], "{what}");
        let second = entry["token_type_ids_first_one"].as_u64().map_or(ids.len(), |at| at as usize);
        let type_ids: Vec<u8> = (0..ids.len()).map(|at| u8::from(at >= second)).collect();
        assert_eq!(encoding.type_ids, type_ids, "{what}");
    }
    let special = &case.json["special_tokens"];
    let pad = special.get("[PAD]").unwrap_or(&special["<pad>"]);
    assert_eq!(u64::from(tokenizer.pad_id()), *pad, "{}", case.name());
    if tokenizer.behaviour() == Behaviour::Fast {
        assert_padded(case, entries, tokenizer);
    }
}

/// The folder with the case's files, known by their checksums: the case's own, or one below `TOKENIZER_DIR`.
fn files(case: &Case) -> Option<PathBuf> {
    let has = |dir: &Path| {
        case.json["sha256"].as_object().unwrap().iter().all(|(file, wanted)| {
            let bytes = std::fs::read(dir.join(file)).unwrap_or_default();
            hex::encode(Sha256::digest(bytes)) == *wanted
        })
    };
    if has(&case.dir) {
        return Some(case.dir.clone());
    }
    let root = directory("TOKENIZER_DIR", "a folder for every checkpoint's tokenizer files")?;
    let found = folders(&root).into_iter().find(|dir| has(dir));
    Some(found.unwrap_or_else(|| panic!("{}: its files are not below {}", case.name(), root.display())))
}

fn assert_padded(case: &Case, entries: &[Value], tokenizer: &Tokenizer) {
    let Some((shape, ids)) = case.tensor("padded32.input_ids") else { return };
    let (rows, length) = (shape[0], shape[1]);
    assert_eq!(rows, entries.len(), "{}", case.name());
    let encode = |(row, entry): (usize, &Value)| TokenizedExample {
        encoding: tokenizer.encode(entry["text"].as_str().unwrap(), entry["pair"].as_str(), length).unwrap(),
        label: 0.0,
        row,
    };
    let encoded: Vec<TokenizedExample> = entries.iter().enumerate().map(encode).collect();
    let order: Vec<usize> = (0..rows).collect();
    let batch = batches(&encoded, &order, rows, Padding::MaxLength, length, tokenizer.pad_id()).remove(0);
    let as_numbers = |values: &[i64]| values.iter().map(|&v| v as f64).collect::<Vec<f64>>();
    assert_eq!(as_numbers(&batch.ids), ids, "{}", case.name());
    assert_eq!(as_numbers(&batch.mask), case.tensor("padded32.attention_mask").unwrap().1, "{}", case.name());
}

#[test]
fn a_constant_side_gives_no_correlation() {
    let (varied, constant) = ([0.0, 1.0, 2.0, 1.0], [1.0; 4]);
    for metric in [Metric::Matthews, Metric::Pearson, Metric::Spearman] {
        assert_eq!(metric.compute(&varied, &constant).unwrap(), 0.0);
        assert_eq!(metric.compute(&constant, &varied).unwrap(), 0.0);
    }
    assert_eq!(Metric::F1.compute(&[0.0; 3], &[0.0; 3]).unwrap(), 0.0);
}

#[test]
fn what_has_no_score_is_an_error() {
    for metric in METRICS {
        let refused = |labels: &[f64], predictions: &[f64]| {
            assert!(matches!(metric.compute(labels, predictions), Err(Error::Metric { .. })), "{metric:?}");
        };
        refused(&[], &[]);
        refused(&[1.0], &[1.0, 0.0]);
        refused(&[1.0, f64::NAN], &[1.0, 0.0]);
        refused(&[1.0, 0.0], &[f64::INFINITY, 0.0]);
    }
    let error = Metric::Pearson.compute(&[1.0, 2.0], &[0.5, f64::NAN]).unwrap_err();
    insta::assert_snapshot!(error, @"cannot compute pearson: prediction 1 (from 0) is NaN. A model that diverged gives such values: lower its learning rate");
    assert!(Metric::Pearson.compute(&[f64::MAX, -f64::MAX, f64::MAX], &[1.0, 2.0, 4.0]).is_err());
}

//! Settings and origins in which the runs of a pair differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::analysis::frame::label::Settings;
use crate::analysis::frame::rows::{RunRow, pairs};
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::frame_rows;

frame_rows! {
    /// A setting or an origin in which runs of one row, task and seed differ.
    #[derive(Serialize)]
    pub struct DifferingField {
        /// Name: of a key of run.toml without its section, of a column of results.csv, or of an entry of manifest.json.
        field: String,
        /// Its values in A, joined by `; `.
        before: String,
        /// Its values in B.
        after: String,
        /// Pairs of runs that differ in it.
        pairs: u64,
    }
}

/// A run in A and its partner in B.
pub type Pair<'a> = [&'a RunResult; 2];

/// Place and name of a field: settings by name, the program, then origins in the order of [`ORIGINS`].
type Field<'a> = (usize, &'a str);

/// Value of one origin of a run.
type OriginOf = fn(&RunRow) -> String;

/// Where and how runs were made, as results.csv has it.
const ORIGINS: [(&str, OriginOf); 9] = [
    ("recipe", |row| row.recipe.clone()),
    ("numerics", |row| optional(row.numerics)),
    ("commit", |row| row.commit.clone()),
    ("device", |row| row.device.clone()),
    ("driver", |row| row.driver.clone()),
    ("libtorch", |row| row.libtorch.clone()),
    ("threads", |row| optional(row.threads)),
    ("together", |row| optional(row.together)),
    ("micro_batch", |row| row.micro_batch.map_or("whole".into(), |rows| rows.to_string())),
];

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or("not stated".into(), |value| value.to_string())
}

/// Settings that a line of results.csv has; one without a value is not there.
fn settings_of_row(row: &RunRow) -> Settings {
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let text = |value: &String| Some(value.clone()).filter(|value| !value.is_empty());
    let columns = [
        ("epochs", number(row.epochs)),
        ("batch_size", number(row.batch_size)),
        ("lr", row.lr.map(|lr| lr.to_string())),
        ("precision", text(&row.precision)),
        ("train_head", text(&row.train_head)),
        ("train_limit", number(row.train_limit)),
        ("tokenizer", text(&row.tokenizer)),
    ];
    let columns = columns.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    columns.chain(pairs(&row.options).map(|(name, value)| (name.into(), value.into()))).collect()
}

/// Whether both runs of a pair are stored runs, whose specifications are known in full.
fn is_whole(pair: &Pair) -> bool {
    pair.iter().all(|run| run.stored.is_some())
}

/// Settings and origins that differ in some pair, each with its values on both sides.
pub fn differing(pairs: &[Pair]) -> Vec<DifferingField> {
    let mut found: BTreeMap<(usize, String), Vec<[String; 2]>> = BTreeMap::new();
    for (field, values) in pairs.iter().flat_map(unlike) {
        found.entry(field).or_default().push(values);
    }
    let joined = |values: &[[String; 2]], side: usize| {
        let values: BTreeSet<&str> = values.iter().map(|pair| pair[side].as_str()).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    };
    let mut fields = Vec::new();
    for ((_, field), values) in found {
        let [before, after] = [0, 1].map(|side| joined(&values, side));
        fields.push(DifferingField { field, before, after, pairs: values.len() as u64 });
    }
    fields
}

/// Fields in which the runs of a pair differ, with both values.
fn unlike(pair: &Pair) -> Vec<((usize, String), [String; 2])> {
    let of_rows = pair.map(|run| settings_of_row(&run.row));
    let stored = pair.map(|run| run.stored.as_ref().filter(|_| is_whole(pair)));
    let fields: [BTreeMap<Field, String>; 2] = std::array::from_fn(|side| {
        let settings = stored[side].map_or(&of_rows[side], |stored| &stored.settings);
        let program = stored[side].map(|stored| &stored.program).into_iter().flatten();
        let origins = ORIGINS.iter().enumerate();
        let settings = settings.iter().map(|(name, value)| ((0, setting_name(name)), value.clone()));
        let program = program.map(|(name, value)| ((1, name.as_str()), value.clone()));
        let origins = origins.map(|(at, (name, of))| ((2 + at, *name), of(&pair[side].row)));
        settings.chain(program).chain(origins).collect()
    });
    let names: BTreeSet<&Field> = fields.iter().flat_map(BTreeMap::keys).collect();
    let values = |field: &Field| -> [String; 2] {
        std::array::from_fn(|side: usize| {
            let absent = if pair[side].is_external() { "not stated" } else { "not set" };
            fields[side].get(field).cloned().unwrap_or(absent.into())
        })
    };
    let compared = names.into_iter().map(|field| ((field.0, field.1.to_string()), values(field)));
    compared.filter(|(_, [before, after])| before != after).collect()
}

/// Name of a setting beside origins: results.csv calls the device in words `device`, run.toml its kind.
fn setting_name(name: &str) -> &str {
    if name == "device" { "train.device" } else { name }
}

/// Settings of the stored runs among these pairs that were not compared, since the partner is a line of a report.
pub fn not_compared(pairs: &[Pair]) -> Vec<String> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for pair in pairs.iter().filter(|pair| !is_whole(pair)) {
        for run in pair {
            let in_report = settings_of_row(&run.row);
            let names = run.stored.iter().flat_map(|stored| stored.settings.keys());
            found.extend(names.filter(|name| !in_report.contains_key(*name)).map(|name| setting_name(name)));
        }
    }
    found.into_iter().map(str::to_string).collect()
}

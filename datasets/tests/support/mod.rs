//! Golden cases, real data where it is, and writing rows in every layout GLUE comes in.
#![allow(dead_code)] // Every test binary uses its own part.

pub mod memory;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datasets::task::{Column, FileFormat, Source};
use datasets::{Error, Example, Labels, SetSpec, Task};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::Compression as ParquetCompression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub fn fixtures() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity");
    std::env::var_os("PARITY_FIXTURES").map_or_else(own, PathBuf::from)
}

/// Every case whose folder starts with `class` (a letter and a digit). The project's own fixtures must have one.
pub fn cases(class: &str) -> Vec<Case> {
    let root = fixtures();
    let mut dirs = folders(&root);
    dirs.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(class));
    if dirs.is_empty() {
        assert!(std::env::var_os("PARITY_FIXTURES").is_some(), "no case {class}* in {}", root.display());
        eprintln!("skipped: no case {class}* in {}", root.display());
    }
    dirs.into_iter().map(Case::read).collect()
}

pub fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap_or_else(|e| panic!("cannot read {}: {e}", root.display()));
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

pub struct Case {
    pub dir: PathBuf,
    pub json: Value,
}

impl Case {
    fn read(dir: PathBuf) -> Self {
        let text = fs::read_to_string(dir.join("case.json")).unwrap();
        Case { json: serde_json::from_str(&text).unwrap(), dir }
    }

    pub fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// A tensor's shape and values; `None` where the case does not have it.
    pub fn tensor(&self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        let bytes = fs::read(self.dir.join("tensors.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).ok()?;
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F64 => data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F32 => data.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            Dtype::I64 => data.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            Dtype::I32 => data.chunks(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
            other => panic!("{}: {name} is {other:?}", self.name()),
        };
        Some((view.shape().to_vec(), values))
    }
}

/// The directory a variable names. Without it the test is skipped, and says so.
pub fn directory(variable: &str, what: &str) -> Option<PathBuf> {
    let Some(dir) = std::env::var_os(variable) else {
        eprintln!("skipped: {variable} is not set ({what})");
        return None;
    };
    let dir = PathBuf::from(dir);
    assert!(dir.is_dir(), "{variable} is set, but {} is no directory", dir.display());
    Some(dir)
}

/// Columns of a JSONL file of pairs.
pub const JSONL: Source = Source {
    format: FileFormat::Jsonl,
    repository: None,
    files: &["train.jsonl"],
    text: &[Column::Named("question"), Column::Named("passage")],
    label: Column::Named("label"),
};
/// Labels of [`jsonl`]: as classes, and as scores.
pub const JSONL_LABELS: [Labels; 2] = [Labels::Classes(&["False", "True"]), Labels::Score(0.0, 5.0)];

/// Rows for [`JSONL`], their labels of every kind that a class may have.
pub fn jsonl(count: usize) -> String {
    let line = |row: usize| {
        let label = ["true", "false", "1", "0", "\"True\""][row % 5];
        format!(
            "{{\"question\": \"is {row} \\u00e9 \\\"a\\\" number\", \"passage\": \"text {row}\", \"idx\": [{row}, null], \
             \"label\": {label}}}\n"
        )
    };
    (0..count).map(line).collect()
}

/// The source that a form is written as: the official text, or the Hub's parquet.
pub fn source(task: &Task, form: Form) -> &'static Source {
    let fits = |source: &&Source| (source.format == FileFormat::Parquet) == (form == Form::Parquet);
    task.sources.iter().find(fits).unwrap()
}

fn key(column: &Column) -> &'static str {
    let Column::Named(name) = *column else { panic!("{column:?} has no name") };
    name
}

/// A task with as many columns as the official one, and texts nobody else has.
pub fn rows(task: &Task, count: usize) -> Vec<Example> {
    let row = |row| Example {
        first: format!("first {row}"),
        second: task.is_pair().then(|| format!("second {row}")),
        label: (row % task.labels.outputs()) as f64,
        row,
    };
    (0..count).map(row).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Plain,
    Gzip,
    Zstd,
    Parquet,
}

/// Writes a set below `dir` as the official download or the Hub has it; gives the file's path.
pub fn write(dir: &Path, task: &Task, set: &SetSpec, form: Form, rows: &[Example]) -> PathBuf {
    let source = source(task, form);
    let file = source.files[task.sets.iter().position(|known| known == set).unwrap()];
    let ending = match form {
        Form::Plain | Form::Parquet => "",
        Form::Gzip => ".gz",
        Form::Zstd => ".zst",
    };
    let path = dir.join(format!("{file}{ending}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match source.format {
        FileFormat::Parquet => write_parquet(&path, task, rows, |row| row as i32),
        FileFormat::Tsv { .. } => fs::write(&path, compress(form, official_tsv(task, set, rows).as_bytes())).unwrap(),
        FileFormat::Jsonl => fs::write(&path, compress(form, official_jsonl(task, source, rows).as_bytes())).unwrap(),
    }
    path
}

/// One object a row as the official files have them: the label is a truth value.
fn official_jsonl(task: &Task, source: &Source, rows: &[Example]) -> String {
    let line = |row: &Example| {
        let mut object = serde_json::Map::new();
        for (column, text) in source.text.iter().zip([Some(&row.first), row.second.as_ref()]) {
            object.insert(key(column).into(), text.unwrap().as_str().into());
        }
        object.insert("idx".into(), row.row.into());
        let Labels::Classes(names) = task.labels else { panic!("{} has scores", task.name) };
        object.insert(key(&source.label).into(), (names[row.label as usize] == "True").into());
        format!("{}\n", Value::Object(object))
    };
    rows.iter().map(line).collect()
}

pub fn compress(form: Form, content: &[u8]) -> Vec<u8> {
    match form {
        Form::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        Form::Zstd => zstd::encode_all(content, 0).unwrap(),
        Form::Plain | Form::Parquet => content.to_vec(),
    }
}

/// The columns of the official files, in their order; `*` is filled with anything.
fn official_tsv(task: &Task, set: &SetSpec, rows: &[Example]) -> String {
    let header = match task.name {
        "cola" => "",
        "sst2" => "sentence label",
        "mrpc" => "Quality #1_ID #2_ID #1_String #2_String",
        "qqp" => "id qid1 qid2 question1 question2 is_duplicate",
        "stsb" => "index genre filename year old_index source1 source2 sentence1 sentence2 score",
        "qnli" => "index question sentence label",
        "rte" => "index sentence1 sentence2 label",
        "mnli" if set.name == "train" => {
            "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse \
             sentence1 sentence2 label1 gold_label"
        }
        "mnli" => {
            "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse \
             sentence1 sentence2 label1 label2 label3 label4 label5 gold_label"
        }
        other => panic!("no columns are written down for {other}"),
    };
    let header: Vec<String> =
        header.split_whitespace().map(|name| name.replace('_', if task.name == "mrpc" { " " } else { "_" })).collect();
    let mut text = if header.is_empty() { String::new() } else { header.join("\t") + "\n" };
    if task.name == "mrpc" {
        text.insert(0, '\u{feff}');
    }
    for row in rows {
        let label = label_text(task, row.label);
        let second = row.second.as_deref().unwrap_or_default();
        let field = |name: &String| match name.as_str() {
            "sentence1" | "question1" | "question" | "#1 String" => row.first.clone(),
            "sentence" if task.name == "sst2" => row.first.clone(),
            "sentence" | "sentence2" | "question2" | "#2 String" => second.to_string(),
            "label" | "gold_label" | "score" | "Quality" | "is_duplicate" => label.clone(),
            other => format!("{other} of {}", row.row),
        };
        let fields: Vec<String> = match task.name {
            "cola" => vec!["gj04".into(), label.clone(), "*".into(), row.first.clone()],
            _ => header.iter().map(field).collect(),
        };
        text += &(fields.join("\t") + "\n");
    }
    text
}

/// As the official files have it: names for the inference tasks, numbers for the others.
fn label_text(task: &Task, label: f64) -> String {
    match (task.labels, task.name) {
        (Labels::Classes(names), "mnli" | "qnli" | "rte") => names[label as usize].to_string(),
        _ => label.to_string(),
    }
}

/// A file like the Hub's: optional columns, snappy, several row groups.
pub fn write_parquet(path: &Path, task: &Task, rows: &[Example], index: impl Fn(usize) -> i32) {
    let label = if task.is_regression() { "FLOAT" } else { "INT64" };
    let names = source(task, Form::Parquet).text.iter().map(key);
    let text: String = names.map(|name| format!("OPTIONAL BYTE_ARRAY {name} (UTF8); ")).collect();
    let schema = format!("message schema {{ {text} OPTIONAL {label} label; OPTIONAL INT32 idx; }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(ParquetCompression::SNAPPY).build();
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(1000) {
        let mut group = writer.next_row_group().unwrap();
        let levels = vec![1; rows.len()];
        let texts = |pick: fn(&Example) -> &str| rows.iter().map(|row| ByteArray::from(pick(row))).collect::<Vec<_>>();
        column::<ByteArrayType>(&mut group, &texts(|row| &row.first), &levels);
        if task.is_pair() {
            column::<ByteArrayType>(&mut group, &texts(|row| row.second.as_deref().unwrap()), &levels);
        }
        if task.is_regression() {
            column::<FloatType>(&mut group, &rows.iter().map(|row| row.label as f32).collect::<Vec<_>>(), &levels);
        } else {
            column::<Int64Type>(&mut group, &rows.iter().map(|row| row.label as i64).collect::<Vec<_>>(), &levels);
        }
        column::<Int32Type>(&mut group, &rows.iter().map(|row| index(row.row)).collect::<Vec<_>>(), &levels);
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// The codecs pandas writes.
#[derive(Debug, Clone, Copy)]
pub struct ParquetCodec(ParquetCompression);

impl ParquetCodec {
    pub fn none() -> Self {
        ParquetCodec(ParquetCompression::UNCOMPRESSED)
    }

    pub fn all() -> Vec<Self> {
        let levels = (Default::default(), Default::default(), Default::default());
        let codecs = [
            ParquetCompression::UNCOMPRESSED,
            ParquetCompression::SNAPPY,
            ParquetCompression::GZIP(levels.0),
            ParquetCompression::BROTLI(levels.1),
            ParquetCompression::ZSTD(levels.2),
            ParquetCompression::LZ4_RAW,
        ];
        codecs.into_iter().map(ParquetCodec).collect()
    }
}

/// Labels as a column may hold them.
#[derive(Debug, Clone, Copy)]
pub enum Written<'a> {
    Numbers(&'a [i64]),
    Truths(&'a [bool]),
    Texts(&'a [&'a str]),
}

/// A file of RTE's columns with labels of another type, and the metadata of the `datasets` library.
pub fn write_labels(path: &Path, column: &str, labels: Written, codec: ParquetCodec, metadata: Option<&str>) {
    let schema =
        "message schema { REQUIRED BYTE_ARRAY sentence1 (UTF8); REQUIRED BYTE_ARRAY sentence2 (UTF8); REQUIRED";
    let schema = Arc::new(parse_message_type(&format!("{schema} {column}; }}")).unwrap());
    let metadata = metadata.map(|text| vec![KeyValue::new("huggingface".to_string(), text.to_string())]);
    let properties = WriterProperties::builder().set_compression(codec.0).set_key_value_metadata(metadata).build();
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let count = match labels {
        Written::Numbers(labels) => labels.len(),
        Written::Truths(labels) => labels.len(),
        Written::Texts(labels) => labels.len(),
    };
    for _ in 0..2 {
        required::<ByteArrayType>(&mut group, &vec![ByteArray::from("text"); count]);
    }
    match labels {
        Written::Numbers(labels) if column.starts_with("INT32") => {
            required::<Int32Type>(&mut group, &labels.iter().map(|label| *label as i32).collect::<Vec<_>>());
        }
        Written::Numbers(labels) => required::<Int64Type>(&mut group, labels),
        Written::Truths(labels) => required::<BoolType>(&mut group, labels),
        Written::Texts(labels) => {
            required::<ByteArrayType>(
                &mut group,
                &labels.iter().map(|label| ByteArray::from(*label)).collect::<Vec<_>>(),
            );
        }
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn required<T: parquet::data_type::DataType>(group: &mut SerializedRowGroupWriter<'_, fs::File>, values: &[T::T]) {
    let mut writer = group.next_column().unwrap().unwrap();
    writer.typed::<T>().write_batch(values, None, None).unwrap();
    writer.close().unwrap();
}

fn column<T: parquet::data_type::DataType>(
    group: &mut SerializedRowGroupWriter<'_, fs::File>,
    values: &[T::T],
    levels: &[i16],
) {
    let mut writer = group.next_column().unwrap().unwrap();
    writer.typed::<T>().write_batch(values, Some(levels), None).unwrap();
    writer.close().unwrap();
}

/// A parquet file with one column of doubles, which no task has.
pub fn write_other_parquet(path: &Path) {
    let schema = Arc::new(parse_message_type("message schema { REQUIRED DOUBLE price; }").unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<DoubleType>().write_batch(&[1.5], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// Message as a user reads it, with the directory's name taken out.
pub fn message(error: &Error, dir: &Path) -> String {
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

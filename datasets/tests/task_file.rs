//! A user's own task from its TOML file: what is taken, what is refused, and by what it is known.

use std::fs;
use std::path::Path;

use datasets::metrics::Metric;
use datasets::sources::load::load;
use datasets::task::{Column, FileFormat, SizeClass};
use datasets::{Labels, Task, task_file, tasks};
use tempfile::{TempDir, tempdir};

/// A file of the given name with some lines replaced: `(start of the line, line)`. An empty line leaves it out.
fn toml(name: &str, changes: &[(&str, &str)]) -> String {
    let plain = format!(
        r#"name = "{name}"
title = "My task"
text = ["question", "passage"]
label = "label"
labels = ["no", "yes"]
metrics = ["accuracy", "f1"]
max_length = 64
split = "large"
format = "jsonl"
[files]
train = "train.jsonl"
dev = "below/dev.jsonl"
"#
    );
    let line = |line: &str| {
        let change = changes.iter().find(|(start, _)| line.split(' ').next() == Some(start));
        change.map_or(line.to_string(), |(_, with)| with.to_string())
    };
    plain.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn dir(text: &str) -> TempDir {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), text).unwrap();
    dir
}

fn refused(changes: &[(&str, &str)]) -> String {
    let dir = dir(&toml("refused", changes));
    let error = task_file::read(&dir.path().join("my.toml")).unwrap_err();
    error.to_string().replace(&dir.path().display().to_string(), "DIR")
}

fn write_rows(dir: &Path, last: &str) {
    let row = |question: &str, label: &str| {
        format!("{{\"question\": \"{question}\", \"passage\": \"p\", \"label\": \"{label}\"}}\n")
    };
    fs::create_dir_all(dir.join("below")).unwrap();
    fs::write(dir.join("train.jsonl"), row("a", "no") + &row("b", "yes")).unwrap();
    fs::write(dir.join("below/dev.jsonl"), row("c", "yes") + &row("d", last)).unwrap();
}

fn read(dir: &Path) -> &'static Task {
    task_file::read(&dir.join("my.toml")).unwrap()
}

#[test]
fn a_task_is_what_its_file_says() {
    let dir = dir(&toml("whole", &[]));
    write_rows(dir.path(), "no");
    let task = read(dir.path());
    assert_eq!((task.name, task.title, task.max_length), ("whole", "My task", 64));
    assert_eq!(task.labels, Labels::Classes(&["no", "yes"]));
    assert_eq!((task.metrics, task.selection), (&[Metric::Accuracy, Metric::F1][..], Metric::Accuracy));
    assert_eq!((task.reported, task.split_rule), (task.metrics, SizeClass::Large));
    assert!(std::ptr::eq(task, tasks::find("whole").unwrap()));
    assert!(std::ptr::eq(task, read(dir.path())), "one file is one task");
    let data = load(task, dir.path(), false).unwrap();
    let rows = |rows: &[datasets::Example]| rows.iter().map(|row| (row.first.clone(), row.label)).collect::<Vec<_>>();
    assert_eq!(rows(&data.train), [("a".into(), 0.0), ("b".into(), 1.0)]);
    assert_eq!((data.dev[0].0, rows(&data.dev[0].1)), ("dev", vec![("c".into(), 1.0), ("d".into(), 0.0)]));
    assert_eq!(data.source, "own");
    let files: Vec<&str> = data.files.iter().skip(1).map(|(name, _)| name.as_str()).collect();
    assert_eq!(files, ["train.jsonl", "below/dev.jsonl"]);
    assert!(data.files[0].0.ends_with("my.toml"));
}

#[test]
fn every_format_and_scores() {
    let tsv = [("format", "format = \"tsv\"\ncolumns = 3"), ("text", "text = 2"), ("label", "label = 0")];
    let by_place = dir(&toml("by_place", &tsv));
    let task = read(by_place.path());
    assert_eq!(task.sources[0].format, FileFormat::Tsv { columns: Some(3), skip_incomplete: false });
    assert_eq!((task.sources[0].text, task.sources[0].label), (&[Column::At(2)][..], Column::At(0)));
    fs::write(by_place.path().join("train.jsonl"), "yes\t-\tone\nno\t-\ttwo\n").unwrap();
    let train = datasets::sources::load::load_set(task, by_place.path(), task.train(), false).unwrap().rows;
    assert_eq!((train[0].first.as_str(), train[0].label, train[1].label), ("one", 1.0, 0.0));
    let parquet = dir(&toml("by_name", &[("format", "format = \"parquet\""), ("title", "")]));
    assert_eq!((read(parquet.path()).sources[0].format, read(parquet.path()).title), (FileFormat::Parquet, "by_name"));
    let score = [
        ("labels", "range = [-1, 2.5]"),
        ("metrics", "metrics = [\"pearson\", \"spearman\"]\nselection = \"spearman\""),
        ("split", "split = \"small\""),
    ];
    let task = read(dir(&toml("score", &score)).path());
    assert_eq!(
        (task.labels, task.selection, task.split_rule),
        (Labels::Score(-1.0, 2.5), Metric::Spearman, SizeClass::Small)
    );
}

#[test]
fn wrong_files_are_refused_by_name() {
    insta::assert_snapshot!(refused(&[("metrics", "metrcs = [\"accuracy\"]")]), @"task file DIR/my.toml: unknown key 'metrcs' (did you mean 'metrics'?); known: name, title, text, label, labels, range, metrics, selection, max_length, split, format, columns, files");
    insta::assert_snapshot!(refused(&[("dev", "test = \"dev.jsonl\"")]), @"task file DIR/my.toml: unknown key 'files.test'; known: train, dev");
    insta::assert_snapshot!(refused(&[("name", "name = \"rte\"")]), @"task file DIR/my.toml: the task 'rte' is built in (RTE). Choose another name");
    insta::assert_snapshot!(refused(&[("name", "name = \"My Task\"")]), @"task file DIR/my.toml: name is 'My Task', expected a lower-case letter, then letters, digits and _. It is part of every run's name: at most 32 characters, and not 'all'");
    insta::assert_snapshot!(refused(&[("name", "")]), @"task file DIR/my.toml: the key 'name' is missing");
    insta::assert_snapshot!(refused(&[("title", "title = 4")]), @"task file DIR/my.toml: title is 4, expected a text");
    insta::assert_snapshot!(refused(&[("labels", "")]), @r#"task file DIR/my.toml: it has neither labels nor range. labels = ["no", "yes"] names classes, range = [0, 5] bounds a score"#);
    insta::assert_snapshot!(refused(&[("labels", "labels = [\"a\", \"b\"]\nrange = [0, 1]")]), @"task file DIR/my.toml: it has both labels and range. A task has classes (labels) or a score (range)");
    insta::assert_snapshot!(refused(&[("labels", "labels = [\"a\", \"a\"]")]), @"task file DIR/my.toml: labels is [a, a], expected two or more different names");
    insta::assert_snapshot!(refused(&[("labels", "labels = [\"a\", 1]")]), @r#"task file DIR/my.toml: labels is ["a", 1], expected a list of texts"#);
    insta::assert_snapshot!(refused(&[("labels", "range = [1, 0]")]), @"task file DIR/my.toml: range is [1, 0], expected two numbers, the smaller one first");
    insta::assert_snapshot!(refused(&[("metrics", "metrics = [\"acuracy\"]")]), @"task file DIR/my.toml: metrics is 'acuracy' (did you mean 'accuracy'?), expected one of accuracy, f1, matthews");
    insta::assert_snapshot!(refused(&[("metrics", "metrics = [\"pearson\"]")]), @"task file DIR/my.toml: metrics is 'pearson', expected one of accuracy, f1, matthews");
    insta::assert_snapshot!(refused(&[("labels", "labels = [\"a\", \"b\", \"c\"]")]), @"task file DIR/my.toml: metrics is 'f1', expected one of accuracy, matthews");
    insta::assert_snapshot!(refused(&[("metrics", "metrics = []")]), @"task file DIR/my.toml: metrics is empty, expected one or more");
    insta::assert_snapshot!(refused(&[("max_length", "max_length = 3")]), @"task file DIR/my.toml: max_length is 3, expected 4 or more");
    insta::assert_snapshot!(refused(&[("split", "split = \"medium\"")]), @"task file DIR/my.toml: split is 'medium', expected one of small, large");
    insta::assert_snapshot!(refused(&[("format", "format = \"json\"")]), @"task file DIR/my.toml: format is 'json' (did you mean 'jsonl'?), expected one of tsv, jsonl, parquet");
    insta::assert_snapshot!(refused(&[("format", "format = \"jsonl\"\ncolumns = 3")]), @"task file DIR/my.toml: columns is of no use for JSONL. It is the width of a TSV file without a header");
    insta::assert_snapshot!(refused(&[("text", "text = [\"a\", \"b\", \"c\"]")]), @"task file DIR/my.toml: text names 3 columns, expected one or two");
    insta::assert_snapshot!(refused(&[("text", "text = [\"label\"]")]), @"task file DIR/my.toml: text and label name one column twice");
    insta::assert_snapshot!(refused(&[("text", "text = [0]")]), @"task file DIR/my.toml: text names the column 0, expected a name. A TSV file without a header line needs columns = N, and positions from 0");
    insta::assert_snapshot!(refused(&[("format", "format = \"tsv\"\ncolumns = 3"), ("text", "text = 3"), ("label", "label = 0")]), @"task file DIR/my.toml: text names the column 3, expected a position from 0 to 2. Without columns = N the first line names the columns");
    insta::assert_snapshot!(refused(&[("[files]", "")]), @"task file DIR/my.toml: unknown key 'dev'; known: name, title, text, label, labels, range, metrics, selection, max_length, split, format, columns, files");
    let syntax = refused(&[("split", "split = ")]);
    assert!(syntax.starts_with("task file DIR/my.toml: TOML parse error at line 8"), "{syntax}");
    let missing = task_file::read(Path::new("nowhere/my.toml")).unwrap_err().to_string();
    assert!(missing.starts_with("task file nowhere/my.toml: it cannot be read"), "{missing}");
}

#[test]
fn two_files_of_one_name_are_refused() {
    let (one, two) = (dir(&toml("twice", &[])), dir(&toml("twice", &[("max_length", "max_length = 32")])));
    read(one.path());
    let error = task_file::read(&two.path().join("my.toml")).unwrap_err().to_string();
    assert!(error.contains("the task 'twice' is that of") && error.contains("Choose another name"), "{error}");
}

/// A task is known by all that its files hold, not by its rows alone.
#[test]
fn the_sum_is_that_of_all_files() {
    let sum = |name: &str, changes: &[(&str, &str)], last: &str| {
        let dir = dir(&toml(name, changes));
        write_rows(dir.path(), last);
        let data = load(read(dir.path()), dir.path(), false).unwrap();
        (data.sha256, data.files[1].1.clone())
    };
    let plain = sum("sum_a", &[], "no");
    let other_rule = sum("sum_b", &[], "no");
    let other_rows = sum("sum_c", &[], "yes");
    assert!(plain.0 != other_rule.0 && plain.0 != other_rows.0 && other_rule.0 != other_rows.0);
    assert_eq!(plain.1, other_rows.1, "the training file is the same");
}

#[test]
fn a_missing_file_is_named_with_the_task_file() {
    let dir = dir(&toml("lacking", &[]));
    let task = read(dir.path());
    let error =
        load(task, dir.path(), false).unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(error, @"train set of My task not found: DIR/train.jsonl. DIR/my.toml names it");
}

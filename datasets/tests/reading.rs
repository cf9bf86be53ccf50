//! Every task in every layout, and what a user reads when a file is not as it should be.

mod support;

use std::fs;
use std::path::Path;

use datasets::dataset::ParsedFile;
use datasets::micro;
use datasets::sources::load::{load, load_set};
use datasets::sources::parquet;
use datasets::tasks;
use datasets::{Error, Example, Task};
use support::{
    Form, ParquetCodec as ParquetCompression, Written, compress, message, rows, source, write, write_labels,
    write_other_parquet, write_parquet,
};
use tempfile::tempdir;

const FORMS: [Form; 4] = [Form::Plain, Form::Gzip, Form::Zstd, Form::Parquet];

fn task(name: &str) -> &'static Task {
    tasks::find(name).unwrap()
}

/// Writes bytes as the training file of a task and reads it.
fn read_train(dir: &Path, task: &'static Task, content: impl AsRef<[u8]>) -> datasets::Result<Vec<Example>> {
    let path = dir.join(source(task, Form::Plain).files[0]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    load_set(task, dir, task.train(), true).map(|loaded| loaded.rows)
}

fn parquet_rows(task: &Task, path: &Path) -> datasets::Result<ParsedFile> {
    parquet::read(&task.labels, source(task, Form::Parquet), path)
}

#[test]
fn every_layout_gives_the_same_rows() {
    for task in micro::tasks().map(task) {
        let expected = micro::dataset(task).unwrap();
        for form in FORMS {
            let dir = tempdir().unwrap();
            let written = [&expected.train].into_iter().chain(expected.dev.iter().map(|(_, rows)| rows));
            for (set, rows) in task.sets.iter().zip(written) {
                write(dir.path(), task, set, form, rows);
            }
            let read = load(task, dir.path(), true).unwrap();
            assert_eq!(read.train, expected.train, "{} {form:?}", task.name);
            assert_eq!(read.dev, expected.dev, "{} {form:?}", task.name);
            assert_eq!(read.sha256, expected.sha256, "{} {form:?}", task.name);
            assert_eq!(read.files.len(), task.sets.len());
        }
    }
}

#[test]
fn compression_is_told_apart_by_content() {
    let dir = tempdir().unwrap();
    let plain = "sentence\tlabel\na fine film \t1\n";
    for form in [Form::Gzip, Form::Zstd] {
        let rows = read_train(dir.path(), task("sst2"), compress(form, plain.as_bytes())).unwrap();
        assert_eq!(rows[0].first, "a fine film ");
    }
    let two_members = [compress(Form::Gzip, b"sentence\tlabel\n"), compress(Form::Gzip, b"good\t1\n")].concat();
    assert_eq!(read_train(dir.path(), task("sst2"), two_members).unwrap().len(), 1);
}

#[test]
fn text_is_taken_as_it_stands() {
    let dir = tempdir().unwrap();
    let text = |content: &str| read_train(dir.path(), task("sst2"), content).unwrap();
    let first = |content: &str| text(content)[0].first.clone();
    assert_eq!(first("sentence\tlabel\n\"lone quote\t1\n"), "\"lone quote");
    assert_eq!(first("sentence\tlabel\n  spaces kept  \t1"), "  spaces kept  ");
    assert_eq!(first("\u{feff}sentence\tlabel\nmark dropped\t1\n"), "mark dropped");
    assert_eq!(first("sentence\tlabel\r\nreturn dropped\t1\r\n"), "return dropped");
    assert_eq!(first("sentence\tlabel\nreturn\rkept\t1\n\n"), "return\rkept");
    assert_eq!(first("sentence\tlabel\r\nno last end\t1"), "no last end");
    let cola = |content: &str| {
        let dir = tempdir().unwrap();
        read_train(dir.path(), task("cola"), content).unwrap().into_iter().map(|row| row.first).collect::<Vec<_>>()
    };
    for content in [
        "a\t1\t\tone\na\t0\t\ttwo\n",
        "a\t1\t\tone\r\na\t0\t\ttwo\r\n",
        "a\t1\t\tone\r\na\t0\t\ttwo",
        "a\t1\t\tone\na\t0\t\ttwo",
    ] {
        assert_eq!(cola(content), ["one", "two"], "{content:?}");
    }
    let score = "sentence1\tsentence2\tscore\na\tb\t4.57142857142857\nc\td\t3.200000\n";
    let scores = read_train(dir.path(), task("stsb"), score).unwrap();
    assert_eq!([scores[0].label, scores[1].label], [4.571_429, 3.2], "as the Hub has it");
    assert_eq!(first("label\tother\tsentence\n1\t-\tcolumns by name\n"), "columns by name");
    assert_eq!(text("sentence\tlabel\n").len(), 0);
}

/// The Hub's reader leaves out the lines of QQP that a line break cut short.
#[test]
fn only_qqp_may_have_short_lines() {
    let dir = tempdir().unwrap();
    let qqp = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t1\t2\tcut\nshort\t0\n1\t1\t2\tC?\tD?\t\n2\t3\t4\tA?\tB?\t1\n";
    let rows = read_train(dir.path(), task("qqp"), qqp).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].second.as_deref(), rows[0].label, rows[0].row), (Some("B?"), 1.0, 0));
}

#[test]
fn bad_lines_are_named() {
    let bad = |name: &str, content: &[u8]| {
        let dir = tempdir().unwrap();
        message(&read_train(dir.path(), task(name), content).unwrap_err(), dir.path())
    };
    insta::assert_snapshot!(bad("sst2", b"sentence\tlabel\ngood\t1\nno label\n"), @"DIR/SST-2/train.tsv, line 3: expected 2 columns, got 1 columns. The file was cut or changed. Download it again");
    insta::assert_snapshot!(bad("cola", b"gj04\t1\t\tone\ttoo many\n"), @"DIR/CoLA/train.tsv, line 1: expected 4 columns, got 5 columns. The file was cut or changed. Download it again");
    insta::assert_snapshot!(bad("rte", b"index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailmnet\n"), @"DIR/RTE/train.tsv, line 2: expected a label (entailment, not_entailment, or 0 to 1), got 'entailmnet'. Did you mean 'entailment'?");
    insta::assert_snapshot!(bad("sst2", b"sentence\tlabel\ngood\t2\n"), @"DIR/SST-2/train.tsv, line 2: expected a label (negative, positive, or 0 to 1), got '2'. Download the file again");
    insta::assert_snapshot!(bad("sst2", b"sentence\tlabel\ngood\t-1\n"), @"DIR/SST-2/train.tsv, line 2: expected a label (negative, positive, or 0 to 1), got '-1'. -1 hides the label: this is a test set, which cannot be scored");
    insta::assert_snapshot!(bad("stsb", b"sentence1\tsentence2\tscore\na\tb\t5.001\n"), @"DIR/STS-B/train.tsv, line 2: expected a score from 0 to 5, got '5.001'. Download the file again");
    insta::assert_snapshot!(bad("stsb", b"sentence1\tsentence2\tscore\na\tb\tNaN\n"), @"DIR/STS-B/train.tsv, line 2: expected a score from 0 to 5, got 'NaN'. Download the file again");
    insta::assert_snapshot!(bad("sst2", b"sentence\tlabel\nbad \xff byte\t1\n"), @"DIR/SST-2/train.tsv, line 2: expected UTF-8 text, got byte 0xff at 4. Download the file again");
    insta::assert_snapshot!(bad("sst2", b"sentence\tscore\nfine\t1\n"), @"DIR/SST-2/train.tsv is not readable as TSV: it has no column 'label', only sentence, score. Check that it is this task's file");
    insta::assert_snapshot!(bad("cola", b"a\t1\t\tone\na\t0\t\ttwo\r\n"), @"DIR/CoLA/train.tsv, line 2: expected a line that ends in LF as the lines before it, got CR LF. Write all line ends in one way");
    insta::assert_snapshot!(bad("mnli", b"sentence1\tsentence2\tgold_label\na\tb\t-\n"), @"DIR/MNLI/train.tsv, line 2: expected a label (entailment, neutral, contradiction, or 0 to 2), got '-'. - says that the annotators did not agree: GLUE leaves such rows out. Take GLUE's own file, or remove them");
    insta::assert_snapshot!(bad("sst2", b""), @"DIR/SST-2/train.tsv is not readable as TSV: it is empty. Download the file again");
}

#[test]
fn cut_files_are_damaged() {
    for (form, format) in [(Form::Gzip, "gzip"), (Form::Zstd, "zstd"), (Form::Parquet, "parquet")] {
        let dir = tempdir().unwrap();
        let path = write(dir.path(), task("rte"), task("rte").train(), form, &rows(task("rte"), 300));
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, 4, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let error = load_set(task("rte"), dir.path(), task("rte").train(), true).unwrap_err();
            let Error::Corrupt { format: got, help, .. } = &error else { panic!("{form:?} {length}: {error}") };
            assert_eq!((*got, help.as_str()), (format, "Download the file again"), "{length}");
        }
    }
}

#[test]
fn parquet_must_be_the_tasks_and_in_order() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file.parquet");
    let read = || message(&parquet_rows(task("cola"), &path).unwrap_err(), dir.path());
    write_other_parquet(&path);
    insta::assert_snapshot!(read(), @"DIR/file.parquet is not readable as parquet: it has no column 'sentence', only price. Check that it is this task's file");
    write_parquet(&path, task("cola"), &rows(task("cola"), 5), |row| if row == 3 { 1 } else { row as i32 });
    insta::assert_snapshot!(read(), @"DIR/file.parquet, line 4: expected an idx above 2, got 1. The rows are not in the Hub's order, on which splits depend");
    let mut hidden = rows(task("cola"), 2);
    hidden[1].label = -1.0;
    write_parquet(&path, task("cola"), &hidden, |row| row as i32);
    insta::assert_snapshot!(read(), @"DIR/file.parquet, line 2: expected a label (unacceptable, acceptable, or 0 to 1), got '-1'. -1 hides the label: this is a test set, which cannot be scored");
    write_parquet(&path, task("cola"), &rows(task("cola"), 5), |row| row as i32 * 10);
    assert_eq!(parquet_rows(task("cola"), &path).unwrap().examples.len(), 5, "gaps are as on the Hub");
    let mut scores = rows(task("stsb"), 3);
    for (row, score) in scores.iter_mut().zip([3.2, 0.333, f64::NAN]) {
        row.label = score;
    }
    write_parquet(&path, task("stsb"), &scores[..2], |row| row as i32);
    let labels: Vec<f64> = parquet_rows(task("stsb"), &path).unwrap().examples.iter().map(|row| row.label).collect();
    assert_eq!(labels, [3.2, 0.333], "the decimals of the TSV file");
    write_parquet(&path, task("stsb"), &scores, |row| row as i32);
    assert!(matches!(parquet_rows(task("stsb"), &path), Err(Error::Row { line: 3, .. })));
}

/// As pandas and the `datasets` library write it.
#[test]
fn parquet_is_read_as_others_write_it() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("file.parquet");
    let read = || parquet_rows(task("rte"), &path);
    let labels = || read().unwrap().examples.iter().map(|row| row.label).collect::<Vec<_>>();
    for compression in ParquetCompression::all() {
        write_labels(&path, "INT32 label (INTEGER(16,true))", Written::Numbers(&[0, 1, 1]), compression, None);
        assert_eq!(labels(), [0.0, 1.0, 1.0], "{compression:?}");
    }
    let plain = ParquetCompression::none();
    write_labels(&path, "BOOLEAN label", Written::Truths(&[false, true]), plain, None);
    assert_eq!(labels(), [0.0, 1.0]);
    write_labels(&path, "BYTE_ARRAY label (UTF8)", Written::Texts(&["not_entailment", "entailment"]), plain, None);
    assert_eq!(labels(), [1.0, 0.0]);
    write_labels(&path, "BYTE_ARRAY label (UTF8)", Written::Texts(&["entailmnet"]), plain, None);
    insta::assert_snapshot!(message(&read().unwrap_err(), dir.path()), @"DIR/file.parquet, line 1: expected a label (entailment, not_entailment, or 0 to 1), got 'entailmnet'. Did you mean 'entailment'?");
    let names = |names: &str| {
        format!(r#"{{"info": {{"features": {{"label": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}"#)
    };
    let numbers = Written::Numbers(&[0, 1]);
    write_labels(&path, "INT64 label", numbers, plain, Some(&names(r#"["entailment", "not_entailment"]"#)));
    assert_eq!(labels(), [0.0, 1.0]);
    write_labels(&path, "INT64 label", numbers, plain, Some(&names(r#"["not_entailment", "entailment"]"#)));
    assert_eq!(labels(), [1.0, 0.0], "the names decide");
    write_labels(&path, "INT64 label", numbers, plain, Some(&names(r#"["yes", "no"]"#)));
    insta::assert_snapshot!(message(&read().unwrap_err(), dir.path()), @"DIR/file.parquet is not readable as parquet: its metadata names the label 'yes', expected entailment, not_entailment. Check that it is this task's file");
}

#[test]
fn a_set_may_lie_in_several_pieces() {
    let dir = tempdir().unwrap();
    let whole = write(dir.path(), task("rte"), task("rte").train(), Form::Parquet, &rows(task("rte"), 3));
    let piece = |at: usize| dir.path().join(format!("rte/train-0000{at}-of-00002.parquet"));
    fs::rename(&whole, piece(0)).unwrap();
    let lacking = load_set(task("rte"), dir.path(), task("rte").train(), true).unwrap_err();
    insta::assert_snapshot!(message(&lacking, dir.path()), @"a piece of a set of RTE not found: DIR/rte/train-00001-of-00002.parquet. Every piece of the set must be there");
    write_parquet(&piece(1), task("rte"), &rows(task("rte"), 2), |row| row as i32);
    let loaded = load_set(task("rte"), dir.path(), task("rte").train(), true).unwrap();
    let read = loaded.rows;
    assert_eq!(loaded.file.0, "rte/train-00000-of-00002.parquet");
    assert_eq!(read.iter().map(|row| row.row).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!([&read[3].first, &read[4].first], ["first 0", "first 1"]);
}

#[test]
fn missing_files_are_named_with_all_names_tried() {
    let dir = tempdir().unwrap();
    let none = load(task("cola"), &dir.path().join("nowhere"), false).unwrap_err();
    insta::assert_snapshot!(message(&none, dir.path()), @"data directory not found: DIR/nowhere. Point to a directory that holds GLUE's folders");
    let no_folder = load(task("cola"), dir.path(), false).unwrap_err();
    insta::assert_snapshot!(message(&no_folder, dir.path()), @"folder of CoLA not found: DIR/CoLA. Nor is there DIR/cola with the Hub's parquet files. Point to the directory above");
    write(dir.path(), task("mnli"), task("mnli").train(), Form::Zstd, &rows(task("mnli"), 3));
    let no_dev = load(task("mnli"), dir.path(), true).unwrap_err();
    insta::assert_snapshot!(message(&no_dev, dir.path()), @"matched set of MNLI not found: DIR. Tried MNLI/dev_matched.tsv, MNLI/dev_matched.tsv.zst, MNLI/dev_matched.tsv.gz, mnli/validation_matched-00000-of-00001.parquet");
}

#[test]
fn what_is_not_everyones_file_needs_consent() {
    let dir = tempdir().unwrap();
    let load = |allow| load_set(task("rte"), dir.path(), task("rte").train(), allow);
    write(dir.path(), task("rte"), task("rte").train(), Form::Plain, &rows(task("rte"), 2489));
    insta::assert_snapshot!(message(&load(false).unwrap_err(), dir.path()), @"DIR/RTE/train.tsv: number of rows expected 2490, got 2489. Download it again, or pass --allow-unlocked to use it as it is");
    assert_eq!(load(true).unwrap().rows.len(), 2489);
    write(dir.path(), task("rte"), task("rte").train(), Form::Plain, &rows(task("rte"), 2490));
    insta::assert_snapshot!(message(&load(false).unwrap_err(), dir.path()), @"DIR/RTE/train.tsv: sha256 expected 41e3a9b063433392343fad9e962cf2f58b681c78d8f71592f4186f0837246c5c, got d5d285ad5baf9b7411866d29c47c35c0abdc69620cc15777451a1da8e0e13e04. Download it again, or pass --allow-unlocked to use it as it is");
    assert_eq!(load(true).unwrap().rows.len(), 2490);
    fs::remove_dir_all(dir.path().join("RTE")).unwrap();
    write(dir.path(), task("rte"), task("rte").train(), Form::Parquet, &rows(task("rte"), 2490));
    assert!(matches!(load(false), Err(Error::Lock { field: "sha256", .. })));
    assert!(!load(true).unwrap().is_locked, "what was let in is known not to be the locked file");
    // The official file's own sum is not known, the rows' is.
    let matched = &task("mnli").dev_sets()[0];
    write(dir.path(), task("mnli"), matched, Form::Plain, &rows(task("mnli"), matched.rows.unwrap()));
    let error = load_set(task("mnli"), dir.path(), matched, false).unwrap_err();
    assert!(matches!(error, Error::Lock { field: "sha256 of the rows", .. }), "{error}");
}

/// BoolQ's files as SuperGLUE and the Hub have them. No sum of them is known, which is never silent.
#[test]
fn boolq_is_read_in_both_layouts_and_never_counts_as_locked() {
    for form in FORMS {
        let dir = tempdir().unwrap();
        let expected = [rows(task("boolq"), 9427), rows(task("boolq"), 3270)];
        for (set, rows) in task("boolq").sets.iter().zip(&expected) {
            write(dir.path(), task("boolq"), set, form, rows);
        }
        let error = message(&load(task("boolq"), dir.path(), false).unwrap_err(), dir.path());
        assert!(error.contains("sha256 expected a known checksum, and none is known"), "{error}");
        assert!(error.contains("not checked") && error.contains("--allow-unlocked"), "{error}");
        let read = load(task("boolq"), dir.path(), true).unwrap();
        assert_eq!(
            (&read.train, &read.dev[0].1, read.source),
            (&expected[0], &expected[1], "glue-unlocked"),
            "{form:?}"
        );
        write(dir.path(), task("boolq"), task("boolq").train(), form, &expected[0][1..]);
        let error = message(&load(task("boolq"), dir.path(), false).unwrap_err(), dir.path());
        assert!(error.contains("number of rows expected 9427, got 9426"), "{error}");
    }
}

#[test]
fn tasks_are_found_by_name() {
    assert_eq!(task("mrpc").title, "MRPC");
    insta::assert_snapshot!(tasks::find("rtee").unwrap_err(), @"unknown task 'rtee' (did you mean 'rte'?); known: cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, boolq");
}

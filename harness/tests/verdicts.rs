//! Conclusions of a report: verdicts with their reasons, rows that stay, runs that are left out.

mod support;

use harness::analysis::results::ResultsFrame;
use harness::plan::spec::NUMERICS;
use harness::report::write;
use harness::store::record::{RunRecord, Status};
use support::runs::{Setting, made_up, scored};

/// A column of a table's CSV by (method, variant, task).
fn table(runs: &[RunRecord], name: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let dir = tempfile::tempdir().unwrap();
    write::write(&ResultsFrame::of_records(runs), dir.path()).unwrap();
    let mut reader = csv::Reader::from_path(dir.path().join(format!("{name}.csv"))).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

/// Five seeds of CoLA with these Matthews correlations in points.
fn cola(setting: &Setting, method: &str, points: [f64; 5]) -> Vec<RunRecord> {
    let run = |(seed, points): (usize, f64)| {
        made_up(setting, "cola", method, seed as u64, scored(&[("dev", "matthews", points / 100.0)], 250_000, &[]))
    };
    points.into_iter().enumerate().map(run).collect()
}

/// AdaLoRA's published CoLA is 71.45, with lr 5e-4, 25 epochs, γ 0.5.
const ADALORA: Setting = Setting {
    source: "glue",
    split: "official",
    backbone: "deberta",
    weights: support::runs::DEBERTA,
    tokenizer: "sentencepiece",
    epochs: 25,
    lr: 5e-4,
    precision: "fp32",
    options: "init_r = 12\ntarget_r = 8\ngamma = 0.5\ntinit = 800\ntfinal = 3500\ndelta_t = 10",
    started: 1,
    rule: "0000",
    recipe: "made-up",
    device: "some processor",
};

/// Verdict and reasons of CoLA in the first row.
fn verdict(runs: &[RunRecord]) -> (String, String) {
    let rows = table(runs, "table1");
    let row = rows.iter().find(|row| row["task"] == "cola").unwrap();
    (row["verdict"].clone(), row["reasons"].clone())
}

fn options_on_one_line(setting: Setting) -> Setting {
    Setting { options: Box::leak(setting.options.replace('\n', ", ").into_boxed_str()), ..setting }
}

#[test]
fn every_word_is_reached() {
    let setting = options_on_one_line(ADALORA);
    let word = |points: [f64; 5]| verdict(&cola(&setting, "adalora", points)).0;
    assert_eq!(word([71.4, 71.5, 71.45, 71.42, 71.48]), "reproduced");
    assert_eq!(word([61.4, 61.5, 61.45, 61.42, 61.48]), "differs");
    assert_eq!(word([71.4, 75.5, 67.45, 78.42, 64.48]), "undecided");
    let one_seed = &cola(&setting, "adalora", [71.45; 5])[..1];
    let (word, reasons) = verdict(one_seed);
    assert!(word == "not comparable" && reasons == "fewer than two seeds", "{word}: {reasons}");
}

#[test]
fn a_changed_setting_blocks_the_comparison_and_is_named() {
    let points = [71.4, 71.5, 71.45, 71.42, 71.48];
    let gamma = "init_r = 12, target_r = 8, gamma = 0.1, tinit = 800, tfinal = 3500, delta_t = 10";
    let base = || options_on_one_line(ADALORA);
    let cases = [
        (Setting { epochs: 24, ..base() }, "epochs 24 instead of 25"),
        (Setting { lr: 4e-4, ..base() }, "lr 0.0004 instead of 0.0005"),
        (Setting { precision: "bf16", ..base() }, "precision bf16 instead of fp32"),
        (Setting { options: gamma, ..base() }, "gamma 0.1 instead of 0.5"),
        (Setting { tokenizer: "fast", ..base() }, "tokenizer fast instead of sentencepiece"),
        (Setting { weights: "ab", ..base() }, "backbone deberta instead of DeBERTaV3-base"),
        (Setting { source: "glue-unlocked", ..base() }, "data files that are not the locked ones instead of GLUE"),
        (Setting { source: "micro", ..base() }, "synthetic data instead of GLUE"),
    ];
    for (setting, reason) in cases {
        let (word, reasons) = verdict(&cola(&setting, "adalora", points));
        assert!(word == "not comparable" && reasons == reason, "expected {reason}, got {word}: {reasons}");
    }
}

#[test]
fn a_name_is_not_compared() {
    let renamed = Setting { backbone: "my-copy", ..options_on_one_line(ADALORA) };
    assert_eq!(verdict(&cola(&renamed, "adalora", [71.4, 71.5, 71.45, 71.42, 71.48])).0, "reproduced");
}

#[test]
fn the_published_metric_is_the_one_compared() {
    // AdaLoRA's STS-B, 91.84, is the mean of two correlations.
    let setting = Setting {
        lr: 2.2e-3,
        options: "init_r = 12, target_r = 8, gamma = 0.1, tinit = 800, tfinal = 2000, delta_t = 10",
        ..ADALORA
    };
    let run = |seed: u64| {
        let values = [("dev", "pearson", 0.9284 + seed as f64 * 1e-4), ("dev", "spearman", 0.9084)];
        made_up(&setting, "stsb", "adalora", seed, scored(&values, 1, &[]))
    };
    let rows = table(&(0..5).map(run).collect::<Vec<_>>(), "table1");
    let row = rows.iter().find(|row| row["task"] == "stsb").unwrap();
    assert_eq!((row["metric"].as_str(), row["compared_metric"].as_str()), ("pearson", "pearson_spearman_mean"));
    assert!(row["verdict"] == "reproduced" && row["difference"].parse::<f64>().unwrap().abs() < 0.05, "{row:?}");
    let pearson_alone =
        |seed: u64| made_up(&setting, "stsb", "adalora", seed, scored(&[("dev", "pearson", 0.9184)], 1, &[]));
    let rows = table(&(0..5).map(pearson_alone).collect::<Vec<_>>(), "table1");
    let row = rows.iter().find(|row| row["task"] == "stsb").unwrap();
    assert!(row["reasons"].contains("pearson_spearman_mean was not computed"), "{row:?}");
}

#[test]
fn a_task_the_backbone_was_trained_on_is_marked_and_not_comparable() {
    let minilm = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";
    let setting = Setting { weights: minilm, backbone: "whatever", ..Setting::default() };
    let run =
        |task: &str, seed: u64| made_up(&setting, task, "lora", seed, scored(&[("dev", "accuracy", 0.9)], 1, &[]));
    let runs: Vec<RunRecord> = (0..3).flat_map(|seed| [run("qnli", seed), run("rte", seed)]).collect();
    let rows = table(&runs, "table1");
    let reasons = |task: &str| rows.iter().find(|row| row["task"] == task).unwrap()["reasons"].clone();
    assert!(reasons("qnli").contains("the backbone was trained on this task"), "{}", reasons("qnli"));
    assert!(!reasons("rte").contains("trained on this task"), "{}", reasons("rte"));
    let dir = tempfile::tempdir().unwrap();
    write::write(&ResultsFrame::of_records(&runs), dir.path()).unwrap();
    let table = std::fs::read_to_string(dir.path().join("table1.md")).unwrap();
    assert!(table.contains("90.00 ± 0.00 §[1]") && table.contains("[1] § all-MiniLM-L6-v2 was trained on"), "{table}");
    assert!(!table.contains("whatever"), "weights that are known have their own name: {table}");
}

/// Three tasks of one rule whose options differ from task to task, as a recipe's do.
fn recipe_rows() -> Vec<RunRecord> {
    let options = [("rte", "r = 8, xi = 2.5e-3"), ("cola", "r = 8, xi = 7.5e-4"), ("sst2", "r = 8, xi = 5e-5")];
    let metric = |task: &str| if task == "cola" { "matthews" } else { "accuracy" };
    let run = |(task, options): (&'static str, &'static str)| {
        made_up(
            &Setting { options, ..Setting::default() },
            task,
            "sora",
            0,
            scored(&[("dev", metric(task), 0.5)], 1, &[]),
        )
    };
    options.into_iter().map(run).collect()
}

#[test]
fn an_unrelated_run_changes_no_row_that_was_there() {
    let before = recipe_rows();
    let with = |options: &'static str, epochs: usize, lr: f64, rule: &'static str| {
        let setting = Setting { options, epochs, lr, rule, started: 2, ..Setting::default() };
        made_up(&setting, "rte", "sora", 0, scored(&[("dev", "accuracy", 0.7)], 1, &[]))
    };
    let others = [
        (with("r = 8, xi = 1e-2", 3, 1e-3, "1111"), "xi=0.01"),
        (with("r = 8, xi = 2.5e-3", 3, 5e-4, "2222"), "lr=0.0005"),
        (with("r = 8, xi = 2.5e-3", 9, 1e-3, "0000"), "epochs=9"),
    ];
    let rows = table(&before, "table1");
    for (other, label) in others {
        let all = [before.clone(), vec![other]].concat();
        let now = table(&all, "table1");
        for row in &rows {
            assert!(now.contains(row), "{label}: this row is not there any more: {row:?}");
        }
        let added: Vec<_> = now.iter().filter(|row| !rows.contains(row)).map(|row| row["variant"].as_str()).collect();
        assert!(!added.is_empty() && added.iter().all(|variant| *variant == label), "{label}: {added:?}");
    }
}

#[test]
fn another_recipe_is_one_row_however_its_options_differ() {
    let mut runs = recipe_rows();
    let tuned = [("rte", "r = 8, xi = 1e-3"), ("cola", "r = 8, xi = 2e-3")];
    for (task, options) in tuned {
        let setting = Setting { options, rule: "1111", recipe: "tuned", started: 2, ..Setting::default() };
        let metric = if task == "cola" { "matthews" } else { "accuracy" };
        runs.push(made_up(&setting, task, "sora", 0, scored(&[("dev", metric, 0.6)], 1, &[])));
    }
    let variants: std::collections::BTreeSet<String> =
        table(&runs, "table1").iter().map(|row| row["variant"].clone()).collect();
    assert_eq!(variants.into_iter().collect::<Vec<_>>(), ["base", "tuned"]);
}

#[test]
fn the_paired_table_compares_with_the_lora_of_the_same_budget_and_drops_nobody() {
    let lora = |options: &'static str, rule: &'static str, started: u64, points| {
        cola(&Setting { options, rule, started, ..Setting::default() }, "lora", points)
    };
    let mut runs = lora("r = 8", "0000", 1, [60.0, 61.0, 62.0, 63.0, 64.0]);
    runs.extend(lora("r = 4", "1111", 2, [59.0, 60.0, 61.0, 62.0, 63.0]));
    let small = Setting { options: "r = 8", rule: "2222", started: 3, ..Setting::default() };
    runs.extend(cola(&small, "sora", [60.5, 61.4, 62.6, 63.5, 64.4]));
    let small = Setting { options: "r = 4", rule: "3333", started: 4, ..Setting::default() };
    runs.extend(cola(&small, "sora", [59.5, 60.4, 61.6, 62.5, 63.4]));
    runs.extend(cola(&Setting { started: 5, ..Setting::default() }, "bitfit", [1.0; 5]).into_iter().map(|mut run| {
        run.spec.made_mut().unwrap().seed += 100;
        run.id = format!("cola-bitfit-s{}", run.spec.seed());
        run
    }));
    let rows = table(&runs, "paired");
    let of =
        |method: &str| rows.iter().find(|row| row["title"] == method).unwrap_or_else(|| panic!("{method}: {rows:?}"));
    assert_eq!(of("LoRA (r=4)")["reference"], "LoRA");
    assert_eq!(of("SoRA")["reference"], "LoRA");
    assert_eq!(of("SoRA (r=4)")["reference"], "LoRA (r=4)");
    assert!((of("SoRA (r=4)")["paired_difference"].parse::<f64>().unwrap() - 0.48).abs() < 1e-9);
    assert_eq!(of("BitFit")["pairs"], "0");
}

#[test]
fn of_two_numeric_versions_the_later_counts_and_the_other_is_named() {
    let mut runs = cola(&Setting::default(), "lora", [60.0, 61.0, 62.0, 63.0, 64.0]);
    let older: Vec<RunRecord> = runs
        .iter()
        .map(|run| {
            let mut older = run.clone();
            older.spec.made_mut().unwrap().numerics = NUMERICS + 7;
            older.id = older.spec.id();
            older
        })
        .take(2)
        .collect();
    runs.extend(older);
    let rows = table(&runs, "table1");
    let row = rows.iter().find(|row| row["task"] == "cola").unwrap();
    assert_eq!((row["seeds"].as_str(), row["numerics"].as_str()), ("5", &*format!("{NUMERICS}; {}", NUMERICS + 7)));
    let dir = tempfile::tempdir().unwrap();
    write::write(&ResultsFrame::of_records(&runs), dir.path()).unwrap();
    let table = std::fs::read_to_string(dir.path().join("table1.md")).unwrap();
    assert!(
        table.contains("⚠ mixes numeric versions")
            && table.contains("Left out, since a run of a later numeric version"),
        "{table}"
    );
}

#[test]
fn times_of_two_devices_are_two_rows() {
    let on = |device: &'static str, seed: u64| {
        let mut run = made_up(
            &Setting { device, ..Setting::default() },
            "rte",
            "lora",
            seed,
            scored(&[("dev", "accuracy", 0.7)], 1, &[]),
        );
        run.epochs.push(epoch(if device == "fast" { 1.0 } else { 9.0 }));
        run
    };
    let rows = table(&[on("fast", 0), on("slow", 1)], "run_times");
    let seconds: Vec<(&str, &str)> = rows.iter().map(|row| (row["device"].as_str(), row["seconds"].as_str())).collect();
    assert_eq!(seconds, [("fast", "1"), ("slow", "9")]);
}

fn epoch(seconds: f64) -> harness::store::rows::EpochRow {
    harness::store::rows::EpochRow {
        epoch: 1,
        steps: 4,
        seconds,
        task_loss: 0.5,
        penalty: 0.0,
        tokens: 100,
        padded_tokens: 120,
        recordings: 0,
        recording_seconds: 0.0,
        peak_allocated_mib: None,
        peak_reserved_mib: None,
        peak_resident_mib: Some(100.0),
    }
}

#[test]
fn a_failure_reason_cannot_break_a_page() {
    let reason = "a | b <script>alert(1)</script> & `c` \\ $x_1$ {y} [z](w)\nnext line";
    let runs = vec![made_up(&Setting::default(), "rte", "lora", 0, Status::Failed(reason.into()))];
    let dir = tempfile::tempdir().unwrap();
    write::write(&ResultsFrame::of_records(&runs), dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert!(!read("report.html").contains("<script>alert"));
    let markdown = read("table1.md");
    assert!(!markdown.contains("<script>") && !markdown.contains("`c`"), "{markdown}");
    assert!(!markdown.contains("[z](w)") && markdown.contains("next line"), "{markdown}");
    assert!(
        markdown.lines().all(|line| line.is_empty() || line.starts_with(['|', '-', '#'])),
        "a line that breaks out: {markdown}"
    );
    let latex = read("table1.tex");
    assert!(latex.contains("\\$x\\_1\\$") && latex.contains("\\{y\\}") && !latex.contains(" & `"), "{latex}");
}

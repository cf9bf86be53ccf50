//! Commands about evidence: an audit of published tables, what seeds can show, two stores side by side, one run in full.

mod support;

use datasets::split::Policy;
use harness::analysis::audit::Audit;
use harness::analysis::audit::assumed::Given;
use harness::analysis::audit::averages::{DOES_NOT_FOLLOW, FOLLOWS};
use harness::analysis::audit::repeats::{OTHER_SETTING, SAME_SETTING};
use harness::analysis::audit::values::{IMPOSSIBLE, NOT_TESTABLE, SingleRuns};
use harness::analysis::frame::read::read_results;
use harness::analysis::literature::LITERATURE;
use harness::analysis::power::power;
use harness::analysis::published::TABLES;
use harness::analysis::results::ResultsFrame;
use harness::analysis::store_comparison::StoreComparison;
use harness::store::record::{RunRecord, Status};
use support::runs::{Setting, close, group, made_up, scored};
use support::stored::{SMALL, write_runs};
use support::{World, failure, one_line};

const FIVE_ON_HALF: Given = Given { runs: Some(5), split: Some(Policy::Sora) };

/// A published table of the project by its file's name.
fn published(file: &str, given: Given) -> Audit {
    let texts = TABLES.into_iter().chain([("literature.csv", LITERATURE)]);
    let (_, text) = texts.into_iter().find(|(name, _)| *name == file).unwrap();
    Audit::of(file, text, given).unwrap()
}

/// Label, task and value of the numbers that no mean prints.
fn impossible(audit: &Audit) -> Vec<String> {
    let found = audit.values.iter().filter(|row| row.word == IMPOSSIBLE);
    found.map(|row| format!("{} {} {}", row.label, row.task, row.value)).collect()
}

/// docs/spec.md §5.1.
#[test]
fn adaloras_rte_and_sst2_are_no_means_of_five_runs_on_the_half_development_set() {
    let audit = published("sora_table1.csv", FIVE_ON_HALF);
    let found = impossible(&audit);
    for value in ["AdaLoRA rte 87.36", "AdaLoRA sst2 95.95", "AdaLoRA mrpc 90.22", "Fine-tuning rte 82.49"] {
        assert!(found.iter().any(|known| known == value), "{value} is not in {found:?}");
    }
    assert!(
        !found.iter().any(|value| value.starts_with("LoRA r=8") || value.starts_with("SoRA r_max=4 rte")),
        "{found:?}"
    );
    let rte = audit.values.iter().find(|row| row.label == "AdaLoRA" && row.task == "rte").unwrap();
    assert_eq!((rte.rows, rte.nearest.as_str()), (Some(139), "87.34, 87.48"));
    assert!(rte.fits.contains("1 run on 277 (split official, test)"), "{}", rte.fits);
    assert_eq!(impossible(&published("sora_table1.csv", Given::default())), found, "its own settings say the same");
}

/// Means of five runs would be values of a single run one time in five.
#[test]
fn adaloras_own_table_holds_the_values_of_single_runs() {
    let counted = SingleRuns::of(&published("adalora_table1.csv", Given::default()).values);
    assert_eq!((counted.possible, counted.single), (33, 32));
    close(counted.expected, 33.0 / 5.0);
}

#[test]
fn what_is_no_accuracy_is_never_a_finding() {
    for file in ["sora_table1.csv", "adalora_table1.csv", "literature.csv"] {
        let audit = published(file, Given { runs: Some(1), split: Some(Policy::Official) });
        let of_tasks =
            audit.values.iter().filter(|row| ["cola", "stsb"].contains(&row.task.as_str()) || row.metric == "f1");
        let words: Vec<&str> = of_tasks.map(|row| row.word.as_str()).collect();
        assert!(words.len() > 10 && words.iter().all(|word| *word == NOT_TESTABLE), "{file}: {words:?}");
    }
}

#[test]
fn every_published_average_follows_by_the_formula_of_its_table() {
    let formulas = |file: &str| {
        let audit = published(file, Given::default());
        assert!(audit.averages.iter().all(|row| row.word == FOLLOWS), "{file}: {:?}", audit.averages);
        let mut formulas: Vec<String> = audit.averages.into_iter().map(|row| row.formula).collect();
        formulas.sort();
        formulas.dedup();
        (formulas.len(), formulas[0].clone())
    };
    let of_both = (1, "mean over tasks, each the mean of its numbers".to_string());
    assert_eq!([formulas("sora_table1.csv"), formulas("adalora_table1.csv")], [of_both.clone(), of_both]);
    let (_, text) = TABLES[0];
    let changed =
        Audit::of("sora_table1.csv", &text.replace("average,average,88.38", "average,average,88.48"), FIVE_ON_HALF);
    let wrong: Vec<String> =
        changed.unwrap().averages.into_iter().filter(|row| row.word == DOES_NOT_FOLLOW).map(|row| row.label).collect();
    assert_eq!(wrong, ["LoRA r=8"]);
}

#[test]
fn copied_rows_are_found() {
    let audit = published("literature.csv", Given::default());
    let copied: Vec<String> = audit
        .repeats
        .iter()
        .map(|row| format!("{} = {} {}: {}", row.label, row.other_table, row.other_label, row.equal))
        .collect();
    for row in [
        "LoRA r=8 = adalora_table1 LoRA r=8: 8",
        "Full FT = adalora_table1 Full FT: 8",
        "SoRA r_max=8 = sora_table1 SoRA r_max=8: 8",
    ] {
        assert!(copied.iter().any(|known| known == row), "{row} is not in {copied:?}");
    }
    assert!(audit.repeats.iter().all(|row| row.word == SAME_SETTING), "{:?}", audit.repeats);
}

/// A table of RoBERTa-large with the DeBERTaV3-base values of AdaLoRA's paper.
#[test]
fn digits_under_another_backbone_are_found() {
    let text = "method,label,backbone,mnli,sst2,cola,rte,mrpc\n\
                full,Full FT,RoBERTa-large,90.2,95.63,69.19,86.6,89.46\n\
                lora,LoRA,RoBERTa-large,90.6,96.2,68.71,85.56,89.71\n\
                ours,Ours,RoBERTa-large,90.9,96.4,70.1,88.8,91.0\n";
    let audit = Audit::of("theirs.csv", text, Given::default()).unwrap();
    let found: Vec<_> = audit.repeats.iter().filter(|row| row.other_table == "adalora_table1").collect();
    let labels: Vec<(&str, &str)> = found.iter().map(|row| (row.label.as_str(), row.other_label.as_str())).collect();
    assert_eq!(labels, [("Full FT", "Full FT"), ("LoRA", "LoRA r=2")]);
    for row in found {
        assert_eq!(
            (row.word.as_str(), row.differing.as_str()),
            (OTHER_SETTING, "backbone RoBERTa-large instead of DeBERTaV3-base")
        );
    }
}

/// Standard output of a command that must succeed.
fn said(world: &World, arguments: &[&str]) -> String {
    let output = world.rankbench(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_table_of_ones_own_is_audited() {
    let world = World::new();
    world.write("mine.csv", "method,RTE,MNLI,CoLA,STS-B,average\nOurs,87.36,90.27/90.30,–,91.39,89.68\n");
    insta::assert_snapshot!("audit", said(&world, &["audit", "mine.csv", "--runs", "5", "--split", "sora"]));
    let json = said(&world, &["audit", "mine.csv", "--split", "sora", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["values"][0]["word"], "impossible");
    assert_eq!(value["assumed"][0], "Assumed: 5 runs (by default), split sora (as given).");
    assert_eq!(value["values"].as_array().unwrap().len(), 4);
}

#[test]
fn a_table_that_cannot_be_read_is_refused_by_name() {
    let world = World::new();
    let refused = |text: &str, arguments: &[&str], code: i32, expected: &str| {
        world.write("bad.csv", text);
        let (found, message) = failure(&mut world.rankbench(&[&["audit", "bad.csv"], arguments].concat()));
        assert!(found == code && message.contains(expected), "{found}: {message}");
    };
    refused("label,rte,mrcp\na,80.1,81.2\n", &[], 2, "unknown column 'mrcp' (did you mean 'mrpc'?)");
    refused("label,task,value\na,rtee,80.1\n", &[], 2, "bad.csv, line 2: unknown task 'rtee' (did you mean 'rte'?)");
    refused(
        "label,task,metric,value\na,rte,acuracy,80.1\n",
        &[],
        2,
        "unknown metric 'acuracy' (did you mean 'accuracy'?)",
    );
    refused("label,rte,split\na,80.1,ofical\n", &[], 2, "unknown split policy 'ofical' (did you mean 'official'?)");
    refused("label,rte\na,80.1\n", &["--split", "half"], 2, "unknown split policy 'half'");
    refused("label,rte\na,80.1\n", &["--runs", "0"], 2, "--runs");
    refused("label,rte,runs\na,80.1,some\n", &[], 3, "runs: expected a whole number above 0, got 'some'");
    refused("label,rte\na,n/a\n", &[], 3, "got 'n'");
    refused("label,rte\na,0.801\n", &[], 3, "no value is above 1: expected points of 100");
    refused("label,rte\na,80.1/81.2\n", &[], 3, "RTE: expected at most accuracy, got '80.1/81.2'");
    refused("label,rte,RTE\na,80.1,80.1\n", &[], 3, "there are two columns 'rte'");
    refused("label,task,value,rte\na,rte,80.1,80.1\n", &[], 2, "not both");
    refused("label,task\na,rte\n", &[], 2, "expected both columns 'task' and 'value'");
    refused("label,task,value,average\na,rte,80.1,80.1\n", &[], 2, "not both");
    refused("label,rte\n,80.1\n", &[], 3, "bad.csv, line 2: expected a label or a method");
    refused("rte\n80.1\n", &[], 2, "expected a column 'label' or 'method'");
    refused("label,task,value\na,rte,80.1\na,rte,80.2\n", &[], 3, "bad.csv, line 3: a has a second accuracy of RTE");
    refused("label,rte\n", &[], 3, "bad.csv holds no number of a task");
    let (code, message) = failure(&mut world.rankbench(&["audit", "missing.csv"]));
    assert!(code == 3 && message.contains("missing.csv"), "{code}: {message}");
}

/// Runs of one method on RTE, one a seed, with these accuracies in points.
fn runs_of(method: &str, points: &[f64]) -> Vec<RunRecord> {
    let run = |(seed, value): (usize, &f64)| {
        let status = scored(&[("dev", "accuracy", value / 100.0)], 215_552, &[]);
        made_up(&Setting::default(), "rte", method, seed as u64, status)
    };
    points.iter().enumerate().map(run).collect()
}

/// d = np.array([1.2, -0.4, 0.9, 0.3, 1.5]); s = d.std(ddof=1); n = 5
/// shown = lambda n: (stats.t.ppf(.975, n-1) + stats.t.ppf(.8, n-1)) * s / np.sqrt(n); shown(5)
/// width = lambda n: stats.t.ppf(.95, n-1) * s / np.sqrt(n)
/// [next(n for n in range(2, 1001) if f(n) <= m) for f in (shown, width)], m = 1.5625 (two of 128 examples)
#[test]
fn what_seeds_show_agrees_with_scipy() {
    let lora = [80.0, 81.0, 79.5, 80.5, 82.0];
    let sora: Vec<f64> = lora.iter().zip([1.2, -0.4, 0.9, 0.3, 1.5]).map(|(value, d)| value + d).collect();
    let group = group(&[runs_of("lora", &lora), runs_of("sora", &sora)].concat());
    let rows = power(&group, 0.5);
    assert_eq!((rows.len(), rows[0].pairs, rows[0].task.as_str()), (1, 5, "rte"));
    close(rows[0].std.unwrap(), 0.7582875444051551);
    close(rows[0].detectable.unwrap(), 1.2606349574362674);
    close(rows[0].margin, 1.5625);
    assert_eq!((rows[0].seeds_to_show, rows[0].seeds_to_exclude), (Some(5), Some(3)));
}

#[test]
fn every_pair_of_methods_is_there_and_no_spread_says_nothing() {
    let flat = [80.0, 81.0, 79.5];
    let runs = [runs_of("lora", &flat), runs_of("adalora", &flat), runs_of("sora", &[80.0, 82.0, 79.0])].concat();
    let rows = power(&group(&runs), 0.5);
    let pairs: Vec<(&str, &str)> = rows.iter().map(|row| (row.title.as_str(), row.reference.as_str())).collect();
    assert_eq!(pairs, [("AdaLoRA", "LoRA"), ("SoRA", "LoRA"), ("SoRA", "AdaLoRA")]);
    assert_eq!((rows[0].std, rows[0].detectable, rows[0].seeds_to_show), (Some(0.0), None, None));
}

fn frame(runs: &[RunRecord]) -> ResultsFrame {
    ResultsFrame::of_records(runs)
}

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let mut runs = [runs_of("lora", &[80.0, 81.25]), runs_of("sora", &[79.5])].concat();
    runs.push(made_up(
        &Setting { options: "r = 4", ..Setting::default() },
        "rte",
        "lora",
        0,
        Status::Failed("why".into()),
    ));
    let written = frame(&runs);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.csv");
    std::fs::write(&path, written.results_csv().unwrap()).unwrap();
    let read = ResultsFrame::of_results(read_results(&path).unwrap());
    let rows =
        |frame: &ResultsFrame| frame.runs.iter().map(|run| (run.row.clone(), run.scores.len())).collect::<Vec<_>>();
    assert_eq!(rows(&read), rows(&written));
    assert!(read.runs.iter().any(|run| !run.row.label.is_empty()), "one setting is not the base");
    let compared = StoreComparison::of(&written, &read);
    assert!(compared.pairs == 3 && compared.moved.iter().all(|row| row.word == "identical"), "{:?}", compared.moved);
    assert_eq!(compared.differing, []);
    assert_eq!(compared.alone.len(), 2, "the failed run, on both sides");
}

#[test]
fn a_report_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("results.csv");
    std::fs::write(&path, "run,task,method\na,rte,lora\n").unwrap();
    let message = read_results(&path).unwrap_err().to_string();
    assert!(
        message.contains("of another version of this program") && message.contains("rankbench report"),
        "{message}"
    );
}

#[test]
fn what_moved_has_a_word() {
    let word = |before: &[f64], after: &[f64]| {
        let compared = StoreComparison::of(&frame(&runs_of("lora", before)), &frame(&runs_of("lora", after)));
        let row = compared.moved[0].clone();
        (row.word, row.pairs, row.identical.unwrap())
    };
    let moved = |word: &str, pairs, identical| (word.to_string(), pairs, identical);
    let base = [80.0, 81.0, 79.5];
    assert_eq!(word(&base, &base), moved("identical", 3, 3));
    assert_eq!(word(&base, &[79.8, 81.1, 79.9]), moved("within noise", 3, 0));
    assert_eq!(word(&base, &[82.0, 83.1, 81.8]), moved("moved", 3, 0));
    assert_eq!(word(&base, &[81.0, 82.0, 80.5]), moved("moved", 3, 0), "every seed alike: no spread, no chance");
    assert_eq!(word(&base, &[80.0, 82.0]), moved("too few seeds", 2, 1));
}

/// stats.ttest_1samp([2.0, 2.1, 2.3], 0).pvalue
#[test]
fn settings_and_origins_that_differ_are_named_and_runs_alone_listed() {
    let before = frame(&runs_of("lora", &[80.0, 81.0, 79.5, 80.0]));
    let setting = Setting { device: "another processor", epochs: 5, ..Setting::default() };
    let mut runs: Vec<RunRecord> = runs_of("lora", &[82.0, 83.1, 81.8]);
    for run in &mut runs {
        run.manifest.as_mut().unwrap().device = setting.device.into();
        run.manifest.as_mut().unwrap().threads = 2;
        run.manifest.as_mut().unwrap().rankbench = "0.0.9".into();
        run.spec.made_mut().unwrap().train.device = "cuda".into();
        run.spec.made_mut().unwrap().train.epochs = setting.epochs;
    }
    runs.push(made_up(&setting, "rte", "sora", 0, Status::Unfinished));
    let compared = StoreComparison::of(&before, &frame(&runs));
    close(compared.moved[0].p.unwrap(), 0.0017046158746717196);
    close(compared.moved[0].difference.unwrap(), 32.0 / 15.0);
    let fields: Vec<String> = compared
        .differing
        .iter()
        .map(|row| format!("{}: {} {} {}", row.field, row.before, row.after, row.pairs))
        .collect();
    let expected = [
        "epochs: 3 5 3",
        "train.device: cpu cuda 3",
        "rankbench: 0.1.0 0.0.9 3",
        "device: some processor another processor 3",
        "threads: 1 2 3",
    ];
    assert_eq!(fields, expected);
    assert_eq!((compared.reports, compared.not_compared), (Vec::new(), Vec::new()));
    let alone: Vec<(&str, &str, &str)> =
        compared.alone.iter().map(|row| (row.side.as_str(), row.status.as_str(), row.partner.as_str())).collect();
    assert_eq!(alone, [("A", "done", "none"), ("B", "unfinished", "none")]);
}

#[test]
fn two_stores_are_compared_and_their_power_is_said() {
    let world = World::new();
    let [runs, again] = ["a", "b"].map(|out| write_runs(&world.path(out).join("runs"), 81, SMALL));
    assert_eq!(runs, again);
    let text = said(&world, &["compare", "a", "b"]);
    assert!(
        text.contains(&format!("{runs} runs finished in both")) && text.contains("No setting and no origin differs."),
        "{text}"
    );
    let value: serde_json::Value = serde_json::from_str(&said(&world, &["compare", "a", "b", "--json"])).unwrap();
    assert_eq!((value["a"].as_str(), value["comparison"]["pairs"].as_u64()), (Some("a"), Some(runs as u64)));
    let moved = value["comparison"]["moved"].as_array().unwrap();
    assert!(moved.len() == 30 && moved.iter().all(|row| row["word"] == "identical"), "{value}");
    let text = said(&world, &["power", "a", "--margin", "2"]);
    assert!(text.contains("SoRA − AdaLoRA") && text.contains("all tasks"), "{text}");
    let value: serde_json::Value = serde_json::from_str(&said(&world, &["power", "a", "--json"])).unwrap();
    assert_eq!(value["rows"][0]["pairs"], 3);
    let (code, message) = failure(&mut world.rankbench(&["power", "nowhere"]));
    assert!(code == 3 && message.contains("nowhere holds no run"), "{code}: {message}");
}

#[test]
fn every_setting_that_differs_is_named() {
    let world = World::new();
    let run = |out: &str, threads: &str, more: &[&str]| {
        let flags = ["--methods", "lora", "--epochs", "1", "--out", out];
        world.run(&[&flags[..], more].concat()).env("OMP_NUM_THREADS", threads).assert().success();
    };
    run("a", "1", &[]);
    let other = [
        ["--set", "train.weight_decay=0.1"],
        ["--set", "train.warmup_ratio=0.5"],
        ["--set", "train.decay_order=after"],
        ["--set", "train.max_grad_norm=0.5"],
        ["--set", "train.max_length=12"],
        ["--set", "train.padding={bucket=8}"],
        ["--set", "train.order=grouped"],
        ["--set", "lora.options.lora_dropout=0.25"],
    ];
    run("b", "2", other.as_flattened());
    let value: serde_json::Value = serde_json::from_str(&said(&world, &["compare", "a", "b", "--json"])).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    let differing = value["comparison"]["differing"].as_array().unwrap();
    // The device in words names its threads, too.
    let differing = differing.iter().filter(|row| row["field"] != "device");
    let found: Vec<[String; 3]> =
        differing.map(|row| ["field", "before", "after"].map(|key| text(&row[key]))).collect();
    let expected = [
        ["decay_order", "before", "after"],
        ["lora_dropout", "not set", "0.25"],
        ["max_grad_norm", "1.0", "0.5"],
        ["max_length", "16", "12"],
        ["order", "random", "grouped"],
        ["padding.bucket", "4", "8"],
        ["warmup_ratio", "0.1", "0.5"],
        ["weight_decay", "0.01", "0.1"],
        ["threads", "1", "2"],
    ];
    assert_eq!(found, expected.map(|row| row.map(String::from)));
    let text = said(&world, &["compare", "a", "b"]);
    assert!(text.contains("weight_decay") && !text.contains("No setting and no origin differs"), "{text}");
    // A report has no weight decay: that it was not compared is said.
    let text = said(&world, &["compare", "a/report", "b"]);
    assert!(
        text.contains("max_grad_norm, max_length, order") && text.contains("are not in results.csv were not compared"),
        "{text}"
    );
    assert!(text.contains("lora_dropout") && text.contains("threads"), "{text}");
}

#[test]
fn stores_without_a_common_run_say_what_each_has() {
    let world = World::new();
    for (out, method) in [("a", "lora"), ("b", "sora")] {
        world.run(&["--methods", method, "--epochs", "1", "--out", out]).assert().success();
    }
    let (code, message) = failure(&mut world.rankbench(&["compare", "a", "b"]));
    assert!(code == 3 && message.contains("no run of a has a partner"), "{code}: {message}");
    assert!(message.contains("(LoRA)") && message.contains("(SoRA)"), "{message}");
}

#[test]
fn a_run_is_shown_by_the_beginning_of_its_id() {
    let world = World::new();
    world.run(&["--methods", "lora,sora", "--seeds", "0,1"]).assert().success();
    let text = said(&world, &["show", "sst2-sora-s1", "--out", "out"]);
    for part in [
        "development set accuracy",
        "effective parameters",
        "query",
        "training",
        "predictions.csv",
        "libtorch",
        "threads",
    ] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
    let value: serde_json::Value =
        serde_json::from_str(&said(&world, &["show", "sst2-lora-s0", "--out", "out", "--json"])).unwrap();
    let id = value["run"].as_str().unwrap();
    assert_eq!((value["state"].as_str(), value["spec"]["method"].as_str()), (Some("done"), Some("lora")));
    let by_dir = said(&world, &["show", &format!("out/runs/{id}")]);
    assert!(by_dir.starts_with(id), "{by_dir}");
    let (code, message) = failure(&mut world.rankbench(&["show", "sst2-lora", "--out", "out"]));
    assert!(
        code == 2 && message.contains("2 runs of out/runs begin with 'sst2-lora': sst2-lora-s0-"),
        "{code}: {message}"
    );
    let (code, message) = failure(&mut world.rankbench(&["show", "rte", "--out", "out"]));
    assert!(
        code == 2 && message.contains("no run of out/runs begins with 'rte'; there are sst2-"),
        "{code}: {message}"
    );
}

#[test]
fn a_failed_run_is_shown_with_its_reason() {
    let world = World::new();
    world.run(&["--methods", "lora", "--lr", "1e30", "--epochs", "1"]).assert().failure();
    let text = one_line(&said(&world, &["show", "sst2-lora", "--out", "out"]));
    assert!(text.contains("state failed reason ") && !text.contains("Scores"), "{text}");
}

//! The table of a comparison on one task, and the mark of a checkpoint that was chosen before its rank budget was reached.

mod support;

use harness::analysis::one_task::one_task;
use harness::analysis::results::ResultsFrame;
use harness::report::write;
use harness::store::record::{RunRecord, Status};
use support::runs::{Setting, close, group, made_up, scored};

fn cola(method: &str, seed: u64, matthews: f64, effective: i64) -> RunRecord {
    let status = scored(&[("dev", "matthews", matthews)], effective, &[]);
    made_up(&Setting { options: "", ..Setting::default() }, "cola", method, seed, status)
}

fn three_methods() -> Vec<RunRecord> {
    let of = |method: &'static str, effective: i64, values: [f64; 3]| {
        values.into_iter().enumerate().map(move |(seed, value)| cola(method, seed as u64, value, effective))
    };
    of("lora", 332_064, [0.60, 0.62, 0.64])
        .chain(of("adalora", 332_064, [0.61, 0.64, 0.67]))
        .chain(of("sora", 166_032, [0.58, 0.62, 0.60]))
        .collect()
}

fn report(runs: &[RunRecord], name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    write::write(&ResultsFrame::of_records(runs), dir.path()).unwrap();
    std::fs::read_to_string(dir.path().join(name)).unwrap_or_default()
}

#[test]
fn score_parameters_and_p_of_each_method() {
    let group = group(&three_methods());
    let (column, rows) = one_task(&group).unwrap();
    assert_eq!((column.title.as_str(), rows.len()), ("CoLA", 3));
    let [lora, adalora, sora] = [&rows[0], &rows[1], &rows[2]];
    close(lora.mean.unwrap(), 62.0);
    close(lora.std.unwrap(), 2.0);
    assert_eq!((lora.p_t, lora.reference.as_str()), (None, ""), "nothing to compare LoRA with");
    // scipy.stats.ttest_1samp([1, 2, 3], 0).pvalue
    assert!((adalora.p_t.unwrap() - 0.07417990022744853).abs() < 1e-9, "{:?}", adalora.p_t);
    assert_eq!((sora.allocated, sora.effective, sora.kept), (Some(332_064.0), Some(166_032.0), Some(50.0)));
    assert_eq!(sora.reference, "LoRA");
    let text = report(&three_methods(), "one_task.md");
    for part in ["CoLA MCC", "3 seeds", "62.00 ± 2.00", "332.1k", "166.0k", "50 %", "0.074"] {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn runs_of_two_tasks_have_no_such_table() {
    let mut runs = three_methods();
    runs.push(made_up(&Setting::default(), "rte", "lora", 0, scored(&[("dev", "accuracy", 0.7)], 9, &[])));
    assert!(one_task(&group(&runs)).is_none());
    assert_eq!(report(&runs, "one_task.md"), "");
}

#[test]
fn a_checkpoint_chosen_before_the_budget_was_reached_is_marked() {
    let early = |tfinal: f64| {
        let mut run = cola("adalora", 0, 0.6, 300_000);
        run.spec.made_mut().unwrap().options.insert("tfinal".into(), tfinal.into());
        let Status::Done(outcome) = &mut run.status else { unreachable!() };
        outcome.results[0].selected_step = Some(48);
        report(&[run], "table1.md")
    };
    // Chosen after 48 of 96 steps: the budget is final from step 72, or from step 38.
    let marked = early(0.25);
    assert!(marked.contains("◇") && marked.contains("final from step 72"), "{marked}");
    assert!(!early(0.6).contains('◇'));
}

#[test]
fn a_narrow_table_stands_in_one_column_of_the_text() {
    let tex = report(&three_methods(), "one_task.tex");
    assert!(tex.contains("\\begin{table}") && tex.contains("\\label{tab:"), "{tex}");
    let wide = report(&three_methods(), "table1.tex");
    assert!(wide.contains("\\begin{table*}") && wide.contains("\\ifdim\\wd0>\\linewidth"), "{wide}");
}

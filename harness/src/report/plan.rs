//! A plan and what it will take, as text, CSV or JSON.

use serde::Serialize;

use crate::analysis::frame::typed::{Frame, internal};
use crate::analysis::plan_cost::{PlanRow, PlanTotal, PlannedRun, PlannedTotal};
use crate::analysis::summary::method_title;
use crate::error::Result;
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;
use crate::report::table::TableDoc;
use crate::report::tables::cells::{ABSENT, fixed};

/// Aligned text at most `width` wide, with the sums below.
///
/// # Errors
/// A bug only.
pub fn text(recipe: &str, device: &str, rows: &[PlanRow], width: usize) -> Result<String> {
    let names = ["Task", "Method", "Setting", "Runs", "Steps", "Evaluations", "Step", "A run", "All", "Peak memory"];
    let table = TableDoc {
        title: format!("Plan of {recipe} on {device}"),
        header: names.map(str::to_string).to_vec(),
        rows: rows.iter().map(table_row).collect(),
        notes: notes(&PlanTotal::of(rows)),
        data: Frame::from_rows(rows)?.into_data(),
    };
    Text { width }.render(&[table])
}

/// CSV: a row for every task, method and setting.
///
/// # Errors
/// A bug only.
pub fn csv(rows: &[PlanRow]) -> Result<String> {
    String::from_utf8(Frame::from_rows(rows)?.to_csv()?).map_err(internal)
}

/// JSON: the rows and their sums.
///
/// # Errors
/// A bug only.
pub fn json(recipe: &str, device: &str, rows: &[PlanRow]) -> Result<String> {
    #[derive(Serialize)]
    struct Plan<'a> {
        recipe: &'a str,
        device: &'a str,
        total: PlanTotal,
        rows: &'a [PlanRow],
    }
    serde_json::to_string_pretty(&Plan { recipe, device, total: PlanTotal::of(rows), rows }).map_err(internal)
}

/// A line a run, at most `width` wide, with the sums and `notes` below. Times and ids that are not known have no column.
///
/// # Errors
/// A bug only.
pub fn runs_text(recipe: &str, runs: &[PlannedRun], notes: Vec<String>, width: usize) -> Result<String> {
    let total = PlannedTotal::of(runs);
    let is_timed = runs.iter().any(|run| run.seconds.is_some());
    let mut header = vec!["Task", "Method", "Setting", "Seed", "State", "Steps", "Evaluations"];
    header.extend(is_timed.then_some("Time"));
    let row = |run: &PlannedRun| {
        let PlannedRun { task, label, seed, state, steps, evaluations, .. } = run;
        let mut cells = vec![task.clone(), method_title(&run.method), label.clone(), seed.to_string(), state.clone()];
        cells.extend([steps.to_string(), evaluations.to_string()]);
        cells.extend(is_timed.then(|| duration(run.seconds)));
        cells
    };
    let table = TableDoc {
        title: format!("Runs of {recipe}"),
        header: header.into_iter().map(str::to_string).collect(),
        rows: runs.iter().map(row).collect(),
        notes: std::iter::once(run_counts(&total)).chain(notes).collect(),
        data: Frame::from_rows(runs)?.into_data(),
    };
    Text { width }.render(&[table])
}

/// JSON: the runs and their sums.
///
/// # Errors
/// A bug only.
pub fn runs_json(recipe: &str, runs: &[PlannedRun]) -> Result<String> {
    let value = serde_json::json!({ "recipe": recipe, "total": PlannedTotal::of(runs), "runs": runs });
    serde_json::to_string_pretty(&value).map_err(internal)
}

/// The sums of a dry run in words.
fn run_counts(total: &PlannedTotal) -> String {
    let PlannedTotal { runs, done, running, steps, evaluations, seconds, disk_mib } = total;
    let states = match running {
        0 => format!("{runs} runs: {done} done, {} left", runs - done),
        _ => format!("{runs} runs: {done} done, {running} running elsewhere, {} left", runs - done - running),
    };
    let mut parts = vec![format!("{states}; {steps} steps and {evaluations} evaluations to make")];
    parts.extend(
        seconds
            .filter(|seconds| *seconds > 0.0)
            .map(|_| format!("about {} one run after the other", duration(*seconds))),
    );
    parts.extend(disk_mib.map(|mib| format!("about {mib:.0} MiB of disk")));
    parts.join(", ") + "."
}

/// The sums in words: `5 runs, 500 steps, 25 evaluations.`
pub fn counts(total: &PlanTotal) -> String {
    format!("{} runs, {} steps, {} evaluations.", total.runs, total.steps, total.evaluations)
}

fn table_row(row: &PlanRow) -> Vec<String> {
    let cells = vec![
        row.task.clone(),
        method_title(&row.method),
        row.label.clone(),
        row.runs.to_string(),
        row.steps.to_string(),
        row.evaluations.to_string(),
        row.step_seconds.map_or(ABSENT.into(), |seconds| format!("{:.1} ms", 1e3 * seconds)),
        duration(row.run_seconds),
        duration(row.seconds),
        row.peak_mib.map_or(ABSENT.into(), |mib| format!("{} MiB", fixed(Some(mib), 0))),
    ];
    cells
}

fn notes(total: &PlanTotal) -> Vec<String> {
    let PlanTotal { seconds, peak_mib, .. } = total;
    let mut notes = vec![counts(total)];
    if let (Some(_), Some(peak)) = (seconds, peak_mib) {
        notes.push(format!(
            "Estimated {} one run after the other, at most {peak:.0} MiB. Measured here: a few steps of a few shapes of batches in the \
             middle of each run's schedule, and a part of an evaluation; reading and writing files comes on top.",
            duration(*seconds)
        ));
    }
    notes
}

/// Seconds in words: `0.4 s`, `3 min 20 s`, `2 h 05 min`.
fn duration(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return ABSENT.into() };
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, runs: u64, seconds: Option<f64>, peak_mib: Option<f64>) -> PlanRow {
        PlanRow {
            task: "rte".into(),
            method: method.into(),
            label: "r=4".into(),
            runs,
            steps: 100,
            evaluations: 5,
            step_seconds: seconds.map(|s| s / 100.0),
            run_seconds: seconds,
            seconds: seconds.map(|s| s * runs as f64),
            peak_mib,
        }
    }

    #[test]
    fn sums_are_over_all_runs_and_a_missing_time_leaves_none() {
        let total = PlanTotal::of(&[row("lora", 3, Some(10.0), Some(50.0)), row("sora", 2, Some(20.0), Some(70.0))]);
        assert_eq!((total.runs, total.steps, total.evaluations), (5, 500, 25));
        assert_eq!((total.seconds, total.peak_mib), (Some(70.0), Some(70.0)));
        assert_eq!(PlanTotal::of(&[row("lora", 3, None, None)]).seconds, None);
    }

    #[test]
    fn durations_in_words() {
        let words = [0.42, 59.4, 200.0, 7530.0].map(|s| duration(Some(s)));
        assert_eq!(words, ["0.4 s", "59 s", "3 min 20 s", "2 h 05 min"]);
    }

    #[test]
    fn a_dry_run_sums_what_is_left() {
        let run = |seed, state: &str, seconds| PlannedRun {
            run: format!("rte-lora-s{seed}-0123456789"),
            task: "rte".into(),
            method: "lora".into(),
            label: "r=4".into(),
            seed,
            state: state.into(),
            steps: 100,
            evaluations: 5,
            seconds,
            disk_mib: Some(2.0),
        };
        let runs = [run(0, "done", Some(0.0)), run(1, "running", Some(60.0)), run(2, "left", Some(70.0))];
        insta::assert_snapshot!(runs_text("mine", &runs, vec!["A note.".into()], 120).unwrap());
        let value: serde_json::Value = serde_json::from_str(&runs_json("mine", &runs[2..]).unwrap()).unwrap();
        assert_eq!((value["total"]["steps"].as_u64(), value["runs"][0]["state"].as_str()), (Some(100), Some("left")));
        let untimed = runs_text("mine", &[run(0, "left", None)], Vec::new(), 120).unwrap();
        assert!(!untimed.contains("Time") && !untimed.contains("one run after the other"), "{untimed}");
    }

    #[test]
    fn csv_and_json_hold_the_numbers() {
        let rows = [row("lora", 3, Some(10.0), None)];
        assert!(csv(&rows).unwrap().contains("rte,lora,r=4,3,100,5,0.1,10,30,"));
        let value: serde_json::Value = serde_json::from_str(&json("table1", "cpu", &rows).unwrap()).unwrap();
        assert_eq!((value["total"]["seconds"].as_f64(), value["rows"][0]["runs"].as_u64()), (Some(30.0), Some(3)));
    }
}

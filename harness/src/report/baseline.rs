//! Text of a baseline check.

use serde_json::{Value, json};

use crate::analysis::baseline::{BaselineReport, Deviation, is_time};

/// One line for a check that passed; for one that failed, a line for each deviation.
pub fn text(report: &BaselineReport) -> String {
    if report.compared == 0 {
        return "the baseline check failed: baseline and results are both empty".into();
    }
    if report.passed {
        return format!("the baseline check passed: {} rows within tolerance", report.compared);
    }
    let head = format!("the baseline check failed: {} of {} rows moved", report.deviations.len(), report.compared);
    let mut lines = vec![["row", "was", "is", "tolerance"].map(str::to_string)];
    lines.extend(report.deviations.iter().map(cells));
    let [first, second, third] =
        [0, 1, 2].map(|i| lines.iter().map(|cells| cells[i].chars().count()).max().unwrap_or(0));
    let line = |[row, was, is, tolerance]: &[String; 4]| {
        format!("\n  {row:<first$}  {was:>second$}  {is:>third$}  {tolerance}")
    };
    head + &lines.iter().map(line).collect::<String>()
}

/// The check with every deviation, for a script.
pub fn json(report: &BaselineReport) -> Value {
    let deviation = |found: &Deviation| {
        let (task, method, seed, metric) = &found.row;
        json!({
            "task": task, "method": method, "seed": seed, "metric": metric,
            "was": found.was, "is": found.is, "tolerance": found.tolerance,
        })
    };
    let deviations: Vec<Value> = report.deviations.iter().map(deviation).collect();
    json!({ "passed": report.passed, "compared": report.compared, "deviations": deviations })
}

fn cells(deviation: &Deviation) -> [String; 4] {
    let (task, method, seed, metric) = &deviation.row;
    let seed = seed.map_or(String::new(), |seed| format!(" seed {seed}"));
    let tolerance = match metric.as_str() {
        metric if is_time(metric) => format!("×{} either way", deviation.tolerance),
        _ if deviation.tolerance == 0.0 => "exact".to_string(),
        _ => format!("±{}", deviation.tolerance),
    };
    let value = |value: Option<f64>, absent: &str| value.map_or(absent.to_string(), |v| v.to_string());
    let (was, is) = (value(deviation.was, "(new)"), value(deviation.is, "(missing)"));
    [format!("{task} {method}{seed} {metric}"), was, is, tolerance]
}

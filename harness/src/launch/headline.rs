//! The line about a finished run: every number with its split, and how its checkpoint was chosen.

use datasets::split::Policy;

use crate::plan::spec::RunSpec;
use crate::store::rows::{DevSetResult, Outcome};

/// `test MCC 6.62 (checkpoint: epoch 3, validation 5.81)`, for each development set.
pub fn headline(spec: &RunSpec, outcome: &Outcome) -> String {
    let is_several = outcome.results.len() > 1;
    let of_set = |result: &DevSetResult| {
        let set = if is_several { format!("{}: ", result.dev_set) } else { String::new() };
        format!("{set}{}", of_set(spec, outcome.steps, result))
    };
    let sets: Vec<String> = outcome.results.iter().map(of_set).collect();
    let collapsed = if outcome.collapse.is_empty() {
        String::new()
    } else {
        format!(" (collapsed: {})", outcome.collapse.join("; "))
    };
    sets.join("; ") + &collapsed
}

fn of_set(spec: &RunSpec, steps: Option<usize>, result: &DevSetResult) -> String {
    let metrics = metrics(&result.test);
    let (Some(step), Some(steps), Some(value)) = (result.selected_step, steps, result.selection_value) else {
        return format!("test {metrics}");
    };
    let epoch = format!("{:.2}", step as f64 * spec.train.epochs as f64 / steps.max(1) as f64);
    let final_step = methods::registry::find(&spec.method).ok().and_then(|method| method.final_budget_step);
    let is_early = final_step.is_some_and(|final_step| step < final_step(&spec.options, steps));
    let early = if is_early { " before the final budget" } else { "" };
    let epoch = format!("{}{early}", epoch.trim_end_matches('0').trim_end_matches('.'));
    // Under the official policy one set of rows does both.
    if spec.data.split == Policy::Official {
        return format!("development set {metrics} (checkpoint: epoch {epoch}, chosen on the same rows)");
    }
    let selection = match result.test.len() {
        1 => String::new(),
        _ => format!("{} ", metric_title(&result.selection_metric)),
    };
    format!("test {metrics} (checkpoint: epoch {epoch}, validation {selection}{:.2})", 100.0 * value)
}

/// `accuracy 70.00, F1 80.00`, of values in 0..1 or -1..1.
pub fn metrics(values: &[(String, f64)]) -> String {
    let texts = values.iter().map(|(name, value)| format!("{} {:.2}", metric_title(name), 100.0 * value));
    texts.collect::<Vec<_>>().join(", ")
}

/// A metric as people write it.
fn metric_title(name: &str) -> &str {
    match name {
        "matthews" => "MCC",
        "f1" => "F1",
        "pearson" => "Pearson",
        "spearman" => "Spearman",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spec::tests::run_spec;
    use crate::store::rows::{Parameters, PeakMiB, Seconds};

    fn spec(split: Policy) -> RunSpec {
        let mut spec = RunSpec { task: "cola".into(), ..run_spec("lora") };
        spec.data.split = split;
        spec.train.epochs = 5;
        spec
    }

    fn outcome(test: &[(&str, f64)], selection: (&str, f64)) -> Outcome {
        let result = DevSetResult {
            dev_set: "dev".into(),
            selected_step: Some(60),
            selection_metric: selection.0.into(),
            selection_value: Some(selection.1),
            test: test.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
            test_examples: 522,
        };
        let parameters = Parameters { allocated: 0, effective: 0, as_published: 0, head: 0, full: 0 };
        Outcome {
            results: vec![result],
            parameters: Some(parameters),
            steps: Some(100),
            wall_seconds: Some(1.0),
            seconds: Some(Seconds::default()),
            memory: PeakMiB::default(),
            collapse: Vec::new(),
        }
    }

    #[test]
    fn the_split_of_every_number_is_named() {
        let line = headline(&spec(Policy::Sora), &outcome(&[("matthews", 0.0662)], ("matthews", 0.0581)));
        assert_eq!(line, "test MCC 6.62 (checkpoint: epoch 3, validation 5.81)");
        let two = outcome(&[("accuracy", 0.7), ("f1", 0.8)], ("f1", 0.81));
        let line = headline(&spec(Policy::Sora), &two);
        assert_eq!(line, "test accuracy 70.00, F1 80.00 (checkpoint: epoch 3, validation F1 81.00)");
        let line = headline(&spec(Policy::Official), &two);
        assert_eq!(line, "development set accuracy 70.00, F1 80.00 (checkpoint: epoch 3, chosen on the same rows)");
    }

    #[test]
    fn a_checkpoint_before_the_final_budget_is_marked() {
        let of = |tfinal: f64| {
            let options = toml::Table::from_iter([("tfinal".to_string(), toml::Value::Float(tfinal))]);
            let spec = RunSpec { method: "adalora".into(), options, ..spec(Policy::Sora) };
            headline(&spec, &outcome(&[("matthews", 0.0662)], ("matthews", 0.0581)))
        };
        // Chosen after 60 of 100 steps; the budget is final from step 80, or from step 50.
        assert!(of(0.2).contains("(checkpoint: epoch 3 before the final budget, validation"), "{}", of(0.2));
        assert!(of(0.5).contains("(checkpoint: epoch 3, validation"), "{}", of(0.5));
    }
}

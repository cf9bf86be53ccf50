//! Signs of a run that collapsed. Such a run is shown with its mark, never averaged silently.

use crate::store::rows::EpochRow;

/// Steps after which a run should have learned something (our choice): a shorter one that predicts one class is not called collapsed.
const SHOULD_HAVE_LEARNED: usize = 50;

/// Whether a run of so many steps should have learned.
pub fn should_have_learned(steps: usize) -> bool {
    steps >= SHOULD_HAVE_LEARNED
}

/// Everything that speaks for a collapse, in words; empty for a healthy run.
pub fn collapse_reasons(dev_set: &str, predictions: &[f64], metrics: &[(String, f64)]) -> Vec<String> {
    let mut signs = Vec::new();
    if let Some(first) = predictions.first()
        && predictions.iter().all(|value| (value - first).abs() <= 1e-6 * first.abs().max(1.0))
    {
        signs.push(format!("every prediction on {dev_set} is {first}"));
    }
    if metrics.iter().any(|(name, value)| name == "matthews" && *value == 0.0) {
        signs.push(format!("Matthews correlation on {dev_set} is 0"));
    }
    signs
}

/// Whether the training loss never left where it started: the last epoch's mean within 1 % of the first's, or above it.
pub fn loss_is_flat(epochs: &[EpochRow]) -> Option<String> {
    let (first, last) = (epochs.first()?, epochs.last()?);
    if epochs.len() < 2 || last.task_loss < 0.99 * first.task_loss {
        return None;
    }
    Some(format!("the training loss stayed at {:.3} (first epoch {:.3})", last.task_loss, first.task_loss))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(task_loss: f64) -> EpochRow {
        EpochRow {
            epoch: 1,
            steps: 1,
            seconds: 1.0,
            task_loss,
            penalty: 0.0,
            tokens: 1,
            padded_tokens: 1,
            recordings: 0,
            recording_seconds: 0.0,
            peak_allocated_mib: None,
            peak_reserved_mib: None,
            peak_resident_mib: Some(1.0),
        }
    }

    #[test]
    fn constant_predictions_and_zero_correlation_are_signs() {
        let zero = [("matthews".to_string(), 0.0)];
        assert_eq!(collapse_reasons("dev", &[1.0, 1.0, 1.0], &zero).len(), 2);
        assert!(collapse_reasons("dev", &[1.0, 0.0, 1.0], &[("accuracy".into(), 0.6)]).is_empty());
        assert!(collapse_reasons("dev", &[2.500_000_1, 2.5], &[]).len() == 1, "a score that never moves");
    }

    #[test]
    fn a_loss_that_stays_is_a_sign() {
        assert!(loss_is_flat(&[epoch(0.693), epoch(0.692)]).is_some());
        assert!(loss_is_flat(&[epoch(0.693), epoch(0.5)]).is_none());
        assert!(loss_is_flat(&[epoch(0.693)]).is_none(), "one epoch tells nothing");
    }
}

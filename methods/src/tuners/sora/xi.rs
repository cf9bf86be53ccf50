//! The sparsifying schedule (spec §3.9).

use crate::error::{Error, Result};
use crate::tuners::sora::options::{SoraOptions, XiSpacing};

/// ξ of every stage (spec §3.9): one entry without a schedule.
///
/// # Errors
/// A list with a value that is not finite (exponential spacing from ξ = 0) or without entries.
pub fn xi_list(method: &'static str, options: &SoraOptions) -> Result<Vec<f64>> {
    let Some(schedule) = options.xi_schedule else {
        return Ok(vec![options.xi]);
    };
    let list = spaced(schedule.spacing, options.xi, schedule.max, schedule.stages);
    // The released optimiser starts from ξ itself, not from the list's first entry, which can differ in the last digit.
    let list: Vec<f64> = std::iter::once(options.xi).chain(list.into_iter().skip(1)).collect();
    if schedule.stages == 0 || list.iter().any(|xi| !xi.is_finite()) {
        return Err(Error::DoesNotFit {
            method,
            what: "xi_schedule",
            expected: "at least one stage, every threshold finite".into(),
            got: format!("{list:?}"),
            help: "exp_linear spacing needs xi > 0".into(),
        });
    }
    Ok(list)
}

/// `n` values from `low` to `high` (numpy's linspace, and the two other spacings of the released code).
pub fn spaced(spacing: XiSpacing, low: f64, high: f64, n: usize) -> Vec<f64> {
    match spacing {
        XiSpacing::Linear => linspace(low, high, n),
        XiSpacing::LogLinear => linspace(low.exp(), high.exp(), n).into_iter().map(f64::ln).collect(),
        XiSpacing::ExpLinear => linspace(low.ln(), high.ln(), n).into_iter().map(f64::exp).collect(),
    }
}

fn linspace(low: f64, high: f64, n: usize) -> Vec<f64> {
    let step = (high - low) / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i + 1 == n && n > 1 { high } else { i as f64 * step + low }).collect()
}

//! Figures. To add one: one file here that implements [`Figure`], and one line in [`FIGURES`].

mod curves;
mod ranks;
mod score_parameters;

use crate::report::figure::Figure;

/// Every figure, in the order of the report.
pub static FIGURES: &[&dyn Figure] = &[&score_parameters::ScoreParameters, &curves::Curves, &ranks::Ranks];

//! Figures. To add one: one file here that implements [`Figure`], and one line in [`FIGURES`].

mod curves;
mod gate_histograms;
mod loss_by_step;
mod nonzero_components;
mod rank_sweep;
mod ranks;
mod schedule;
mod score_parameters;
mod step_lines;
mod task_ranks;
mod tuning;

use crate::report::figure::Figure;

/// Every figure, in the order of the report.
pub static FIGURES: &[&dyn Figure] = &[
    &score_parameters::ScoreParameters,
    &rank_sweep::RankSweep,
    &schedule::Schedule,
    &tuning::ScoreByRate,
    &curves::Curves,
    &loss_by_step::LossByStep,
    &nonzero_components::NonzeroComponents,
    &gate_histograms::GateHistograms,
    &ranks::Ranks,
    &task_ranks::TaskRanksFigure,
];

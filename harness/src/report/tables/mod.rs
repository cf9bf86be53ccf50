//! Tables. To add one: one file here that implements [`Table`], and one line in [`TABLES`].

mod ablation;
pub mod cells;
mod claims;
mod cost;
mod efficiency;
mod footnotes;
mod literature;
mod one_task;
mod paired;
mod rank_agreement;
mod schedule;
mod table1;
mod table1_notes;
mod table2;
mod tuning;

use crate::report::table::Table;

/// Every table, in the order of the report.
pub static TABLES: &[&dyn Table] = &[
    &claims::ClaimsTable,
    &table1::Table1,
    &one_task::OneTask,
    &table2::Table2,
    &tuning::Tuning,
    &ablation::Ablation,
    &schedule::Schedule,
    &rank_agreement::RankAgreement,
    &paired::Paired,
    &efficiency::Efficiency,
    &cost::Cost,
    &literature::Literature,
    &literature::Reruns,
];

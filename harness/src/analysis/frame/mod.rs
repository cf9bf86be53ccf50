//! Rows of runs: typed frames, the rows of one run, its steps and gates, the group a run belongs to, and the label of its setting.

pub mod group;
pub mod label;
pub mod predictions;
pub mod read;
pub mod rows;
pub mod run;
pub mod traces;
pub mod typed;

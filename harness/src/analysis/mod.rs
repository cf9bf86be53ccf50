//! Numbers from stored runs, without formatting.

pub mod baseline;
pub mod claims;
pub mod columns;
pub mod comparability;
pub mod comparison;
pub mod cost;
pub mod curves;
pub mod efficiency;
pub mod examples;
pub mod frame;
pub mod literature;
pub mod paired;
pub mod plan_cost;
pub mod published;
pub mod rank_agreement;
pub mod rank_sweep;
pub mod ranks;
pub mod resample;
pub mod results;
pub mod row_comparison;
pub mod schedule;
pub mod score_parameters;
pub mod stats;
pub mod summary;
pub mod verdict;

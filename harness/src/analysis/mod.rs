//! Numbers from stored runs, without formatting.

pub mod baseline;
pub mod columns;
pub mod comparability;
pub mod comparison;
pub mod cost;
pub mod curves;
pub mod efficiency;
pub mod examples;
pub mod frame;
pub mod paired;
pub mod published;
pub mod ranks;
pub mod resample;
pub mod results;
pub mod row_comparison;
pub mod score_parameters;
pub mod stats;
pub mod summary;
pub mod verdict;

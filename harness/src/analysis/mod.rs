//! Numbers from stored runs, without formatting.

pub mod baseline;
pub mod columns;
pub mod comparability;
pub mod comparison;
pub mod examples;
pub mod frame;
pub mod published;
pub mod stats;
pub mod summary;
pub mod table1_rows;
pub mod verdict;

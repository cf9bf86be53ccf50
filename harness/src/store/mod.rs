//! Runs as directories.

pub mod adapter_task;
pub mod damage;
pub mod external;
pub mod files;
pub mod fsck;
pub mod holder;
pub mod lease;
pub mod leased_run;
pub mod mend;
pub mod read;
pub mod record;
pub mod rows;
pub mod run_store;
pub mod stored_spec;
pub mod sums;
pub mod survey;
pub mod unix_time;

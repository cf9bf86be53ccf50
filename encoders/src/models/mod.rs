//! One file an architecture.

pub mod bert;
pub mod deberta_v3;
pub mod electra;
pub mod modernbert;
pub mod roberta;

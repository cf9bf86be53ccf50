//! Frozen pre-trained encoders. An encoder publishes [`TargetModule`]s; what is attached there it does not know.

pub mod checkpoint;
pub mod config;
pub mod encoder;
pub mod error;
pub mod models;
pub mod nn;
pub mod pass;
pub mod registry;
pub mod target;

pub use checkpoint::file::TensorFile;
pub use config::Config;
pub use encoder::{Encoder, EncoderInfo};
pub use error::{Error, Result};
pub use nn::head::{Head, HeadParam};
pub use pass::{LayerObserver, Pass, TokenBatch};
pub use registry::{ENCODERS, load, random};
pub use target::{Attach, Frozen, LowRank, ModuleKind, TargetModule};

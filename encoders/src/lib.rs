//! Frozen pre-trained encoders. An encoder publishes [`Site`]s; what is attached there it does not know.

pub mod bert;
pub mod checkpoint;
pub mod config;
mod content;
pub mod deberta_v3;
pub mod encoder;
pub mod error;
pub mod file;
pub mod head;
pub mod parts;
mod pickle;
pub mod registry;
pub mod roberta;
pub mod site;

pub use config::Config;
pub use encoder::{Each, Encoder, Inputs};
pub use error::{Error, Result};
pub use file::TensorFile;
pub use head::{Head, HeadParam};
pub use parts::Trunk;
pub use registry::{ENCODERS, load, random};
pub use site::{Attach, Frozen, Pass, Site, SiteKind};

//! LoRA, AdaLoRA, SoRA and the baselines of their tables, and the training step they share.
//!
//! A [`Method`] decides what is attached at each [`encoders::Site`] and hooks into the [`step::Step`]; the step owns the
//! flat parameters ([`params`]), the optimisers ([`optim`]) and the order of calls. Nothing here knows an encoder.

pub mod adalora;
pub mod adapter;
pub mod bitfit;
pub mod bottleneck;
mod bounds;
pub mod budget;
pub mod count;
pub mod error;
pub mod export;
pub mod full;
pub mod import;
pub mod lora;
pub mod merge;
pub mod method;
pub mod optim;
pub mod params;
mod peft;
pub mod prox;
pub mod registry;
pub mod sora;
pub mod stack;
pub mod step;
pub mod weights;

pub use adapter::{Adapter, Adapters, LoraFactors};
pub use count::Counts;
pub use error::{Error, Result};
pub use method::{Context, Method, SiteRank, StepNumber};
pub use step::{Protocol, Step};

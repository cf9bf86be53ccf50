//! LoRA, AdaLoRA, SoRA, their relatives and the baselines of their tables, and the training step they share.
//!
//! A [`Method`] decides what is attached at each [`encoders::TargetModule`] and hooks into the
//! [`train_state::TrainState`]; the step owns the flat parameters ([`optim::params`]), the optimisers ([`optim`]) and
//! the order of calls. Nothing here knows an encoder.

pub mod adapter;
mod bound;
pub mod error;
pub mod method;
pub mod optim;
pub mod options;
pub mod peft;
pub mod registry;
pub mod train_state;
pub mod tuners;

pub use adapter::counts::Counts;
pub use adapter::lora_layer::{LoraLayer, LoraLayers, LoraWeights};
pub use error::{Error, Result};
pub use method::{Context, Method, ModuleRank};
pub use optim::config::OptimConfig;
pub use optim::step_counter::StepCounter;
pub use train_state::TrainState;

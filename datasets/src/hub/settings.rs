//! How the Hub is reached.

use std::path::PathBuf;
use std::time::Duration;

use crate::hub::env::Environment;

/// How the Hub is reached; [`Settings::from_env`] reads what Python's client reads.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Server; the public one where it is `None` (`HF_ENDPOINT`).
    pub endpoint: Option<String>,
    /// Cache in the layout Python shares (`HF_HUB_CACHE`, or `hub` below `HF_HOME`, or `~/.cache/huggingface/hub`).
    pub cache: PathBuf,
    /// Token (`HF_TOKEN`, or the file `HF_TOKEN_PATH`, or `token` below `HF_HOME`).
    pub token: Option<String>,
    /// Whether only the cache is used (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`).
    pub is_offline: bool,
    /// Attempts at one file.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles with each further one.
    pub first_wait: Duration,
    /// How long a connection may give nothing.
    pub patience: Duration,
}

impl Settings {
    /// Settings of the environment.
    pub fn from_env() -> Self {
        let environment = Environment(|name: &str| std::env::var(name).ok());
        Settings {
            endpoint: environment.endpoint(),
            cache: environment.cache(),
            token: environment.token(),
            is_offline: environment.is_offline(),
            attempts: 5,
            first_wait: Duration::from_secs(1),
            patience: Duration::from_secs(60),
        }
    }
}

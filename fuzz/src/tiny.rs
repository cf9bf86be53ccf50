//! A tiny backbone for what is read beside one.

use std::path::Path;

use encoders::{Config, Encoder};
use tch::{Device, Kind};

/// Its configuration.
pub const CONFIG: &str = include_str!("../../tests/fixtures/pickled/config.json");

/// The backbone with random weights.
pub fn encoder() -> Box<dyn Encoder> {
    let config = Config::parse(CONFIG, Path::new("config.json")).expect("the configuration is sound");
    encoders::random(&config, 1, Device::Cpu, Kind::Float).expect("the configuration is sound")
}

/// Reads an input as the weights of the backbone: every tensor by its name, and the whole.
pub fn load(name: &str, input: &[u8]) {
    let path = crate::write(name, input);
    crate::check(input.len(), || {
        if let Ok(file) = encoders::TensorFile::open(&path) {
            file.names().for_each(|name| drop(file.read(name)));
        }
        drop(encoders::load(crate::dir(), Device::Cpu, Kind::Float));
    });
}

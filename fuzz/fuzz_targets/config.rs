//! `config.json` beside the weights of a tiny model of every architecture.
#![no_main]

use std::path::Path;

use encoders::ENCODERS;
use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, dir, start, write};
use tch::{Device, Kind};

fn prepare() {
    start();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz/safetensors");
    for name in ENCODERS.iter().map(|entry| entry.model_type) {
        std::fs::create_dir_all(dir().join(name)).unwrap();
        write(&format!("{name}/model.safetensors"), &std::fs::read(seeds.join(name)).unwrap());
    }
}

fuzz_target!(init: prepare(), |input: &[u8]| {
    let write_beside = |name: &str| write(&format!("{name}/config.json"), input);
    let paths: Vec<_> = ENCODERS.iter().map(|entry| write_beside(entry.model_type)).collect();
    check(input.len(), || {
        for path in &paths {
            drop(encoders::load(path.parent().unwrap(), Device::Cpu, Kind::Float));
        }
    });
});

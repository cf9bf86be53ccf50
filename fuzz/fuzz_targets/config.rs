//! `config.json` beside the weights of a tiny backbone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, dir, start, write};
use tch::{Device, Kind};

const WEIGHTS: [(&str, &[u8]); 3] = [
    ("bert", include_bytes!("../../tests/fixtures/fuzz/safetensors/bert")),
    ("roberta", include_bytes!("../../tests/fixtures/fuzz/safetensors/roberta")),
    ("deberta-v2", include_bytes!("../../tests/fixtures/fuzz/safetensors/deberta-v2")),
];

fn prepare() {
    start();
    for (name, weights) in WEIGHTS {
        std::fs::create_dir_all(dir().join(name)).unwrap();
        write(&format!("{name}/model.safetensors"), weights);
    }
}

fuzz_target!(init: prepare(), |input: &[u8]| {
    let paths = WEIGHTS.map(|(name, _)| write(&format!("{name}/config.json"), input));
    check(input.len(), || {
        for path in &paths {
            drop(encoders::load(path.parent().unwrap(), Device::Cpu, Kind::Float));
        }
    });
});

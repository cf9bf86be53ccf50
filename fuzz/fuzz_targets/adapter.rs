//! `adapter_config.json`, and after a zero byte the adapter's weights, read for a tiny backbone and attached to it.
#![no_main]

use std::cell::LazyCell;

use encoders::Encoder;
use libfuzzer_sys::fuzz_target;
use methods::registry::read_adapter;
use rankbench_fuzz::{check, dir, start, tiny, two, write};

thread_local! {
    static ENCODER: LazyCell<Box<dyn Encoder>> = const { LazyCell::new(tiny::encoder) };
}

fuzz_target!(init: start(), |input: &[u8]| {
    let (config, weights) = two(input);
    let weights = weights.unwrap_or_default();
    write("adapter_config.json", config);
    let is_pickle = weights.starts_with(b"PK") || weights.starts_with(b"\x80");
    let [name, other] = ["adapter_model.bin", "adapter_model.safetensors"];
    let (name, other) = if is_pickle { (name, other) } else { (other, name) };
    write(name, weights);
    let _ = std::fs::remove_file(dir().join(other));
    ENCODER.with(|encoder| {
        check(input.len(), || {
            let Ok(adapter) = read_adapter(dir(), encoder.as_ref()) else { return };
            drop(adapter.attach(encoder.as_ref()));
        });
    });
});

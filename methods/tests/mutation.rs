//! Seeded mutations of an adapter's files: an adapter or an error, and no failure of a library. `MUTATIONS=10000` makes more of
//! them than the quick form.

use std::collections::BTreeMap;
use std::path::Path;

use methods::LoraWeights;
use methods::peft::format::TrainedAdapter;
use methods::peft::low_rank::adapter::LowRankAdapter;
use methods::registry::read_adapter;
use tch::{Device, Kind, Tensor};

/// Numbers that are the same in every run (Knuth's multiplier).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }
}

const ODD: &[&str] = &[
    "0",
    "-1",
    "1",
    "9223372036854775807",
    "1e308",
    "0.5",
    "null",
    "true",
    "\"\"",
    "\"(a+)+$\"",
    "\"(\"",
    "[]",
    "[1]",
    "[\"(\"]",
    "{}",
    "{\"(x+x+)+y\": 3}",
    "{\"query\": 1}",
    "[[[[[]]]]]",
    "\"all-linear\"",
    "\".*\"",
];

#[test]
fn configurations_and_weights_do_no_harm() {
    let tiny = encoders::ENCODERS[0].tiny;
    let config = encoders::Config::parse(tiny, Path::new("tiny")).unwrap();
    let encoder = encoders::random(&config, 7, Device::Cpu, Kind::Float).unwrap();
    let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.1;
    let of_site = |module: &encoders::TargetModule| {
        let (a, b) = (random([2, module.d_in]), random([module.d_out, 2]));
        (module.path.clone(), LoraWeights { a, b, scale: 1.5, magnitude: None })
    };
    let factors = encoder.info().target_modules.iter().take(3).map(of_site).collect();
    let head =
        encoder.new_head(2, 0).params.into_iter().map(|param| (param.name, param.init)).collect::<BTreeMap<_, _>>();
    let files = LowRankAdapter { factors, tensors: head, ..LowRankAdapter::default() }.write("tiny").unwrap();
    let (config, weights) = (files.config, files.weights);
    let mut names: Vec<String> = config.as_object().unwrap().keys().cloned().collect();
    names.extend(["layers_to_transform", "layers_pattern", "exclude_modules", "lora_bias", "init_r"].map(String::from));

    let dir = tempfile::tempdir().unwrap();
    let read = |config: &str, weights: &[u8]| {
        std::fs::write(dir.path().join("adapter_config.json"), config).unwrap();
        std::fs::write(dir.path().join("adapter_model.safetensors"), weights).unwrap();
        read_adapter(dir.path(), encoder.as_ref()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(read(&config.to_string(), &weights), Ok(()));
    let rounds = std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let mut numbers = Numbers(5);
    for round in 0..rounds {
        let said = if round % 3 == 0 {
            let mut bytes = weights.clone();
            // The length of the header, and the header.
            let end = 8 + u64::from_le_bytes(*weights.first_chunk().unwrap()) as usize;
            for _ in 0..=numbers.below(3) {
                bytes[numbers.below(end)] = numbers.below(256) as u8;
            }
            read(&config.to_string(), &bytes)
        } else {
            let mut other = config.clone();
            let value = serde_json::from_str(ODD[numbers.below(ODD.len())]).unwrap();
            other[names[numbers.below(names.len())].as_str()] = value;
            read(&other.to_string(), &weights)
        };
        assert!(!said.as_ref().err().is_some_and(|text| text.contains("a library failed")), "{said:?}");
    }
}

//! Seeded mutations of the files of a backbone: an encoder or an error, soon and in little memory, whatever they hold.
//! `MUTATIONS=10000` makes more of them than the quick form.

use std::path::Path;
use std::time::{Duration, Instant};

use tch::{Device, Kind};

/// Numbers that are the same in every run (Knuth's multiplier).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

const ODD: &[&str] = &[
    "0",
    "-1",
    "1",
    "3",
    "65536",
    "2147483648",
    "9223372036854775807",
    "1e308",
    "0.5",
    "-0.5",
    "1.0",
    "null",
    "true",
    "\"\"",
    "\"gelu\"",
    "\"\\u0000\"",
    "[]",
    "[1]",
    "{}",
    "{\"0\": [0]}",
    "[[[[[]]]]]",
];

fn mutations() -> usize {
    std::env::var("MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

fn pickled(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pickled").join(name)).unwrap()
}

/// Largest memory of the process so far, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Writes files and loads them; gives what was said.
fn load(config: &[u8], weights: (&str, &[u8])) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    std::fs::write(dir.path().join(weights.0), weights.1).unwrap();
    let start = Instant::now();
    let said = encoders::load(dir.path(), Device::Cpu, Kind::Float).err().map(|error| error.to_string());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?} for {said:?}", start.elapsed());
    said
}

fn scattered(numbers: &mut Numbers, bytes: &[u8], end: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(3) {
        let place = numbers.below(end.min(bytes.len()));
        match numbers.below(3) {
            0 => bytes[place] = numbers.below(256) as u8,
            1 => drop(bytes.remove(place)),
            _ => bytes.insert(place, *numbers.of(b"\x00\xff0129{}[]\",:.e(tRq")),
        }
    }
    bytes
}

/// One option of a configuration has another value.
fn other_option(numbers: &mut Numbers, tiny: &str) -> String {
    let mut options: serde_json::Map<String, serde_json::Value> = serde_json::from_str(tiny).unwrap();
    let names: Vec<String> = options.keys().cloned().collect();
    let value = serde_json::from_str(numbers.of::<&str>(ODD)).unwrap();
    options.insert(numbers.of(&names).clone(), value);
    serde_json::Value::Object(options).to_string()
}

#[test]
fn configurations_do_no_harm() {
    let before = peak();
    for entry in encoders::ENCODERS {
        let config = encoders::Config::parse(entry.tiny, Path::new("tiny")).unwrap();
        let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
        let stored: Vec<(String, Vec<usize>, Vec<u8>)> = encoder
            .info()
            .weights
            .iter()
            .map(|(name, tensor)| {
                let values = Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
                let shape = tensor.size().iter().map(|&n| n as usize).collect();
                (name.clone(), shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            })
            .collect();
        let views = stored.iter().map(|(name, shape, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
            (name.as_str(), view)
        });
        let weights = safetensors::serialize(views, None).unwrap();
        assert_eq!(load(entry.tiny.as_bytes(), ("model.safetensors", &weights)), None);
        let mut numbers = Numbers(1);
        for round in 0..mutations() {
            let text = match round % 3 {
                0 => String::from_utf8_lossy(&scattered(&mut numbers, entry.tiny.as_bytes(), usize::MAX)).into_owned(),
                _ => other_option(&mut numbers, entry.tiny),
            };
            let said = load(text.as_bytes(), ("model.safetensors", &weights)).unwrap_or_default();
            assert!(!said.contains("a library failed"), "{text}: {said}");
        }
    }
    assert!(peak() - before < 300, "{} MiB, then {}", before, peak());
}

#[test]
fn headers_of_safetensors_and_pickles_do_no_harm() {
    let config = pickled("config.json");
    let before = peak();
    for (name, bytes, end) in [
        ("pytorch_model.bin", pickled("pytorch_model.bin"), usize::MAX),
        ("pytorch_model.bin", pickled("pytorch_model.bin"), 3000),
        ("pytorch_model.bin", pickled("legacy.bin"), 4000),
        ("model.safetensors", pickled("legacy.bin"), 100),
    ] {
        let mut numbers = Numbers(2);
        for _ in 0..mutations() {
            load(&config, (name, &scattered(&mut numbers, &bytes, end)));
        }
    }
    let header = br#"{"bert.embeddings.word_embeddings.weight":{"dtype":"F32","shape":[8,4],"data_offsets":[0,128]}}"#;
    let mut whole = (header.len() as u64).to_le_bytes().to_vec();
    whole.extend(header);
    let end = whole.len();
    whole.extend([0; 128]);
    let mut numbers = Numbers(3);
    for _ in 0..mutations() {
        load(&config, ("model.safetensors", &scattered(&mut numbers, &whole, end)));
    }
    assert!(peak() - before < 300, "{} MiB, then {}", before, peak());
}

//! A tiny backbone, tiny data in GLUE's own files, and the binary.
#![allow(dead_code, unused_imports)] // Every test binary uses its own part.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use encoders::{Config, ENCODERS};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

/// A directory with a backbone in `tiny` and GLUE files in `glue`.
pub struct World {
    pub dir: TempDir,
}

/// One line of text a row, from words the tiny vocabulary holds.
pub const WORDS: [&str; 12] = ["good", "bad", "the", "film", "is", "not", "a", "story", "dull", "fine", "very", "plot"];

impl World {
    pub fn new() -> Self {
        let world = World { dir: TempDir::new().unwrap() };
        world.write_backbone();
        world.write_glue();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn write_backbone(&self) {
        let tiny = ENCODERS.iter().find(|entry| entry.model_type == "bert").unwrap().tiny;
        self.write("tiny/config.json", tiny);
        let config = Config::parse(tiny, Path::new("tiny")).unwrap();
        let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
        self.write("tiny/model.safetensors", case::safetensors_bytes(&encoder.info().weights));
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        self.write("tiny/vocab.txt", special.iter().chain(&WORDS).map(|w| format!("{w}\n")).collect::<String>());
    }

    /// RTE, SST-2 and STS-B in the official layout, a few rows each: a label can be told from the words.
    fn write_glue(&self) {
        self.write("glue/SST-2/train.tsv", sst2(48));
        self.write("glue/SST-2/dev.tsv", sst2(16));
        self.write("glue/RTE/train.tsv", rte(48));
        self.write("glue/RTE/dev.tsv", rte(16));
        self.write("glue/STS-B/train.tsv", stsb(48));
        self.write("glue/STS-B/dev.tsv", stsb(16));
    }

    /// A recipe for SST-2 of this world; `extra` is appended.
    pub fn recipe(&self, extra: &str) -> PathBuf {
        let text = format!(
            r#"name = "tiny"
tasks = ["sst2"]
methods = ["lora", "adalora", "sora"]
seeds = [0]
backbone = "{}"
[data]
source = "glue"
split = "official"
[train]
epochs = 2
batch_size = 8
lr = 2e-2
warmup_ratio = 0.1
weight_decay = 0.01
decay_order = "before"
max_grad_norm = 1.0
max_length = 16
padding = {{ bucket = 4 }}
order = "random"
evaluate = {{ epochs = 1 }}
train_head = true
precision = "fp32"
{extra}"#,
            self.path("tiny").display()
        );
        self.write("tiny.toml", text);
        self.path("tiny.toml")
    }

    /// `rankbench` on the CPU with one thread, away from the user's own environment.
    pub fn rankbench(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("rankbench").unwrap();
        command.current_dir(self.dir.path()).env("OMP_NUM_THREADS", "1").env("NO_COLOR", "1").env("COLUMNS", "200");
        command.env("HF_HOME", self.path("hf")).env("HF_HUB_OFFLINE", "1");
        for name in ["GLUE_DIR", "HF_ENDPOINT", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH"] {
            command.env_remove(name);
        }
        command.env("RANKBENCH_HOME", self.dir.path()).args(arguments);
        command
    }

    /// `rankbench run` of [`World::recipe`] on this world's files, runs below `out`.
    pub fn run(&self, extra: &[&str]) -> Command {
        if !self.path("tiny.toml").exists() {
            self.recipe("");
        }
        let mut command = self.rankbench(&["run", "--recipe", "tiny.toml", "--device", "cpu", "--allow-unlocked"]);
        for (flag, value) in [("--glue", "glue"), ("--out", "out")] {
            if !extra.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command.args(extra);
        command
    }
}

pub fn sst2(rows: usize) -> String {
    let row = |i: usize| {
        let (word, label) = if i.is_multiple_of(2) { ("good", 1) } else { ("bad", 0) };
        format!("the {} is {word} {} \t{label}\n", WORDS[i % 12], WORDS[(i / 12 + i) % 12])
    };
    std::iter::once("sentence\tlabel\n".to_string()).chain((0..rows).map(row)).collect()
}

fn stsb(rows: usize) -> String {
    let row = |i: usize| {
        let (second, score) = [("good", 5.0), ("fine", 3.2), ("bad", 0.4)][i % 3];
        let origin = "captions\tfile\t2012\t1\tnone\tnone";
        format!("{i}\t{origin}\tthe {} is good\ta {second} {}\t{score:.3}\n", WORDS[i % 12], WORDS[(i / 12) % 12])
    };
    let names = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";
    std::iter::once(names.to_string()).chain((0..rows).map(row)).collect()
}

pub fn rte(rows: usize) -> String {
    let row = |i: usize| {
        let label = if i.is_multiple_of(2) { "entailment" } else { "not_entailment" };
        let second = if i.is_multiple_of(2) { "good" } else { "dull" };
        format!("{i}\tthe {} is good\ta {second} {}\t{label}\n", WORDS[i % 12], WORDS[(i / 12) % 12])
    };
    std::iter::once("index\tsentence1\tsentence2\tlabel\n".to_string()).chain((0..rows).map(row)).collect()
}

/// Standard error and exit code of a command that must fail.
pub fn failure(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or(-1);
    assert_ne!(code, 0, "it did not fail:\n{text}");
    let joined = one_line(&text);
    assert!(!joined.contains("panicked"), "it panicked:\n{text}");
    (code, joined)
}

pub mod process;
pub mod runs;
pub mod stored;

#[path = "../../../methods/tests/support/case.rs"]
mod case;

pub use case::safetensors_bytes;

/// A float32 tensor of random values.
pub fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// miette wraps lines at the terminal's width and draws a bar: a message is easier to look for on one line.
pub fn one_line(text: &str) -> String {
    text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

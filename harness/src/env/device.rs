//! The device a run is made on.

use clap::ValueEnum;
use tch::{Cuda, Device, Kind, Tensor};

use crate::env::panics;
use crate::error::{Error, Result};

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The first GPU where there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU.
    Cuda,
}

impl Choice {
    /// The device.
    ///
    /// # Errors
    /// A GPU is asked for and none is usable.
    pub fn device(self) -> Result<Device> {
        if self != Choice::Cpu {
            torch_ext::device::load_cuda();
        }
        match self {
            Choice::Cpu => Ok(Device::Cpu),
            Choice::Auto if !Cuda::is_available() => Ok(Device::Cpu),
            Choice::Cuda if !Cuda::is_available() => Err(Error::Environment(format!(
                "no usable GPU: libtorch {} sees {} CUDA devices, driver {}. Run with --device cpu, or see `rankbench doctor`",
                torch_ext::device::version(),
                Cuda::device_count(),
                driver().unwrap_or_else(|| "not loaded".into())
            ))),
            Choice::Auto | Choice::Cuda => Ok(Device::Cuda(0)),
        }
    }
}

/// `cpu` or `cuda`: what of the device is part of a run's identity.
pub fn kind(device: Device) -> &'static str {
    if device.is_cuda() { "cuda" } else { "cpu" }
}

/// The device in words: model of the GPU or of the processor with its threads.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => {
            let card = visible_name(index).parse().ok().and_then(|card: usize| gpu_models().get(card).cloned());
            card.unwrap_or_else(|| format!("CUDA device {index}"))
        }
        _ => format!("{}, {} threads", processor(), tch::get_num_threads()),
    }
}

/// Name of a visible GPU for CUDA_VISIBLE_DEVICES: its number among all, or what that variable calls it.
pub fn visible_name(index: usize) -> String {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let named = visible.split(',').nth(index).map(str::trim).filter(|name| !name.is_empty());
    named.map_or_else(|| index.to_string(), str::to_string)
}

/// Whether a device still computes. After some errors a GPU does nothing more for the process, and every run would fail.
pub fn is_usable(device: Device) -> bool {
    let computes = || Ok(Tensor::ones([64], (Kind::Float, device)).sum(Kind::Float).double_value(&[]) == 64.0);
    device == Device::Cpu || panics::guarded(computes).unwrap_or(false)
}

/// Model names of the GPUs as the driver lists them.
pub fn gpu_models() -> Vec<String> {
    let mut cards: Vec<_> = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten().collect();
    cards.sort_by_key(std::fs::DirEntry::file_name);
    let model =
        |card: &std::fs::DirEntry| field(&std::fs::read_to_string(card.path().join("information")).ok()?, "Model");
    cards.iter().filter_map(model).collect()
}

/// Version of a GPU's driver; empty for a CPU.
pub fn driver_of(device: Device) -> String {
    if device.is_cuda() { driver().unwrap_or_default() } else { String::new() }
}

/// Version of the GPU driver, where one is loaded.
pub fn driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_string)
}

/// Model name of the processor.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    field(&text, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_string())
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_string())
}

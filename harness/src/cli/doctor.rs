//! `rankbench doctor`: versions, devices, where each thing was found, what is missing.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Map, Value};
use tch::{Cuda, Device, Kind};

use crate::analysis::plan_cost::by_setting;
use crate::cli::job::{Job, RecipeFlags, recipe};
use crate::cli::plan::Estimates;
use crate::env::device;
use crate::env::memory;
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::preflight::preflight;
use crate::load::download;
use crate::load::paths;
use crate::plan::recipe::embedded_names;
use crate::store::sums::sum;

/// Bytes of a mebibyte.
const MIB: f64 = (1 << 20) as f64;

/// `rankbench doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Also look at what the runs of a recipe need: disk, memory, kernels, and one step of every kind of run.
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<String>,
    /// Directory that the runs would go to; its disk is looked at.
    #[arg(long, default_value = "results", value_name = "OUT", requires = "recipe")]
    out: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: RecipeFlags,
}

/// A name and what was found.
type Finding = (String, String);

impl Doctor {
    /// Prints the findings, as JSON or as lines; what is missing comes with the way to get it.
    ///
    /// # Errors
    /// A backbone or recipe that was asked for and does not work here; a bundle that is not as it was made. Any other missing thing is a
    /// finding.
    pub(super) fn run(&self) -> Result<()> {
        let mut found = findings();
        found.extend(bundle(&paths::dir())?);
        if let (Some(name), None) = (&self.flags.backbone, &self.recipe) {
            found.push(("backbone".into(), reading(name)?));
        }
        let checked = match &self.recipe {
            Some(name) => rehearse(&self.flags.job(&recipe(name)?)?, &self.out, &mut found),
            None => Ok(()),
        };
        match self.json {
            true => {
                let object: Map<String, Value> =
                    found.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
                output::print(format_args!("{:#}", Value::Object(object)));
            }
            false => found.iter().for_each(|(name, text)| output::print(format_args!("{name:<13} {text}"))),
        }
        checked
    }
}

/// Looks at what a recipe's runs need, and makes a few steps and an evaluation of every kind of run.
///
/// # Errors
/// A kind of run that does not work here; too little disk or memory. What was found before it is kept.
fn rehearse(job: &Job, out: &Path, found: &mut Vec<Finding>) -> Result<()> {
    preflight(&job.plan, &job.backbone, &job.data)?;
    let (mut known, mut peak, mut needed) = (Estimates::default(), 0f64, 0.0);
    for (spec, runs) in by_setting(&job.plan) {
        needed += runs as f64 * job.disk_mib(spec)?;
        let estimate = known.of(spec, job)?;
        peak = peak.max(estimate.peak_mib.unwrap_or_default());
        let name = [spec.task.as_str(), &spec.method, &spec.label].join(" ");
        found.push((
            format!("step of {}", name.trim_end()),
            format!(
                "{:.1} ms, an evaluation {:.1} s, peak memory {:.0} MiB; {runs} runs of it",
                1e3 * estimate.step_seconds,
                estimate.evaluation_seconds,
                estimate.peak_mib.unwrap_or_default()
            ),
        ));
    }
    // A run that does not fit into a GPU has failed above.
    let here = if job.backbone.device.is_cuda() { None } else { memory::free_mib() };
    let here = here.map_or(String::new(), |mib| format!(", {mib:.0} MiB are free"));
    found.push(("memory".into(), format!("the largest run takes {peak:.0} MiB{here}")));
    let free = free_disk_mib(out)?;
    found.push(("disk".into(), format!("{free:.0} MiB free for {}, about {needed:.0} MiB needed", out.display())));
    if needed > free {
        return Err(Error::Environment(format!(
            "{} has {free:.0} MiB left and the runs need about {needed:.0}: free some, or choose another --out",
            out.display()
        )));
    }
    Ok(())
}

/// Mebibytes that are free on the disk of a directory that need not be there yet.
fn free_disk_mib(dir: &Path) -> Result<f64> {
    let full = std::path::absolute(dir).map_err(|e| Error::input(dir, e))?;
    let there = full.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let name = CString::new(there.as_os_str().as_bytes()).map_err(|e| Error::input(there, e))?;
    // SAFETY: zeroes are a valid statvfs, and the call only fills it in.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    match unsafe { libc::statvfs(name.as_ptr(), &mut stat) } {
        0 => Ok(stat.f_bavail as f64 * stat.f_frsize as f64 / MIB),
        _ => Err(Error::input(there, std::io::Error::last_os_error())),
    }
}

fn findings() -> Vec<Finding> {
    torch_ext::device::load_cuda();
    let home = paths::dir();
    let mut found = vec![
        ("rankbench", format!("{} at {}", env!("CARGO_PKG_VERSION"), program())),
        ("project", home.canonicalize().unwrap_or(home.clone()).display().to_string()),
        ("libtorch", format!("{} at {}", torch_ext::device::version(), loaded("libtorch_cpu.so"))),
        ("python torch", python_torch()),
        ("processor", format!("{}, libtorch uses {} threads", device::processor(), tch::get_num_threads())),
        ("GPU", gpus()),
    ];
    let devices = 0..usize::try_from(Cuda::device_count()).unwrap_or(0);
    found.extend(devices.map(|index| ("kernels", kernels(index))));
    found.extend([
        ("recipes", embedded_names()),
        ("backbones", backbones(&home.join(paths::BACKBONES))),
        ("GLUE", glue()),
    ]);
    found.into_iter().map(|(name, text)| (name.to_string(), text)).collect()
}

/// Reads a backbone's weights and says what it cost.
fn reading(name: &str) -> Result<String> {
    let place = paths::backbone(name, &download::hub())?;
    torch_ext::device::reset_peak_memory(Device::Cpu)?;
    let resident = || Ok::<_, Error>(torch_ext::device::peak_memory(Device::Cpu)?.resident.unwrap_or(0));
    let (before, started) = (resident()?, Instant::now());
    let encoder = encoders::load(&place.dir, Device::Cpu, Kind::Float)?;
    let (seconds, peak) = (started.elapsed().as_secs_f64(), resident()?);
    let parameters: usize = encoder.info().weights.iter().map(|(_, tensor)| tensor.numel()).sum();
    let times = peak.saturating_sub(before) as f64 / (4 * parameters) as f64;
    Ok(format!(
        "{}: {:.1}M parameters read in {seconds:.2} s, peak memory grew by {times:.2} times their float32 size",
        place.name,
        parameters as f64 / 1e6
    ))
}

/// Holds the files of a bundle against its list of sums, which only a bundle has.
fn bundle(home: &Path) -> Result<Option<Finding>> {
    let list = home.join("SHA256SUMS");
    let Ok(text) = std::fs::read_to_string(&list) else { return Ok(None) };
    let is_other = |line: &str| {
        let (expected, name) = line.split_once("  ")?;
        match sum(&home.join(name)) {
            Ok(found) if found == expected => None,
            Ok(_) => Some(format!("{name} has another sha256")),
            Err(error) => Some(error.to_string()),
        }
    };
    let wrong: Vec<String> = text.lines().filter_map(is_other).collect();
    if wrong.is_empty() {
        return Ok(Some(("bundle".into(), format!("{} files are as they were made", text.lines().count()))));
    }
    Err(Error::Input(format!(
        "the bundle in {} is not as it was made: {}; copy it again",
        home.display(),
        wrong.join(", ")
    )))
}

fn program() -> String {
    paths::program().map_or_else(|e| format!("unknown ({e})"), |path| path.display().to_string())
}

/// Where the running process has a library from.
fn loaded(library: &str) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = maps.lines().find_map(|line| line.split_whitespace().last().filter(|path| path.ends_with(library)));
    path.unwrap_or("an unknown place").to_string()
}

/// Version of the Python package whose libtorch was loaded.
fn python_torch() -> String {
    let library = PathBuf::from(loaded("libtorch_cpu.so"));
    let Some(package) = library.ancestors().nth(2) else { return "unknown".into() };
    let Ok(text) = std::fs::read_to_string(package.join("version.py")) else {
        return format!(
            "none: {} is no Python package, which only tests and figures of the peers need",
            package.display()
        );
    };
    let version = text.lines().find_map(|line| line.strip_prefix("__version__ = ")).unwrap_or("?").trim_matches('\'');
    let wanted = torch_ext::device::version();
    match version.split('+').next() == Some(wanted.as_str()) {
        true => version.to_string(),
        false => format!("{version}, but this binary was built with {wanted}: run `./justw setup`, then build again"),
    }
}

fn gpus() -> String {
    let models = device::gpu_models();
    let driver = device::driver().unwrap_or_else(|| "not loaded".into());
    match (Cuda::is_available(), models.is_empty()) {
        (true, _) => format!("{} usable: {}; driver {driver}", Cuda::device_count(), models.join(", ")),
        (false, false) => format!("{} found but not usable by this libtorch; driver {driver}", models.join(", ")),
        (false, true) => "none; runs use the CPU".into(),
    }
}

/// The path that steps on a GPU take.
fn kernels(index: usize) -> String {
    let architecture = match torch_ext::nvrtc::architecture(index) {
        Ok(architecture) => architecture,
        Err(error) => return format!("none, steps use plain tensors: {error}"),
    };
    let titles: Vec<&str> = torch_ext::nvrtc::supported(architecture).map(|module| module.title).collect();
    let missing = if titles.len() < torch_ext::nvrtc::MODULES.len() { "; the rest by plain tensors" } else { "" };
    format!("GPU {index} (sm_{architecture}): {}{missing}", titles.join(", "))
}

fn backbones(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("config.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    match names.is_empty() {
        true => format!("missing: none below {}; `./justw setup` fetches all-MiniLM-L6-v2", dir.display()),
        false => format!("{} below {}", names.join(", "), dir.display()),
    }
}

fn glue() -> String {
    match std::env::var("GLUE_DIR") {
        Ok(dir) if Path::new(&dir).is_dir() => dir,
        Ok(dir) => format!("GLUE_DIR is {dir}, which is no directory"),
        Err(_) => "not set (GLUE_DIR or --glue); the embedded synthetic data needs nothing".into(),
    }
}

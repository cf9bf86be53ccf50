//! `--gpus` and `--jobs`: the worker processes of a sweep.

use std::process::Command;
use std::str::FromStr;

use tch::Cuda;

use crate::env::device::{self, Choice};
use crate::error::{Error, Result};
use crate::launch::pool::Worker;

/// `--gpus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gpus {
    /// Every GPU that is visible.
    All,
    /// These, by their numbers among the visible ones.
    These(Vec<usize>),
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if text == "all" {
            return Ok(Gpus::All);
        }
        let wrong = |_| format!("'{text}' is neither `all` nor numbers with commas, such as 0,1");
        let mut numbers: Vec<usize> =
            text.split(',').map(|n| n.trim().parse()).collect::<std::result::Result<_, _>>().map_err(wrong)?;
        let given = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() == given { Ok(Gpus::These(numbers)) } else { Err(format!("'{text}' names a GPU twice")) }
    }
}

/// The workers of a sweep: `jobs` for each GPU, or on the CPU. Each is this program with the same flags.
///
/// # Errors
/// A GPU that is not there.
pub fn workers(gpus: Option<&Gpus>, device: Choice, jobs: usize) -> Result<Vec<Worker>> {
    let found = if device == Choice::Cpu { 0 } else { visible_gpus() };
    let chosen: Vec<usize> = match gpus {
        None if found == 0 => return (1..=jobs).map(|job| on_the_cpu(job, device, jobs)).collect(),
        None => vec![0],
        Some(Gpus::All) if found > 0 => (0..found).collect(),
        Some(Gpus::These(numbers)) if numbers.iter().all(|number| *number < found) => numbers.clone(),
        Some(_) => {
            return Err(Error::Environment(format!(
                "--gpus: {found} GPUs are usable here{}; see `rankbench doctor`",
                if device == Choice::Cpu { " with --device cpu" } else { "" }
            )));
        }
    };
    let mut workers = Vec::new();
    for gpu in chosen {
        for job in 1..=jobs {
            let name = if jobs > 1 { format!("GPU {gpu}, job {job}") } else { format!("GPU {gpu}") };
            let mut command = worker()?;
            // A worker whose GPU has gone must not go on with a CPU: its runs would be other runs.
            if device == Choice::Auto {
                command.args(["--device", "cuda"]);
            }
            command.env("CUDA_DEVICE_ORDER", "PCI_BUS_ID").env("CUDA_VISIBLE_DEVICES", device::visible_name(gpu));
            workers.push(Worker { name, command });
        }
    }
    Ok(workers)
}

fn visible_gpus() -> usize {
    torch_ext::device::load_cuda();
    usize::try_from(Cuda::device_count()).unwrap_or(0)
}

/// This program with its flags, as a worker.
fn worker() -> Result<Command> {
    let program = std::env::current_exe().map_err(|e| Error::Environment(format!("cannot find this program: {e}")))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--worker");
    Ok(command)
}

/// A worker on the CPU, with its share of the cores unless OMP_NUM_THREADS says otherwise.
fn on_the_cpu(job: usize, device: Choice, jobs: usize) -> Result<Worker> {
    let mut command = worker()?;
    if device == Choice::Auto {
        command.args(["--device", "cpu"]);
    }
    if std::env::var_os("OMP_NUM_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.env("OMP_NUM_THREADS", (cores / jobs).max(1).to_string());
    }
    Ok(Worker { name: format!("job {job}"), command })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_all_or_numbers() {
        assert_eq!("all".parse(), Ok(Gpus::All));
        assert_eq!("1,0".parse(), Ok(Gpus::These(vec![0, 1])));
        for wrong in ["", "one", "0,,1", "-1", "0,0"] {
            assert!(wrong.parse::<Gpus>().is_err(), "{wrong}");
        }
    }
}

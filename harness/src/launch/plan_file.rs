//! A plan as a file: one line of JSON for each run, or stack of runs, that a job of a cluster makes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::spec::RunSpec;
use crate::store::files::write_atomically;

/// Variables by which schedulers tell a task of an array its index: Slurm, HyperQueue, Kubernetes.
const INDEX_VARIABLES: [&str; 3] = ["SLURM_ARRAY_TASK_ID", "HQ_TASK_ID", "JOB_COMPLETION_INDEX"];

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLine {
    /// Place in the file, from 0.
    pub index: usize,
    /// Ids of its runs, as the planning machine's device gives them.
    pub runs: Vec<String>,
    /// The device that is part of those ids: a plan for GPUs may be made on a machine without one.
    pub device: String,
    /// Flags of `rankbench run` that the plan was made with.
    pub arguments: Vec<String>,
    /// Optimiser steps of all of its runs.
    pub steps: u64,
    /// Seconds expected; none where nothing is known.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// Memory expected, in MiB; none where nothing is known.
    #[serde(default)]
    pub memory_mib: Option<f64>,
}

/// Work, time and memory that a line is expected to need.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Need {
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds.
    pub seconds: Option<f64>,
    /// Memory in MiB.
    pub memory_mib: Option<f64>,
}

/// The lines of stacks of runs, `need` saying what each takes.
///
/// # Errors
/// Those of `need`.
pub fn lines(
    stacks: &[Vec<&RunSpec>],
    arguments: &[String],
    mut need: impl FnMut(&[&RunSpec]) -> Result<Need>,
) -> Result<Vec<PlanLine>> {
    let line = |(index, stack): (usize, &Vec<&RunSpec>)| {
        let Need { steps, seconds, memory_mib } = need(stack)?;
        let runs = stack.iter().map(|spec| spec.id()).collect();
        let device = stack.first().map_or_else(String::new, |spec| spec.train.device.clone());
        Ok(PlanLine { index, runs, device, arguments: arguments.to_vec(), steps, seconds, memory_mib })
    };
    stacks.iter().enumerate().map(line).collect()
}

/// Writes a plan.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, lines: &[PlanLine]) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        let line = serde_json::to_string(line).map_err(|e| Error::Internal(format!("{}: {e}", path.display())))?;
        text.push_str(&line);
        text.push('\n');
    }
    write_atomically(path, text.as_bytes())
}

/// Reads a plan.
///
/// # Errors
/// A file that cannot be read, or a line that is none of a plan.
pub fn read(path: &Path) -> Result<Vec<PlanLine>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
    let line = |(at, line): (usize, &str)| {
        let parsed: PlanLine = serde_json::from_str(line).map_err(|e| {
            Error::Usage(format!(
                "{}, line {}: {e}; a plan is written by `rankbench run --write-plan FILE`",
                path.display(),
                at + 1
            ))
        })?;
        match parsed.index == at {
            true => Ok(parsed),
            false => Err(Error::Usage(format!(
                "{}, line {}: index {}, expected {at}: the file was sorted or cut; write the plan again",
                path.display(),
                at + 1,
                parsed.index
            ))),
        }
    };
    text.lines().enumerate().map(line).collect()
}

/// The line to make: that of a flag, or of the scheduler's variable.
///
/// # Errors
/// Neither is there; a variable that is no number; no such line.
pub fn line(path: &Path, index: Option<usize>) -> Result<PlanLine> {
    let variable = INDEX_VARIABLES.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)));
    let index = match (index, variable) {
        (Some(index), _) => index,
        (None, Some((name, value))) => value
            .parse()
            .map_err(|_| Error::Usage(format!("{name} is '{value}', expected the number of a line, from 0")))?,
        (None, None) => {
            let known = INDEX_VARIABLES.join(", ");
            return Err(Error::Usage(format!("which line of {}? Give --index, or one of {known}", path.display())));
        }
    };
    let mut lines = read(path)?;
    if index >= lines.len() {
        let last = lines.len().saturating_sub(1);
        return Err(Error::Usage(format!("{} has no line {index}: expected 0 to {last}", path.display())));
    }
    Ok(lines.swap_remove(index))
}

/// The id that a run has in a plan whose device is `device`.
pub fn planned_id(spec: &RunSpec, device: &str) -> String {
    let mut planned = spec.clone();
    planned.train.device = device.into();
    planned.id()
}

impl PlanLine {
    /// Directory of the sweep: that of its flags.
    pub fn out(&self) -> Option<PathBuf> {
        let following = self.arguments.windows(2).rev().find(|pair| pair[0] == "--out").map(|pair| pair[1].as_str());
        let joined = || self.arguments.iter().rev().find_map(|argument| argument.strip_prefix("--out="));
        following.or_else(joined).map(PathBuf::from)
    }

    /// The runs of the line among those that its arguments give here.
    ///
    /// # Errors
    /// A run that is not there: another backbone, other data or another program than those of the plan.
    pub fn runs(&self, plan: &[RunSpec]) -> Result<Vec<RunSpec>> {
        let ids: Vec<String> = plan.iter().map(|spec| planned_id(spec, &self.device)).collect();
        let of = |id: &String| {
            let at = ids.iter().position(|known| known == id);
            at.map(|at| plan[at].clone()).ok_or_else(|| {
                Error::Usage(format!(
                    "run {id} of the plan is not what its flags give on this machine: another backbone, other data files \
                     or another version of rankbench; write the plan again with what is here"
                ))
            })
        };
        self.runs.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_line(index: usize) -> PlanLine {
        let (seconds, memory_mib) = (Some(2.5), None);
        let (runs, device) = (vec![format!("run-{index}")], "cpu".to_string());
        PlanLine {
            index,
            runs,
            device,
            arguments: vec!["--recipe".into(), "quick".into()],
            steps: 9,
            seconds,
            memory_mib,
        }
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.jsonl");
        let plan: Vec<PlanLine> = (0..3).map(plan_line).collect();
        write(&path, &plan).unwrap();
        assert_eq!(read(&path).unwrap(), plan);
        assert_eq!(line(&path, Some(2)).unwrap(), plan[2]);
        let error = line(&path, Some(3)).unwrap_err().to_string();
        assert!(error.contains("has no line 3: expected 0 to 2"), "{error}");
    }

    #[test]
    fn a_plan_that_was_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.jsonl");
        write(&path, &[plan_line(1)]).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 1: index 1, expected 0"), "{error}");
        std::fs::write(&path, "{\"index\": 0}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("missing field"));
    }
}

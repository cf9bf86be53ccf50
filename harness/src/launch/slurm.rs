//! A plan as an array job of Slurm.

use std::fmt::Write;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::launch::plan_file::PlanLine;

/// Seconds before a job's time limit at which it is told to save itself.
const WARNING: u32 = 120;
/// Time limits are this many times the expected time, and so many minutes more: a job that meets its limit goes on in another.
const MARGIN: (f64, u64) = (1.5, 5);

/// An array job.
#[derive(Debug, Clone)]
pub struct ArrayJob {
    /// `rankbench`, or the launcher of a bundle, as the nodes see it.
    pub program: PathBuf,
    /// The plan.
    pub plan: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
    /// Directory that relative paths of the plan's flags begin at.
    pub dir: PathBuf,
    /// Tasks at once; none: as many as there is room for.
    pub at_once: Option<usize>,
    /// Minutes of each task.
    pub minutes: Option<u64>,
    /// More flags of `sbatch`.
    pub sbatch: Vec<String>,
    /// More flags of `rankbench run`.
    pub run: Vec<String>,
}

/// Minutes that the longest line of a plan is given; none where the plan expects no time.
pub fn minutes(lines: &[PlanLine]) -> Option<u64> {
    let longest = lines.iter().map(|line| line.seconds).collect::<Option<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
    Some((longest * MARGIN.0 / 60.0).ceil() as u64 + MARGIN.1)
}

impl ArrayJob {
    /// The batch script for so many lines.
    ///
    /// # Errors
    /// A plan without lines.
    pub fn script(&self, lines: usize) -> Result<String> {
        let Some(last) = lines.checked_sub(1) else {
            return Err(Error::Usage(format!("{} has no line: there is nothing to submit", self.plan.display())));
        };
        let at_once = self.at_once.map_or_else(String::new, |most| format!("%{most}"));
        let mut options = vec![
            "--job-name=rankbench".to_string(),
            format!("--array=0-{last}{at_once}"),
            format!("--signal=B:USR1@{WARNING}"),
            "--requeue".into(),
            "--open-mode=append".into(),
            format!("--chdir={}", self.dir.display()),
            format!("--output={}/%A_%a.log", self.logs.display()),
        ];
        options.extend(self.minutes.map(|minutes| format!("--time={minutes}")));
        options.extend(self.sbatch.iter().cloned());
        let mut script = String::from("#!/bin/bash\n");
        for option in options {
            let _ = writeln!(script, "#SBATCH {option}");
        }
        let command =
            [self.program.display().to_string(), "run".into(), "--plan".into(), self.plan.display().to_string()];
        let command: Vec<String> = command.iter().chain(&self.run).map(|word| quoted(word)).collect();
        let _ = write!(script, "{}", BODY.replace("COMMAND", &command.join(" ")));
        Ok(script)
    }
}

/// Slurm signals the batch shell alone (`B:`), which passes it on and waits until the run has saved itself. SIGTERM is Slurm's way of
/// ending a task: it knows itself whether the task comes again, and a cancelled one must not. Rounding depends on the number of threads, so
/// it is that of the allocation and not that of the node.
const BODY: &str = r#"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
COMMAND &
run=$!
ended=no
trap 'kill -USR1 "$run"' USR1
trap 'ended=yes; kill -TERM "$run"' TERM
while :; do
    wait "$run"
    code=$?
    [ "$code" -gt 128 ] || break
    # A signal ended the waiting, or the run.
    kill -0 "$run" 2>/dev/null && continue
    wait "$run"
    last=$?
    [ "$last" -eq 127 ] || code=$last
    break
done
echo "rankbench ended with $code"
# 75: saved, run me again; a task that Slurm ends (scancel, requeue) is put back by Slurm or by nobody.
if [ "$code" -eq 75 ] && [ "$ended" = no ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"#;

/// A word for the shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seconds: Option<f64>) -> PlanLine {
        let (runs, arguments) = (Vec::new(), Vec::new());
        PlanLine { index: 0, runs, device: "cuda".into(), arguments, steps: 1, seconds, memory_mib: None }
    }

    #[test]
    fn the_limit_is_that_of_the_longest_line() {
        assert_eq!(minutes(&[line(Some(60.0)), line(Some(3600.0))]), Some(95));
        assert_eq!(minutes(&[line(Some(60.0)), line(None)]), None);
    }

    #[test]
    fn the_script_passes_signals_on_and_is_put_back_with_75() {
        let job = ArrayJob {
            program: "/opt/bundle/rankbench".into(),
            plan: "/data/my plan.jsonl".into(),
            logs: "/data/slurm".into(),
            dir: "/data".into(),
            at_once: Some(4),
            minutes: Some(95),
            sbatch: vec!["--gpus=1".into()],
            run: vec!["--device".into(), "cuda".into()],
        };
        insta::assert_snapshot!(job.script(16).unwrap());
        assert!(job.script(0).unwrap_err().to_string().contains("nothing to submit"));
    }
}

//! State of every run of a store, without reading its rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::Result;
use crate::plan::spec::RunSpec;
use crate::store::files::read_json;
use crate::store::holder::Holder;
use crate::store::lease::{self, LeaseFile};
use crate::store::leased_run::CHECKPOINT;
use crate::store::read::run_dirs;
use crate::store::rows::Outcome;
use crate::store::stored_spec::StoredSpec;

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// It has `DONE`; with its wall time.
    Done(Duration),
    /// A process makes it.
    Running(Running),
    /// It was stopped or cut off, and goes on from its checkpoint.
    Interrupted,
    /// It was cut off before its first checkpoint, and starts anew.
    CutOff,
    /// It failed.
    Failed,
    /// It has been planned.
    NotStarted,
    /// Its `run.toml` cannot be read.
    Unreadable,
}

/// A run in work.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its process.
    pub holder: Holder,
    /// Time since it took the run.
    pub since: Duration,
    /// Time since its last heartbeat, by this machine's clock.
    pub silent: Duration,
    /// Silence after which others may take the run over.
    pub silence: Duration,
}

/// One run of a store.
#[derive(Debug, Clone)]
pub struct SurveyedRun {
    /// Name of its directory.
    pub id: String,
    /// Its specification; none where it cannot be read, was made elsewhere, or is known by its id alone.
    pub spec: Option<RunSpec>,
    /// Task and method.
    pub kind: (String, String),
    /// Title of its method, of a run that was made elsewhere.
    pub elsewhere: Option<String>,
    /// How it stands.
    pub state: RunState,
}

/// Every directory below `runs`, in the order of their names.
///
/// # Errors
/// The folder cannot be read.
pub fn survey(runs: &Path) -> Result<Vec<SurveyedRun>> {
    run_dirs(runs)?.par_iter().map(|dir| surveyed(dir)).collect()
}

/// The run in a directory.
///
/// # Errors
/// The directory cannot be read.
pub fn surveyed(dir: &Path) -> Result<SurveyedRun> {
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let spec = fs::read_to_string(dir.join("run.toml")).ok().and_then(|text| StoredSpec::parse(&text).ok());
    let Some(spec) = spec else {
        return Ok(SurveyedRun {
            id,
            spec: None,
            kind: Default::default(),
            elsewhere: None,
            state: RunState::Unreadable,
        });
    };
    let kind = (spec.task().to_string(), spec.method().to_string());
    let elsewhere = spec.external().map(|spec| spec.title.clone());
    Ok(SurveyedRun { id, spec: spec.made().cloned(), kind, elsewhere, state: state(dir)? })
}

/// How the run in a directory stands.
///
/// # Errors
/// The directory cannot be read.
pub fn state(dir: &Path) -> Result<RunState> {
    let has = |name: &str| dir.join(name).exists();
    if has("DONE") {
        let seconds = read_json::<Outcome>(&dir.join("outcome.json"))
            .ok()
            .and_then(|outcome| outcome.wall_seconds)
            .unwrap_or(0.0);
        return Ok(RunState::Done(Duration::try_from_secs_f64(seconds).unwrap_or_default()));
    }
    let running = lease::look(dir)?.filter(|seen| !seen.is_free()).map(|seen| {
        let unknown = LeaseFile { holder: seen.holder(), since_unix: 0, silence_seconds: 0, is_released: false };
        let content = seen.content.unwrap_or(unknown);
        let since = UNIX_EPOCH.checked_add(Duration::from_secs(content.since_unix)).unwrap_or(UNIX_EPOCH);
        let ago = |time: SystemTime| time.elapsed().unwrap_or_default();
        let silence = Duration::from_secs(content.silence_seconds);
        Running { holder: content.holder, since: ago(since), silent: ago(seen.beat), silence }
    });
    Ok(match running {
        Some(running) => RunState::Running(running),
        None if has("FAILED") => RunState::Failed,
        None if has(CHECKPOINT) => RunState::Interrupted,
        None if has("manifest.json") => RunState::CutOff,
        None => RunState::NotStarted,
    })
}

impl RunState {
    /// Its word in tables and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            RunState::Done(_) => "done",
            RunState::Running(_) => "running",
            RunState::Interrupted => "stopped",
            RunState::CutOff => "cut off",
            RunState::Failed => "failed",
            RunState::NotStarted => "not begun",
            RunState::Unreadable => "not readable",
        }
    }
}

impl SurveyedRun {
    /// The process that makes it.
    pub fn holder(&self) -> Option<String> {
        match &self.state {
            RunState::Running(running) => Some(running.holder.to_string()),
            _ => None,
        }
    }
}

/// Times of finished runs: their sum and number.
#[derive(Default)]
struct Times(Duration, u32);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0 += time;
        self.1 += 1;
    }

    fn mean(&self) -> Option<Duration> {
        self.0.checked_div(self.1)
    }
}

/// Time that the open runs take with `workers` at a time, from the finished ones of the same task and method, or of the same task, or of all;
/// none where nothing is finished.
pub fn time_left<'a>(runs: impl Iterator<Item = &'a SurveyedRun> + Clone, workers: usize) -> Option<Duration> {
    let (mut all, mut by_task, mut by_kind) = (Times::default(), BTreeMap::new(), BTreeMap::new());
    for run in runs.clone() {
        if let RunState::Done(time) = run.state
            && !time.is_zero()
        {
            all.add(time);
            by_task.entry(&run.kind.0).or_insert_with(Times::default).add(time);
            by_kind.entry(&run.kind).or_insert_with(Times::default).add(time);
        }
    }
    let of_all = all.mean()?;
    let expected = |run: &SurveyedRun| {
        let like = by_kind.get(&run.kind).or_else(|| by_task.get(&run.kind.0));
        like.and_then(Times::mean).unwrap_or(of_all)
    };
    let left = |run: &SurveyedRun| match &run.state {
        RunState::Done(_) | RunState::Unreadable => Duration::ZERO,
        RunState::Running(running) => expected(run).saturating_sub(running.since),
        _ => expected(run),
    };
    let total: Duration = runs.map(left).sum();
    Some(total / u32::try_from(workers.max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(task: &str, method: &str, state: RunState) -> SurveyedRun {
        SurveyedRun { id: String::new(), spec: None, kind: (task.into(), method.into()), elsewhere: None, state }
    }

    #[test]
    fn time_left_is_that_of_like_runs() {
        let done = |seconds| RunState::Done(Duration::from_secs(seconds));
        let running = Running {
            holder: crate::store::holder::this().clone(),
            since: Duration::from_secs(6),
            silent: Duration::ZERO,
            silence: Duration::ZERO,
        };
        let runs = [
            run("rte", "lora", done(10)),
            run("rte", "lora", done(20)),
            run("rte", "sora", done(40)),
            run("rte", "lora", RunState::NotStarted),       // 15
            run("rte", "sora", RunState::Running(running)), // 40 - 6
            run("rte", "full", RunState::Interrupted),      // the task's mean: 70 / 3
            run("cola", "lora", RunState::Failed),          // the mean of all
        ];
        let expected = 15.0 + 34.0 + 2.0 * 70.0 / 3.0;
        let left = time_left(runs.iter(), 2).unwrap().as_secs_f64();
        assert!((left - expected / 2.0).abs() < 1e-6, "{left}");
        assert_eq!(time_left(runs[3..].iter(), 1), None);
    }
}

//! `rankbench status`: how the runs of a store stand, without disturbing them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::env::console::spoken;
use crate::env::output;
use crate::error::Result;
use crate::launch::plan_file::{self, PlanLine};
use crate::store::survey::{RunState, Running, SurveyedRun, survey, time_left};

/// `rankbench status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The directory of a sweep: its `runs` are looked at. Left out: that of the plan, or `results`.
    #[arg(value_name = "OUT")]
    named: Option<PathBuf>,
    /// The same as a flag.
    #[arg(long, value_name = "OUT", conflicts_with = "named")]
    out: Option<PathBuf>,
    /// Only the runs of this plan, those that no one has begun among them.
    #[arg(long, value_name = "JSONL")]
    plan: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> Result<()> {
        let lines = self.plan.as_deref().map(plan_file::read).transpose()?;
        let planned = || lines.as_ref()?.first()?.out();
        let dir = self.named.clone().or(self.out.clone()).or_else(planned).unwrap_or("results".into()).join("runs");
        let runs = match lines {
            Some(lines) => of_plan(&lines, if dir.is_dir() { survey(&dir)? } else { Vec::new() }),
            None => survey(&dir)?,
        };
        match self.json {
            true => output::print(format_args!("{:#}", json(&dir, &runs))),
            false => output::print(text(&dir, &runs)),
        }
        Ok(())
    }
}

/// The runs of a plan, stored or not.
fn of_plan(lines: &[PlanLine], stored: Vec<SurveyedRun>) -> Vec<SurveyedRun> {
    let device = lines.first().map_or("", |line| line.device.as_str());
    let planned = |run: SurveyedRun| Some((plan_file::planned_id(run.spec.as_ref()?, device), run));
    let mut stored: BTreeMap<String, SurveyedRun> = stored.into_iter().filter_map(planned).collect();
    let not_started = |id: &String| {
        let mut parts = id.splitn(3, '-').map(str::to_string);
        let kind = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        SurveyedRun { id: id.clone(), spec: None, kind, elsewhere: None, state: RunState::NotStarted }
    };
    let ids = lines.iter().flat_map(|line| &line.runs);
    ids.map(|id| stored.remove(id).unwrap_or_else(|| not_started(id))).collect()
}

fn text(dir: &Path, runs: &[SurveyedRun]) -> String {
    let count = |is_so: fn(&RunState) -> bool| runs.iter().filter(|run| is_so(&run.state)).count();
    let parts = [
        (count(|state| matches!(state, RunState::Done(_))), "done"),
        (count(|state| matches!(state, RunState::Running(_))), "running"),
        (count(|state| matches!(state, RunState::Interrupted)), "stopped with a checkpoint"),
        (count(|state| matches!(state, RunState::CutOff)), "cut off without one"),
        (count(|state| matches!(state, RunState::Failed)), "failed"),
        (count(|state| matches!(state, RunState::NotStarted)), "not begun"),
        (count(|state| matches!(state, RunState::Unreadable)), "not readable"),
    ];
    let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let mut lines = vec![format!("{}: {} runs: {}", dir.display(), runs.len(), parts.join(", "))];
    let holders = holders(runs);
    for run in runs {
        if let RunState::Running(running) = &run.state {
            lines.push(format!("{}: {}", run.id, at_work(running)));
        }
    }
    let open = runs.len() - parts_done(runs);
    match time_left(runs.iter(), holders.len()) {
        Some(_) if open == 0 => {}
        Some(left) if holders.is_empty() => lines.push(format!("about {} of work left; no one is at it", spoken(left))),
        Some(left) => lines.push(format!("about {} left with {} at work", spoken(left), holders.len())),
        None => lines.push("time left: not known before a run is done".into()),
    }
    lines.join("\n")
}

/// Processes that make runs.
fn holders(runs: &[SurveyedRun]) -> BTreeSet<String> {
    runs.iter().filter_map(SurveyedRun::holder).collect()
}

fn json(dir: &Path, runs: &[SurveyedRun]) -> Value {
    let holders = holders(runs);
    let run = |run: &SurveyedRun| {
        let (seconds, silent) = match &run.state {
            RunState::Done(time) => (Some(*time), None),
            RunState::Running(running) => (Some(running.since), Some(running.silent)),
            _ => (None, None),
        };
        let [seconds, silent] = [seconds, silent].map(|time| time.map(|time| time.as_secs_f64()));
        json!({
            "run": run.id, "task": run.kind.0, "method": run.kind.1, "state": run.state.word(), "seconds": seconds,
            "holder": run.holder(), "seconds_since_heard": silent,
        })
    };
    json!({
        "dir": dir.display().to_string(),
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
        "at_work": holders.len(),
        "seconds_left": time_left(runs.iter(), holders.len()).map(|left| left.as_secs_f64()),
    })
}

fn parts_done(runs: &[SurveyedRun]) -> usize {
    runs.iter().filter(|run| matches!(run.state, RunState::Done(_) | RunState::Unreadable)).count()
}

fn at_work(running: &Running) -> String {
    let Running { holder, since, silent, silence } = running;
    let heard = format!("heard {} ago", spoken(*silent));
    let heard = match holder.is_here() || silent < silence {
        true => heard,
        false => format!("{heard}: others take it over"),
    };
    format!("{holder} since {}, {heard}", spoken(*since))
}

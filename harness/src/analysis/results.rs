//! Everything a report is made from: the runs, regrouped once as every table and figure sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analysis::columns::{TaskColumn, task_columns};
use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::label::{RunSetting, labels};
use crate::analysis::frame::predictions::TestSets;
use crate::analysis::frame::rows::{option_names, results_data};
use crate::analysis::frame::run::{RunResult, StoredSetting};
use crate::analysis::frame::traces::TracesByRun;
use crate::analysis::frame::typed::CsvText;
use crate::analysis::summary::{MethodRow, method_rows, own_title, row_title};
use crate::analysis::verdict;
use crate::error::Result;
use crate::plan::spec::RunSpec;
use crate::store::record::RunRecord;
use crate::store::rows::{PeerRound, TimingRow};
use crate::store::stored_spec::StoredSpec;

/// Runs whose rows are turned into columns at a time.
const CHUNK: usize = 1_000;

/// A stored run as a report reads it, and what its label depends on.
#[derive(Debug, Clone)]
pub struct ReadRun {
    result: RunResult,
    setting: RunSetting,
    /// Its id under numeric version 0: runs of one specification and several versions share it.
    identity: String,
}

impl ReadRun {
    /// Reads what is needed out of a stored run; test splits are shared through `known`.
    pub fn of(run: &RunRecord, known: &TestSets) -> Self {
        ReadRun {
            result: RunResult::of(run, known),
            setting: RunSetting::of(run),
            identity: match &run.spec {
                StoredSpec::Made(spec) => RunSpec { numerics: 0, ..spec.clone() }.id(),
                StoredSpec::External(spec) => spec.id(),
            },
        }
    }

    /// The run's rows; its label is set once all runs are known.
    pub fn result(&self) -> &RunResult {
        &self.result
    }
}

/// Everything a report is made from.
#[derive(Debug, Clone)]
pub struct ResultsFrame {
    /// Runs of the latest numeric version of each specification, in the order given.
    pub runs: Vec<Arc<RunResult>>,
    /// The same runs by group, sorted.
    pub groups: Vec<GroupResults>,
    /// The interleaved timings; not tied to runs.
    pub timings: Vec<TimingRow>,
    /// Rounds of the peers' time measurement.
    pub peers: Vec<PeerRound>,
    /// Runs left out because a run of a later numeric version stands for them.
    pub superseded: Vec<String>,
    /// Least margin of equivalence in points.
    pub margin: f64,
}

/// Runs of one group, regrouped as tables see them.
#[derive(Debug, Clone)]
pub struct GroupResults {
    /// The group.
    pub group: ReportGroup,
    /// Its task columns.
    pub columns: Vec<TaskColumn>,
    /// Its method rows.
    pub methods: Vec<MethodRow>,
    /// Steps and gates of those runs whose lines are shown; none before they were read.
    pub traces: TracesByRun,
}

impl ResultsFrame {
    /// A frame of runs without timings, with the usual margin. Of runs that differ in their numeric version only, the latest counts.
    pub fn of_runs(runs: Vec<ReadRun>) -> Self {
        let (current, superseded) = current(runs);
        let (mut results, settings): (Vec<RunResult>, Vec<RunSetting>) =
            current.into_iter().map(|run| (run.result, run.setting)).unzip();
        let labels = labels(&settings);
        for ((result, label), RunSetting { settings, program, .. }) in results.iter_mut().zip(labels).zip(settings) {
            result.row.title = row_title(&own_title(&result.row), &label);
            result.row.label = label;
            result.stored = Some(StoredSetting { settings, program });
        }
        ResultsFrame { superseded, ..Self::of_results(results) }
    }

    /// A frame of runs whose labels are set, without timings, with the usual margin.
    pub fn of_results(results: Vec<RunResult>) -> Self {
        let runs: Vec<Arc<RunResult>> = results.into_iter().map(Arc::new).collect();
        let mut by_group: BTreeMap<ReportGroup, Vec<Arc<RunResult>>> = BTreeMap::new();
        for run in &runs {
            by_group.entry(run.group()).or_default().push(Arc::clone(run));
        }
        let groups = by_group.into_iter().map(|(group, runs)| GroupResults::new(group, &runs)).collect();
        let (timings, peers, superseded) = Default::default();
        ResultsFrame { runs, groups, timings, peers, superseded, margin: verdict::MARGIN }
    }

    /// Stored runs that are in memory already.
    pub fn of_records(runs: &[RunRecord]) -> Self {
        let known = TestSets::default();
        Self::of_runs(runs.iter().map(|run| ReadRun::of(run, &known)).collect())
    }

    /// `results.csv`: one row a run, development set and metric.
    ///
    /// # Errors
    /// A bug only.
    pub fn results_csv(&self) -> Result<Vec<u8>> {
        let mut text = CsvText::default();
        // The header, also where there is no run.
        let options = option_names(self.runs.iter().map(|run| &run.row));
        text.push(&results_data(std::iter::empty(), &options)?)?;
        for runs in self.runs.chunks(CHUNK) {
            text.push(&results_data(runs.iter().map(|run| (&run.row, run.scores.as_slice())), &options)?)?;
        }
        text.finish()
    }
}

impl GroupResults {
    /// Regroups runs of one group.
    pub fn new(group: ReportGroup, runs: &[Arc<RunResult>]) -> Self {
        let columns = task_columns(runs);
        GroupResults { group, methods: method_rows(runs, &columns), columns, traces: TracesByRun::new() }
    }
}

/// The runs of the latest numeric version of each specification, and the names of the others.
fn current(runs: Vec<ReadRun>) -> (Vec<ReadRun>, Vec<String>) {
    let mut latest: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for run in &runs {
        let version = latest.entry(run.identity.clone()).or_default();
        *version = (*version).max(run.result.row.numerics);
    }
    let (kept, left): (Vec<ReadRun>, Vec<ReadRun>) =
        runs.into_iter().partition(|run| latest.get(&run.identity) == Some(&run.result.row.numerics));
    (kept, left.into_iter().map(|run| run.result.row.run).collect())
}

//! Everything about one run: setting and origin, scores, ranks, times, files.

use std::collections::BTreeMap;

use datasets::split::Policy;
use serde::Serialize;

use crate::analysis::frame::label::{EXTERNAL, RunSetting};
use crate::analysis::frame::predictions::TestSets;
use crate::analysis::frame::rows::ScoreRow;
use crate::analysis::frame::run::{KINDS, RankPoint, RunResult};
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::stats::mean;
use crate::analysis::summary::{own_title, row_title};
use crate::store::record::{RunRecord, Status};
use crate::store::stored_spec::StoredSpec;

frame_rows! {
    /// A named text.
    #[derive(Serialize)]
    pub struct FieldRow {
        /// Name.
        name: String,
        /// Text.
        value: String,
    }
}

frame_rows! {
    /// One metric on the rows that are scored.
    #[derive(Serialize)]
    pub struct MetricRow {
        /// Development set.
        dev_set: String,
        /// Rows that are scored: `test`, or `development set` where the same rows select the checkpoint.
        split: String,
        /// Metric.
        metric: String,
        /// Its value in points of 100.
        value: Option<f64>,
        /// Examples that are scored.
        examples: u64,
        /// Step whose checkpoint was selected.
        checkpoint: Option<u64>,
        /// Metric that selected it.
        selection_metric: String,
        /// That metric on the rows that select, in points of 100.
        selection_value: Option<f64>,
    }
}

frame_rows! {
    /// Target modules of one kind at the selected checkpoint.
    #[derive(Serialize)]
    pub struct KindRankRow {
        /// Kind of the modules.
        kind: String,
        /// How many.
        modules: u64,
        /// Mean rank.
        mean: f64,
        /// Smallest rank.
        least: i64,
        /// Largest rank.
        largest: i64,
        /// Components at the start.
        start: i64,
        /// Modules without a component left.
        empty: u64,
    }
}

frame_rows! {
    /// One part of the wall time.
    #[derive(Serialize)]
    pub struct TimePartRow {
        /// Part; `all` for the sum.
        part: String,
        /// Seconds.
        seconds: f64,
        /// Share of the wall time.
        share: f64,
    }
}

frame_rows! {
    /// One file of the run's directory.
    #[derive(Serialize)]
    pub struct FileRow {
        /// Name.
        file: String,
        /// Bytes.
        bytes: u64,
    }
}

/// Everything about one run.
#[derive(Debug, Clone)]
pub struct RunDetails {
    /// State, setting, counts and origin.
    pub fields: Vec<FieldRow>,
    /// Scores; none without a result.
    pub metrics: Vec<MetricRow>,
    /// Ranks by kind; none without a result or for a method without ranks.
    pub ranks: Vec<KindRankRow>,
    /// Times; none without a result.
    pub times: Vec<TimePartRow>,
}

impl RunDetails {
    /// Details of a stored run.
    pub fn of(run: &RunRecord) -> Self {
        let result = RunResult::of(run, &TestSets::default());
        let times = match &run.status {
            Status::Done(outcome) => {
                let timed = outcome.seconds.zip(outcome.wall_seconds);
                timed.map(|(seconds, wall)| time_parts(&seconds.parts(), wall)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        RunDetails {
            fields: fields(run, &result),
            metrics: metrics(run, &result),
            ranks: kind_ranks(&result.ranks),
            times,
        }
    }
}

fn fields(run: &RunRecord, result: &RunResult) -> Vec<FieldRow> {
    let (spec, row) = (&run.spec, &result.row);
    let backbone = match spec.backbone() {
        (name, "") => name.to_string(),
        (name, sum) => format!("{name} (weights {})", digits(sum)),
    };
    let mut fields = vec![
        ("state", row.status.clone()),
        ("reason", row.failure.clone()),
        ("collapse", row.collapse.clone()),
        ("task", spec.task().to_string()),
        ("method", row_title(&own_title(row), spec.made().map_or(EXTERNAL, |spec| &spec.label))),
        ("seed", spec.seed().to_string()),
        ("backbone", backbone),
        ("data source", row.data_source.clone()),
        ("split", row.split.clone()),
    ];
    let settings = RunSetting::of(run).settings;
    fields.extend(settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    if let Status::Done(outcome) = &run.status {
        fields.extend(outcome.steps.map(|steps| ("steps", steps.to_string())));
        let counts = outcome.parameters.as_ref();
        fields.extend(counts.into_iter().flat_map(|counts| {
            [
                ("allocated parameters", counts.allocated.to_string()),
                ("effective parameters", counts.effective.to_string()),
                ("parameters as published", counts.as_published.to_string()),
                ("head", counts.head.to_string()),
                ("full fine-tuning", counts.full.to_string()),
            ]
        }));
    }
    fields.extend(spec.made().map(|spec| ("numerics", spec.numerics.to_string())));
    fields.extend(origin(run, result));
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    fields.map(|(name, value)| FieldRow { name: name.into(), value }).collect()
}

/// Where the run was made.
fn origin(run: &RunRecord, result: &RunResult) -> Vec<(&'static str, String)> {
    if let StoredSpec::External(spec) = &run.spec {
        let stated =
            [("allocated parameters", spec.parameters.allocated), ("effective parameters", spec.parameters.effective)];
        let stated = stated.into_iter().filter_map(|(name, count)| Some((name, format!("{} (stated)", count?))));
        return stated
            .chain([("made by", "another program (rankbench add)".into()), ("source", spec.source.clone())])
            .collect();
    }
    let Some(manifest) = &run.manifest else { return vec![("manifest", "it cannot be read".into())] };
    vec![
        ("recipe", manifest.origin.recipe.clone()),
        ("commit", result.row.commit.clone()),
        ("made on", manifest.device.clone()),
        ("driver", manifest.driver.clone()),
        ("libtorch", manifest.libtorch.clone()),
        ("threads", manifest.threads.to_string()),
        ("runs side by side", manifest.together.to_string()),
        ("restarts", manifest.restarts.to_string()),
        ("started", format!("{} s since 1970", manifest.started_unix)),
    ]
}

/// First digits of a sum.
fn digits(sum: &str) -> &str {
    sum.get(..10).unwrap_or(sum)
}

fn metrics(run: &RunRecord, result: &RunResult) -> Vec<MetricRow> {
    let Status::Done(outcome) = &run.status else { return Vec::new() };
    let split = if run.spec.data().split == Policy::Official { "development set" } else { "test" };
    let row = |score: &ScoreRow| {
        let own = outcome.results.iter().find(|own| own.dev_set == score.dev_set);
        MetricRow {
            dev_set: score.dev_set.clone(),
            split: split.into(),
            metric: score.metric.clone(),
            value: score.value.map(|value| 100.0 * value),
            examples: score.test_examples.unwrap_or(0),
            checkpoint: score.selected_step,
            selection_metric: score.selection_metric.clone(),
            selection_value: own.and_then(|own| own.selection_value).map(|value| 100.0 * value),
        }
    };
    result.scores.iter().map(row).collect()
}

/// Ranks by kind, in the order of a layer, other kinds last.
fn kind_ranks(points: &[RankPoint]) -> Vec<KindRankRow> {
    let mut kinds: BTreeMap<(usize, &str), Vec<&RankPoint>> = BTreeMap::new();
    for point in points {
        let place = KINDS.iter().position(|kind| *kind == point.kind).unwrap_or(KINDS.len());
        kinds.entry((place, &point.kind)).or_default().push(point);
    }
    let row = |((_, kind), points): ((usize, &str), Vec<&RankPoint>)| {
        let ranks: Vec<i64> = points.iter().map(|point| i64::from(point.rank)).collect();
        KindRankRow {
            kind: kind.into(),
            modules: points.len() as u64,
            mean: mean(&ranks.iter().map(|rank| *rank as f64).collect::<Vec<_>>()).unwrap_or_default(),
            least: ranks.iter().copied().min().unwrap_or_default(),
            largest: ranks.iter().copied().max().unwrap_or_default(),
            start: points.iter().map(|point| i64::from(point.max_rank)).max().unwrap_or_default(),
            empty: ranks.iter().filter(|rank| **rank == 0).count() as u64,
        }
    };
    kinds.into_iter().map(row).collect()
}

fn time_parts(parts: &[(&'static str, f64)], wall: f64) -> Vec<TimePartRow> {
    let share = |seconds: f64| if wall > 0.0 { seconds / wall } else { 0.0 };
    let row =
        |(part, seconds): &(&str, f64)| TimePartRow { part: (*part).into(), seconds: *seconds, share: share(*seconds) };
    parts.iter().chain(&[("all", wall)]).map(row).collect()
}

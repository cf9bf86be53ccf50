//! The numbers of Table 1, one a row, for its CSV file.

use crate::analysis::columns::TaskColumn;
use crate::analysis::comparison::{PartComparison, RowComparison};
use crate::analysis::frame::ResultRow;
use crate::analysis::frame::group::Protocol;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::stats::{mean, sample_std, t_interval};
use crate::analysis::summary::MethodRow;
use crate::report::tables::table1::part_floor;

frame_rows! {
    /// One number of the table: a method on a metric of a task, or its average. Values in points of 100.
    pub struct Line {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Method.
        method: String,
        /// Difference from the method's base row; empty for that.
        variant: String,
        /// Task, or `average`.
        task: String,
        /// Development set.
        dev_set: String,
        /// Metric.
        metric: String,
        /// Finished seeds.
        seeds: u64,
        /// Mean over them.
        mean: Option<f64>,
        /// Sample standard deviation.
        std: Option<f64>,
        /// Lower end of the 95 % t interval.
        interval_low: Option<f64>,
        /// Upper end.
        interval_high: Option<f64>,
        /// Collapsed runs among the seeds.
        collapsed: u64,
        /// Failed or damaged runs, not among the seeds.
        failed: u64,
        /// Resolution of the split: one example in points.
        noise_floor: Option<f64>,
        /// Published value.
        published: Option<f64>,
        /// Published row.
        published_label: String,
        /// How far the published value was checked.
        published_status: String,
        /// Metric that is compared with the published one.
        compared_metric: String,
        /// Mean of ours less the published, in the compared metric.
        difference: Option<f64>,
        /// Lower end of the 90 % interval of the difference.
        difference_low: Option<f64>,
        /// Upper end.
        difference_high: Option<f64>,
        /// Two-sided p of no difference.
        p: Option<f64>,
        /// The same after Holm's correction over the row's cells; empty for the average.
        p_holm: Option<f64>,
        /// Margin of equivalence.
        margin: Option<f64>,
        /// Least difference that these seeds show with a power of 80 %.
        detectable: Option<f64>,
        /// Seeds that a decision at the margin takes; empty: more than 1,000.
        seeds_needed: Option<u64>,
        /// Verdict.
        verdict: String,
        /// Why it is not comparable.
        reasons: String,
        /// Settings the publication does not state.
        not_stated: String,
        /// Allocated parameters of the method's row.
        allocated: Option<f64>,
        /// Effective parameters.
        effective: Option<f64>,
        /// Parameters by the authors' counter.
        as_published: Option<f64>,
        /// Number formats of the row's runs.
        precisions: String,
        /// Numeric versions of the programs that made them.
        numerics: String,
        /// Commits of those programs; `+`: with changes.
        commits: String,
        /// Devices they were made on.
        devices: String,
        /// GPU drivers.
        drivers: String,
        /// libtorch versions.
        libtorch: String,
    }
}

/// Lines of one method row.
pub fn lines(protocol: &Protocol, row: &MethodRow, compared: &RowComparison, columns: &[TaskColumn]) -> Vec<Line> {
    let base = base(protocol, row, compared);
    let mut lines: Vec<Line> = Vec::new();
    for column in columns {
        let (Some(cell), Some(parts)) = (row.cells.get(&column.name), compared.cells.get(&column.name)) else {
            continue;
        };
        for (index, ((dev_set, metric), part)) in column.parts.iter().zip(parts).enumerate() {
            lines.push(Line {
                task: column.name.clone(),
                dev_set: dev_set.clone(),
                metric: metric.clone(),
                collapsed: cell.scores.iter().filter(|s| !s.collapse.is_empty()).count() as u64,
                failed: cell.failed.len() as u64,
                noise_floor: part_floor(cell, index),
                ..with_comparison(with_values(&base, &cell.part(index)), part)
            });
        }
    }
    let seeds: Vec<f64> = row.seed_averages().iter().map(|(_, value)| *value).collect();
    lines.push(Line {
        task: "average".into(),
        metric: "average".into(),
        mean: row.average().0,
        collapsed: row.cells.values().flat_map(|c| &c.scores).filter(|s| !s.collapse.is_empty()).count() as u64,
        failed: row.cells.values().map(|c| c.failed.len() as u64).sum(),
        ..with_comparison(with_values(&base, &seeds), &compared.average)
    });
    lines
}

fn with_values(base: &Line, values: &[f64]) -> Line {
    let interval = t_interval(values, 0.95);
    Line {
        seeds: values.len() as u64,
        mean: mean(values),
        std: sample_std(values),
        interval_low: interval.map(|i| i.low),
        interval_high: interval.map(|i| i.high),
        ..base.clone()
    }
}

fn with_comparison(line: Line, part: &PartComparison) -> Line {
    // A test of another setting or metric says nothing.
    let test = part.test.filter(|_| part.reasons.is_empty());
    Line {
        published: part.number.map(|n| n.value),
        published_status: part.number.map_or("", |n| n.status.name()).into(),
        compared_metric: part.metric.clone(),
        difference: test.map(|t| t.difference),
        difference_low: test.map(|t| t.interval.low),
        difference_high: test.map(|t| t.interval.high),
        p: test.map(|t| t.p),
        p_holm: part.p_holm,
        margin: test.map(|t| t.margin),
        detectable: test.map(|t| t.detectable),
        seeds_needed: test.and_then(|t| t.seeds_needed()).map(|n| n as u64),
        verdict: part.verdict.name().into(),
        reasons: part.reasons.join("; "),
        ..line
    }
}

fn base(protocol: &Protocol, row: &MethodRow, compared: &RowComparison) -> Line {
    let count = |of: fn(&ResultRow) -> Option<i64>| row.mean_count(of);
    let numerics: std::collections::BTreeSet<u64> = row.runs.iter().map(|run| run.numerics).collect();
    let joined = |texts: Vec<String>| texts.join("; ");
    Line {
        data_source: protocol.data_source.clone(),
        backbone: protocol.backbone.clone(),
        split: protocol.split.clone(),
        method: row.method.clone(),
        variant: row.variant.clone(),
        task: String::new(),
        dev_set: String::new(),
        metric: String::new(),
        seeds: 0,
        mean: None,
        std: None,
        interval_low: None,
        interval_high: None,
        collapsed: 0,
        failed: 0,
        noise_floor: None,
        published: None,
        published_label: compared.published.map_or("", |row| row.label()).into(),
        published_status: String::new(),
        compared_metric: String::new(),
        difference: None,
        difference_low: None,
        difference_high: None,
        p: None,
        p_holm: None,
        margin: None,
        detectable: None,
        seeds_needed: None,
        verdict: String::new(),
        reasons: String::new(),
        not_stated: joined(compared.not_stated.iter().map(ToString::to_string).collect()),
        allocated: count(|r| r.allocated),
        effective: count(|r| r.effective),
        as_published: count(|r| r.as_published),
        precisions: row.distinct(|run| &run.precision),
        numerics: joined(numerics.iter().map(u64::to_string).collect()),
        commits: row.distinct(|run| &run.commit),
        devices: row.distinct(|run| &run.device),
        drivers: row.distinct(|run| &run.driver),
        libtorch: row.distinct(|run| &run.libtorch),
    }
}

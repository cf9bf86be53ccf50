//! The numbers of Table 1, one a row, for its CSV file.

use super::columns::TaskColumn;
use super::summary::MethodRow;
use super::table1::{Compared, part_floor};
use super::verdict::Verdict;
use crate::frame::ResultRow;
use crate::frame::label::Protocol;
use crate::frame::typed::frame_rows;
use crate::stats::{mean, sample_std, t_interval};

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
        /// Setting, where there are several.
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
        /// Failed runs, not among the seeds.
        failed: u64,
        /// What one example is worth.
        noise_floor: Option<f64>,
        /// Published value.
        published: Option<f64>,
        /// Published row.
        published_label: String,
        /// How far the published value was checked.
        published_status: String,
        /// Verdict.
        verdict: String,
        /// Allocated parameters of the method's row.
        allocated: Option<f64>,
        /// Effective parameters.
        effective: Option<f64>,
        /// Parameters by the authors' counter.
        as_published: Option<f64>,
    }
}

/// Lines of one method row.
pub fn lines(protocol: &Protocol, row: &MethodRow, compared: &Compared, columns: &[TaskColumn]) -> Vec<Line> {
    let base = base(protocol, row, compared);
    let mut lines: Vec<Line> = Vec::new();
    for column in columns {
        let Some(cell) = row.cells.get(&column.name) else { continue };
        for (index, (dev_set, metric)) in column.parts.iter().enumerate() {
            let number = compared.number(column, index);
            lines.push(Line {
                task: column.name.clone(),
                dev_set: dev_set.clone(),
                metric: metric.clone(),
                collapsed: cell.scores.iter().filter(|s| !s.collapse.is_empty()).count() as u64,
                failed: cell.failed.len() as u64,
                noise_floor: part_floor(cell, index),
                published: number.map(|n| n.value),
                published_status: number.map_or("", |n| n.status.name()).into(),
                verdict: compared.part(column, cell, index).name().into(),
                ..with_values(&base, &cell.part(index))
            });
        }
    }
    lines.push(average_line(&base, row, compared));
    lines
}

fn average_line(base: &Line, row: &MethodRow, compared: &Compared) -> Line {
    let seeds: Vec<f64> = row.seed_averages().iter().map(|(_, value)| *value).collect();
    let published = compared.beside.and_then(|row| row.task("average").first().copied());
    let verdict = if row.average().0.is_some() { compared.verdict } else { Verdict::NotComparable };
    Line {
        task: "average".into(),
        metric: "average".into(),
        mean: row.average().0,
        collapsed: row.cells.values().flat_map(|c| &c.scores).filter(|s| !s.collapse.is_empty()).count() as u64,
        failed: row.cells.values().map(|c| c.failed.len() as u64).sum(),
        published: published.map(|n| n.value),
        published_status: published.map_or("", |n| n.status.name()).into(),
        verdict: verdict.name().into(),
        ..with_values(base, &seeds)
    }
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

fn base(protocol: &Protocol, row: &MethodRow, compared: &Compared) -> Line {
    let count = |of: fn(&ResultRow) -> Option<i64>| row.mean_count(of);
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
        published_label: compared.beside.map_or("", |row| row.label()).into(),
        published_status: String::new(),
        verdict: String::new(),
        allocated: count(|r| r.allocated),
        effective: count(|r| r.effective),
        as_published: count(|r| r.as_published),
    }
}

//! Claims of the papers as data (`results/published/claims.toml`), and what stored runs say to each.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;

use crate::analysis::efficiency::{EfficiencyRow, efficiency};
use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::published::{Status, TABLE1_TASKS};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::schedule::{CLAIMED_VALUES, schedules};
use crate::analysis::stats::{Interval, mean, t_interval};
use crate::analysis::summary::{MethodRow, TaskCell};
use crate::analysis::tuning::{TUNED, searches, tuned_rows};
use crate::error::{Error, Result};

const CLAIMS: &str = include_str!("../../../results/published/claims.toml");
/// Label of the published LoRA and SoRA in a rank sweep.
const PUBLISHED_RANK: &str = "r=8";
/// Task of the claim about a sparsifying schedule.
const SCHEDULE_TASK: &str = "sst2";

/// A claim of a paper.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Name in files.
    pub name: String,
    /// Paper that makes it.
    pub paper: String,
    /// The claim in words.
    pub text: String,
    /// Quantity that is compared.
    pub quantity: Quantity,
    /// Method of the left side.
    pub left: String,
    /// Method of the right side, where there is one.
    #[serde(default)]
    pub right: String,
    /// How both sides become one number.
    pub combine: CombineSides,
    /// Relation of that number to `value`.
    pub relation: Relation,
    /// Right side of the relation.
    pub value: f64,
    /// Distance that is still "about".
    #[serde(default)]
    pub tolerance: f64,
    /// The published number.
    pub published: f64,
    /// Check that the published number went through.
    pub status: Status,
    /// Where it was found.
    pub source: String,
}

/// Quantity of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Average score over the eight tasks.
    Score,
    /// Parameters by the authors' counter.
    AsPublished,
    /// Values left after pruning.
    Effective,
    /// Interleaved time of an epoch.
    EpochSeconds,
    /// Percent of the first stage's test score at few values.
    Kept,
}

/// How two sides become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CombineSides {
    /// Left less right.
    Difference,
    /// Left by right.
    Ratio,
    /// Left alone.
    Single,
}

/// Relation of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Above the value.
    Greater,
    /// Not above it.
    AtMost,
    /// Within the tolerance of it.
    About,
}

/// Answer of the runs to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The whole interval is where the claim puts it.
    Holds,
    /// The whole interval is elsewhere.
    Fails,
    /// The interval has both.
    Undecided,
    /// The settings differ, or there are too few runs.
    NotComparable,
}

impl Word {
    /// Name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Word::Holds => "holds",
            Word::Fails => "fails",
            Word::Undecided => "undecided",
            Word::NotComparable => "not comparable",
        }
    }
}

frame_rows! {
    /// One claim on the runs of one group.
    pub struct ClaimRow {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Claim.
        claim: String,
        /// Paper that makes it.
        paper: String,
        /// In words.
        text: String,
        /// Rows of ours that are compared.
        rows: String,
        /// Published number.
        published: f64,
        /// Check that it went through.
        published_status: String,
        /// Ours.
        ours: Option<f64>,
        /// Lower end of its 95 % interval.
        low: Option<f64>,
        /// Upper end.
        high: Option<f64>,
        /// Runs, pairs of seeds or rounds behind it.
        n: u64,
        /// Word: holds, fails, undecided, not comparable.
        word: String,
        /// Reasons that it is not comparable.
        reasons: String,
        /// Where the published number was found.
        source: String,
    }
}

/// A number of ours with its interval.
#[derive(Debug, Clone, Default, PartialEq)]
struct Evidence {
    value: Option<f64>,
    interval: Option<Interval>,
    n: usize,
    /// Rows that were compared.
    rows: String,
    /// Why it cannot decide the claim.
    reasons: Vec<String>,
}

/// Every claim.
///
/// # Errors
/// A bug only: the file is part of the binary and tested.
pub fn load() -> Result<Vec<Claim>> {
    #[derive(Deserialize)]
    struct File {
        claim: Vec<Claim>,
    }
    let file: File =
        toml::from_str(CLAIMS).map_err(|e| Error::Internal(format!("results/published/claims.toml: {e}")))?;
    Ok(file.claim)
}

/// Claims, and the times that decide some of them.
pub struct Claims {
    claims: Vec<Claim>,
    times: Vec<EfficiencyRow>,
}

impl Claims {
    /// Every claim, and the times of a frame.
    ///
    /// # Errors
    /// As [`load`].
    pub fn of(frame: &ResultsFrame) -> Result<Self> {
        Ok(Claims { claims: load()?, times: efficiency(&frame.timings, &frame.peers) })
    }

    /// Answers of a group's runs to the claims whose methods it has: of the base rows, and of the tuned rows where both sides have one.
    pub fn of_group(&self, group: &GroupResults) -> Vec<ClaimRow> {
        let tuned = tuned_rows(&searches(group));
        let evidence = |claim: &Claim| -> Vec<Evidence> {
            match claim.quantity {
                Quantity::EpochSeconds => time_evidence(claim, &self.times).into_iter().collect(),
                Quantity::Kept => kept_evidence(claim, group).into_iter().collect(),
                _ => {
                    let base = pair_evidence(claim, group, &group.methods, "");
                    base.into_iter().chain(pair_evidence(claim, group, &tuned, TUNED)).collect()
                }
            }
        };
        let rows = |claim| evidence(claim).into_iter().map(move |evidence| row(claim, group, evidence));
        self.claims.iter().flat_map(rows).collect()
    }
}

/// The row with a label, of runs made here; for the base row also the method's only one, or the one of the published rank in a rank sweep.
fn row_of<'a>(rows: &'a [MethodRow], method: &str, label: &str) -> Option<&'a MethodRow> {
    let of_method: Vec<&MethodRow> = rows.iter().filter(|row| row.method == method && !row.is_external()).collect();
    let labelled = |label: &str| of_method.iter().copied().find(|row| row.label == label);
    let only = || of_method.first().copied().filter(|_| of_method.len() == 1);
    labelled(label).or_else(|| if label.is_empty() { only().or_else(|| labelled(PUBLISHED_RANK)) } else { None })
}

fn pair_evidence(claim: &Claim, group: &GroupResults, rows: &[MethodRow], label: &str) -> Option<Evidence> {
    let (left, right) = (row_of(rows, &claim.left, label)?, row_of(rows, &claim.right, label)?);
    let tasks: Vec<&str> = TABLE1_TASKS.into_iter().filter(|task| !seeds(left, right, task).is_empty()).collect();
    let common = tasks.iter().map(|task| seeds(left, right, task)).reduce(|a, b| &a & &b).unwrap_or_default();
    let of_seed = |seed: &u64| {
        let values = tasks.iter().filter_map(|task| {
            let (a, b) = (value(claim.quantity, left, task, *seed)?, value(claim.quantity, right, task, *seed)?);
            Some((a, b))
        });
        let (a, b): (Vec<f64>, Vec<f64>) = values.unzip();
        let (a, b) = (mean(&a)?, mean(&b)?);
        Some(match claim.combine {
            CombineSides::Ratio => a / b,
            _ => a - b,
        })
    };
    let values: Vec<f64> = common.iter().filter_map(of_seed).collect();
    let mut reasons = scope(group);
    if tasks.len() < TABLE1_TASKS.len() {
        reasons.push(format!("{} of the {} tasks", tasks.len(), TABLE1_TASKS.len()));
    }
    if values.len() < 2 {
        reasons.push(format!("{} common seed{}", values.len(), if values.len() == 1 { "" } else { "s" }));
    }
    Some(Evidence {
        value: mean(&values),
        interval: t_interval(&values, 0.95),
        n: values.len(),
        rows: format!("{}, {}", left.title, right.title),
        reasons,
    })
}

/// Seeds that both rows finished on a task.
fn seeds(left: &MethodRow, right: &MethodRow, task: &str) -> BTreeSet<u64> {
    let of = |row: &MethodRow| row.cells.get(task).map(|cell| cell.by_seed().into_keys().collect()).unwrap_or_default();
    let (left, right): (BTreeSet<u64>, BTreeSet<u64>) = (of(left), of(right));
    &left & &right
}

fn value(quantity: Quantity, row: &MethodRow, task: &str, seed: u64) -> Option<f64> {
    let cell: &TaskCell = row.cells.get(task)?;
    let score = *cell.by_seed().get(&seed)?;
    let count = |of: fn(&RunRow) -> Option<i64>| of(&score.run.row).map(|n| n as f64);
    match quantity {
        Quantity::AsPublished => count(|run| run.as_published),
        Quantity::Effective => count(|run| run.effective),
        _ => Some(score.score()),
    }
}

/// Settings of a group that keep its runs from deciding a claim.
fn scope(group: &GroupResults) -> Vec<String> {
    let mut reasons = Vec::new();
    if group.group.data_source != "glue" {
        reasons.push(format!("data {}", group.group.data_source));
    }
    let published = datasets::backbones::named("DeBERTaV3-base");
    if !published.is_some_and(|known| known.weights.contains(&group.group.weights_sha256)) {
        reasons.push(format!("backbone {}", group.group.backbone));
    }
    reasons
}

/// The ratio of the interleaved timing, whose denominator is AdaLoRA.
fn time_evidence(claim: &Claim, times: &[EfficiencyRow]) -> Option<Evidence> {
    let found = times.iter().find(|row| row.is_own() && row.method == claim.left)?;
    let (low, high) = (found.ratio_low?, found.ratio_high?);
    Some(Evidence {
        value: found.ratio,
        interval: Some(Interval { low, high }),
        n: found.epochs as usize,
        rows: format!("{} on {}, {}", found.task, found.device, found.precision),
        reasons: Vec::new(),
    })
}

/// Each run's best share at few values, over the row that keeps most.
fn kept_evidence(claim: &Claim, group: &GroupResults) -> Option<Evidence> {
    let tasks = schedules(group);
    let curves = tasks.iter().filter(|task| task.task == SCHEDULE_TASK).flat_map(|task| &task.curves);
    let of_method = curves.filter(|curve| group.methods[curve.row].method == claim.left);
    let best = of_method.filter_map(|curve| Some((curve, curve.best_below(CLAIMED_VALUES)?)));
    let (curve, point) = best.max_by(|a, b| a.1.test.total_cmp(&b.1.test))?;
    let stage = point.stage - 1;
    let runs = group.methods[curve.row].cells.get(SCHEDULE_TASK)?.runs.iter();
    let of_run = |run: &Arc<RunResult>| {
        let (first, own) = (run.stages.first()?, run.stages.get(stage)?);
        (first.test > 0.0).then(|| 100.0 * own.test / first.test)
    };
    let values: Vec<f64> = runs.filter_map(of_run).collect();
    let mut reasons = scope(group);
    if values.len() < 2 {
        reasons.push(format!("{} run", values.len()));
    }
    Some(Evidence {
        value: mean(&values),
        interval: t_interval(&values, 0.95),
        n: values.len(),
        rows: format!("{}, stage {}", curve.title, point.stage),
        reasons,
    })
}

/// The word of a number's interval.
fn word(claim: &Claim, evidence: &Evidence) -> Word {
    let (Some(Interval { low, high }), true) = (evidence.interval, evidence.reasons.is_empty()) else {
        return Word::NotComparable;
    };
    let (inside, outside) = match claim.relation {
        Relation::Greater => (low > claim.value, high <= claim.value),
        Relation::AtMost => (high <= claim.value, low > claim.value),
        Relation::About => {
            let (least, most) = (claim.value - claim.tolerance, claim.value + claim.tolerance);
            (least <= low && high <= most, high < least || most < low)
        }
    };
    match (inside, outside) {
        (true, _) => Word::Holds,
        (_, true) => Word::Fails,
        _ => Word::Undecided,
    }
}

fn row(claim: &Claim, group: &GroupResults, evidence: Evidence) -> ClaimRow {
    let word = word(claim, &evidence);
    ClaimRow {
        data_source: group.group.data_source.clone(),
        backbone: group.group.backbone.clone(),
        split: group.group.split.clone(),
        claim: claim.name.clone(),
        paper: claim.paper.clone(),
        text: claim.text.clone(),
        rows: evidence.rows,
        published: claim.published,
        published_status: claim.status.name().into(),
        ours: evidence.value,
        low: evidence.interval.map(|interval| interval.low),
        high: evidence.interval.map(|interval| interval.high),
        n: evidence.n as u64,
        word: word.name().into(),
        reasons: evidence.reasons.join("; "),
        source: claim.source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(relation: Relation) -> Claim {
        let mut claim = load().unwrap().remove(0);
        (claim.relation, claim.value, claim.tolerance) = (relation, 1.0, 0.1);
        claim
    }

    #[test]
    fn words_follow_from_the_interval() {
        let said = |relation, low, high| {
            let interval = Some(Interval { low, high });
            word(&claim(relation), &Evidence { interval, n: 3, ..Evidence::default() })
        };
        use Relation::{About, AtMost, Greater};
        use Word::{Fails, Holds, Undecided};
        assert_eq!(
            [said(Greater, 1.1, 2.0), said(Greater, 0.0, 1.0), said(Greater, 0.5, 1.5)],
            [Holds, Fails, Undecided]
        );
        assert_eq!([said(AtMost, 0.1, 1.0), said(AtMost, 1.1, 2.0), said(AtMost, 0.5, 1.5)], [Holds, Fails, Undecided]);
        assert_eq!([said(About, 0.95, 1.05), said(About, 1.2, 1.3), said(About, 0.8, 1.0)], [Holds, Fails, Undecided]);
    }

    #[test]
    fn a_reason_or_a_missing_interval_decides_nothing() {
        let interval = Some(Interval { low: 2.0, high: 3.0 });
        let with_reason = Evidence { interval, reasons: vec!["data micro".into()], ..Evidence::default() };
        assert_eq!(word(&claim(Relation::Greater), &with_reason), Word::NotComparable);
        assert_eq!(word(&claim(Relation::Greater), &Evidence::default()), Word::NotComparable);
    }

    #[test]
    fn the_claims_name_known_methods_and_have_sources() {
        let claims = load().unwrap();
        assert!(claims.len() >= 8);
        for claim in &claims {
            methods::registry::find(&claim.left).unwrap();
            assert!(claim.right.is_empty() == (claim.combine == CombineSides::Single), "{}", claim.name);
            assert!(!claim.source.is_empty(), "{}", claim.name);
        }
    }
}

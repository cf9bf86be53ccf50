//! The sparsifying schedule in numbers: where generalisation turns, and what is kept at the paper's 40,000 values.

use crate::analysis::frame::typed::Frame;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::schedule::{
    CLAIMED_VALUES, KEPT, ScheduleCurve, StagePoint, TaskSchedule, kept_by_row, schedule_rows, schedules,
};
use crate::error::Result;
use crate::report::formats::format::join;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count};

/// Task of the paper's claim.
const CLAIMED_TASK: &str = "sst2";

/// Stages of a sparsifying schedule.
pub struct Schedule;

impl Table for Schedule {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn title(&self) -> &'static str {
        "Sparsifying schedule"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        frame.groups.iter().filter_map(|group| document(self.title(), group).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults) -> Result<Option<TableDoc>> {
    let tasks = schedules(group);
    if tasks.is_empty() {
        return Ok(None);
    }
    let names = ["Row", "Task", "Runs", "First stage", "Turning point", "Last stage", "At ≤ 40,000 values"];
    let rows = tasks.iter().flat_map(|task| task.curves.iter().map(move |curve| row(task, curve)));
    Ok(Some(TableDoc {
        title: format!("{title}: {}", group.group.title()),
        header: names.map(str::to_string).to_vec(),
        rows: rows.collect(),
        notes: notes(&tasks),
        data: Frame::from_rows(&schedule_rows(group, &tasks))?.into_data(),
    }))
}

fn row(task: &TaskSchedule, curve: &ScheduleCurve) -> Vec<String> {
    let left_out = if curve.left_out > 0 { format!(" ({} left out)", curve.left_out) } else { String::new() };
    let first = curve.points.first().map(|p| format!("{} values, test {:.2}", count(p.effective), p.test_points));
    let percents = |point: &StagePoint| {
        format!(
            "stage {}: {} values, gen. {:.1} %, mem. {:.1} %",
            point.stage,
            count(point.effective),
            point.generalisation,
            point.memorisation
        )
    };
    let turning = match curve.points.is_empty() {
        true => ABSENT.to_string(),
        false => curve.turning_point().map_or(format!("never below {KEPT:.0} %"), percents),
    };
    let below = curve.best_below(CLAIMED_VALUES);
    let cells = vec![
        curve.title.clone(),
        task.title.clone(),
        format!("{}{left_out}", curve.runs),
        first.unwrap_or_else(|| ABSENT.into()),
        turning,
        curve.points.last().map_or(ABSENT.into(), percents),
        below.map_or("not reached".into(), |p| format!("test {:.1} % ({} values)", p.test, count(p.effective))),
    ];
    cells
}

fn notes(tasks: &[TaskSchedule]) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Percent of the first stage, mean over runs: generalisation on the validation split, memorisation on up to 1,000 \
             training rows, both at the end of a stage. The first stage ends at its selected checkpoint. Turning point: the last \
             stage before generalisation first falls below {KEPT:.0} %."
        ),
        "rate=released: the learning rate is 0 after the first stage, as in the released code, so that gates shrink and nothing else \
         changes. rate=rewarm: a fresh warm-up and decay in every stage."
            .to_string(),
    ];
    let kept = kept_by_row(tasks, CLAIMED_TASK);
    notes.push(match kept.is_empty() {
        true => "The paper's claim, SST-2 keeps 99 % at 40,000 values: no stage here stands for it.".to_string(),
        false => format!(
            "The paper's claim, SST-2 keeps 99 % at 40,000 values: {}.",
            join(
                kept.iter().map(|(row, (values, percent))| {
                    let word = if *percent >= KEPT { "kept" } else { "not kept" };
                    format!(
                        "{row}: {word}, {percent:.1} % of the first stage's test score at {} values",
                        count(*values)
                    )
                }),
                "; "
            )
        ),
    });
    notes
}

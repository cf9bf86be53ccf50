//! Final ranks task by task: layer × kind of module, mean over seeds, with the agreement between seeds (the paper's Fig. 4).

use crate::analysis::rank_agreement::{TaskRanks, task_ranks};
use crate::analysis::ranks::RankMap;
use crate::analysis::results::GroupResults;
use crate::report::figure::Figure;
use crate::report::figures::ranks::heat_maps;
use crate::report::plot::layout::Heading;
use crate::report::plot::scene::Scene;

/// Final ranks, one panel a row and task.
pub struct TaskRanksFigure;

impl Figure for TaskRanksFigure {
    fn name(&self) -> &'static str {
        "final_ranks_by_task"
    }

    fn title(&self) -> &'static str {
        "Final rank by layer and kind of linear, task by task"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let maps: Vec<RankMap> = task_ranks(group).iter().map(titled).collect();
        if maps.is_empty() {
            return None;
        }
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: Vec::new(),
            notes: vec![
                "Non-zero components at the selected checkpoint, mean over seeds; rows and tasks in which something was pruned. ρ: \
                 Spearman's correlation of the modules' ranks, mean over every two seeds. Across: layer."
                    .into(),
            ],
        };
        Some(heat_maps(&heading, &maps))
    }
}

fn titled(ranks: &TaskRanks) -> RankMap {
    let agreement = ranks.mean_agreement().map_or(String::new(), |mean| format!(" (ρ {mean:.2})"));
    RankMap { title: ranks.map.title.clone() + &agreement, ..ranks.map.clone() }
}

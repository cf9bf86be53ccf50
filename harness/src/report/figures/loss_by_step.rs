//! Training loss by step.

use crate::analysis::results::GroupResults;
use crate::report::figure::Figure;
use crate::report::figures::step_lines::StepLines;
use crate::report::plot::scene::Scene;

/// Task loss of the training batches by step.
pub struct LossByStep;

const LINES: StepLines = StepLines {
    title: "Training loss by step",
    quantity: "task loss",
    note: "Up: task loss of the training batches before the update, without penalty; a point is the mean of the steps logged since \
           the one before.",
    from: None,
    points: |traces| &traces.losses,
};

impl Figure for LossByStep {
    fn name(&self) -> &'static str {
        "loss_by_step"
    }

    fn title(&self) -> &'static str {
        LINES.title
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        LINES.draw(group)
    }
}

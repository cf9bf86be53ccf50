//! Non-zero gates and singular values by step.

use crate::analysis::results::GroupResults;
use crate::report::figure::Figure;
use crate::report::figures::step_lines::StepLines;
use crate::report::plot::scene::Scene;

/// Components that are left, over all modules, by step.
pub struct NonzeroComponents;

const LINES: StepLines = StepLines {
    title: "Non-zero components by step",
    quantity: "non-zero components",
    note: "Up: gates (SoRA) or singular values (AdaLoRA) that are not exactly 0, over all modules together; AdaLoRA's start at 0.",
    from: Some(0.0),
    points: |traces| &traces.components,
};

impl Figure for NonzeroComponents {
    fn name(&self) -> &'static str {
        "nonzero_components"
    }

    fn title(&self) -> &'static str {
        LINES.title
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        LINES.draw(group)
    }
}

//! Figures of the report: the trait.

use crate::analysis::results::GroupResults;
use crate::report::plot::scene::Scene;

/// One figure of the report.
pub trait Figure: Sync {
    /// File name without extension.
    fn name(&self) -> &'static str;
    /// Heading.
    fn title(&self) -> &'static str;
    /// Draws the runs of one group; `None` where there is nothing to draw.
    fn draw(&self, group: &GroupResults) -> Option<Scene>;
}

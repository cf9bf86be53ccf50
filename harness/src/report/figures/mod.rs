//! Figures. To add one: one file here that implements [`Figure`], and one line in [`FIGURES`].
//!
//! A figure says what is where ([`scene::Scene`]); `render` draws a scene on any plotters backend.

mod curves;
mod ranks;
mod score_parameters;

use crate::analysis::frame::Collected;
use crate::error::Result;
use crate::report::plot::scene::Scene;

/// One figure of the report.
pub trait Figure: Sync {
    /// File name without extension.
    fn name(&self) -> &'static str;
    /// What it shows.
    fn title(&self) -> &'static str;
    /// Draws the runs of one protocol; `None` when there is nothing to draw.
    ///
    /// # Errors
    /// A bug only.
    fn scene(&self, collected: &Collected) -> Result<Option<Scene>>;
}

/// Every figure, in the order of the report.
pub static FIGURES: &[&dyn Figure] = &[&score_parameters::ScoreParameters, &curves::Curves, &ranks::Ranks];

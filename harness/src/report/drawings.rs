//! Every figure of a report, drawn on all cores.

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::figure::Figure;
use crate::report::figures::FIGURES;
use crate::report::html::figure::Drawn;
use crate::report::plot::pdf::pdf;
use crate::report::plot::render;

/// Error once the work is to be stopped.
pub type GoOn<'a> = dyn Fn() -> Result<()> + Sync + 'a;

/// A figure as its files and as the page shows it.
pub struct DrawnFigure {
    /// Name of its files without extension.
    pub stem: String,
    /// SVG file.
    pub svg: String,
    /// PDF file.
    pub pdf: Vec<u8>,
    /// PNG file.
    pub png: Vec<u8>,
    /// Its drawing on the page, always with its heading.
    pub shown: Drawn,
}

/// The figures of a frame in the order of its groups; with `bare`, their files have no heading and no notes.
///
/// # Errors
/// That of `go_on`; a bug.
pub fn drawings(frame: &ResultsFrame, bare: bool, go_on: &GoOn) -> Result<Vec<DrawnFigure>> {
    let of_group = |group| FIGURES.iter().map(move |figure| (group, *figure));
    let asked: Vec<(&GroupResults, &dyn Figure)> = frame.groups.iter().flat_map(of_group).collect();
    let drawn = asked.par_iter().map(|(group, figure)| {
        go_on()?;
        let stem = match frame.groups.len() {
            1 => figure.name().into(),
            _ => format!("{}-{}", figure.name(), group.group.slug()),
        };
        drawing(*figure, group, stem, bare)
    });
    Ok(drawn.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn drawing(figure: &dyn Figure, group: &GroupResults, stem: String, bare: bool) -> Result<Option<DrawnFigure>> {
    let Some(mut scene) = figure.draw(group) else { return Ok(None) };
    let mut svg = render::svg(&scene)?;
    let shown = Drawn::new(figure.title(), &scene, svg.clone());
    if bare {
        scene = scene.bare();
        svg = render::svg(&scene)?;
    }
    let (pdf, png) = rayon::join(|| pdf(&scene), || render::png(&scene));
    Ok(Some(DrawnFigure { stem, svg, pdf: pdf?, png: png?, shown }))
}

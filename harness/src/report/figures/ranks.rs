//! Final ranks: layer × kind of module, one panel a method (the paper's Fig. 4).

use std::collections::BTreeSet;

use crate::analysis::ranks::{RankMap, kinds, rank_maps};
use crate::analysis::results::GroupResults;
use crate::report::figure::Figure;
use crate::report::plot::layout::{Heading, PanelGrid};
use crate::report::plot::render::fit;
use crate::report::plot::scene::{Align, GREY, INK, Point, Rgb, Scene};

const LABELS: f64 = 132.0;
const TILE: Point = (40.0, 28.0);
const ABOVE: f64 = 34.0;
const BELOW: f64 = 34.0;
const WIDEST: f64 = 1240.0;
/// Least width of a panel, for its title.
const NARROWEST: f64 = 400.0;
const FULL: Rgb = (8, 69, 148);
/// Colour bar: size, distance from the panel's left side, and shades.
const BAR: Point = (70.0, 10.0);
const BAR_AT: f64 = 22.0;
const BAR_STEPS: u32 = 20;

/// Final-rank heat map.
pub struct Ranks;

impl Figure for Ranks {
    fn name(&self) -> &'static str {
        "final_ranks"
    }

    fn title(&self) -> &'static str {
        "Final rank by layer and kind of linear"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let maps = rank_maps(&group.methods);
        if maps.is_empty() {
            return None;
        }
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: Vec::new(),
            notes: vec![
                "Non-zero components at the selected checkpoint, mean over finished runs (tasks and seeds). Across: layer. \
                 Darker: a larger share of the method's maximum rank."
                    .into(),
            ],
        };
        Some(heat_maps(&heading, &maps))
    }
}

/// A panel a map, all with the same kinds and layers.
pub(super) fn heat_maps(heading: &Heading, maps: &[RankMap]) -> Scene {
    let kinds = kinds(maps);
    let layers: BTreeSet<u32> = maps.iter().flat_map(|map| map.tiles.keys().map(|key| key.1)).collect();
    let wide = LABELS + layers.len() as f64 * TILE.0 + 24.0;
    let cell = (wide.max(NARROWEST), ABOVE + kinds.len() as f64 * TILE.1 + BELOW);
    let columns = ((WIDEST / cell.0) as usize).max(1);
    let mut grid = PanelGrid::new(heading, maps.len(), columns, cell);
    for (index, map) in maps.iter().enumerate() {
        let corner = grid.corner(index);
        draw(&mut grid.scene, corner, map, &kinds, &layers, cell.0 - 24.0);
    }
    grid.scene
}

fn draw(scene: &mut Scene, corner: Point, map: &RankMap, kinds: &[String], layers: &BTreeSet<u32>, width: f64) {
    let (left, top) = (corner.0 + LABELS, corner.1 + ABOVE);
    let runs = if map.runs == 1 { "1 run".to_string() } else { format!("{} runs", map.runs) };
    let title = format!("{}: mean {:.1} of {}, {runs}", map.title, map.mean, map.largest);
    scene.text((corner.0, corner.1 + 16.0), Align::Left, 13.0, INK, fit(&title, 13.0, width));
    for (row, kind) in kinds.iter().enumerate() {
        let y = top + (row as f64 + 0.5) * TILE.1;
        let label = fit(&kind.replace('_', " "), 12.0, LABELS - 12.0);
        scene.text((left - 8.0, y), Align::Right, 12.0, GREY, label);
        for (column, layer) in layers.iter().enumerate() {
            let at = (left + column as f64 * TILE.0, y - TILE.1 / 2.0);
            if let Some(rank) = map.tiles.get(&(kind.clone(), *layer)) {
                tile(scene, at, *rank, rank / f64::from(map.largest.max(1)));
                let kind = kind.replace('_', " ");
                let text = format!("{}, layer {layer}, {kind}: rank {rank:.1} of {}", map.title, map.largest);
                scene.spot((at.0 + TILE.0 / 2.0, y), TILE.1 / 2.0, text);
            }
        }
    }
    let bottom = top + kinds.len() as f64 * TILE.1;
    for (column, layer) in layers.iter().enumerate() {
        let x = left + (column as f64 + 0.5) * TILE.0;
        scene.text((x, bottom + 11.0), Align::Center, 11.5, GREY, layer.to_string());
    }
    color_bar(scene, (corner.0, bottom + 11.0), map.largest);
}

/// The colours from no component to the maximum rank, below the kinds of modules.
fn color_bar(scene: &mut Scene, (left, y): Point, largest: i32) {
    let step = BAR.0 / f64::from(BAR_STEPS);
    scene.text((left + BAR_AT - 5.0, y), Align::Right, 11.5, GREY, "0");
    for index in 0..BAR_STEPS {
        let at = (left + BAR_AT + f64::from(index) * step, y - BAR.1 / 2.0);
        scene.rect(at, (step, BAR.1), shade((f64::from(index) + 0.5) / f64::from(BAR_STEPS)));
    }
    scene.text((left + BAR_AT + BAR.0 + 5.0, y), Align::Left, 11.5, GREY, largest.to_string());
}

/// Colour of a share of the maximum rank.
fn shade(share: f64) -> Rgb {
    let blend = |full: u8| (255.0 + (f64::from(full) - 255.0) * (0.06 + 0.94 * share)).round() as u8;
    (blend(FULL.0), blend(FULL.1), blend(FULL.2))
}

fn tile(scene: &mut Scene, at: Point, rank: f64, share: f64) {
    let share = share.clamp(0.0, 1.0);
    scene.rect(at, (TILE.0 - 1.0, TILE.1 - 1.0), shade(share));
    let ink = if share > 0.5 { (255, 255, 255) } else { INK };
    let text = if (rank - rank.round()).abs() < 1e-9 { format!("{rank:.0}") } else { format!("{rank:.1}") };
    scene.text((at.0 + TILE.0 / 2.0, at.1 + TILE.1 / 2.0), Align::Center, 12.0, ink, text);
}

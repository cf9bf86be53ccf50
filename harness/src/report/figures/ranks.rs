//! Final ranks: layer × kind of module, one panel a method (the paper's Fig. 4).

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::columns::task_columns;
use crate::analysis::frame::group::Protocol;
use crate::analysis::frame::{Collected, RankPoint, rows};
use crate::analysis::stats::mean;
use crate::analysis::summary::{MethodRow, summarise};
use crate::error::Result;
use crate::report::figures::Figure;
use crate::report::plot::layout::{Heading, Sheet};
use crate::report::plot::render::fit;
use crate::report::plot::scene::{Align, GREY, INK, Point, Rgb, Scene};

const LABELS: f64 = 132.0;
const TILE: Point = (40.0, 28.0);
const ABOVE: f64 = 34.0;
const BELOW: f64 = 34.0;
const WIDEST: f64 = 1240.0;
/// The order of the linears in a layer; other kinds follow.
const KINDS: [&str; 6] = ["query", "key", "value", "attention_output", "intermediate", "output"];
const FULL: Rgb = (8, 69, 148);

/// Final-rank heat map.
pub struct Ranks;

/// One method: mean rank by (kind, layer), the maximum rank and how many runs.
struct Map {
    title: String,
    tiles: BTreeMap<(String, u64), f64>,
    largest: i64,
    runs: usize,
}

impl Figure for Ranks {
    fn name(&self) -> &'static str {
        "final_ranks"
    }

    fn title(&self) -> &'static str {
        "Final rank by layer and kind of linear"
    }

    fn scene(&self, collected: &Collected) -> Result<Option<Scene>> {
        let results = collected.results()?;
        let methods = summarise(&results, &task_columns(&results));
        let points = rows::<RankPoint>(&collected.ranks)?;
        let maps: Vec<Map> = methods.iter().filter_map(|method| map(method, &points)).collect();
        let (Some(first), false) = (results.first(), maps.is_empty()) else { return Ok(None) };
        let protocol = Protocol::of(first);
        let heading = Heading {
            title: self.title(),
            protocol: &protocol,
            legend: Vec::new(),
            notes: vec![
                "Non-zero components at the selected checkpoint, mean over finished runs (tasks and seeds). Across: layer. \
                 Darker: a larger share of the method's maximum rank."
                    .into(),
            ],
        };
        let kinds = kinds(&maps);
        let layers: BTreeSet<u64> = maps.iter().flat_map(|map| map.tiles.keys().map(|key| key.1)).collect();
        let cell = (LABELS + layers.len() as f64 * TILE.0 + 24.0, ABOVE + kinds.len() as f64 * TILE.1 + BELOW);
        let columns = ((WIDEST / cell.0) as usize).max(1);
        let mut sheet = Sheet::new(&heading, maps.len(), columns, cell);
        for (index, map) in maps.iter().enumerate() {
            let corner = sheet.corner(index);
            draw(&mut sheet.scene, corner, map, &kinds, &layers);
        }
        Ok(Some(sheet.scene))
    }
}

fn map(method: &MethodRow, points: &[RankPoint]) -> Option<Map> {
    let mut ranks: BTreeMap<(String, u64), Vec<f64>> = BTreeMap::new();
    let mut largest = 0;
    let mut runs = 0;
    for run in method.runs.iter().filter(|run| run.status == "done") {
        let own: Vec<&RankPoint> = points.iter().filter(|point| point.run == run.run).collect();
        let selected = run.selected_step.filter(|step| own.iter().any(|point| point.step == *step));
        let Some(step) = selected.or_else(|| own.iter().map(|point| point.step).max()) else { continue };
        runs += 1;
        for point in own.iter().filter(|point| point.step == step) {
            ranks.entry((point.kind.clone(), point.layer)).or_default().push(point.rank as f64);
            largest = largest.max(point.max_rank);
        }
    }
    let tiles = ranks.into_iter().filter_map(|(key, values)| Some((key, mean(&values)?))).collect();
    (runs > 0).then(|| Map { title: method.title.clone(), tiles, largest, runs })
}

fn kinds(maps: &[Map]) -> Vec<String> {
    let seen: BTreeSet<&str> = maps.iter().flat_map(|map| map.tiles.keys().map(|key| key.0.as_str())).collect();
    let known = KINDS.iter().copied().filter(|kind| seen.contains(kind));
    known.chain(seen.iter().copied().filter(|kind| !KINDS.contains(kind))).map(str::to_string).collect()
}

fn draw(scene: &mut Scene, corner: Point, map: &Map, kinds: &[String], layers: &BTreeSet<u64>) {
    let (left, top) = (corner.0 + LABELS, corner.1 + ABOVE);
    let all: Vec<f64> = map.tiles.values().copied().collect();
    let runs = if map.runs == 1 { "1 run".to_string() } else { format!("{} runs", map.runs) };
    let title = format!("{}: mean {:.1} of {}, {runs}", map.title, mean(&all).unwrap_or(0.0), map.largest);
    let width = LABELS + layers.len() as f64 * TILE.0;
    scene.text((corner.0, corner.1 + 16.0), Align::Left, 13.0, INK, fit(&title, 13.0, width));
    for (row, kind) in kinds.iter().enumerate() {
        let y = top + (row as f64 + 0.5) * TILE.1;
        let label = fit(&kind.replace('_', " "), 12.0, LABELS - 12.0);
        scene.text((left - 8.0, y), Align::Right, 12.0, GREY, label);
        for (column, layer) in layers.iter().enumerate() {
            let at = (left + column as f64 * TILE.0, y - TILE.1 / 2.0);
            if let Some(rank) = map.tiles.get(&(kind.clone(), *layer)) {
                tile(scene, at, *rank, rank / map.largest.max(1) as f64);
            }
        }
    }
    let bottom = top + kinds.len() as f64 * TILE.1;
    for (column, layer) in layers.iter().enumerate() {
        let x = left + (column as f64 + 0.5) * TILE.0;
        scene.text((x, bottom + 11.0), Align::Center, 11.5, GREY, layer.to_string());
    }
}

fn tile(scene: &mut Scene, at: Point, rank: f64, share: f64) {
    let share = share.clamp(0.0, 1.0);
    let blend = |full: u8| (255.0 + (f64::from(full) - 255.0) * (0.06 + 0.94 * share)).round() as u8;
    scene.rect(at, (TILE.0 - 1.0, TILE.1 - 1.0), (blend(FULL.0), blend(FULL.1), blend(FULL.2)));
    let ink = if share > 0.5 { (255, 255, 255) } else { INK };
    let text = if (rank - rank.round()).abs() < 1e-9 { format!("{rank:.0}") } else { format!("{rank:.1}") };
    scene.text((at.0 + TILE.0 / 2.0, at.1 + TILE.1 / 2.0), Align::Center, 12.0, ink, text);
}

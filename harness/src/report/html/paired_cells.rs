//! Tests against LoRA by cell, out of the table that has made them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::typed::{FrameRow, internal};
use crate::analysis::paired::PairedRow;
use crate::error::Result;
use crate::report::table::TableDoc;

/// A row on one task against its LoRA row, in points of 100.
#[derive(Clone, Serialize)]
pub struct PairedCell {
    reference: String,
    pairs: u64,
    difference: Option<f64>,
    interval: Option<[f64; 2]>,
    p_t: Option<f64>,
    p_holm: Option<f64>,
    p_sign_flip: Option<f64>,
    examples: Option<[f64; 2]>,
}

/// Every comparison by group, row and task.
pub struct PairedCells(BTreeMap<[String; 5], PairedCell>);

impl PairedCells {
    /// The comparisons of a report's tables.
    ///
    /// # Errors
    /// A bug only.
    pub fn of(tables: &[(&'static str, Vec<TableDoc>)]) -> Result<Self> {
        let docs = tables.iter().filter(|(name, _)| *name == "paired").flat_map(|(_, docs)| docs);
        let mut cells = BTreeMap::new();
        for doc in docs {
            for row in PairedRow::read(&doc.data).map_err(internal)? {
                let pair = |low: Option<f64>, high: Option<f64>| Some([low?, high?]);
                let cell = PairedCell {
                    reference: row.reference,
                    pairs: row.pairs,
                    difference: row.difference,
                    interval: pair(row.interval_low, row.interval_high),
                    p_t: row.p_t,
                    p_holm: row.p_holm,
                    p_sign_flip: row.p_sign_flip,
                    examples: pair(row.examples_low, row.examples_high),
                };
                cells.insert([row.data_source, row.backbone, row.split, row.title, row.task], cell);
            }
        }
        Ok(PairedCells(cells))
    }

    /// The comparison of a row, by its title, on a task or over all of them.
    pub fn get(&self, group: &ReportGroup, title: &str, task: &str) -> Option<PairedCell> {
        let key = [&group.data_source, &group.backbone, &group.split].map(String::clone);
        let [source, backbone, split] = key;
        self.0.get(&[source, backbone, split, title.into(), task.into()]).cloned()
    }
}

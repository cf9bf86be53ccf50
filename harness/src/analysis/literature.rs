//! Published rows of many papers on DeBERTaV3-base, and independent re-runs, each with its provenance (`results/published`).

use serde::Deserialize;

use crate::analysis::frame::typed::frame_rows;
use crate::analysis::published::parse;
use crate::error::Result;

/// Text of the published rows.
pub const LITERATURE: &str = include_str!("../../../results/published/literature.csv");
const RERUNS: &str = include_str!("../../../results/published/reruns.csv");

frame_rows! {
    /// One row of a published table: full development set, MNLI matched and QQP accuracy alone unless remarked.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct LiteratureRow {
        /// Method of ours that it is; empty for another.
        method: String,
        /// Row label.
        label: String,
        /// Trained values in millions.
        params_millions: Option<f64>,
        /// MNLI.
        mnli: Option<f64>,
        /// SST-2.
        sst2: Option<f64>,
        /// CoLA.
        cola: Option<f64>,
        /// QQP.
        qqp: Option<f64>,
        /// QNLI.
        qnli: Option<f64>,
        /// RTE.
        rte: Option<f64>,
        /// MRPC.
        mrpc: Option<f64>,
        /// STS-B.
        stsb: Option<f64>,
        /// Mean of the eight cells.
        average: Option<f64>,
        /// `own run`, whose run it is, or whom it was copied from.
        provenance: String,
        /// Paper.
        source: String,
        /// Check that the row went through: `read`, `second-hand`, `unverified`.
        status: String,
        /// Runs that each number is the mean of, where it is stated.
        runs: Option<u64>,
        /// Split, where it is stated: `official` or `sora`.
        split: String,
        /// Remark for the reader.
        remark: String,
    }
}

frame_rows! {
    /// One comparison of the methods that somebody else made.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RerunRow {
        /// Who made it.
        who: String,
        /// Model, data and seeds.
        setting: String,
        /// Number that is compared.
        comparison: String,
        /// LoRA's.
        lora: Option<f64>,
        /// AdaLoRA's.
        adalora: Option<f64>,
        /// SoRA's.
        sora: Option<f64>,
        /// Unit.
        unit: String,
        /// Where it was found.
        source: String,
        /// Check that the row went through.
        status: String,
        /// Remark for the reader.
        remark: String,
    }
}

impl LiteratureRow {
    /// The eight cells.
    pub fn cells(&self) -> [Option<f64>; 8] {
        [self.mnli, self.sst2, self.cola, self.qqp, self.qnli, self.rte, self.mrpc, self.stsb]
    }
}

/// Published rows, in the order of the file.
///
/// # Errors
/// A bug only: the file is part of the binary and tested.
pub fn literature() -> Result<Vec<LiteratureRow>> {
    parse("literature.csv", LITERATURE)
}

/// Independent re-runs, in the order of the file.
///
/// # Errors
/// As [`literature`].
pub fn reruns() -> Result<Vec<RerunRow>> {
    parse("reruns.csv", RERUNS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::analysis::published::Status;
    use crate::analysis::stats::mean;

    #[test]
    fn averages_follow_from_their_cells_and_there_are_twelve_sources() {
        let rows = literature().unwrap();
        let mut complete = 0;
        for row in &rows {
            if let (Some(cells), Some(average)) = (row.cells().into_iter().collect::<Option<Vec<f64>>>(), row.average) {
                let computed = mean(&cells).unwrap();
                assert!((computed - average).abs() <= 0.0051, "{}: {computed} is not {average}", row.label);
                complete += 1;
            }
        }
        assert!(complete > 20, "{complete}");
        let sources: BTreeSet<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        assert!(sources.len() >= 12, "{sources:?}");
    }

    #[test]
    fn every_row_says_whose_run_it_is_and_what_check_it_went_through() {
        let known = ["read", "second-hand", "unverified"];
        for row in literature().unwrap() {
            assert!(!row.provenance.is_empty() && known.contains(&row.status.as_str()), "{}", row.label);
        }
        for row in reruns().unwrap() {
            assert!(!row.source.is_empty() && known.contains(&row.status.as_str()), "{}", row.who);
            assert!([row.lora, row.adalora, row.sora].iter().flatten().all(|value| *value > 1.0), "{}", row.who);
        }
        assert_eq!(["read", "second-hand", "unverified"].map(Status::mark_of), ["", "†", "‡"]);
    }
}

//! Published rows of many papers with their provenance, and independent re-runs, beside runs on real GLUE.

use crate::analysis::frame::typed::Frame;
use crate::analysis::literature::{LiteratureRow, RerunRow, literature, reruns};
use crate::analysis::published::Status;
use crate::analysis::results::ResultsFrame;
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::fixed;

/// Published rows on DeBERTaV3-base.
pub struct Literature;
/// Independent re-runs.
pub struct Reruns;

impl Table for Literature {
    fn name(&self) -> &'static str {
        "literature"
    }

    fn title(&self) -> &'static str {
        "Published rows on DeBERTaV3-base"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        if !has_real_data(frame) {
            return Ok(Vec::new());
        }
        let rows = literature()?;
        let heads = ["Row", "Parameters", "MNLI", "SST-2", "CoLA", "QQP", "QNLI", "RTE", "MRPC", "STS-B", "Average"];
        let heads = heads.into_iter().chain(["Whose run", "Source", "Remark"]);
        Ok(vec![TableDoc {
            title: self.title().into(),
            header: heads.map(str::to_string).collect(),
            rows: rows.iter().map(literature_row).collect(),
            notes: vec![
                "Full development set, MNLI matched and QQP accuracy alone, so that averages are not Table 1's, unless the remark says \
                 otherwise. † second-hand: machine-written notes, the paper was not read; ‡ unverified."
                    .into(),
            ],
            data: Frame::from_rows(&rows)?.into_data(),
        }])
    }
}

impl Table for Reruns {
    fn name(&self) -> &'static str {
        "reruns"
    }

    fn title(&self) -> &'static str {
        "Independent re-runs of the methods"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        if !has_real_data(frame) {
            return Ok(Vec::new());
        }
        let rows = reruns()?;
        let heads = ["Who", "Setting", "Number", "LoRA", "AdaLoRA", "SoRA", "Remark"];
        Ok(vec![TableDoc {
            title: self.title().into(),
            header: heads.map(str::to_string).to_vec(),
            rows: rows.iter().map(rerun_row).collect(),
            notes: vec![
                "What others measured, in other settings: the expectation that our own rows are read against is SoRA equal to LoRA within \
                 noise, and AdaLoRA at or below LoRA unless its schedule fits the run. † second-hand."
                    .into(),
            ],
            data: Frame::from_rows(&rows)?.into_data(),
        }])
    }
}

fn has_real_data(frame: &ResultsFrame) -> bool {
    frame.groups.iter().any(|group| group.group.data_source == "glue")
}

fn literature_row(row: &LiteratureRow) -> Vec<String> {
    let mut cells = vec![row.label.clone() + Status::mark_of(&row.status)];
    cells.push(row.params_millions.map_or(String::new(), |millions| format!("{millions}M")));
    cells.extend(row.cells().map(|value| fixed(value, 2)));
    cells.extend([fixed(row.average, 2), row.provenance.clone(), row.source.clone(), row.remark.clone()]);
    cells
}

fn rerun_row(row: &RerunRow) -> Vec<String> {
    let value = |value: Option<f64>| fixed(value, 2);
    let cells = vec![
        row.who.clone() + Status::mark_of(&row.status),
        row.setting.clone(),
        row.comparison.clone(),
        value(row.lora),
        value(row.adalora),
        value(row.sora),
        row.remark.clone(),
    ];
    cells
}

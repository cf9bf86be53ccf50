//! Settings that the numbers of a row are assumed to be measured in, and where each comes from.

use datasets::split::Policy;

use crate::analysis::audit::printed::PrintedRow;
use crate::analysis::published::{self, Setting};
use crate::error::Result;

/// Runs behind a number where nothing says how many: as in the SoRA and AdaLoRA papers.
pub const RUNS: usize = 5;
/// Split where nothing says which: as AdaLoRA and most papers do.
pub const SPLIT: Policy = Policy::Official;
/// Backbone of the rows of results/published/literature.csv.
const LITERATURE_BACKBONE: &str = "DeBERTaV3-base";
/// Table name of that file.
const LITERATURE: &str = "literature";

/// Settings that the caller gives instead of the table's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Given {
    /// Runs behind each number.
    pub runs: Option<usize>,
    /// Split.
    pub split: Option<Policy>,
}

/// Place that a setting was found at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Given by the caller.
    Given,
    /// A column of the table.
    Column,
    /// results/published/settings.csv, for the row.
    Published,
    /// The same, for other rows of its table: its own is not known.
    SameTable,
    /// The default.
    Default,
}

impl Origin {
    /// Text in notes.
    pub fn text(self) -> &'static str {
        match self {
            Origin::Given => "as given",
            Origin::Column => "from the table",
            Origin::Published => "from results/published/settings.csv",
            Origin::SameTable => "as its table's other rows: its own is not known",
            Origin::Default => "by default",
        }
    }
}

/// Assumed setting of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumed {
    /// Runs behind each number.
    pub runs: usize,
    /// Where that was found.
    pub runs_from: Origin,
    /// Split.
    pub split: Policy,
    /// Where that was found.
    pub split_from: Origin,
    /// Backbone; empty where nothing says it.
    pub backbone: String,
}

/// Settings of the published tables.
pub struct Settings(Vec<Setting>);

impl Settings {
    /// Those that are part of the binary.
    ///
    /// # Errors
    /// A bug only.
    pub fn load() -> Result<Self> {
        Ok(Settings(published::settings()?))
    }

    /// The setting of a row: what is given, then what its columns say, then what is known of the published row, then the default.
    pub fn assumed(&self, row: &PrintedRow, given: Given) -> Assumed {
        let own = self.0.iter().find(|setting| setting.table == row.table && setting.label == row.label);
        let others = || self.0.iter().filter(|setting| setting.table == row.table);
        let policy = |setting: &Setting| setting.split.parse::<Policy>().ok();
        let (runs, runs_from) = first([
            (given.runs, Origin::Given),
            (row.runs, Origin::Column),
            (own.and_then(|setting| setting.runs), Origin::Published),
            (others().find_map(|setting| setting.runs), Origin::SameTable),
        ])
        .unwrap_or((RUNS, Origin::Default));
        let (split, split_from) = first([
            (given.split, Origin::Given),
            (row.split, Origin::Column),
            (own.and_then(policy), Origin::Published),
            (others().find_map(policy), Origin::SameTable),
        ])
        .unwrap_or((SPLIT, Origin::Default));
        let known = own.or_else(|| others().next()).map(|setting| setting.backbone.clone());
        let literature = (row.table == LITERATURE).then(|| LITERATURE_BACKBONE.to_string());
        let stated = (!row.backbone.is_empty()).then(|| row.backbone.clone());
        let backbone = stated.or(known).or(literature).unwrap_or_default();
        Assumed { runs, runs_from, split, split_from, backbone }
    }
}

fn first<T>(found: [(Option<T>, Origin); 4]) -> Option<(T, Origin)> {
    found.into_iter().find_map(|(value, origin)| Some((value?, origin)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::audit::read::parse;

    fn assumed(text: &str, given: Given) -> Assumed {
        Settings::load().unwrap().assumed(&parse("mine.csv", text).unwrap()[0], given)
    }

    #[test]
    fn a_given_setting_goes_before_the_columns_and_those_before_the_default() {
        let plain = assumed("label,rte\nours,87.36\n", Given::default());
        assert_eq!(
            (plain.runs, plain.runs_from, plain.split, plain.split_from),
            (5, Origin::Default, SPLIT, Origin::Default)
        );
        let text = "label,rte,runs,split,backbone\nours,87.36,3,sora,RoBERTa-large\n";
        let stated = assumed(text, Given::default());
        assert_eq!((stated.runs, stated.split, stated.split_from), (3, Policy::Sora, Origin::Column));
        assert_eq!(stated.backbone, "RoBERTa-large");
        let given = assumed(text, Given { runs: Some(1), split: Some(Policy::Official) });
        assert_eq!((given.runs, given.runs_from, given.split), (1, Origin::Given, Policy::Official));
    }

    #[test]
    fn a_published_row_has_its_setting_and_one_of_an_unknown_split_that_of_its_table() {
        let text = |label: &str| format!("table,label,task,value\nsora_table1,{label},rte,87.36\n");
        let lora = assumed(&text("LoRA r=8"), Given::default());
        assert_eq!((lora.runs, lora.split, lora.split_from), (5, Policy::Sora, Origin::Published));
        let adalora = assumed(&text("AdaLoRA"), Given::default());
        assert_eq!((adalora.split, adalora.split_from), (Policy::Sora, Origin::SameTable));
        assert_eq!(adalora.backbone, "DeBERTaV3-base");
    }
}

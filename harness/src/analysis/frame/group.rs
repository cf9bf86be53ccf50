//! The group a run belongs to: runs of one group stand in one table.

use crate::plan::spec::DataSpec;
use crate::store::stored_spec::StoredSpec;

/// Fields that must be equal for runs to stand in one table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportGroup {
    /// `micro` (synthetic), `glue`, `glue-unlocked`, or `own` and the first digits of the data's sum: tasks of one name that
    /// are not the same never stand in one table.
    pub data_source: String,
    /// Backbone, as it is shown; empty where it is not stated.
    pub backbone: String,
    /// sha256 of its weights, by which it is told from others.
    pub weights_sha256: String,
    /// Split policy.
    pub split: String,
}

impl ReportGroup {
    /// Group of a specification.
    pub fn of_spec(spec: &StoredSpec) -> Self {
        let (name, weights_sha256) = spec.backbone();
        let known = datasets::backbones::find(weights_sha256);
        ReportGroup {
            data_source: data_source(spec.data()),
            backbone: known.map_or(name, |known| &known.name).into(),
            weights_sha256: weights_sha256.to_string(),
            split: spec.data().split.name().into(),
        }
    }

    /// Text for titles: `SYNTHETIC micro-GLUE (not GLUE), all-MiniLM-L6-v2, split sora`.
    pub fn title(&self) -> String {
        let data = match self.data_source.as_str() {
            "micro" => "SYNTHETIC micro-GLUE (not GLUE)",
            "glue" => "GLUE",
            "glue-unlocked" => "GLUE in files that are not the locked ones",
            other => other,
        };
        let backbone = if self.backbone.is_empty() { "backbone not stated" } else { &self.backbone };
        format!("{data}, {backbone}, split {}", self.split)
    }

    /// Text for file names: lower-case letters, digits and hyphens; weights of one name differ in their first digits.
    pub fn slug(&self) -> String {
        let weights: String = self.weights_sha256.chars().take(6).collect();
        let joined = format!("{} {} {weights} {}", self.data_source, self.backbone, self.split).to_lowercase();
        let mut slug: String = joined.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        while slug.contains("--") {
            slug = slug.replace("--", "-");
        }
        slug.trim_matches('-').to_string()
    }
}

fn data_source(data: &DataSpec) -> String {
    match data.source.as_str() {
        "own" => format!("own data {}", data.sha256.chars().take(10).collect::<String>()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_file_names() {
        let group = ReportGroup {
            data_source: "micro".into(),
            backbone: "my Backbone/v2".into(),
            weights_sha256: "0123456789".into(),
            split: "official".into(),
        };
        assert_eq!(group.title(), "SYNTHETIC micro-GLUE (not GLUE), my Backbone/v2, split official");
        assert_eq!(group.slug(), "micro-my-backbone-v2-012345-official");
    }
}

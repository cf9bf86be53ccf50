//! A recipe: which tasks, methods and seeds, on which backbone and data, trained how. Everything a run depends on stands
//! in the recipe; nothing is filled in silently but what a task itself says (its longest input).

use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::error::{Error, Result};
use crate::plan::grid::{self, Grid};

/// Recipes that are part of the binary, by name.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("quick", include_str!("../../../recipes/quick.toml")),
    ("table1", include_str!("../../../recipes/table1.toml")),
    ("efficiency", include_str!("../../../recipes/efficiency.toml")),
    ("regression", include_str!("../../../recipes/regression.toml")),
    ("minilm_glue", include_str!("../../../recipes/minilm_glue.toml")),
    ("table2", include_str!("../../../recipes/table2.toml")),
    ("figure3", include_str!("../../../recipes/figure3.toml")),
    ("figure4", include_str!("../../../recipes/figure4.toml")),
    ("ablation", include_str!("../../../recipes/ablation.toml")),
    ("tune", include_str!("../../../recipes/tune.toml")),
    ("cola_three", include_str!("../../../recipes/cola_three.toml")),
];

/// The text of an embedded recipe.
pub fn embedded(name: &str) -> Option<&'static str> {
    EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A recipe file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name for reports, e.g. `table1`.
    pub name: String,
    /// Tasks, in the order they are run.
    pub tasks: Vec<String>,
    /// Methods, in the order they are run.
    pub methods: Vec<String>,
    /// Master seeds.
    pub seeds: Vec<u64>,
    /// Backbone: a directory, the name of one under `.cache/backbones`, or a repository on the Hub.
    pub backbone: String,
    /// How a sentencepiece vocabulary is read; as the release does where it is left out.
    #[serde(default)]
    pub tokenizer: datasets::tokenizer::Behaviour,
    /// Which rows.
    pub data: Data,
    /// Training protocol: the fields of [`crate::plan::spec::TrainSpec`] without `device`; `max_length` may be left out, then it
    /// is the task's own.
    pub train: toml::Table,
    /// Exceptions, in order; a later one wins.
    #[serde(default, rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Lists of values that multiply the runs, over every exception: one `[grid]` or several `[[grid]]`.
    #[serde(default, rename = "grid", deserialize_with = "grid::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub grids: Vec<Grid>,
    /// Interleaved timing (`rankbench efficiency`, and at the end of `quickstart`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
}

/// Which rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Where they come from.
    pub source: Source,
    /// How they become train, validation and test.
    pub split: datasets::split::Policy,
    /// Most training rows used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
}

/// Where rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The embedded synthetic suite.
    Micro,
    /// Real GLUE, from a directory.
    Glue,
}

/// An exception for some tasks and methods.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Tasks it holds for; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
    /// Methods it holds for; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Fields of `[train]` it sets.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub train: toml::Table,
    /// Options of the method it sets.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

/// Interleaved timing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Task that is timed at the end of `quickstart`; the recipe's first when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Rounds A B C A B C.
    pub rounds: usize,
    /// Steps of an epoch that are run and timed; the whole epoch when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
}

/// Values from the command line that take the place of a recipe's own.
#[derive(Debug, Clone, Default)]
pub struct RecipeChanges {
    /// `--tasks`.
    pub tasks: Option<Vec<String>>,
    /// `--methods`.
    pub methods: Option<Vec<String>>,
    /// `--seeds`.
    pub seeds: Option<Vec<u64>>,
    /// Fields of `[train]` by name, over every exception and grid of the recipe.
    pub train: toml::Table,
    /// `--train-limit`.
    pub train_limit: Option<usize>,
    /// Exceptions behind those of the recipe; their options stand over its grids.
    pub overrides: Vec<Override>,
}

/// Names of the embedded recipes, separated by commas.
pub fn embedded_names() -> String {
    EMBEDDED.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Keys of `--set` besides `train.…` and `options.…`.
const SETTABLE: &str = "tasks, methods, seeds, backbone, tokenizer, data.source, data.split, data.train_limit, \
                        train.<field>, options.<option>, METHOD.train.<field>, METHOD.<option>";

impl Recipe {
    /// The recipe with the changes folded in.
    pub fn with(mut self, changes: RecipeChanges) -> Self {
        self.tasks = changes.tasks.unwrap_or(self.tasks);
        self.methods = changes.methods.unwrap_or(self.methods);
        self.seeds = changes.seeds.unwrap_or(self.seeds);
        self.data.train_limit = changes.train_limit.or(self.data.train_limit);
        for exception in &mut self.overrides {
            exception.train.retain(|field, _| !changes.train.contains_key(field));
        }
        for grid in &mut self.grids {
            let is_changed = |key: &str| match key.split_once('.') {
                Some(("train", field)) => changes.train.contains_key(field),
                Some(("options", option)) => changes.overrides.iter().any(|o| o.options.contains_key(option)),
                _ => false,
            };
            grid.axes.retain(|key, _| !is_changed(key));
        }
        self.train.extend(changes.train);
        self.overrides.extend(changes.overrides);
        self
    }

    /// Sets `[METHOD.]key=value[,value…]` over everything else; a list of several values for a field or an option multiplies the runs.
    ///
    /// # Errors
    /// A key that cannot be set, a value of another type.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let (method, key, values) = grid::assignment(text)?;
        if key.starts_with("train.") || key.starts_with("options.") {
            let is_axis = values.len() > 1 || self.grids.iter().any(|grid| grid.axes.contains_key(&key));
            let axes = toml::Table::from_iter([(key, Value::Array(values))]);
            let label = (!is_axis).then(String::new);
            self.grids.push(Grid { methods: method.into_iter().collect(), label, axes, ..Grid::default() });
            return Ok(());
        }
        let wrong = |e: toml::de::Error| Error::Usage(format!("--set {text}: {}", e.message()));
        let one = || match values.as_slice() {
            [value] => Ok(value.clone()),
            _ => Err(Error::Usage(format!("--set {text}: expected one value"))),
        };
        let all = || Value::Array(values.clone());
        match key.as_str() {
            "tasks" => self.tasks = all().try_into().map_err(wrong)?,
            "methods" => self.methods = all().try_into().map_err(wrong)?,
            "seeds" => self.seeds = all().try_into().map_err(wrong)?,
            "backbone" => self.backbone = one()?.try_into().map_err(wrong)?,
            "tokenizer" => self.tokenizer = one()?.try_into().map_err(wrong)?,
            "data.source" => self.data.source = one()?.try_into().map_err(wrong)?,
            "data.split" => self.data.split = one()?.try_into().map_err(wrong)?,
            "data.train_limit" => self.data.train_limit = Some(one()?.try_into().map_err(wrong)?),
            _ => return Err(Error::Usage(format!("--set {text}: `{key}` cannot be set, expected one of {SETTABLE}"))),
        }
        Ok(())
    }

    /// The recipe as a file that gives the same runs.
    ///
    /// # Errors
    /// A bug only.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Internal(format!("recipe {}: {e}", self.name)))
    }

    /// Reads a recipe file.
    ///
    /// # Errors
    /// A missing file; a key that is unknown, missing or of the wrong type, named with its path.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Usage(format!("cannot read recipe {}: {e}", path.display())))?;
        Recipe::parse(&text, &path.display().to_string())
    }

    /// Reads a recipe from its text; `name` is used in errors.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let parsed = toml::Deserializer::parse(text).map_err(|e| Error::Usage(format!("recipe {name}: {e}")))?;
        let recipe: Recipe = serde_path_to_error::deserialize(parsed).map_err(|e| {
            let at = e.path().to_string();
            let detail = methods::options::with_nearest(e.into_inner().message());
            Error::Usage(format!("recipe {name}, at {at}: {detail}"))
        })?;
        recipe.check(name)
    }

    fn check(self, name: &str) -> Result<Self> {
        let lists =
            [("tasks", self.tasks.is_empty()), ("methods", self.methods.is_empty()), ("seeds", self.seeds.is_empty())];
        if let Some((list, _)) = lists.iter().find(|(_, empty)| *empty) {
            return Err(Error::Usage(format!("recipe {name}: {list} is empty, so there is nothing to run")));
        }
        match &self.timing {
            Some(Timing { rounds: 0, .. }) => {
                Err(Error::Usage(format!("recipe {name}: timing.rounds is 0, expected 1 or more")))
            }
            Some(Timing { steps: Some(0), .. }) => {
                Err(Error::Usage(format!("recipe {name}: timing.steps is 0, expected 1 or more")))
            }
            _ => Ok(self),
        }
    }
}

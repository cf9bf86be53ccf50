//! The recipe that a run was made for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the runs of a sweep come from: the recipe, and by method the rule it gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecipeRules {
    /// Name of the recipe.
    pub recipe: String,
    /// Rule by method: see [`RunOrigin::rule`].
    pub rules: BTreeMap<String, String>,
}

impl RecipeRules {
    /// Of one method's runs.
    pub fn of(&self, method: &str) -> RunOrigin {
        RunOrigin { recipe: self.recipe.clone(), rule: self.rules.get(method).cloned().unwrap_or_default() }
    }
}

/// The recipe a run was made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOrigin {
    /// Name of the recipe.
    pub recipe: String,
    /// First digits of the sha256 of everything in recipe and flags that sets training and options of the method on any task. Runs of
    /// one rule are one row of a table, however their options differ from task to task.
    pub rule: String,
}

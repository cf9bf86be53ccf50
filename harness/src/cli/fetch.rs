//! `rankbench fetch`: backbone and data of a recipe, on a machine with a network, for one without.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use datasets::hub::Hub;
use datasets::sources::fetch;
use serde_json::json;

use crate::cli::job::recipe;
use crate::cli::values::{self, Names};
use crate::env::output;
use crate::error::{Error, Result};
use crate::load::download;
use crate::load::paths;
use crate::plan::recipe::{Recipe, RecipeChanges, Source};
use crate::plan::resolve;

/// `rankbench fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// A recipe file, or the name of an embedded one.
    #[arg(value_name = "RECIPE", required_unless_present = "recipe")]
    named: Option<String>,
    /// The same as a flag.
    #[arg(long, conflicts_with = "named")]
    recipe: Option<String>,
    /// Tasks instead of the recipe's own, separated by commas, or `all`.
    #[arg(long, value_parser = values::tasks)]
    tasks: Option<Names>,
    /// Backbone instead of the recipe's own.
    #[arg(long)]
    backbone: Option<String>,
    /// Also copy the files to DIR/backbones/NAME and DIR/glue, to be carried to a machine that does not share the cache.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Fetch {
    pub(super) fn run(&self) -> Result<()> {
        let given = self.named.as_ref().or(self.recipe.as_ref());
        let recipe = recipe(given.ok_or_else(|| Error::Usage(values::which_recipe()))?)?;
        let tasks = self.tasks.clone().map(|names| names.0);
        let recipe = recipe.with(RecipeChanges { tasks, ..RecipeChanges::default() });
        let hub = download::hub();
        let backbone = self.backbone.as_deref().unwrap_or(&recipe.backbone);
        let place = paths::backbone(backbone, &hub)?;
        let glue = glue(&recipe, &hub)?;
        let Some(to) = &self.to else {
            if self.json {
                let backbone = json!({ "name": place.name, "dir": place.dir.display().to_string() });
                output::print(format_args!("{:#}", json!({ "backbone": backbone, "data": glue })));
                return Ok(());
            }
            output::print(format_args!("backbone {}: {}", place.name, place.dir.display()));
            glue.iter().for_each(|dir| output::print(format_args!("data: {}", dir.display())));
            output::print(format_args!("HF_HUB_OFFLINE=1 keeps a run from asking the Hub again."));
            return Ok(());
        };
        let target = to.join("backbones").join(&place.name);
        copy(&place.dir, &target)?;
        let mut flags = vec!["--backbone".to_string(), target.display().to_string()];
        for dir in &glue {
            copy(dir, &to.join("glue"))?;
        }
        if !glue.is_empty() {
            flags.extend(["--glue".to_string(), to.join("glue").display().to_string()]);
        }
        match self.json {
            true => output::print(format_args!("{:#}", json!({ "to": to, "flags": flags }))),
            false => output::print(format_args!("{}: copied; a run takes them with {}", to.display(), flags.join(" "))),
        }
        Ok(())
    }
}

/// Directories of the recipe's rows, one a repository; none where they are synthetic.
fn glue(recipe: &Recipe, hub: &Hub) -> Result<BTreeSet<PathBuf>> {
    let tasks = resolve::tasks(recipe)?;
    match recipe.data.source {
        Source::Glue => Ok(fetch::fetch(hub, &tasks)?.into_values().collect()),
        Source::Micro => Ok(BTreeSet::new()),
    }
}

/// Copies the files of a directory, links as what they point to.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(|e| Error::output(to, e))?;
    for entry in fs::read_dir(from).map_err(|e| Error::input(from, e))?.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(|e| Error::output(&target, e))?;
        }
    }
    Ok(())
}

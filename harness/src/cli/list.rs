//! `rankbench list` and `rankbench recipe`: what there is, by name.

use clap::{Args, ValueEnum};
use datasets::tasks::TASKS;
use encoders::ENCODERS;
use methods::registry::METHODS;
use serde_json::{Map, Value};

use crate::cli::job::width;
use crate::cli::option_docs::{self, OptionDoc};
use crate::env::output;
use crate::error::{Error, Result};
use crate::plan::grid::points;
use crate::plan::recipe::{EMBEDDED, Recipe, embedded, embedded_names};
use crate::plan::resolve;
use crate::report::formats::text::wrap;

/// `rankbench list`.
#[derive(Debug, Args)]
pub struct List {
    /// One part of it; everything but the files where it is left out.
    part: Option<Part>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As Markdown: the reference in docs/recipes.md.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Methods with every option.
    Methods,
    /// Tasks with their sizes and metrics.
    Tasks,
    /// Embedded recipes.
    Recipes,
    /// Architectures of encoders.
    Encoders,
    /// Keys of a recipe.
    Keys,
    /// Columns of every CSV file: the data dictionary.
    Files,
}

/// `rankbench recipe`.
#[derive(Debug, Args)]
pub struct PrintRecipe {
    /// Name of an embedded recipe; their list where it is left out.
    name: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One table of the list.
struct Section {
    part: Part,
    title: String,
    text: String,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl List {
    pub(super) fn run(&self) -> Result<()> {
        let wanted = |section: &Section| match self.part {
            Some(part) => part == section.part,
            None => section.part != Part::Files,
        };
        let sections: Vec<Section> = sections()?.into_iter().filter(wanted).collect();
        match (self.json, self.markdown) {
            (true, _) => output::print(format_args!("{:#}", json(&sections))),
            (_, true) => output::print(format!("{}{}", preface(self.part), markdown(&sections)).trim_end()),
            _ => {
                let texts: Vec<String> = sections.iter().map(|section| text(section, width())).collect();
                output::print(texts.join("\n").trim_end());
            }
        }
        Ok(())
    }
}

impl PrintRecipe {
    pub(super) fn run(&self) -> Result<()> {
        let Some(name) = &self.name else {
            let recipes = recipes()?;
            match self.json {
                true => output::print(format_args!("{:#}", json(&[recipes]))),
                false => output::print(text(&recipes, width()).trim_end()),
            }
            return Ok(());
        };
        let name = name.trim().to_lowercase();
        let text = embedded(&name).ok_or_else(|| {
            Error::Usage(format!("no embedded recipe is called '{name}'; there are {}", embedded_names()))
        })?;
        if self.json {
            let recipe: Value = toml::from_str(text).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
            output::print(format_args!("{recipe:#}"));
            return Ok(());
        }
        output::print(text.trim_end());
        Ok(())
    }
}

fn sections() -> Result<Vec<Section>> {
    let mut all: Vec<Section> = METHODS.iter().map(|entry| method(entry.name, entry.title)).collect::<Result<_>>()?;
    all.extend([tasks(), recipes()?, encoder_list()]);
    all.extend(keys());
    all.extend(files());
    Ok(all)
}

fn method(name: &str, title: &str) -> Result<Section> {
    let (docs, source) = option_docs::of_method(name)?;
    let defaults = methods::registry::find(name)?.options(&toml::Table::new())?;
    let row = |doc: &OptionDoc| {
        let default = defaults.get(&doc.name).map_or("not set".to_string(), ToString::to_string);
        vec![doc.name.clone(), default, meaning(doc)]
    };
    let text = match docs.is_empty() {
        true => "No options.".to_string(),
        false => format!("Defaults: {source}"),
    };
    let rows = docs.iter().map(row).collect();
    Ok(Section {
        part: Part::Methods,
        title: format!("Method {name}: {title}"),
        text,
        header: vec!["Option", "Default", "Meaning"],
        rows,
    })
}

/// The text about an option, with its values.
fn meaning(doc: &OptionDoc) -> String {
    let text = doc.text.replace("[`", "`").replace("`]", "`");
    match doc.values.is_empty() {
        true => text,
        false => format!("{text} One of: {}.", doc.values.join(", ")),
    }
}

fn tasks() -> Section {
    let row = |task: &&datasets::Task| {
        let sets: Vec<&str> = task.dev_sets().iter().map(|set| set.name).collect();
        let metrics: Vec<&str> = task.reported.iter().map(|metric| metric.name()).collect();
        let length = task.max_length.to_string();
        vec![
            task.name.into(),
            task.title.into(),
            sets.join(", "),
            task.selection.name().into(),
            metrics.join(", "),
            length,
        ]
    };
    Section {
        part: Part::Tasks,
        title: "Tasks".into(),
        text: "Names for --tasks; `all` is every one of them.".into(),
        header: vec!["Name", "Title", "Development sets", "Selects", "Reported", "Longest input"],
        rows: TASKS.iter().map(row).collect(),
    }
}

fn recipes() -> Result<Section> {
    let row = |(name, text): &(&str, &str)| {
        let recipe = Recipe::parse(text, name)?;
        let (tasks, methods) = (resolve::tasks(&recipe)?, resolve::methods(&recipe)?);
        let settings =
            tasks.iter().flat_map(|task| methods.iter().map(|method| points(&recipe.grids, task, method).len()));
        let runs = settings.sum::<usize>() * recipe.seeds.len();
        let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
        let first = comment.join(" ");
        let first = first.split_once(". ").map_or(first.as_str(), |(first, _)| first);
        Ok(vec![(*name).to_string(), runs.to_string(), recipe.backbone, first.trim_end_matches('.').to_string()])
    };
    Ok(Section {
        part: Part::Recipes,
        title: "Embedded recipes".into(),
        text: "`rankbench run NAME` makes the runs of one, `rankbench recipe NAME` prints it.".into(),
        header: vec!["Name", "Runs", "Backbone", "Purpose"],
        rows: EMBEDDED.iter().map(row).collect::<Result<_>>()?,
    })
}

fn encoder_list() -> Section {
    let row = |entry: &encoders::encoder::EncoderEntry| vec![entry.model_type.into(), entry.architecture.into()];
    Section {
        part: Part::Encoders,
        title: "Encoders".into(),
        text: "The `model_type` of a backbone's config.json.".into(),
        header: vec!["model_type", "Architecture"],
        rows: ENCODERS.iter().map(|entry| row(entry)).collect(),
    }
}

fn keys() -> Vec<Section> {
    let section = |heading: &str, docs: Vec<OptionDoc>| Section {
        part: Part::Keys,
        title: format!("Keys of a recipe: {heading}"),
        text: String::new(),
        header: vec!["Key", "Meaning"],
        rows: docs.iter().map(|doc| vec![doc.name.clone(), meaning(doc)]).collect(),
    };
    let train = section("[train]", option_docs::of_train());
    option_docs::of_recipe().into_iter().map(|(heading, docs)| section(heading, docs)).chain([train]).collect()
}

fn files() -> Vec<Section> {
    let section = |(file, place, docs): (&str, &str, Vec<OptionDoc>)| Section {
        part: Part::Files,
        title: format!("{file} of {place}"),
        text: String::new(),
        header: vec!["Column", "Meaning"],
        rows: docs.iter().map(|doc| vec![doc.name.clone(), meaning(doc)]).collect(),
    };
    option_docs::of_files().into_iter().map(section).collect()
}

/// Columns padded to their widest, the last one wrapped at the terminal's width.
fn text(section: &Section, width: usize) -> String {
    let mut out = format!("{}\n", section.title);
    if !section.text.is_empty() {
        out += &format!("{}\n", wrap(&section.text, width, ""));
    }
    let last = section.header.len() - 1;
    let lines =
        || std::iter::once(section.header.iter().map(ToString::to_string).collect()).chain(section.rows.clone());
    let widths: Vec<usize> =
        (0..last).map(|at| lines().map(|line: Vec<String>| line[at].chars().count()).max().unwrap_or(0) + 2).collect();
    let indent = 2 + widths.iter().sum::<usize>();
    for line in lines().take(if section.rows.is_empty() { 0 } else { usize::MAX }) {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let head: String = std::iter::once("  ".to_string()).chain(cells).collect();
        let room = width.saturating_sub(indent).max(30);
        let wrapped = wrap(&line[last], room, "").replace('\n', &format!("\n{}", " ".repeat(indent)));
        out += &format!("{}\n", (head + &wrapped).trim_end());
    }
    out
}

/// Head of the Markdown form.
fn preface(part: Option<Part>) -> &'static str {
    match part {
        Some(Part::Files) => {
            "# Data dictionary: every column of every CSV file\n\nWritten by `rankbench list files --markdown` from the structs \
             of the lines; a test holds it.\n\nFiles of a report begin with the same columns, as far as they have them: `run, \
             method, variant, title, task, split, seed`. `variant` is never empty (`base` is the method's first setting), metrics \
             and their differences are in points of 100, and an empty field is a value that is not there.\n"
        }
        _ => {
            "# Recipes: every key, option, task and name\n\nWritten by `rankbench list --markdown` from the structs that \
             define them; a test holds it.\n"
        }
    }
}

fn markdown(sections: &[Section]) -> String {
    let mut out = String::new();
    for section in sections {
        out += &format!("\n## {}\n\n", section.title);
        if !section.text.is_empty() {
            out += &format!("{}\n\n", section.text);
        }
        if section.rows.is_empty() {
            continue;
        }
        out += &format!("| {} |\n|{}\n", section.header.join(" | "), "---|".repeat(section.header.len()));
        for row in &section.rows {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            out += &format!("| {} |\n", cells.join(" | "));
        }
    }
    out
}

fn json(sections: &[Section]) -> Value {
    let row = |header: &[&str], row: &[String]| {
        let cells = header
            .iter()
            .zip(row)
            .map(|(name, cell)| (name.to_lowercase().replace(' ', "_"), Value::from(cell.as_str())));
        Value::Object(cells.collect::<Map<_, _>>())
    };
    let section = |section: &Section| {
        serde_json::json!({
            "title": section.title,
            "text": section.text,
            "rows": section.rows.iter().map(|cells| row(&section.header, cells)).collect::<Vec<_>>(),
        })
    };
    Value::Array(sections.iter().map(section).collect())
}

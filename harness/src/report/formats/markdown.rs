//! Tables as Markdown.

use crate::error::Result;
use crate::report::formats::format::{Format, join};
use crate::report::table::TableDoc;

/// Markdown (GitHub tables).
pub struct Markdown;

impl Format for Markdown {
    fn extension(&self) -> &'static str {
        "md"
    }

    fn render(&self, tables: &[TableDoc]) -> Result<String> {
        Ok(join(tables.iter().map(document), "\n"))
    }
}

fn document(table: &TableDoc) -> String {
    let line = |cells: &[String]| format!("| {} |\n", join(cells.iter().map(|c| markdown(c)), " | "));
    let rule: Vec<String> =
        (0..table.header.len()).map(|i| if i == 0 { "---".into() } else { "---:".into() }).collect();
    let mut text = format!("## {}\n\n{}{}", table.title, line(&table.header), line(&rule));
    for row in &table.rows {
        text += &line(row);
    }
    text.push('\n');
    for note in &table.notes {
        text += &format!("- {}\n", markdown(note));
    }
    text
}

/// Text for Markdown: nothing in it ends a cell, a line or a paragraph, begins a tag or a link, or is emphasis. Backticks stay: our own
/// notes have code, and those of a failure's reason were taken out ([`crate::analysis::frame::run`]).
fn markdown(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '|' | '*' | '\\' | '~' | '&' | '<' | '>' => out.extend(['\\', character]),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out.replace("](", "]\\(").replace("__", "\\_\\_")
}

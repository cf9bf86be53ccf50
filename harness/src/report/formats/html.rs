//! Tables as HTML sections.

use crate::error::Result;
use crate::report::formats::format::{Format, join};
use crate::report::table::{TableDoc, TableRow};

/// HTML sections of a page.
pub struct Html;

impl Format for Html {
    fn extension(&self) -> &'static str {
        "html"
    }

    fn render(&self, tables: &[TableDoc]) -> Result<String> {
        Ok(join(tables.iter().map(section), ""))
    }
}

fn section(table: &TableDoc) -> String {
    let cells = |tag: &str, cells: &[String]| join(cells.iter().map(|c| format!("<{tag}>{}</{tag}>", escaped(c))), "");
    let row = |row: &TableRow| {
        let class = if row.sub { " class=\"sub\"" } else { "" };
        format!("<tr{class}>{}</tr>\n", cells("td", &row.cells))
    };
    format!(
        "<section>\n<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n<ul class=\"notes\">\n{}</ul>\n</section>\n",
        escaped(&table.title),
        cells("th", &table.header),
        join(table.rows.iter().map(row), ""),
        join(table.notes.iter().map(|n| format!("<li>{}</li>\n", escaped(n))), "")
    )
}

/// Text for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

//! Tables as text for a terminal.

use crate::error::Result;
use crate::report::formats::format::{Format, join};
use crate::report::table::TableDoc;

/// Line between the blocks of a table that is wider than the terminal.
const BLOCK_GAP: &str = "\n";

/// Aligned plain text, at most so many characters wide.
pub struct Text {
    /// Width of the terminal.
    pub width: usize,
}

impl Format for Text {
    fn extension(&self) -> &'static str {
        "txt"
    }

    fn render(&self, tables: &[TableDoc]) -> Result<String> {
        Ok(join(tables.iter().map(|table| document(table, self.width)), "\n"))
    }
}

/// Aligned plain text at most `width` characters wide: a table that is wider goes on in blocks below, each with the
/// row labels again. Columns are never cut, so one column wider than the terminal still runs over.
fn document(table: &TableDoc, width: usize) -> String {
    let widths: Vec<usize> = (0..table.header.len()).map(|i| column_width(table, i)).collect();
    let mut text = format!("{}\n\n", wrap(&table.title, width, ""));
    let blocks = blocks(&widths, width);
    text += &join(blocks.iter().map(|block| draw_block(table, block, &widths)), BLOCK_GAP);
    text.push('\n');
    for note in &table.notes {
        text += &format!("{}\n", wrap(note, width, "  "));
    }
    text
}

fn column_width(table: &TableDoc, index: usize) -> usize {
    let cells = table.rows.iter().map(|row| row[index].chars().count());
    cells.chain([table.header[index].chars().count()]).max().unwrap_or(0)
}

fn draw_block(table: &TableDoc, columns: &[usize], widths: &[usize]) -> String {
    let line = |cells: &[String]| {
        let padded = columns.iter().map(|&i| {
            let blanks = " ".repeat(widths[i] - cells[i].chars().count());
            if i == 0 { format!("{}{blanks}", cells[i]) } else { format!("{blanks}{}", cells[i]) }
        });
        format!("{}\n", join(padded, "  ").trim_end())
    };
    let total = columns.iter().map(|&i| widths[i] + 2).sum::<usize>() - 2;
    let rows = join(table.rows.iter().map(|row| line(row)), "");
    format!("{}{}\n{rows}", line(&table.header), "─".repeat(total))
}

/// Splits the columns after the first into blocks that fit, each beginning with column 0.
fn blocks(widths: &[usize], width: usize) -> Vec<Vec<usize>> {
    let mut blocks: Vec<Vec<usize>> = vec![vec![0]];
    let mut used = widths.first().copied().unwrap_or(0);
    for (index, column) in widths.iter().enumerate().skip(1) {
        let full = used + 2 + column > width && blocks.last().is_some_and(|block| block.len() > 1);
        if full {
            blocks.push(vec![0]);
            used = widths[0];
        }
        used += 2 + column;
        if let Some(block) = blocks.last_mut() {
            block.push(index);
        }
    }
    blocks
}

/// Breaks at blanks; lines after the first begin with `indent`.
pub fn wrap(text: &str, width: usize, indent: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let current = lines.last().map_or(0, |line| line.chars().count());
        if current > indent.len() && current + 1 + word.chars().count() > width {
            lines.push(indent.to_string());
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

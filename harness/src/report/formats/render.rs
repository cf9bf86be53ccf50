//! The forms of a finished table: Markdown, LaTeX, HTML and plain text. (CSV comes from its data frame.)

use crate::report::tables::{GridRow, Rendered};

/// Shown where a wide table goes on below.
const BLOCK_GAP: &str = "\n";

impl Rendered {
    /// Markdown (GitHub tables).
    pub fn to_markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", join(cells.iter().map(|c| markdown(c)), " | "));
        let rule: Vec<String> = self.columns().map(|i| if i == 0 { "---".into() } else { "---:".into() }).collect();
        let mut text = format!("## {}\n\n{}{}", self.title, line(&self.header), line(&rule));
        for row in &self.rows {
            text += &line(&row.cells);
        }
        text.push('\n');
        for note in &self.notes {
            text += &format!("- {}\n", markdown(note));
        }
        text
    }

    /// LaTeX: a `table*` that needs `booktabs` and `graphicx`.
    pub fn to_latex(&self) -> String {
        let line = |cells: &[String]| format!("{} \\\\\n", join(cells.iter().map(|c| latex(c)), " & "));
        let alignment: String = self.columns().map(|i| if i == 0 { 'l' } else { 'r' }).collect();
        let mut text = format!(
            "\\begin{{table*}}\n\\centering\n\\caption{{{}}}\n\\resizebox{{\\textwidth}}{{!}}{{%\n\\begin{{tabular}}{{{alignment}}}\n\\toprule\n{}\\midrule\n",
            latex(&self.title),
            line(&self.header)
        );
        for row in &self.rows {
            text += &line(&row.cells);
        }
        text += "\\bottomrule\n\\end{tabular}}\n\\par\\smallskip\\footnotesize\\raggedright\n";
        for note in &self.notes {
            text += &format!("{}\\par\n", latex(note));
        }
        text + "\\end{table*}\n"
    }

    /// An HTML section.
    pub fn to_html(&self) -> String {
        let cells = |tag: &str, cells: &[String]| join(cells.iter().map(|c| format!("<{tag}>{}</{tag}>", html(c))), "");
        let row = |row: &GridRow| {
            let class = if row.sub { " class=\"sub\"" } else { "" };
            format!("<tr{class}>{}</tr>\n", cells("td", &row.cells))
        };
        format!(
            "<section>\n<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n<ul class=\"notes\">\n{}</ul>\n</section>\n",
            html(&self.title),
            cells("th", &self.header),
            join(self.rows.iter().map(row), ""),
            join(self.notes.iter().map(|n| format!("<li>{}</li>\n", html(n))), "")
        )
    }

    /// Aligned plain text at most `width` characters wide: a table that is wider goes on in blocks below, each with the
    /// row labels again. Columns are never cut, so one column wider than the terminal still runs over.
    pub fn to_text(&self, width: usize) -> String {
        let widths: Vec<usize> = self.columns().map(|i| self.column_width(i)).collect();
        let mut text = format!("{}\n\n", wrap(&self.title, width, ""));
        let blocks = blocks(&widths, width);
        text += &join(blocks.iter().map(|block| self.block(block, &widths)), BLOCK_GAP);
        text.push('\n');
        for note in &self.notes {
            text += &format!("{}\n", wrap(note, width, "  "));
        }
        text
    }

    fn columns(&self) -> std::ops::Range<usize> {
        0..self.header.len()
    }

    fn column_width(&self, index: usize) -> usize {
        let cells = self.rows.iter().map(|row| row.cells[index].chars().count());
        cells.chain([self.header[index].chars().count()]).max().unwrap_or(0)
    }

    fn block(&self, columns: &[usize], widths: &[usize]) -> String {
        let line = |cells: &[String]| {
            let padded = columns.iter().map(|&i| {
                let blanks = " ".repeat(widths[i] - cells[i].chars().count());
                if i == 0 { format!("{}{blanks}", cells[i]) } else { format!("{blanks}{}", cells[i]) }
            });
            format!("{}\n", join(padded, "  ").trim_end())
        };
        let total = columns.iter().map(|&i| widths[i] + 2).sum::<usize>() - 2;
        let rows = join(self.rows.iter().map(|row| line(&row.cells)), "");
        format!("{}{}\n{rows}", line(&self.header), "─".repeat(total))
    }
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
fn wrap(text: &str, width: usize, indent: &str) -> String {
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

/// Text for HTML.
pub fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn latex(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', character]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '±' => out += "$\\pm$",
            '×' => out += "$\\times$",
            '†' => out += "$\\dagger$",
            '‡' => out += "$\\ddagger$",
            '⚑' => out += "$\\ast$",
            '⚠' => out += "$\\triangle$",
            '§' => out += "\\S{}",
            '→' => out += "$\\to$",
            '√' => out += "$\\surd$",
            '·' => out += "$\\cdot$",
            'α' => out += "$\\alpha$",
            'γ' => out += "$\\gamma$",
            // A bracket at the start of a line would be the argument of the line break before it.
            '[' => out += "{[}",
            '✗' => out += "$\\otimes$",
            '↳' => out += "\\quad ",
            '–' => out += "--",
            '…' => out += "\\ldots{}",
            'ξ' => out += "$\\xi$",
            'λ' => out += "$\\lambda$",
            '<' => out += "$<$",
            '>' => out += "$>$",
            '`' => out += "\\textasciigrave{}",
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// Text for Markdown: nothing in it ends a cell, a line or a paragraph, begins a tag or a link, or is emphasis. Backticks stay: our own
/// notes have code, and those of a failure's reason were taken out ([`crate::analysis::frame`]).
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

fn join(items: impl Iterator<Item = String>, by: &str) -> String {
    items.collect::<Vec<_>>().join(by)
}

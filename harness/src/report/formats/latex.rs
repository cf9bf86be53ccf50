//! Tables as LaTeX.

use crate::error::Result;
use crate::report::formats::format::{Format, join};
use crate::report::table::TableDoc;

/// Packages that a document needs for the tables.
const PACKAGES: &str = "% In the preamble: \\usepackage{booktabs} \\usepackage{graphicx} \\usepackage{amssymb}\n";

/// Most columns of a table that stands in one column of the text.
const NARROW: usize = 7;
/// Longest text of such a table's cells, in characters.
const SHORT: usize = 24;

/// LaTeX: a `table` in one column of the text, or where it is wide a `table*` over both. What is still too wide is made smaller.
pub struct Latex;

impl Format for Latex {
    fn extension(&self) -> &'static str {
        "tex"
    }

    fn render(&self, tables: &[TableDoc]) -> Result<String> {
        let documents = tables.iter().enumerate().map(|(index, table)| document(index, table));
        Ok(PACKAGES.to_string() + &join(documents, "\n"))
    }
}

/// Caption without the number that LaTeX gives itself, and a label of its first words.
fn caption(index: usize, title: &str) -> String {
    let (head, rest) = title.split_once(": ").unwrap_or((title, ""));
    let is_numbered = head.strip_prefix("Table ").is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()));
    let text = if is_numbered { rest } else { title };
    let mut label: String =
        head.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    if index > 0 {
        label += &format!("-{}", index + 1);
    }
    format!("\\caption{{{}}}\n\\label{{tab:{}}}", latex(text), label.trim_matches('-'))
}

fn document(index: usize, table: &TableDoc) -> String {
    let line = |cells: &[String]| format!("{} \\\\\n", join(cells.iter().map(|c| latex(c)), " & "));
    let alignment: String = (0..table.header.len()).map(|i| if i == 0 { 'l' } else { 'r' }).collect();
    let cells = || table.rows.iter().chain([&table.header]).flatten();
    let is_narrow = table.header.len() <= NARROW && cells().all(|cell| cell.chars().count() <= SHORT);
    let environment = if is_narrow { "table" } else { "table*" };
    let mut text = format!(
        "\\begin{{{environment}}}\n\\centering\n{}\n\\sbox0{{%\n\\begin{{tabular}}{{{alignment}}}\n\\toprule\n{}\\midrule\n",
        caption(index, &table.title),
        line(&table.header)
    );
    for row in &table.rows {
        text += &line(row);
    }
    text += "\\bottomrule\n\\end{tabular}}%\n\\ifdim\\wd0>\\linewidth \\resizebox{\\linewidth}{!}{\\usebox0}\\else \\usebox0\\fi\n";
    text += "\\par\\smallskip\\footnotesize\\raggedright\n";
    for note in &table.notes {
        text += &format!("{}\\par\n", latex(note));
    }
    text + &format!("\\end{{{environment}}}\n")
}

fn latex(text: &str) -> String {
    let mut out = String::new();
    let (mut before, mut is_code) = (' ', false);
    for (at, character) in text.char_indices() {
        let is_sign = || before.is_whitespace() || "([/".contains(before);
        match character {
            // A minus sign, not a hyphen.
            '-' if is_sign() && text[at + 1..].starts_with(|next: char| next.is_ascii_digit()) => out += "$-$",
            '`' => {
                is_code = !is_code;
                out += if is_code { "\\texttt{" } else { "}" };
            }
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', character]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '±' => out += "$\\pm$",
            '×' => out += "$\\times$",
            '†' => out += "$\\dagger$",
            '‡' => out += "$\\ddagger$",
            '⚑' => out += "$\\ast$",
            '◇' => out += "$\\diamond$",
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
            'β' => out += "$\\beta$",
            'η' => out += "$\\eta$",
            'Δ' => out += "$\\Delta$",
            '≥' => out += "$\\geq$",
            '≤' => out += "$\\leq$",
            '−' => out += "$-$",
            '"' => out += "''",
            control if control.is_control() => out.push(' '),
            // What pdfLaTeX has no letter for.
            other if other > LAST_LETTER => out.push('?'),
            other => out.push(other),
        }
        before = character;
    }
    // A backtick without its partner.
    if is_code { out + "}" } else { out }
}

/// Last letter of Unicode's Latin blocks.
const LAST_LETTER: char = '\u{24f}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_have_no_number_and_a_label() {
        assert_eq!(caption(0, "Table 1: GLUE, split sora"), "\\caption{GLUE, split sora}\n\\label{tab:table-1}");
        let second = caption(1, "Paired comparison with LoRA: GLUE");
        assert_eq!(second, "\\caption{Paired comparison with LoRA: GLUE}\n\\label{tab:paired-comparison-with-lora-2}");
    }

    #[test]
    fn minus_signs_code_and_foreign_letters() {
        assert_eq!(latex("-1.20 to -0.3, F-1"), "$-$1.20 to $-$0.3, F-1");
        assert_eq!(latex("see `just x_y`"), "see \\texttt{just x\\_y}");
        assert_eq!(latex("a ` b"), "a \\texttt{ b}");
        assert_eq!(latex("é 漢"), "é ?");
    }
}

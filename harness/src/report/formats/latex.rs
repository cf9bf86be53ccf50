//! Tables as LaTeX.

use crate::error::Result;
use crate::report::formats::format::{Format, join};
use crate::report::table::TableDoc;

/// LaTeX: a `table*` that needs `booktabs` and `graphicx`.
pub struct Latex;

impl Format for Latex {
    fn extension(&self) -> &'static str {
        "tex"
    }

    fn render(&self, tables: &[TableDoc]) -> Result<String> {
        Ok(join(tables.iter().map(document), "\n"))
    }
}

fn document(table: &TableDoc) -> String {
    let line = |cells: &[String]| format!("{} \\\\\n", join(cells.iter().map(|c| latex(c)), " & "));
    let alignment: String = (0..table.header.len()).map(|i| if i == 0 { 'l' } else { 'r' }).collect();
    let mut text = format!(
        "\\begin{{table*}}\n\\centering\n\\caption{{{}}}\n\\resizebox{{\\textwidth}}{{!}}{{%\n\\begin{{tabular}}{{{alignment}}}\n\\toprule\n{}\\midrule\n",
        latex(&table.title),
        line(&table.header)
    );
    for row in &table.rows {
        text += &line(&row.cells);
    }
    text += "\\bottomrule\n\\end{tabular}}\n\\par\\smallskip\\footnotesize\\raggedright\n";
    for note in &table.notes {
        text += &format!("{}\\par\n", latex(note));
    }
    text + "\\end{table*}\n"
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

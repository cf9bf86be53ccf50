//! The self-contained page: every table and figure, with its style.

use crate::error::Result;
use crate::report::formats::format::Format;
use crate::report::formats::html::{Html, escaped};
use crate::report::table::TableDoc;

const STYLE: &str = "body{font:15px/1.45 sans-serif;margin:2rem auto;max-width:1240px;padding:0 1rem;color:#222}\
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}\
thead th{border-bottom:2px solid #444}tbody tr{border-top:1px solid #ddd}tr.sub{border-top:0;color:#666}\
.wide{overflow-x:auto}.notes{font-size:13px;color:#444}figure{margin:1.5rem 0}svg{max-width:100%;height:auto}\
h2{font-size:1.15rem;margin-top:2.2rem}";

/// A drawn figure: its heading and SVG text.
pub type Drawn = (String, String);

/// The page of a report.
///
/// # Errors
/// A bug only.
pub fn page(tables: &[(&'static str, Vec<TableDoc>)], figures: &[Drawn]) -> Result<String> {
    let sections: String = tables.iter().map(|(_, docs)| Html.render(docs)).collect::<Result<_>>()?;
    let drawings: String = figures
        .iter()
        .map(|(title, svg)| format!("<figure aria-label=\"{}\">\n{}\n</figure>\n", escaped(title), strip_prolog(svg)))
        .collect();
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>rankbench report</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>rankbench report</h1>\n{sections}{drawings}</body>\n</html>\n"
    ))
}

/// The SVG element alone, as HTML wants it inline.
fn strip_prolog(svg: &str) -> &str {
    svg.find("<svg").map_or(svg, |start| &svg[start..])
}

//! The self-contained page: data as JSON, the script that makes tables of it, every figure, and what made it.

use crate::analysis::results::ResultsFrame;
use crate::error::Result;
use crate::report::formats::html::escaped;
use crate::report::html::data::page_data;
use crate::report::html::figure::Drawn;
use crate::report::html::made::made;
use crate::report::table::TableDoc;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// The page of a report; `claims` are sentences that stand first.
///
/// # Errors
/// A bug only.
pub fn page(
    frame: &ResultsFrame,
    tables: &[(&'static str, Vec<TableDoc>)],
    figures: &[Drawn],
    claims: &[String],
) -> Result<String> {
    let data = page_data(frame, tables)?.json()?;
    let sentences: String = claims.iter().map(|claim| format!("<li>{}</li>\n", escaped(claim))).collect();
    let claims = match claims.is_empty() {
        true => String::new(),
        false => format!(
            "<section aria-labelledby=\"claims\"><h2 id=\"claims\">Claims</h2><ul>\n{sentences}</ul></section>\n"
        ),
    };
    let drawings: String = figures.iter().map(Drawn::html).collect();
    let fact = |(name, text): &(&str, String)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(text));
    let facts: String = made(frame).iter().map(fact).collect();
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>rankbench report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>rankbench report</h1></header>\n<main>\n\
         <noscript><p>The tables of this page need JavaScript; table1.md and the other files beside it do not.</p></noscript>\n\
         {claims}<div id=\"first\"></div>\n<div id=\"tables\"></div>\n\
         <section aria-labelledby=\"figures\"><h2 id=\"figures\">Figures</h2>\n{drawings}</section>\n\
         <div id=\"runs\"></div>\n\
         <section aria-labelledby=\"made\"><h2 id=\"made\">What made this report</h2>\n<dl>\n{facts}</dl></section>\n</main>\n\
         <div id=\"tip\" role=\"status\" hidden></div>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    ))
}

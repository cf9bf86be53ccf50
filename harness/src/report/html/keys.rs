//! Filter values of a table's rows, from the numbers behind it.

use polars::prelude::{Column, DataFrame};
use serde::Serialize;

use crate::analysis::frame::typed::Field;
use crate::report::table::TableDoc;

/// Values by row; a table without such a column has none and is not filtered by it.
#[derive(Default, Serialize)]
pub struct Keys {
    task: Vec<String>,
    method: Vec<String>,
    variant: Vec<String>,
    device: Vec<String>,
    commit: Vec<String>,
}

/// Filter values of a document whose numbers stand row by row.
pub fn keys(doc: &TableDoc) -> Keys {
    if doc.data.height() != doc.rows.len() {
        return Keys::default();
    }
    let of = |names: &[&str]| names.iter().find_map(|name| texts(&doc.data, name)).unwrap_or_default();
    Keys {
        task: of(&["task"]),
        method: of(&["method"]),
        variant: of(&["variant"]),
        device: of(&["device", "devices"]),
        commit: of(&["commit", "commits"]),
    }
}

fn texts(data: &DataFrame, name: &str) -> Option<Vec<String>> {
    let column: &Column = data.column(name).ok()?;
    let values = <Option<String> as Field>::values(column).ok()?;
    Some(values.into_iter().map(Option::unwrap_or_default).collect())
}

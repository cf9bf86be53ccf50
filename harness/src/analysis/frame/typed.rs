//! Structs as polars columns and back, declared once by [`frame_rows!`].

use std::marker::PhantomData;

use polars::prelude::{Column, DataFrame, DataType, PolarsError, PolarsResult};

use crate::error::{Error, Result};

/// A struct that is one row of a frame.
pub trait FrameRow: Sized {
    /// The columns of `rows`, in the order of the fields.
    fn columns(rows: &[&Self]) -> Vec<Column>;
    /// Reads every row back.
    ///
    /// # Errors
    /// A missing column or one of another type.
    fn read(data: &DataFrame) -> PolarsResult<Vec<Self>>;
}

/// A table of rows of one type, stored by column.
#[derive(Debug, Clone)]
pub struct Frame<R> {
    data: DataFrame,
    row: PhantomData<R>,
}

impl<R: FrameRow> Frame<R> {
    /// A frame of these rows.
    ///
    /// # Errors
    /// A bug only: columns of different lengths.
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = &'a R>) -> Result<Self>
    where
        R: 'a,
    {
        let rows: Vec<&R> = rows.into_iter().collect();
        Ok(Frame { data: DataFrame::new(rows.len(), R::columns(&rows)).map_err(internal)?, row: PhantomData })
    }

    /// Its rows.
    ///
    /// # Errors
    /// A bug only: a column of another type.
    pub fn rows(&self) -> Result<Vec<R>> {
        R::read(&self.data).map_err(internal)
    }

    /// CSV with a header.
    ///
    /// # Errors
    /// A bug only.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let mut text = CsvText::default();
        text.push(&self.data)?;
        text.finish()
    }

    /// Its columns, without the row's type.
    pub fn into_data(self) -> DataFrame {
        self.data
    }
}

/// Column of a setting's label.
const VARIANT: &str = "variant";
/// Text in files for the empty label of a method's first setting.
pub const BASE: &str = "base";

/// CSV text of frames with the same columns, one below the other; null is an empty field.
#[derive(Default)]
pub struct CsvText {
    writer: Option<csv::Writer<Vec<u8>>>,
}

impl CsvText {
    /// Appends the rows of a frame; the first frame gives the header.
    ///
    /// # Errors
    /// A bug only: a column whose type no row has.
    pub fn push(&mut self, data: &DataFrame) -> Result<()> {
        if self.writer.is_none() {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(data.get_column_names().iter().map(|name| name.as_str())).map_err(internal)?;
            self.writer = Some(writer);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut columns = data.columns().iter().map(as_text).collect::<PolarsResult<Vec<_>>>().map_err(internal)?;
        let variants = data.columns().iter().zip(&mut columns).filter(|(column, _)| column.name() == VARIANT);
        for text in variants.flat_map(|(_, texts)| texts).filter(|text| text.is_empty()) {
            *text = BASE.into();
        }
        for index in 0..data.height() {
            writer.write_record(columns.iter().map(|column| column[index].as_str())).map_err(internal)?;
        }
        Ok(())
    }

    /// The text.
    ///
    /// # Errors
    /// A bug only.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.writer.map_or(Ok(Vec::new()), |writer| writer.into_inner().map_err(internal))
    }
}

/// A failure inside the report that no input explains.
pub fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("report: {error}"))
}

/// A field type of a [`FrameRow`].
pub trait Field: Sized {
    /// Values as a column.
    fn column(name: &str, values: Vec<Self>) -> Column;
    /// A column as values.
    ///
    /// # Errors
    /// Another type, or a null where the field has none.
    fn values(column: &Column) -> PolarsResult<Vec<Self>>;
}

/// Declares a struct with public fields that is a [`FrameRow`]. A column has its field's name, or the one given as
/// `field = "column": Type`.
macro_rules! frame_rows {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(= $column:literal)?: $kind:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }

        impl $crate::analysis::frame::typed::FrameRow for $name {
            fn columns(rows: &[&Self]) -> Vec<polars::prelude::Column> {
                vec![$(<$kind as $crate::analysis::frame::typed::Field>::column(
                    [$($column,)? stringify!($field)][0],
                    rows.iter().map(|row| row.$field.clone()).collect(),
                )),*]
            }

            fn read(data: &polars::prelude::DataFrame) -> polars::prelude::PolarsResult<Vec<Self>> {
                $(let mut $field = <$kind as $crate::analysis::frame::typed::Field>::values(
                    data.column([$($column,)? stringify!($field)][0])?,
                )?.into_iter();)*
                let mut rows = Vec::with_capacity(data.height());
                while let ($(Some($field),)*) = ($($field.next(),)*) {
                    rows.push($name { $($field,)* });
                }
                Ok(rows)
            }
        }
    };
}
pub(crate) use frame_rows;

/// Every value as text; null is empty, a float is Rust's shortest form that reads back the same.
fn as_text(column: &Column) -> PolarsResult<Vec<String>> {
    fn texts<T: ToString>(values: Vec<Option<T>>) -> Vec<String> {
        values.into_iter().map(|v| v.map(|v| v.to_string()).unwrap_or_default()).collect()
    }
    Ok(match column.dtype() {
        DataType::Float64 => texts(Option::<f64>::values(column)?),
        DataType::Int64 => texts(Option::<i64>::values(column)?),
        DataType::UInt64 => texts(Option::<u64>::values(column)?),
        _ => texts(Option::<String>::values(column)?),
    })
}

fn required<T>(name: &str, value: Option<T>) -> PolarsResult<T> {
    value.ok_or_else(|| PolarsError::NoData(format!("column {name} has a null").into()))
}

macro_rules! numeric_field {
    ($kind:ty, $read:ident) => {
        impl Field for Option<$kind> {
            fn column(name: &str, values: Vec<Self>) -> Column {
                Column::new(name.into(), values)
            }
            fn values(column: &Column) -> PolarsResult<Vec<Self>> {
                Ok(column.$read()?.iter().collect())
            }
        }
        impl Field for $kind {
            fn column(name: &str, values: Vec<Self>) -> Column {
                Column::new(name.into(), values)
            }
            fn values(column: &Column) -> PolarsResult<Vec<Self>> {
                column.$read()?.iter().map(|value| required(column.name(), value)).collect()
            }
        }
    };
}
numeric_field!(f64, f64);
numeric_field!(i64, i64);
numeric_field!(u64, u64);

impl Field for Option<String> {
    fn column(name: &str, values: Vec<Self>) -> Column {
        Column::new(name.into(), values)
    }
    fn values(column: &Column) -> PolarsResult<Vec<Self>> {
        Ok(column.str()?.iter().map(|value| value.map(str::to_string)).collect())
    }
}

impl Field for String {
    fn column(name: &str, values: Vec<Self>) -> Column {
        Column::new(name.into(), values)
    }
    fn values(column: &Column) -> PolarsResult<Vec<Self>> {
        column.str()?.iter().map(|value| required(column.name(), value.map(str::to_string))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    frame_rows! {
        /// A row with every field type.
        pub struct Example {
            /// Text.
            text: String,
            /// Named otherwise in files.
            label = "variant": String,
            /// Whole number.
            count: u64,
            /// Number that may be missing.
            value: Option<f64>,
            /// Signed number that may be missing.
            change: Option<i64>,
        }
    }

    fn examples() -> Vec<Example> {
        let row = |text: &str, label: &str, value, change| {
            let (text, label) = (text.into(), label.into());
            Example { text, label, count: 3, value, change }
        };
        vec![row("a, b", "r=4", Some(0.1 + 0.2), Some(-1)), row("", "", None, None)]
    }

    #[test]
    fn rows_come_back_as_they_were() {
        assert_eq!(Frame::from_rows(&examples()).unwrap().rows().unwrap(), examples());
        let none: [Example; 0] = [];
        assert_eq!(Frame::from_rows(&none).unwrap().rows().unwrap(), none);
    }

    #[test]
    fn csv_has_the_columns_names_the_shortest_floats_and_empty_nulls() {
        let text = String::from_utf8(Frame::from_rows(&examples()).unwrap().to_csv().unwrap()).unwrap();
        assert_eq!(text, "text,variant,count,value,change\n\"a, b\",r=4,3,0.30000000000000004,-1\n,base,3,,\n");
    }

    #[test]
    fn frames_below_each_other_share_one_header() {
        let data = Frame::from_rows(&examples()).unwrap().into_data();
        let mut text = CsvText::default();
        text.push(&data).unwrap();
        text.push(&data).unwrap();
        assert_eq!(String::from_utf8(text.finish().unwrap()).unwrap().lines().count(), 5);
    }
}

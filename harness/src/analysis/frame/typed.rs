//! Structs as polars columns and back, declared once by [`frame_rows!`].

use polars::prelude::{Column, DataFrame, PolarsError, PolarsResult};

/// A struct that is one row of a frame.
pub trait Row: Sized {
    /// The columns of `rows`, in the order of the fields.
    fn columns(rows: &[Self]) -> Vec<Column>;
    /// Reads every row back.
    ///
    /// # Errors
    /// A missing column or one of another type.
    fn read(frame: &DataFrame) -> PolarsResult<Vec<Self>>;
}

/// A field type of a [`Row`].
pub trait Field: Sized {
    /// Values as a column.
    fn column(name: &str, values: Vec<Self>) -> Column;
    /// A column as values.
    ///
    /// # Errors
    /// Another type, or a null where the field has none.
    fn values(column: &Column) -> PolarsResult<Vec<Self>>;
}

/// Declares a struct with public fields that is a [`Row`].
macro_rules! frame_rows {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }

        impl $crate::analysis::frame::typed::Row for $name {
            fn columns(rows: &[Self]) -> Vec<polars::prelude::Column> {
                vec![$(<$kind as $crate::analysis::frame::typed::Field>::column(
                    stringify!($field),
                    rows.iter().map(|row| row.$field.clone()).collect(),
                )),*]
            }

            fn read(frame: &polars::prelude::DataFrame) -> polars::prelude::PolarsResult<Vec<Self>> {
                $(let mut $field =
                    <$kind as $crate::analysis::frame::typed::Field>::values(frame.column(stringify!($field))?)?.into_iter();)*
                let mut rows = Vec::with_capacity(frame.height());
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
pub fn as_text(column: &Column) -> PolarsResult<Vec<String>> {
    use polars::prelude::DataType;
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

//! The Parquet tables: one written contract, a writer that shows files whole or not at all, and a reader that checks them.
//!
//! Guarantees for whoever opens the output:
//! - `TABLE/run_date=YYYY-MM-DD/*.parquet`, the date being the UTC date of the row's own time;
//! - INT64, DOUBLE, BOOLEAN, STRING, `LIST<STRING>` and TIMESTAMP(MICROS, UTC), nothing else, and no `ARROW:schema` in the file, so that
//!   every reader derives the same types;
//! - zstd, a row group closes at [`ROW_GROUP_BYTES_MAX`] or [`ROW_GROUP_ROWS_MAX`];
//! - nothing to say is NULL, never an empty text.

mod batch;
mod contract;
mod document;
mod error;
mod layout;
mod reader;
mod schema;
mod specimen;
mod words;
mod writer;

#[cfg(test)]
mod promises;

pub use contract::*;
pub use document::{contract_json, contract_markdown};
pub use error::TableError;
pub use layout::{FileName, Span};
pub(crate) use layout::{dates, utc_date};
pub(crate) use reader::read_files;
pub use reader::{project, read};
pub use schema::{AtMicros, Cell, Column, Field, Hex, Row, Rule, Table, Type};
pub use specimen::{specimen, write_specimens};
pub use words::{Clock, Fence, RunKind, RunStatus, Verdict};
pub use writer::{DATES_OPEN_MAX, ROW_GROUP_BYTES_MAX, ROW_GROUP_ROWS_MAX, TableWriter, replace_rows};

/// The version of the contract; it grows when a column changes its meaning, goes away or changes its type.
pub const SCHEMA_VERSION: i64 = 1;

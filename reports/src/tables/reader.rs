//! Files back to rows, checked against the contract.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::batch::cell_of;
use super::layout::{Span, files};
use super::schema::{Cell, Row, Table, Type};
use super::{SCHEMA_VERSION, TableError};

/// Rows of a Parquet file held at once.
const BATCH_ROWS_MAX: usize = 1_024;

/// Reads every row of a table whose `run_date` lies in `span`, file by file, in bounded memory. A table that nobody wrote has no rows.
///
/// # Errors
/// An item is an error when a file cannot be read or does not keep the contract; nothing is skipped, and the iterator ends there.
pub fn read<R: Row>(
    output: &Path,
    span: Span,
) -> Result<impl Iterator<Item = Result<R, TableError>> + use<R>, TableError> {
    let table = R::table();
    let wanted = (0..table.columns.len()).collect();
    let scan = Scan::new(output, table, wanted, span)?;
    Ok(scan.map(|item| {
        let (path, cells) = item?;
        R::from_cells(cells).map_err(|(column, problem)| foreign(&path, column, problem))
    }))
}

/// Reads every row of these files of a table, each with the file that it came from. See [`read`].
pub(crate) fn read_files<R: Row>(
    files: Vec<PathBuf>,
) -> impl Iterator<Item = Result<(Arc<Path>, R), TableError>> + use<R> {
    let table = R::table();
    let wanted = (0..table.columns.len()).collect();
    Scan::of(table, wanted, files).map(|item| {
        let (path, cells) = item?;
        match R::from_cells(cells) {
            Ok(row) => Ok((path, row)),
            Err((column, problem)) => Err(foreign(&path, column, problem)),
        }
    })
}

/// Reads only some columns, in the order asked for. See [`read`].
///
/// # Errors
/// A column that the table does not have; then as [`read`].
pub fn project(
    output: &Path,
    table: &'static Table,
    columns: &[&str],
    span: Span,
) -> Result<impl Iterator<Item = Result<Vec<Cell>, TableError>> + use<>, TableError> {
    let mut wanted = Vec::new();
    for column in columns {
        let index = table.index_of(column).ok_or_else(|| TableError::Contract {
            table: table.name,
            column: (*column).to_owned(),
            problem: "the table has no such column".to_owned(),
        })?;
        wanted.push(index);
    }
    let scan = Scan::new(output, table, wanted, span)?;
    Ok(scan.map(|item| item.map(|(_, cells)| cells)))
}

/// One row and the file that it came from.
type Found = (Arc<Path>, Vec<Cell>);

struct Scan {
    table: &'static Table,
    wanted: Vec<usize>,
    files: VecDeque<PathBuf>,
    open: Option<(Arc<Path>, ParquetRecordBatchReader)>,
    batch: Option<RecordBatch>,
    row: usize,
}

impl Scan {
    fn new(output: &Path, table: &'static Table, wanted: Vec<usize>, span: Span) -> Result<Self, TableError> {
        Ok(Self::of(table, wanted, files(output, table.name, span)?))
    }

    fn of(table: &'static Table, wanted: Vec<usize>, files: Vec<PathBuf>) -> Self {
        Self {
            table,
            wanted,
            files: files.into(),
            open: None,
            batch: None,
            row: 0,
        }
    }

    fn next_row(&mut self) -> Result<Option<Found>, TableError> {
        loop {
            if let (Some(batch), Some((path, _))) = (&self.batch, &self.open) {
                if self.row < batch.num_rows() {
                    let path = Arc::clone(path);
                    let cells = self.cells(batch, &path)?;
                    self.row += 1;
                    return Ok(Some((path, cells)));
                }
                self.batch = None;
            }
            if let Some((path, reader)) = &mut self.open {
                match reader.next() {
                    Some(Ok(batch)) => {
                        self.batch = Some(batch);
                        self.row = 0;
                    }
                    Some(Err(error)) => return Err(TableError::unreadable(path, error)),
                    None => self.open = None,
                }
                continue;
            }
            match self.files.pop_front() {
                Some(path) => self.open = Some((path.as_path().into(), open(&path, self.table, &self.wanted)?)),
                None => return Ok(None),
            }
        }
    }

    fn cells(&self, batch: &RecordBatch, path: &Path) -> Result<Vec<Cell>, TableError> {
        let mut cells = Vec::with_capacity(self.wanted.len());
        for &index in &self.wanted {
            let column = &self.table.columns[index];
            let Some(array) = batch.column_by_name(column.name) else {
                return Err(foreign(path, column.name, "missing".to_owned()));
            };
            let cell = cell_of(array, column.kind, self.row);
            if let Some(problem) = column.broken_by(&cell) {
                return Err(foreign(path, column.name, problem));
            }
            if column.name == "schema_version" && cell != Cell::Int(SCHEMA_VERSION) {
                let problem = format!("{cell:?} where this version reads {SCHEMA_VERSION}");
                return Err(foreign(path, column.name, problem));
            }
            cells.push(cell);
        }
        Ok(cells)
    }
}

impl Iterator for Scan {
    type Item = Result<Found, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_row().transpose();
        if let Some(Err(_)) = &item {
            self.files.clear();
            self.open = None;
            self.batch = None;
        }
        item
    }
}

fn open(path: &Path, table: &'static Table, wanted: &[usize]) -> Result<ParquetRecordBatchReader, TableError> {
    let file = File::open(path).map_err(|error| TableError::unreadable(path, error))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| TableError::unreadable(path, error))?;
    check(path, table, builder.schema())?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS_MAX)
        .build()
        .map_err(|error| TableError::unreadable(path, error))?;
    Ok(reader)
}

/// A file keeps the contract if it has exactly its columns, in order, with their types and nullability.
fn check(path: &Path, table: &'static Table, found: &SchemaRef) -> Result<(), TableError> {
    for (index, column) in table.columns.iter().enumerate() {
        let Some(field) = found.fields().get(index) else {
            return Err(foreign(path, column.name, "missing".to_owned()));
        };
        if field.name() != column.name {
            return Err(foreign(
                path,
                column.name,
                format!("`{}` stands in its place", field.name()),
            ));
        }
        if !is_kind(field.data_type(), column.kind) || field.is_nullable() != column.nullable {
            let null = if field.is_nullable() { ", with NULL" } else { "" };
            return Err(foreign(path, column.name, format!("is {}{null}", field.data_type())));
        }
    }
    match found.fields().get(table.columns.len()) {
        Some(extra) => Err(foreign(path, extra.name(), "not in the contract".to_owned())),
        None => Ok(()),
    }
}

fn is_kind(found: &DataType, kind: Type) -> bool {
    match (found, kind) {
        (DataType::List(element), Type::TextList) => element.data_type() == &DataType::Utf8 && !element.is_nullable(),
        (found, kind) => *found == kind.arrow(),
    }
}

fn foreign(path: &Path, column: &str, problem: String) -> TableError {
    TableError::Foreign {
        path: path.to_owned(),
        column: column.to_owned(),
        problem,
    }
}

//! Rows to files: streamed into row groups, and shown whole or not at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::TableError;
use super::batch::BatchBuilder;
use super::layout::{FileName, partition, run_instant_us, utc_date};
use super::schema::{Cell, Row, Table};

/// A row group closes at so many encoded bytes.
pub const ROW_GROUP_BYTES_MAX: usize = 8 << 20;
/// A row group closes at so many rows.
pub const ROW_GROUP_ROWS_MAX: usize = 100_000;
/// Dates that one writer may have open. Rows come nearly in the order of time, so that more is a broken clock.
pub const DATES_OPEN_MAX: usize = 64;
/// Rows held before they are encoded.
const BATCH_ROWS_MAX: usize = 1_024;
/// Bytes of text held before they are encoded.
const BATCH_TEXT_BYTES_MAX: usize = 1 << 20;

/// Writes rows of one table into one file for each UTC date of their own time.
///
/// Until [`TableWriter::finish`] returns nothing is visible; a writer that is dropped or killed before leaves at most a hidden draft, which the
/// next rendering of the same run replaces. Memory is bounded by one row group, whatever the number of rows. All calls block on the disk: keep
/// them away from a runtime that times lag.
#[derive(Debug)]
pub struct TableWriter<R: Row> {
    output: PathBuf,
    name: FileName,
    replaces: bool,
    open: fn(&Path) -> io::Result<File>,
    drafts: BTreeMap<Date, Draft>,
    rows: u64,
    row: PhantomData<fn(R)>,
}

/// Replaces the file of one run (or part of a run) by these rows. See [`TableWriter`].
///
/// # Errors
/// Unwritable output, or a row that breaks the contract.
pub fn replace_rows<R: Row>(
    output: &Path,
    name: FileName,
    rows: impl IntoIterator<Item = R>,
) -> Result<Vec<PathBuf>, TableError> {
    let mut writer = TableWriter::create(output, name);
    for row in rows {
        writer.push(row)?;
    }
    writer.finish()
}

impl<R: Row> TableWriter<R> {
    /// A writer under `output`. A file of the same name and date is replaced in one step when it finishes.
    pub fn create(output: &Path, name: FileName) -> Self {
        Self {
            output: output.to_owned(),
            name,
            replaces: true,
            open: create_draft,
            drafts: BTreeMap::new(),
            rows: 0,
            row: PhantomData,
        }
    }

    /// A writer that refuses to finish when a file of its name exists.
    pub fn create_new(output: &Path, name: FileName) -> Self {
        Self {
            replaces: false,
            ..Self::create(output, name)
        }
    }

    #[cfg(test)]
    pub(crate) fn opening_with(mut self, open: fn(&Path) -> io::Result<File>) -> Self {
        self.open = open;
        self
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes a row.
    ///
    /// # Errors
    /// Unwritable output, or a row that breaks the contract; it is then not taken.
    pub fn push(&mut self, row: R) -> Result<(), TableError> {
        let table = R::table();
        let cells = row.into_cells();
        self.push_cells(cells.map_err(|(column, problem)| contract(table, column, problem))?)
    }

    pub(crate) fn push_cells(&mut self, cells: Vec<Cell>) -> Result<(), TableError> {
        let table = R::table();
        for (column, cell) in table.columns.iter().zip(&cells) {
            if let Some(problem) = column.broken_by(cell) {
                return Err(contract(table, column.name, problem));
            }
        }
        let date = own_date(table, &cells)?;
        self.draft(date)?.push(cells)?;
        self.rows += 1;
        Ok(())
    }

    /// Writes a file without rows for a date, so that engines that open the table find its columns.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn touch(&mut self, date: Date) -> Result<(), TableError> {
        self.draft(date).map(|_| ())
    }

    fn draft(&mut self, date: Date) -> Result<&mut Draft, TableError> {
        if !self.drafts.contains_key(&date) {
            let table = R::table();
            if self.drafts.len() == DATES_OPEN_MAX {
                let problem = format!("more than {DATES_OPEN_MAX} dates in one file set; is a clock broken?");
                return Err(contract(table, table.dated_by, problem));
            }
            // Only one draft at a time holds unwritten rows, so that memory does not grow with dates.
            for draft in self.drafts.values_mut() {
                draft.flush()?;
            }
            let folder = partition(&self.output, table.name, date);
            let draft = Draft::create(table, folder, &self.name, self.open)?;
            self.drafts.insert(date, draft);
        }
        Ok(self.drafts.get_mut(&date).expect("inserted above"))
    }

    /// Makes all files durable, then visible. Returns their paths.
    ///
    /// # Errors
    /// Unwritable output: no file of this writer became visible, unless the renaming itself failed between two dates.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, TableError> {
        let drafts = std::mem::take(&mut self.drafts);
        let mut whole = Vec::new();
        for draft in drafts.into_values() {
            whole.push(draft.complete()?);
        }
        if !self.replaces {
            for file in &whole {
                let visible = file.folder.join(self.name.visible());
                if visible.exists() {
                    let cause = io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        "it exists, and evidence is never overwritten",
                    );
                    return Err(TableError::unwritable(&visible, cause));
                }
            }
        }
        whole.into_iter().map(|file| file.show(&self.name)).collect()
    }
}

fn contract(table: &Table, column: &str, problem: String) -> TableError {
    TableError::Contract {
        table: table.name,
        column: column.to_owned(),
        problem,
    }
}

fn own_date(table: &'static Table, cells: &[Cell]) -> Result<Date, TableError> {
    let at_us = match table.index_of(table.dated_by).and_then(|index| cells.get(index)) {
        Some(Cell::At(at_us)) => Some(*at_us),
        Some(Cell::Text(run_id)) => run_instant_us(run_id),
        _ => None,
    };
    at_us
        .and_then(utc_date)
        .ok_or_else(|| contract(table, table.dated_by, "no UTC date can be told from it".to_owned()))
}

/// A hidden file that grows; removed when it is dropped unfinished.
#[derive(Debug)]
struct Draft {
    hidden: Hidden,
    batch: BatchBuilder,
    writer: ArrowWriter<File>,
}

#[derive(Debug)]
struct Hidden {
    folder: PathBuf,
    path: PathBuf,
    shown: bool,
}

impl Draft {
    fn create(
        table: &'static Table,
        folder: PathBuf,
        name: &FileName,
        open: fn(&Path) -> io::Result<File>,
    ) -> Result<Self, TableError> {
        std::fs::create_dir_all(&folder).map_err(|cause| TableError::unwritable(&folder, cause))?;
        let path = folder.join(name.draft());
        let file = open(&path).map_err(|cause| TableError::unwritable(&path, cause))?;
        let hidden = Hidden {
            folder,
            path,
            shown: false,
        };
        let options = ArrowWriterOptions::new()
            .with_properties(properties())
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, table.arrow_schema(), options)
            .map_err(|error| TableError::from_writer(&hidden.path, error))?;
        Ok(Self {
            hidden,
            batch: BatchBuilder::new(table),
            writer,
        })
    }

    fn push(&mut self, cells: Vec<Cell>) -> Result<(), TableError> {
        self.batch.push(cells);
        if self.batch.rows() >= BATCH_ROWS_MAX || self.batch.text_bytes() >= BATCH_TEXT_BYTES_MAX {
            self.encode()?;
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), TableError> {
        if self.batch.rows() == 0 {
            return Ok(());
        }
        let path = &self.hidden.path;
        let batch = self.batch.finish();
        let batch = batch.map_err(|error| TableError::unwritable(path, io::Error::other(error)))?;
        let written = self.writer.write(&batch);
        written.map_err(|error| TableError::from_writer(path, error))
    }

    fn flush(&mut self) -> Result<(), TableError> {
        self.encode()?;
        let flushed = self.writer.flush();
        flushed.map_err(|error| TableError::from_writer(&self.hidden.path, error))
    }

    /// Whole and durable, still hidden.
    fn complete(mut self) -> Result<Hidden, TableError> {
        self.encode()?;
        let path = &self.hidden.path;
        let finished = self.writer.finish();
        finished.map_err(|error| TableError::from_writer(path, error))?;
        let synced = self.writer.sync().and_then(|()| self.writer.inner().sync_all());
        synced.map_err(|cause| TableError::unwritable(path, cause))?;
        Ok(self.hidden)
    }
}

impl Hidden {
    fn show(mut self, name: &FileName) -> Result<PathBuf, TableError> {
        let visible = self.folder.join(name.visible());
        std::fs::rename(&self.path, &visible).map_err(|cause| TableError::unwritable(&visible, cause))?;
        self.shown = true;
        // The partition, the table and the output: any of them may be new.
        for folder in self.folder.ancestors().take(3) {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|cause| TableError::unwritable(folder, cause))?;
        }
        Ok(visible)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.shown {
            // A draft that stays is hidden from every reader and replaced by the next rendering.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn create_draft(path: &Path) -> io::Result<File> {
    // A draft that a killed process left. Removed, not truncated: it could be a link.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(concat!("driftline ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES_MAX))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .build()
}

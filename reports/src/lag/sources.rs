//! Which files are meant by the paths that a person names, and which day each holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::hlog_file::read_hlog;
use crate::tables::{LagIntervalRow, Row as _, TableError, read_files, utc_date};

/// Folders below a named one are entered so deep.
const DEPTH_MAX: u32 = 8;

/// The files of one UTC day.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) parquet: Vec<PathBuf>,
    pub(super) hlog: Vec<PathBuf>,
}

/// The files by day, each once. Intervals of one key always lie on one day, so a day can be read for itself.
pub(super) fn days(paths: &[PathBuf]) -> Result<BTreeMap<Date, Day>, TableError> {
    let mut files = Vec::new();
    for path in paths {
        let found = std::fs::metadata(path).map_err(|error| TableError::unreadable(path, error))?;
        match (found.is_dir(), kind(path)) {
            (true, _) => walk(path, 0, &mut files)?,
            (false, Some(_)) => files.push(path.clone()),
            (false, None) => {
                let problem = "neither a folder nor a .parquet file of lag_intervals nor a .hlog file";
                return Err(TableError::unreadable(path, problem));
            }
        }
    }
    files.sort();
    files.dedup();
    let mut days: BTreeMap<Date, Day> = BTreeMap::new();
    for path in files {
        let Some(date) = date_of(&path)? else { continue };
        let day = days.entry(date).or_default();
        match kind(&path) {
            Some(Kind::Parquet) => day.parquet.push(path),
            Some(Kind::Hlog) => day.hlog.push(path),
            None => {}
        }
    }
    Ok(days)
}

#[derive(Clone, Copy)]
enum Kind {
    Parquet,
    Hlog,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "parquet" => Some(Kind::Parquet),
        "hlog" => Some(Kind::Hlog),
        _ => None,
    }
}

/// Files of lag below a folder. Hidden ones are drafts; links to folders are not followed.
fn walk(folder: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<(), TableError> {
    let unreadable = |error: std::io::Error| TableError::unreadable(folder, error);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if depth == DEPTH_MAX {
                return Err(TableError::unreadable(&path, "folders are nested too deep; name it"));
            }
            walk(&path, depth + 1, files)?;
        } else if kind(&path).is_some() && !is_of_another_table(&path)? {
            files.push(path);
        }
    }
    Ok(())
}

/// Whether the file lies in the partition of a table that is not `lag_intervals`.
fn is_of_another_table(path: &Path) -> Result<bool, TableError> {
    let Some(partition) = path.parent().filter(|parent| partition_date(parent).is_some()) else {
        return Ok(false);
    };
    // The named folder may be the partition itself, by any path.
    let whole = partition
        .canonicalize()
        .map_err(|error| TableError::unreadable(partition, error))?;
    let table = whole.parent().and_then(Path::file_name);
    Ok(table.is_some_and(|table| table != LagIntervalRow::table().name))
}

fn partition_date(folder: &Path) -> Option<&str> {
    folder.file_name()?.to_str()?.strip_prefix("run_date=")
}

/// The day of a file: as its folder says, else as its first interval says. `None`: it holds none.
fn date_of(path: &Path) -> Result<Option<Date>, TableError> {
    if let Some(text) = path.parent().and_then(partition_date) {
        let date = text
            .parse()
            .map_err(|_| TableError::unreadable(path, "not a date after run_date="))?;
        return Ok(Some(date));
    }
    let first_us = match kind(path) {
        Some(Kind::Hlog) => read_hlog(path)?.intervals.first().map(|first| first.start_us),
        _ => match read_files::<LagIntervalRow>(vec![path.to_owned()]).next() {
            Some(row) => Some(row?.1.interval_start.0),
            None => None,
        },
    };
    Ok(first_us.and_then(utc_date))
}

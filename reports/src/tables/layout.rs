//! Where files lie: `TABLE/run_date=YYYY-MM-DD/NAME.parquet`.

use std::path::{Path, PathBuf};

use jiff::civil::Date;

use super::TableError;

const PARTITION: &str = "run_date=";

/// The name of a file of a table: made of the run and of what part of it the file holds, so that a repeated rendering finds its own file
/// and no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// The only file of a run in its table and date.
    pub fn of_run(run_id: &str) -> Self {
        Self(escape(run_id))
    }

    /// The file of one part of a run: a dataset and pair, a revision, a number.
    pub fn of_part(run_id: &str, part: &str) -> Self {
        Self(format!("{}-{}", escape(run_id), escape(part)))
    }

    pub(crate) fn visible(&self) -> String {
        format!("{}.parquet", self.0)
    }

    /// In the same folder, so that the rename is atomic, and outside of every glob that ends in `.parquet`.
    pub(crate) fn draft(&self) -> String {
        format!(".{}.parquet.draft", self.0)
    }
}

/// Letters, digits, `-` and `_` stay; every other byte becomes `~` and two hex digits. Different texts stay different.
fn escape(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("~{byte:02x}"));
        }
    }
    name
}

/// The UTC date of an instant; `None` outside of the calendar.
pub(crate) fn utc_date(at_us: i64) -> Option<Date> {
    let instant = jiff::Timestamp::from_microsecond(at_us).ok()?;
    Some(instant.to_zoned(jiff::tz::TimeZone::UTC).date())
}

/// The instant in a UUIDv7.
pub(crate) fn run_instant_us(run_id: &str) -> Option<i64> {
    let id = uuid::Uuid::parse_str(run_id).ok()?;
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let seconds_us = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    seconds_us.checked_add(i64::from(nanos / 1_000))
}

pub(crate) fn partition(output: &Path, table: &str, date: Date) -> PathBuf {
    output.join(table).join(format!("{PARTITION}{date}"))
}

/// Which dates to read: both ends included, open where `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First date.
    pub from: Option<Date>,
    /// Last date.
    pub to: Option<Date>,
}

impl Span {
    /// Everything.
    pub const ALL: Self = Self { from: None, to: None };

    /// The dates that rows between two instants (microseconds since 1970 UTC) can lie in.
    pub fn between_us(from_us: i64, to_us: i64) -> Self {
        Self {
            from: utc_date(from_us),
            to: utc_date(to_us),
        }
    }

    fn holds(&self, date: Date) -> bool {
        self.from.is_none_or(|from| from <= date) && self.to.is_none_or(|to| date <= to)
    }
}

/// The visible files of a table by date and name. A table without a folder has none.
pub(crate) fn files(output: &Path, table: &str, span: Span) -> Result<Vec<PathBuf>, TableError> {
    let mut files = Vec::new();
    for (date, path) in partitions(output, table)? {
        if span.holds(date) {
            let visible = entries(&path)?.into_iter();
            files.extend(visible.filter(|(name, _)| is_visible(name)).map(|(_, path)| path));
        }
    }
    files.sort();
    Ok(files)
}

/// The dates that a table has a folder for, in no order.
pub(crate) fn dates(output: &Path, table: &str) -> Result<Vec<Date>, TableError> {
    Ok(partitions(output, table)?.into_iter().map(|(date, _)| date).collect())
}

fn partitions(output: &Path, table: &str) -> Result<Vec<(Date, PathBuf)>, TableError> {
    let mut partitions = Vec::new();
    for (name, path) in entries(&output.join(table))? {
        if let Some(text) = name.strip_prefix(PARTITION) {
            let date = text
                .parse()
                .map_err(|_| TableError::unreadable(&path, "not a date after run_date="))?;
            partitions.push((date, path));
        }
    }
    Ok(partitions)
}

fn is_visible(name: &str) -> bool {
    name.ends_with(".parquet") && !name.starts_with('.')
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, TableError> {
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TableError::unreadable(folder, error)),
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|error| TableError::unreadable(folder, error))?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(entries)
}

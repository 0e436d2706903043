//! `OUTPUT/hlog/YYYY-MM-DD/RUN.hlog`: HdrHistogram's own log format, which has readers in other languages.
//!
//! Append-only: a settled canary stands in it once, in the interval in which the probe settled it. Two lines an interval and route: `low` holds
//! every canary whose lag is known to be at least something, `high` those that are bounded as well; what `low` has more was lost or overwritten
//! before it was seen. Pending canaries are not in it. An interval in which nothing settled is an empty histogram: the probe was there.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use probes::{FinalState, HDR_DIGITS, HDR_US_MAX, HDR_US_MIN, INTERVAL_US, LagInterval, LagSample, Route};

use super::hlog_file::{End, tag_text};
use crate::spread::Spread;
use crate::tables::{TableError, utc_date};

/// A file is closed at so many bytes, and the next part of the run begun.
pub const HLOG_BYTES_MAX: u64 = 64 << 20;

/// The log of one running probe. Calls block on the disk.
#[derive(Debug)]
pub struct Hlog {
    output: PathBuf,
    run_id: String,
    /// Start of the open interval, microseconds since 1970 UTC; `None`: nothing was taken yet.
    open_since_us: Option<i64>,
    routes: BTreeMap<Route, Both>,
    file: Option<Part>,
    part: u64,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Both {
    low: Spread,
    high: Spread,
}

/// An open file and what is known of it.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    date: String,
    bytes: u64,
}

impl Hlog {
    /// The log of a run that has written none yet. No file appears before the first interval is over.
    pub fn create(output: &Path, run_id: &str) -> Self {
        Self {
            output: output.to_owned(),
            run_id: run_id.to_owned(),
            open_since_us: None,
            routes: BTreeMap::new(),
            file: None,
            part: 0,
            bytes_max: HLOG_BYTES_MAX,
        }
    }

    #[cfg(test)]
    pub(super) fn with_bytes_max(self, bytes_max: u64) -> Self {
        Self { bytes_max, ..self }
    }

    /// Takes a settled canary at `now_us` (microseconds since 1970 UTC).
    ///
    /// # Errors
    /// Unwritable output.
    pub fn sample(&mut self, sample: &LagSample, now_us: i64) -> Result<(), TableError> {
        self.advance(now_us)?;
        let both = self.route(&sample.route);
        match sample.state {
            FinalState::Seen | FinalState::Lost | FinalState::Superseded => {
                both.low.record(sample.lag_low_us.unwrap_or(0));
                if let Some(high_us) = sample.lag_high_us {
                    both.high.record(high_us);
                }
            }
            FinalState::WriteFailed | FinalState::WriteUnknown => {} // never acknowledged: there is no lag
        }
        Ok(())
    }

    /// Notes that a route is watched, also when none of its canaries settles.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn interval(&mut self, interval: &LagInterval, now_us: i64) -> Result<(), TableError> {
        self.advance(now_us)?;
        self.route(&interval.route);
        Ok(())
    }

    /// Writes what is left, as an interval that ends now.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn finish(&mut self, now_us: i64) -> Result<(), TableError> {
        self.advance(now_us)?;
        if let Some(since_us) = self.open_since_us {
            let is_empty = |both: &Both| both.low.count() == 0;
            if since_us < now_us || !self.routes.values().all(is_empty) {
                self.write(since_us, now_us.max(since_us))?;
            }
        }
        self.close()
    }

    fn route(&mut self, route: &Route) -> &mut Both {
        if !self.routes.contains_key(route) {
            self.routes.insert(route.clone(), Both::default());
        }
        self.routes.get_mut(route).expect("inserted above")
    }

    /// Closes the intervals that are over. A clock that was set back closes none: the open interval just lasts longer.
    fn advance(&mut self, now_us: i64) -> Result<(), TableError> {
        let mut since_us = *self.open_since_us.get_or_insert(now_us);
        // All that was taken was taken in the first of them; what follows is one interval without canaries, cut at midnight.
        for end_us in [
            minute_after(since_us),
            midnight_after(since_us),
            now_us - now_us.rem_euclid(INTERVAL_US),
        ] {
            if since_us < end_us && end_us <= now_us {
                self.write(since_us, end_us)?;
                since_us = end_us;
                self.open_since_us = Some(since_us);
            }
        }
        Ok(())
    }

    fn write(&mut self, since_us: i64, until_us: i64) -> Result<(), TableError> {
        if self.routes.is_empty() {
            return Ok(());
        }
        let lines = self.lines(since_us, until_us)?;
        let part = self.part_for(since_us)?;
        part.file
            .write_all(&lines)
            .map_err(|cause| TableError::unwritable(&part.path, cause))?;
        part.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        for both in self.routes.values_mut() {
            *both = Both::default();
        }
        Ok(())
    }

    fn lines(&self, since_us: i64, until_us: i64) -> Result<Vec<u8>, TableError> {
        let mut lines = Vec::new();
        let unwritable = |cause: io::Error| TableError::unwritable(&self.output.join("hlog"), cause);
        let since = since_epoch(since_us);
        let length = since_epoch(until_us).saturating_sub(since);
        let mut scratch = Histogram::<u64>::new_with_bounds(HDR_US_MIN, HDR_US_MAX, HDR_DIGITS)
            .map_err(|e| unwritable(io::Error::other(e)))?;
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut lines, &mut serializer)
            .map_err(unwritable)?;
        for (route, both) in &self.routes {
            for (end, spread) in [(End::Low, &both.low), (End::High, &both.high)] {
                scratch.reset();
                for (smallest, _, count) in spread.steps() {
                    scratch.saturating_record_n(smallest, count);
                }
                let tag = tag_text(route, end);
                writer
                    .write_histogram(&scratch, since, length, Tag::new(&tag))
                    .map_err(|error| unwritable(io::Error::other(error.to_string())))?;
            }
        }
        Ok(lines)
    }

    /// The file of the date of an instant, with room.
    fn part_for(&mut self, at_us: i64) -> Result<&mut Part, TableError> {
        let date = utc_date(at_us).map_or_else(|| "undated".to_owned(), |date| date.to_string());
        let is_fit = |part: &Part| part.date == date && part.bytes < self.bytes_max;
        if !self.file.as_ref().is_some_and(is_fit) {
            self.part = match &self.file {
                Some(part) if part.date == date => self.part + 1,
                _ => 0,
            };
            self.close()?;
            self.file = Some(Part::create(&self.output, &self.run_id, date, self.part, at_us)?);
        }
        Ok(self.file.as_mut().expect("opened above"))
    }

    fn close(&mut self) -> Result<(), TableError> {
        match self.file.take() {
            Some(part) => part
                .file
                .sync_all()
                .map_err(|cause| TableError::unwritable(&part.path, cause)),
            None => Ok(()),
        }
    }
}

impl Part {
    fn create(output: &Path, run_id: &str, date: String, number: u64, at_us: i64) -> Result<Self, TableError> {
        let folder = output.join("hlog").join(&date);
        std::fs::create_dir_all(&folder).map_err(|cause| TableError::unwritable(&folder, cause))?;
        let name = match number {
            0 => format!("{run_id}.hlog"),
            number => format!("{run_id}.{number}.hlog"),
        };
        let path = folder.join(name);
        let header = header(run_id, at_us);
        let opened = OpenOptions::new().append(true).create_new(true).open(&path);
        let written = opened.and_then(|mut file| file.write_all(header.as_bytes()).map(|()| file));
        let file = written.map_err(|cause| TableError::unwritable(&path, cause))?;
        Ok(Self {
            path,
            file,
            date,
            bytes: u64::try_from(header.len()).unwrap_or(u64::MAX),
        })
    }
}

fn header(run_id: &str, at_us: i64) -> String {
    let at = since_epoch(at_us);
    let instant = jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| String::new(), |at| format!(", {at}"));
    format!(
        "#[Histogram log format version 1.3]\n\
         #[Logged by driftline {version}; lag in microseconds]\n\
         #[Run: {run_id}]\n\
         #Tags: dataset/store/primary/secondary/observer/end. low: lag was at least this. high: at most this; canaries that low has more were never seen.\n\
         #[StartTime: {seconds}.{millis:03} (seconds since epoch){instant}]\n\
         \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
        version = env!("CARGO_PKG_VERSION"),
        seconds = at.as_secs(),
        millis = at.subsec_millis(),
    )
}

fn minute_after(at_us: i64) -> i64 {
    at_us - at_us.rem_euclid(INTERVAL_US) + INTERVAL_US
}

fn midnight_after(at_us: i64) -> i64 {
    const DAY_US: i64 = 86_400_000_000;
    at_us - at_us.rem_euclid(DAY_US) + DAY_US
}

/// Whole milliseconds, which is what the log keeps: two neighbours share the instant between them.
fn since_epoch(at_us: i64) -> Duration {
    Duration::from_millis(u64::try_from(at_us / 1_000).unwrap_or(0))
}

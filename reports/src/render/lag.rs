//! Lag: samples and intervals of a running probe to files, and back.

use std::path::{Path, PathBuf};

use probes::{LagInterval, LagSample, Quantiles, Route};

use super::said;
use crate::lag::Hlog;
use crate::tables::{AtMicros, Clock, FileName, LagIntervalRow, LagSampleRow, TableError, TableWriter};

/// A file of lag is shown at the latest with so many rows, so that little is in flight when a process dies.
pub const LAG_ROWS_PER_FILE_MAX: u64 = 10_000;

/// The lag tables of one running probe.
///
/// Rows become visible with [`LagTables::show`] (and by themselves every [`LAG_ROWS_PER_FILE_MAX`] rows), each time in files of a new
/// number: a later revision of an interval stands beside earlier ones and never overwrites them. What was not shown when a process dies is
/// still in the ledger. The same canaries also go to the [`Hlog`] of the run. All calls block on the disk.
#[derive(Debug)]
pub struct LagTables {
    output: PathBuf,
    run_id: String,
    samples: Numbered<LagSampleRow>,
    intervals: Numbered<LagIntervalRow>,
    log: Hlog,
}

#[derive(Debug)]
struct Numbered<R: crate::tables::Row> {
    number: u64,
    writer: Option<TableWriter<R>>,
}

impl LagTables {
    /// Tables of a run that has written no lag yet.
    pub fn create(output: &Path, run_id: &str) -> Self {
        Self {
            output: output.to_owned(),
            run_id: run_id.to_owned(),
            samples: Numbered::new(),
            intervals: Numbered::new(),
            log: Hlog::create(output, run_id),
        }
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn sample(&mut self, sample: &LagSample) -> Result<(), TableError> {
        let row = LagSampleRow::from_record(&self.run_id, sample)?;
        self.samples.push(&self.output, &self.run_id, row)?;
        self.log.sample(sample, now_us())
    }

    /// Takes a revision of an interval.
    ///
    /// # Errors
    /// Unwritable output.
    pub fn interval(&mut self, interval: &LagInterval) -> Result<(), TableError> {
        let row = LagIntervalRow::from_record(&self.run_id, interval);
        self.intervals.push(&self.output, &self.run_id, row)?;
        self.log.interval(interval, now_us())
    }

    /// Makes everything taken so far visible and closes the log. Nothing may be taken afterwards.
    ///
    /// # Errors
    /// Unwritable output: what was taken since the last time is not visible.
    pub fn finish(&mut self) -> Result<Vec<PathBuf>, TableError> {
        let files = self.show()?;
        self.log.finish(now_us())?;
        Ok(files)
    }

    /// Makes everything taken so far visible. Call it about once a minute.
    ///
    /// # Errors
    /// Unwritable output: what was taken since the last time is not visible.
    pub fn show(&mut self) -> Result<Vec<PathBuf>, TableError> {
        let mut files = self.samples.show()?;
        files.extend(self.intervals.show()?);
        Ok(files)
    }
}

/// The wall clock: it only says in which interval of the log a canary settled.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

impl<R: crate::tables::Row> Numbered<R> {
    fn new() -> Self {
        Self {
            number: 0,
            writer: None,
        }
    }

    fn push(&mut self, output: &Path, run_id: &str, row: R) -> Result<(), TableError> {
        let writer = self.writer.get_or_insert_with(|| {
            let name = FileName::of_part(run_id, &format!("{:06}", self.number));
            TableWriter::create_new(output, name)
        });
        writer.push(row)?;
        if writer.rows() >= LAG_ROWS_PER_FILE_MAX {
            self.show()?;
        }
        Ok(())
    }

    fn show(&mut self) -> Result<Vec<PathBuf>, TableError> {
        match self.writer.take() {
            Some(writer) => {
                self.number += 1;
                writer.finish()
            }
            None => Ok(Vec::new()),
        }
    }
}

impl LagSampleRow {
    /// The row of a sample.
    ///
    /// # Errors
    /// A clock that the contract does not know.
    pub fn from_record(run_id: &str, sample: &LagSample) -> Result<Self, TableError> {
        let clock = Clock::ALL.iter().find(|clock| clock.word() == sample.clock);
        let clock = clock.ok_or_else(|| TableError::Contract {
            table: "lag_samples",
            column: "clock".to_owned(),
            problem: format!("`{}` is not a known clock", sample.clock),
        })?;
        Ok(Self {
            run_id: run_id.to_owned(),
            dataset: sample.route.dataset.clone(),
            store: sample.route.store.clone(),
            primary_site: sample.route.primary_site.clone(),
            secondary_site: sample.route.secondary_site.clone(),
            observer: sample.route.observer.clone(),
            stream: sample.stream.clone(),
            epoch: sample.epoch.clone(),
            sequence: sample.sequence,
            planned_at: AtMicros(sample.planned_at_us),
            sent_at: sample.sent_at_us.map(AtMicros),
            acked_at: sample.acked_at_us.map(AtMicros),
            seen_at: sample.seen_at_us.map(AtMicros),
            lag_low_us: sample.lag_low_us,
            lag_high_us: sample.lag_high_us,
            low_known: sample.low_known,
            write_us: sample.write_us,
            late_us: sample.late_us,
            clock: *clock,
            clock_error_us: sample.clock_error_us,
            state: sample.state,
        })
    }

    /// The sample of a row.
    pub fn into_record(self) -> LagSample {
        LagSample {
            route: Route {
                dataset: self.dataset,
                store: self.store,
                primary_site: self.primary_site,
                secondary_site: self.secondary_site,
                observer: self.observer,
            },
            stream: self.stream,
            epoch: self.epoch,
            sequence: self.sequence,
            planned_at_us: self.planned_at.0,
            sent_at_us: self.sent_at.map(|at| at.0),
            acked_at_us: self.acked_at.map(|at| at.0),
            seen_at_us: self.seen_at.map(|at| at.0),
            lag_low_us: self.lag_low_us,
            lag_high_us: self.lag_high_us,
            low_known: self.low_known,
            write_us: self.write_us,
            late_us: self.late_us,
            clock: self.clock.word().to_owned(),
            clock_error_us: self.clock_error_us,
            state: self.state,
        }
    }
}

impl LagIntervalRow {
    /// The row of an interval.
    pub fn from_record(run_id: &str, interval: &LagInterval) -> Self {
        Self {
            run_id: run_id.to_owned(),
            dataset: interval.route.dataset.clone(),
            store: interval.route.store.clone(),
            primary_site: interval.route.primary_site.clone(),
            secondary_site: interval.route.secondary_site.clone(),
            observer: interval.route.observer.clone(),
            epoch: interval.epoch.clone(),
            interval_start: AtMicros(interval.interval_start_us),
            interval_end: AtMicros(interval.interval_end_us),
            revision: interval.revision,
            r#final: interval.is_final,
            planned: interval.planned,
            seen: interval.seen,
            pending: interval.pending,
            overdue: interval.overdue,
            lost: interval.lost,
            superseded: interval.superseded,
            write_failed: interval.write_failed,
            write_unknown: interval.write_unknown,
            skipped: interval.skipped,
            gap_us: interval.gap_us,
            low_p50_us: interval.low.p50_us,
            low_p90_us: interval.low.p90_us,
            low_p95_us: interval.low.p95_us,
            low_p99_us: interval.low.p99_us,
            low_p99_9_us: interval.low.p99_9_us,
            low_max_us: interval.low.max_us,
            high_p50_us: interval.high.p50_us,
            high_p90_us: interval.high.p90_us,
            high_p95_us: interval.high.p95_us,
            high_p99_us: interval.high.p99_us,
            high_p99_9_us: interval.high.p99_9_us,
            high_max_us: interval.high.max_us,
            oldest_unseen_us: interval.oldest_unseen_us,
            native_lag_us: interval.native_lag_us,
            hdr_low: said(interval.hdr_low.as_str()),
            hdr_high: said(interval.hdr_high.as_str()),
        }
    }

    /// The interval of a row.
    pub fn into_record(self) -> LagInterval {
        LagInterval {
            route: Route {
                dataset: self.dataset,
                store: self.store,
                primary_site: self.primary_site,
                secondary_site: self.secondary_site,
                observer: self.observer,
            },
            epoch: self.epoch,
            interval_start_us: self.interval_start.0,
            interval_end_us: self.interval_end.0,
            revision: self.revision,
            is_final: self.r#final,
            planned: self.planned,
            seen: self.seen,
            pending: self.pending,
            overdue: self.overdue,
            lost: self.lost,
            superseded: self.superseded,
            write_failed: self.write_failed,
            write_unknown: self.write_unknown,
            skipped: self.skipped,
            gap_us: self.gap_us,
            low: Quantiles {
                p50_us: self.low_p50_us,
                p90_us: self.low_p90_us,
                p95_us: self.low_p95_us,
                p99_us: self.low_p99_us,
                p99_9_us: self.low_p99_9_us,
                max_us: self.low_max_us,
            },
            high: Quantiles {
                p50_us: self.high_p50_us,
                p90_us: self.high_p90_us,
                p95_us: self.high_p95_us,
                p99_us: self.high_p99_us,
                p99_9_us: self.high_p99_9_us,
                max_us: self.high_max_us,
            },
            oldest_unseen_us: self.oldest_unseen_us,
            native_lag_us: self.native_lag_us,
            hdr_low: self.hdr_low.unwrap_or_default(),
            hdr_high: self.hdr_high.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use crate::tables::{Span, read};

    #[test]
    fn what_was_recorded_is_what_is_read() {
        let output = tempfile::tempdir().unwrap();
        let mut tables = LagTables::create(output.path(), samples::RUN_ID);
        let (sample, interval) = (samples::lag_sample(), samples::lag_interval());
        tables.sample(&sample).unwrap();
        tables.interval(&interval).unwrap();
        assert_eq!(tables.show().unwrap().len(), 2);
        let rows = read::<LagSampleRow>(output.path(), Span::ALL).unwrap();
        assert_eq!(rows.map(|row| row.unwrap().into_record()).collect::<Vec<_>>(), [sample]);
        let rows = read::<LagIntervalRow>(output.path(), Span::ALL).unwrap();
        assert_eq!(
            rows.map(|row| row.unwrap().into_record()).collect::<Vec<_>>(),
            [interval]
        );
    }

    #[test]
    fn a_later_revision_stands_beside_the_earlier_one() {
        let output = tempfile::tempdir().unwrap();
        let mut tables = LagTables::create(output.path(), samples::RUN_ID);
        let mut interval = samples::lag_interval();
        let mut files = Vec::new();
        for revision in 0..3 {
            interval.revision = revision;
            tables.interval(&interval).unwrap();
            files.extend(tables.show().unwrap());
        }
        files.dedup();
        assert_eq!(files.len(), 3);
        let rows = read::<LagIntervalRow>(output.path(), Span::ALL).unwrap();
        let revisions: Vec<u64> = rows.map(|row| row.unwrap().revision).collect();
        assert_eq!(revisions, [0, 1, 2]);
    }

    #[test]
    fn a_second_writer_of_the_same_run_never_overwrites() {
        let output = tempfile::tempdir().unwrap();
        let mut first = LagTables::create(output.path(), samples::RUN_ID);
        first.sample(&samples::lag_sample()).unwrap();
        first.show().unwrap();
        let mut second = LagTables::create(output.path(), samples::RUN_ID);
        second.sample(&samples::lag_sample()).unwrap();
        let refused = second.show().unwrap_err().to_string();
        assert!(refused.contains("never overwritten"), "{refused}");
    }

    #[test]
    fn an_unknown_clock_is_refused() {
        let mut sample = samples::lag_sample();
        sample.clock = "sundial".to_owned();
        let refused = LagSampleRow::from_record(samples::RUN_ID, &sample)
            .unwrap_err()
            .to_string();
        assert!(refused.contains("sundial"), "{refused}");
    }

    #[test]
    fn nothing_new_shows_no_file() {
        let output = tempfile::tempdir().unwrap();
        let mut tables = LagTables::create(output.path(), samples::RUN_ID);
        assert_eq!(tables.show().unwrap(), Vec::<PathBuf>::new());
    }
}

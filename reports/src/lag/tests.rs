//! Many files to one report: what is merged, what counts once, what is never a number.

mod golden;
mod logs;
mod merged;
mod shown;
mod wrong;

use std::path::Path;

use probes::{FinalState, LagInterval, LagSample, Quantiles, Route};

use super::{Filter, LagReport, collect};
use crate::samples;
use crate::spread::tests::payload;
use crate::tables::{FileName, LagIntervalRow, replace_rows};

const MINUTE_US: i64 = 60_000_000;

/// A minute in which all canaries were seen.
fn minute(minute: i64, low: &[u64], high: &[u64]) -> LagInterval {
    let seen = u64::try_from(high.len()).unwrap();
    LagInterval {
        interval_start_us: samples::MIDNIGHT_US + minute * MINUTE_US,
        interval_end_us: samples::MIDNIGHT_US + (minute + 1) * MINUTE_US,
        revision: 0,
        is_final: true,
        planned: seen,
        seen,
        pending: 0,
        overdue: 0,
        lost: 0,
        superseded: 0,
        write_failed: 0,
        write_unknown: 0,
        skipped: 0,
        gap_us: 0,
        low: Quantiles::default(),
        high: Quantiles::default(),
        oldest_unseen_us: None,
        native_lag_us: None,
        hdr_low: payload(low),
        hdr_high: payload(high),
        ..samples::lag_interval()
    }
}

/// The same with canaries that are still pending, `age_us` old.
fn with_pending(interval: LagInterval, low: &[u64], pending: u64, age_us: u64) -> LagInterval {
    let all: Vec<u64> = low.iter().copied().chain((0..pending).map(|_| age_us)).collect();
    LagInterval {
        is_final: false,
        planned: interval.planned + pending,
        pending,
        oldest_unseen_us: Some(age_us),
        hdr_low: payload(&all),
        ..interval
    }
}

fn observed_by(observer: &str, interval: LagInterval) -> LagInterval {
    let route = Route {
        observer: observer.to_owned(),
        ..interval.route
    };
    LagInterval { route, ..interval }
}

/// Writes a file of a table below `output`.
fn write(output: &Path, part: &str, intervals: &[LagInterval]) {
    let rows = intervals
        .iter()
        .map(|interval| LagIntervalRow::from_record(samples::RUN_ID, interval));
    replace_rows(output, FileName::of_part(samples::RUN_ID, part), rows).unwrap();
}

fn all(output: &Path) -> LagReport {
    collect(&[output.to_owned()], &Filter::default()).unwrap()
}

fn sample(low_us: Option<u64>, high_us: Option<u64>, state: FinalState) -> LagSample {
    LagSample {
        lag_low_us: low_us,
        lag_high_us: high_us,
        state,
        ..samples::lag_sample()
    }
}

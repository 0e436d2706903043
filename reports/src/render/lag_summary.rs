//! Lag over a whole probe, for a person and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use probes::{HDR_US_MAX, LagInterval, Quantiles, Route};
use serde::Serialize;

use super::terminal::{at_least, at_most, canaries, plain, table};
use crate::tables::TableError;

/// Sums up intervals as they come. Of an interval that is revised only the last revision counts. Memory grows with routes and with intervals
/// that are not settled yet.
#[derive(Debug, Default)]
pub struct LagSummary {
    routes: BTreeMap<Route, Sum>,
    open: BTreeMap<(Route, String, i64), LagInterval>,
}

#[derive(Debug, Default)]
struct Sum {
    told: RouteLag,
    low: Option<Histogram<u64>>,
    high: Option<Histogram<u64>>,
}

/// Lag of one route over the whole span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RouteLag {
    /// Slots of the schedule.
    pub planned: u64,
    /// Seen at the secondary.
    pub seen: u64,
    /// Not settled yet.
    pub pending: u64,
    /// Proved never to arrive.
    pub lost: u64,
    /// Overwritten before they were seen.
    pub superseded: u64,
    /// Certainly not written.
    pub write_failed: u64,
    /// Outcome unknown.
    pub write_unknown: u64,
    /// Not sent.
    pub skipped: u64,
    /// Time not observed, microseconds.
    pub gap_us: u64,
    /// Quantiles of the low end: lag was at least this.
    pub low: Quantiles,
    /// Quantiles of the high end: lag was at most this; `null` = unbounded, or nothing was measured.
    pub high: Quantiles,
    /// The oldest canary that was still unseen in the last word on any interval, microseconds.
    pub oldest_unseen_us: Option<u64>,
}

impl LagSummary {
    /// Takes a revision of an interval.
    ///
    /// # Errors
    /// Histograms that cannot be read.
    pub fn add(&mut self, interval: &LagInterval) -> Result<(), TableError> {
        let place = (
            interval.route.clone(),
            interval.epoch.clone(),
            interval.interval_start_us,
        );
        if !interval.is_final {
            let is_older = |known: &LagInterval| known.revision > interval.revision;
            if !self.open.get(&place).is_some_and(is_older) {
                self.open.insert(place, interval.clone());
            }
            return Ok(());
        }
        self.open.remove(&place);
        self.routes.entry(interval.route.clone()).or_default().add(interval)
    }

    /// Every route with its lag, the intervals that never settled included.
    ///
    /// # Errors
    /// Histograms that cannot be read.
    pub fn routes(mut self) -> Result<Vec<(Route, RouteLag)>, TableError> {
        for interval in std::mem::take(&mut self.open).into_values() {
            self.routes.entry(interval.route.clone()).or_default().add(&interval)?;
        }
        let routes = self.routes.into_iter();
        Ok(routes.map(|(route, sum)| (route, sum.finish())).collect())
    }
}

impl Sum {
    fn add(&mut self, interval: &LagInterval) -> Result<(), TableError> {
        let told = &mut self.told;
        told.planned += interval.planned;
        told.seen += interval.seen;
        told.pending += interval.pending;
        told.lost += interval.lost;
        told.superseded += interval.superseded;
        told.write_failed += interval.write_failed;
        told.write_unknown += interval.write_unknown;
        told.skipped += interval.skipped;
        told.gap_us += interval.gap_us;
        told.oldest_unseen_us = told.oldest_unseen_us.max(interval.oldest_unseen_us);
        merge(&mut self.low, &interval.hdr_low)?;
        merge(&mut self.high, &interval.hdr_high)
    }

    /// Every canary that was measured has a low end; those without a high end are unbounded.
    fn finish(self) -> RouteLag {
        let measured = self.low.as_ref().map_or(0, Histogram::len);
        RouteLag {
            low: quantiles(self.low.as_ref(), measured, |histogram, value| {
                Some(histogram.lowest_equivalent(value))
            }),
            high: quantiles(self.high.as_ref(), measured, |histogram, value| {
                let most = histogram.highest_equivalent(value);
                // Beyond its range a histogram saturates: there it bounds nothing.
                (most < HDR_US_MAX).then_some(most)
            }),
            ..self.told
        }
    }
}

fn merge(into: &mut Option<Histogram<u64>>, payload: &str) -> Result<(), TableError> {
    if payload.is_empty() {
        return Ok(());
    }
    let unreadable = |error: String| TableError::Contract {
        table: "lag_intervals",
        column: "hdr_low, hdr_high".to_owned(),
        problem: format!("no HDR histogram: {error}"),
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(payload)
        .map_err(|error| unreadable(error.to_string()))?;
    let histogram: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| unreadable(error.to_string()))?;
    match into {
        Some(sum) => sum.add(&histogram).map_err(|error| unreadable(error.to_string())),
        None => {
            *into = Some(histogram);
            Ok(())
        }
    }
}

/// By nearest rank among `measured` canaries; those that the histogram lacks rank above all that it has. A histogram knows only in which
/// bucket a value lies: `end` takes the end of the bucket that keeps a bound a bound.
fn quantiles(
    histogram: Option<&Histogram<u64>>,
    measured: u64,
    end: fn(&Histogram<u64>, u64) -> Option<u64>,
) -> Quantiles {
    let at = |per_mille: u64| {
        let histogram = histogram?;
        let rank = u64::try_from((u128::from(measured) * u128::from(per_mille)).div_ceil(1_000)).ok()?;
        if rank == 0 || rank > histogram.len() {
            return None;
        }
        let mut below = 0;
        let mut recorded = histogram.iter_recorded();
        let value = recorded.find_map(|step| {
            below += step.count_at_value();
            (below >= rank).then(|| step.value_iterated_to())
        });
        end(histogram, value?)
    };
    Quantiles {
        p50_us: at(500),
        p90_us: at(900),
        p95_us: at(950),
        p99_us: at(990),
        p99_9_us: at(999),
        max_us: at(1_000),
    }
}

/// Lag of all routes as text.
pub fn lag_terminal(routes: &[(Route, RouteLag)]) -> String {
    let mut figures = table(&[
        "dataset", "route", "p50", "p95", "p99", "max", "seen", "not seen", "skipped",
    ]);
    let between = |low: Option<u64>, high: Option<u64>| format!("{} .. {}", at_least(low), at_most(high));
    let mut text = String::new();
    let mut remarks = String::new();
    // Writing to a String cannot fail.
    for (route, lag) in routes {
        let name = format!("{} -> {}", plain(&route.primary_site), plain(&route.secondary_site));
        let unseen = lag.pending + lag.lost + lag.superseded + lag.write_unknown;
        figures.add_row([
            plain(&route.dataset),
            name.clone(),
            between(lag.low.p50_us, lag.high.p50_us),
            between(lag.low.p95_us, lag.high.p95_us),
            between(lag.low.p99_us, lag.high.p99_us),
            between(lag.low.max_us, lag.high.max_us),
            lag.seen.to_string(),
            unseen.to_string(),
            lag.skipped.to_string(),
        ]);
        if unseen > 0 {
            let _ = writeln!(
                remarks,
                "{name}: {} not seen: {} pending, {} lost, {} superseded, {} of unknown outcome; the oldest for {} at least.",
                canaries(unseen),
                lag.pending,
                lag.lost,
                lag.superseded,
                lag.write_unknown,
                at_least(lag.oldest_unseen_us),
            );
        }
        if lag.seen == 0 {
            let _ = writeln!(remarks, "{name}: NOTHING WAS MEASURED.");
        }
        if lag.write_failed > 0 {
            let _ = writeln!(remarks, "{name}: {} failed to be written.", lag.write_failed);
        }
    }
    let _ = writeln!(text, "Lag, at least .. at most:\n{figures}");
    text.push_str(&remarks);
    text
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};

    use super::*;
    use crate::samples;

    fn hdr(values: impl IntoIterator<Item = u64>) -> String {
        let mut histogram = Histogram::<u32>::new_with_bounds(1, 86_400_000_000, 3).unwrap();
        values.into_iter().for_each(|value| histogram.record(value).unwrap());
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
        base64::engine::general_purpose::STANDARD.encode(bytes)
    }

    /// `seen` canaries with lag 1,000 us, and `unseen` that are 9,000 us old.
    fn interval(minute: i64, seen: u64, unseen: u64) -> LagInterval {
        let low = (0..seen).map(|_| 1_000).chain((0..unseen).map(|_| 9_000));
        LagInterval {
            interval_start_us: samples::MIDNIGHT_US + minute * 60_000_000,
            revision: 0,
            is_final: unseen == 0,
            planned: seen + unseen,
            seen,
            pending: unseen,
            overdue: 0,
            lost: 0,
            write_failed: 0,
            skipped: 0,
            oldest_unseen_us: (unseen > 0).then_some(9_000),
            hdr_low: hdr(low),
            hdr_high: hdr((0..seen).map(|_| 1_200)),
            ..samples::lag_interval()
        }
    }

    #[test]
    fn minutes_are_merged_and_not_averaged() {
        let mut summary = LagSummary::default();
        summary.add(&interval(0, 99, 0)).unwrap();
        summary.add(&interval(1, 0, 1)).unwrap();
        let (_, lag) = summary.routes().unwrap().remove(0);
        assert_eq!((lag.planned, lag.seen, lag.pending), (100, 99, 1));
        assert_eq!(lag.high.p99_us, Some(1_200));
        assert_eq!(lag.high.max_us, None, "one of a hundred has no upper end");
        let low_max = lag.low.max_us.unwrap();
        assert!(low_max <= 9_000 && low_max > 8_990, "{low_max}");
    }

    #[test]
    fn only_the_last_revision_of_an_interval_counts() {
        let mut summary = LagSummary::default();
        summary.add(&interval(0, 9, 1)).unwrap();
        let settled = LagInterval {
            revision: 1,
            ..interval(0, 10, 0)
        };
        summary.add(&settled).unwrap();
        let (_, lag) = summary.routes().unwrap().remove(0);
        assert_eq!((lag.planned, lag.seen, lag.pending), (10, 10, 0));
        assert_eq!(lag.high.max_us, Some(1_200));
    }

    #[test]
    fn a_saturated_histogram_bounds_nothing_from_above() {
        let mut summary = LagSummary::default();
        let dead = LagInterval {
            hdr_high: hdr([HDR_US_MAX]),
            ..interval(0, 1, 0)
        };
        summary.add(&dead).unwrap();
        let (_, lag) = summary.routes().unwrap().remove(0);
        assert_eq!((lag.low.max_us, lag.high.max_us), (Some(1_000), None));
    }

    #[test]
    fn a_payload_that_is_no_histogram_is_an_error() {
        let mut summary = LagSummary::default();
        let broken = LagInterval {
            hdr_low: "AAAA".to_owned(),
            ..interval(0, 1, 0)
        };
        assert!(summary.add(&broken).is_err());
    }

    #[test]
    fn lag_in_words() {
        let mut summary = LagSummary::default();
        summary.add(&interval(0, 99, 0)).unwrap();
        summary.add(&interval(1, 0, 1)).unwrap();
        insta::assert_snapshot!(lag_terminal(&summary.routes().unwrap()));
    }

    #[test]
    fn nothing_measured_in_words() {
        let mut summary = LagSummary::default();
        summary.add(&interval(0, 0, 3)).unwrap();
        insta::assert_snapshot!(lag_terminal(&summary.routes().unwrap()));
    }
}

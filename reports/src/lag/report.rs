//! Lag of each route and observer over a span, merged.

use probes::{Quantiles, Route, Unmeasured};
use serde::Serialize;

use super::gaps::{Gap, Gaps};
use crate::spread::Spread;

/// What `driftline lag` tells.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LagReport {
    /// Intervals that start before this instant do not count, microseconds since 1970 UTC; `null` = all.
    pub from_us: Option<i64>,
    /// Nor do those that start at or after this one.
    pub to_us: Option<i64>,
    /// Files that were read.
    pub files: u64,
    /// One entry a route and observer.
    pub routes: Vec<Spectrum>,
    /// Collections whose lag nobody measured in the runs behind the figures.
    pub unmeasured: Vec<Unmeasured>,
    /// What a reader has to know beside the figures.
    pub notes: Vec<String>,
}

/// The lag of one route as one observer saw it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Spectrum {
    /// The route and its observer.
    pub observed: Observed,
    /// Acknowledged canaries behind the quantiles: seen, pending, lost and superseded.
    pub canaries: u64,
    /// Of these, bounded from above. A quantile whose rank lies beyond them is unbounded.
    pub bounded: u64,
    /// Of these, without any reading: their intervals came without histogram. They count as 0 in the low end and as unbounded in the high end.
    pub without_histogram: u64,
    /// Quantiles of the low end: lag was at least this; `null`: no canary at all.
    pub low: Quantiles,
    /// Quantiles of the high end: lag was at most this; `null`: unbounded, or no canary at all.
    pub high: Quantiles,
    #[serde(skip)]
    pub(super) low_spread: Spread,
    #[serde(skip)]
    pub(super) high_spread: Spread,
}

/// What is known of the canaries and the time of one route and observer. Counts that `.hlog` files do not tell are `null` as soon as one of
/// them is part of the figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The dataset, or the connection.
    pub dataset: String,
    /// The store.
    pub store: String,
    /// Where canaries were written.
    pub primary_site: String,
    /// Where they were watched for.
    pub secondary_site: String,
    /// The probe that watched.
    pub observer: String,
    /// Seen at the secondary.
    pub seen: u64,
    /// Slots of the schedule.
    pub planned: Option<u64>,
    /// Not settled yet in the last word on their interval.
    pub pending: Option<u64>,
    /// Proved never to arrive.
    pub lost: Option<u64>,
    /// Overwritten before they were seen.
    pub superseded: Option<u64>,
    /// Certainly not written.
    pub write_failed: Option<u64>,
    /// Outcome unknown.
    pub write_unknown: Option<u64>,
    /// Not sent.
    pub skipped: Option<u64>,
    /// Age of the oldest pending canary, in the last word on its interval.
    pub oldest_unseen_us: Option<u64>,
    /// Intervals behind the figures.
    pub intervals: u64,
    /// Of these, not settled: a later reading can differ.
    pub intervals_open: u64,
    /// Of these, with canaries and without histogram.
    pub intervals_without_histogram: u64,
    /// Time that was observed.
    pub observed_us: i64,
    /// Time between that was not; at most this.
    pub gap_us: i64,
    /// In so many stretches.
    pub gaps: u64,
    /// The longest of them.
    pub longest_gaps: Vec<Gap>,
}

impl Observed {
    pub(super) fn of(route: &Route) -> Self {
        Self {
            dataset: route.dataset.clone(),
            store: route.store.clone(),
            primary_site: route.primary_site.clone(),
            secondary_site: route.secondary_site.clone(),
            observer: route.observer.clone(),
            ..Self::default()
        }
    }

    /// `primary -> secondary`.
    pub(super) fn arrow(&self) -> String {
        format!("{} -> {}", self.primary_site, self.secondary_site)
    }

    pub(super) fn close(&mut self, mut gaps: Gaps, to_us: Option<i64>) {
        gaps.finish(to_us);
        self.observed_us = gaps.observed_us;
        self.gap_us = gaps.total_us;
        self.gaps = gaps.count;
        self.longest_gaps = gaps.longest;
    }
}

impl LagReport {
    /// Whether something matched, and canaries stand behind the figures of every route that did. Where not, the question is not answered.
    pub fn is_measured(&self) -> bool {
        !self.routes.is_empty() && self.routes.iter().all(|spectrum| spectrum.canaries > 0)
    }
}

impl Spectrum {
    pub(super) fn new(observed: Observed, low: Spread, high: Spread, canaries: u64) -> Self {
        let without_histogram = canaries.saturating_sub(low.count());
        let mut spectrum = Self {
            observed,
            canaries,
            bounded: high.count(),
            without_histogram,
            low_spread: low,
            high_spread: high,
            ..Self::default()
        };
        spectrum.low = spectrum.quantiles(Self::low_at);
        spectrum.high = spectrum.quantiles(Self::high_at);
        spectrum
    }

    fn quantiles(&self, at: fn(&Self, u64) -> Option<u64>) -> Quantiles {
        let of = |per_mille: u64| at(self, self.rank(per_mille)?);
        Quantiles {
            p50_us: of(500),
            p90_us: of(900),
            p95_us: of(950),
            p99_us: of(990),
            p99_9_us: of(999),
            max_us: of(1_000),
        }
    }

    /// Nearest rank, from 1; `None` without canaries.
    fn rank(&self, per_mille: u64) -> Option<u64> {
        let rank = (u128::from(self.canaries) * u128::from(per_mille)).div_ceil(1_000);
        u64::try_from(rank).ok().filter(|rank| *rank > 0)
    }

    /// Lag of the canary of that rank by the low end was at least this. Those without histogram rank first, as 0.
    fn low_at(&self, rank: u64) -> Option<u64> {
        match rank.checked_sub(self.without_histogram) {
            None | Some(0) => Some(0),
            Some(rank) => self.low_spread.smallest_at(rank),
        }
    }

    /// Lag of the canary of that rank by the high end was at most this.
    fn high_at(&self, rank: u64) -> Option<u64> {
        self.high_spread.largest_at(rank)
    }
}

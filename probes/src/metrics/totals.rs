//! What is counted about one route, whichever of its streams it comes from, and the part of it that grows with a ledger.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use super::recent::Recent;
use super::seconds;
use crate::FinalState;
use crate::settled::Settled;
use crate::troubles::ErrorCounts;

/// Classic buckets in seconds: the bounds that policies use, and steps between them.
const BUCKETS_SECONDS: [f64; 21] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
    900.0, 3_600.0,
];

/// Growth from one native bucket to the next.
const NATIVE_BUCKET_FACTOR: f64 = 1.1;

/// Native buckets of one histogram; beyond it they are made coarser. A factor of 1.1 from 1 us to a day takes 290.
const NATIVE_BUCKETS_MAX: usize = 320;

/// Below this, values are zero to native buckets: the clock is not finer.
const NATIVE_ZERO_SECONDS: f64 = 0.000_001;

pub(crate) fn histogram() -> Histogram {
    let native = NativeHistogramConfig::with_bucket_factor(NATIVE_BUCKET_FACTOR)
        .zero_threshold(NATIVE_ZERO_SECONDS)
        .max_buckets(NATIVE_BUCKETS_MAX);
    Histogram::new_classic_and_native(BUCKETS_SECONDS, native)
}

/// Counts and histograms of one route.
#[derive(Debug)]
pub(crate) struct RouteTotals {
    pub(crate) lag_low: Histogram,
    pub(crate) lag_high: Histogram,
    pub(crate) write: Histogram,
    pub(crate) lateness: Histogram,
    pub(crate) skipped: Counter,
    pub(crate) states: [(FinalState, Counter); FinalState::ALL.len()],
    pub(crate) stale_reads: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) foreign: Counter,
    pub(crate) rivals: Counter,
    pub(crate) bounds_violated: Counter,
    /// Requests by the engine's own words.
    pub(crate) requests: [(&'static str, Counter); 3],
    errors: Mutex<ErrorCounts>,
    recent: Mutex<Recent>,
}

impl Default for RouteTotals {
    fn default() -> Self {
        Self {
            lag_low: histogram(),
            lag_high: histogram(),
            write: histogram(),
            lateness: histogram(),
            skipped: Counter::default(),
            states: FinalState::ALL.map(|state| (state, Counter::default())),
            stale_reads: Counter::default(),
            duplicates: Counter::default(),
            foreign: Counter::default(),
            rivals: Counter::default(),
            bounds_violated: Counter::default(),
            requests: ["write", "poll", "status"].map(|operation| (operation, Counter::default())),
            errors: Mutex::default(),
            recent: Mutex::default(),
        }
    }
}

impl RouteTotals {
    /// Requests that ended in an error.
    pub(crate) fn errors(&self) -> MutexGuard<'_, ErrorCounts> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one stream's recorder told last.
#[derive(Debug, Default)]
pub(crate) struct StreamTotals {
    /// When a write was last acknowledged, on the monotonic clock; 0: never.
    pub(crate) acked_us: AtomicU64,
    /// When a canary was last seen, on the monotonic clock; 0: never.
    pub(crate) seen_us: AtomicU64,
    /// The stream has ended.
    pub(crate) has_ended: AtomicBool,
}

/// The figures of one stream that grow with its ledger. Dropped when its recorder ends.
#[derive(Debug)]
pub(crate) struct RouteFigures {
    route: Arc<RouteTotals>,
    stream: Arc<StreamTotals>,
}

impl RouteFigures {
    pub(super) fn new(route: Arc<RouteTotals>, stream: Arc<StreamTotals>) -> Self {
        Self { route, stream }
    }

    pub(crate) fn skipped(&self) {
        self.route.skipped.inc();
    }

    pub(crate) fn late(&self, late_us: u64) {
        self.route.lateness.observe(seconds(late_us));
    }

    /// The write of a canary took `write_us` and ended at `acked_us`.
    pub(crate) fn written(&self, acked_us: u64, write_us: u64) {
        self.stream.acked_us.fetch_max(acked_us, Ordering::Relaxed);
        self.route.write.observe(seconds(write_us));
    }

    /// A watcher saw a canary arrive that another process wrote.
    pub(crate) fn arrived(&self, at_us: u64) {
        self.stream.acked_us.fetch_max(at_us, Ordering::Relaxed);
        self.stream.seen_us.fetch_max(at_us, Ordering::Relaxed);
    }

    /// Seen across two clocks of which nobody knows how far they are off.
    pub(crate) fn seen_without_reading(&self) {
        self.count(FinalState::Seen);
    }

    fn count(&self, fate: FinalState) {
        for (state, counter) in &self.route.states {
            if *state == fate {
                counter.inc();
            }
        }
    }

    pub(crate) fn settled(&self, settled: &Settled) {
        self.count(settled.state);
        if settled.state != FinalState::Seen {
            return;
        }
        let low_us = settled.low_us.unwrap_or(0);
        self.route.lag_low.observe(seconds(low_us));
        if let Some(high_us) = settled.high_us {
            self.route.lag_high.observe(seconds(high_us));
            if let Some(seen_us) = settled.seen_us {
                self.stream.seen_us.fetch_max(seen_us, Ordering::Relaxed);
                self.route.recent().seen(seen_us, low_us, high_us);
            }
        }
    }
}

impl Drop for RouteFigures {
    fn drop(&mut self) {
        self.stream.has_ended.store(true, Ordering::Release);
    }
}

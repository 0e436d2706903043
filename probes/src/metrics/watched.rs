//! One stream as the figures see it: read at the scrape, never written to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use stores::CollectionLag;
use tokio::sync::watch;

use super::totals::{RouteTotals, StreamTotals};
use crate::Accounting;
use crate::clock::Clock;
use crate::engine::{Part, RouteSpec};
use crate::live::{Live, Native};
use crate::pace::Pace;
use crate::troubles::Tried;

/// A stream that is shown.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) collection: Option<String>,
    pub(crate) overdue_after_us: u64,
    pub(crate) is_watcher: bool,
    period: std::time::Duration,
    pace: Option<watch::Receiver<Pace>>,
    pub(crate) started_us: u64,
    live: Arc<Live>,
    pub(crate) clock: Arc<dyn Clock>,
    totals: Arc<StreamTotals>,
    counted: Counted,
}

/// How much of the stream's counts is in its route's already.
#[derive(Debug, Default)]
struct Counted {
    stale_reads: AtomicU64,
    duplicates: AtomicU64,
    foreign: AtomicU64,
    rivals: AtomicU64,
    bounds_violated: AtomicU64,
    requests: [AtomicU64; 3],
}

/// A stream at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glance {
    pub(crate) now_us: u64,
    pub(crate) accounting: Accounting,
    /// Canaries of which nobody knows whether they were written, and which may appear.
    pub(crate) unanswered: u64,
    /// Age of the oldest acknowledged canary that is unseen.
    pub(crate) oldest_us: Option<u64>,
    pub(crate) native: Native,
    /// When a poll was last answered; `None`: never.
    pub(crate) answered_us: Option<u64>,
    /// When a write was last acknowledged; `None`: never.
    pub(crate) acked_us: Option<u64>,
    /// When a canary was last seen; `None`: never.
    pub(crate) seen_us: Option<u64>,
    pub(crate) has_ended: bool,
    /// It knows only what arrives: what is unseen, or was written, it does not know.
    pub(crate) is_watcher: bool,
    /// Age of the newest canary that a watcher has seen, by both clocks; `None`: none, or no watcher.
    pub(crate) newest_age_us: Option<u64>,
}

impl Watched {
    pub(super) fn new(spec: &RouteSpec, live: Arc<Live>, clock: Arc<dyn Clock>, totals: Arc<StreamTotals>) -> Self {
        let us = |length: std::time::Duration| u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        Self {
            collection: spec.collection.clone(),
            overdue_after_us: us(spec.settings.overdue_after.0),
            is_watcher: spec.part == Part::Watch,
            period: spec.settings.rate(&spec.route.store).period(),
            pace: spec.pace.clone(),
            started_us: clock.now_us(),
            live,
            clock,
            totals,
            counted: Counted::default(),
        }
    }

    /// The mean gap between two canaries now, microseconds.
    pub(crate) fn period_us(&self) -> u64 {
        let pace = self.pace.as_ref().map_or(Pace::FULL, |pace| *pace.borrow());
        u64::try_from(self.period.div_f64(pace.share()).as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn glance(&self) -> Glance {
        let known = |at: u64| (at > 0).then_some(at);
        let now_us = self.clock.now_us();
        // What an earlier epoch left open is pending still.
        let accounting = Accounting {
            pending: self.live.pending(),
            ..self.live.tracker().accounting()
        };
        let oldest_us = self.live.oldest_unseen_us(now_us);
        let newest_sent = self.live.newest_sent_at_us.load(Ordering::Relaxed);
        let newest_age_us = (newest_sent != i64::MIN)
            .then(|| u64::try_from(self.clock.wall_us().saturating_sub(newest_sent)).unwrap_or(0));
        Glance {
            now_us,
            accounting,
            unanswered: self.live.unanswered(),
            oldest_us,
            native: self.live.native(),
            answered_us: known(self.live.answered_us.load(Ordering::Relaxed)),
            acked_us: known(self.totals.acked_us.load(Ordering::Relaxed)),
            seen_us: known(self.totals.seen_us.load(Ordering::Relaxed)),
            is_watcher: self.is_watcher,
            newest_age_us,
            has_ended: self.totals.has_ended.load(Ordering::Acquire) || !self.live.is_active.load(Ordering::Acquire),
        }
    }

    /// What is wrong with its writes, or its polls, now.
    pub(crate) fn trouble(&self, tried: Tried) -> Option<String> {
        self.live.troubles.words(tried)
    }

    /// Lag of single collections by the store's own account.
    pub(super) fn by_collection(&self) -> MutexGuard<'_, BTreeMap<String, CollectionLag>> {
        self.live.by_collection()
    }

    /// Adds what was counted since the last time to the counts of the route.
    pub(super) fn count(&self, route: &RouteTotals) {
        let live = &self.live;
        let stale_reads = live.stale_reads();
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (counter, counted, total) in [
            (&route.stale_reads, &self.counted.stale_reads, stale_reads),
            (&route.duplicates, &self.counted.duplicates, of(&live.duplicates)),
            (&route.foreign, &self.counted.foreign, of(&live.foreign)),
            (&route.rivals, &self.counted.rivals, of(&live.rivals)),
            (
                &route.bounds_violated,
                &self.counted.bounds_violated,
                of(&live.bounds_violated),
            ),
        ] {
            counter.inc_by(total.saturating_sub(counted.swap(total, Ordering::Relaxed)));
        }
        for (error, times) in live.troubles.take_counts() {
            *route.errors().entry(error).or_default() += times;
        }
        let totals = [of(&live.writes), of(&live.polls), of(&live.status_queries)];
        for (((_, counter), counted), total) in route.requests.iter().zip(&self.counted.requests).zip(totals) {
            counter.inc_by(total.saturating_sub(counted.swap(total, Ordering::Relaxed)));
        }
    }
}

//! Watches a stream that another process writes, perhaps on another host: two-clock readings by the stamps of its canaries.
//!
//! It writes nothing, to the store or to a ledger, and knows nothing of canaries that never arrive. A row of its `lag_intervals` holds the
//! canaries that arrived in that minute; one without a reading counts as 0 at the low end and as unbounded at the high end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stores::{Sighting, Sought};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::arrivals::{Arrivals, Reading};
use crate::clock::Anchor;
use crate::engine::{RouteSpec, RouteSummary, Setting};
use crate::intervals::{Intervals, Moment};
use crate::live::Live;
use crate::metrics::RouteFigures;
use crate::settled::{CLOCK_ERROR_UNKNOWN_US, ClockUse, Origin, Settled};
use crate::stated::StatedWriters;
use crate::tracker::Tracker;
use crate::troubles::{NO_ANSWER, Tried};
use crate::two_clock::Crossed;
use crate::{Accounting, FinalState, LagSample, OUTPUT_BACKLOG_MAX, Output, ProbeError};

/// A poll that takes longer is given up.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// Polls are not farther apart than this, however long nothing has arrived, and after errors.
const GAP_MAX: Duration = Duration::from_secs(1);

/// As [`GAP_MAX`], where each poll is paid for.
const PAID_GAP_MAX: Duration = Duration::from_secs(60);

/// In an unordered store, canaries that are looked for beyond the newest one.
const AHEAD: u64 = 8;

/// In an unordered store, canaries before the newest one that are looked for while they are missing.
const BEHIND: u64 = 92;

/// In an unordered store the whole ring is read when nothing has arrived for this long: another epoch begins far above.
const LOOK_ROUND_AFTER: Duration = Duration::from_secs(600);

/// How often minutes are looked at.
const REVISE_EVERY_US: u64 = 1_000_000;

/// A stream that is watched.
#[derive(Debug)]
pub(crate) struct WatchRun {
    spec: RouteSpec,
    setting: Setting,
    started: Option<mpsc::Sender<()>>,
    stated: watch::Receiver<StatedWriters>,
    live: Arc<Live>,
    figures: RouteFigures,
    origin: Origin,
    intervals: Intervals,
    arrivals: Arrivals,
    backlog: VecDeque<Output>,
    accounting: Accounting,
    arrived_us: u64,
    looked_round_us: u64,
    revised_us: u64,
    is_awake: bool,
    was_awake: bool,
    has_told_unstamped: bool,
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl WatchRun {
    pub(crate) fn new(spec: RouteSpec, setting: Setting, started: mpsc::Sender<()>) -> Self {
        let nothing = Tracker::new("", spec.reader.is_ordered(), spec.writer.ring_slots());
        let live = Arc::new(Live::new(nothing));
        let figures = setting.metrics.watch(&spec, live.clone(), setting.clock.clone());
        let origin = Origin {
            route: spec.route.clone(),
            stream: spec.stream.clone(),
            epoch: Uuid::new_v4().simple().to_string(),
            anchor: Anchor::take(&*setting.clock),
        };
        let now_us = setting.clock.now_us();
        Self {
            intervals: Intervals::new(origin.clone(), spec.settings.overdue_after.0),
            arrivals: Arrivals::new(spec.writer.ring_slots()),
            stated: setting.stated.clone(),
            started: Some(started),
            backlog: VecDeque::new(),
            accounting: Accounting::default(),
            arrived_us: now_us,
            looked_round_us: now_us,
            revised_us: now_us,
            is_awake: false,
            was_awake: false,
            has_told_unstamped: false,
            live,
            figures,
            origin,
            spec,
            setting,
        }
    }

    /// Until shutdown. While the primary is not stated to be a writer it sleeps.
    pub(crate) async fn run(mut self) -> Result<Option<RouteSummary>, ProbeError> {
        let shutdown = self.setting.shutdown.clone();
        while !shutdown.is_cancelled() {
            let is_awake = self.stated.borrow_and_update().is_writer(&self.spec.route);
            self.turn(is_awake);
            if let Some(started) = self.started.take() {
                // A summary may be dropped without harm: the receiver only counts starts.
                let _ = started.send(()).await;
            }
            if !is_awake {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    changed = self.stated.changed() => if changed.is_err() {
                        shutdown.cancelled().await;
                    }
                }
                continue;
            }
            let began = Instant::now();
            if shutdown.run_until_cancelled(self.look()).await.is_none() {
                break;
            }
            self.hand_over().await?;
            let wait = tokio::time::sleep_until(began + self.gap());
            let _interrupted = shutdown.run_until_cancelled(wait).await;
        }
        self.end().await?;
        Ok(Some(self.summary()))
    }

    /// While it sleeps nothing is observed: minutes end with it, and begin anew.
    fn turn(&mut self, is_awake: bool) {
        let clock = self.setting.clock.clone();
        if is_awake && !self.is_awake {
            self.origin.epoch = Uuid::new_v4().simple().to_string();
            self.origin.anchor = Anchor::take(&*clock);
            self.intervals = Intervals::new(self.origin.clone(), self.spec.settings.overdue_after.0);
            self.arrived_us = clock.now_us();
        } else if !is_awake && self.is_awake {
            self.settle(clock.wall_us(), clock.now_us(), true);
        }
        self.is_awake = is_awake;
        self.was_awake |= is_awake;
        self.live.is_active.store(is_awake, Ordering::Release);
    }

    /// From one poll to the next: the longer ago the newest arrival, the longer, up to a bound.
    fn gap(&self) -> Duration {
        let longest = if self.spec.pace.is_some() {
            PAID_GAP_MAX
        } else {
            GAP_MAX
        };
        if self.live.troubles.is_failing(Tried::Poll) {
            return GAP_MAX;
        }
        let age_us = self.setting.clock.now_us().saturating_sub(self.arrived_us);
        Duration::from_micros(self.spec.polling.gap_us(age_us)).min(longest)
    }

    /// What to ask for: `None` is the whole ring.
    fn sought(&mut self, now_us: u64) -> Option<Vec<u64>> {
        let highest = self.arrivals.highest()?;
        if self.spec.reader.is_ordered() {
            return None;
        }
        let idle_since = self.arrived_us.max(self.looked_round_us);
        if now_us.saturating_sub(idle_since) > us(LOOK_ROUND_AFTER) {
            self.looked_round_us = now_us;
            return None;
        }
        let missing = (highest.saturating_sub(BEHIND).max(1)..highest).filter(|one| !self.arrivals.has(*one));
        Some(missing.chain(highest + 1..=highest + AHEAD).collect())
    }

    /// One poll.
    async fn look(&mut self) {
        let clock = self.setting.clock.clone();
        let sought = self.sought(clock.now_us());
        let sought = sought.as_deref().map_or(Sought::All, Sought::Only);
        self.live.polls.fetch_add(1, Ordering::Relaxed);
        let sent_at_us = clock.wall_us();
        let asked = tokio::time::timeout(POLL_TIMEOUT, self.spec.reader.poll(&self.spec.stream, sought)).await;
        let (received_at_us, now_us) = (clock.wall_us(), clock.now_us());
        match asked {
            Ok(Ok(sighting)) => self.take(&sighting, sent_at_us, received_at_us, now_us),
            Ok(Err(error)) => self.note_error(error.kind(), &error.to_string()),
            Err(_) => self.note_error(NO_ANSWER, &format!("no answer within {} s", POLL_TIMEOUT.as_secs())),
        }
        self.settle(received_at_us, now_us, false);
    }

    fn take(&mut self, sighting: &Sighting, sent_at_us: i64, received_at_us: i64, now_us: u64) {
        if self.live.troubles.succeeded(Tried::Poll) {
            tracing::info!(stream = self.spec.stream, "canaries can be looked for again");
        }
        self.live.answered(now_us, sighting.oddities);
        let error_us = self.setting.wall_bound.as_ref().and_then(|bound| bound.now_us());
        let arrived = self.arrivals.polled(sighting, sent_at_us, received_at_us, error_us);
        for sequence in arrived {
            self.arrived_us = now_us;
            self.figures.arrived(now_us);
            self.intervals.sent(sequence, self.mono(received_at_us));
            self.accounting.planned += 1;
            self.accounting.pending += 1;
        }
        let stamps = sighting.canaries.iter().filter_map(|canary| canary.stamp);
        if let Some(newest) = stamps.map(|stamp| stamp.sent_at_us).max() {
            self.live.newest_sent_at_us.fetch_max(newest, Ordering::Relaxed);
        }
    }

    fn note_error(&mut self, kind: &'static str, error: &str) {
        if self.live.troubles.failed(Tried::Poll, kind, error) {
            tracing::warn!(stream = self.spec.stream, kind, error, "cannot look for canaries");
        }
    }

    /// An instant of the wall clock as minutes are kept by: they are told apart by arrival, which is now or was just now.
    fn mono(&self, at_us: i64) -> u64 {
        let since = at_us.saturating_sub(self.origin.anchor.wall_us);
        self.origin
            .anchor
            .now_us
            .saturating_add(u64::try_from(since).unwrap_or(0))
    }

    fn settle(&mut self, wall_us: i64, now_us: u64, is_end: bool) {
        for reading in self.arrivals.settle(wall_us, is_end) {
            self.tell(reading, now_us);
        }
        if is_end || now_us.saturating_sub(self.revised_us) >= REVISE_EVERY_US {
            self.revised_us = now_us;
            let moment = Moment {
                now_us: self.mono(wall_us),
                last_miss_us: None,
                native_lag_us: None,
                is_end,
            };
            let rows = self.intervals.revise(&moment);
            self.backlog.extend(rows.into_iter().map(Output::Interval));
        }
    }

    fn tell(&mut self, reading: Reading, now_us: u64) {
        self.accounting.pending -= 1;
        self.accounting.seen += 1;
        let bounds = match reading.lag {
            Some(Crossed::Within { low_us, high_us }) => Some((low_us, high_us)),
            Some(Crossed::Violated) => {
                self.live.bounds_violated.fetch_add(1, Ordering::Relaxed);
                None
            }
            None => None,
        };
        let seen_us = self.mono(reading.seen_at_us);
        let settled = Settled {
            sequence: reading.sequence,
            planned_us: seen_us,
            sent_us: seen_us,
            acked_us: None,
            seen_us: Some(now_us),
            low_us: bounds.map(|(low, _)| low),
            high_us: bounds.map(|(_, high)| high),
            low_known: reading.low_known && bounds.is_some(),
            state: FinalState::Seen,
        };
        self.intervals.settled(&settled);
        if bounds.is_some() {
            self.figures.settled(&settled);
        } else {
            self.figures.seen_without_reading();
        }
        match reading.stamp {
            Some(stamp) => {
                let sample = self.sample(&reading, stamp.sent_at_us, &settled);
                self.backlog.push_back(Output::Sample(sample));
            }
            None if !std::mem::replace(&mut self.has_told_unstamped, true) => tracing::warn!(
                stream = self.spec.stream,
                "canaries without a stamp arrive, and there is no reading of them: the probe that writes them needs `clock = \"two\"`, and a chrony that vouches for its clock"
            ),
            None => {}
        }
    }

    fn sample(&self, reading: &Reading, sent_at_us: i64, settled: &Settled) -> LagSample {
        let clock = ClockUse::Two {
            error_us: reading.error_us,
        };
        LagSample {
            epoch: reading.epoch.clone(),
            planned_at_us: sent_at_us,
            sent_at_us: Some(sent_at_us),
            acked_at_us: reading.acked_at_us,
            seen_at_us: Some(reading.seen_at_us),
            write_us: reading
                .acked_at_us
                .and_then(|acked| u64::try_from(acked.saturating_sub(sent_at_us)).ok()),
            // When the schedule wanted it to leave is known to its writer alone.
            late_us: None,
            clock_error_us: reading.error_us.unwrap_or(CLOCK_ERROR_UNKNOWN_US),
            ..settled.sample_on(&self.origin, clock)
        }
    }

    /// Rows wait only while nobody takes them; beyond the bound, polls wait for them too.
    async fn hand_over(&mut self) -> Result<(), ProbeError> {
        while let Some(row) = self.backlog.pop_front() {
            if self.backlog.len() >= OUTPUT_BACKLOG_MAX {
                let sent = self.setting.output.send(row).await;
                sent.map_err(|_| ProbeError::OutputClosed)?;
                continue;
            }
            match self.setting.output.try_send(row) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(row)) => {
                    self.backlog.push_front(row);
                    return Ok(());
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(ProbeError::OutputClosed),
            }
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), ProbeError> {
        self.turn(false);
        self.live.end();
        for row in std::mem::take(&mut self.backlog) {
            let sent = self.setting.output.send(row).await;
            sent.map_err(|_| ProbeError::OutputClosed)?;
        }
        Ok(())
    }

    fn summary(self) -> RouteSummary {
        RouteSummary {
            route: self.spec.route.clone(),
            collection: self.spec.collection.clone(),
            stream: self.spec.stream.clone(),
            is_dormant: !self.was_awake,
            epoch: self.was_awake.then_some(self.origin.epoch),
            accounting: self.accounting,
            earlier: Accounting::default(),
            stale_reads: 0,
            was_promoted: false,
        }
    }
}

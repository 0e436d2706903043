//! Minutes of evidence: canaries by the instant at which they were planned, rewritten until every one of them is settled.

use std::collections::BTreeMap;

use crate::clock::Anchor;
use crate::histogram::Distribution;
use crate::settled::{Origin, Settled};
use crate::{FinalState, LagInterval};

/// Length of an interval; intervals are aligned to UTC.
pub const INTERVAL_US: i64 = 60_000_000;

/// A slot is sent or skipped at most this long after its planned instant, so an interval waits as long for its last slots.
pub const SLOT_LATE_US_MAX: u64 = 100_000;

/// How long after its end the first revision of an interval is made: time for the last slot's fate to be written down.
const SETTLE_US: i64 = 1_000_000;

/// Counts and values of one interval so far.
#[derive(Debug, Default)]
pub(crate) struct Minute {
    planned: u64,
    skipped: u64,
    seen: u64,
    lost: u64,
    superseded: u64,
    write_failed: u64,
    write_unknown: u64,
    low: Distribution,
    high: Distribution,
    revisions: u64,
    /// Not before this instant is the next revision of an interval with open canaries made.
    revise_at_us: i64,
}

impl Minute {
    fn settled_count(&self) -> u64 {
        self.skipped + self.seen + self.lost + self.superseded + self.write_failed + self.write_unknown
    }
}

/// The intervals of one epoch that are not final yet.
///
/// Revision 0 is made when the interval is over, the last one when all of its canaries are settled; in between whenever the time
/// since its end has doubled, so that an outage costs a logarithmic number of revisions.
#[derive(Debug)]
pub struct Intervals {
    origin: Origin,
    overdue_after_us: u64,
    minutes: BTreeMap<i64, Minute>,
    /// Canaries whose fate is open, by sequence; as many as the tracker has pending.
    open: BTreeMap<u64, Open>,
    /// Start of the next interval to open: each minute of the epoch gives a row, also one without canaries.
    next_start_us: i64,
    saturated: u64,
    /// The epoch ended then: nothing was observed afterwards.
    ended_us: Option<u64>,
}

/// A canary that left and is not settled.
#[derive(Debug, Clone, Copy)]
struct Open {
    planned_us: u64,
    acked_us: Option<u64>,
    /// When the last poll that read its slot and did not show it was sent.
    missed_us: Option<u64>,
    is_unknown: bool,
}

/// What [`Intervals::revise`] needs to know of the moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The monotonic clock.
    pub now_us: u64,
    /// When the last poll that was answered by a strong read of the whole ring was sent: until then, what is unseen was not there.
    pub last_miss_us: Option<u64>,
    /// The store's own lag figure.
    pub native_lag_us: Option<u64>,
    /// The probe ends now: what is left is written as it stands.
    pub is_end: bool,
}

impl Intervals {
    /// The intervals of a new epoch.
    pub fn new(origin: Origin, overdue_after: std::time::Duration) -> Self {
        let next_start_us = start_of(origin.anchor.wall_us);
        Self {
            origin,
            overdue_after_us: u64::try_from(overdue_after.as_micros()).unwrap_or(u64::MAX),
            minutes: BTreeMap::new(),
            open: BTreeMap::new(),
            next_start_us,
            saturated: 0,
            ended_us: None,
        }
    }

    /// Whose minutes these are.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A canary left.
    pub fn sent(&mut self, sequence: u64, planned_us: u64) {
        self.minute(planned_us).planned += 1;
        let open = Open {
            planned_us,
            acked_us: None,
            missed_us: None,
            is_unknown: false,
        };
        self.open.insert(sequence, open);
    }

    /// The primary acknowledged it.
    pub fn acked(&mut self, sequence: u64, acked_us: u64) {
        if let Some(open) = self.open.get_mut(&sequence) {
            open.acked_us = Some(acked_us);
        }
    }

    /// A poll that was sent then read its slot and did not show it.
    pub fn missed(&mut self, sequence: u64, sent_us: u64) {
        if let Some(open) = self.open.get_mut(&sequence) {
            open.missed_us = open.missed_us.max(Some(sent_us));
        }
    }

    /// Its write ended with unknown outcome.
    pub fn unknown(&mut self, sequence: u64) {
        if let Some(open) = self.open.get_mut(&sequence) {
            open.is_unknown = true;
        }
    }

    /// A slot was skipped.
    pub fn skipped(&mut self, planned_us: u64) {
        let minute = self.minute(planned_us);
        minute.planned += 1;
        minute.skipped += 1;
    }

    /// A canary's fate is known.
    pub fn settled(&mut self, settled: &Settled) {
        self.open.remove(&settled.sequence);
        let minute = self.minute(settled.planned_us);
        match settled.state {
            FinalState::Seen => minute.seen += 1,
            FinalState::Lost => minute.lost += 1,
            FinalState::Superseded => minute.superseded += 1,
            FinalState::WriteFailed => minute.write_failed += 1,
            FinalState::WriteUnknown => minute.write_unknown += 1,
        }
        if matches!(
            settled.state,
            FinalState::Seen | FinalState::Lost | FinalState::Superseded
        ) {
            minute.low.add(Some(settled.low_us.unwrap_or(0)));
            minute.high.add(settled.high_us);
        }
    }

    /// As [`settled`](Self::settled), by a later epoch; what is not known to be open is none of these minutes.
    pub(crate) fn settled_later(&mut self, settled: &Settled) {
        if self.open.contains_key(&settled.sequence) {
            self.settled(settled);
        }
    }

    /// Open canaries.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether no minute waits for a revision.
    pub(crate) fn is_done(&self) -> bool {
        self.minutes.is_empty() && self.ended_us.is_some()
    }

    /// A ledger tells that this revision was made at `wall_us`: the epoch's own, or, when it is over, a later one.
    pub(crate) fn was_revised(&mut self, start: i64, revision: u64, wall_us: i64) {
        if self.ended_us.is_none() {
            self.next_start_us = self.next_start_us.max(start + INTERVAL_US);
            self.minutes.entry(start).or_default();
        }
        if let Some(minute) = self.minutes.get_mut(&start) {
            minute.revisions = revision + 1;
            minute.revise_at_us = next_revision_at(start, wall_us);
        }
    }

    /// Takes a minute out, which is final.
    pub(crate) fn take(&mut self, start: i64) -> Option<Minute> {
        self.minutes.remove(&start)
    }

    /// A minute that was taken out is to be revised once more.
    pub(crate) fn put_back(&mut self, start: i64, mut minute: Minute) {
        minute.revise_at_us = 0;
        self.minutes.insert(start, minute);
    }

    /// The epoch is over: writes that had not ended are of unknown outcome.
    pub(crate) fn ended(&mut self, ended_us: u64) {
        self.open_elapsed_minutes(self.origin.anchor.wall(ended_us), true);
        self.ended_us = Some(ended_us);
        for open in self.open.values_mut() {
            open.is_unknown |= open.acked_us.is_none();
        }
    }

    /// Leaves minutes that began before this instant as they are.
    pub(crate) fn forget_before(&mut self, wall_us: i64) {
        self.minutes = self.minutes.split_off(&wall_us);
        let anchor = self.origin.anchor;
        self.open.retain(|_, open| anchor.wall(open.planned_us) >= wall_us);
    }

    /// Leaves minutes without an open canary as they are.
    pub(crate) fn forget_settled(&mut self) {
        self.minutes
            .retain(|_, minute| minute.planned != minute.settled_count());
    }

    /// Values that no HDR histogram could hold, so far.
    pub fn saturated(&self) -> u64 {
        self.saturated
    }

    fn minute(&mut self, planned_us: u64) -> &mut Minute {
        let start = start_of(self.origin.anchor.wall(planned_us));
        self.minutes.entry(start).or_default()
    }

    /// The rows that are due.
    pub fn revise(&mut self, moment: &Moment) -> Vec<LagInterval> {
        let wall = self.origin.anchor.wall(moment.now_us);
        self.open_elapsed_minutes(wall, moment.is_end);
        let mut rows = Vec::new();
        let mut done = Vec::new();
        let starts: Vec<i64> = self.minutes.keys().copied().collect();
        for start in starts {
            let over = wall >= start + INTERVAL_US + SETTLE_US;
            let Some(minute) = self.minutes.get_mut(&start) else {
                continue;
            };
            let is_settled = minute.planned == minute.settled_count();
            let is_due = moment.is_end || (over && (is_settled || wall >= minute.revise_at_us));
            if !is_due {
                continue;
            }
            let is_final = is_settled && (over || moment.is_end);
            let (row, saturated) = Rendering {
                origin: &self.origin,
                open: &self.open,
                overdue_after_us: self.overdue_after_us,
                moment,
                ended_us: self.ended_us,
            }
            .row(start, minute, is_final);
            rows.push(row);
            minute.revisions += 1;
            minute.revise_at_us = next_revision_at(start, wall);
            if is_final {
                self.saturated += saturated;
                done.push(start);
            }
        }
        done.iter().for_each(|start| drop(self.minutes.remove(start)));
        rows
    }

    fn open_elapsed_minutes(&mut self, wall: i64, is_end: bool) {
        if self.ended_us.is_some() {
            return;
        }
        while self.next_start_us + INTERVAL_US <= wall || (is_end && self.next_start_us <= wall) {
            self.minutes.entry(self.next_start_us).or_default();
            self.next_start_us += INTERVAL_US;
        }
    }
}

/// Start of the interval that holds an instant, microseconds since 1970 UTC.
pub(crate) fn start_of(wall_us: i64) -> i64 {
    wall_us - wall_us.rem_euclid(INTERVAL_US)
}

/// When the time since the end of the minute has doubled.
fn next_revision_at(start: i64, wall_us: i64) -> i64 {
    wall_us + (wall_us - start - INTERVAL_US).max(INTERVAL_US)
}

/// What a row is made from, beside its own minute.
struct Rendering<'a> {
    origin: &'a Origin,
    open: &'a BTreeMap<u64, Open>,
    overdue_after_us: u64,
    moment: &'a Moment,
    ended_us: Option<u64>,
}

/// The open canaries of one minute, counted.
#[derive(Default)]
struct Waiting {
    pending: u64,
    overdue: u64,
    unknown: u64,
    oldest_us: Option<u64>,
}

impl Rendering<'_> {
    /// Counts the open canaries of a minute and adds them to its distributions: at least as late as the last poll that did not
    /// show them proves, and without an upper end.
    fn add_open(&self, start: i64, low: &mut Distribution, high: &mut Distribution) -> Waiting {
        let minute = start..start + INTERVAL_US;
        let mut waiting = Waiting::default();
        for open in self.open.values() {
            if !minute.contains(&self.origin.anchor.wall(open.planned_us)) {
                continue;
            }
            if open.is_unknown {
                waiting.unknown += 1;
                continue;
            }
            let age_us = open.acked_us.map(|acked| self.moment.now_us.saturating_sub(acked));
            let unseen_us = open
                .acked_us
                .zip(self.moment.last_miss_us.max(open.missed_us))
                .map_or(0, |(acked, miss)| miss.saturating_sub(acked));
            waiting.pending += 1;
            waiting.overdue += u64::from(age_us.is_some_and(|age| age > self.overdue_after_us));
            waiting.oldest_us = waiting.oldest_us.max(age_us);
            low.add(Some(unseen_us));
            high.add(None);
        }
        waiting
    }

    /// The row of one interval as it stands, and how many of its values were saturated.
    fn row(&self, start: i64, minute: &Minute, is_final: bool) -> (LagInterval, u64) {
        let (origin, moment) = (self.origin, self.moment);
        let (mut low, mut high) = (minute.low.clone(), minute.high.clone());
        let waiting = self.add_open(start, &mut low, &mut high);
        let (hdr_low, saturated_low) = low.hdr_base64();
        let (hdr_high, saturated_high) = high.hdr_base64();
        let row = LagInterval {
            route: origin.route.clone(),
            epoch: origin.epoch.clone(),
            interval_start_us: start,
            interval_end_us: start + INTERVAL_US,
            revision: minute.revisions,
            is_final,
            planned: minute.planned,
            seen: minute.seen,
            pending: waiting.pending,
            overdue: waiting.overdue,
            lost: minute.lost,
            superseded: minute.superseded,
            write_failed: minute.write_failed,
            write_unknown: minute.write_unknown + waiting.unknown,
            skipped: minute.skipped,
            gap_us: gap_us(
                &origin.anchor,
                start,
                self.ended_us.or_else(|| moment.is_end.then_some(moment.now_us)),
            ),
            low: low.quantiles(),
            high: high.quantiles(),
            oldest_unseen_us: waiting.oldest_us,
            native_lag_us: moment.native_lag_us,
            hdr_low,
            hdr_high,
        };
        (row, saturated_low + saturated_high)
    }
}

/// The part of the interval before the epoch began and, when it is over, after it.
fn gap_us(anchor: &Anchor, start: i64, ended_us: Option<u64>) -> u64 {
    let end = start + INTERVAL_US;
    let before = anchor.wall_us.clamp(start, end) - start;
    let after = ended_us.map_or(0, |ended| end - anchor.wall(ended).clamp(start, end));
    u64::try_from(before + after).unwrap_or(0)
}

#[cfg(test)]
mod tests;

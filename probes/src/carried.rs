//! What was in flight when an earlier epoch of a stream ended: found in its ledger, looked for again, and settled by the same rules.
//!
//! A reading crosses a restart on one clock only within one boot of the machine. Otherwise its two instants are of two clocks: it
//! is as wide as the error of both, and without a bound of that error there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use stores::Sighting;

use crate::accounting::Accounting;
use crate::clock::Anchor;
use crate::intervals::Moment;
use crate::ledger::{Frame, LedgerError, WriteFate, ledgers};
use crate::polling::Polling;
use crate::settled::{ClockUse, Origin, Settled};
use crate::tracker::{InFlight, Tracker, Wanted};
use crate::two_clock::{Crossed, Crossing};
use crate::{FinalState, PENDING_MAX};

/// Earlier epochs that are looked into, the newest ones.
pub(crate) const EPOCHS_CARRIED_MAX: usize = 16;

/// The open canaries of one earlier epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsettled {
    pub(crate) origin: Origin,
    pub(crate) canaries: Vec<InFlight>,
    /// The epochs of the stream after it, also those that left nothing open.
    pub(crate) followers: Vec<String>,
}

/// What the ledgers of `stream` in `folder` leave open, the newest epoch first: no more than [`PENDING_MAX`] canaries of the newest
/// [`EPOCHS_CARRIED_MAX`] epochs. What is beyond stays open in its ledger.
///
/// # Errors
/// A ledger cannot be read or is corrupt.
pub(crate) fn unsettled(folder: &Path, stream: &str) -> Result<Vec<Unsettled>, LedgerError> {
    let files = ledgers(folder, |origin| origin.stream == stream)?;
    let mut settled_later: BTreeSet<(String, u64)> = BTreeSet::new();
    let mut found = Vec::new();
    let mut room = PENDING_MAX;
    let mut followers: Vec<String> = Vec::new();
    for file in files.iter().rev().take(EPOCHS_CARRIED_MAX) {
        let mut open: BTreeMap<u64, InFlight> = BTreeMap::new();
        for segment in &file.segments {
            for frame in journal::Reader::open(segment)?.records::<Frame>() {
                follow(frame?, &mut open, &mut settled_later);
            }
        }
        let epoch = &file.origin.epoch;
        open.retain(|sequence, _| !settled_later.contains(&(epoch.clone(), *sequence)));
        let left_out = open.len().saturating_sub(room);
        if left_out > 0 {
            tracing::warn!(
                stream,
                epoch,
                left_out,
                "too many canaries are open; the oldest are not looked for again"
            );
        }
        let canaries: Vec<InFlight> = open.into_values().skip(left_out).collect();
        room -= canaries.len();
        if !canaries.is_empty() {
            found.push(Unsettled {
                origin: file.origin.clone(),
                canaries,
                followers: followers.clone(),
            });
        }
        followers.push(file.origin.epoch.clone());
    }
    Ok(found)
}

fn follow(frame: Frame, open: &mut BTreeMap<u64, InFlight>, settled_later: &mut BTreeSet<(String, u64)>) {
    match frame {
        Frame::Planned { sequence, planned_us } => {
            open.insert(
                sequence,
                InFlight {
                    sequence,
                    planned_us,
                    // Not before this.
                    sent_us: planned_us,
                    acked_us: None,
                    was_sent: false,
                },
            );
        }
        Frame::Sent { sequence, sent_us, .. } => {
            if let Some(canary) = open.get_mut(&sequence) {
                canary.sent_us = sent_us;
                canary.was_sent = true;
            }
        }
        Frame::Acked { sequence, acked_us } => {
            if let Some(canary) = open.get_mut(&sequence) {
                canary.acked_us = Some(acked_us);
            }
        }
        Frame::Skipped { sequence, .. } => drop(open.remove(&sequence)),
        Frame::Settled(settled) => drop(open.remove(&settled.sequence)),
        Frame::Earlier { epoch, settled } => drop(settled_later.insert((epoch, settled.sequence))),
        Frame::Closed { .. } => open.retain(|_, canary| canary.was_sent),
        Frame::Carried { canaries } => open.extend(canaries.iter().map(|canary| {
            let in_flight = InFlight {
                sequence: canary.sequence,
                planned_us: canary.planned_us,
                sent_us: canary.sent_not_before_us(),
                acked_us: match canary.outcome {
                    WriteFate::Acked(at) => Some(at),
                    WriteFate::Failed | WriteFate::Unknown => None,
                },
                was_sent: canary.sent_us.is_some(),
            };
            (canary.sequence, in_flight)
        })),
        Frame::Epoch { .. }
        | Frame::Continued { .. }
        | Frame::Reserved { .. }
        | Frame::Unknown { .. }
        | Frame::Ring { .. }
        | Frame::Revised { .. }
        | Frame::Complete { .. } => {}
    }
}

/// How instants of this epoch read on the clock of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClockLink {
    /// Earlier clock - this clock.
    offset_us: i128,
    clock: ClockUse,
}

impl ClockLink {
    pub(crate) fn between(earlier: &Anchor, now: &Anchor) -> Self {
        let offset = |then: i128, at: i128| (at - i128::from(now.now_us)) - (then - i128::from(earlier.now_us));
        if let Some((then, at)) = earlier.boot.zip(now.boot).filter(|(then, at)| then.id == at.id) {
            return Self {
                offset_us: offset(i128::from(then.at_us), i128::from(at.at_us)),
                clock: ClockUse::One {
                    error_us: earlier.taken_within_us + now.taken_within_us,
                },
            };
        }
        Self {
            offset_us: offset(i128::from(earlier.wall_us), i128::from(now.wall_us)),
            clock: ClockUse::Two {
                error_us: earlier
                    .wall_error_us
                    .zip(now.wall_error_us)
                    .map(|(then, now)| then.saturating_add(now)),
            },
        }
    }

    /// Before the earlier clock's zero nothing was sent there.
    pub(crate) fn earlier_us(&self, at_us: u64) -> u64 {
        u64::try_from((i128::from(at_us) + self.offset_us).max(0)).unwrap_or(u64::MAX)
    }

    fn now_us(&self, earlier_us: u64) -> u64 {
        u64::try_from((i128::from(earlier_us) - self.offset_us).max(0)).unwrap_or(u64::MAX)
    }
}

/// The fate of a carried canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaterWord {
    pub(crate) epoch: String,
    pub(crate) settled: Settled,
    /// The bound of the clocks' error was false, so there is no reading.
    pub(crate) is_violated: bool,
}

/// An earlier epoch that is still watched.
#[derive(Debug)]
pub(crate) struct Carried {
    epoch: String,
    tracker: Tracker,
    link: ClockLink,
    /// The link by which it is decided when to look: a clock that was set back must not put that off until it has caught up.
    pace: ClockLink,
}

impl Carried {
    /// Goes on with `unsettled` in the epoch of `origin`.
    pub(crate) fn new(unsettled: &Unsettled, origin: &Origin, is_ordered: bool, ring_slots: u64) -> Self {
        let now = &origin.anchor;
        let followers = unsettled.followers.iter().cloned().chain([origin.epoch.clone()]);
        let epoch = unsettled.origin.epoch.clone();
        let link = ClockLink::between(&unsettled.origin.anchor, now);
        let ends = unsettled
            .canaries
            .iter()
            .map(|canary| canary.acked_us.unwrap_or(canary.sent_us));
        let latest = i128::from(ends.max().unwrap_or(0));
        Self {
            pace: ClockLink {
                offset_us: link.offset_us.max(latest - i128::from(now.now_us)),
                ..link
            },
            link,
            tracker: Tracker::new(&epoch, is_ordered, ring_slots).carried(&unsettled.canaries, followers),
            epoch,
        }
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// How minutes of it stand at an instant of this epoch. Between clocks that may be off, no poll proves how late what is unseen is.
    pub(crate) fn moment(&self, now_us: u64, is_end: bool) -> Moment {
        let last_miss_us = match self.link.clock {
            ClockUse::One { .. } => self.tracker.latest_miss(),
            ClockUse::Two { .. } => None,
        };
        Moment {
            now_us: self.pace.earlier_us(now_us),
            last_miss_us,
            native_lag_us: None,
            is_end,
        }
    }

    /// As [`Tracker::missed`], where the clocks allow it.
    pub(crate) fn missed(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let is_one = matches!(self.link.clock, ClockUse::One { .. });
        self.tracker.missed().filter(move |_| is_one)
    }

    /// On which clocks its readings are taken.
    pub(crate) fn clock(&self) -> ClockUse {
        self.link.clock
    }

    /// The fate of its canaries, but for those that are open.
    pub(crate) fn concluded(&self) -> Accounting {
        self.tracker.concluded()
    }

    pub(crate) fn accounting(&self) -> Accounting {
        self.tracker.accounting()
    }

    /// Whether nothing of it is open any more.
    pub(crate) fn is_over(&self) -> bool {
        !self.tracker.awaits() && !self.tracker.watches_unknown()
    }

    pub(crate) fn awaits(&self) -> bool {
        self.tracker.awaits()
    }

    pub(crate) fn oldest_unseen_us(&self, now_us: u64) -> Option<u64> {
        self.tracker.oldest_unseen_us(self.pace.earlier_us(now_us))
    }

    /// When it wants the next poll, on the clock of this epoch.
    pub(crate) fn due_us(&self, polling: &Polling, last_sent_us: Option<u64>) -> Option<u64> {
        let last = last_sent_us.map(|at| self.pace.earlier_us(at));
        let due = self.tracker.due_us(polling, last)?;
        Some(self.pace.now_us(due))
    }

    pub(crate) fn wanted(&mut self, polling: &Polling, now_us: u64, max: usize) -> Wanted {
        self.tracker.wanted_of(polling, self.pace.earlier_us(now_us), max)
    }

    /// As [`Tracker::polled`]; instants are of this epoch.
    pub(crate) fn polled(&mut self, sighting: &Sighting, sent_us: u64, received_us: u64) -> Vec<LaterWord> {
        let (sent, received) = (self.link.earlier_us(sent_us), self.link.earlier_us(received_us));
        let settled = self.tracker.polled(sighting, sent, received);
        self.crossed(settled, received_us)
    }

    /// As [`Tracker::promoted`]; instants are of this epoch.
    pub(crate) fn promoted(&mut self, survivors: &Sighting, sent_us: u64, received_us: u64) -> Vec<LaterWord> {
        let (sent, received) = (self.link.earlier_us(sent_us), self.link.earlier_us(received_us));
        let settled = self.tracker.promoted(survivors, sent, received);
        self.crossed(settled, received_us)
    }

    fn crossed(&self, settled: Vec<Settled>, received_us: u64) -> Vec<LaterWord> {
        settled
            .into_iter()
            .map(|settled| self.word(settled, received_us))
            .collect()
    }

    /// What remains of a reading whose ends may be of two clocks.
    fn word(&self, mut settled: Settled, received_us: u64) -> LaterWord {
        let clock = self.link.clock;
        let mut is_violated = false;
        let judged = match (clock, settled.state) {
            (
                ClockUse::One { error_us }
                | ClockUse::Two {
                    error_us: Some(error_us),
                },
                FinalState::Seen,
            ) => {
                let received = i128::from(received_us) + self.link.offset_us;
                let signed = |us: i128| i64::try_from(us).unwrap_or(if us < 0 { i64::MIN } else { i64::MAX });
                let crossing = Crossing {
                    low_us: settled
                        .low_us
                        .filter(|_| settled.low_known)
                        .map(|low| signed(i128::from(low))),
                    high_us: signed(received - i128::from(settled.sent_us)),
                    error_us,
                };
                Some(crossing.judge())
            }
            (ClockUse::One { .. }, _) => None,
            (ClockUse::Two { .. }, _) => {
                // How long it was waited for is not known either.
                settled.low_us = settled.low_us.map(|_| 0);
                settled.low_known = false;
                settled.high_us = None;
                None
            }
        };
        match judged {
            Some(Crossed::Within { low_us, high_us }) => {
                settled.low_us = Some(low_us);
                settled.high_us = Some(high_us);
            }
            Some(Crossed::Violated) => {
                is_violated = true;
                settled.low_us = None;
                settled.low_known = false;
                settled.high_us = None;
            }
            None => {}
        }
        LaterWord {
            epoch: self.epoch.clone(),
            settled,
            is_violated,
        }
    }
}

#[cfg(test)]
mod tests;

//! The one state machine of a stream in one epoch: it alone decides what became of a canary, and all counters derive from it.
//!
//! It is pure: it gets instants from its caller and does no I/O. At every moment
//! planned = skipped + write_failed + write_unknown + pending + seen + lost + superseded.
//!
//! Answers may come in another order than their polls were sent, and may have read a part of the ring only: what was not read is
//! no miss, proves no loss and is no stale read.

use std::collections::{BTreeMap, BTreeSet};

use stores::{Covers, Sighting, Sought};

use crate::FinalState;
use crate::accounting::Accounting;
use crate::lookout::Lookout;
use crate::misses::{Instances, Misses};
use crate::polling::Polling;
use crate::ring::Ring;
use crate::settled::Settled;

/// Canaries kept while they wait; 7 hours of dead replication at 5/s, about 15 MB. Beyond it the oldest are superseded.
pub const PENDING_MAX: usize = 131_072;

/// Canaries that one poll of an unordered store asks for.
pub const SOUGHT_MAX: usize = 100;

#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// The write has not ended.
    InFlight,
    /// Acknowledged, when the canaries up to `sent_by_then` had been sent: only a later one is proved to follow it.
    Acked { at_us: u64, sent_by_then: u64 },
    /// Nobody knows.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Hit {
    received_us: u64,
    /// When the last valid miss was sent.
    miss_us: Option<u64>,
}

#[derive(Debug)]
struct Pending {
    planned_us: u64,
    sent_us: u64,
    outcome: Outcome,
    /// Seen before its write ended: it waits for the outcome, which the lag interval needs.
    hit: Option<Hit>,
    /// Polls that read its slot, but not the whole ring, and did not find it.
    misses: Misses,
    /// A later canary took its slot while its write was under way: polls that do not show it are no misses any more.
    is_overwritten: bool,
}

/// What a poll means for one pending canary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Waits,
    Visible,
    Settles(FinalState),
}

/// A canary of an earlier epoch whose fate is open, on that epoch's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) sequence: u64,
    pub(crate) planned_us: u64,
    pub(crate) sent_us: u64,
    /// `None`: nobody knows whether it was written.
    pub(crate) acked_us: Option<u64>,
    /// Whether the ledger says that it left.
    pub(crate) was_sent: bool,
}

/// What to ask a secondary for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The whole ring.
    All,
    /// These canaries.
    Only(Vec<u64>),
}

impl Wanted {
    /// As the store takes it.
    pub fn sought(&self) -> Sought<'_> {
        match self {
            Self::All => Sought::All,
            Self::Only(sequences) => Sought::Only(sequences),
        }
    }
}

/// The state machine of one stream in one epoch.
#[derive(Debug)]
pub struct Tracker {
    epoch: String,
    is_ordered: bool,
    ring_slots: u64,
    pending_max: usize,
    pending: BTreeMap<u64, Pending>,
    accounting: Accounting,
    highest_sent: u64,
    /// Later epochs of the same stream: all of their canaries were sent after ours were acknowledged.
    followers: BTreeSet<String>,
    /// Canaries that are looked for one by one; empty in an ordered store.
    lookout: Lookout,
    instances: Instances,
    /// Strong polls of the whole ring.
    misses: Misses,
    /// (sequence, when it was received) of the newest canary that was visible.
    newest_hit: Option<(u64, u64)>,
    stale_reads: u64,
}

impl Tracker {
    /// The empty tracker of `epoch` on a ring of `ring_slots`.
    pub fn new(epoch: impl Into<String>, is_ordered: bool, ring_slots: u64) -> Self {
        // In an unordered store nothing can be proved of a canary whose slot was written again.
        let ring_bound = usize::try_from(ring_slots).unwrap_or(PENDING_MAX);
        Self {
            epoch: epoch.into(),
            is_ordered,
            ring_slots,
            pending_max: if is_ordered {
                PENDING_MAX
            } else {
                ring_bound.clamp(1, PENDING_MAX)
            },
            pending: BTreeMap::new(),
            accounting: Accounting::default(),
            highest_sent: 0,
            followers: BTreeSet::new(),
            lookout: Lookout::default(),
            instances: Instances::default(),
            misses: Misses::default(),
            newest_hit: None,
            stale_reads: 0,
        }
    }

    /// Goes on with an earlier epoch of the stream, whose writers are gone: `followers` are the epochs after it.
    pub(crate) fn carried(mut self, canaries: &[InFlight], followers: impl IntoIterator<Item = String>) -> Self {
        self.followers.extend(followers);
        self.highest_sent = canaries.iter().map(|canary| canary.sequence).max().unwrap_or(0);
        for canary in canaries {
            self.sent(canary.sequence, canary.planned_us, canary.sent_us);
            // Seen by nobody yet, so neither of them settles it.
            let _nothing = match canary.acked_us {
                Some(acked_us) => self.acked(canary.sequence, acked_us),
                None => self.unknown(canary.sequence, canary.sent_us),
            };
        }
        self
    }

    /// A slot of the schedule passed and nothing was sent.
    pub fn skipped(&mut self) {
        self.accounting.planned += 1;
        self.accounting.skipped += 1;
    }

    /// A canary leaves. Returns the oldest one, superseded, when more are pending than [`PENDING_MAX`] or than an unordered ring holds.
    pub fn sent(&mut self, sequence: u64, planned_us: u64, sent_us: u64) -> Option<Settled> {
        self.accounting.planned += 1;
        self.accounting.pending += 1;
        self.highest_sent = self.highest_sent.max(sequence);
        self.pending.insert(
            sequence,
            Pending {
                planned_us,
                sent_us,
                outcome: Outcome::InFlight,
                hit: None,
                misses: Misses::default(),
                is_overwritten: false,
            },
        );
        if self.pending.len() <= self.pending_max {
            return None;
        }
        let oldest = self
            .pending
            .iter()
            .find(|(_, canary)| !matches!(canary.outcome, Outcome::InFlight))
            .map(|(sequence, canary)| (*sequence, matches!(canary.outcome, Outcome::Unknown)));
        oldest.and_then(|(sequence, is_unknown)| {
            let state = if is_unknown {
                FinalState::WriteUnknown
            } else {
                FinalState::Superseded
            };
            let unseen_us = self.unseen_at_us(sequence);
            self.settle(sequence, state, unseen_us)
        })
    }

    /// The primary acknowledged it. Returns its final word when it had been seen already.
    pub fn acked(&mut self, sequence: u64, at_us: u64) -> Option<Settled> {
        let sent_by_then = self.highest_sent;
        self.write_ended(sequence, Outcome::Acked { at_us, sent_by_then }, at_us)
    }

    /// The write ended with unknown outcome. It stays watched for: if it appears, it is seen.
    pub fn unknown(&mut self, sequence: u64, at_us: u64) -> Option<Settled> {
        self.write_ended(sequence, Outcome::Unknown, at_us)
    }

    /// The write certainly failed. (One that was seen all the same counts as seen: visible is stronger than an error.)
    pub fn failed(&mut self, sequence: u64) -> Option<Settled> {
        let canary = self.pending.get(&sequence)?;
        let state = if canary.hit.is_some() {
            FinalState::Seen
        } else {
            FinalState::WriteFailed
        };
        self.settle(sequence, state, None)
    }

    fn write_ended(&mut self, sequence: u64, outcome: Outcome, at_us: u64) -> Option<Settled> {
        let canary = self.pending.get_mut(&sequence)?;
        if !matches!(canary.outcome, Outcome::InFlight) {
            return None;
        }
        canary.outcome = outcome;
        if matches!(outcome, Outcome::Unknown) {
            self.accounting.pending -= 1;
            self.accounting.write_unknown += 1;
        }
        if canary.hit.is_some() {
            return self.settle(sequence, FinalState::Seen, None);
        }
        if !self.is_ordered {
            self.lookout.watch(sequence, at_us);
        }
        None
    }

    /// A poll was sent, answered, and showed `sighting`. Returns the final words that it allows.
    pub fn polled(&mut self, sighting: &Sighting, sent_us: u64, received_us: u64) -> Vec<Settled> {
        let ring = Ring::new(sighting, self.ring_slots);
        let newest = self.newest_of_ours(&ring);
        let judge = |sequence: u64, canary: &Pending| {
            let judgement = self.judge(&ring, sequence, canary, newest, sighting.strong);
            (judgement != Judgement::Waits).then_some((sequence, judgement))
        };
        let all = || self.pending.iter().map(|(sequence, canary)| (*sequence, canary));
        let judgements: Vec<(u64, Judgement)> = match &sighting.covers {
            Covers::Ring => all().filter_map(|(sequence, canary)| judge(sequence, canary)).collect(),
            // Not all that is pending for each canary that is asked for: there may be a hundred thousand.
            Covers::Slots(sequences) => sequences
                .iter()
                .filter_map(|sequence| judge(*sequence, self.pending.get(sequence)?))
                .collect(),
        };
        let instance = self.instances.number(&sighting.instance);
        let settled = self.conclude(judgements, instance, sent_us, received_us);
        self.note_stale_read(&ring, newest, sent_us, received_us);
        self.note_misses(&ring, sighting, instance, sent_us);
        settled
    }

    /// The secondary was promoted; `survivors` is its ring, read after the promotion. Acknowledged canaries that are not there
    /// are lost, whatever the order of the store; unknown ones that are not there stay unknown for good.
    pub fn promoted(&mut self, survivors: &Sighting, sent_us: u64, received_us: u64) -> Vec<Settled> {
        let ring = Ring::new(survivors, self.ring_slots);
        let newest = self.newest_of_ours(&ring);
        let judgements: Vec<(u64, Judgement)> = self
            .pending
            .iter()
            .map(|(sequence, canary)| {
                let judgement = match self.judge(&ring, *sequence, canary, newest, true) {
                    Judgement::Waits if !ring.covers(*sequence) => Judgement::Waits,
                    Judgement::Waits => match canary.outcome {
                        Outcome::InFlight => Judgement::Waits,
                        Outcome::Acked { .. } => Judgement::Settles(FinalState::Lost),
                        Outcome::Unknown => Judgement::Settles(FinalState::WriteUnknown),
                    },
                    other => other,
                };
                (*sequence, judgement)
            })
            .filter(|(_, judgement)| *judgement != Judgement::Waits)
            .collect();
        let instance = self.instances.number(&survivors.instance);
        self.conclude(judgements, instance, sent_us, received_us)
    }

    /// The newest canary that is visible and is ours, or of an epoch after ours.
    fn newest_of_ours(&self, ring: &Ring<'_>) -> u64 {
        let own = ring.newest(|epoch| epoch == self.epoch).min(self.highest_sent);
        let later = ring.newest(|epoch| self.followers.contains(epoch));
        own.max(later)
    }

    /// Judges one canary by one answer. Order proves something only about a canary that was acknowledged before the visible one
    /// was sent: writes may overlap, and one of unknown outcome may land late.
    fn judge(&self, ring: &Ring<'_>, sequence: u64, canary: &Pending, newest: u64, strong: bool) -> Judgement {
        if canary.hit.is_some() {
            return Judgement::Waits;
        }
        if ring.shows(&self.epoch, sequence) {
            return Judgement::Visible;
        }
        let overwritten = ring.overwrote(sequence);
        match canary.outcome {
            Outcome::InFlight => Judgement::Waits,
            Outcome::Unknown if overwritten => Judgement::Settles(FinalState::WriteUnknown),
            Outcome::Unknown => Judgement::Waits,
            Outcome::Acked { sent_by_then, .. } => {
                let followed = self.is_ordered && newest > sent_by_then;
                match (overwritten, followed) {
                    (true, true) => Judgement::Visible,
                    (true, false) => Judgement::Settles(FinalState::Superseded),
                    (false, true) if strong && ring.covers(sequence) => Judgement::Settles(FinalState::Lost),
                    (false, _) => Judgement::Waits,
                }
            }
        }
    }

    fn conclude(
        &mut self,
        judgements: Vec<(u64, Judgement)>,
        instance: u32,
        sent_us: u64,
        received_us: u64,
    ) -> Vec<Settled> {
        let of_ring = self.misses.before(instance, sent_us);
        let mut settled = Vec::new();
        for (sequence, judgement) in judgements {
            match judgement {
                Judgement::Waits => {}
                Judgement::Settles(state) => settled.extend(self.settle(sequence, state, Some(sent_us))),
                Judgement::Visible => {
                    let Some(canary) = self.pending.get_mut(&sequence) else {
                        continue;
                    };
                    // A poll that was sent before the canary says nothing about it.
                    let miss_us = of_ring
                        .max(canary.misses.before(instance, sent_us))
                        .filter(|at| *at >= canary.sent_us && !canary.is_overwritten);
                    canary.hit = Some(Hit { received_us, miss_us });
                    if !matches!(canary.outcome, Outcome::InFlight) {
                        settled.extend(self.settle(sequence, FinalState::Seen, None));
                    }
                }
            }
        }
        settled
    }

    /// Takes a canary out and counts it. `unseen_at_us`: when a poll that did not show it was sent.
    fn settle(&mut self, sequence: u64, state: FinalState, unseen_at_us: Option<u64>) -> Option<Settled> {
        let canary = self.pending.remove(&sequence)?;
        self.lookout.forget(sequence);
        let acked_us = match canary.outcome {
            Outcome::Acked { at_us, .. } => Some(at_us),
            Outcome::InFlight | Outcome::Unknown => None,
        };
        if matches!(canary.outcome, Outcome::Unknown) {
            self.accounting.write_unknown -= 1;
        } else {
            self.accounting.pending -= 1;
        }
        let low = |unseen: Option<u64>| acked_us.zip(unseen).map(|(acked, unseen)| unseen.saturating_sub(acked));
        let (count, low_us, low_known) = match state {
            FinalState::Seen => {
                let low = low(canary.hit.and_then(|hit| hit.miss_us));
                (&mut self.accounting.seen, Some(low.unwrap_or(0)), low.is_some())
            }
            FinalState::Lost => (
                &mut self.accounting.lost,
                Some(low(unseen_at_us).unwrap_or(0)),
                unseen_at_us.is_some(),
            ),
            FinalState::Superseded => {
                let low = low(unseen_at_us);
                (&mut self.accounting.superseded, Some(low.unwrap_or(0)), low.is_some())
            }
            FinalState::WriteFailed => (&mut self.accounting.write_failed, None, false),
            FinalState::WriteUnknown => (&mut self.accounting.write_unknown, None, false),
        };
        *count += 1;
        let seen_us = canary.hit.map(|hit| hit.received_us);
        Some(Settled {
            sequence,
            planned_us: canary.planned_us,
            sent_us: canary.sent_us,
            acked_us,
            seen_us,
            low_us,
            high_us: seen_us.map(|at| at.saturating_sub(canary.sent_us)),
            low_known,
            state,
        })
    }

    /// A strong read that did not show what it covered is a miss of every canary that was pending.
    fn note_misses(&mut self, ring: &Ring<'_>, sighting: &Sighting, instance: u32, sent_us: u64) {
        match &sighting.covers {
            Covers::Ring => {
                for (sequence, canary) in &mut self.pending {
                    canary.is_overwritten |= matches!(canary.outcome, Outcome::InFlight) && ring.overwrote(*sequence);
                }
                if sighting.strong {
                    self.misses.note(instance, sent_us);
                }
            }
            Covers::Slots(sequences) => {
                for sequence in sequences {
                    if let Some(canary) = self.pending.get_mut(sequence) {
                        canary.is_overwritten |= ring.overwrote(*sequence);
                        if sighting.strong && canary.hit.is_none() {
                            canary.misses.note(instance, sent_us);
                        }
                    }
                }
            }
        }
    }

    /// When the last strong poll of the whole ring that was answered was sent: what was acknowledged before it and is unseen was
    /// not there then.
    pub fn latest_miss(&self) -> Option<u64> {
        self.misses.latest()
    }

    /// The same for one canary, whose slot may have been read alone.
    fn unseen_at_us(&self, sequence: u64) -> Option<u64> {
        let own = self.pending.get(&sequence)?.misses.latest();
        own.max(self.misses.latest())
    }

    /// Canaries whose slots were read apart from the ring and did not show them, with the instant at which that poll was sent.
    pub fn missed(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pending
            .iter()
            .filter_map(|(sequence, canary)| Some((*sequence, canary.misses.latest()?)))
    }

    /// A poll that was sent after a canary had been seen, and shows its slot as it was before, is a stale read.
    fn note_stale_read(&mut self, ring: &Ring<'_>, newest: u64, sent_us: u64, received_us: u64) {
        if let Some((sequence, seen_us)) = self.newest_hit
            && sent_us >= seen_us
            && ring.covers(sequence)
            && !ring.shows(&self.epoch, sequence)
            && !ring.overwrote(sequence)
        {
            self.stale_reads += 1;
        }
        if newest > self.newest_hit.map_or(0, |(sequence, _)| sequence) {
            self.newest_hit = Some((newest, received_us));
        }
    }

    /// The figures now.
    pub fn accounting(&self) -> Accounting {
        self.accounting
    }

    /// Writes of unknown outcome whose fate is open: they may appear.
    pub(crate) fn unanswered(&self) -> u64 {
        let is_unknown = |canary: &&Pending| matches!(canary.outcome, Outcome::Unknown);
        u64::try_from(self.pending.values().filter(is_unknown).count()).unwrap_or(u64::MAX)
    }

    /// The figures without the canaries whose fate is open: those are taken up by a later epoch.
    pub(crate) fn concluded(&self) -> Accounting {
        let unknown = self.unanswered();
        let open = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        Accounting {
            planned: self.accounting.planned - open,
            pending: self.accounting.pending - (open - unknown),
            write_unknown: self.accounting.write_unknown - unknown,
            ..self.accounting
        }
    }

    /// Polls that showed less than an earlier one had.
    pub fn stale_reads(&self) -> u64 {
        self.stale_reads
    }

    /// Age of the oldest acknowledged canary that is unseen. It grows for as long as replication is dead.
    pub fn oldest_unseen_us(&self, now_us: u64) -> Option<u64> {
        self.waiting().map(|acked| now_us.saturating_sub(acked)).max()
    }

    /// The acknowledgement of the canary that decides when to poll an ordered store: the oldest that waits. In another store each
    /// canary decides for itself.
    pub fn deciding_us(&self) -> Option<u64> {
        self.waiting().next()
    }

    /// Whether an acknowledged canary is unseen.
    pub fn awaits(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// When the next poll is due, the last one having been sent at `last_sent_us`. `None`: nothing acknowledged is unseen. In an
    /// unordered store writes of unknown outcome are looked for as the others are.
    pub fn due_us(&self, polling: &Polling, last_sent_us: Option<u64>) -> Option<u64> {
        if self.is_ordered {
            return self.deciding_us().map(|acked| polling.due_us(acked, last_sent_us));
        }
        let floor = last_sent_us.map_or(0, |last| last.saturating_add(polling.floor_us));
        self.lookout.next_due_us().map(|due| due.max(floor))
    }

    /// What to ask for in a poll that is sent now: no more than [`SOUGHT_MAX`] at a time in an unordered store.
    pub fn wanted(&mut self, polling: &Polling, now_us: u64) -> Wanted {
        self.wanted_of(polling, now_us, SOUGHT_MAX)
    }

    pub(crate) fn wanted_of(&mut self, polling: &Polling, now_us: u64, max: usize) -> Wanted {
        if self.is_ordered {
            Wanted::All
        } else {
            Wanted::Only(self.lookout.take_due(polling, now_us, max))
        }
    }

    /// The highest sequence that left.
    pub fn highest_sent(&self) -> u64 {
        self.highest_sent
    }

    /// Whose canaries these are.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Whether a write of unknown outcome is still watched for.
    pub fn watches_unknown(&self) -> bool {
        self.accounting.write_unknown > 0
            && self
                .pending
                .values()
                .any(|canary| matches!(canary.outcome, Outcome::Unknown))
    }

    /// Acknowledgements of unseen canaries, by sequence.
    fn waiting(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.pending.values().filter_map(|canary| match canary.outcome {
            Outcome::Acked { at_us, .. } if canary.hit.is_none() => Some(at_us),
            _ => None,
        })
    }

    /// The probe ends: unknown writes that never appeared are final. Acknowledged unseen canaries stay pending.
    pub fn close(&mut self) -> Vec<Settled> {
        let unknown: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, canary)| matches!(canary.outcome, Outcome::Unknown))
            .map(|(sequence, _)| *sequence)
            .collect();
        unknown
            .into_iter()
            .filter_map(|sequence| self.settle(sequence, FinalState::WriteUnknown, None))
            .collect()
    }
}

#[cfg(test)]
mod tests;

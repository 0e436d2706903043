//! The one state machine of a route: it alone decides what became of a canary, and all counters derive from it.
//!
//! It is pure: it gets instants from its caller and does no I/O. At every moment
//! planned = skipped + write_failed + write_unknown + pending + seen + lost + superseded.

use std::collections::BTreeMap;

use stores::Sighting;

use crate::FinalState;
use crate::ring::Ring;
use crate::settled::Settled;

/// Canaries kept while they wait; 7 hours of dead replication at 5/s, about 15 MB. Beyond it the oldest are superseded.
pub const PENDING_MAX: usize = 131_072;

/// Instances of the secondary whose last miss is remembered (replicas behind one endpoint). Beyond it the one that answered
/// longest ago is forgotten, which can only make a low end unknown.
pub const INSTANCES_MAX: usize = 16;

/// What became of all canaries so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accounting {
    /// Slots of the schedule that have passed.
    pub planned: u64,
    /// Slots in which nothing was sent.
    pub skipped: u64,
    /// Certainly not written.
    pub write_failed: u64,
    /// Sent with unknown outcome and not seen (so far: one that appears later becomes seen).
    pub write_unknown: u64,
    /// Under way, or acknowledged and unseen.
    pub pending: u64,
    /// Visible at the secondary.
    pub seen: u64,
    /// Acknowledged, and proved never to arrive.
    pub lost: u64,
    /// Overwritten in its slot before it was seen.
    pub superseded: u64,
}

impl Accounting {
    /// Whether every planned slot is accounted for, once.
    pub fn holds(&self) -> bool {
        self.planned
            == self.skipped
                + self.write_failed
                + self.write_unknown
                + self.pending
                + self.seen
                + self.lost
                + self.superseded
    }
}

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
}

/// What a poll means for one pending canary.
enum Judgement {
    Waits,
    Visible,
    Settles(FinalState),
}

/// The state machine of one route in one epoch.
#[derive(Debug)]
pub struct Tracker {
    epoch: String,
    is_ordered: bool,
    ring_slots: u64,
    pending_max: usize,
    pending: BTreeMap<u64, Pending>,
    accounting: Accounting,
    highest_sent: u64,
    /// (instance, when its last strong poll was sent), the most recent last.
    misses: Vec<(String, u64)>,
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
            misses: Vec::new(),
            newest_hit: None,
            stale_reads: 0,
        }
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
            self.settle(sequence, state, self.latest_miss())
        })
    }

    /// The primary acknowledged it. Returns its final word when it had been seen already.
    pub fn acked(&mut self, sequence: u64, at_us: u64) -> Option<Settled> {
        let sent_by_then = self.highest_sent;
        self.write_ended(sequence, Outcome::Acked { at_us, sent_by_then })
    }

    /// The write ended with unknown outcome. It stays watched for: if it appears, it is seen.
    pub fn unknown(&mut self, sequence: u64) -> Option<Settled> {
        self.write_ended(sequence, Outcome::Unknown)
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

    fn write_ended(&mut self, sequence: u64, outcome: Outcome) -> Option<Settled> {
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
        None
    }

    /// A poll was sent, answered, and showed `sighting`. Returns the final words that it allows.
    pub fn polled(&mut self, sighting: &Sighting, sent_us: u64, received_us: u64) -> Vec<Settled> {
        let ring = Ring::new(sighting, self.ring_slots);
        let newest = ring.newest(&self.epoch).min(self.highest_sent);
        let judgements: Vec<(u64, Judgement)> = self
            .pending
            .iter()
            .map(|(sequence, canary)| (*sequence, self.judge(&ring, *sequence, canary, newest, sighting.strong)))
            .filter(|(_, judgement)| !matches!(judgement, Judgement::Waits))
            .collect();
        let settled = self.conclude(judgements, sighting, sent_us, received_us);
        self.note_stale_read(&ring, newest, sent_us, received_us);
        if sighting.strong {
            self.note_miss(&sighting.instance, sent_us);
        }
        settled
    }

    /// The secondary was promoted; `survivors` is its ring, read after the promotion. Acknowledged canaries that are not there
    /// are lost, whatever the order of the store; unknown ones that are not there stay unknown for good.
    pub fn promoted(&mut self, survivors: &Sighting, sent_us: u64, received_us: u64) -> Vec<Settled> {
        let ring = Ring::new(survivors, self.ring_slots);
        let newest = ring.newest(&self.epoch).min(self.highest_sent);
        let judgements: Vec<(u64, Judgement)> = self
            .pending
            .iter()
            .map(|(sequence, canary)| {
                let judgement = match self.judge(&ring, *sequence, canary, newest, true) {
                    Judgement::Waits => match canary.outcome {
                        Outcome::InFlight => Judgement::Waits,
                        Outcome::Acked { .. } => Judgement::Settles(FinalState::Lost),
                        Outcome::Unknown => Judgement::Settles(FinalState::WriteUnknown),
                    },
                    other => other,
                };
                (*sequence, judgement)
            })
            .filter(|(_, judgement)| !matches!(judgement, Judgement::Waits))
            .collect();
        self.conclude(judgements, survivors, sent_us, received_us)
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
                    (false, true) if strong => Judgement::Settles(FinalState::Lost),
                    (false, _) => Judgement::Waits,
                }
            }
        }
    }

    fn conclude(
        &mut self,
        judgements: Vec<(u64, Judgement)>,
        sighting: &Sighting,
        sent_us: u64,
        received_us: u64,
    ) -> Vec<Settled> {
        let miss_us = self
            .misses
            .iter()
            .find(|(instance, _)| *instance == sighting.instance)
            .map(|(_, at)| *at);
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
                    let miss_us = miss_us.filter(|at| *at >= canary.sent_us);
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

    fn note_miss(&mut self, instance: &str, sent_us: u64) {
        let name = match self.misses.iter().position(|(known, _)| known == instance) {
            Some(index) => self.misses.remove(index).0,
            None => instance.to_owned(),
        };
        if self.misses.len() >= INSTANCES_MAX {
            self.misses.remove(0);
        }
        self.misses.push((name, sent_us));
    }

    /// When the last strong poll that was answered was sent: what was acknowledged before it and is unseen was not there then.
    pub fn latest_miss(&self) -> Option<u64> {
        self.misses.last().map(|(_, at)| *at)
    }

    /// A poll that was sent after a canary had been seen, and shows its slot as it was before, is a stale read.
    fn note_stale_read(&mut self, ring: &Ring<'_>, newest: u64, sent_us: u64, received_us: u64) {
        if let Some((sequence, seen_us)) = self.newest_hit
            && sent_us >= seen_us
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

    /// Polls that showed less than an earlier one had.
    pub fn stale_reads(&self) -> u64 {
        self.stale_reads
    }

    /// Age of the oldest acknowledged canary that is unseen. It grows for as long as replication is dead.
    pub fn oldest_unseen_us(&self, now_us: u64) -> Option<u64> {
        self.waiting().map(|acked| now_us.saturating_sub(acked)).max()
    }

    /// The acknowledgement of the canary that decides when to poll: the oldest that waits in an ordered store, the youngest
    /// in another.
    pub fn deciding_us(&self) -> Option<u64> {
        if self.is_ordered {
            self.waiting().next()
        } else {
            self.waiting().next_back()
        }
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

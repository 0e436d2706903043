//! Measured RPO: what the ledger says was acknowledged, against what the promoted end has.
//!
//! The true loss in time lies in [last lost ack - first lost ack, cut-over - w0 of the newest survivor]: canaries are samples of
//! all writes, so the loss is at least as long as the span of lost ones, and at most as long as from the newest write known to
//! have survived. Zero loss is never proved by canaries.

use stores::{Canary, Sighting};

use crate::ledger::{LedgerError, LedgerFile};
use crate::replay::{Replayed, WriteFate, Written, replay};
use crate::ring::Ring;
use crate::{FinalState, LagSample, LossShape, Route, Rpo};

/// Lost and unknown canaries that are listed; beyond it they are only counted.
pub const LOST_LISTED_MAX: usize = 100_000;

/// What is asked.
#[derive(Debug, Clone)]
pub struct RpoQuestion<'a> {
    /// The route, as it was before the event.
    pub route: &'a Route,
    /// The event.
    pub event_id: &'a str,
    /// The ledgers of the route's stream, oldest epoch first, as [`crate::ledgers`] gives them.
    pub ledgers: &'a [LedgerFile],
    /// The ring of the stream at the promoted end, read after the promotion.
    pub survivors: &'a Sighting,
    /// Slots of the ring.
    pub ring_slots: u64,
    /// Whether a survivor proves all canaries that were acknowledged before it was sent.
    pub is_ordered: bool,
    /// When writes moved.
    pub cut_over: CutOver,
}

/// The instants of the event that bound the loss, microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CutOver {
    /// When the new site was promoted.
    pub promoted_at_us: Option<i64>,
    /// When applications wrote to the new site.
    pub traffic_shifted_at_us: Option<i64>,
}

/// Judges what one event cost on one route. `None`: there is no ledger, so nothing can be said.
///
/// Epochs are judged from the newest back to the first one that has a survivor: older ones are before it. Canaries that were
/// acknowledged at the old primary after the promotion are lost too. Memory does not grow with the ledger.
///
/// # Errors
/// A ledger cannot be read or is corrupt. A torn tail is no error: `ledger_complete_until_us` tells how far it reaches.
pub fn judge_rpo(question: &RpoQuestion<'_>) -> Result<Option<Rpo>, LedgerError> {
    let mut tally = Tally::default();
    let mut newest: Option<Replayed> = None;
    for file in question.ledgers.iter().rev() {
        let replayed = replay(&file.path, |_| {})?;
        let survivors = with_ring_of_ledger(question.survivors, &replayed);
        let ring = Ring::new(&survivors, question.ring_slots);
        let mut epoch = EpochTally {
            question,
            ring: &ring,
            replayed: &replayed,
            newest_survivor_us: None,
            newer_survived: tally.newest_survivor_at_us.is_some(),
        };
        replay(&file.path, |canary| epoch.find_survivor(canary))?;
        replay(&file.path, |canary| epoch.judge(canary, &mut tally))?;
        let survivor = epoch.newest_survivor_us.map(|at| replayed.origin.anchor.wall(at));
        tally.newest_survivor_at_us = tally.newest_survivor_at_us.max(survivor);
        newest.get_or_insert(replayed);
        if survivor.is_some() {
            break;
        }
    }
    Ok(newest.map(|newest| tally.rpo(question, &newest)))
}

/// The survivors that were asked for now, and those that the probe saw right after the promotion.
fn with_ring_of_ledger(now: &Sighting, replayed: &Replayed) -> Sighting {
    let mut survivors = now.clone();
    if let Some((_, _, canaries)) = &replayed.ring {
        survivors.canaries.extend(canaries.iter().cloned());
    }
    survivors.canaries.sort_unstable_by(|a: &Canary, b: &Canary| {
        (a.sequence, &a.epoch, &a.stream).cmp(&(b.sequence, &b.epoch, &b.stream))
    });
    survivors.canaries.dedup();
    survivors
}

/// Counts over all judged epochs.
#[derive(Debug, Default)]
struct Tally {
    acked: u64,
    survived: u64,
    lost: u64,
    unknown: u64,
    first_lost_at_us: Option<i64>,
    last_lost_at_us: Option<i64>,
    /// Not after w0 of the newest survivor.
    newest_survivor_at_us: Option<i64>,
    has_holes: bool,
    listed: Vec<LagSample>,
}

/// One epoch under judgement.
struct EpochTally<'a> {
    question: &'a RpoQuestion<'a>,
    ring: &'a Ring<'a>,
    replayed: &'a Replayed,
    newest_survivor_us: Option<u64>,
    newer_survived: bool,
}

impl EpochTally<'_> {
    fn find_survivor(&mut self, canary: &Written) {
        if canary.outcome != WriteFate::Failed && self.ring.shows(&self.replayed.origin.epoch, canary.sequence) {
            self.newest_survivor_us = self.newest_survivor_us.max(Some(canary.sent_not_before_us()));
        }
    }

    /// Whether a survivor was sent after this instant.
    fn is_followed(&self, acked_us: u64) -> bool {
        self.newer_survived || self.newest_survivor_us.is_some_and(|sent| sent >= acked_us)
    }

    fn was_overwritten_by_us(&self, sequence: u64) -> bool {
        let ledgers = self.question.ledgers;
        self.ring
            .was_overwritten_by(sequence, |epoch| ledgers.iter().any(|file| file.origin.epoch == epoch))
    }

    fn judge(&self, canary: &Written, tally: &mut Tally) {
        let epoch = &self.replayed.origin.epoch;
        let is_there = self.ring.shows(epoch, canary.sequence);
        let is_overwritten = self.ring.overwrote(canary.sequence);
        match canary.outcome {
            WriteFate::Failed => {}
            WriteFate::Unknown if is_there => {}
            // Had it been written, then before the survivor that took its slot: it is not lost.
            WriteFate::Unknown if self.question.is_ordered && self.was_overwritten_by_us(canary.sequence) => {}
            WriteFate::Unknown => self.unknown(canary, tally),
            WriteFate::Acked(acked_us) => {
                tally.acked += 1;
                if is_there || (is_overwritten && self.question.is_ordered && self.is_followed(acked_us)) {
                    tally.survived += 1;
                } else if is_overwritten {
                    self.unknown(canary, tally);
                } else {
                    self.lost(canary, acked_us, tally);
                }
            }
        }
    }

    fn unknown(&self, canary: &Written, tally: &mut Tally) {
        tally.unknown += 1;
        self.list(canary, FinalState::WriteUnknown, tally);
    }

    fn lost(&self, canary: &Written, acked_us: u64, tally: &mut Tally) {
        let acked_at = self.replayed.origin.anchor.wall(acked_us);
        tally.lost += 1;
        tally.first_lost_at_us = Some(tally.first_lost_at_us.map_or(acked_at, |first| first.min(acked_at)));
        tally.last_lost_at_us = tally.last_lost_at_us.max(Some(acked_at));
        tally.has_holes |= self.is_followed(acked_us);
        self.list(canary, FinalState::Lost, tally);
    }

    fn list(&self, canary: &Written, state: FinalState, tally: &mut Tally) {
        if tally.listed.len() >= LOST_LISTED_MAX {
            return;
        }
        let origin = &self.replayed.origin;
        let acked_us = match canary.outcome {
            WriteFate::Acked(at) => Some(at),
            WriteFate::Failed | WriteFate::Unknown => None,
        };
        tally.listed.push(LagSample {
            route: origin.route.clone(),
            stream: origin.stream.clone(),
            epoch: origin.epoch.clone(),
            sequence: canary.sequence,
            planned_at_us: origin.anchor.wall(canary.planned_us),
            sent_at_us: canary.sent_us.map(|at| origin.anchor.wall(at)),
            acked_at_us: acked_us.map(|at| origin.anchor.wall(at)),
            seen_at_us: None,
            lag_low_us: None,
            lag_high_us: None,
            low_known: false,
            write_us: acked_us
                .zip(canary.sent_us)
                .map(|(acked, sent)| acked.saturating_sub(sent)),
            late_us: canary.sent_us.map(|sent| sent.saturating_sub(canary.planned_us)),
            clock: "monotonic".to_owned(),
            clock_error_us: 0,
            state,
        });
    }
}

impl Tally {
    fn rpo(self, question: &RpoQuestion<'_>, newest: &Replayed) -> Rpo {
        let low = self
            .first_lost_at_us
            .zip(self.last_lost_at_us)
            .map_or(0, |(first, last)| u64::try_from(last - first).unwrap_or(0));
        let stated = question
            .cut_over
            .traffic_shifted_at_us
            .or(question.cut_over.promoted_at_us);
        let cut_over = stated.max(self.last_lost_at_us);
        let high = cut_over
            .zip(self.newest_survivor_at_us)
            .map(|(cut_over, survivor)| u64::try_from(cut_over - survivor).unwrap_or(0).max(low));
        let shape = match (self.lost, question.is_ordered, self.has_holes) {
            (0, _, _) => LossShape::None,
            (_, false, _) => LossShape::Scattered,
            (_, true, true) => LossShape::Holes,
            (_, true, false) => LossShape::Suffix,
        };
        Rpo {
            route: question.route.clone(),
            event_id: question.event_id.to_owned(),
            epoch: newest.origin.epoch.clone(),
            acked: self.acked,
            survived: self.survived,
            lost: self.lost,
            unknown: self.unknown,
            first_lost_at_us: self.first_lost_at_us,
            last_lost_at_us: self.last_lost_at_us,
            rpo_low_us: low,
            rpo_high_us: high,
            ledger_complete_until_us: newest.origin.anchor.wall(newest.complete_until_us),
            shape,
            canaries: self.listed,
        }
    }
}

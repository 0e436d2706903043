//! Measured RPO: what the ledger says was acknowledged, against what the promoted end has.
//!
//! The true loss in time lies in [last lost ack - first lost ack, cut-over - w0 of the newest survivor]: canaries are samples of
//! all writes, so the loss is at least as long as the span of lost ones, and at most as long as from the newest write known to
//! have survived. Where losses lie among survivors (holes, scattered), a survivor bounds only what was acknowledged after it: the upper
//! end then reaches back to the newest survivor that was sent before the first canary that is, or may be, lost. Zero loss is never proved
//! by canaries.

mod merge;

use std::collections::BTreeMap;

use stores::{Canary, Covers, Sighting};

use crate::ledger::{EpochLedger, LedgerError, WriteFate, Written};
use crate::replay::{KeptRing, Replayed, replay};
use crate::ring::Ring;
use crate::settled::Origin;
use crate::{FinalState, LagSample, LossShape, Route, Rpo};

pub use merge::{MergedRpo, merge_rpos};

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
    pub ledgers: &'a [EpochLedger],
    /// The ring of the stream at the promoted end, read after the promotion. What it does not cover is unknown: neither lost nor survived.
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
/// In an ordered store epochs are judged from the newest back to the first one with a survivor that bounds the loss: older ones are before
/// it. In an unordered store all are judged, since a survivor proves nothing about others. Canaries that were acknowledged at the old
/// primary after the promotion are lost too. Memory does not grow with the ledger.
///
/// # Errors
/// A ledger cannot be read or is corrupt. A torn tail is no error: `ledger_complete_until_us` tells how far it reaches.
pub fn judge_rpo(question: &RpoQuestion<'_>) -> Result<Option<Rpo>, LedgerError> {
    let mut tally = Tally::default();
    let mut newest: Option<Replayed> = None;
    let mut judged = 0;
    let mut fates = Fates::new();
    for ledger in question.ledgers.iter().rev() {
        let newer_survived = tally.newest_survivor_at_us.is_some();
        let replayed = verdicts(question, ledger, (newer_survived, &fates), |said| tally.count(&said))?;
        for (epoch, told) in &replayed.earlier {
            fates.entry(epoch.clone()).or_default().extend(told);
        }
        newest.get_or_insert(replayed);
        judged += 1;
        let survived_before_doubt = tally.oldest_survivor_at_us.is_some_and(|at| tally.is_before_doubt(at));
        if question.is_ordered && survived_before_doubt {
            break;
        }
    }
    if tally.newest_survivor_at_us.is_some_and(|at| tally.is_before_doubt(at)) {
        tally.bounding_survivor_at_us = tally.newest_survivor_at_us;
    } else {
        for (age, ledger) in question.ledgers.iter().rev().take(judged).enumerate() {
            verdicts(question, ledger, (age > 0, &fates), |said| tally.bound(&said))?;
        }
    }
    Ok(newest.map(|newest| tally.rpo(question, &newest)))
}

/// What the ledgers of newer epochs say of canaries that an epoch left open.
type Fates = BTreeMap<String, BTreeMap<u64, FinalState>>;

/// What became of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It was acknowledged, and is there or was proved to have been.
    Survived,
    /// It was acknowledged at this instant and is gone.
    Lost(u64),
    /// It was acknowledged at this instant, and nothing shows whether it is there.
    MayBeLost(u64),
    /// Its write had an unknown outcome, and it is not there.
    MayBeWritten,
}

/// A verdict and what it is about.
struct Said<'a> {
    canary: &'a Written,
    origin: &'a Origin,
    verdict: Verdict,
    /// A survivor was sent after it was acknowledged.
    is_followed: bool,
}

impl Said<'_> {
    /// Not after w0.
    fn sent_at_us(&self) -> i64 {
        self.origin.anchor.wall(self.canary.sent_not_before_us())
    }
}

/// Judges the canaries of one epoch. Those whose writes failed have no verdict.
fn verdicts(
    question: &RpoQuestion<'_>,
    ledger: &EpochLedger,
    (newer_survived, fates): (bool, &Fates),
    mut visit: impl FnMut(Said<'_>),
) -> Result<Replayed, LedgerError> {
    let replayed = replay(ledger, |_| {})?;
    let survivors = with_ring_of_ledger(question.survivors, replayed.ring.as_ref());
    let mut epoch = EpochJudge {
        question,
        ring: Ring::new(&survivors, question.ring_slots),
        covered: Covered::by(question, replayed.ring.as_ref()),
        origin: &replayed.origin,
        newest_survivor_us: None,
        newer_survived,
    };
    replay(ledger, |canary| epoch.find_survivor(canary))?;
    let told_later = fates.get(&replayed.origin.epoch);
    replay(ledger, |canary| {
        let told_later = || told_later?.get(&canary.sequence).copied();
        let canary = &Written {
            fate: canary.fate.or_else(told_later),
            ..*canary
        };
        if let Some(verdict) = epoch.judge(canary) {
            visit(Said {
                canary,
                origin: epoch.origin,
                verdict,
                is_followed: matches!(verdict, Verdict::Lost(acked_us) if epoch.is_followed(acked_us)),
            });
        }
    })?;
    Ok(replayed)
}

/// The survivors that were asked for now, and those that the probe saw around the promotion.
fn with_ring_of_ledger(now: &Sighting, kept: Option<&KeptRing>) -> Sighting {
    let mut survivors = now.clone();
    if let Some(kept) = kept {
        survivors.canaries.extend(kept.canaries.iter().cloned());
    }
    survivors.canaries.sort_unstable_by(|a: &Canary, b: &Canary| {
        (a.sequence, &a.epoch, &a.stream).cmp(&(b.sequence, &b.epoch, &b.stream))
    });
    survivors.canaries.dedup();
    survivors
}

/// Which sequences were looked for at the promoted end.
#[derive(Debug)]
enum Covered {
    All,
    /// Sorted.
    Only(Vec<u64>),
}

impl Covered {
    /// In an unordered store only the look of now tells what is absent: what was absent before may have arrived since.
    fn by(question: &RpoQuestion<'_>, kept: Option<&KeptRing>) -> Self {
        let mut only = match &question.survivors.covers {
            Covers::Ring => return Self::All,
            Covers::Slots(slots) => slots.clone(),
        };
        if let Some(kept) = kept.filter(|_| question.is_ordered) {
            match &kept.covers {
                Covers::Ring => return Self::All,
                Covers::Slots(slots) => only.extend(slots),
            }
        }
        only.sort_unstable();
        Self::Only(only)
    }

    fn has(&self, sequence: u64) -> bool {
        match self {
            Self::All => true,
            Self::Only(sequences) => sequences.binary_search(&sequence).is_ok(),
        }
    }
}

/// One epoch under judgement.
struct EpochJudge<'a> {
    question: &'a RpoQuestion<'a>,
    ring: Ring<'a>,
    covered: Covered,
    origin: &'a Origin,
    newest_survivor_us: Option<u64>,
    newer_survived: bool,
}

impl EpochJudge<'_> {
    fn find_survivor(&mut self, canary: &Written) {
        if canary.outcome != WriteFate::Failed && self.ring.shows(&self.origin.epoch, canary.sequence) {
            self.newest_survivor_us = self.newest_survivor_us.max(Some(canary.sent_not_before_us()));
        }
    }

    /// Whether a survivor was sent after this instant.
    fn is_followed(&self, acked_us: u64) -> bool {
        self.newer_survived || self.newest_survivor_us.is_some_and(|sent| sent >= acked_us)
    }

    fn was_overwritten_by_us(&self, sequence: u64) -> bool {
        let ledgers = self.question.ledgers;
        self.ring.was_overwritten_by(sequence, |epoch| {
            ledgers.iter().any(|ledger| ledger.origin.epoch == epoch)
        })
    }

    fn judge(&self, canary: &Written) -> Option<Verdict> {
        let is_there = self.ring.shows(&self.origin.epoch, canary.sequence);
        match canary.outcome {
            WriteFate::Failed => None,
            WriteFate::Unknown if is_there || self.is_gone_after_arrival(canary) => None,
            // Had it been written, then before the survivor that took its slot: it is not lost.
            WriteFate::Unknown if self.question.is_ordered && self.was_overwritten_by_us(canary.sequence) => None,
            WriteFate::Unknown => Some(Verdict::MayBeWritten),
            WriteFate::Acked(_) if is_there => Some(Verdict::Survived),
            WriteFate::Acked(acked_us) => Some(self.judge_absent(canary, acked_us)),
        }
    }

    fn judge_absent(&self, canary: &Written, acked_us: u64) -> Verdict {
        let is_ordered = self.question.is_ordered;
        let is_covered = self.covered.has(canary.sequence);
        // The probe had the ring at hand before it was overwritten.
        let was_proved_lost = canary.fate == Some(FinalState::Lost);
        if was_proved_lost && (is_ordered || is_covered) {
            return Verdict::Lost(acked_us);
        }
        if !is_covered {
            return Verdict::MayBeLost(acked_us);
        }
        if !self.ring.overwrote(canary.sequence) {
            return Verdict::Lost(acked_us);
        }
        if (is_ordered && self.is_followed(acked_us)) || self.is_gone_after_arrival(canary) {
            return Verdict::Survived;
        }
        Verdict::MayBeLost(acked_us)
    }

    /// Whether it had arrived at the secondary before a later one took its slot there. Told only of unordered stores, where one site is one
    /// copy: behind the endpoint of an ordered one may be a replica that was not promoted.
    fn is_gone_after_arrival(&self, canary: &Written) -> bool {
        !self.question.is_ordered
            && canary.fate == Some(FinalState::Seen)
            && self.covered.has(canary.sequence)
            && self.ring.overwrote(canary.sequence)
    }
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
    /// When the first acknowledged canary was acknowledged that is, or may be, lost.
    first_doubt_at_us: Option<i64>,
    /// Not after w0 of the newest survivor.
    newest_survivor_at_us: Option<i64>,
    oldest_survivor_at_us: Option<i64>,
    /// The newest survivor before the first doubt.
    bounding_survivor_at_us: Option<i64>,
    has_holes: bool,
    listed: Vec<LagSample>,
}

impl Tally {
    fn count(&mut self, said: &Said<'_>) {
        self.acked += u64::from(said.verdict != Verdict::MayBeWritten);
        match said.verdict {
            Verdict::Survived => {
                let sent_at = said.sent_at_us();
                self.survived += 1;
                self.newest_survivor_at_us = self.newest_survivor_at_us.max(Some(sent_at));
                self.oldest_survivor_at_us = earlier(self.oldest_survivor_at_us, sent_at);
            }
            Verdict::Lost(acked_us) => {
                let acked_at = said.origin.anchor.wall(acked_us);
                self.lost += 1;
                self.first_lost_at_us = earlier(self.first_lost_at_us, acked_at);
                self.last_lost_at_us = self.last_lost_at_us.max(Some(acked_at));
                self.first_doubt_at_us = earlier(self.first_doubt_at_us, acked_at);
                self.has_holes |= said.is_followed;
                self.list(said, FinalState::Lost);
            }
            Verdict::MayBeLost(acked_us) => {
                let acked_at = said.origin.anchor.wall(acked_us);
                self.unknown += 1;
                self.first_doubt_at_us = earlier(self.first_doubt_at_us, acked_at);
                self.list(said, FinalState::WriteUnknown);
            }
            Verdict::MayBeWritten => {
                self.unknown += 1;
                self.list(said, FinalState::WriteUnknown);
            }
        }
    }

    fn is_before_doubt(&self, survivor_at_us: i64) -> bool {
        self.first_doubt_at_us.is_none_or(|doubt| survivor_at_us < doubt)
    }

    fn bound(&mut self, said: &Said<'_>) {
        let sent_at = said.sent_at_us();
        if said.verdict == Verdict::Survived && self.is_before_doubt(sent_at) {
            self.bounding_survivor_at_us = self.bounding_survivor_at_us.max(Some(sent_at));
        }
    }

    fn list(&mut self, said: &Said<'_>, state: FinalState) {
        if self.listed.len() >= LOST_LISTED_MAX {
            return;
        }
        let Said { canary, origin, .. } = *said;
        let acked_us = match canary.outcome {
            WriteFate::Acked(at) => Some(at),
            WriteFate::Failed | WriteFate::Unknown => None,
        };
        self.listed.push(LagSample {
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
            .zip(self.bounding_survivor_at_us)
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

fn earlier(one: Option<i64>, other: i64) -> Option<i64> {
    Some(one.map_or(other, |one| one.min(other)))
}

//! What a watcher learns of canaries that another process writes: when they arrived, and by their stamps how long that took.
//!
//! It is pure. A watcher does not know what was written, so it tells of arrivals alone: what never arrives it cannot tell from what
//! was never written.

use std::collections::{BTreeMap, BTreeSet};

use stores::{Canary, Covers, Sighting, Stamp};

use crate::two_clock::{Crossed, Crossing};

/// Arrivals that wait for the word on their acknowledgement, which a later canary brings.
pub(crate) const WAITING_MAX: usize = 1_024;

/// After this long the word is not waited for any more: the low end is then not known. Longer than the gap of the rarest usual schedule.
pub(crate) const WAIT_US: i64 = 60_000_000;

/// A poll that was answered. Instants are of the watcher's wall clock.
#[derive(Debug, Clone)]
struct Poll {
    sent_at_us: i64,
    instance: String,
    covers: Covers,
    /// How far the watcher's clock may have been off.
    error_us: Option<u64>,
}

/// A canary that was not there before.
#[derive(Debug, Clone)]
struct Arrived {
    epoch: String,
    stamp: Option<Stamp>,
    /// When the last poll that did not show it was sent, and how far the watcher's clock was off at most.
    miss: Option<(i64, u64)>,
    seen_at_us: i64,
    /// How far the watcher's clock may be off.
    error_us: Option<u64>,
    /// When it was acknowledged, and how far the writer's clock was off at most when it said so.
    acked: Option<(i64, u64)>,
}

/// What is known of one canary in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) epoch: String,
    pub(crate) sequence: u64,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) acked_at_us: Option<i64>,
    pub(crate) seen_at_us: i64,
    /// Both clocks together are off by no more than this; `None`: nobody says.
    pub(crate) error_us: Option<u64>,
    /// Whether the low end rests on a miss and an acknowledgement.
    pub(crate) low_known: bool,
    /// The lag; `None`: without a stamp, or a bound, there is none.
    pub(crate) lag: Option<Crossed>,
}

/// The arrivals of one stream.
#[derive(Debug)]
pub(crate) struct Arrivals {
    ring_slots: u64,
    has_begun: bool,
    highest: u64,
    known: BTreeSet<u64>,
    last: Option<Poll>,
    waiting: BTreeMap<u64, Arrived>,
}

impl Arrivals {
    pub(crate) fn new(ring_slots: u64) -> Self {
        Self {
            ring_slots,
            has_begun: false,
            highest: 0,
            known: BTreeSet::new(),
            last: None,
            waiting: BTreeMap::new(),
        }
    }

    /// The highest sequence that was seen; `None` before the whole ring was read once.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.has_begun.then_some(self.highest)
    }

    /// Whether this canary has arrived.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        self.known.contains(&sequence)
    }

    /// A poll was answered. Returns the sequences that arrived. What was there when the watcher began arrived nobody knows when.
    pub(crate) fn polled(
        &mut self,
        sighting: &Sighting,
        sent_at_us: i64,
        received_at_us: i64,
        error_us: Option<u64>,
    ) -> Vec<u64> {
        let mut arrived = Vec::new();
        let is_first = !self.has_begun;
        self.has_begun |= sighting.covers == Covers::Ring;
        let horizon = self.highest.saturating_sub(2 * self.ring_slots);
        for canary in &sighting.canaries {
            let is_new = canary.sequence > horizon && self.known.insert(canary.sequence);
            self.highest = self.highest.max(canary.sequence);
            if is_new && !is_first {
                arrived.push(canary.sequence);
                let miss = self
                    .last
                    .as_ref()
                    .filter(|last| last.instance == sighting.instance && last.covers.has(canary.sequence));
                let arrival = Arrived {
                    epoch: canary.epoch.clone(),
                    stamp: canary.stamp,
                    miss: miss.and_then(|last| Some((last.sent_at_us, last.error_us?))),
                    seen_at_us: received_at_us,
                    error_us,
                    acked: None,
                };
                self.waiting.insert(canary.sequence, arrival);
            }
        }
        for canary in &sighting.canaries {
            self.take_word(canary);
        }
        if sighting.strong {
            self.last = Some(Poll {
                sent_at_us,
                instance: sighting.instance.clone(),
                covers: sighting.covers.clone(),
                error_us,
            });
        }
        self.known = self.known.split_off(&self.highest.saturating_sub(2 * self.ring_slots));
        arrived
    }

    /// A canary tells when an earlier one of its epoch was acknowledged.
    fn take_word(&mut self, canary: &Canary) {
        let Some((stamp, before)) = canary.stamp.and_then(|stamp| Some((stamp, stamp.before?))) else {
            return;
        };
        if let Some(earlier) = self.waiting.get_mut(&before.sequence)
            && earlier.epoch == canary.epoch
        {
            earlier.acked = Some((before.acked_at_us, stamp.error_us));
        }
    }

    /// Readings about which there is nothing more to wait for; at the end, all of them.
    pub(crate) fn settle(&mut self, wall_us: i64, is_end: bool) -> Vec<Reading> {
        let crowded = self.waiting.len().saturating_sub(WAITING_MAX);
        let oldest_left = self.waiting.keys().nth(crowded).copied().unwrap_or(u64::MAX);
        let settled = self.waiting.extract_if(.., |sequence, one| {
            is_end
                || one.acked.is_some()
                || one.stamp.is_none()
                || one.error_us.is_none()
                || wall_us.saturating_sub(one.seen_at_us) > WAIT_US
                || *sequence < oldest_left && crowded > 0
        });
        settled.map(|(sequence, one)| one.reading(sequence)).collect()
    }
}

impl Arrived {
    fn reading(self, sequence: u64) -> Reading {
        let low = self.miss.zip(self.acked);
        let of_writer = self
            .stamp
            .map(|stamp| stamp.error_us.max(self.acked.map_or(0, |(_, error)| error)));
        let error_us = self
            .error_us
            .zip(of_writer)
            .map(|(own, writers)| own.max(self.miss.map_or(0, |(_, error)| error)).saturating_add(writers));
        let lag = self.stamp.zip(error_us).map(|(stamp, error_us)| {
            Crossing {
                low_us: low.map(|((miss, _), (acked, _))| miss.saturating_sub(acked)),
                high_us: self.seen_at_us.saturating_sub(stamp.sent_at_us),
                error_us,
            }
            .judge()
        });
        Reading {
            epoch: self.epoch,
            sequence,
            stamp: self.stamp,
            acked_at_us: self.acked.map(|(acked, _)| acked),
            seen_at_us: self.seen_at_us,
            error_us,
            low_known: low.is_some(),
            lag,
        }
    }
}

#[cfg(test)]
mod tests {
    use stores::{AckedBefore, Oddities};

    use super::*;

    fn canary(sequence: u64, sent_at_us: i64, before: Option<(u64, i64)>) -> Canary {
        Canary {
            stream: "s".to_owned(),
            epoch: "e".to_owned(),
            sequence,
            stamp: Some(Stamp {
                sent_at_us,
                error_us: 100,
                before: before.map(|(sequence, acked_at_us)| AckedBefore { sequence, acked_at_us }),
            }),
        }
    }

    fn shows(canaries: Vec<Canary>, instance: &str) -> Sighting {
        Sighting {
            canaries,
            instance: instance.to_owned(),
            strong: true,
            covers: Covers::Ring,
            oddities: Oddities::default(),
        }
    }

    #[test]
    fn a_later_canary_brings_the_word_that_the_low_end_needs() {
        let mut arrivals = Arrivals::new(64);
        let old = canary(1, 0, None);
        assert!(
            arrivals
                .polled(&shows(vec![old.clone()], "a"), 900, 1_000, Some(50))
                .is_empty()
        );
        assert!(arrivals.settle(1_000, false).is_empty(), "there before us: no reading");
        let polled = shows(vec![old.clone(), canary(2, 1_500, None)], "a");
        assert_eq!(arrivals.polled(&polled, 9_000, 10_000, Some(50)), [2]);
        assert!(arrivals.settle(10_000, false).is_empty(), "it waits for the word");
        let third = canary(3, 11_000, Some((2, 1_800)));
        assert_eq!(
            arrivals.polled(
                &shows(vec![canary(2, 1_500, None), third], "a"),
                12_000,
                13_000,
                Some(50)
            ),
            [3]
        );
        let settled = arrivals.settle(13_000, false);
        assert_eq!(settled.len(), 1, "{settled:?}");
        // Missed by the poll that was sent at 900, before it was acknowledged: at least 0. At most 8,500 + 150.
        let within = Crossed::Within {
            low_us: 0,
            high_us: 8_650,
        };
        assert_eq!(
            (settled[0].sequence, settled[0].lag, settled[0].low_known),
            (2, Some(within), true)
        );
        let rest = arrivals.settle(13_000, true);
        assert_eq!((rest[0].sequence, rest[0].low_known), (3, false));
    }

    #[test]
    fn a_miss_of_another_instance_or_of_other_slots_proves_nothing() {
        let low_known = |before: Sighting, then: Sighting| {
            let mut arrivals = Arrivals::new(64);
            arrivals.polled(&shows(vec![], "a"), 0, 10, Some(50));
            arrivals.polled(&before, 5_000, 5_010, Some(50));
            arrivals.polled(&then, 6_000, 6_010, Some(50));
            let later = canary(3, 6_500, Some((2, 1_200)));
            arrivals.polled(&shows(vec![later], "a"), 7_000, 7_010, Some(50));
            let settled = arrivals.settle(7_010, false);
            (settled[0].low_known, settled[0].lag)
        };
        let two = || canary(2, 1_000, None);
        let known = low_known(shows(vec![], "a"), shows(vec![two()], "a"));
        let within = |low_us| Some(Crossed::Within { low_us, high_us: 5_160 });
        assert_eq!(known, (true, within(3_650)));
        assert_eq!(
            low_known(shows(vec![], "b"), shows(vec![two()], "a")),
            (false, within(0))
        );
        let mut others = shows(vec![], "a");
        others.covers = Covers::Slots(vec![7]);
        assert_eq!(low_known(others, shows(vec![two()], "a")), (false, within(0)));
    }

    #[test]
    fn without_a_stamp_or_a_bound_there_is_an_arrival_and_no_reading() {
        let mut arrivals = Arrivals::new(64);
        arrivals.polled(&shows(vec![], "a"), 0, 10, Some(50));
        let mut plain = canary(1, 0, None);
        plain.stamp = None;
        arrivals.polled(&shows(vec![plain], "a"), 100, 110, Some(50));
        arrivals.polled(&shows(vec![canary(2, 90, None)], "a"), 200, 210, None);
        let settled = arrivals.settle(210, false);
        assert_eq!(settled.len(), 2);
        assert!(settled.iter().all(|one| one.lag.is_none() && one.error_us.is_none()));
        // A clock that is off by more than it says: arrived before it left.
        arrivals.polled(&shows(vec![canary(3, 5_000, None)], "a"), 300, 310, Some(50));
        assert_eq!(arrivals.settle(310, true)[0].lag, Some(Crossed::Violated));
    }
}

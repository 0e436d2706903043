//! The newest canaries of one stream, as they lie in one partition.

use std::sync::Arc;

use crate::{Canary, Sought, Stamp};

/// What a slot holds: sequence, epoch and stamp.
type Held = (u64, Arc<str>, Option<Stamp>);

/// Canaries that a reader keeps for each stream. The log keeps them all, so this is not what a write overwrites; it is how far back a
/// gap is still found: canaries that a mirror dropped are told from seen ones as long as fewer than these came after them. At 1,000
/// canaries a second it spans one second, at 5 a second more than three minutes.
pub(crate) const RING_SLOTS: u64 = 1_024;

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first of its sequence.
    New,
    /// There already, or so far behind what is there that nobody can tell.
    Again,
}

/// Slots by `sequence mod RING_SLOTS`; a slot never goes back.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: Vec<Option<Held>>,
    newest: Option<(u64, Arc<str>)>,
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            newest: None,
        }
    }

    pub(crate) fn take(&mut self, canary: &Canary) -> Arrival {
        let slot = slot(canary.sequence);
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        let held = self.slots[slot].as_ref();
        let is_new = held.is_none_or(|(sequence, epoch, _)| {
            *sequence < canary.sequence || (*sequence == canary.sequence && **epoch != *canary.epoch)
        });
        if !is_new {
            return Arrival::Again;
        }
        let epoch = match &self.newest {
            Some((_, epoch)) if **epoch == *canary.epoch => Arc::clone(epoch),
            _ => Arc::from(canary.epoch.as_str()),
        };
        if self
            .newest
            .as_ref()
            .is_none_or(|(sequence, _)| *sequence <= canary.sequence)
        {
            self.newest = Some((canary.sequence, Arc::clone(&epoch)));
        }
        self.slots[slot] = Some((canary.sequence, epoch, canary.stamp));
        Arrival::New
    }

    /// What the ring holds of what is sought, and always its newest: order is proved by it.
    pub(crate) fn shown(&self, stream: &str, sought: Sought<'_>) -> Vec<Canary> {
        let canary = |(sequence, epoch, stamp): &Held| Canary {
            stream: stream.to_owned(),
            epoch: epoch.to_string(),
            sequence: *sequence,
            stamp: *stamp,
        };
        match sought {
            Sought::All => self.slots.iter().flatten().map(canary).collect(),
            Sought::Only(sequences) => {
                let mut slots: Vec<usize> = sequences.iter().copied().map(slot).collect();
                slots.extend(self.newest.as_ref().map(|(sequence, _)| slot(*sequence)));
                slots.sort_unstable();
                slots.dedup();
                let held = slots.into_iter().filter_map(|slot| self.slots.get(slot)?.as_ref());
                held.map(canary).collect()
            }
        }
    }
}

fn slot(sequence: u64) -> usize {
    usize::try_from(sequence % RING_SLOTS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary(epoch: char, sequence: u64) -> Canary {
        Canary {
            stream: "s".to_owned(),
            epoch: epoch.to_string().repeat(32),
            sequence,
            stamp: None,
        }
    }

    fn sequences(ring: &Ring, sought: Sought<'_>) -> Vec<u64> {
        let mut all: Vec<u64> = ring.shown("s", sought).iter().map(|canary| canary.sequence).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn arrivals_count_once_and_a_slot_never_goes_back() {
        let mut ring = Ring::new();
        assert_eq!(ring.take(&canary('a', 5)), Arrival::New);
        assert_eq!(
            ring.take(&canary('a', 3)),
            Arrival::New,
            "late, and the first of its sequence"
        );
        assert_eq!(ring.take(&canary('a', 5)), Arrival::Again);
        assert_eq!(ring.take(&canary('b', 5 + RING_SLOTS)), Arrival::New);
        assert_eq!(ring.take(&canary('a', 5)), Arrival::Again, "the slot holds a later one");
        assert_eq!(sequences(&ring, Sought::All), [3, 5 + RING_SLOTS]);
    }

    #[test]
    fn what_is_sought_comes_with_the_newest() {
        let mut ring = Ring::new();
        for sequence in 1..=10 {
            ring.take(&canary('a', sequence));
        }
        assert_eq!(sequences(&ring, Sought::Only(&[3, 12])), [3, 10]);
        assert_eq!(sequences(&ring, Sought::Only(&[])), [10]);
        assert_eq!(ring.shown("s", Sought::All).len(), 10);
    }
}

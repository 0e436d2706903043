//! What one poll showed of a ring, indexed by slot.

use stores::{Covers, Sighting};

/// A sighting, ready to be asked about single canaries.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    slots: u64,
    /// (slot, sequence, epoch), sorted.
    held: Vec<(u64, u64, &'a str)>,
    /// Slots that were read, sorted; `None`: all.
    read: Option<Vec<u64>>,
}

impl<'a> Ring<'a> {
    pub(crate) fn new(sighting: &'a Sighting, ring_slots: u64) -> Self {
        let slots = ring_slots.max(1);
        let mut held: Vec<(u64, u64, &str)> = sighting
            .canaries
            .iter()
            .map(|canary| (canary.sequence % slots, canary.sequence, canary.epoch.as_str()))
            .collect();
        held.sort_unstable();
        let read = match &sighting.covers {
            Covers::Ring => None,
            Covers::Slots(sequences) => {
                let mut read: Vec<u64> = sequences.iter().map(|sequence| sequence % slots).collect();
                read.sort_unstable();
                Some(read)
            }
        };
        Self { slots, held, read }
    }

    fn slot(&self, sequence: u64) -> &[(u64, u64, &'a str)] {
        let slot = sequence % self.slots;
        let from = self.held.partition_point(|(held, ..)| *held < slot);
        let to = self.held.partition_point(|(held, ..)| *held <= slot);
        &self.held[from..to]
    }

    /// Whether the slot of this canary was read.
    pub(crate) fn covers(&self, sequence: u64) -> bool {
        let slot = sequence % self.slots;
        self.read.as_ref().is_none_or(|read| read.binary_search(&slot).is_ok())
    }

    /// Whether this very canary is there.
    pub(crate) fn shows(&self, epoch: &str, sequence: u64) -> bool {
        self.slot(sequence)
            .iter()
            .any(|(_, held, held_epoch)| *held == sequence && *held_epoch == epoch)
    }

    /// Whether a later canary, of whatever epoch, took the slot of `sequence`.
    pub(crate) fn overwrote(&self, sequence: u64) -> bool {
        self.slot(sequence).iter().any(|(_, held, _)| *held > sequence)
    }

    /// Whether a later canary of one of these epochs took the slot of `sequence`.
    pub(crate) fn was_overwritten_by(&self, sequence: u64, mut is_ours: impl FnMut(&str) -> bool) -> bool {
        self.slot(sequence)
            .iter()
            .any(|(_, held, epoch)| *held > sequence && is_ours(epoch))
    }

    /// The highest sequence of the epochs that are `of`; 0 when there is none.
    pub(crate) fn newest(&self, of: impl Fn(&str) -> bool) -> u64 {
        self.held
            .iter()
            .filter(|(_, _, epoch)| of(epoch))
            .map(|(_, sequence, _)| *sequence)
            .max()
            .unwrap_or(0)
    }
}

//! What one poll showed of a ring, indexed by slot.

use stores::Sighting;

/// A sighting, ready to be asked about single canaries.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    slots: u64,
    /// (slot, sequence, epoch), sorted.
    held: Vec<(u64, u64, &'a str)>,
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
        Self { slots, held }
    }

    fn slot(&self, sequence: u64) -> &[(u64, u64, &'a str)] {
        let slot = sequence % self.slots;
        let from = self.held.partition_point(|(held, ..)| *held < slot);
        let to = self.held.partition_point(|(held, ..)| *held <= slot);
        &self.held[from..to]
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

    /// The highest sequence of one epoch; 0 when there is none.
    pub(crate) fn newest(&self, epoch: &str) -> u64 {
        self.held
            .iter()
            .filter(|(_, _, held_epoch)| *held_epoch == epoch)
            .map(|(_, sequence, _)| *sequence)
            .max()
            .unwrap_or(0)
    }
}

//! When each canary of an unordered store is looked for again: such a store proves one canary at a time, and reads are paid for.

use std::collections::{BTreeMap, BTreeSet};

use crate::polling::Polling;

/// The canaries that are looked for, by the instant at which each is due.
#[derive(Debug, Default)]
pub(crate) struct Lookout {
    due: BTreeSet<(u64, u64)>,
    watched: BTreeMap<u64, Watched>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    /// Its age counts from here: the end of its write.
    since_us: u64,
    due_us: u64,
}

impl Lookout {
    /// A write ended: its canary is due at once.
    pub(crate) fn watch(&mut self, sequence: u64, since_us: u64) {
        self.forget(sequence);
        self.schedule(sequence, since_us, since_us);
    }

    pub(crate) fn forget(&mut self, sequence: u64) {
        if let Some(watched) = self.watched.remove(&sequence) {
            self.due.remove(&(watched.due_us, sequence));
        }
    }

    /// When the first of them is due.
    pub(crate) fn next_due_us(&self) -> Option<u64> {
        self.due.first().map(|(due_us, _)| *due_us)
    }

    /// Takes up to `max` that are due, those that waited longest first; each is due again when its age has grown.
    pub(crate) fn take_due(&mut self, polling: &Polling, now_us: u64, max: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((due_us, sequence)) = self.due.first().copied()
            && due_us <= now_us
        {
            taken.push(sequence);
            let Some(watched) = self.watched.get(&sequence).copied() else {
                self.due.remove(&(due_us, sequence));
                continue;
            };
            self.forget(sequence);
            let age = now_us.saturating_sub(watched.since_us);
            self.schedule(
                sequence,
                watched.since_us,
                now_us.saturating_add(polling.gap_us(age).max(1)),
            );
        }
        taken
    }

    fn schedule(&mut self, sequence: u64, since_us: u64, due_us: u64) {
        self.watched.insert(sequence, Watched { since_us, due_us });
        self.due.insert((due_us, sequence));
    }

    /// How many are looked for.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.watched.len().max(self.due.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_canary_is_due_when_its_own_age_has_grown() {
        let polling = Polling::DYNAMODB;
        let mut lookout = Lookout::default();
        lookout.watch(1, 0);
        lookout.watch(2, 10_000_000);
        assert_eq!(lookout.next_due_us(), Some(0), "never looked at: at once");
        assert_eq!(lookout.take_due(&polling, 10_000_000, 100), [1, 2]);
        assert!(lookout.take_due(&polling, 10_000_001, 100).is_empty());
        assert_eq!(lookout.next_due_us(), Some(10_020_000), "the young one after the floor");
        assert_eq!(lookout.take_due(&polling, 10_999_999, 100), [2]);
        assert_eq!(
            lookout.take_due(&polling, 11_000_000, 100),
            [1],
            "the old one after a tenth of its age"
        );
        lookout.forget(1);
        lookout.forget(2);
        assert_eq!((lookout.next_due_us(), lookout.len()), (None, 0));
    }

    #[test]
    fn no_more_are_taken_than_one_request_may_ask_for() {
        let mut lookout = Lookout::default();
        (1..=250).for_each(|sequence| lookout.watch(sequence, sequence));
        let polling = Polling::S3;
        let taken: Vec<usize> = (0..4).map(|_| lookout.take_due(&polling, 1_000, 100).len()).collect();
        assert_eq!(taken, [100, 100, 50, 0]);
        assert_eq!(lookout.len(), 250);
    }
}

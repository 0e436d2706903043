//! The count of canaries by fate.

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

    /// The sum over two epochs, or two streams.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            planned: self.planned + other.planned,
            skipped: self.skipped + other.skipped,
            write_failed: self.write_failed + other.write_failed,
            write_unknown: self.write_unknown + other.write_unknown,
            pending: self.pending + other.pending,
            seen: self.seen + other.seen,
            lost: self.lost + other.lost,
            superseded: self.superseded + other.superseded,
        }
    }
}

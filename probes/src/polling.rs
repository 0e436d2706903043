//! When to look: the more a canary has waited, the longer the next gap may be.
//!
//! A canary is due again when its age has grown by `growth`. So a slow store costs a number of reads that is logarithmic in the
//! lag, and the width of a reading is at most floor + growth x age of the deciding canary + round trip + write time.

/// How often a route may and should be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// Polls are never closer than this, microseconds.
    pub floor_us: u64,
    /// Growth of the age between two polls, per cent.
    pub growth_percent: u64,
    /// Gaps are never longer than this, so that a resumed replica is noticed.
    pub gap_us_max: u64,
}

impl Polling {
    /// A replica of one log, whose ring one query shows.
    pub const AURORA: Self = Self {
        floor_us: 2_000,
        growth_percent: 5,
        gap_us_max: 1_000_000,
    };

    /// A partition of a topic: the records since the last poll.
    pub const KAFKA: Self = Self {
        floor_us: 5_000,
        growth_percent: 5,
        gap_us_max: 1_000_000,
    };

    /// Reads are paid for and each of them proves one canary.
    pub const DYNAMODB: Self = Self {
        floor_us: 20_000,
        growth_percent: 10,
        gap_us_max: u64::MAX,
    };

    /// As DynamoDB, and replication takes seconds.
    pub const S3: Self = Self {
        floor_us: 500_000,
        growth_percent: 10,
        gap_us_max: u64::MAX,
    };

    /// When the next poll is due, given the acknowledgement of the deciding canary and the instant at which the last poll was sent.
    ///
    /// A canary that was acknowledged after the last poll is due at once, but for the floor.
    pub fn due_us(&self, deciding_acked_us: u64, last_sent_us: Option<u64>) -> u64 {
        let Some(last) = last_sent_us else {
            return deciding_acked_us;
        };
        if last < deciding_acked_us {
            return deciding_acked_us.max(last.saturating_add(self.floor_us));
        }
        last.saturating_add(self.gap_us(last - deciding_acked_us))
    }

    /// The gap after a look at a canary of this age.
    pub fn gap_us(&self, age_us: u64) -> u64 {
        let growth = age_us.saturating_mul(self.growth_percent) / 100;
        growth.min(self.gap_us_max).max(self.floor_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_keep_the_floor_grow_with_age_and_stop_growing_at_the_cap() {
        let polling = Polling::AURORA;
        assert_eq!(polling.due_us(100, None), 100, "the first poll goes at once");
        assert_eq!(polling.due_us(5_000, Some(1_000)), 5_000, "not looked at yet: at once");
        assert_eq!(polling.due_us(1_500, Some(1_000)), 3_000, "but for the floor");
        assert_eq!(
            polling.due_us(0, Some(10_000)),
            12_000,
            "5 % of 10 ms is below the floor"
        );
        assert_eq!(polling.due_us(0, Some(10_000_000)), 10_500_000);
        assert_eq!(
            polling.due_us(0, Some(3_600_000_000)),
            3_601_000_000,
            "an hour old: every second"
        );
    }

    #[test]
    fn a_slow_store_costs_a_logarithmic_number_of_reads() {
        let mut last = None;
        let mut polls = 0;
        while last.is_none_or(|at| at < 15 * 60 * 1_000_000) {
            last = Some(Polling::DYNAMODB.due_us(0, last));
            polls += 1;
        }
        assert!(polls < 150, "{polls} polls for 15 minutes");
    }
}

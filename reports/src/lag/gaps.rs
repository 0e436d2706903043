//! Time in which nobody looked: between intervals, and inside them.

use serde::Serialize;

/// So many gaps are listed, the longest ones; all are counted.
pub const GAPS_LISTED_MAX: usize = 10;

/// Neighbours that are so close touch: logs keep whole milliseconds.
const TOUCHING_US: i64 = 2_000;

/// A stretch without observation. Inside an interval it is not known where the gap lies: it is told from the start of that interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// It began at about this instant, microseconds since 1970 UTC.
    pub from_us: i64,
    /// It lasted at most so long.
    pub length_us: i64,
}

/// The gaps of one route and observer, whose intervals come in the order of their start.
#[derive(Debug, Default, Clone)]
pub(super) struct Gaps {
    pub(super) observed_us: i64,
    pub(super) total_us: i64,
    pub(super) count: u64,
    pub(super) longest: Vec<Gap>,
    covered_until_us: Option<i64>,
    open: Option<Gap>,
    /// What the last interval missed.
    tail_us: i64,
}

impl Gaps {
    /// Observation is wanted from this instant on.
    pub(super) fn from(from_us: Option<i64>) -> Self {
        Self {
            covered_until_us: from_us,
            ..Self::default()
        }
    }

    /// An interval of which `gap_us` were not observed. What an earlier one covered counts once. Where nobody said from when on observation was
    /// wanted, it was from its beginning, somewhere in the first interval.
    pub(super) fn cover(&mut self, start_us: i64, end_us: i64, gap_us: u64) {
        let is_first = self.covered_until_us.is_none();
        let until = self.covered_until_us.unwrap_or(start_us);
        let start_us = start_us.max(until);
        if end_us <= start_us {
            return;
        }
        if start_us > until + TOUCHING_US {
            self.miss(until, start_us - until);
        }
        let length_us = end_us - start_us;
        let gap_us = i64::try_from(gap_us).unwrap_or(i64::MAX).min(length_us);
        self.tail_us = 0;
        match gap_us {
            0 => self.close(),
            _ if is_first => {}
            _ => {
                self.miss(start_us, gap_us);
                self.tail_us = gap_us;
            }
        }
        self.observed_us += length_us - gap_us;
        self.covered_until_us = Some(end_us);
    }

    /// Nothing comes any more; observation was wanted until this instant, or until its end, somewhere in the last interval.
    pub(super) fn finish(&mut self, to_us: Option<i64>) {
        match (self.covered_until_us, to_us) {
            (Some(until), Some(to_us)) if to_us > until + TOUCHING_US => self.miss(until, to_us - until),
            (_, Some(_)) => {}
            (_, None) => {
                self.total_us -= self.tail_us;
                if let Some(gap) = &mut self.open {
                    gap.length_us -= self.tail_us;
                }
                self.open = self.open.filter(|gap| gap.length_us > 0);
            }
        }
        self.close();
    }

    fn miss(&mut self, from_us: i64, length_us: i64) {
        self.total_us += length_us;
        match &mut self.open {
            Some(gap) => gap.length_us += length_us,
            None => self.open = Some(Gap { from_us, length_us }),
        }
    }

    fn close(&mut self) {
        let Some(gap) = self.open.take() else { return };
        self.count += 1;
        self.longest.push(gap);
        self.longest
            .sort_by_key(|gap| (std::cmp::Reverse(gap.length_us), gap.from_us));
        self.longest.truncate(GAPS_LISTED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    #[test]
    fn neighbouring_gaps_are_one() {
        let mut gaps = Gaps::default();
        gaps.cover(0, MINUTE, 0);
        gaps.cover(MINUTE, 2 * MINUTE, 20_000_000);
        gaps.cover(5 * MINUTE, 6 * MINUTE, 10_000_000);
        gaps.cover(6 * MINUTE, 7 * MINUTE, 0);
        gaps.finish(None);
        let one = Gap {
            from_us: MINUTE,
            length_us: 3 * MINUTE + 30_000_000,
        };
        assert_eq!((gaps.count, gaps.longest.as_slice()), (1, &[one][..]));
        assert_eq!(
            (gaps.total_us, gaps.observed_us),
            (one.length_us, 7 * MINUTE - one.length_us)
        );
    }

    #[test]
    fn a_probe_that_starts_and_ends_within_a_minute_leaves_no_gap() {
        let begun_and_ended = |from_us, to_us| {
            let mut gaps = Gaps::from(from_us);
            gaps.cover(0, MINUTE, 40_000_000);
            gaps.cover(MINUTE, 2 * MINUTE, 0);
            gaps.cover(2 * MINUTE, 3 * MINUTE, 50_000_000);
            gaps.finish(to_us);
            (gaps.count, gaps.total_us, gaps.observed_us)
        };
        assert_eq!(begun_and_ended(None, None), (0, 0, 90_000_000));
        assert_eq!(begun_and_ended(Some(0), Some(3 * MINUTE)), (2, 90_000_000, 90_000_000));
    }

    #[test]
    fn what_was_wanted_before_and_after_is_missed() {
        let mut gaps = Gaps::from(Some(0));
        gaps.cover(2 * MINUTE, 3 * MINUTE, 0);
        gaps.finish(Some(10 * MINUTE));
        let lengths: Vec<i64> = gaps.longest.iter().map(|gap| gap.length_us / MINUTE).collect();
        assert_eq!(lengths, [7, 2]);
        assert_eq!(gaps.observed_us, MINUTE);
    }

    #[test]
    fn overlapping_intervals_cover_once_and_milliseconds_are_no_gap() {
        let mut gaps = Gaps::default();
        gaps.cover(0, MINUTE, 0);
        gaps.cover(0, MINUTE, 0);
        gaps.cover(MINUTE / 2, MINUTE, 0);
        gaps.cover(MINUTE + 1_000, 2 * MINUTE, 0);
        gaps.finish(None);
        assert_eq!((gaps.count, gaps.total_us), (0, 0));
        assert_eq!(gaps.observed_us, 2 * MINUTE - 1_000);
    }

    #[test]
    fn only_the_longest_are_listed_and_all_are_counted() {
        let mut gaps = Gaps::default();
        for index in 0..30 {
            gaps.cover(index * 100 * MINUTE, (index * 100 + 1 + index) * MINUTE, 0);
        }
        gaps.finish(None);
        assert_eq!((gaps.count, gaps.longest.len()), (29, GAPS_LISTED_MAX));
        assert_eq!(gaps.longest[0].length_us, 99 * MINUTE);
    }
}

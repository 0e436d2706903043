//! What arrived in the last minutes, for eyes: a bounded ring of short spans, each with both ends of lag.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

/// Length of one span.
pub(crate) const SPAN_US: u64 = 10_000_000;

/// Spans that are kept: a quarter of an hour.
pub(crate) const SPANS_MAX: usize = 90;

/// Spans of the "last minute", the running one included.
const MINUTE_SPANS: u64 = 6;

/// Sub-buckets between one power of two and the next: a bucket is at most a 32nd of its value wide.
const SUB_BITS: u32 = 5;

/// Counts by value, in buckets that grow with it; at most 2,048 of them, whatever is recorded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sketch {
    counts: BTreeMap<u64, u64>,
    count: u64,
}

impl Sketch {
    fn add(&mut self, us: u64) {
        *self.counts.entry(bucket(us)).or_default() += 1;
        self.count += 1;
    }

    fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
        self.count += other.count;
    }

    /// The bucket of the quantile by nearest rank, as (least, most) of what it may stand for.
    fn quantile(&self, percent: u64) -> Option<(u64, u64)> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        for (bucket, count) in &self.counts {
            below += count;
            if below >= rank {
                return Some((floor(*bucket), floor(*bucket + 1).saturating_sub(1)));
            }
        }
        None
    }
}

/// Values below 64 have a bucket each; from there on 32 share a power of two.
fn bucket(us: u64) -> u64 {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(SUB_BITS + 1);
    (u64::from(shift) << SUB_BITS) + (us >> shift)
}

/// The least value of a bucket.
fn floor(bucket: u64) -> u64 {
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let mantissa = bucket - (shift << SUB_BITS);
    u32::try_from(shift)
        .ok()
        .and_then(|shift| 1u64.checked_shl(shift))
        .map_or(u64::MAX, |unit| mantissa.saturating_mul(unit))
}

#[derive(Debug, Default)]
struct Span {
    index: u64,
    low: Sketch,
    high: Sketch,
}

/// Both ends of lag of the canaries that were seen lately.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    spans: VecDeque<Span>,
}

/// Quantiles of both ends of lag over a short time. Low ends are rounded down and high ends up, by at most a 32nd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lately {
    /// Canaries that were seen.
    pub seen: u64,
    /// Median of the low end, microseconds.
    pub low_p50_us: u64,
    /// 99th percentile of the low end, microseconds.
    pub low_p99_us: u64,
    /// Median of the high end, microseconds.
    pub high_p50_us: u64,
    /// 99th percentile of the high end, microseconds.
    pub high_p99_us: u64,
}

impl Recent {
    /// A canary was seen at `seen_us` of the monotonic clock.
    pub(crate) fn seen(&mut self, seen_us: u64, low_us: u64, high_us: u64) {
        let index = seen_us / SPAN_US;
        let newest = self.spans.back().map_or(0, |span| span.index);
        if self.spans.is_empty() || index > newest {
            self.spans.push_back(Span {
                index,
                ..Span::default()
            });
            if self.spans.len() > SPANS_MAX {
                self.spans.pop_front();
            }
        }
        // One that was recorded late belongs to an earlier span; when that is gone it is history.
        if let Some(span) = self.spans.iter_mut().rev().find(|span| span.index == index) {
            span.low.add(low_us);
            span.high.add(high_us);
        }
    }

    /// The last minute before `now_us`; `None` when nothing was seen in it.
    pub(crate) fn last_minute(&self, now_us: u64) -> Option<Lately> {
        let now = now_us / SPAN_US;
        let (mut low, mut high) = (Sketch::default(), Sketch::default());
        for span in self.spans.iter().filter(|span| span.index + MINUTE_SPANS > now) {
            low.merge(&span.low);
            high.merge(&span.high);
        }
        lately(&low, &high)
    }

    /// The last [`SPANS_MAX`] spans, oldest first; `None` where nothing was seen.
    pub(crate) fn spans(&self, now_us: u64) -> Vec<Option<Lately>> {
        let now = now_us / SPAN_US;
        let count = u64::try_from(SPANS_MAX).unwrap_or(u64::MAX);
        (0..count)
            .map(|back| {
                let index = (now + back + 1).checked_sub(count)?;
                let span = self.spans.iter().find(|span| span.index == index)?;
                lately(&span.low, &span.high)
            })
            .collect()
    }
}

fn lately(low: &Sketch, high: &Sketch) -> Option<Lately> {
    Some(Lately {
        seen: high.count,
        low_p50_us: low.quantile(50)?.0,
        low_p99_us: low.quantile(99)?.0,
        high_p50_us: high.quantile(50)?.1,
        high_p99_us: high.quantile(99)?.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_and_is_narrow(us in 0u64..1 << 62) {
            let (least, most) = (floor(bucket(us)), floor(bucket(us) + 1).saturating_sub(1));
            prop_assert!(least <= us && us <= most, "{least} <= {us} <= {most}");
            prop_assert!(most - least <= us / 32);
            prop_assert!(bucket(us) < 2_048);
        }

        #[test]
        fn quantiles_enclose_the_true_ones(mut values in proptest::collection::vec(0u64..100_000_000, 1..300)) {
            let mut recent = Recent::default();
            values.iter().for_each(|us| recent.seen(5, *us, *us));
            let lately = recent.last_minute(5).unwrap();
            values.sort_unstable();
            let rank = |percent: usize| values[(values.len() * percent).div_ceil(100) - 1];
            prop_assert!(lately.low_p50_us <= rank(50) && rank(50) <= lately.high_p50_us);
            prop_assert!(lately.low_p99_us <= rank(99) && rank(99) <= lately.high_p99_us);
            prop_assert_eq!(lately.seen, u64::try_from(values.len()).unwrap());
        }
    }

    #[test]
    fn the_ring_is_bounded_and_a_silent_minute_shows_nothing() {
        let mut recent = Recent::default();
        for n in 0..10_000 {
            recent.seen(n * SPAN_US, n, n);
        }
        assert_eq!(recent.spans.len(), SPANS_MAX);
        let last = 9_999 * SPAN_US;
        assert_eq!(recent.last_minute(last).unwrap().seen, 6);
        assert_eq!(recent.last_minute(last + 6 * SPAN_US), None);
        let spans = recent.spans(last + 2 * SPAN_US);
        assert_eq!(spans.len(), SPANS_MAX);
        assert_eq!(spans[SPANS_MAX - 2..], [None, None]);
        assert!(spans[SPANS_MAX - 3].is_some() && spans[0].is_some());
    }
}

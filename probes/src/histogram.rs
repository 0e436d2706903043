//! One end of lag over many canaries: quantiles in which an unseen canary is what it is, unbounded.

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};

use crate::Quantiles;

/// Lowest value that an HDR histogram tells apart, microseconds.
pub const HDR_US_MIN: u64 = 1;

/// Highest value, 24 hours; beyond it values are saturated, and counted as such.
pub const HDR_US_MAX: u64 = 24 * 3_600 * 1_000_000;

/// Significant decimal digits of HDR histograms.
pub const HDR_DIGITS: u8 = 3;

/// The bounded values of one end of lag and the number of canaries without a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    values_us: Vec<u64>,
    unbounded: u64,
}

impl Distribution {
    /// Adds one canary; `None` is unbounded.
    pub fn add(&mut self, value_us: Option<u64>) {
        match value_us {
            Some(value) => self.values_us.push(value),
            None => self.unbounded += 1,
        }
    }

    /// The values, sorted, microseconds.
    pub fn sort(&mut self) {
        self.values_us.sort_unstable();
    }

    /// All canaries.
    pub fn count(&self) -> u64 {
        u64::try_from(self.values_us.len()).unwrap_or(u64::MAX) + self.unbounded
    }

    /// The exact quantiles by nearest rank: the smallest value such that at least q of all canaries are not above it. A rank
    /// among the unbounded ones gives `None`, which is +infinity, and so does an empty distribution.
    pub fn quantiles(&mut self) -> Quantiles {
        self.sort();
        Quantiles {
            p50_us: self.at_rank(500),
            p90_us: self.at_rank(900),
            p95_us: self.at_rank(950),
            p99_us: self.at_rank(990),
            p99_9_us: self.at_rank(999),
            max_us: self.at_rank(1_000),
        }
    }

    /// The value at ceil(per_mille / 1000 x count), counted from 1.
    fn at_rank(&self, per_mille: u64) -> Option<u64> {
        let rank = u64::try_from((u128::from(self.count()) * u128::from(per_mille)).div_ceil(1_000)).ok()?;
        let index = usize::try_from(rank.checked_sub(1)?).ok()?;
        self.values_us.get(index).copied()
    }

    /// The bounded values as an HDR histogram, base64 of its V2 form, and how many were saturated at [`HDR_US_MAX`].
    /// Values below 1 us are counted in the lowest bucket.
    pub fn hdr_base64(&self) -> (String, u64) {
        let Ok(mut histogram) = Histogram::<u32>::new_with_bounds(HDR_US_MIN, HDR_US_MAX, HDR_DIGITS) else {
            return (String::new(), 0); // the bounds are constants that the library accepts
        };
        let mut saturated = 0;
        for value in &self.values_us {
            saturated += u64::from(*value > HDR_US_MAX);
            histogram.saturating_record((*value).min(HDR_US_MAX));
        }
        let mut bytes = Vec::new();
        match V2Serializer::new().serialize(&histogram, &mut bytes) {
            Ok(_) => (base64::engine::general_purpose::STANDARD.encode(bytes), saturated),
            Err(_) => (String::new(), saturated), // a Vec takes all bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64], unbounded: usize) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.add(Some(*value)));
        (0..unbounded).for_each(|_| distribution.add(None));
        distribution
    }

    #[test]
    fn a_rank_among_unbounded_samples_is_unbounded() {
        let quantiles = of(&[30, 10, 20, 40, 50, 60, 70, 80, 90], 1).quantiles();
        assert_eq!(quantiles.p50_us, Some(50));
        assert_eq!(quantiles.p90_us, Some(90));
        assert_eq!(quantiles.p95_us, None, "the tenth of ten is unbounded");
        assert_eq!(quantiles.max_us, None);
        assert_eq!(of(&[], 3).quantiles(), Quantiles::default());
        assert_eq!(of(&[], 0).quantiles(), Quantiles::default());
    }

    #[test]
    fn the_histogram_reads_back_and_saturates_beyond_a_day() {
        let (text, saturated) = of(&[0, 1_000, 2_000, HDR_US_MAX + 1], 5).hdr_base64();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let histogram: Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .unwrap();
        assert_eq!(saturated, 1);
        assert_eq!(histogram.len(), 4);
        assert_eq!(histogram.count_between(1_000, 2_000), 2);
        assert!(histogram.max() >= HDR_US_MAX);
    }

    proptest! {
        /// Unbounded samples behave as values above all others.
        #[test]
        fn unbounded_samples_rank_above_every_value(
            values in proptest::collection::vec(0u64..1_000_000, 0..200), unbounded in 0usize..50
        ) {
            let high = of(&values, unbounded).quantiles();
            let mut with_infinity = values.clone();
            with_infinity.extend(std::iter::repeat_n(u64::MAX, unbounded));
            let stand_in = of(&with_infinity, 0).quantiles();
            for (quantile, other) in [
                (high.p50_us, stand_in.p50_us), (high.p90_us, stand_in.p90_us), (high.p95_us, stand_in.p95_us),
                (high.p99_us, stand_in.p99_us), (high.p99_9_us, stand_in.p99_9_us), (high.max_us, stand_in.max_us),
            ] {
                prop_assert_eq!(quantile, other.filter(|value| *value != u64::MAX));
            }
        }
    }
}

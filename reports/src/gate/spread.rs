//! A sparse histogram: what the HDR payloads of intervals add up to. Percentiles are never averaged; payloads are merged.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// Largest value that probes record, 24 h: a recording there means "at least".
const SATURATED_US: u64 = 86_400_000_000;

/// Counts by the smallest and the largest value that a recorded bucket stands for.
#[derive(Debug, Clone, Default)]
pub(super) struct Spread {
    buckets: BTreeMap<u64, (u64, u64)>,
    count: u64,
}

impl Spread {
    /// Adds a payload: base64 of HDR V2. The empty text is the empty histogram.
    ///
    /// # Errors
    /// What is wrong with the payload, in words.
    pub(super) fn add(&mut self, payload: &str) -> Result<u64, String> {
        if payload.is_empty() {
            return Ok(0);
        }
        let bytes = STANDARD
            .decode(payload)
            .map_err(|error| format!("its histogram is not base64: {error}"))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("its histogram is not HDR V2: {error}"))?;
        for step in histogram.iter_recorded() {
            let value = step.value_iterated_to();
            self.insert(
                histogram.lowest_equivalent(value),
                histogram.highest_equivalent(value),
                step.count_since_last_iteration(),
            );
        }
        Ok(histogram.len())
    }

    fn insert(&mut self, smallest: u64, largest: u64, count: u64) {
        let bucket = self.buckets.entry(smallest).or_insert((largest, 0));
        bucket.0 = bucket.0.max(largest);
        bucket.1 += count;
        self.count += count;
    }

    /// Adds all of another.
    pub(super) fn merge(&mut self, other: &Self) {
        for (smallest, (largest, count)) in &other.buckets {
            self.insert(*smallest, *largest, *count);
        }
    }

    /// Number of samples.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the `count` largest samples out.
    pub(super) fn drop_largest(&mut self, mut count: u64) {
        while count > 0
            && let Some(mut last) = self.buckets.last_entry()
        {
            let held = last.get().1;
            let taken = held.min(count);
            if taken == held {
                last.remove();
            } else {
                last.get_mut().1 -= taken;
            }
            self.count -= taken;
            count -= taken;
        }
    }

    /// The smallest value that the sample of that rank (from 1, ascending) can have had; `None` beyond the last.
    pub(super) fn smallest_at(&self, rank: u64) -> Option<u64> {
        self.at(rank).map(|(smallest, _)| smallest)
    }

    /// The largest value that it can have had; `None` beyond the last, and where the recording was saturated.
    pub(super) fn largest_at(&self, rank: u64) -> Option<u64> {
        self.at(rank)
            .map(|(_, largest)| largest)
            .filter(|largest| *largest < SATURATED_US)
    }

    fn at(&self, rank: u64) -> Option<(u64, u64)> {
        let mut passed = 0;
        for (smallest, (largest, count)) in &self.buckets {
            passed += count;
            if passed >= rank {
                return Some((*smallest, *largest));
            }
        }
        None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};

    use super::*;

    /// A payload as probes write it.
    pub(in super::super) fn payload(values: &[u64]) -> String {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, SATURATED_US, 3).unwrap();
        for value in values {
            histogram.record(*value).unwrap();
        }
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut bytes).unwrap();
        STANDARD.encode(bytes)
    }

    #[test]
    fn merging_is_not_averaging() {
        // Two minutes with medians of 10 and 1,000: the median of all is 10, their average is 505.
        let mut spread = Spread::default();
        spread.add(&payload(&[10; 100])).unwrap();
        spread.add(&payload(&[1_000; 5])).unwrap();
        assert_eq!(spread.count(), 105);
        assert_eq!(spread.largest_at(53), Some(10));
        assert_eq!(spread.smallest_at(101), Some(1_000));
        assert_eq!(spread.largest_at(106), None);
    }

    #[test]
    fn both_ends_hold_the_value() {
        let mut spread = Spread::default();
        spread.add(&payload(&[514_303])).unwrap();
        let (low, high) = (spread.smallest_at(1).unwrap(), spread.largest_at(1).unwrap());
        assert!(low <= 514_303 && 514_303 <= high, "[{low}, {high}]");
        assert!(high - low < 1_000, "three digits: [{low}, {high}]");
    }

    #[test]
    fn a_saturated_recording_bounds_nothing() {
        let mut spread = Spread::default();
        spread.add(&payload(&[SATURATED_US])).unwrap();
        assert_eq!(spread.largest_at(1), None);
        assert!(spread.smallest_at(1).unwrap() > 0);
    }

    #[test]
    fn the_largest_go_first() {
        let mut spread = Spread::default();
        spread.add(&payload(&[1, 2, 2, 9])).unwrap();
        spread.drop_largest(2);
        assert_eq!(spread.count(), 2);
        assert_eq!(spread.smallest_at(2), Some(2));
        assert_eq!(spread.smallest_at(3), None);
    }

    #[test]
    fn what_is_not_a_histogram_is_an_error() {
        assert!(Spread::default().add("%%%").is_err());
        assert!(Spread::default().add("AAAA").is_err());
        assert_eq!(Spread::default().add(""), Ok(0));
    }
}

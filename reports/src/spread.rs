//! A sparse histogram: what the HDR payloads of intervals add up to. Percentiles are never averaged; payloads are merged.
//!
//! Payloads are read here and not by the library that writes them: it builds all 27,000 counters of a histogram for the few
//! hundred that a minute fills, and a gate reads tens of thousands of minutes. A test holds both against each other.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use probes::{HDR_DIGITS, HDR_US_MAX, HDR_US_MIN};

/// First bytes of an uncompressed V2 histogram.
const V2_COOKIE: u32 = 0x1c84_9313;
/// Cookie, length, offset, digits, lowest, highest, ratio.
const HEADER_BYTES: usize = 40;
/// Three digits need 2,048 counters for the first power of two, and 1,024 for each further one.
const HALF_BITS: u32 = 10;
/// Counters of 1 us to 24 h: more than this is no histogram of ours.
const COUNTERS_MAX: u64 = 28 << HALF_BITS;

/// Counts by the smallest and the largest value that a recorded bucket stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    buckets: BTreeMap<u64, (u64, u64)>,
    count: u64,
}

impl Spread {
    /// Adds a payload: base64 of HDR V2. The empty text is the empty histogram.
    ///
    /// # Errors
    /// What is wrong with the payload, in words.
    pub(crate) fn add(&mut self, payload: &str) -> Result<u64, String> {
        if payload.is_empty() {
            return Ok(0);
        }
        let bytes = STANDARD
            .decode(payload)
            .map_err(|error| format!("its histogram is not base64: {error}"))?;
        let counters = counters(&bytes).ok_or("its histogram is not HDR V2 with three digits from 1 us to 24 h")?;
        let mut added = 0;
        for (index, count) in counters {
            let (smallest, largest) = values(index);
            self.insert(smallest, largest, count);
            added += count;
        }
        Ok(added)
    }

    /// Adds one value, in the bucket that an HDR histogram keeps it in; beyond its range it is saturated.
    pub(crate) fn record(&mut self, value_us: u64) {
        let (smallest, largest) = bucket_of(value_us.min(HDR_US_MAX));
        self.insert(smallest, largest, 1);
    }

    /// Adds a histogram that the library has read, whatever its range and digits.
    pub(crate) fn add_histogram(&mut self, histogram: &Histogram<u64>) {
        for step in histogram.iter_recorded() {
            let value = step.value_iterated_to();
            let (smallest, largest) = (histogram.lowest_equivalent(value), histogram.highest_equivalent(value));
            self.insert(smallest, largest, step.count_since_last_iteration());
        }
    }

    /// What it holds, ascending: the smallest and the largest value of a bucket, and how many are in it.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.buckets
            .iter()
            .map(|(smallest, (largest, count))| (*smallest, *largest, *count))
    }

    fn insert(&mut self, smallest: u64, largest: u64, count: u64) {
        let bucket = self.buckets.entry(smallest).or_insert((largest, 0));
        bucket.0 = bucket.0.max(largest);
        bucket.1 += count;
        self.count += count;
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (smallest, (largest, count)) in &other.buckets {
            self.insert(*smallest, *largest, *count);
        }
    }

    /// Number of samples.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the `count` largest samples out.
    pub(crate) fn drop_largest(&mut self, mut count: u64) {
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
    pub(crate) fn smallest_at(&self, rank: u64) -> Option<u64> {
        self.at(rank).map(|(smallest, _)| smallest)
    }

    /// The largest value that it can have had; `None` beyond the last, and where the recording was saturated.
    pub(crate) fn largest_at(&self, rank: u64) -> Option<u64> {
        self.at(rank)
            .map(|(_, largest)| largest)
            .filter(|largest| *largest < HDR_US_MAX)
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

/// The counters that are not zero, by index. `None`: not a histogram as probes write it.
fn counters(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_be_bytes(header.get(at..at + 8)?.try_into().ok()?));
    let is_ours = word(0)? == V2_COOKIE
        && usize::try_from(word(4)?).ok()? == payload.len()
        && word(8)? == 0
        && word(12)? == u32::from(HDR_DIGITS)
        && long(16)? == HDR_US_MIN
        && long(24)? == HDR_US_MAX
        && long(32)? == 1.0_f64.to_bits();
    if !is_ours {
        return None;
    }
    let mut counters = Vec::new();
    let (mut index, mut rest) = (0_u64, payload);
    while !rest.is_empty() {
        let number = zigzag(varint(&mut rest)?);
        if number > 0 {
            counters.push((index, number.unsigned_abs()));
            index += 1;
        } else {
            // A negative number is a run of so many zeros; a single zero stands for itself.
            index = index.checked_add(number.unsigned_abs().max(1))?;
        }
        if index > COUNTERS_MAX {
            return None;
        }
    }
    Some(counters)
}

/// LEB128 of at most nine bytes, the last of which gives all of its bits.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..9 {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        if place == 8 {
            return Some(value | u64::from(*byte) << 56);
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(encoded: u64) -> i64 {
    let half = i64::try_from(encoded >> 1).unwrap_or(i64::MAX);
    if encoded & 1 == 0 { half } else { -half - 1 }
}

/// The smallest and the largest value of a counter.
fn values(index: u64) -> (u64, u64) {
    let half = 1 << HALF_BITS;
    let Some(power) = (index >> HALF_BITS).checked_sub(1) else {
        return (index, index);
    };
    let smallest = ((index & (half - 1)) + half) << power;
    (smallest, smallest + (1 << power) - 1)
}

/// The smallest and the largest value of the counter that holds a value.
fn bucket_of(value: u64) -> (u64, u64) {
    let Some(power) = value.checked_ilog2().and_then(|bits| bits.checked_sub(HALF_BITS)) else {
        return (value, value);
    };
    let smallest = (value >> power) << power;
    (smallest, smallest + (1 << power) - 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
    use proptest::prelude::*;

    use super::*;

    /// A payload as probes write it.
    pub(crate) fn payload(values: &[u64]) -> String {
        let mut histogram = Histogram::<u64>::new_with_bounds(HDR_US_MIN, HDR_US_MAX, HDR_DIGITS).unwrap();
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
        spread.add(&payload(&[HDR_US_MAX])).unwrap();
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

    #[test]
    fn a_cut_or_foreign_payload_is_refused() {
        let whole = STANDARD.decode(payload(&[5, 70_000, 70_000, 9_000_000])).unwrap();
        for length in 0..whole.len() {
            assert!(counters(&whole[..length]).is_none(), "the first {length} bytes");
        }
        let mut other = Vec::new();
        let histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 2).unwrap();
        V2Serializer::new().serialize(&histogram, &mut other).unwrap();
        assert!(counters(&other).is_none());
    }

    proptest! {
        /// What the library reads from its own payload.
        #[test]
        fn payloads_are_read_as_the_library_reads_them(values in proptest::collection::vec(0u64..=HDR_US_MAX, 0..50), small in proptest::collection::vec(0u64..5_000, 0..50)) {
            let all: Vec<u64> = values.into_iter().chain(small).collect();
            let text = payload(&all);
            let mut spread = Spread::default();
            prop_assert_eq!(spread.add(&text), Ok(u64::try_from(all.len()).unwrap()));
            let bytes = STANDARD.decode(text).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            let expected: Vec<(u64, (u64, u64))> = histogram
                .iter_recorded()
                .map(|step| {
                    let value = step.value_iterated_to();
                    let ends = (histogram.highest_equivalent(value), step.count_since_last_iteration());
                    (histogram.lowest_equivalent(value), ends)
                })
                .collect();
            let mut recorded = Spread::default();
            all.iter().for_each(|value| recorded.record(*value));
            let mut read = Spread::default();
            read.add_histogram(&histogram);
            prop_assert_eq!(&recorded, &spread);
            prop_assert_eq!(&read, &spread);
            prop_assert_eq!(spread.buckets.into_iter().collect::<Vec<_>>(), expected);
        }
    }
}

//! What was asked of a store that is paid for by the request.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts requests, by operation. One for each end; clones of the end share it.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<BTreeMap<&'static str, Usage>>,
    is_partial: bool,
}

/// How much of one operation was used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Requests that were sent, tries that failed included: they are paid for as well.
    pub requests: u64,
    /// Units of the store's own price list (DynamoDB: consumed capacity units). 0 where the store has none.
    pub units: f64,
    /// Bytes that were sent and received, as far as they are known.
    pub bytes: u64,
}

impl Meter {
    /// A meter beside an end whose own requests are free and not in it.
    pub fn partial() -> Self {
        Self {
            is_partial: true,
            ..Self::default()
        }
    }

    /// Whether it counts everything that is asked of the end.
    pub fn is_whole(&self) -> bool {
        !self.is_partial
    }

    /// Adds to `operation`, named as in the store's price list, e.g. `PutItem`, `HeadObject`.
    pub fn count(&self, operation: &'static str, usage: Usage) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = counts.entry(operation).or_default();
        sum.requests += usage.requests;
        sum.units += usage.units;
        sum.bytes += usage.bytes;
    }

    /// Everything so far, by operation.
    pub fn usage(&self) -> BTreeMap<&'static str, Usage> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted_apart_and_added_up() {
        let meter = Meter::default();
        for units in [0.5, 1.0] {
            let usage = Usage {
                requests: 1,
                units,
                bytes: 100,
            };
            meter.count("GetItem", usage);
        }
        meter.count("PutItem", Usage::default());
        let usage = meter.usage();
        assert_eq!(usage.len(), 2);
        assert_eq!((usage["GetItem"].requests, usage["GetItem"].bytes), (2, 200));
        assert!((usage["GetItem"].units - 1.5).abs() < f64::EPSILON);
    }
}

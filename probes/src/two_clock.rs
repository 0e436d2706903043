//! Readings across two clocks: signed, with a bound of their error, and refused when even the bound cannot explain them.

/// A lag whose two instants are of different clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing {
    /// Last valid miss sent - acknowledgement; `None`: no valid miss.
    pub low_us: Option<i64>,
    /// First hit received - sent.
    pub high_us: i64,
    /// Both clocks together are off by no more than this.
    pub error_us: u64,
}

/// What a crossing proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossed {
    /// The true lag lies between these.
    Within {
        /// Not shorter.
        low_us: u64,
        /// Not longer.
        high_us: u64,
    },
    /// Arrived before it left, by more than the bound: the bound is false, and the reading with it.
    Violated,
}

impl Crossing {
    /// Widens the reading by the bound.
    pub fn judge(&self) -> Crossed {
        let error = i128::from(self.error_us);
        let Ok(high_us) = u64::try_from(i128::from(self.high_us) + error) else {
            return Crossed::Violated;
        };
        let low = self.low_us.map_or(0, |low| (i128::from(low) - error).max(0));
        Crossed::Within {
            low_us: u64::try_from(low).unwrap_or(0).min(high_us),
            high_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crossed(low_us: Option<i64>, high_us: i64, error_us: u64) -> Crossed {
        Crossing {
            low_us,
            high_us,
            error_us,
        }
        .judge()
    }

    #[test]
    fn a_reading_is_widened_by_the_bound_and_a_false_bound_is_refused() {
        let within = |low_us, high_us| Crossed::Within { low_us, high_us };
        assert_eq!(crossed(Some(400), 900, 100), within(300, 1_000));
        assert_eq!(
            crossed(Some(-50), 80, 100),
            within(0, 180),
            "a negative low is a wrong clock, not a lag"
        );
        assert_eq!(
            crossed(None, -60, 100),
            within(0, 40),
            "explained by the bound: a very short lag"
        );
        assert_eq!(crossed(None, -101, 100), Crossed::Violated);
        assert_eq!(crossed(None, i64::MIN, u64::MAX), within(0, (1 << 63) - 1));
    }

    proptest! {
        /// Whatever two clocks read, as long as they are within the bound, the truth lies within the reading.
        #[test]
        fn a_true_bound_holds_the_truth(
            lag in 0i64..60_000_000, skew in -5_000_000i64..5_000_000, slack in 0u64..1_000, before in 0i64..500_000, after in 0i64..500_000
        ) {
            let error_us = skew.unsigned_abs() + slack;
            let judged = crossed(Some(lag - before + skew), lag + after + skew, error_us);
            let Crossed::Within { low_us, high_us } = judged else {
                return Err(TestCaseError::fail("refused although the bound is true"));
            };
            let truth = u64::try_from(lag).unwrap();
            prop_assert!(low_us <= truth && truth <= high_us, "{low_us} {truth} {high_us}");
        }
    }
}

//! How fast a stream is probed: at its rate, or slower, so that what its requests cost stays within a budget.

/// A stream is never slowed below this share of its rate: a probe that says nothing guards nothing.
pub const PACE_MIN: f64 = 0.01;

/// A share of the configured rate, [`PACE_MIN`] to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Pace(f64);

impl Pace {
    /// The configured rate.
    pub const FULL: Self = Self(1.0);

    /// This share of it; what is not within [`PACE_MIN`] to 1 is taken as the end that is nearer. A share that is no number is none.
    pub fn of(share: f64) -> Self {
        if share.is_finite() {
            Self(share.clamp(PACE_MIN, 1.0))
        } else {
            Self::FULL
        }
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Whether it is slower than the configured rate.
    pub fn is_slowed(self) -> bool {
        self.0 < 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_neither_a_stop_nor_a_hurry() {
        let shares = [0.0, -1.0, 0.004, 0.25, 1.0, 7.0, f64::NAN].map(|share| Pace::of(share).share());
        assert_eq!(shares, [PACE_MIN, PACE_MIN, PACE_MIN, 0.25, 1.0, 1.0, 1.0]);
        assert!(Pace::of(0.25).is_slowed() && !Pace::FULL.is_slowed());
    }
}

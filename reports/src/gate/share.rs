//! Bounds on a share, from few observations.

use super::quantity::to_f64;

/// One-sided upper confidence bound of a share by Clopper and Pearson (Biometrika 26, 1934): the share at which seeing at most
/// `hits` of `trials` has probability `1 - confidence`. Exact: it covers at least `confidence` for independent trials, whatever
/// the share. 1 when nothing was tried.
pub(crate) fn upper_bound(hits: u32, trials: u32, confidence: f64) -> f64 {
    if trials == 0 || hits >= trials {
        return 1.0;
    }
    let tail = 1.0 - confidence;
    // The distribution function falls as the share grows, so the root is bracketed by [0, 1]; 60 halvings reach 1e-18.
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(hits, trials, middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// P(X <= hits) for X binomial. Terms are summed in logarithms: with thousands of trials the first term underflows.
fn at_most(hits: u32, trials: u32, share: f64) -> f64 {
    if share <= 0.0 {
        return 1.0;
    }
    if share >= 1.0 {
        return 0.0;
    }
    let odds = share.ln() - (-share).ln_1p();
    let mut log_term = f64::from(trials) * (-share).ln_1p();
    let mut sum = log_term.exp();
    for k in 1..=hits {
        log_term += (f64::from(trials - k + 1) / f64::from(k)).ln() + odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

/// `part / whole` in thousandths of a percent, rounded up, so that a share is never shown smaller than it is. 0 of 0 is 0.
pub(crate) fn share_milli_percent(part: u64, whole: u64) -> i64 {
    if whole == 0 {
        return 0;
    }
    let rounded_up = (u128::from(part) * 100_000).div_ceil(u128::from(whole));
    i64::try_from(rounded_up).unwrap_or(i64::MAX)
}

/// A share given in thousandths of a percent, as a fraction of one.
pub(crate) fn fraction(milli_percent: i64) -> f64 {
    to_f64(milli_percent) / 100_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 5e-5, "{actual} is not {expected}");
    }

    /// Without a hit the bound has a closed form: 1 - 0.05^(1/n). The others are one-sided 95 % limits as published in tables
    /// of the Clopper-Pearson interval (two-sided 90 %).
    #[test]
    fn known_values() {
        for n in [1_u32, 5, 20, 30, 300, 20_000] {
            close(upper_bound(0, n, 0.95), 1.0 - 0.05_f64.powf(1.0 / f64::from(n)));
        }
        close(upper_bound(1, 10, 0.95), 0.394_16);
        close(upper_bound(1, 20, 0.95), 0.216_11);
        close(upper_bound(2, 20, 0.95), 0.282_62);
        close(upper_bound(5, 10, 0.95), 0.777_56);
        close(upper_bound(10, 100, 0.95), 0.163_72);
    }

    #[test]
    fn edges() {
        close(upper_bound(0, 0, 0.95), 1.0);
        close(upper_bound(7, 7, 0.95), 1.0);
        // The last failure short of all: 0.95^(1/n) for n - 1 of n.
        close(upper_bound(9, 10, 0.95), 0.95_f64.powf(0.1));
    }

    /// The bound is what it says: at it, so few hits have probability 5 %.
    #[test]
    fn the_bound_leaves_five_percent() {
        for (hits, trials) in [(0, 20), (3, 50), (40, 8_000)] {
            let bound = upper_bound(hits, trials, 0.95);
            assert!((at_most(hits, trials, bound) - 0.05).abs() < 1e-6, "{hits} of {trials}");
        }
    }

    #[test]
    fn shares_round_up() {
        assert_eq!(share_milli_percent(1, 3), 33_334);
        assert_eq!(share_milli_percent(0, 0), 0);
        assert_eq!(share_milli_percent(6, 30), 20_000);
    }
}

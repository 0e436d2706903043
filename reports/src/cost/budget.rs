//! The cost guard: how far a probe has to slow down to stay within its budget.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// A probe is never slowed below this share of its rate: one that says nothing guards nothing.
pub const FACTOR_MIN: f64 = 0.01;

/// What was spent in a span of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spent {
    /// Dollars, of what has a price.
    pub usd: f64,
    /// Operations that were used and have none.
    pub unpriced: BTreeSet<String>,
}

impl Spent {
    /// What came on top of an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            usd: (self.usd - earlier.usd).max(0.0),
            unpriced: self.unpriced.clone(),
        }
    }
}

/// Dollars that a probe may spend in an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    usd_per_hour: f64,
}

/// How fast a probe may go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// The share of its configured rate: [`FACTOR_MIN`] to 1.
    pub factor: f64,
    /// What it would spend in an hour at that rate, dollars; `None`: nothing was spent yet.
    pub usd_per_hour: Option<f64>,
    /// The budget.
    pub budget_usd_per_hour: f64,
    /// Operations whose cost the budget does not see.
    pub unpriced: BTreeSet<String>,
}

impl Budget {
    /// A budget.
    ///
    /// # Errors
    /// Not a positive number of dollars.
    pub fn new(usd_per_hour: f64) -> Result<Self, String> {
        if usd_per_hour.is_finite() && usd_per_hour > 0.0 {
            Ok(Self { usd_per_hour })
        } else {
            Err(format!(
                "a budget of {usd_per_hour} dollars an hour is none; write a number above 0, or leave it out"
            ))
        }
    }

    /// The pace from now on, given what was spent in the last `elapsed` at the factor `in_force`. Costs are taken to follow the rate; those that
    /// do not are met by asking again: a minute is a good span. What was overspent before is not saved afterwards.
    pub fn pace(&self, spent: &Spent, elapsed: Duration, in_force: f64) -> Pace {
        let hours = elapsed.as_secs_f64() / 3_600.0;
        let in_force = if in_force.is_finite() {
            in_force.clamp(FACTOR_MIN, 1.0)
        } else {
            1.0
        };
        let full_usd_per_hour = spent.usd / hours / in_force;
        let is_known = hours > 0.0 && full_usd_per_hour.is_finite() && full_usd_per_hour > 0.0;
        let factor = match (is_known, hours > 0.0) {
            (true, _) => (self.usd_per_hour / full_usd_per_hour).clamp(FACTOR_MIN, 1.0),
            (false, true) => 1.0,       // nothing was spent
            (false, false) => in_force, // no time has passed: nothing is known
        };
        Pace {
            factor,
            usd_per_hour: is_known.then_some(full_usd_per_hour * factor),
            budget_usd_per_hour: self.usd_per_hour,
            unpriced: spent.unpriced.clone(),
        }
    }
}

/// After this long, what was spent in a span counts half in what a guard goes by. Long enough that a slowed probe writes in it, so that a minute
/// in which nothing was due is not taken for a cheap one.
const HALF_LIFE: Duration = Duration::from_secs(600);

/// Asks a budget again and again, each time about what was spent of late.
#[derive(Debug, Clone)]
pub struct Guard {
    budget: Budget,
    spent: Spent,
    factor: f64,
    /// Dollars of late, the older the less.
    usd: f64,
    /// The time in which they were spent, reckoned at the full rate: the same weights, by the factors that were in force. Seconds.
    full_seconds: f64,
}

impl Guard {
    /// A guard over a probe that runs at its full rate and has spent nothing.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            spent: Spent::default(),
            factor: 1.0,
            usd: 0.0,
            full_seconds: 0.0,
        }
    }

    /// The pace from now on, given everything that was spent so far and the time since the last decision.
    pub fn decide(&mut self, spent: Spent, elapsed: Duration) -> Pace {
        let fades = 0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE.as_secs_f64());
        let lately = spent.since(&self.spent);
        self.usd = self.usd * fades + lately.usd;
        self.full_seconds = self.full_seconds * fades + elapsed.as_secs_f64() * self.factor;
        let of_late = Spent {
            usd: self.usd,
            ..lately
        };
        let span = Duration::try_from_secs_f64(self.full_seconds).unwrap_or_default();
        let pace = self.budget.pace(&of_late, span, 1.0);
        self.spent = spent;
        self.factor = pace.factor;
        pace
    }
}

impl Pace {
    /// Whether the probe is slowed.
    pub fn is_slowed(&self) -> bool {
        self.factor < 1.0
    }

    /// Whether even the slowest pace spends more than the budget.
    pub fn is_over_budget(&self) -> bool {
        // A factor that meets the budget may miss it by a rounding.
        self.usd_per_hour
            .is_some_and(|usd| usd > self.budget_usd_per_hour * (1.0 + 1e-9))
    }
}

/// What a log line says of it.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.factor * 100.0;
        let budget = self.budget_usd_per_hour;
        match self.usd_per_hour {
            Some(usd) if self.is_over_budget() => write!(
                f,
                "the probe spends about ${usd:.4} an hour at {percent:.0} % of its rate, the slowest, and its budget is ${budget:.4}: raise the budget or probe less"
            )?,
            Some(usd) if self.is_slowed() => write!(
                f,
                "the probe is slowed to {percent:.0} % of its rate to stay within ${budget:.4} an hour (now about ${usd:.4})"
            )?,
            Some(usd) => write!(
                f,
                "the probe spends about ${usd:.4} an hour of a budget of ${budget:.4}"
            )?,
            None => write!(
                f,
                "the probe has spent nothing that has a price, of a budget of ${budget:.4} an hour"
            )?,
        }
        if !self.unpriced.is_empty() {
            let names: Vec<&str> = self.unpriced.iter().map(String::as_str).collect();
            write!(f, "; the budget does not see what has no price: {}", names.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn spent(usd: f64) -> Spent {
        Spent {
            usd,
            ..Spent::default()
        }
    }

    #[test]
    fn twice_the_budget_halves_the_rate_and_half_the_budget_gives_it_back() {
        let budget = Budget::new(0.6).unwrap();
        let slowed = budget.pace(&spent(0.02), MINUTE, 1.0);
        assert!((slowed.factor - 0.5).abs() < 1e-9, "{slowed:?}");
        assert!(!slowed.is_over_budget());
        let kept = budget.pace(&spent(0.01), MINUTE, slowed.factor);
        assert!((kept.factor - 0.5).abs() < 1e-9, "{kept:?}");
        let cheaper = budget.pace(&spent(0.005), MINUTE, slowed.factor);
        assert!((cheaper.factor - 1.0).abs() < 1e-9, "{cheaper:?}");
    }

    #[test]
    fn the_probe_is_told_what_happens_to_it() {
        let budget = Budget::new(0.6).unwrap();
        assert_eq!(
            budget.pace(&spent(0.02), MINUTE, 1.0).to_string(),
            "the probe is slowed to 50 % of its rate to stay within $0.6000 an hour (now about $0.6000)"
        );
        let far_over = budget.pace(&spent(60.0), MINUTE, 1.0);
        assert!(far_over.is_over_budget());
        assert!(far_over.to_string().contains("raise the budget"), "{far_over}");
        let blind = Spent {
            unpriced: ["s3 RestoreObject".to_owned()].into(),
            ..Spent::default()
        };
        let told = budget.pace(&blind, MINUTE, 1.0).to_string();
        assert!(
            told.ends_with("does not see what has no price: s3 RestoreObject"),
            "{told}"
        );
    }

    #[test]
    fn a_guard_settles_on_the_budget_and_lets_go_when_it_is_cheap_again() {
        let mut guard = Guard::new(Budget::new(0.6).unwrap());
        let (mut total, mut factor) = (0.0, 1.0);
        let mut minute = |full_usd_per_minute: f64| {
            total += full_usd_per_minute * factor;
            factor = guard.decide(spent(total), MINUTE).factor;
            factor
        };
        for _ in 0..3 {
            let slowed = minute(0.04);
            assert!((slowed - 0.25).abs() < 1e-9, "{slowed}");
        }
        let mut before = 0.25;
        for _ in 0..60 {
            let now = minute(0.002);
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
        assert!((before - 1.0).abs() < 1e-9, "{before}");
    }

    #[test]
    fn what_was_spent_long_ago_holds_nothing_back() {
        let mut guard = Guard::new(Budget::new(0.6).unwrap());
        let (mut total, mut factor) = (0.0, 1.0);
        for minute in 0..420 {
            let full_usd_per_minute = if minute < 300 { 0.04 } else { 0.002 };
            total += full_usd_per_minute * factor;
            factor = guard.decide(spent(total), MINUTE).factor;
        }
        assert!((factor - 1.0).abs() < 1e-9, "{factor}, two hours after five dear ones");
    }

    /// At a fiftieth of 6/min most minutes have no canary. They are not cheap minutes.
    #[test]
    fn minutes_without_a_canary_do_not_let_a_slowed_probe_go() {
        const HOURLY: f64 = 0.0072;
        let mut guard = Guard::new(Budget::new(HOURLY).unwrap());
        let (mut total, mut due, mut factor) = (0.0, 0.0, 1.0);
        for _ in 0..24 * 60 {
            due += 6.0 * factor;
            while due >= 1.0 {
                due -= 1.0;
                total += 0.001;
            }
            factor = guard.decide(spent(total), MINUTE).factor;
        }
        assert!(total < 24.0 * HOURLY * 1.2, "{total} of {}", 24.0 * HOURLY);
    }

    #[test]
    fn a_budget_is_a_positive_number() {
        for usd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Budget::new(usd).is_err());
        }
    }

    proptest! {
        /// Never stopped, never hurried, whatever is put in; the more was spent, the slower.
        #[test]
        fn the_factor_is_a_share_and_falls_with_spending(
            budget in 1e-6..1e6_f64, usd in 0.0..1e6_f64, more in 0.0..1e6_f64, seconds in 0_u64..100_000, in_force in proptest::num::f64::ANY
        ) {
            let budget = Budget::new(budget).unwrap();
            let elapsed = Duration::from_secs(seconds);
            let pace = budget.pace(&spent(usd), elapsed, in_force);
            prop_assert!((FACTOR_MIN..=1.0).contains(&pace.factor), "{pace:?}");
            let slower = budget.pace(&spent(usd + more), elapsed, in_force);
            prop_assert!(slower.factor <= pace.factor, "{slower:?} {pace:?}");
        }

        /// Where costs follow the rate, the next hour stays within the budget, or the probe says that it cannot.
        #[test]
        fn the_next_hour_stays_within_the_budget(budget in 1e-3..1e3_f64, full_usd_per_hour in 1e-6..1e6_f64, in_force in FACTOR_MIN..=1.0) {
            let budget = Budget::new(budget).unwrap();
            let pace = budget.pace(&spent(full_usd_per_hour * in_force / 60.0), MINUTE, in_force);
            let next = full_usd_per_hour * pace.factor;
            prop_assert!(next <= budget.usd_per_hour * (1.0 + 1e-6) || pace.is_over_budget(), "{next} {pace:?}");
            prop_assert!(!pace.is_over_budget() || (pace.factor - FACTOR_MIN).abs() < 1e-12);
            // Not slower than need be.
            prop_assert!(!pace.is_slowed() || pace.factor <= FACTOR_MIN || next >= budget.usd_per_hour * (1.0 - 1e-6));
        }
    }
}

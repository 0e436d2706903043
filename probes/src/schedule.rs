//! When canaries leave: an open loop. The schedule never looks at the stores; what a slot could not do is counted, not made up for.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::config::{Rate, ScheduleKind};
use crate::pace::Pace;

/// An endless series of planned instants on the monotonic clock, the same for the same seed.
#[derive(Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    rate: Rate,
    pace: Pace,
    start_us: u64,
    /// Slots given out since then (fixed), so that rounding never adds up.
    given: u64,
    /// The last planned instant.
    last_us: u64,
    random: StdRng,
}

impl Schedule {
    /// The schedule from `start_us` on. The first slot comes one gap later.
    pub fn new(kind: ScheduleKind, rate: Rate, start_us: u64, seed: u64) -> Self {
        Self {
            kind,
            rate,
            pace: Pace::FULL,
            start_us,
            given: 0,
            last_us: start_us,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The next planned instant, microseconds on the monotonic clock.
    pub fn next_us(&mut self) -> u64 {
        self.last_us = match self.kind {
            ScheduleKind::Fixed if self.pace.is_slowed() => self.last_us.saturating_add(us(self.period())),
            ScheduleKind::Fixed => {
                self.given += 1;
                let offset = self.rate.unit().as_micros() * u128::from(self.given) / u128::from(self.rate.count());
                self.start_us.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
            }
            ScheduleKind::Poisson => self.last_us.saturating_add(self.exponential_gap_us()),
        };
        self.last_us
    }

    /// Slots that were not given out yet follow at this pace.
    pub fn set_pace(&mut self, pace: Pace) {
        if pace != self.pace {
            (self.pace, self.start_us, self.given) = (pace, self.last_us, 0);
        }
    }

    /// The mean gap between two slots.
    pub fn period(&self) -> Duration {
        self.rate.period().div_f64(self.pace.share())
    }

    /// Inverse transform: -ln(1 - u) / rate, with u in [0, 1).
    fn exponential_gap_us(&mut self) -> u64 {
        let uniform: f64 = self.random.random();
        us(Duration::from_secs_f64(
            self.period().as_secs_f64() * -(1.0 - uniform).ln(),
        ))
    }
}

fn us(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn a_fixed_schedule_does_not_drift() {
        let mut schedule = Schedule::new(ScheduleKind::Fixed, rate("3/s"), 1_000, 0);
        let slots: Vec<u64> = (0..3_000).map(|_| schedule.next_us()).collect();
        assert_eq!(slots[0], 334_333);
        assert_eq!(slots[2], 1_001_000);
        assert_eq!(slots[2_999], 1_000_001_000, "a thousand seconds to the microsecond");
    }

    #[test]
    fn a_poisson_schedule_keeps_its_rate_and_has_exponential_gaps() {
        let mut schedule = Schedule::new(ScheduleKind::Poisson, rate("5/s"), 0, 7);
        let slots: Vec<u64> = (0..20_000).map(|_| schedule.next_us()).collect();
        let last = *slots.last().unwrap();
        let mean = last / 20_000;
        assert!((194_000..206_000).contains(&mean), "mean gap {mean} us, 200,000 wanted");
        // Of exponential gaps, 1 - 1/e = 63.2 % are below the mean; of fixed ones none or all.
        let below = slots.windows(2).filter(|pair| pair[1] - pair[0] < 200_000).count();
        assert!((12_300..12_980).contains(&below), "{below} of 19,999 below the mean");
    }

    #[test]
    fn a_slowed_schedule_has_fewer_slots_and_goes_on_from_the_last_one() {
        for kind in [ScheduleKind::Fixed, ScheduleKind::Poisson] {
            let mut schedule = Schedule::new(kind, rate("10/s"), 0, 7);
            let last = |schedule: &mut Schedule| (0..1_000).map(|_| schedule.next_us()).last().unwrap();
            let full = last(&mut schedule);
            schedule.set_pace(Pace::of(0.25));
            let slowed = last(&mut schedule);
            schedule.set_pace(Pace::FULL);
            let again = last(&mut schedule);
            for (span, seconds) in [(full, 100), (slowed - full, 400), (again - slowed, 100)] {
                let wanted = seconds * 900_000..=seconds * 1_100_000;
                assert!(wanted.contains(&span), "{kind:?}: {span} us for {seconds} s");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_seed_another() {
        let series = |seed| {
            let mut schedule = Schedule::new(ScheduleKind::Poisson, rate("5/s"), 0, seed);
            (0..10).map(|_| schedule.next_us()).collect::<Vec<_>>()
        };
        assert_eq!(series(1), series(1));
        assert_ne!(series(1), series(2));
    }
}

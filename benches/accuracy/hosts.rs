//! Machines: each has a boot of its own and a wall clock that is off by something.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use probes::{Boot, Clock, ClockBound, SystemClock};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use uuid::Uuid;

use super::rig::WALL;

/// Gives out machines.
pub(crate) struct Hosts {
    error: Duration,
    random: StdRng,
    made: u128,
    /// When all clocks read [`WALL`], but for their error.
    began: Instant,
}

impl Hosts {
    /// Machines whose clocks are off by at most `error`.
    pub(crate) fn new(error: Duration) -> Self {
        Self {
            error,
            random: StdRng::seed_from_u64(11),
            made: 0,
            began: Instant::now(),
        }
    }

    /// The next machine, booted now.
    pub(crate) fn another(&mut self) -> Arc<dyn Clock> {
        let error_us = i64::try_from(self.error.as_micros()).unwrap_or(i64::MAX);
        self.made += 1;
        Arc::new(Host {
            system: SystemClock::new(),
            boot: Uuid::from_u128(self.made),
            began: self.began,
            skew_us: self.random.random_range(-error_us..=error_us),
        })
    }

    /// What the clock daemon of each of them says.
    pub(crate) fn bound(&self) -> Arc<dyn ClockBound> {
        Arc::new(Bound(u64::try_from(self.error.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[derive(Debug)]
struct Host {
    system: SystemClock,
    boot: Uuid,
    began: Instant,
    skew_us: i64,
}

impl Clock for Host {
    fn now_us(&self) -> u64 {
        self.system.now_us()
    }

    fn wall_us(&self) -> i64 {
        let since = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        WALL + since + self.skew_us
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot {
            id: self.boot,
            at_us: self.system.now_us(),
        })
    }
}

#[derive(Debug)]
struct Bound(u64);

#[async_trait]
impl ClockBound for Bound {
    async fn bound_us(&self) -> Option<u64> {
        Some(self.0)
    }
}

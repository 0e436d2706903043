//! Time: one monotonic clock for every measurement, one reading of the wall clock for each epoch.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where instants come from.
///
/// Lag by one clock is made of differences of [`Clock::now_us`] alone. [`Clock::wall_us`] is then read once at the start of an epoch, so a step
/// of the wall clock can move no figure. Readings by two clocks are made of it, and carry the bound of its error.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Microseconds since an arbitrary start; never goes back.
    fn now_us(&self) -> u64;

    /// Microseconds since 1970 UTC, by the clock on the wall: may step at any time.
    fn wall_us(&self) -> i64;

    /// The boot of the machine and its age: the one clock that lives on when the process does not. `None`: not known.
    fn boot(&self) -> Option<Boot> {
        None
    }
}

/// An instant since the machine was booted, suspension included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which boot. Instants of different boots are of different clocks.
    pub id: Uuid,
    /// Microseconds since then.
    pub at_us: u64,
}

/// The clock of the machine (and of tokio's paused time in tests, where it follows the virtual time).
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// A clock that starts at 0 now.
    pub fn new() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn wall_us(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }

    fn boot(&self) -> Option<Boot> {
        let id = std::fs::read_to_string(BOOT_ID).ok()?.trim().parse().ok()?;
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(since.tv_sec).ok()?;
        let nanoseconds = u64::try_from(since.tv_nsec).ok()?;
        Some(Boot {
            id,
            at_us: seconds * 1_000_000 + nanoseconds / 1_000,
        })
    }
}

/// A clock that moves only when told; both of its readings are settable, apart from each other.
#[derive(Debug, Default)]
pub struct SimulatedClock {
    now_us: AtomicU64,
    wall_us: AtomicI64,
}

impl SimulatedClock {
    /// A clock that stands at `now_us` and `wall_us`.
    pub fn at(now_us: u64, wall_us: i64) -> Self {
        Self {
            now_us: AtomicU64::new(now_us),
            wall_us: AtomicI64::new(wall_us),
        }
    }

    /// Lets both clocks run on by `by_us`.
    pub fn advance(&self, by_us: u64) {
        self.now_us.fetch_add(by_us, Ordering::SeqCst);
        self.step_wall(i64::try_from(by_us).unwrap_or(i64::MAX));
    }

    /// Moves the wall clock alone, as an administrator or a leap of NTP does.
    pub fn step_wall(&self, by_us: i64) {
        self.wall_us.fetch_add(by_us, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::SeqCst)
    }

    fn wall_us(&self) -> i64 {
        self.wall_us.load(Ordering::SeqCst)
    }
}

/// One reading of all clocks, taken at the start of an epoch: gives monotonic instants their date, and ties them to the machine's
/// boot, so that a later process can go on with what was in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The monotonic clock then.
    pub now_us: u64,
    /// The wall clock then, microseconds since 1970 UTC.
    pub wall_us: i64,
    /// The machine's boot then; `None`: not known.
    #[serde(default)]
    pub boot: Option<Boot>,
    /// How long it took to read the clocks: the boot instant is off by no more than this.
    #[serde(default)]
    pub taken_within_us: u64,
    /// How far the wall clock was off at most; `None`: nobody said.
    #[serde(default)]
    pub wall_error_us: Option<u64>,
}

impl Anchor {
    /// The monotonic clock and the wall clock alone.
    pub fn at(now_us: u64, wall_us: i64) -> Self {
        Self {
            now_us,
            wall_us,
            boot: None,
            taken_within_us: 0,
            wall_error_us: None,
        }
    }

    /// Reads the clocks.
    pub fn take(clock: &dyn Clock) -> Self {
        let now_us = clock.now_us();
        let boot = clock.boot();
        let taken_within_us = clock.now_us().saturating_sub(now_us);
        Self {
            boot,
            taken_within_us,
            ..Self::at(now_us, clock.wall_us())
        }
    }

    /// The date of a monotonic instant, microseconds since 1970 UTC.
    pub fn wall(&self, at_us: u64) -> i64 {
        let since = if at_us >= self.now_us {
            i64::try_from(at_us - self.now_us).unwrap_or(i64::MAX)
        } else {
            -i64::try_from(self.now_us - at_us).unwrap_or(i64::MAX)
        };
        self.wall_us.saturating_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_moves_neither_the_monotonic_clock_nor_dates_of_the_epoch() {
        let clock = SimulatedClock::at(5, 1_000_000);
        let anchor = Anchor::take(&clock);
        clock.advance(10);
        clock.step_wall(-3_600_000_000);
        assert_eq!(clock.now_us(), 15);
        assert_eq!(anchor.wall(clock.now_us()), 1_000_010);
        assert_eq!(anchor.wall(0), 999_995);
    }

    #[test]
    fn the_machine_tells_its_boot() {
        let clock = SystemClock::new();
        let (first, second) = (clock.boot().unwrap(), clock.boot().unwrap());
        assert_eq!(first.id, second.id);
        assert!(first.at_us > 0 && second.at_us >= first.at_us);
        assert_eq!(Anchor::take(&clock).boot.unwrap().id, first.id);
    }

    #[test]
    fn an_anchor_of_an_older_ledger_knows_no_boot() {
        let anchor: Anchor = serde_json::from_str(r#"{"now_us":5,"wall_us":7}"#).unwrap();
        assert_eq!(anchor, Anchor::at(5, 7));
    }
}

//! What is injected between a write and its visibility.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stores::memory::{Delay, Pair};

const MS: Duration = Duration::from_millis(1);
/// How long the delay of a bimodal link holds.
const MODE: Duration = Duration::from_millis(300);

/// How a link delays. Order is kept: what is behind something slow waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delays {
    /// Always this many milliseconds.
    Fixed(u32),
    /// 5 ms or 500 ms, by chance, for 300 ms each.
    Bimodal,
    /// 1 to 20 ms; each 10 s a second of 2 to 3 s.
    Bursty,
    /// 5 ms, and nothing arrives for 20 s of each minute.
    Stalled,
    /// 5 ms, and from the middle on nothing arrives any more.
    Dead,
}

impl Delays {
    pub(crate) const ALL: [Self; 12] = [
        Self::Fixed(1),
        Self::Fixed(5),
        Self::Fixed(20),
        Self::Fixed(100),
        Self::Fixed(470),
        Self::Fixed(2_000),
        Self::Fixed(10_000),
        Self::Fixed(60_000),
        Self::Bimodal,
        Self::Bursty,
        Self::Stalled,
        Self::Dead,
    ];

    /// In words.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Fixed(ms) => format!("fixed, {ms} ms"),
            Self::Bimodal => "bimodal, 5 or 500 ms".to_owned(),
            Self::Bursty => "bursty, 1 to 20 ms or 2 to 3 s".to_owned(),
            Self::Stalled => "stalled for 20 s of each minute".to_owned(),
            Self::Dead => "dead from the middle on".to_owned(),
        }
    }

    /// Whether everything arrives in the end.
    pub(crate) fn ends(self) -> bool {
        self != Self::Dead
    }

    /// The delay before [`drive`](Self::drive) changes it.
    pub(crate) fn at_first(self) -> Delay {
        match self {
            Self::Fixed(ms) => Delay::Fixed(MS * ms),
            Self::Bimodal | Self::Stalled | Self::Dead => Delay::Fixed(MS * 5),
            Self::Bursty => Delay::Between(MS, MS * 20),
        }
    }

    /// Changes the link as time goes on.
    pub(crate) async fn drive(self, pair: Pair, length: Duration) {
        match self {
            Self::Fixed(_) => {}
            Self::Bimodal => {
                let mut random = StdRng::seed_from_u64(7);
                loop {
                    let is_slow = random.random_range(0..2) == 1;
                    pair.set_delay(Delay::Fixed(MS * if is_slow { 500 } else { 5 }));
                    tokio::time::sleep(MODE).await;
                }
            }
            Self::Bursty => loop {
                tokio::time::sleep(Duration::from_secs(9)).await;
                pair.set_delay(Delay::Between(MS * 2_000, MS * 3_000));
                tokio::time::sleep(Duration::from_secs(1)).await;
                pair.set_delay(self.at_first());
            },
            Self::Stalled => loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                pair.stall();
                tokio::time::sleep(Duration::from_secs(20)).await;
                pair.resume();
                tokio::time::sleep(Duration::from_secs(30)).await;
            },
            Self::Dead => {
                tokio::time::sleep(length / 2).await;
                pair.stall();
            }
        }
    }

    /// Canaries a second of a probe that moves: of a short delay few are under way at any instant.
    pub(crate) fn rate_of_moves(self) -> &'static str {
        match self {
            Self::Fixed(ms) if ms < 1_000 => "1000/s",
            Self::Bimodal => "200/s",
            Self::Fixed(_) | Self::Bursty | Self::Stalled | Self::Dead => "20/s",
        }
    }

    /// When a probe moves: late enough to have canaries under way, in the middle of what is slow.
    pub(crate) fn until_moved(self) -> Duration {
        match self {
            Self::Fixed(ms) if ms < 1_000 => Duration::from_secs(2),
            Self::Bimodal => Duration::from_secs(3),
            Self::Fixed(ms) => MS * ms.min(20_000),
            Self::Bursty => MS * 9_700,
            Self::Stalled | Self::Dead => Duration::from_secs(25),
        }
    }
}

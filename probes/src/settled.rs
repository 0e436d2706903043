//! One canary whose fate is known, in compact form; the record for evidence is made from it.

use serde::{Deserialize, Serialize};

use crate::clock::Anchor;
use crate::{FinalState, LagSample, Route};

/// The final word on one canary. Instants are microseconds on the epoch's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The canary.
    pub sequence: u64,
    /// When the schedule wanted it to leave.
    pub planned_us: u64,
    /// When it left (w0).
    pub sent_us: u64,
    /// When the primary acknowledged it (w1).
    pub acked_us: Option<u64>,
    /// When the answer that showed it came in (h).
    pub seen_us: Option<u64>,
    /// Low end of lag: max(0, m - w1), where m is the instant at which the last poll that did not show it was sent.
    pub low_us: Option<u64>,
    /// High end of lag: h - w0; `None` is unbounded.
    pub high_us: Option<u64>,
    /// Whether the low end rests on a valid miss.
    pub low_known: bool,
    /// Its fate.
    pub state: FinalState,
}

/// Who measured: what every record of one epoch has in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The route.
    pub route: Route,
    /// The stream of its canaries.
    pub stream: String,
    /// The epoch.
    pub epoch: String,
    /// Dates the epoch's instants.
    pub anchor: Anchor,
}

/// On which clocks the two ends of a reading were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClockUse {
    /// One monotonic clock. Across a restart, tying both processes to the machine's boot costs this much.
    One { error_us: u64 },
    /// Two wall clocks, which are off by no more than this together; `None`: nobody says by how much, so there is no reading.
    Two { error_us: Option<u64> },
}

impl ClockUse {
    /// One process.
    pub(crate) const SAME: Self = Self::One { error_us: 0 };

    fn word(self) -> &'static str {
        match self {
            Self::One { .. } => "monotonic",
            Self::Two { .. } => "two_clock",
        }
    }

    fn error_us(self) -> u64 {
        match self {
            Self::One { error_us } => error_us,
            Self::Two { error_us } => error_us.unwrap_or(CLOCK_ERROR_UNKNOWN_US),
        }
    }
}

/// The bound of a clock error that nobody knows: there is no reading beside it.
pub const CLOCK_ERROR_UNKNOWN_US: u64 = 0x7fff_ffff_ffff_ffff;

impl Settled {
    /// The row of evidence of a canary that was written and seen by one process.
    pub fn sample(&self, origin: &Origin) -> LagSample {
        self.sample_on(origin, ClockUse::SAME)
    }

    pub(crate) fn sample_on(&self, origin: &Origin, clock: ClockUse) -> LagSample {
        let wall = |at: u64| origin.anchor.wall(at);
        LagSample {
            route: origin.route.clone(),
            stream: origin.stream.clone(),
            epoch: origin.epoch.clone(),
            sequence: self.sequence,
            planned_at_us: wall(self.planned_us),
            sent_at_us: Some(wall(self.sent_us)),
            acked_at_us: self.acked_us.map(wall),
            seen_at_us: self.seen_us.map(wall),
            lag_low_us: self.low_us,
            lag_high_us: self.high_us,
            low_known: self.low_known,
            write_us: self.acked_us.map(|at| at.saturating_sub(self.sent_us)),
            late_us: Some(self.sent_us.saturating_sub(self.planned_us)),
            clock: clock.word().to_owned(),
            clock_error_us: clock.error_us(),
            state: self.state,
        }
    }
}

//! The closed lists of the contract.

use probes::{FinalState, LossShape};
use reconcile::{ChunkState, CoverageState, Origin, State};
use stores::{Class, DigestMode, Relation};

use super::schema::{Cell, Field, Rule, Type};
use crate::EventKind;

/// Makes an enumeration that belongs to the tables alone.
macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $about:literal])+ $variant:ident = $word:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[doc = $about])+ #[serde(rename = $word)] $variant, )+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[ $( Self::$variant, )+ ];

            /// The word in files.
            pub fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }
    };
}

/// Lets an enumeration with `word()` stand in a column; the list is its closed list.
macro_rules! word_field {
    ($name:ty, $all:expr) => {
        impl Field for $name {
            const TYPE: Type = Type::Text;

            fn rule() -> Rule {
                Rule::OneOf($all.iter().map(|value| value.word()).collect())
            }

            fn into_cell(self) -> Result<Cell, String> {
                Ok(Cell::Text(self.word().to_owned()))
            }

            fn from_cell(cell: Cell) -> Option<Self> {
                match cell {
                    Cell::Text(text) => $all.iter().copied().find(|value| value.word() == text),
                    _ => None,
                }
            }
        }
    };
}

words! {
    /// Commands that leave evidence.
    RunKind {
        /// `driftline probe`.
        Probe = "probe",
        /// `driftline reconcile`.
        Reconcile = "reconcile",
        /// `driftline rpo`.
        Rpo = "rpo",
        /// `driftline event`.
        Event = "event",
        /// `driftline gate`.
        Gate = "gate",
    }
}

words! {
    /// How a run stands or ended. Not what it found: that is in `complete` and `exit_code`.
    RunStatus {
        /// It runs, or it died without a word and no later run has noticed yet.
        Running = "running",
        /// It came to its own end.
        Succeeded = "succeeded",
        /// It stopped by an error.
        Failed = "failed",
        /// It was told to stop (SIGTERM, Ctrl-C, time budget) and drained.
        Interrupted = "interrupted",
        /// It died; a later run noticed.
        Killed = "killed",
    }
}

words! {
    /// What proved that the secondary had passed a point of the primary.
    Fence {
        /// Positions of the log.
        Lsn = "lsn",
        /// A canary in the same subscription or task.
        Canary = "canary",
        /// The last record below a snapshot offset.
        Content = "content",
        /// Waiting for a multiple of the worst lag: not a proof.
        Time = "time",
        /// Nothing is in flight: independent or frozen copies.
        None = "none",
    }
}

words! {
    /// How the two instants of a lag reading are related.
    Clock {
        /// One monotonic clock.
        Monotonic = "monotonic",
        /// Clocks of two hosts, with a bound of their error.
        TwoClock = "two_clock",
    }
}

words! {
    /// The verdict on a criterion or a gate.
    Verdict {
        /// Proved good.
        Go = "GO",
        /// Proved worse than wanted.
        Investigate = "INVESTIGATE",
        /// Proved unacceptable.
        NoGo = "NO-GO",
        /// The evidence decides nothing.
        Inconclusive = "INCONCLUSIVE",
        /// Set aside by a named approver until a date.
        Waived = "WAIVED",
        /// Does not apply here, as a person stated.
        NotApplicable = "NOT_APPLICABLE",
    }
}

const LOSS_SHAPES: [LossShape; 4] = [
    LossShape::None,
    LossShape::Suffix,
    LossShape::Holes,
    LossShape::Scattered,
];
const DIGEST_MODES: [DigestMode; 2] = [DigestMode::Pushdown, DigestMode::Client];
const RELATIONS: [Relation; 3] = [Relation::Replicating, Relation::Independent, Relation::Frozen];

word_field!(RunKind, RunKind::ALL);
word_field!(RunStatus, RunStatus::ALL);
word_field!(Fence, Fence::ALL);
word_field!(Clock, Clock::ALL);
word_field!(Verdict, Verdict::ALL);
word_field!(CoverageState, CoverageState::ALL);
word_field!(ChunkState, ChunkState::ALL);
word_field!(State, State::ALL);
word_field!(Origin, Origin::ALL);
word_field!(Class, Class::ALL);
word_field!(FinalState, FinalState::ALL);
word_field!(EventKind, EventKind::ALL);
word_field!(LossShape, LOSS_SHAPES);
word_field!(DigestMode, DIGEST_MODES);
word_field!(Relation, RELATIONS);

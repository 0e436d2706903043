//! Plan, digest comparison, narrowing, recheck; ends at a journal.
//!
//! The one rule of this crate: nothing is equal that was not verified. Whatever could not be compared, read again or proved to be no
//! longer in flight is counted, with its reason, and makes the run incomplete.
//!
//! What "equal" means: without a link, that there was an instant at which both sides held the same. Behind a link, that what the
//! secondary showed is what the primary showed at a nearby instant; a hot value that is wrong by exactly what was in flight between
//! the two looks equal in that look, and is found by the next one.

mod compare;
mod disclose;
mod error;
mod explain;
mod link;
mod narrow;
mod origin;
mod outcome;
mod plan;
mod progress;
mod recheck;
mod record;
mod request;
mod retry;
mod run;
mod schema;
mod vote;

pub use error::ReconcileError;
pub use outcome::*;
pub use plan::{Cut, Plan, PlannedCollection, RowPlan, Work};
pub use progress::Event;
pub use record::Counts;
pub use request::{FenceKind, ForkEvidence, KeySecret, Limits, NotSelected, Pair, Request, Selected, Settings, Side};
pub use retry::asked;
pub use run::{Summary, run};
pub use schema::SchemaDifference;

/// Now, microseconds since 1970 UTC. For evidence only; nothing is measured with it.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

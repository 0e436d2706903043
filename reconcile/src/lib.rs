//! Plan, shards, merge; in a shard digest comparison, narrowing, recheck. Ends at a journal.
//!
//! The one rule of this crate: nothing is equal that was not verified. Whatever could not be compared, read again or proved to be no
//! longer in flight is counted, with its reason, and makes the run incomplete.
//!
//! What "equal" means: without a link, that there was an instant at which both sides held the same. Behind a link, that what the
//! secondary showed is what the primary showed at a nearby instant; a hot value that is wrong by exactly what was in flight between
//! the two looks equal in that look, and is found by the next one.

mod again;
mod against;
mod attempt;
mod compare;
mod counter;
mod coverage;
mod disclose;
mod error;
mod estimate;
mod explain;
mod gates;
mod link;
mod look;
mod measure;
mod merge;
mod narrow;
mod one_side;
mod origin;
mod outcome;
mod pace;
mod plan;
mod progress;
mod recheck;
mod record;
mod recorded;
mod request;
mod retry;
mod run;
mod run_plan;
mod scan_digest;
mod scan_join;
mod scan_plan;
mod scan_resolve;
mod schema;
mod session;
mod shard;
mod spill;
mod subranges;
mod told;
mod vote;
mod workplace;

pub use again::KnownKey;
pub use against::LiveSide;
pub use attempt::SHARD_KIND;
pub use error::ReconcileError;
pub use estimate::{Estimate, STATED_BYTES_PER_SECOND, STATED_ROWS_PER_SECOND, estimates, pages, rows_per_second};
pub use look::{Earlier, Look};
pub use merge::Summary;
pub use outcome::*;
pub use pace::{DigestChoice, Pace};
pub use plan::{Cut, ENCODING_VERSION, Plan, PlannedCollection, RowPlan, Work};
pub use progress::Event;
pub use record::Counts;
pub use request::{
    FenceKind, ForkEvidence, KeySecret, Limits, NotSelected, Pair, ReadsInFlight, Request, Selected, Settings, Side,
    TIME_FENCE_MIN,
};
pub use retry::asked;
pub use run::{Missing, RUN_KIND, run};
pub use run_plan::{About, Job, RunPlan, Shard};
pub use scan_digest::{ScannedPart, Spilled};
pub use scan_plan::{Scan, Scans};
pub use schema::SchemaDifference;
pub use session::{Session, Staged, Stop};
pub use shard::{Piece, Stage};
pub use workplace::Workplace;

/// Now, microseconds since 1970 UTC. For evidence only; nothing is measured with it.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// Lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

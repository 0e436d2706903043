//! Canaries: schedule, tracker, histograms, ledger, service endpoints.
//!
//! [`run`] probes routes: canaries leave on an open-loop [`Schedule`], a reader watches for them at the secondary, and one pure
//! [`Tracker`] decides what became of each. What it decides is written to the [`Ledger`] before it shows in [`Metrics`], in
//! [`Intervals`] or in [`Output`]. After an event [`judge_rpo`] holds the ledger against what the promoted end has.
//!
//! Who may write is stated ([`StatedWriters`]), never observed: each change of roles begins a new epoch, and what an epoch leaves open is
//! taken up by the next one, also in another process.
//!
//! Lag is an interval, [max(0, m - w1), h - w0], on one monotonic clock; what is unseen is unbounded above, and only a poll that was
//! answered raises its low end.

mod accounting;
mod arrivals;
mod carried;
mod clock;
mod clock_bound;
mod config;
mod engine;
mod epoch;
mod error;
mod histogram;
mod intervals;
mod kept_bound;
mod ledger;
mod leftover;
mod live;
mod lookout;
mod metrics;
mod misses;
mod native;
mod pace;
mod polling;
mod reader;
mod recorder;
mod replay;
mod ring;
mod route;
mod rpo;
mod sample;
mod schedule;
mod service;
mod settled;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod stated;
mod status;
mod tracker;
mod troubles;
mod two_clock;
mod watcher;
mod writer;

pub use accounting::Accounting;
pub use clock::{Anchor, Boot, Clock, SimulatedClock, SystemClock};
pub use clock_bound::{Chrony, ClockBound, TrackingError, chrony_bound_us};
pub use config::{Config, OverdueAfter, RATE_PER_SECOND_MAX, Rate, ScheduleKind, SettingError};
pub use engine::{Part, RouteSpec, RouteSummary, Setting, Summary, run, run_growing, runtime};
pub use error::ProbeError;
pub use histogram::{Distribution, HDR_DIGITS, HDR_US_MAX, HDR_US_MIN};
pub use intervals::{INTERVAL_US, Intervals, Moment, SLOT_LATE_US_MAX};
pub use kept_bound::KeptBound;
pub use ledger::{
    Copies, CopyError, CopyFigures, CopyPlace, CopyState, EpochLedger, Fetched, Frame, KEEP_UNSETTLED_FACTOR,
    LEDGER_KIND, Ledger, LedgerConfig, LedgerError, NextSegment, Period, RESERVE, Reach, Removed, SEGMENT_AGE_MAX,
    SEGMENT_BYTES_MAX, Segment, WriteFate, Written, fetch_ledgers, first_unreserved, ledgers, remove_old, ring_frames,
};
pub use metrics::{
    BudgetFigures, EVENT_KINDS_MAX, Lately, LedgerFigures, METERS_MAX, Metrics, OTHER, PlaceFigures, Reconciled,
    SERIES_MAX, STREAMS_MAX, UNMEASURED_MAX, Unmeasured, metric_labels, metric_names,
};
pub use misses::INSTANCES_MAX;
pub use pace::{PACE_MIN, Pace};
pub use polling::Polling;
pub use recorder::{OUTPUT_BACKLOG_MAX, Output};
pub use replay::{KeptRing, Replayed, replay};
pub use rpo::{CutOver, LOST_LISTED_MAX, MergedRpo, RpoQuestion, judge_rpo, merge_rpos};
pub use sample::*;
pub use schedule::Schedule;
pub use service::{Readiness, serve};
pub use settled::{CLOCK_ERROR_UNKNOWN_US, Origin, Settled};
pub use stated::StatedWriters;
pub use status::{RouteState, RouteStatus, Status};
pub use tracker::{PENDING_MAX, SOUGHT_MAX, Tracker, Wanted};
pub use two_clock::{Crossed, Crossing};

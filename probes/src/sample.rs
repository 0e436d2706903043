//! What probes leave behind: one sample a canary, one interval a minute.

use serde::{Deserialize, Serialize};

/// A route as evidence names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// The dataset (or connection, where one canary serves several datasets) that the canary represents.
    pub dataset: String,
    /// `aurora`, ...
    pub store: String,
    /// Where the canary is written.
    pub primary_site: String,
    /// Where it is watched for.
    pub secondary_site: String,
    /// The running probe: site and host.
    pub observer: String,
}

/// The final state of a canary on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalState {
    /// Visible at the secondary.
    Seen,
    /// Acknowledged, and proved never to arrive.
    Lost,
    /// Overwritten in its slot before it was seen.
    Superseded,
    /// Certainly not written.
    WriteFailed,
    /// Sent, outcome unknown, never seen.
    WriteUnknown,
}

impl FinalState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Seen,
        Self::Lost,
        Self::Superseded,
        Self::WriteFailed,
        Self::WriteUnknown,
    ];

    /// The word of the `lag_samples.state` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Lost => "lost",
            Self::Superseded => "superseded",
            Self::WriteFailed => "write_failed",
            Self::WriteUnknown => "write_unknown",
        }
    }
}

/// One canary x route, written once, when final. Instants are microseconds since 1970 UTC, derived from one monotonic clock
/// and one reading of the wall clock at the epoch's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSample {
    /// The route.
    pub route: Route,
    /// The canary's stream.
    pub stream: String,
    /// The canary's epoch.
    pub epoch: String,
    /// The canary's sequence.
    pub sequence: u64,
    /// When the schedule wanted it to leave.
    pub planned_at_us: i64,
    /// When it left (w0).
    pub sent_at_us: Option<i64>,
    /// When the primary acknowledged it (w1).
    pub acked_at_us: Option<i64>,
    /// When the answer of the first hit came in (h).
    pub seen_at_us: Option<i64>,
    /// Low end: max(0, m - w1); 0 with `low_known = false` when there is no valid miss; the age for one never seen.
    pub lag_low_us: Option<u64>,
    /// High end: h - w0; `None` = unbounded.
    pub lag_high_us: Option<u64>,
    /// Whether the low end rests on a valid miss.
    pub low_known: bool,
    /// w1 - w0.
    pub write_us: Option<u64>,
    /// w0 - planned.
    pub late_us: Option<u64>,
    /// `monotonic`; later also `two_clock`.
    pub clock: String,
    /// Bound of the clock error, 0 on one clock.
    pub clock_error_us: u64,
    /// Final state.
    pub state: FinalState,
}

/// Quantiles of one end of lag. `None` = the rank falls among unbounded samples, or there is no sample at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50_us: Option<u64>,
    /// 90th percentile.
    pub p90_us: Option<u64>,
    /// 95th percentile.
    pub p95_us: Option<u64>,
    /// 99th percentile.
    pub p99_us: Option<u64>,
    /// 99.9th percentile.
    pub p99_9_us: Option<u64>,
    /// Largest.
    pub max_us: Option<u64>,
}

/// Route x interval of planned instants x revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LagInterval {
    /// The route.
    pub route: Route,
    /// The epoch; an interval that spans two epochs gives two rows.
    pub epoch: String,
    /// Start, aligned to UTC, microseconds since 1970.
    pub interval_start_us: i64,
    /// End, exclusive.
    pub interval_end_us: i64,
    /// From 0; a later revision replaces earlier ones.
    pub revision: u64,
    /// All canaries of the interval are settled: no further revision comes.
    pub is_final: bool,
    /// planned = skipped + write_failed + write_unknown + pending + seen + lost + superseded.
    pub planned: u64,
    /// Seen.
    pub seen: u64,
    /// Neither seen nor settled otherwise.
    pub pending: u64,
    /// Of the pending, those older than `overdue_after`.
    pub overdue: u64,
    /// Lost.
    pub lost: u64,
    /// Superseded.
    pub superseded: u64,
    /// Not written.
    pub write_failed: u64,
    /// Nobody knows.
    pub write_unknown: u64,
    /// Slots of the schedule in which nothing was sent.
    pub skipped: u64,
    /// Part of the interval in which this observer did not run, microseconds.
    pub gap_us: u64,
    /// Quantiles of the low end (unseen canaries count with their age).
    pub low: Quantiles,
    /// Quantiles of the high end (unseen canaries are unbounded).
    pub high: Quantiles,
    /// Age of the oldest unseen canary when the revision was made; `None` = none unseen.
    pub oldest_unseen_us: Option<u64>,
    /// The store's own lag figure; `None` = not collected.
    pub native_lag_us: Option<u64>,
    /// HDR histogram of the low end, base64 of V2.
    pub hdr_low: String,
    /// HDR histogram of the high end (settled canaries only), base64 of V2.
    pub hdr_high: String,
}

/// How the lost canaries lie among the survivors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossShape {
    /// Nothing lost.
    None,
    /// Only the newest are lost: no lost canary was acknowledged before a survivor was sent.
    Suffix,
    /// Some lost canary was acknowledged before a survivor was sent.
    Holes,
    /// An unordered store: absent as of the instant at which the surviving ring was read, within the run that judged. What was under way
    /// then may still arrive, and a survivor proves nothing about others.
    Scattered,
}

impl LossShape {
    /// The word of the `rpo.shape` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Suffix => "suffix",
            Self::Holes => "holes",
            Self::Scattered => "scattered",
        }
    }
}

/// What the ledger proves about one event on one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rpo {
    /// The route, as it was before the event.
    pub route: Route,
    /// The event.
    pub event_id: String,
    /// The epoch whose canaries were judged.
    pub epoch: String,
    /// Acknowledged in the judged span.
    pub acked: u64,
    /// Of those, present at the promoted end (by the ring, or implied by the order of the store; in an unordered one also those that had
    /// arrived there before a later one took their slot).
    pub survived: u64,
    /// Of those, absent.
    pub lost: u64,
    /// Acknowledged with nothing to show whether they are there, or written with unknown outcome and absent: lost is `lost` to
    /// `lost + unknown`.
    pub unknown: u64,
    /// Acknowledgement of the first lost canary.
    pub first_lost_at_us: Option<i64>,
    /// Acknowledgement of the last lost canary.
    pub last_lost_at_us: Option<i64>,
    /// Last lost ack - first lost ack; 0 if none is lost.
    pub rpo_low_us: u64,
    /// Cut-over instant - w0 of the newest survivor that was sent before the first canary that is, or may be, lost was acknowledged;
    /// `None` = unbounded (no such survivor known).
    pub rpo_high_us: Option<u64>,
    /// Until when the ledger is complete; canaries after it may be missing from it.
    pub ledger_complete_until_us: i64,
    /// Shape of the loss.
    pub shape: LossShape,
    /// The lost canaries (state `lost`) and the unknown ones (`write_unknown`).
    pub canaries: Vec<LagSample>,
}

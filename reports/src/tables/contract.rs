//! The contract: every column of every table with its type, nullability, closed list and meaning. One place; the structs that the rest of
//! the program fills, the schema of the files, the reader's checks and `docs/parquet.md` are all made from it.
//!
//! Longer than other files because it is one list. To change it: change it here, let the test rewrite the page, and raise
//! [`super::SCHEMA_VERSION`] unless a column was only added at the end.

use std::sync::LazyLock;

use probes::{FinalState, LossShape};
use reconcile::{ChunkState, CoverageState, Origin, State};
use stores::{Class, DigestMode, Relation};

use super::SCHEMA_VERSION;
use super::schema::{AtMicros, Cell, Column, Field, Hex, Row, Table};
use super::words::{Clock, Fence, RunKind, RunStatus, Verdict};
use crate::EventKind;

/// Makes the struct of a row, its columns and the conversions. `run_id` and `schema_version` come first in every table.
macro_rules! table {
    ($(#[doc = $grain:literal])+ $name:literal as $row:ident dated by $clock:literal {
        $( $(#[doc = $doc:literal])+ $column:ident: $type:ty, )*
    }) => {
        $(#[doc = $grain])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $row {
            /// The run that wrote the row: UUIDv7 text.
            pub run_id: String,
            $( $(#[doc = $doc])+ pub $column: $type, )*
        }

        impl Row for $row {
            fn table() -> &'static Table {
                static TABLE: LazyLock<Table> = LazyLock::new(|| {
                    let columns = vec![ $( Column::of::<$type>(stringify!($column), concat!($($doc),+)), )* ];
                    Table::new($name, concat!($($grain),+), $clock, columns)
                });
                &TABLE
            }

            fn into_cells(self) -> Result<Vec<Cell>, (&'static str, String)> {
                Ok(vec![
                    Cell::Text(self.run_id),
                    Cell::Int(SCHEMA_VERSION),
                    $( self.$column.into_cell().map_err(|problem| (stringify!($column), problem))?, )*
                ])
            }

            fn from_cells(cells: Vec<Cell>) -> Result<Self, (&'static str, String)> {
                let mut cells = cells.into_iter();
                let run_id = take(&mut cells, "run_id")?;
                cells.next(); // schema_version, checked by whoever read the file
                Ok(Self {
                    run_id,
                    $( $column: take(&mut cells, stringify!($column))?, )*
                })
            }
        }
    };
}

fn take<F: Field>(cells: &mut impl Iterator<Item = Cell>, column: &'static str) -> Result<F, (&'static str, String)> {
    let cell = cells.next().ok_or((column, "missing".to_owned()))?;
    let shown = format!("{cell:?} has no place in it");
    F::from_cell(cell).ok_or((column, shown))
}

/// Every table, in the order of the documentation.
pub fn tables() -> [&'static Table; 11] {
    [
        RunRow::table(),
        CoverageRow::table(),
        ChunkRow::table(),
        DivergenceRow::table(),
        LagSampleRow::table(),
        LagIntervalRow::table(),
        RpoRow::table(),
        RpoCanaryRow::table(),
        EventRow::table(),
        GateCriterionRow::table(),
        CostRow::table(),
    ]
}

table! {
    /// One run x revision: one execution of a command that leaves evidence. The highest revision of a run is the truth.
    /// For `reconcile`, `rpo` and `gate` this row is written last: rows of other tables whose run has no row here do not count.
    "runs" as RunRow dated by "started_at" {
        /// The dataset; NULL where the run covers several.
        dataset: Option<String>,
        /// The store of the dataset (`aurora`, ...); NULL where several are meant.
        store: Option<String>,
        /// The site that takes writes; NULL where the run has no single pair.
        primary_site: Option<String>,
        /// The other site; NULL where the run has no single pair.
        secondary_site: Option<String>,
        /// The command.
        kind: RunKind,
        /// From 0; a later revision replaces earlier ones.
        revision: u64,
        /// The run that this one continues, e.g. the probe of the day before.
        parent_run_id: Option<String>,
        /// The event that this run is about.
        event_id: Option<String>,
        /// The version of driftline.
        tool_version: String,
        /// SHA-256 of the effective configuration, secrets left out.
        config_sha256: Option<Hex<64>>,
        /// JSON object: the fingerprint (SHA-256) of each dataset. Evidence of two runs belongs together when it is equal.
        dataset_fingerprints: String,
        /// JSON object: identity, region, role and version of each site as observed.
        sites: String,
        /// How the two copies are related.
        relation: Option<Relation>,
        /// Names the secret that `key_hash` was made with, without telling it.
        key_hash_id: Option<String>,
        /// Probability that a difference was missed because two digests were equal by chance.
        miss_probability: Option<f64>,
        /// The person or service that ran the command.
        executed_by: String,
        /// The host that it ran on.
        host: String,
        /// When it started.
        started_at: AtMicros,
        /// When it ended; NULL while it runs and where nobody saw its end.
        finished_at: Option<AtMicros>,
        /// How it stands or ended; not what it found.
        status: RunStatus,
        /// Whether everything that was asked for was done and verified.
        complete: bool,
        /// The exit code; NULL while it runs and where it was killed.
        exit_code: Option<i64>,
    }
}

table! {
    /// One collection x pair of a reconciliation: what was verified, what was not, and why.
    "coverage" as CoverageRow dated by "started_at" {
        /// The dataset.
        dataset: String,
        /// The store.
        store: String,
        /// The stated writer of the pair.
        primary_site: String,
        /// The other site.
        secondary_site: String,
        /// The collection by the name that evidence uses.
        collection: String,
        /// Its name at the primary; NULL: it does not exist there.
        primary_collection: Option<String>,
        /// Its name at the secondary; NULL: it does not exist there.
        secondary_collection: Option<String>,
        /// JSON object: the labels of the dataset.
        labels: String,
        /// Filters, excluded columns, semantic compares and evidence used, in words; NULL: the whole collection.
        scope: Option<String>,
        /// The fence of its rechecks; NULL: there was none to recheck.
        fence: Option<Fence>,
        /// The result. Only `verified` means equal.
        state: CoverageState,
        /// Why it is not `verified`; starts with a stable word.
        reason: Option<String>,
        /// Rows at the primary; NULL: not counted.
        primary_rows: Option<u64>,
        /// Rows at the secondary; NULL: not counted.
        secondary_rows: Option<u64>,
        /// Size at the primary by the store's own account.
        primary_bytes: Option<u64>,
        /// Size at the secondary by the store's own account.
        secondary_bytes: Option<u64>,
        /// Canaries of driftline left out of the comparison.
        canaries_excluded: u64,
        /// Chunks planned.
        chunks_total: u64,
        /// Chunks found equal, or whose differences were all in flight.
        chunks_equal: u64,
        /// Chunks with a confirmed divergence.
        chunks_different: u64,
        /// Chunks that could not be compared.
        chunks_failed: u64,
        /// Keys that differ, confirmed. Counted also where listing was capped.
        confirmed: u64,
        /// Keys that kept changing.
        volatile: u64,
        /// Keys that could not be read again.
        unverified: u64,
        /// Keys that were only in flight.
        transient: u64,
        /// When the collection was begun.
        started_at: AtMicros,
        /// When it was done.
        finished_at: AtMicros,
    }
}

table! {
    /// One chunk x pair of a reconciliation, as digested.
    "chunks" as ChunkRow dated by "read_at" {
        /// The dataset.
        dataset: String,
        /// The store.
        store: String,
        /// The stated writer of the pair.
        primary_site: String,
        /// The other site.
        secondary_site: String,
        /// The collection.
        collection: String,
        /// Number of the chunk in its collection, from 0.
        chunk_id: u64,
        /// First key as JSON array of its columns; NULL: open, or keys are not disclosed. A hash bucket is `{"bucket":3,"of":16}`.
        range_start: Option<String>,
        /// First key behind the range as JSON array; NULL: open, a hash bucket, or keys are not disclosed.
        range_end: Option<String>,
        /// Rows at the primary; NULL: not obtained.
        primary_count: Option<u64>,
        /// Rows at the secondary; NULL: not obtained.
        secondary_count: Option<u64>,
        /// Sum of row digests at the primary; comparable only within one run.
        primary_digest: Option<Hex<32>>,
        /// Sum of row digests at the secondary.
        secondary_digest: Option<Hex<32>>,
        /// Where rows were hashed.
        digest_mode: DigestMode,
        /// Seeds of the digests, 16 hex digits each, drawn for each run.
        seeds: Vec<String>,
        /// The result of the digests; the divergences tell what became of it.
        state: ChunkState,
        /// Tries, both sides together counted once.
        attempts: u64,
        /// Time of the primary's digest query.
        primary_us: Option<u64>,
        /// Time of the secondary's digest query.
        secondary_us: Option<u64>,
        /// When it was read.
        read_at: AtMicros,
        /// Why it failed.
        error: Option<String>,
    }
}

table! {
    /// One key that differs, or one collection that differs as a whole.
    "divergences" as DivergenceRow dated by "first_seen_at" {
        /// The dataset.
        dataset: String,
        /// The store.
        store: String,
        /// The stated writer of the pair.
        primary_site: String,
        /// The other site.
        secondary_site: String,
        /// The collection.
        collection: String,
        /// The chunk that it was found in; NULL: the collection as a whole.
        chunk_id: Option<u64>,
        /// The key as JSON object by the names of its columns; NULL: not disclosed, or the collection as a whole.
        key: Option<String>,
        /// Keyed hash of the key (HMAC-SHA-256), by `keys = "hashed"`.
        key_hash: Option<Hex<64>>,
        /// What differs.
        class: Class,
        /// Store-specific words.
        detail: Option<String>,
        /// What became of it. Only `confirmed` is a divergence by itself.
        state: State,
        /// Where it comes from; NULL: no event was given.
        origin: Option<Origin>,
        /// What the origin rests on.
        origin_evidence: Option<String>,
        /// The columns that differ; empty when a whole row is missing.
        columns: Vec<String>,
        /// Row digest at the primary; NULL: no row.
        primary_digest: Option<Hex<32>>,
        /// Row digest at the secondary; NULL: no row.
        secondary_digest: Option<Hex<32>>,
        /// The row at the primary as JSON; NULL unless asked for.
        primary_value: Option<String>,
        /// The row at the secondary as JSON; NULL unless asked for.
        secondary_value: Option<String>,
        /// When the primary's row says that it changed.
        primary_changed_at: Option<AtMicros>,
        /// When the secondary's row says that it changed.
        secondary_changed_at: Option<AtMicros>,
        /// When it was first listed as different.
        first_seen_at: AtMicros,
        /// When it was last read again.
        last_rechecked_at: Option<AtMicros>,
        /// Rechecks, conclusive or not.
        rechecks: u64,
        /// One sentence for a person.
        explanation: Option<String>,
    }
}

table! {
    /// One canary x route, written once, when its state is final.
    "lag_samples" as LagSampleRow dated by "planned_at" {
        /// The dataset (or connection) that the canary represents.
        dataset: String,
        /// The store.
        store: String,
        /// Where the canary was written.
        primary_site: String,
        /// Where it was watched for.
        secondary_site: String,
        /// The running probe: site and host.
        observer: String,
        /// The canary's stream.
        stream: String,
        /// The canary's epoch: one start or role change of a probe.
        epoch: String,
        /// Its number in the stream.
        sequence: u64,
        /// When the schedule wanted it to leave.
        planned_at: AtMicros,
        /// When it left.
        sent_at: Option<AtMicros>,
        /// When the primary acknowledged it.
        acked_at: Option<AtMicros>,
        /// When the answer of the first hit came in.
        seen_at: Option<AtMicros>,
        /// Lag was at least this.
        lag_low_us: Option<u64>,
        /// Lag was at most this; NULL: unbounded.
        lag_high_us: Option<u64>,
        /// Whether the low end rests on a valid miss.
        low_known: bool,
        /// Time of the write.
        write_us: Option<u64>,
        /// How late it left.
        late_us: Option<u64>,
        /// How the instants are related.
        clock: Clock,
        /// Bound of the clock error; 0 on one clock.
        clock_error_us: u64,
        /// Its final state.
        state: FinalState,
    }
}

table! {
    /// One route x interval of planned instants (60 s, aligned to UTC) x epoch x revision. Take the highest revision.
    "lag_intervals" as LagIntervalRow dated by "interval_start" {
        /// The dataset (or connection) that the canaries represent.
        dataset: String,
        /// The store.
        store: String,
        /// Where the canaries were written.
        primary_site: String,
        /// Where they were watched for.
        secondary_site: String,
        /// The running probe: site and host.
        observer: String,
        /// The epoch; an interval that spans two epochs gives two rows.
        epoch: String,
        /// Start.
        interval_start: AtMicros,
        /// End, exclusive.
        interval_end: AtMicros,
        /// From 0; a later revision replaces earlier ones.
        revision: u64,
        /// All canaries of the interval are settled: no further revision comes.
        r#final: bool,
        /// planned = skipped + write_failed + write_unknown + pending + seen + lost + superseded.
        planned: u64,
        /// Visible at the secondary.
        seen: u64,
        /// Neither seen nor settled otherwise.
        pending: u64,
        /// Of the pending, those older than `overdue_after`.
        overdue: u64,
        /// Acknowledged, and proved never to arrive.
        lost: u64,
        /// Overwritten in their slot before they were seen.
        superseded: u64,
        /// Certainly not written.
        write_failed: u64,
        /// Sent, outcome unknown, never seen.
        write_unknown: u64,
        /// Slots of the schedule in which nothing was sent.
        skipped: u64,
        /// Part of the interval in which this observer did not run.
        gap_us: u64,
        /// Median of the low end; unseen canaries count with their age; NULL: no canary at all.
        low_p50_us: Option<u64>,
        /// 90th percentile of the low end; NULL: no canary at all.
        low_p90_us: Option<u64>,
        /// 95th percentile of the low end; NULL: no canary at all.
        low_p95_us: Option<u64>,
        /// 99th percentile of the low end; NULL: no canary at all.
        low_p99_us: Option<u64>,
        /// 99.9th percentile of the low end; NULL: no canary at all.
        low_p99_9_us: Option<u64>,
        /// Largest low end; NULL: no canary at all.
        low_max_us: Option<u64>,
        /// Median of the high end; NULL: unbounded, or no canary at all.
        high_p50_us: Option<u64>,
        /// 90th percentile of the high end; NULL: unbounded.
        high_p90_us: Option<u64>,
        /// 95th percentile of the high end; NULL: unbounded.
        high_p95_us: Option<u64>,
        /// 99th percentile of the high end; NULL: unbounded.
        high_p99_us: Option<u64>,
        /// 99.9th percentile of the high end; NULL: unbounded.
        high_p99_9_us: Option<u64>,
        /// Largest high end; NULL: unbounded.
        high_max_us: Option<u64>,
        /// Age of the oldest unseen canary when the revision was made; NULL: none unseen.
        oldest_unseen_us: Option<u64>,
        /// The store's own lag figure, minutes old where CloudWatch told it; NULL: not collected.
        native_lag_us: Option<u64>,
        /// HDR histogram of the low end, base64 of V2.
        hdr_low: Option<String>,
        /// HDR histogram of the high end, settled canaries only, base64 of V2.
        hdr_high: Option<String>,
    }
}

table! {
    /// One dataset x event x observer: what the ledger proves about an event. Its canaries are in `rpo_canaries`.
    "rpo" as RpoRow dated by "ledger_complete_until" {
        /// The dataset (or connection) that the canaries represent.
        dataset: String,
        /// The store.
        store: String,
        /// Where writes went before the event.
        primary_site: String,
        /// Where they go after it.
        secondary_site: String,
        /// The probe whose ledger was read.
        observer: String,
        /// The event.
        event_id: String,
        /// The epoch whose canaries were judged.
        epoch: String,
        /// Acknowledged in the judged span.
        acked: u64,
        /// Of those, present at the promoted end.
        survived: u64,
        /// Of those, absent.
        lost: u64,
        /// Written with unknown outcome and absent: lost is `lost` to `lost + unknown`.
        unknown: u64,
        /// Acknowledgement of the first lost canary.
        first_lost_at: Option<AtMicros>,
        /// Acknowledgement of the last lost canary.
        last_lost_at: Option<AtMicros>,
        /// Loss spans at least this.
        rpo_low_us: u64,
        /// Loss spans at most this; NULL: unbounded.
        rpo_high_us: Option<u64>,
        /// Until when the ledger is complete; canaries after it may be missing.
        ledger_complete_until: AtMicros,
        /// How the lost canaries lie among the survivors.
        shape: LossShape,
    }
}

table! {
    /// One canary that an event lost, or whose loss is not known.
    "rpo_canaries" as RpoCanaryRow dated by "planned_at" {
        /// The dataset (or connection) that the canary represents.
        dataset: String,
        /// The store.
        store: String,
        /// Where the canary was written.
        primary_site: String,
        /// Where it was watched for.
        secondary_site: String,
        /// The running probe: site and host.
        observer: String,
        /// The event.
        event_id: String,
        /// The canary's stream.
        stream: String,
        /// The canary's epoch.
        epoch: String,
        /// Its number in the stream.
        sequence: u64,
        /// When the schedule wanted it to leave.
        planned_at: AtMicros,
        /// When it left.
        sent_at: Option<AtMicros>,
        /// When the primary acknowledged it.
        acked_at: Option<AtMicros>,
        /// Time of the write.
        write_us: Option<u64>,
        /// How late it left.
        late_us: Option<u64>,
        /// `lost`, or `write_unknown`.
        state: FinalState,
    }
}

table! {
    /// One event x revision: a failover, switchover, failback, restore or maintenance. Take the highest revision.
    "events" as EventRow dated by "declared_at" {
        /// The dataset, where the event touches exactly one.
        dataset: Option<String>,
        /// The store, where the event touches exactly one.
        store: Option<String>,
        /// The event: UUIDv7 text.
        event_id: String,
        /// Its kind.
        kind: EventKind,
        /// A drill.
        exercise: bool,
        /// The datasets that it touches; empty: all.
        datasets: Vec<String>,
        /// The site that took writes before.
        from_site: String,
        /// The site that takes writes after.
        to_site: String,
        /// When people declared it.
        declared_at: AtMicros,
        /// When the new site was promoted.
        promoted_at: Option<AtMicros>,
        /// When applications wrote to the new site.
        traffic_shifted_at: Option<AtMicros>,
        /// When somebody verified that it works.
        verified_at: Option<AtMicros>,
        /// When it was over.
        ended_at: Option<AtMicros>,
        /// The last point replayed by the promoted site; NULL: not known, or several connections (see `fork_evidence`).
        fork_lsn: Option<String>,
        /// The copies parted not before; the earliest of all connections.
        fork_at_low: Option<AtMicros>,
        /// And not after; the latest of all connections.
        fork_at_high: Option<AtMicros>,
        /// JSON object: fork and how it is known, by connection.
        fork_evidence: Option<String>,
        /// How it ended, in words.
        outcome: Option<String>,
        /// The scenario of a drill.
        scenario: Option<String>,
        /// Who ran the command.
        executed_by: String,
        /// Free words.
        notes: Option<String>,
        /// Grows with each change.
        revision: u64,
    }
}

table! {
    /// One criterion of a policy as a gate judged it.
    "gate_criteria" as GateCriterionRow dated by "run_id" {
        /// The dataset; NULL where several are meant.
        dataset: Option<String>,
        /// The store; NULL where several are meant.
        store: Option<String>,
        /// The stated writer; NULL where several pairs are meant.
        primary_site: Option<String>,
        /// The other site; NULL where several pairs are meant.
        secondary_site: Option<String>,
        /// The policy.
        policy: String,
        /// The criterion in the policy.
        criterion_id: String,
        /// What is wanted, in words.
        requirement: String,
        /// What was measured.
        metric: String,
        /// The span of the evidence, in words or as an ISO 8601 interval.
        window: Option<String>,
        /// The figure was at least this; NULL: not measured.
        observed_low: Option<f64>,
        /// The figure was at most this; NULL: unbounded or not measured.
        observed_high: Option<f64>,
        /// The bound that decided.
        bound: Option<f64>,
        /// The unit of the three.
        unit: Option<String>,
        /// Blocks, episodes, drills or rows behind the verdict.
        samples: u64,
        /// The verdict.
        verdict: Verdict,
        /// Why, in words.
        reason: Option<String>,
        /// The runs that the evidence comes from.
        evidence_run_ids: Vec<String>,
    }
}

table! {
    /// One run x collection x operation: what driftline itself asked of a store.
    "costs" as CostRow dated by "run_id" {
        /// The dataset.
        dataset: String,
        /// The store.
        store: String,
        /// The site that was asked.
        site: String,
        /// The collection; NULL: not one of a collection.
        collection: Option<String>,
        /// The operation by the store's own name.
        operation: String,
        /// Requests sent.
        requests: u64,
        /// Billed units, where the store tells.
        units: Option<f64>,
        /// Bytes sent and received, as far as they are known.
        bytes: Option<u64>,
        /// Estimated price; NULL: no price is known.
        usd_estimate: Option<f64>,
        /// Date of the prices, YYYY-MM-DD.
        price_table_date: Option<String>,
    }
}

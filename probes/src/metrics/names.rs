//! Every name that a scrape may show. A test holds the scrape and `docs/metrics.md` to this list.

use prometheus_client::metrics::MetricType;

/// One metric as it is described in a scrape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name {
    /// Without the suffix that counters and infos get in the text.
    pub(crate) base: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: MetricType,
    /// Labels that its series may carry.
    pub(crate) labels: &'static [&'static str],
}

/// Of what is counted by route.
const ROUTE: &[&str] = &["dataset", "store", "primary_site", "secondary_site", "observer"];
/// Of gauges that may have a series for each collection.
const COLLECTION: &[&str] = &[
    "dataset",
    "store",
    "primary_site",
    "secondary_site",
    "observer",
    "collection",
];
/// Of this process.
const OWN: &[&str] = &[];

impl Name {
    const fn histogram(base: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self {
            base,
            help,
            labels,
            kind: MetricType::Histogram,
        }
    }

    const fn counter(base: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self {
            base,
            help,
            labels,
            kind: MetricType::Counter,
        }
    }

    const fn gauge(base: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self {
            base,
            help,
            labels,
            kind: MetricType::Gauge,
        }
    }

    /// The name that people query; a histogram has this name and `_bucket`, `_sum` and `_count` of it.
    fn queried(&self) -> String {
        match self.kind {
            MetricType::Counter => format!("{}_total", self.base),
            MetricType::Info => format!("{}_info", self.base),
            _ => self.base.to_owned(),
        }
    }
}

/// The names that `/metrics` may show, as people query them. A histogram has its name and `_bucket`, `_sum` and `_count` of it.
pub fn metric_names() -> Vec<String> {
    ALL.iter().map(|name| name.queried()).collect()
}

/// The labels that the series of each of [`metric_names`] may carry, in the same order. Buckets of a histogram carry `le` too.
pub fn metric_labels() -> Vec<&'static [&'static str]> {
    ALL.iter().map(|name| name.labels).collect()
}

pub(crate) const LAG_LOW: Name = Name::histogram(
    "driftline_lag_low_seconds",
    ROUTE,
    "Replication lag of seen canaries, at least",
);
pub(crate) const LAG_HIGH: Name = Name::histogram(
    "driftline_lag_high_seconds",
    ROUTE,
    "Replication lag of seen canaries, at most",
);
pub(crate) const WRITE: Name = Name::histogram(
    "driftline_write_seconds",
    ROUTE,
    "Time that the primary took to acknowledge a canary",
);
pub(crate) const LATENESS: Name = Name::histogram(
    "driftline_lateness_seconds",
    ROUTE,
    "How late canaries left, after their planned instant",
);
pub(crate) const CANARIES: Name = Name::counter(
    "driftline_canaries",
    &[
        "dataset",
        "store",
        "primary_site",
        "secondary_site",
        "observer",
        "state",
    ],
    "Canaries whose fate is known, by state",
);
pub(crate) const DUPLICATES: Name = Name::counter(
    "driftline_canaries_duplicate",
    ROUTE,
    "Canaries that arrived at the secondary again",
);
pub(crate) const FOREIGN: Name = Name::counter(
    "driftline_canaries_foreign",
    ROUTE,
    "Objects in the place of canaries that are none of ours, or are malformed; they are ignored",
);
pub(crate) const SKIPPED: Name = Name::counter(
    "driftline_skipped",
    ROUTE,
    "Slots of the schedule in which no canary was sent",
);
pub(crate) const STALE_READS: Name = Name::counter(
    "driftline_stale_reads",
    ROUTE,
    "Polls that showed less than an earlier one",
);
pub(crate) const RIVALS: Name = Name::counter(
    "driftline_rival_probes",
    ROUTE,
    "Times that another probe was found on a stream of this one",
);
pub(crate) const BOUNDS_VIOLATED: Name = Name::counter(
    "driftline_clock_bounds_violated",
    ROUTE,
    "Readings across two clocks that the bound of their error cannot explain; they are excluded",
);
pub(crate) const OLDEST_UNSEEN: Name = Name::gauge(
    "driftline_oldest_unseen_seconds",
    COLLECTION,
    "Age of the oldest acknowledged canary that is not visible; rises while replication is dead",
);
pub(crate) const NEWEST_SEEN: Name = Name::gauge(
    "driftline_newest_seen_age_seconds",
    COLLECTION,
    "Age of the newest canary that a watcher has seen, by two clocks; rises while nothing arrives or nothing is written",
);
pub(crate) const PENDING: Name = Name::gauge(
    "driftline_pending",
    COLLECTION,
    "Canaries under way, or acknowledged and not visible",
);
pub(crate) const UNANSWERED: Name = Name::gauge(
    "driftline_unanswered",
    ROUTE,
    "Canaries that left, are not visible, and of which nobody knows whether they were written",
);
pub(crate) const NATIVE_LAG: Name = Name::gauge(
    "driftline_native_lag_seconds",
    COLLECTION,
    "Replication lag by the store's own account; absent while it is not collected",
);
pub(crate) const NATIVE_AS_OF: Name = Name::gauge(
    "driftline_native_as_of_timestamp_seconds",
    COLLECTION,
    "The instant that the store's own lag is of, seconds since 1970 UTC",
);
pub(crate) const NATIVE_PENDING: Name = Name::gauge(
    "driftline_native_pending_operations",
    COLLECTION,
    "Operations that wait by the store's own account; absent while they are not collected",
);
pub(crate) const MIRROR_LAG: Name = Name::gauge(
    "driftline_mirror_lag_records",
    COLLECTION,
    "Records that a mirrored collection is behind; absent while it is not collected",
);
pub(crate) const ROLE_CONFLICT: Name = Name::gauge(
    "driftline_role_conflict",
    ROUTE,
    "1 while observed roles disagree with the stated ones, or both ends of a route take writes",
);
pub(crate) const UNMEASURED: Name = Name::gauge(
    "driftline_unmeasured",
    &["dataset", "store", "collection"],
    "Collections that no canary represents and no figure of the store covers",
);
pub(crate) const EVENT_ACTIVE: Name = Name::gauge(
    "driftline_event_active",
    &["kind"],
    "1 while an event of this kind is going on",
);
pub(crate) const RECONCILE_SUCCESS: Name = Name::gauge(
    "driftline_reconcile_last_success_timestamp_seconds",
    ROUTE,
    "When the newest complete reconciliation ended, seconds since 1970 UTC",
);
pub(crate) const DIVERGENCES: Name = Name::gauge(
    "driftline_divergences_confirmed",
    ROUTE,
    "Divergences that the newest reconciliation confirmed",
);
pub(crate) const UNVERIFIED: Name = Name::gauge(
    "driftline_collections_unverified",
    ROUTE,
    "Collections that the newest reconciliation could not verify",
);
pub(crate) const RECONCILE_UNREADABLE: Name = Name::counter(
    "driftline_reconcile_read_failures",
    OWN,
    "Times that the reconciliations in the output folder could not be read",
);
pub(crate) const REQUESTS: Name = Name::counter(
    "driftline_requests",
    &[
        "dataset",
        "store",
        "primary_site",
        "secondary_site",
        "observer",
        "site",
        "operation",
    ],
    "Requests made to the stores",
);
pub(crate) const ERRORS: Name = Name::counter(
    "driftline_errors",
    &[
        "dataset",
        "store",
        "primary_site",
        "secondary_site",
        "observer",
        "operation",
        "kind",
    ],
    "Writes and polls of canaries that ended in an error, by its kind; a kind that never occurred has no series",
);
pub(crate) const REQUEST_UNITS: Name = Name::counter(
    "driftline_request_units",
    &["dataset", "store", "site", "operation"],
    "Units of the store's price list that requests consumed",
);
pub(crate) const PACE: Name = Name::gauge(
    "driftline_pace_ratio",
    OWN,
    "Share of their rate at which paid routes are probed to stay within the budget; absent without a budget",
);
pub(crate) const SPENDING: Name = Name::gauge(
    "driftline_spending_usd_per_hour",
    OWN,
    "Dollars that the probe spends in an hour at its pace; absent without a budget, or while nothing was spent",
);
pub(crate) const BUDGET: Name = Name::gauge(
    "driftline_budget_usd_per_hour",
    OWN,
    "Dollars that the probe may spend in an hour; absent without a budget",
);
pub(crate) const POSTGRES_LAG: Name = Name::gauge(
    "postgres_replication_lag_seconds",
    ROUTE,
    "Lag by PostgreSQL's own account",
);
pub(crate) const POSTGRES_LAG_BYTES: Name = Name::gauge(
    "postgres_replication_lag_bytes",
    ROUTE,
    "Lag in bytes of log by PostgreSQL's own account",
);
pub(crate) const SERIES_DROPPED: Name = Name::gauge(
    "driftline_series_dropped",
    &["metric"],
    "Collections that share the series `_other` of a metric, since it has too many",
);
pub(crate) const LEDGER_BYTES: Name = Name::gauge("driftline_ledger_bytes", OWN, "Size of all ledgers on this host");
pub(crate) const LEDGER_SYNC_FAILURES: Name = Name::counter(
    "driftline_ledger_fsync_failures",
    OWN,
    "Times that the disk refused to keep the ledger",
);
pub(crate) const LEDGER_UPLOADED: Name = Name::gauge(
    "driftline_ledger_uploaded_timestamp_seconds",
    &["place"],
    "Instant until which a copy of the ledger is complete, seconds since 1970 UTC",
);
pub(crate) const LEDGER_UPLOAD_FAILURES: Name = Name::counter(
    "driftline_ledger_upload_failures",
    &["place"],
    "Failed tries to copy the ledger",
);
pub(crate) const RUNTIME_LATENESS: Name = Name::histogram(
    "driftline_runtime_lateness_seconds",
    OWN,
    "How late timers of the probe's own runtime fire",
);
pub(crate) const MEMORY: Name = Name::gauge("process_resident_memory_bytes", OWN, "Memory that this process holds");
pub(crate) const CPU: Name = Name::counter("process_cpu_seconds", OWN, "Processor time of this process");
pub(crate) const OPEN_FILES: Name = Name::gauge("process_open_fds", OWN, "Open files and sockets of this process");
pub(crate) const BUILD: Name = Name {
    base: "driftline_build",
    help: "The running program",
    kind: MetricType::Info,
    labels: &["version"],
};

/// All of them.
pub(crate) const ALL: [Name; 44] = [
    LAG_LOW,
    LAG_HIGH,
    WRITE,
    LATENESS,
    CANARIES,
    DUPLICATES,
    FOREIGN,
    SKIPPED,
    STALE_READS,
    RIVALS,
    BOUNDS_VIOLATED,
    OLDEST_UNSEEN,
    NEWEST_SEEN,
    PENDING,
    UNANSWERED,
    NATIVE_LAG,
    NATIVE_AS_OF,
    NATIVE_PENDING,
    MIRROR_LAG,
    ROLE_CONFLICT,
    UNMEASURED,
    EVENT_ACTIVE,
    RECONCILE_SUCCESS,
    DIVERGENCES,
    UNVERIFIED,
    RECONCILE_UNREADABLE,
    REQUESTS,
    ERRORS,
    REQUEST_UNITS,
    PACE,
    SPENDING,
    BUDGET,
    POSTGRES_LAG,
    POSTGRES_LAG_BYTES,
    SERIES_DROPPED,
    LEDGER_BYTES,
    LEDGER_SYNC_FAILURES,
    LEDGER_UPLOADED,
    LEDGER_UPLOAD_FAILURES,
    RUNTIME_LATENESS,
    MEMORY,
    CPU,
    OPEN_FILES,
    BUILD,
];

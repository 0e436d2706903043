//! Prometheus figures. Histograms hold canaries that were seen, each once; what is unseen shows in gauges that are computed at
//! the scrape, so that they rise while nothing happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::clock::Clock;
use crate::live::Live;
use crate::settled::Settled;
use crate::{FinalState, Route};

/// Classic buckets in seconds: the bounds that policies use, and steps between them.
const BUCKETS_SECONDS: [f64; 21] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0,
    900.0, 3_600.0,
];

/// Growth from one native bucket to the next.
const NATIVE_BUCKET_FACTOR: f64 = 1.1;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    dataset: String,
    store: String,
    primary_site: String,
    secondary_site: String,
    observer: String,
}

impl From<&Route> for RouteLabels {
    fn from(route: &Route) -> Self {
        Self {
            dataset: route.dataset.clone(),
            store: route.store.clone(),
            primary_site: route.primary_site.clone(),
            secondary_site: route.secondary_site.clone(),
            observer: route.observer.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    dataset: String,
    store: String,
    primary_site: String,
    secondary_site: String,
    observer: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    dataset: String,
    store: String,
    primary_site: String,
    secondary_site: String,
    observer: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: String,
}

type Histograms = Family<RouteLabels, Histogram, fn() -> Histogram>;
type Seconds = Family<RouteLabels, Gauge<f64, AtomicU64>>;
type Counts = Family<RouteLabels, Gauge>;

/// The figures of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    watched: Mutex<Vec<Watched>>,
}

#[derive(Debug, Clone)]
struct Families {
    lag_low: Histograms,
    lag_high: Histograms,
    write: Histograms,
    lateness: Histograms,
    oldest_unseen: Seconds,
    pending: Counts,
    canaries: Family<StateLabels, Counter>,
    skipped: Family<RouteLabels, Counter>,
    stale_reads: Family<RouteLabels, Counter>,
    native_lag: Seconds,
    role_conflict: Counts,
    event_active: Family<EventLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    postgres_lag: Seconds,
    postgres_lag_bytes: Counts,
}

#[derive(Debug)]
struct Watched {
    route: Route,
    live: Arc<Live>,
    clock: Arc<dyn Clock>,
}

fn histogram() -> Histogram {
    Histogram::new_classic_and_native(
        BUCKETS_SECONDS,
        NativeHistogramConfig::with_bucket_factor(NATIVE_BUCKET_FACTOR),
    )
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

impl Metrics {
    /// The figures of a process of this version.
    pub fn new(version: &str) -> Self {
        let histograms = || Histograms::new_with_constructor(histogram as fn() -> Histogram);
        let families = Families {
            lag_low: histograms(),
            lag_high: histograms(),
            write: histograms(),
            lateness: histograms(),
            oldest_unseen: Seconds::default(),
            pending: Counts::default(),
            canaries: Family::default(),
            skipped: Family::default(),
            stale_reads: Family::default(),
            native_lag: Seconds::default(),
            role_conflict: Counts::default(),
            event_active: Family::default(),
            requests: Family::default(),
            postgres_lag: Seconds::default(),
            postgres_lag_bytes: Counts::default(),
        };
        let mut registry = Registry::default();
        families.register(&mut registry);
        registry.register(
            "driftline_build",
            "The running program",
            Info::new(vec![("version", version.to_owned())]),
        );
        Self {
            registry,
            families,
            watched: Mutex::default(),
        }
    }

    /// Shows a running route.
    pub(crate) fn watch(&self, route: &Route, live: Arc<Live>, clock: Arc<dyn Clock>) -> RouteFigures {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|other| other.route != *route);
        self.families.forget_totals(route);
        watched.push(Watched {
            route: route.clone(),
            live,
            clock,
        });
        RouteFigures::new(&self.families, route)
    }

    /// Whether an event of this kind is going on.
    pub fn set_event_active(&self, kind: &str, is_active: bool) {
        let labels = EventLabels { kind: kind.to_owned() };
        self.families
            .event_active
            .get_or_create(&labels)
            .set(i64::from(is_active));
    }

    /// Everything in the OpenMetrics text format, with gauges as of now.
    pub fn render(&self) -> String {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for route in watched.iter() {
            self.families.refresh(route);
        }
        let mut body = String::new();
        // Writing to a String cannot fail.
        if text::encode(&mut body, &self.registry).is_err() {
            body.clear();
        }
        body
    }
}

impl Families {
    fn register(&self, registry: &mut Registry) {
        let f = self.clone();
        registry.register(
            "driftline_lag_low_seconds",
            "Replication lag of seen canaries, at least",
            f.lag_low,
        );
        registry.register(
            "driftline_lag_high_seconds",
            "Replication lag of seen canaries, at most",
            f.lag_high,
        );
        registry.register(
            "driftline_write_seconds",
            "Time that the primary took to acknowledge a canary",
            f.write,
        );
        registry.register(
            "driftline_lateness_seconds",
            "How late canaries left, after their planned instant",
            f.lateness,
        );
        registry.register(
            "driftline_oldest_unseen_seconds",
            "Age of the oldest acknowledged canary that is not visible; rises while replication is dead",
            f.oldest_unseen,
        );
        registry.register(
            "driftline_pending",
            "Canaries under way, or acknowledged and not visible",
            f.pending,
        );
        registry.register(
            "driftline_canaries",
            "Canaries whose fate is known, by state",
            f.canaries,
        );
        registry.register(
            "driftline_skipped",
            "Slots of the schedule in which no canary was sent",
            f.skipped,
        );
        registry.register(
            "driftline_stale_reads",
            "Polls that showed less than an earlier one",
            f.stale_reads,
        );
        registry.register(
            "driftline_native_lag_seconds",
            "Replication lag by the store's own account",
            f.native_lag,
        );
        registry.register(
            "driftline_role_conflict",
            "1 while both ends of a route take writes",
            f.role_conflict,
        );
        registry.register(
            "driftline_event_active",
            "1 while an event of this kind is going on",
            f.event_active,
        );
        registry.register("driftline_requests", "Requests made to the stores", f.requests);
        registry.register(
            "postgres_replication_lag_seconds",
            "Lag by PostgreSQL's own account",
            f.postgres_lag,
        );
        registry.register(
            "postgres_replication_lag_bytes",
            "Lag in bytes of log by PostgreSQL's own account",
            f.postgres_lag_bytes,
        );
    }

    /// A route that starts again counts from zero, which Prometheus takes for the reset that it is.
    fn forget_totals(&self, route: &Route) {
        self.stale_reads.remove(&route.into());
        for operation in ["write", "poll", "status"] {
            self.requests.remove(&RequestLabels::new(route, operation));
        }
    }

    fn refresh(&self, watched: &Watched) {
        let labels = RouteLabels::from(&watched.route);
        let (oldest, accounting, stale_reads) = {
            let tracker = watched.live.tracker();
            (
                tracker.oldest_unseen_us(watched.clock.now_us()),
                tracker.accounting(),
                tracker.stale_reads(),
            )
        };
        self.oldest_unseen
            .get_or_create(&labels)
            .set(seconds(oldest.unwrap_or(0)));
        self.pending
            .get_or_create(&labels)
            .set(i64::try_from(accounting.pending).unwrap_or(i64::MAX));
        raise(&self.stale_reads.get_or_create(&labels), stale_reads);
        for (operation, count) in [
            ("write", &watched.live.writes),
            ("poll", &watched.live.polls),
            ("status", &watched.live.status_queries),
        ] {
            let labels = RequestLabels::new(&watched.route, operation);
            raise(&self.requests.get_or_create(&labels), count.load(Ordering::Relaxed));
        }
        self.refresh_native(watched, &labels);
    }

    /// What was not collected is absent, never zero.
    fn refresh_native(&self, watched: &Watched, labels: &RouteLabels) {
        let native = watched.live.native();
        let is_postgres = watched.route.store == "aurora";
        set_seconds(&self.native_lag, labels, native.lag_us);
        set_seconds(&self.postgres_lag, labels, native.lag_us.filter(|_| is_postgres));
        let bytes = native.lag_bytes.filter(|_| is_postgres);
        set_count(
            &self.postgres_lag_bytes,
            labels,
            bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        );
        set_count(&self.role_conflict, labels, native.role_conflict.map(i64::from));
    }
}

impl RequestLabels {
    fn new(route: &Route, operation: &'static str) -> Self {
        let RouteLabels {
            dataset,
            store,
            primary_site,
            secondary_site,
            observer,
        } = route.into();
        Self {
            dataset,
            store,
            primary_site,
            secondary_site,
            observer,
            operation,
        }
    }
}

impl StateLabels {
    fn new(route: &Route, state: FinalState) -> Self {
        let RouteLabels {
            dataset,
            store,
            primary_site,
            secondary_site,
            observer,
        } = route.into();
        Self {
            dataset,
            store,
            primary_site,
            secondary_site,
            observer,
            state: state.word(),
        }
    }
}

/// Lifts a counter to a total that is kept elsewhere.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn set_seconds(family: &Seconds, labels: &RouteLabels, value_us: Option<u64>) {
    match value_us {
        Some(us) => drop(family.get_or_create(labels).set(seconds(us))),
        None => drop(family.remove(labels)),
    }
}

fn set_count(family: &Counts, labels: &RouteLabels, value: Option<i64>) {
    match value {
        Some(value) => drop(family.get_or_create(labels).set(value)),
        None => drop(family.remove(labels)),
    }
}

/// The figures of one route that grow with its ledger.
#[derive(Debug)]
pub(crate) struct RouteFigures {
    lag_low: Histogram,
    lag_high: Histogram,
    write: Histogram,
    lateness: Histogram,
    skipped: Counter,
    states: [(FinalState, Counter); FinalState::ALL.len()],
}

impl RouteFigures {
    fn new(families: &Families, route: &Route) -> Self {
        let labels = RouteLabels::from(route);
        Self {
            lag_low: families.lag_low.get_or_create_owned(&labels),
            lag_high: families.lag_high.get_or_create_owned(&labels),
            write: families.write.get_or_create_owned(&labels),
            lateness: families.lateness.get_or_create_owned(&labels),
            skipped: families.skipped.get_or_create_owned(&labels),
            states: FinalState::ALL.map(|state| {
                (
                    state,
                    families.canaries.get_or_create_owned(&StateLabels::new(route, state)),
                )
            }),
        }
    }

    pub(crate) fn skipped(&self) {
        self.skipped.inc();
    }

    pub(crate) fn late(&self, late_us: u64) {
        self.lateness.observe(seconds(late_us));
    }

    pub(crate) fn written(&self, write_us: u64) {
        self.write.observe(seconds(write_us));
    }

    pub(crate) fn settled(&self, settled: &Settled) {
        for (state, counter) in &self.states {
            if *state == settled.state {
                counter.inc();
            }
        }
        if settled.state == FinalState::Seen {
            self.lag_low.observe(seconds(settled.low_us.unwrap_or(0)));
            if let Some(high) = settled.high_us {
                self.lag_high.observe(seconds(high));
            }
        }
    }
}

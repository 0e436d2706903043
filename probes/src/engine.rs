//! Running probes: for each route one writer on an open-loop schedule, one reader, one look at the stores' own figures.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stores::{CanaryReader, CanaryWriter, Status};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::polling::Polling;
use crate::route::RouteRun;
use crate::service::Readiness;
use crate::stated::StatedWriters;
use crate::watcher::WatchRun;
use crate::{Accounting, ClockBound, Config, KeptBound, Output, ProbeError, Route};

/// Worker threads of the probe's own runtime: one may be held up by a disk while the other keeps the time.
const PROBE_THREADS: usize = 2;

/// What of a route this process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Writes canaries and watches for them, by one clock.
    #[default]
    Both,
    /// Watches for those that another process writes, by the stamps that they carry.
    Watch,
}

/// One route to probe.
#[derive(Debug, Clone)]
pub struct RouteSpec {
    /// The route, as evidence names it.
    pub route: Route,
    /// What the canaries represent, e.g. a table, a bucket and prefix, a partition of the canary topic; `None`: the whole unit.
    /// Several specs may share one route: each has a stream, an epoch and an accounting of its own.
    pub collection: Option<String>,
    /// The stream of its canaries; no other probe may write to it.
    pub stream: String,
    /// Writes at the primary.
    pub writer: Arc<dyn CanaryWriter>,
    /// Watches the secondary.
    pub reader: Arc<dyn CanaryReader>,
    /// The primary's own figures.
    pub primary_status: Option<Arc<dyn Status>>,
    /// The secondary's own figures.
    pub secondary_status: Option<Arc<dyn Status>>,
    /// Whether one end alone may take writes (a physical copy): two writable ends are then a conflict, and no canary is written.
    pub single_writer: bool,
    /// How to probe.
    pub settings: Config,
    /// How often to look.
    pub polling: Polling,
    /// How fast its canaries may leave, where a budget says so; `None`: at their rate.
    pub pace: Option<watch::Receiver<Pace>>,
    /// What this process does of it.
    pub part: Part,
}

/// Everything that a running probe needs beside its routes.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Where ledgers are kept; made if need be.
    pub ledger_folder: PathBuf,
    /// How long a ledger's segment is kept after its last frame.
    pub ledger_keep: Duration,
    /// Ends the probe in order: no further canary leaves, pending ones may still arrive.
    pub shutdown: CancellationToken,
    /// How long pending canaries are waited for after `shutdown`.
    pub drain_deadline: Duration,
    /// Takes the evidence. It must be read: see [`Output`].
    pub output: mpsc::Sender<Output>,
    /// Figures to keep.
    pub metrics: Arc<Metrics>,
    /// Set when every route has started.
    pub readiness: Arc<Readiness>,
    /// Where instants come from.
    pub clock: Arc<dyn Clock>,
    /// Who is stated to take writes. A route whose primary is none sleeps; each change of roles begins a new epoch.
    pub stated: watch::Receiver<StatedWriters>,
    /// How far the wall clock may be off, for readings across a reboot; `None`: nobody says, and there are none.
    pub clock_bound: Option<Arc<dyn ClockBound>>,
    /// The same, kept at hand, where readings across two hosts are wanted: canaries then carry stamps, and a watcher reads by them.
    pub wall_bound: Option<Arc<KeptBound>>,
    /// Seed of the schedules; route n uses seed + n.
    pub seed: u64,
}

/// What was measured on one stream of a route, over all of its epochs in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSummary {
    /// The route.
    pub route: Route,
    /// What its canaries represent, where that is less than the whole unit.
    pub collection: Option<String>,
    /// Its stream.
    pub stream: String,
    /// Its primary was never stated to be a writer, so there was nothing to measure.
    pub is_dormant: bool,
    /// The last epoch; `None` when the primary never answered, so that nothing was measured.
    pub epoch: Option<String>,
    /// The fate of its canaries. `pending` is what was acknowledged and unseen at the drain deadline.
    pub accounting: Accounting,
    /// The fate of canaries that earlier runs, or earlier epochs of this one, had left open.
    pub earlier: Accounting,
    /// Polls that showed less than an earlier one.
    pub stale_reads: u64,
    /// Whether the secondary was seen to be promoted.
    pub was_promoted: bool,
}

/// What a whole run measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// One for each route, in the order in which they ended.
    pub routes: Vec<RouteSummary>,
}

impl Summary {
    /// Canaries that were pending at the drain deadline, those of earlier runs included.
    pub fn pending(&self) -> u64 {
        let of = |route: &RouteSummary| route.accounting.pending + route.earlier.pending;
        self.routes.iter().map(of).sum()
    }

    /// Whether every route that is not dormant measured something, and nothing was left pending. Where every write was refused, nothing is pending and
    /// nothing was measured.
    pub fn is_drained(&self) -> bool {
        let wrote = |of: &Accounting| of.write_failed + of.write_unknown == 0 || of.seen + of.lost + of.superseded > 0;
        let measured = |route: &RouteSummary| route.is_dormant || (route.epoch.is_some() && wrote(&route.accounting));
        self.pending() == 0 && self.routes.iter().all(measured)
    }
}

/// Tells in each line of the log whose it is. Shown at every level of the log.
fn log_span(spec: &RouteSpec) -> tracing::Span {
    let Route {
        dataset,
        store,
        primary_site,
        secondary_site,
        observer,
    } = &spec.route;
    let collection = spec.collection.as_deref();
    tracing::error_span!(
        "route",
        observer,
        dataset,
        store,
        primary_site,
        secondary_site,
        collection
    )
}

/// The small runtime that probe work runs on, apart from all other work.
///
/// # Errors
/// The system gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(PROBE_THREADS)
        .thread_name("driftline-probe")
        .enable_all()
        .build()
}

/// Probes all routes until `setting.shutdown`, then drains and tells what became of the canaries.
///
/// # Errors
/// The first reason to stop; the other routes are then ended in order and their ledgers closed.
pub async fn run(routes: Vec<RouteSpec>, setting: Setting) -> Result<Summary, ProbeError> {
    let (_, none) = mpsc::channel(1);
    run_growing(routes, none, setting).await
}

fn start(
    running: &mut JoinSet<Result<Option<RouteSummary>, ProbeError>>,
    spec: RouteSpec,
    setting: Setting,
    started: mpsc::Sender<()>,
) {
    let span = log_span(&spec);
    match spec.part {
        Part::Both => running.spawn(RouteRun::new(spec, setting, started).run().instrument(span)),
        Part::Watch => running.spawn(WatchRun::new(spec, setting, started).run().instrument(span)),
    };
}

/// As [`run`], with routes that come `later`: when the last of `routes` has ended, so has the probe only once `later` is closed or it is shut
/// down. Readiness is not waited for with them.
///
/// # Errors
/// As [`run`].
pub async fn run_growing(
    routes: Vec<RouteSpec>,
    mut later: mpsc::Receiver<RouteSpec>,
    setting: Setting,
) -> Result<Summary, ProbeError> {
    let stop = setting.shutdown.child_token();
    let (started, mut starts) = mpsc::channel(routes.len().max(1));
    let expected = routes.len();
    let readiness = setting.readiness.clone();
    let mut running = JoinSet::new();
    let mut seed = setting.seed;
    let mut next_setting = || {
        let own = Setting {
            shutdown: stop.clone(),
            seed,
            ..setting.clone()
        };
        seed = seed.wrapping_add(1);
        own
    };
    for spec in routes {
        start(&mut running, spec, next_setting(), started.clone());
    }
    drop(started);
    running.spawn(async move {
        let mut count = 0;
        while count < expected && starts.recv().await.is_some() {
            count += 1;
        }
        if count == expected {
            readiness.set();
        }
        Ok(None)
    });
    let mut summary = Summary::default();
    let mut first_error = None;
    let mut is_growing = true;
    loop {
        tokio::select! {
            Some(ended) = running.join_next(), if !running.is_empty() => {
                match ended.unwrap_or_else(|error| Err(ProbeError::Panicked(error.to_string()))) {
                    Ok(route) => summary.routes.extend(route),
                    Err(error) => {
                        tracing::error!(%error, "a route of the probe stopped");
                        stop.cancel();
                        first_error.get_or_insert(error);
                    }
                }
            }
            spec = later.recv(), if is_growing => match spec {
                // Nobody counts the starts of latecomers.
                Some(spec) => start(&mut running, spec, next_setting(), mpsc::channel(1).0),
                None => is_growing = false,
            },
            () = stop.cancelled(), if is_growing => is_growing = false,
            else => break,
        }
    }
    first_error.map_or(Ok(summary), Err)
}

//! `driftline probe`: wires routes, the ledger, `/metrics` and the lag tables, and drains.

mod costs;
mod latecomers;
mod pacing;
mod reconciled;
mod routes;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use probes::{
    Chrony, ClockBound, Copies, KeptBound, Metrics, Output, Pace, Readiness, Route, RouteSpec, Setting, Summary,
    SystemClock, Unmeasured,
};
use reports::cost::Budget;
use reports::render::{LagSummary, LagTables, RouteLag, lag_terminal};
use reports::runs;
use reports::tables::{RunKind, RunRow, RunStatus};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::costs::Costs;
use self::latecomers::{LATE_ROUTES_MAX, Latecomers};
use self::pacing::Pacing;
use self::reconciled::Following;
pub(crate) use self::routes::route;
use self::standing::Standing;
use super::{Context, print};
use crate::cli::{Format, ProbeArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::run::Run;
use crate::{config, run, stop, topology};

/// How long canaries that are under way when the probe is stopped are waited for.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long the last copies of the ledger may take.
const LAST_COPY_DEADLINE: Duration = Duration::from_secs(10);

/// Rows between the engine and the tables; the engine keeps its own, larger backlog in the ledger.
const OUTPUT_MAX: usize = 1024;

/// How often rows become files.
const SHOW_EVERY: Duration = Duration::from_secs(60);

/// Lag of each route over the whole run.
type Lag = Vec<(Route, RouteLag)>;

/// What a probe measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// The fate of the canaries.
    pub(crate) summary: Summary,
    /// How long they took.
    pub(crate) lag: Lag,
    /// Routes that could not be prepared, and why: nothing was measured there.
    pub(crate) not_probed: Vec<String>,
    /// Collections whose lag nobody measures.
    pub(crate) unmeasured: Vec<Unmeasured>,
}

impl Measured {
    /// Whether everything that should have been measured was, and nothing was left pending.
    fn is_complete(&self) -> bool {
        self.summary.is_drained() && self.not_probed.is_empty()
    }
}

/// Runs the probe on a runtime of its own, until SIGTERM, Ctrl-C or `--for`.
pub(super) fn run(context: &Context, args: &ProbeArgs) -> Outcome {
    let runtime = probes::runtime()
        .context("start the probe's runtime")
        .map_err(Failure::cannot_tell)?;
    let measured = runtime.block_on(async {
        let shutdown = stop::on_signal()
            .context("listen for signals")
            .map_err(Failure::cannot_tell)?;
        if let Some(limit) = args.limit {
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                shutdown.cancel();
            });
        }
        measure(context, shutdown, None).await
    })?;
    tell(context, &measured)?;
    Ok(if measured.is_complete() {
        Exit::Fine
    } else {
        Exit::CannotTell
    })
}

impl From<probes::ProbeError> for Failure {
    /// A store refuses a route before its first canary: there, only what the configuration has to change is a refusal.
    fn from(error: probes::ProbeError) -> Self {
        match &error {
            probes::ProbeError::Store { source, .. } if matches!(**source, stores::StoreError::Config(_)) => {
                Self::refused(error)
            }
            _ => Self::cannot_tell(error),
        }
    }
}

/// Probes every route of the configuration until `shutdown`, leaving evidence in the output folder.
/// `started` is sent the live figures once the endpoints are up.
pub(crate) async fn measure(
    context: &Context,
    shutdown: CancellationToken,
    started: Option<tokio::sync::oneshot::Sender<Arc<Metrics>>>,
) -> Result<Measured, Failure> {
    let run = Run::begin();
    let mut plan = routes::plan(context, &run).await?;
    if plan.specs.is_empty() && plan.missing.is_empty() {
        return Err(Failure::refused(anyhow!(
            "the configuration has no route to probe: it needs a connection or a dataset with two sites"
        )));
    }
    tracing::info!(rates = routes::rates(&context.config), "probing");
    let row = start(context, &run, &plan.specs)?;
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    plan.show(&metrics);
    let costs = Arc::new(Costs::of(context, &run, std::mem::take(&mut plan.metered))?);
    let pacing = pacing(context, &costs, &metrics, plan.pace.clone())?;
    let copies = copies(context)?;
    let standing = Standing::new(context, metrics.clone(), copies.as_ref().map(Copies::figures));
    let stated = standing.writers();
    let observer = routes::observer(&context.config, &run);
    let following = Following::new(&context.config, &context.output, observer, metrics.clone());
    let readiness = Arc::new(Readiness::default());
    let service = CancellationToken::new();
    let server = serve(context, &metrics, &readiness, &service).await?;
    if let Some(started) = started {
        // Nobody waits for it any more when this fails.
        drop(started.send(metrics.clone()));
    }

    let (sender, receiver) = mpsc::channel(OUTPUT_MAX);
    let tables = LagTables::create(&context.output, &run.id);
    // A folder that cannot be written ends the probe: evidence that nobody can read is not measured.
    let broken = shutdown.child_token();
    let writer = {
        let broken = broken.clone();
        let costs = costs.clone();
        tokio::task::spawn_blocking(move || write(tables, &costs, receiver, &broken))
    };
    let clock_bound = clock_bound(&context.config.probe);
    let setting = Setting {
        ledger_folder: context.config.ledger.path.clone(),
        ledger_keep: context.config.ledger.keep.0,
        shutdown: broken,
        drain_deadline: DRAIN_DEADLINE,
        output: sender,
        metrics,
        readiness,
        clock: Arc::new(SystemClock::new()),
        stated,
        wall_bound: wall_bound(&clock_bound, &context.config.probe).await,
        clock_bound: Some(clock_bound),
        seed: rand::random(),
    };
    let standing = tokio::spawn(standing.run(service.child_token()));
    let pacing = pacing.map(|pacing| tokio::spawn(pacing.run(service.child_token())));
    let following = tokio::spawn(following.run(service.child_token()));
    let specs = std::mem::take(&mut plan.specs);
    let (routes, later) = mpsc::channel(LATE_ROUTES_MAX);
    let latecomers = Latecomers {
        context: context.clone(),
        run,
        plan,
        metrics: setting.metrics.clone(),
        costs: costs.clone(),
        routes,
    };
    let latecomers = tokio::spawn(latecomers.run(service.child_token()));
    let measured = probes::run_growing(specs, later, setting).await;
    let copied = last_copies(copies).await;
    let written = writer
        .await
        .context("the writer of lag tables")
        .map_err(Failure::cannot_tell)?;
    service.cancel();
    let planned = latecomers
        .await
        .context("the tries to reach missing stores")
        .map_err(Failure::cannot_tell)?;
    let stood = standing
        .await
        .context("the watch of the state folder")
        .map_err(Failure::cannot_tell)?;
    if let Some(pacing) = pacing {
        pacing
            .await
            .context("the guard of the budget")
            .map_err(Failure::cannot_tell)?;
    }
    following
        .await
        .context("the watch of the output folder")
        .map_err(Failure::cannot_tell)?;
    let served = server
        .await
        .context("the metrics service")
        .map_err(Failure::cannot_tell)?;
    let result = measured
        .map_err(Failure::from)
        .and_then(|summary| {
            written.map(|lag| Measured {
                summary,
                lag,
                not_probed: planned.not_probed(),
                unmeasured: planned.unmeasured,
            })
        })
        .and_then(|measured| {
            served.context("serve /metrics").map_err(Failure::cannot_tell)?;
            stood.context("listen for SIGHUP").map_err(Failure::cannot_tell)?;
            copied?;
            Ok(measured)
        });
    finish(context, row, result)
}

/// Who tells how far the clock of this host may be off.
fn clock_bound(probe: &config::Probe) -> Arc<dyn ClockBound> {
    match &probe.chronyc {
        Some(program) => Arc::new(Chrony::by(program.display().to_string())),
        None => Arc::new(Chrony::default()),
    }
}

/// The same, kept at hand, where readings by two clocks are wanted.
async fn wall_bound(bound: &Arc<dyn ClockBound>, probe: &config::Probe) -> Option<Arc<KeptBound>> {
    match probe.clock {
        config::Clock::One => None,
        config::Clock::Two => Some(Arc::new(KeptBound::of(bound.clone()).await)),
    }
}

/// The guard of the budget, where there is one and something to guard.
fn pacing(
    context: &Context,
    costs: &Arc<Costs>,
    metrics: &Arc<Metrics>,
    pace: watch::Sender<Pace>,
) -> Result<Option<Pacing>, Failure> {
    let Some(usd_per_hour) = context.config.probe.budget_usd_per_hour else {
        return Ok(None);
    };
    let budget = Budget::new(usd_per_hour).map_err(|error| Failure::refused(anyhow!("probe: {error}")))?;
    if costs.is_empty() {
        tracing::info!("no route is paid for by the request, so the budget slows nothing");
        return Ok(None);
    }
    Ok(Some(Pacing::new(budget, costs.clone(), metrics.clone(), pace)))
}

/// Starts to copy the ledger to its places, if there are any.
fn copies(context: &Context) -> Result<Option<Copies>, Failure> {
    let ledger = &context.config.ledger;
    let mut places = Vec::new();
    for place in &ledger.copy_to {
        places.push(
            place
                .open()
                .context("a place for copies of the ledger")
                .map_err(Failure::refused)?,
        );
    }
    if places.is_empty() {
        return Ok(None);
    }
    Copies::start(&ledger.path, places, ledger.upload_every.0)
        .context("copy the ledger")
        .map(Some)
        .map_err(Failure::cannot_tell)
}

/// The last copies. A copy that is not complete is an error: somebody counts on it.
async fn last_copies(copies: Option<Copies>) -> Result<(), Failure> {
    let Some(copies) = copies else { return Ok(()) };
    let states = copies.finish(LAST_COPY_DEADLINE).await;
    let behind: Vec<&str> = states
        .iter()
        .filter(|state| !state.is_complete)
        .map(|state| state.name.as_str())
        .collect();
    if behind.is_empty() {
        return Ok(());
    }
    Err(Failure::cannot_tell(anyhow!(
        "the last canaries are in the ledger here, and not in its copy at {}; copy the folder before this machine goes",
        behind.join(", ")
    )))
}

fn start(context: &Context, run: &Run, routes: &[RouteSpec]) -> Result<RunRow, Failure> {
    let marked = runs::mark_killed(&context.output, &run.host)
        .context("mark probes that died")
        .map_err(Failure::cannot_tell)?;
    for dead in marked {
        tracing::warn!(
            run_id = dead.run_id,
            "an earlier probe of this host died without an end; marked as killed"
        );
    }
    let mut row = RunRow::begin(
        RunKind::Probe,
        run.id.clone(),
        run.started_at_us,
        run.executed_by.clone(),
        run.host.clone(),
    );
    row.config_sha256 = Some(reports::tables::Hex(context.config.sha256()));
    row.dataset_fingerprints = context.config.fingerprints();
    row.sites = topology::sites(&context.config, &[]);
    if let [only] = routes {
        row.dataset = Some(only.route.dataset.clone());
        row.store = Some(only.route.store.clone());
        row.primary_site = Some(only.route.primary_site.clone());
        row.secondary_site = Some(only.route.secondary_site.clone());
    }
    runs::write_run(&context.output, row.clone())
        .context("write the runs table")
        .map_err(Failure::cannot_tell)?;
    Ok(row)
}

/// Writes the run's last row. What went wrong before is told first.
fn finish(context: &Context, row: RunRow, result: Result<Measured, Failure>) -> Result<Measured, Failure> {
    let (status, complete, exit) = match &result {
        Ok(measured) if measured.is_complete() => (RunStatus::Succeeded, true, Exit::Fine),
        Ok(_) => (RunStatus::Succeeded, false, Exit::CannotTell),
        Err(failure) => (RunStatus::Failed, false, failure.exit),
    };
    let ended = row.next_revision().end(status, complete, exit.code(), run::now_us());
    let written = runs::write_run(&context.output, ended)
        .and_then(|_| reports::views::write_views(&context.output))
        .context("write the runs table")
        .map_err(Failure::cannot_tell);
    let measured = result?;
    written?;
    Ok(measured)
}

async fn serve(
    context: &Context,
    metrics: &Arc<Metrics>,
    readiness: &Arc<Readiness>,
    service: &CancellationToken,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>, Failure> {
    let address = context.config.listen;
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} for /metrics; choose another `listen`"))
        .map_err(Failure::cannot_tell)?;
    if let Ok(bound) = listener.local_addr() {
        tracing::info!("serving http://{bound}/metrics");
    }
    Ok(tokio::spawn(probes::serve(
        listener,
        metrics.clone(),
        readiness.clone(),
        service.clone(),
    )))
}

/// Takes rows until the engine is done. On an unwritable folder it stops the engine and keeps taking, so that nothing blocks.
fn write(
    mut tables: LagTables,
    costs: &Costs,
    mut rows: mpsc::Receiver<Output>,
    broken: &CancellationToken,
) -> Result<Lag, Failure> {
    let mut failed = None;
    let mut sum = LagSummary::default();
    let mut shown = std::time::Instant::now();
    while let Some(row) = rows.blocking_recv() {
        if failed.is_some() {
            continue;
        }
        let mut written = match &row {
            Output::Sample(sample) => tables.sample(sample),
            Output::Interval(interval) => tables.interval(interval).and_then(|()| sum.add(interval)),
        };
        if written.is_ok() && shown.elapsed() >= SHOW_EVERY {
            shown = std::time::Instant::now();
            written = tables.show().map(drop).and_then(|()| costs.write());
        }
        if let Err(error) = written {
            tracing::error!("the lag tables cannot be written, so the probe stops: {error}");
            failed = Some(error);
            broken.cancel();
        }
    }
    let last = tables.finish().and_then(|files| costs.write().map(|()| files));
    match failed.map_or(last.map(drop), Err).and_then(|()| sum.routes()) {
        Ok(lag) => Ok(lag),
        Err(error) => Err(Failure::cannot_tell(
            anyhow::Error::new(error).context("write the lag tables"),
        )),
    }
}

fn tell(context: &Context, measured: &Measured) -> Result<(), Failure> {
    let text = match context.format {
        Format::Json => {
            let lag = |route: &Route| {
                measured
                    .lag
                    .iter()
                    .find(|(known, _)| known == route)
                    .map(|(_, lag)| lag)
            };
            let routes: Vec<_> = measured
                .summary
                .routes
                .iter()
                .map(|one| route_json(one, lag(&one.route)))
                .collect();
            serde_json::to_string_pretty(
                &serde_json::json!({ "complete": measured.is_complete(), "routes": routes, "not_probed": measured.not_probed, "unmeasured": measured.unmeasured }),
            )
            .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human => {
            let missing = measured.not_probed.iter().map(|reason| format!("NOT PROBED: {reason}"));
            let unmeasured = measured.unmeasured.iter().map(|one| {
                let Unmeasured {
                    dataset,
                    store,
                    collection,
                    reason,
                } = one;
                format!("UNMEASURED: {dataset} ({store}) {collection}: {reason}")
            });
            std::iter::once(lag_terminal(&measured.lag))
                .chain(missing)
                .chain(unmeasured)
                .collect::<Vec<_>>()
                .join("\n")
        }
    };
    print::line(&text)
}

fn route_json(route: &probes::RouteSummary, lag: Option<&RouteLag>) -> serde_json::Value {
    let a = &route.accounting;
    serde_json::json!({
        "route": route.route, "collection": route.collection, "stream": route.stream, "dormant": route.is_dormant, "epoch": route.epoch,
        "planned": a.planned, "skipped": a.skipped, "write_failed": a.write_failed, "write_unknown": a.write_unknown,
        "pending": a.pending, "seen": a.seen, "lost": a.lost, "superseded": a.superseded, "stale_reads": route.stale_reads,
        "lag": lag,
    })
}

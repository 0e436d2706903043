//! `driftline reconcile run`

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use reconcile::{
    FenceKind, ForkEvidence, KeyDisclosure, KeySecret, Limits, NotSelected, Pair, Request, Selected, Settings, Side,
};
use reports::Event;
use reports::render::{Findings, JOURNAL_KIND, ReconcileContext, render_reconcile};
use reports::runs;
use reports::tables::{Hex, RunKind, RunRow, RunStatus};
use stores::{Collection, End, Identity, Relation};
use tokio_util::sync::CancellationToken;

use super::{Context, event, print};
use crate::cli::{Format, ReconcileArgs, RelationArg};
use crate::config::Tables;
use crate::exit::{Exit, Failure, Outcome};
use crate::run::{self, Run};
use crate::selection::Selection;
use crate::stop;
use crate::topology::{self, Unit};

/// Keys that the terminal shows; all of them are in the divergences table.
const KEYS_SHOWN_MAX: usize = 20;

/// Tries of each question before the run begins. One that fails may be the fault of a standby that goes on replaying.
const OPENING_TRIES: u32 = 2;

/// A transaction is taken to have lasted at least as long as this around a fork, unless the old primary shows a longer one: how long they
/// really were is not on record anywhere. A change that is dated so shortly before the fork has an unknown origin.
const LONGEST_TRANSACTION_MIN_US: u64 = 60_000_000;

pub(super) async fn run(context: &Context, args: &ReconcileArgs) -> Outcome {
    let stop = stop::on_signal()
        .context("listen for signals")
        .map_err(Failure::cannot_tell)?;
    let compared = compare(context, args, stop).await?;
    let text = match context.format {
        Format::Json => serde_json::to_string_pretty(&serde_json::json!({
            "complete": compared.is_complete(),
            "exit_code": compared.exit.code(),
            "results": compared.findings,
            "not_compared": compared.not_compared,
        }))
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?,
        Format::Human => compared.terminal(),
    };
    print::result(&text, compared.exit)
}

/// What a run found, and what it could not look at.
#[derive(Debug)]
pub(crate) struct Compared {
    /// 1 beats 3, and both beat 0.
    pub(crate) exit: Exit,
    /// One for each dataset and pair that was compared.
    pub(crate) findings: Vec<Findings>,
    /// Why a dataset was not compared over a pair, or why evidence was not written.
    pub(crate) not_compared: Vec<String>,
}

impl Compared {
    fn is_complete(&self) -> bool {
        self.not_compared.is_empty() && self.findings.iter().all(|findings| findings.complete)
    }

    fn terminal(&self) -> String {
        let findings = self.findings.iter().map(Findings::terminal);
        let missing = self.not_compared.iter().map(|reason| format!("NOT COMPARED: {reason}"));
        findings.chain(missing).collect::<Vec<_>>().join("\n")
    }

    fn missed(&mut self, failure: &Failure) {
        let reason = format!("{:#}", failure.error);
        tracing::error!("{reason}");
        self.exit = worst(self.exit, Exit::CannotTell.code());
        self.not_compared.push(reason);
    }
}

/// Compares every pair of every dataset, writes the evidence, and tells what was found.
///
/// All ends are looked at before the first comparison, so that a refusal is one of the whole run. What cannot be told of one pair takes
/// nothing away from what is found on another.
pub(crate) async fn compare(
    context: &Context,
    args: &ReconcileArgs,
    stop: CancellationToken,
) -> Result<Compared, Failure> {
    let event = args.event.as_deref().map(|id| event::find(context, id)).transpose()?;
    let run = Run::begin();
    let units = topology::units(&context.config);
    let jobs = jobs(&units, &args.dataset)?;
    let mut row = RunRow::begin(
        RunKind::Reconcile,
        run.id.clone(),
        run.started_at_us,
        run.executed_by.clone(),
        run.host.clone(),
    );
    row.config_sha256 = Some(Hex(context.config.sha256()));
    row.dataset_fingerprints = context.config.fingerprints();
    row.event_id = event.as_ref().map(|event| event.event_id.clone());

    let mut compared = Compared {
        exit: Exit::Fine,
        findings: Vec::new(),
        not_compared: Vec::new(),
    };
    let mut miss_probability = 0.0;
    let mut identities: Vec<(String, Identity)> = Vec::new();
    let ready = ready(args, &jobs, &stop, &mut compared).await?;
    for (job, ends) in ready {
        let relation = ends.pair.relation;
        let reached = ends.reached.clone();
        let (findings, missed) = match job_result(context, args, event.as_ref(), &run, job, ends, &stop).await {
            Ok(result) => result,
            Err(failure) if jobs.len() == 1 => return Err(failure),
            Err(failure) if failure.exit == Exit::Refused && compared.findings.is_empty() => return Err(failure),
            Err(failure) => {
                compared.missed(&failure);
                continue;
            }
        };
        miss_probability += missed;
        compared.exit = worst(compared.exit, findings.exit_code);
        row.relation = Some(relation);
        identities.extend(reached);
        if jobs.len() == 1 {
            row.dataset = Some(findings.dataset.clone());
            row.store = Some(findings.store.clone());
            row.primary_site = Some(findings.primary_site.clone());
            row.secondary_site = Some(findings.secondary_site.clone());
        }
        compared.findings.push(findings);
    }
    row.miss_probability = Some(miss_probability);
    row.sites = topology::sites(&context.config, &identities);
    let status = if stop.is_cancelled() {
        RunStatus::Interrupted
    } else {
        RunStatus::Succeeded
    };
    let row = row.end(status, compared.is_complete(), compared.exit.code(), run::now_us());
    // The commit mark: last.
    let marked = runs::write_run(&context.output, row)
        .and_then(|_| reports::views::write_views(&context.output))
        .with_context(|| format!("write the runs table below {}", context.output.display()))
        .map_err(Failure::cannot_tell);
    if let Err(failure) = marked {
        compared.missed(&failure);
    }
    Ok(compared)
}

/// The ends of every job. A refusal ends the run; what does not answer is noted, and the run goes on with the others.
async fn ready<'j, 'a>(
    args: &ReconcileArgs,
    jobs: &'j [Job<'a>],
    stop: &CancellationToken,
    compared: &mut Compared,
) -> Result<Vec<(&'j Job<'a>, Ends)>, Failure> {
    let mut ready = Vec::new();
    for job in jobs {
        let looked = async {
            let mut ends = open(args, job).await?;
            (ends.selected, ends.not_selected) = select(&ends.pair, job).await?;
            Ok(ends)
        };
        let ends = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Failure::from(reconcile::ReconcileError::Stopped)),
            ends = looked => ends,
        };
        match ends.map_err(|failure: Failure| failure.context(job.about())) {
            Ok(ends) => ready.push((job, ends)),
            Err(failure) if failure.exit == Exit::Refused || jobs.len() == 1 => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    Ok(ready)
}

/// 1 beats 3, and both beat 0.
fn worst(exit: Exit, code: u8) -> Exit {
    match (exit, code) {
        (Exit::Found, _) | (_, 1) => Exit::Found,
        (exit, 0) => exit,
        _ => Exit::CannotTell,
    }
}

/// One dataset over one pair.
struct Job<'a> {
    unit: &'a Unit<'a>,
    dataset: &'a str,
    tables: &'a Tables,
    secondary: &'a str,
}

impl Job<'_> {
    fn about(&self) -> String {
        let primary = self.unit.primary();
        format!("dataset {}, {primary} against {}", self.dataset, self.secondary)
    }
}

/// Both ends of one job, and what is there.
struct Ends {
    pair: Pair,
    reached: [(String, Identity); 2],
    selected: Vec<Selected>,
    not_selected: Vec<NotSelected>,
}

fn jobs<'a>(units: &'a [Unit<'a>], wanted: &[String]) -> Result<Vec<Job<'a>>, Failure> {
    let known: Vec<&str> = units.iter().flat_map(|unit| unit.datasets.keys().copied()).collect();
    if let Some(name) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::refused(anyhow!(
            "unknown dataset `{name}`; known: {}",
            known.join(", ")
        )));
    }
    let mut jobs = Vec::new();
    for unit in units {
        for (dataset, tables) in unit.tables() {
            if wanted.is_empty() || wanted.iter().any(|name| name == dataset) {
                jobs.extend(unit.secondaries().map(|secondary| Job {
                    unit,
                    dataset,
                    tables,
                    secondary,
                }));
            }
        }
    }
    if jobs.is_empty() {
        return Err(Failure::refused(anyhow!("the configuration has no dataset to compare")));
    }
    Ok(jobs)
}

async fn job_result(
    context: &Context,
    args: &ReconcileArgs,
    event: Option<&Event>,
    run: &Run,
    job: &Job<'_>,
    ends: Ends,
    stop: &CancellationToken,
) -> Result<(Findings, f64), Failure> {
    let pair = ends.pair;
    let request = Request {
        run_id: run.id.clone(),
        selected: ends.selected,
        not_selected: ends.not_selected,
        disclosure: context.config.defaults.reconcile.keys,
        key_hash: key_secret(context)?,
        include_values: args.include_values,
        fork: match event {
            Some(event) => fork(event, job, &pair).await?,
            None => None,
        },
        limits: Limits::default(),
    };
    let journal = journal_path(context, run, job)?;
    let writer = journal::Writer::create(&journal, JOURNAL_KIND)
        .context("create the journal of the run")
        .map_err(Failure::cannot_tell)?;
    let progress = Progress::new(job.dataset);
    let summary = reconcile::run(&pair, &request, writer, |event| progress.tell(&event), stop.clone())
        .await
        .map_err(|error| Failure::from(error).context(job.about()))?;
    progress.end();
    let scope = ReconcileContext {
        dataset: job.dataset.to_owned(),
        store: "aurora".to_owned(),
        labels: job.tables.labels.clone(),
        started_at_us: run.started_at_us,
        keys_shown_max: KEYS_SHOWN_MAX,
    };
    let (findings, _files) = render_reconcile(&journal, &context.output, &scope)
        .context("render the journal as tables")
        .map_err(Failure::cannot_tell)?;
    Ok((findings, summary.miss_probability))
}

impl From<reconcile::ReconcileError> for Failure {
    fn from(error: reconcile::ReconcileError) -> Self {
        use reconcile::ReconcileError as E;
        match error {
            E::SameData { .. } | E::Request(_) => Self::refused(error),
            E::Store(store) => Self::from(store),
            E::Journal(_) | E::Stopped => Self::cannot_tell(error),
        }
    }
}

async fn open(args: &ReconcileArgs, job: &Job<'_>) -> Result<Ends, Failure> {
    let unit = job.unit;
    let primary = unit.writer_end(unit.primary()).await?;
    let stated = match args.relation {
        Some(RelationArg::Replicating) => Some(Relation::Replicating),
        Some(RelationArg::Independent) => Some(Relation::Independent),
        None => unit.aurora().and_then(|aurora| aurora.relation),
    };
    // A replicating secondary is read where readers read; an independent one is a writer of its own.
    let reader = unit.reader_end(job.secondary).await?;
    let (a, b) = (identity(&primary).await?, identity(&reader).await?);
    if a.same_data(&b) {
        return Err(Failure::from(reconcile::ReconcileError::SameData {
            primary_site: unit.primary().to_owned(),
            secondary_site: job.secondary.to_owned(),
            instance: b.instance,
        }));
    }
    let relation = topology::relation(stated, &a, &b).map_err(|problem| Failure::refused(anyhow!(problem)))?;
    let (secondary, fence) = match relation {
        Relation::Replicating => (reader, FenceKind::Lsn),
        Relation::Independent | Relation::Frozen => (unit.writer_end(job.secondary).await?, FenceKind::None),
    };
    let reached = [(unit.primary().to_owned(), a), (job.secondary.to_owned(), b)];
    let pair = Pair {
        primary,
        secondary,
        relation,
        fence,
    };
    Ok(Ends {
        pair,
        reached,
        selected: Vec::new(),
        not_selected: Vec::new(),
    })
}

/// Every collection of both ends, by name, told apart by the dataset's patterns.
async fn select(pair: &Pair, job: &Job<'_>) -> Result<(Vec<Selected>, Vec<NotSelected>), Failure> {
    let selection = Selection::of(job.tables).map_err(Failure::refused)?;
    let (primary, secondary) = (collections(&pair.primary).await?, collections(&pair.secondary).await?);
    let everything: Vec<Collection> = primary.iter().chain(&secondary).cloned().collect();
    let unmatched = selection.unmatched(&everything);
    if !unmatched.is_empty() {
        return Err(Failure::cannot_tell(anyhow!(
            "pattern {} matches no table at either site; correct `tables`, or look at the tables with `driftline check`",
            unmatched
                .iter()
                .map(|pattern| format!("`{pattern}`"))
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    if let Some(name) = job
        .tables
        .table
        .keys()
        .find(|name| !everything.iter().any(|one| one.name == **name))
    {
        return Err(Failure::cannot_tell(anyhow!(
            "settings are given for table {name}, which neither site has"
        )));
    }
    let mut names: Vec<&str> = everything.iter().map(|collection| collection.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let (mut selected, mut not_selected) = (Vec::new(), Vec::new());
    for name in names {
        let find = |side: &[Collection]| side.iter().find(|collection| collection.name == name).cloned();
        let (primary, secondary) = (find(&primary), find(&secondary));
        let is_canary = [&primary, &secondary]
            .into_iter()
            .flatten()
            .any(|collection| collection.is_canary);
        if selection.selects(name) && !is_canary {
            let table = job.tables.table.get(name).cloned().unwrap_or_default();
            let settings = Settings {
                changed_at: table.changed_at,
                exclude_columns: table.exclude_columns,
            };
            selected.push(Selected {
                primary,
                secondary,
                settings,
            });
        } else {
            not_selected.push(NotSelected { primary, secondary });
        }
    }
    Ok((selected, not_selected))
}

async fn collections(end: &End) -> Result<Vec<Collection>, Failure> {
    let catalog = end
        .catalog
        .as_ref()
        .ok_or_else(|| Failure::refused(anyhow!("site {}: this store has no catalog to compare", end.site)))?;
    // A standby may cancel what is asked of its catalog, too.
    Ok(reconcile::asked(&opening(), &end.site, || catalog.collections())
        .await
        .0?)
}

/// Bounds of the first look at both ends: an address where nobody answers is told soon.
fn opening() -> Limits {
    Limits {
        attempts_max: OPENING_TRIES,
        ..Limits::default()
    }
}

async fn identity(end: &End) -> Result<Identity, Failure> {
    Ok(reconcile::asked(&opening(), &end.site, || end.identify.identity())
        .await
        .0?)
}

fn key_secret(context: &Context) -> Result<Option<KeySecret>, Failure> {
    let settings = &context.config.defaults.reconcile;
    match (&settings.key_hash, settings.keys) {
        (Some(secret), KeyDisclosure::Hashed) => {
            let revealed = secret.reveal().context("read key_hash").map_err(Failure::refused)?;
            Ok(Some(KeySecret::new(revealed.expose().as_bytes())))
        }
        _ => Ok(None),
    }
}

/// What the event proves about the fork of this pair. An event that does not touch the dataset, or whose sites are others, is refused.
async fn fork(event: &Event, job: &Job<'_>, pair: &Pair) -> Result<Option<ForkEvidence>, Failure> {
    if !event.datasets.is_empty() && !event.datasets.iter().any(|dataset| dataset == job.dataset) {
        return Ok(None);
    }
    let old_side = if event.from_site == pair.primary.site {
        Side::Primary
    } else if event.from_site == pair.secondary.site {
        Side::Secondary
    } else {
        return Err(Failure::refused(anyhow!(
            "event {} left site {}, which is not one of this pair",
            event.event_id,
            event.from_site
        )));
    };
    let Some(fork) = event.forks.get(job.unit.name) else {
        return Err(Failure::cannot_tell(anyhow!(
            "event {} has no fork for connection {}: run `driftline event mark promoted` while the promoted server has not restarted",
            event.event_id,
            job.unit.name
        )));
    };
    let old_end = match old_side {
        Side::Primary => &pair.primary,
        Side::Secondary => &pair.secondary,
    };
    let seen = match &old_end.status {
        Some(status) => status.status().await?.longest_transaction_us,
        None => None,
    };
    Ok(Some(ForkEvidence {
        fork: fork.clone(),
        old_side,
        longest_transaction_us: seen.unwrap_or(0).max(LONGEST_TRANSACTION_MIN_US),
    }))
}

fn journal_path(context: &Context, run: &Run, job: &Job<'_>) -> Result<PathBuf, Failure> {
    let folder = context.output.join("_work").join(&run.id);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("make the folder {}", folder.display()))
        .map_err(Failure::cannot_tell)?;
    Ok(folder.join(format!("{}.{}.journal", job.dataset, job.secondary)))
}

/// Progress for people: a bar on a terminal, a line a table in a log.
struct Progress {
    bar: indicatif::ProgressBar,
    dataset: String,
}

impl Progress {
    fn new(dataset: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            indicatif::ProgressBar::new(0)
        } else {
            indicatif::ProgressBar::hidden()
        };
        if let Ok(style) = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} chunks") {
            bar.set_style(style);
        }
        Self {
            bar,
            dataset: dataset.to_owned(),
        }
    }

    fn tell(&self, event: &reconcile::Event) {
        use reconcile::Event as E;
        match event {
            E::Planned { collections, chunks } => {
                self.bar.set_length(*chunks);
                tracing::info!(dataset = self.dataset, collections, chunks, "planned");
            }
            E::LinkProved { primary, secondary } => {
                tracing::info!(
                    dataset = self.dataset,
                    primary,
                    secondary,
                    "the link is proved by a canary"
                );
            }
            E::Begun { collection, .. } => self.bar.set_message(collection.clone()),
            E::Narrowing { collection, chunk_id } => {
                tracing::debug!(collection, chunk_id, "digests differ; looking for the keys");
            }
            E::ChunkDone { .. } => self.bar.inc(1),
            E::Done(coverage) => tracing::info!(
                dataset = self.dataset,
                collection = coverage.collection,
                state = coverage.state.word(),
                confirmed = coverage.confirmed,
                reason = coverage.reason,
                "compared"
            ),
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

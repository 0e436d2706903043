//! `driftline reconcile run`

mod fork;
mod job;
mod progress;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use reconcile::{KeyDisclosure, KeySecret, Limits, Request};
use reports::Event;
use reports::render::{Findings, JOURNAL_KIND, ReconcileContext, render_reconcile};
use reports::runs;
use reports::tables::{Hex, RunKind, RunRow, RunStatus};
use stores::Identity;
use tokio_util::sync::CancellationToken;

use self::fork::fork;
use self::job::{Ends, Job, jobs, open, select};
use self::progress::Progress;
use super::{Context, print};
use crate::cli::{Format, ReconcileArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::run::{self, Run};
use crate::topology;
use crate::{events, stop};

/// Keys that the terminal shows; all of them are in the divergences table.
const KEYS_SHOWN_MAX: usize = 20;

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
    let event = args.event.as_deref().map(|id| events::find(context, id)).transpose()?;
    let run = Run::begin();
    let units = topology::units(&context.config);
    let (jobs, not_compared) = jobs(&units, &args.dataset)?;
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
    for reason in not_compared {
        compared.missed(&Failure::cannot_tell(anyhow!(reason)));
    }
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

fn journal_path(context: &Context, run: &Run, job: &Job<'_>) -> Result<PathBuf, Failure> {
    let folder = context.output.join("_work").join(&run.id);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("make the folder {}", folder.display()))
        .map_err(Failure::cannot_tell)?;
    Ok(folder.join(format!("{}.{}.journal", job.dataset, job.secondary)))
}

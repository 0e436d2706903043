//! `driftline reconcile merge`, and the end of every run: tables are written here and nowhere else.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use journal::Place;
use reconcile::{Missing, ReconcileError, Workplace};
use reports::render::{Findings, ReconcileContext, render_reconcile};
use reports::runs;
use reports::tables::{Hex, RunKind, RunRow, RunStatus};

use super::{Compared, Context, worst};
use crate::cli::MergeArgs;
use crate::exit::{Exit, Failure, Outcome};

/// Keys that the terminal shows; all of them are in the divergences table.
const KEYS_SHOWN_MAX: usize = 20;

pub(super) async fn run(context: &Context, args: &MergeArgs) -> Outcome {
    let workplace = workplace(context, &args.plan).await?;
    let mut compared = Compared::new();
    for reason in &workplace.plan().not_compared {
        compared.missing(reason.clone());
    }
    // Of all jobs first: tables of one alone would pass for those of the run.
    let mut open = Vec::new();
    for shard in workplace.plan().shards() {
        if !workplace.is_won(&shard).await? {
            open.push(shard.number);
        }
    }
    if !open.is_empty() {
        return Err(ReconcileError::Incomplete(open).into());
    }
    let all: Vec<_> = (0..workplace.plan().jobs.len())
        .map(|at| (at, Missing::Refused))
        .collect();
    merge(context, &workplace, &all, false, &mut compared).await?;
    compared.print(context.format)
}

/// The work of a run, by the address of its plan.
pub(super) async fn workplace(context: &Context, address: &probes::CopyPlace) -> Result<Workplace, ReconcileError> {
    let written = address.to_string();
    let of_run = written
        .trim_end_matches('/')
        .trim_end_matches("plan.json")
        .trim_end_matches('/');
    let address: probes::CopyPlace = of_run
        .parse()
        .map_err(|error: probes::SettingError| ReconcileError::Request(error.to_string()))?;
    let run_id = of_run.rsplit('/').next().unwrap_or_default();
    let (place, local) = match &address {
        probes::CopyPlace::Folder(folder) => (Place::folder(folder), folder.clone()),
        probes::CopyPlace::Bucket { .. } => (address.open()?, context.output.join("_work").join(run_id)),
    };
    Workplace::open(place, local).await
}

/// Merges these jobs, renders them, and writes the row of the run, which is the commit mark, last.
pub(super) async fn merge(
    context: &Context,
    workplace: &Workplace,
    jobs: &[(usize, Missing)],
    is_interrupted: bool,
    compared: &mut Compared,
) -> Result<(), Failure> {
    let plan = workplace.plan();
    let about = &plan.about;
    let mut row = RunRow::begin(
        RunKind::Reconcile,
        about.run_id.clone(),
        about.started_at_us,
        about.executed_by.clone(),
        about.host.clone(),
    );
    row.config_sha256 = about.config_sha256.clone().map(Hex);
    row.dataset_fingerprints.clone_from(&about.dataset_fingerprints);
    row.event_id.clone_from(&about.event_id);
    row.sites.clone_from(&about.sites);
    let mut looks = plan.jobs.iter().map(|job| &job.plan.look);
    row.parent_run_id = looks.find_map(|look| look.parent().map(str::to_owned));
    let mut miss_probability = 0.0;
    let mut finished_at_us = about.started_at_us;
    for (at, missing) in jobs {
        let (findings, missed, finished) = match merge_one(context, workplace, *at, *missing).await {
            Ok(merged) => merged,
            Err(failure) if plan.jobs.len() == 1 => return Err(failure),
            Err(failure) => {
                compared.missed(&failure);
                continue;
            }
        };
        miss_probability += missed;
        finished_at_us = finished_at_us.max(finished);
        compared.exit = worst(compared.exit, findings.exit_code);
        row.relation = Some(plan.jobs[*at].plan.relation);
        row.key_hash_id.clone_from(&plan.jobs[*at].plan.key_hash_id);
        if plan.jobs.len() == 1 && plan.not_compared.is_empty() {
            row.dataset = Some(findings.dataset.clone());
            row.store = Some(findings.store.clone());
            row.primary_site = Some(findings.primary_site.clone());
            row.secondary_site = Some(findings.secondary_site.clone());
        }
        compared.findings.push(findings);
    }
    row.miss_probability = Some(miss_probability);
    let status = if is_interrupted {
        RunStatus::Interrupted
    } else {
        RunStatus::Succeeded
    };
    let row = row.end(status, compared.is_complete(), compared.exit.code(), finished_at_us);
    // The commit mark: last.
    let marked = runs::write_run(&context.output, row)
        .and_then(|_| reports::views::write_views(&context.output))
        .with_context(|| format!("write the runs table below {}", context.output.display()))
        .map_err(Failure::cannot_tell);
    if let Err(failure) = marked {
        compared.missed(&failure);
    }
    Ok(())
}

/// Where the merged journal of a job is.
pub(super) fn journal_of(workplace: &Workplace, job: &reconcile::Job) -> PathBuf {
    let name = format!("{}.{}.journal", job.dataset, job.plan.secondary_site);
    workplace.local().join(name)
}

async fn merge_one(
    context: &Context,
    workplace: &Workplace,
    at: usize,
    missing: Missing,
) -> Result<(Findings, f64, i64), Failure> {
    let job = &workplace.plan().jobs[at];
    let journal = journal_of(workplace, job);
    let told = |event: reconcile::Event| super::progress::tell(&job.dataset, &event);
    let summary = workplace.merge(at, missing, &journal, &told).await?;
    let scope = ReconcileContext {
        dataset: job.dataset.clone(),
        store: job.store.clone(),
        labels: job.labels.clone(),
        started_at_us: workplace.plan().about.started_at_us,
        keys_shown_max: KEYS_SHOWN_MAX,
    };
    let (findings, _files) = render_reconcile(&journal, &context.output, &scope)
        .context("render the journal as tables")
        .map_err(Failure::cannot_tell)?;
    if findings.exit_code != summary.exit_code() {
        return Err(Failure::cannot_tell(anyhow!(
            "dataset {}: the tables say {} and the merge says {}; this is a fault of driftline, and neither is to be trusted",
            job.dataset,
            Exit::from_code(findings.exit_code).code(),
            summary.exit_code()
        )));
    }
    Ok((findings, summary.miss_probability, summary.finished_at_us))
}

//! An earlier run of the output folder: its plan, and what it found.

use anyhow::anyhow;
use reconcile::{Earlier, Look, Workplace};
use stores::Relation;

use super::job::Job;
use super::merging::journal_of;
use super::{Context, workplace_of};
use crate::cli::RelationArg;
use crate::exit::Failure;
use crate::topology::Unit;

/// The word for the newest run that looked at everything.
const LATEST: &str = "latest";

/// What is left of a run.
pub(super) struct EarlierRun {
    pub(super) workplace: Workplace,
    /// Each job that was merged, with its number.
    pub(super) jobs: Vec<(usize, Earlier)>,
}

impl EarlierRun {
    pub(super) fn job(&self, at: usize) -> &reconcile::Job {
        &self.workplace.plan().jobs[at]
    }

    pub(super) fn id(&self) -> &str {
        &self.workplace.plan().about.run_id
    }
}

/// Finds a run by its ID, or the newest one that looked at everything.
///
/// # Errors
/// A refusal: there is none, or it was never merged, or another version made it.
pub(super) async fn find(context: &Context, run: &str) -> Result<EarlierRun, Failure> {
    if run != LATEST {
        let found = open(context, run).await?;
        if found.jobs.is_empty() {
            return Err(Failure::refused(anyhow!(
                "run {run} has no result yet; let it end, or merge it with `driftline reconcile merge`"
            )));
        }
        return Ok(found);
    }
    let work = context.output.join("_work");
    let mut ids: Vec<String> = std::fs::read_dir(&work)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("plan.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    // The IDs sort by time.
    ids.sort_unstable();
    for id in ids.iter().rev() {
        let found = open(context, id).await?;
        let looked_at_everything = found.jobs.iter().all(|(_, earlier)| earlier.plan().look == Look::All);
        if !found.jobs.is_empty() && looked_at_everything {
            return Ok(found);
        }
    }
    if let Some(id) = super::evidence(context, None) {
        return Err(Failure::refused(super::without_work(context, &id)));
    }
    Err(Failure::refused(anyhow!(
        "{} holds no run that came to a result; run `driftline reconcile run` first, or name the folder with --output",
        work.display()
    )))
}

async fn open(context: &Context, run: &str) -> Result<EarlierRun, Failure> {
    let workplace = workplace_of(context, run).await?;
    let mut jobs = Vec::new();
    for (at, job) in workplace.plan().jobs.iter().enumerate() {
        let journal = journal_of(&workplace, job);
        if journal.is_file() {
            jobs.push((at, Earlier::open(&journal)?));
        }
    }
    Ok(EarlierRun { workplace, jobs })
}

/// The same dataset over the same two sites by today's configuration, whoever writes now.
///
/// # Errors
/// A refusal: the configuration has no such comparison.
pub(super) fn job_of_today<'a>(units: &'a [Unit<'a>], planned: &reconcile::Job) -> Result<Job<'a>, Failure> {
    let (a, b) = (planned.plan.primary_site.as_str(), planned.plan.secondary_site.as_str());
    for unit in units.iter().filter(|unit| unit.name == planned.connection) {
        let Some((dataset, tables)) = unit.tables().find(|(name, _)| *name == planned.dataset) else {
            continue;
        };
        let primary = unit.primary();
        let other = if primary == a { b } else { a };
        if let Some(secondary) = unit.secondaries().find(|site| *site == other)
            && (primary == a || primary == b)
        {
            return Ok(Job {
                unit,
                dataset,
                tables,
                secondary,
            });
        }
    }
    Err(Failure::refused(anyhow!(
        "the run compared dataset {} of site {a} with site {b}, which this configuration does not",
        planned.dataset
    )))
}

/// The relation to look by: as stated; else detected where the run detected one, and as it was where it was stated then.
pub(super) fn relation(stated: Option<RelationArg>, then: Relation) -> Option<Relation> {
    match stated {
        Some(RelationArg::Replicating) => Some(Relation::Replicating),
        Some(RelationArg::Independent) => Some(Relation::Independent),
        None if then == Relation::Independent => Some(Relation::Independent),
        None => None,
    }
}

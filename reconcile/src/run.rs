//! A run: plan, shards, merge, in one process as in many.

use std::path::{Path, PathBuf};

use journal::{Place, Writer};

use crate::merge::{Source, Summary, merge};
use crate::progress::{Event, Listener};
use crate::run_plan::{About, Job, RunPlan};
use crate::session::{Session, Staged, Stop};
use crate::workplace::Workplace;
use crate::{Pair, ReconcileError, Request};

/// The kind of journal that a reconciliation ends at.
pub const RUN_KIND: &str = "reconcile";

/// Whether a run may be put together though shards are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// No: somebody else may still be comparing them.
    Refused,
    /// Yes: the run was ended before they were compared. They are in the coverage as not looked at, and the run is not complete.
    NotLookedAt,
}

impl Workplace {
    /// Puts the shards of one job together into one journal, at `to`.
    ///
    /// # Errors
    /// `Incomplete`, `Corrupt`, `Place`, `Journal`.
    pub async fn merge(
        &self,
        job: usize,
        missing: Missing,
        to: &Path,
        listener: Listener<'_>,
    ) -> Result<Summary, ReconcileError> {
        let one = self.plan().jobs.get(job);
        let one = one.ok_or_else(|| ReconcileError::OtherPlan(format!("the plan has no job {job}")))?;
        let shards = self.plan().shards();
        let (mut sources, mut open) = (Vec::new(), Vec::new());
        for shard in shards.into_iter().filter(|shard| shard.job == job) {
            let won = self.won(&shard).await?;
            if won.is_none() {
                open.push(shard.number);
            }
            sources.push(Source {
                head: self.head(&shard),
                is_won: won.is_some(),
                journal: match won {
                    Some(won) => Some(won),
                    None => self.unfinished(&shard)?,
                },
                pieces: shard.pieces,
            });
        }
        if missing == Missing::Refused && !open.is_empty() {
            return Err(ReconcileError::Incomplete(open));
        }
        let draft = to.with_extension(format!("{:08x}.draft", rand::random::<u32>()));
        let mut writer = Writer::create(&draft, RUN_KIND)?;
        let merged = merge(&one.plan, &sources, &mut writer, listener);
        match merged {
            Ok(summary) => {
                writer.rename(to)?;
                // A run that may still be gone on with needs them.
                if open.is_empty()
                    && let Err(error) = self.forget_spills(job).await
                {
                    tracing::warn!(%error, "rows that were spilled could not be deleted; they hold keys: delete `*.spill` in the work of the run");
                }
                Ok(summary)
            }
            Err(error) => {
                // What cannot be removed either is a draft that nobody reads.
                drop(std::fs::remove_file(&draft));
                Err(error)
            }
        }
    }
}

/// Runs one reconciliation of one pair with its work in `folder`; gives what it amounts to, and its journal.
///
/// A failed chunk or collection is recorded and the run goes on; a run that is asked to end ends with what was committed, the rest not looked
/// at.
///
/// # Errors
/// Before any comparison: `SameData`, `Request`, `Store`, `Stopped`. At any time: `Journal`, `Place`; then there is no journal of the run.
pub async fn run(
    pair: &Pair,
    request: &Request,
    folder: &Path,
    progress: impl Fn(Event) + Send + Sync,
    stop: Stop,
) -> Result<(Summary, PathBuf), ReconcileError> {
    let session = Session::new(pair, request.key_hash.clone(), &progress, stop.clone());
    let plan = session.plan(request).await?;
    let about = About {
        run_id: request.run_id.clone(),
        ..About::default()
    };
    let job = Job {
        dataset: String::new(),
        connection: String::new(),
        store: plan.primary.store.clone(),
        labels: std::collections::BTreeMap::new(),
        plan,
    };
    let plan = RunPlan::new(about, Vec::new(), vec![job]);
    let work = Workplace::begin(Place::folder(folder), folder.to_owned(), plan).await?;
    let missing = match session.shards(&work, &work.plan().shards()).await? {
        Staged::Durable => Missing::Refused,
        Staged::Unfinished => Missing::NotLookedAt,
    };
    let journal = folder.join("run.journal");
    let summary = work.merge(0, missing, &journal, &progress).await?;
    Ok((summary, journal))
}

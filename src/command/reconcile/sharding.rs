//! `driftline reconcile shard`

use anyhow::{Context as _, anyhow};
use journal::PlaceError;
use reconcile::{Earlier, ReconcileError, Session, Shard, Staged, Stop, Workplace};
use tokio_util::sync::CancellationToken;

use super::job::{Job, Opened, jobs, open};
use super::merging::workplace;
use super::planning::check_settings;
use super::progress::Progress;
use super::{Context, key_secret, narrow};
use crate::cli::ShardArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::topology::{self, Unit};

/// What tells a worker of an array which one it is.
const INDEX_VARIABLES: [&str; 2] = ["JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX"];

pub(super) async fn run(context: &Context, args: &ShardArgs, now: CancellationToken) -> Outcome {
    let number = number(args)?;
    let workplace = workplace(context, &args.plan).await.map_err(of_shard)?;
    let shards = workplace.plan().shards();
    let shard = shards.iter().find(|shard| shard.number == number).ok_or_else(|| {
        bad_plan(anyhow!(
            "the plan has {} shards, numbered from 0, and no shard {number}",
            shards.len()
        ))
    })?;
    if workplace.is_won(shard).await.map_err(of_shard)? {
        tracing::info!(shard = number, "its result is durable already");
        return Ok(Exit::Fine);
    }
    workplace.check_exclusive().await.map_err(of_shard)?;
    let stop = Stop { now, ..Stop::default() };
    match compare(context, &workplace, shard, stop).await? {
        Staged::Durable => Ok(Exit::Fine),
        Staged::Unfinished => Err(try_again(anyhow!(
            "stopped before shard {number} was whole; the same command on this machine goes on where it ended"
        ))),
    }
}

async fn compare(context: &Context, workplace: &Workplace, shard: &Shard, stop: Stop) -> Result<Staged, Failure> {
    let planned = &workplace.plan().jobs[shard.job];
    check_settings(context, workplace.plan(), planned).map_err(|failure| bad_plan(failure.error))?;
    let units = topology::units(&context.config);
    if narrow::is_against(workplace.plan()) {
        return against(&units, workplace, shard, stop).await;
    }
    let (jobs, _) = jobs(&units, std::slice::from_ref(&planned.dataset))?;
    let job = of_plan(jobs, planned).map_err(|failure| bad_plan(failure.error))?;
    let secret = key_secret(context)?;
    let ends = tokio::select! {
        biased;
        () = stop.now.cancelled() => return Ok(Staged::Unfinished),
        ends = open(Some(planned.plan.relation), &job) => ends.map_err(|failure| again(failure.context(job.about())))?,
    };
    let one = Opened {
        at: shard.job,
        progress: Progress::new(job.dataset),
        job,
        ends,
    };
    let tell = one.listener();
    let session = Session::new(&one.ends.pair, secret, &tell, stop);
    session.admit(&planned.plan).await.map_err(of_shard)?;
    let staged = session.shard(workplace, shard).await.map_err(of_shard)?;
    one.progress.end();
    Ok(staged)
}

/// A shard of a comparison with a record: the site that is gone is not asked.
async fn against(units: &[Unit<'_>], workplace: &Workplace, shard: &Shard, stop: Stop) -> Result<Staged, Failure> {
    let planned = &workplace.plan().jobs[shard.job];
    let record = Earlier::kept(workplace.local(), shard.job).map_err(of_shard)?;
    let pair = tokio::select! {
        biased;
        () = stop.now.cancelled() => return Ok(Staged::Unfinished),
        pair = narrow::pair_of_record(units, planned, &record) => pair.map_err(again)?,
    };
    let progress = Progress::new(&planned.dataset);
    let tell = |event: reconcile::Event| progress.tell(&event);
    let session = Session::new(&pair, None, &tell, stop);
    session.admit(&planned.plan).await.map_err(of_shard)?;
    let staged = session.shard(workplace, shard).await.map_err(of_shard)?;
    progress.end();
    Ok(staged)
}

/// The job of the configuration that a plan's job was made of.
///
/// # Errors
/// A refusal, when the configuration has none.
pub(super) fn of_plan<'a>(jobs: Vec<Job<'a>>, planned: &reconcile::Job) -> Result<Job<'a>, Failure> {
    let plan = &planned.plan;
    let mut jobs = jobs.into_iter();
    let found = jobs.find(|job| {
        job.dataset == planned.dataset
            && job.unit.name == planned.connection
            && job.unit.primary() == plan.primary_site
            && job.secondary == plan.secondary_site
    });
    found.ok_or_else(|| {
        Failure::refused(anyhow!(
            "the plan compares dataset {} of site {} with site {}, which this configuration does not; who writes may have changed (--writers)",
            planned.dataset,
            plan.primary_site,
            plan.secondary_site
        ))
    })
}

fn number(args: &ShardArgs) -> Result<u64, Failure> {
    if let Some(number) = args.shard {
        return Ok(number);
    }
    let set = INDEX_VARIABLES
        .iter()
        .find_map(|name| Some((name, std::env::var(name).ok()?)));
    let (name, text) = set.ok_or_else(|| {
        Failure::refused(anyhow!(
            "which shard? give --shard, or one of {}",
            INDEX_VARIABLES.join(", ")
        ))
    })?;
    let number = text
        .parse()
        .with_context(|| format!("{name}={text} is not the number of a shard"));
    number.map_err(Failure::refused)
}

fn bad_plan(error: anyhow::Error) -> Failure {
    Failure {
        exit: Exit::BadPlan,
        error,
    }
}

fn try_again(error: anyhow::Error) -> Failure {
    Failure {
        exit: Exit::TryAgain,
        error,
    }
}

/// What could not be told may be told by the next try.
fn again(failure: Failure) -> Failure {
    match failure.exit {
        Exit::CannotTell => try_again(failure.error),
        _ => failure,
    }
}

/// What an error of the engine means to whoever runs workers.
fn of_shard(error: ReconcileError) -> Failure {
    use ReconcileError as E;
    use journal::Error as J;
    let exit = match &error {
        E::OtherPlan(_) => Exit::BadPlan,
        E::Corrupt(_)
        | E::Journal(
            J::Corrupt { .. } | J::NotAJournal { .. } | J::Version { .. } | J::Kind { .. } | J::Record { .. },
        ) => Exit::BadData,
        E::Place(PlaceError::Config { .. } | PlaceError::NotExclusive { .. }) => Exit::Refused,
        E::Place(_) | E::Journal(_) | E::Stopped | E::Incomplete(_) | E::Early { .. } => Exit::TryAgain,
        E::SameData { .. } | E::Request(_) | E::Store(_) => return again(Failure::from(error)),
    };
    Failure {
        exit,
        error: error.into(),
    }
}

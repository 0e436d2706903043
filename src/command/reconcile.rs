//! `driftline reconcile run | plan | shard | merge`

mod earlier;
mod estimating;
mod explaining;
mod fork;
mod job;
mod merging;
mod narrow;
mod planning;
mod progress;
mod sharding;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use jiff::SignedDuration;
use reconcile::{KeyDisclosure, KeySecret, Limits, Missing, ReconcileError, Session, Staged, Stop, Workplace};
use reports::render::Findings;
use tokio_util::sync::CancellationToken;

use self::job::{Opened, reopen};
use self::planning::planned;
use super::{Context, print};
use crate::cli::{ExplainArgs, Format, ReconcileArgs, ReconcileCommand};
use crate::exit::{Exit, Failure, Outcome};
use crate::{stop, topology};

/// What a run found, and what it could not look at.
#[derive(Debug)]
pub(crate) struct Compared {
    /// 1 beats 3, and both beat 0.
    pub(crate) exit: Exit,
    /// One for each dataset and pair that was compared.
    pub(crate) findings: Vec<Findings>,
    /// Why a dataset was not compared over a pair, or why evidence was not written.
    pub(crate) not_compared: Vec<String>,
    /// What the reader has to know before the findings: that less than everything was looked at.
    narrow: Option<String>,
}

impl Compared {
    fn new() -> Self {
        Self {
            exit: Exit::Fine,
            findings: Vec::new(),
            not_compared: Vec::new(),
            narrow: None,
        }
    }

    fn is_complete(&self) -> bool {
        self.not_compared.is_empty() && self.findings.iter().all(|findings| findings.complete)
    }

    fn print(&self, format: Format) -> Outcome {
        let text = match format {
            Format::Json => serde_json::to_string_pretty(&serde_json::json!({
                "complete": self.is_complete(),
                "exit_code": self.exit.code(),
                "results": self.findings,
                "not_compared": self.not_compared,
                "narrow": self.narrow,
            }))
            .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?,
            Format::Human => self.terminal(),
        };
        print::result(&text, self.exit)
    }

    fn terminal(&self) -> String {
        let narrow = self.narrow.iter().map(|words| format!("{words}\n"));
        let findings = self.findings.iter().map(Findings::terminal);
        let missing = self.not_compared.iter().map(|reason| format!("NOT COMPARED: {reason}"));
        narrow.chain(findings).chain(missing).collect::<Vec<_>>().join("\n")
    }

    fn missed(&mut self, failure: &Failure) {
        self.missing(format!("{:#}", failure.error));
    }

    fn missing(&mut self, reason: String) {
        tracing::error!("{reason}");
        self.exit = worst(self.exit, Exit::CannotTell.code());
        self.not_compared.push(reason);
    }
}

pub(super) async fn run(context: &Context, command: &ReconcileCommand) -> Outcome {
    let now = stop::on_signal()
        .context("listen for signals")
        .map_err(Failure::cannot_tell)?;
    match command {
        ReconcileCommand::Run(args) if args.estimate => {
            let stop = Stop { now, ..Stop::default() };
            estimating::run(context, &args.select, stop).await
        }
        ReconcileCommand::Run(args) => compare(context, args, now).await?.print(context.format),
        ReconcileCommand::Plan(args) => planning::run(context, args, now).await,
        ReconcileCommand::Shard(args) => sharding::run(context, args, now).await,
        ReconcileCommand::Merge(args) => merging::run(context, args).await,
    }
}

/// Compares every pair of every dataset, writes the evidence, and tells what was found: plan, shards, merge in one process.
///
/// All ends are looked at before the first comparison, so that a refusal is one of the whole run. What cannot be told of one pair takes
/// nothing away from what is found on another.
pub(crate) async fn compare(
    context: &Context,
    args: &ReconcileArgs,
    now: CancellationToken,
) -> Result<Compared, Failure> {
    let stop = Stop {
        now,
        soon: CancellationToken::new(),
    };
    if let Some(budget) = args.time_budget {
        let soon = stop.soon.clone();
        tokio::spawn(async move {
            tokio::time::sleep(budget).await;
            tracing::info!("the time budget is used up: no new chunk is begun");
            soon.cancel();
        });
    }
    if let Some(run) = &args.recheck {
        return narrow::recheck(context, args, run, &stop).await;
    }
    if let Some(run) = &args.against {
        return narrow::against(context, args, run, &stop).await;
    }
    let mut compared = Compared::new();
    let units = topology::units(&context.config);
    let secret = key_secret(context)?;
    let (opened, resumed) = match &args.resume {
        Some(run_id) => {
            let workplace = workplace_of(context, run_id).await?;
            if narrow::is_against(workplace.plan()) {
                return narrow::go_on_against(context, &workplace, &stop).await;
            }
            let opened = reopen(context, &units, &workplace, &stop, &mut compared).await?;
            (opened, Some(workplace))
        }
        None => (
            planning::open_all(&units, &args.select, &stop, &mut compared).await?,
            None,
        ),
    };
    let tell: Vec<_> = opened.iter().map(Opened::listener).collect();
    let sessions = opened.iter().zip(&tell);
    let sessions: Vec<Session<'_>> = sessions
        .map(|(one, tell)| Session::new(&one.ends.pair, secret.clone(), tell, stop.clone()))
        .collect();
    let (workplace, sessions) = match resumed {
        Some(workplace) => {
            for (one, session) in opened.iter().zip(&sessions) {
                let plan = &workplace.plan().jobs[one.at].plan;
                session
                    .admit(plan)
                    .await
                    .map_err(|error| Failure::from(error).context(one.job.about()))?;
            }
            let sessions = opened.iter().map(|one| one.at).zip(sessions).collect();
            (workplace, sessions)
        }
        None => {
            let limits = limits(context)?;
            let (plan, sessions) = planned(context, &args.select, limits, &opened, sessions, &mut compared).await?;
            let local = context.output.join("_work").join(&plan.about.run_id);
            let workplace = Workplace::begin(journal::Place::folder(&local), local, plan).await?;
            (workplace, sessions)
        }
    };
    finish(context, &workplace, sessions, &stop, compared).await
}

/// Compares every shard and merges what there is then.
async fn finish(
    context: &Context,
    workplace: &Workplace,
    sessions: Vec<(usize, Session<'_>)>,
    stop: &Stop,
    mut compared: Compared,
) -> Result<Compared, Failure> {
    let is_only = workplace.plan().jobs.len() == 1;
    let mut mergeable = Vec::new();
    let shards = workplace.plan().shards();
    for (at, session) in sessions {
        let of_job: Vec<_> = shards.iter().filter(|shard| shard.job == at).cloned().collect();
        match session.shards(workplace, &of_job).await {
            Ok(Staged::Durable) => mergeable.push((at, Missing::Refused)),
            Ok(Staged::Unfinished) => mergeable.push((at, Missing::NotLookedAt)),
            Err(error) => {
                let job = &workplace.plan().jobs[at];
                let failure = Failure::from(error).context(format!("dataset {}", job.dataset));
                if is_only {
                    return Err(failure);
                }
                compared.missed(&failure);
            }
        }
    }
    merging::merge(context, workplace, &mergeable, stop.is_asked(), &mut compared).await?;
    if stop.is_asked() {
        tracing::info!(
            "go on with `driftline reconcile run --resume {}`",
            workplace.plan().about.run_id
        );
    }
    Ok(compared)
}

/// `driftline explain`
pub(crate) async fn explain(context: &Context, args: &ExplainArgs) -> Outcome {
    let now = stop::on_signal()
        .context("listen for signals")
        .map_err(Failure::cannot_tell)?;
    explaining::run(context, args, now).await
}

/// The work of an earlier run of this output folder.
async fn workplace_of(context: &Context, run_id: &str) -> Result<Workplace, Failure> {
    if run_id.is_empty() || !run_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Failure::refused(anyhow!("`{run_id}` is not the ID of a run")));
    }
    let local = context.output.join("_work").join(run_id);
    if !local.is_dir() {
        let output = context.output.display();
        return Err(Failure::refused(match evidence(context, Some(run_id)) {
            Some(_) => without_work(context, run_id),
            None => anyhow!("there is no run {run_id} in {output}"),
        }));
    }
    Ok(Workplace::open(journal::Place::folder(&local), local).await?)
}

/// The newest reconciliation that the tables of the output folder have, or this one.
fn evidence(context: &Context, run_id: Option<&str>) -> Option<String> {
    // Tables that cannot be read have no run: then the work is missing all the same.
    let runs = reports::runs::latest_runs(&context.output, reports::tables::Span::ALL).ok()?;
    let is_wanted = |run: &reports::tables::RunRow| {
        run.kind == reports::tables::RunKind::Reconcile && run_id.is_none_or(|id| run.run_id == id)
    };
    // The IDs sort by time.
    runs.into_iter().filter(is_wanted).map(|run| run.run_id).max()
}

/// What remains of a run of which only the tables were kept, and what can be done.
fn without_work(context: &Context, run_id: &str) -> anyhow::Error {
    let output = context.output.display();
    anyhow!(
        "of run {run_id} only the tables are left in {output}: its work, {output}/_work/{run_id}, is not there, and nothing else has the keys, the \
         recipe and the digests that another look needs. What it found stands in {output}/divergences and {output}/coverage (where run_id = \
         '{run_id}'). To look again, bring that folder back from where the run was made, or compare anew: `driftline reconcile run`"
    )
}

/// 1 beats 3, and both beat 0.
fn worst(exit: Exit, code: u8) -> Exit {
    match (exit, code) {
        (Exit::Found, _) | (_, 1) => Exit::Found,
        (exit, 0) => exit,
        _ => Exit::CannotTell,
    }
}

impl From<ReconcileError> for Failure {
    fn from(error: ReconcileError) -> Self {
        use ReconcileError as E;
        match error {
            E::SameData { .. } | E::Request(_) | E::OtherPlan(_) => Self::refused(error),
            E::Place(journal::PlaceError::Config { .. } | journal::PlaceError::NotExclusive { .. }) => {
                Self::refused(error)
            }
            E::Store(store) => Self::from(store),
            E::Journal(_) | E::Stopped | E::Corrupt(_) | E::Incomplete(_) | E::Early { .. } | E::Place(_) => {
                Self::cannot_tell(error)
            }
        }
    }
}

/// Chunks that may be compared at the same time: each has a session of its own at each site.
const PARALLEL_MAX: usize = 4;

/// The bounds of a run by the configuration.
fn limits(context: &Context) -> Result<Limits, Failure> {
    let settings = &context.config.defaults.reconcile;
    let mut limits = Limits::default();
    if let Some(parallel) = settings.parallel {
        if parallel.get() > PARALLEL_MAX {
            return Err(Failure::refused(anyhow!(
                "[defaults] reconcile.parallel = {parallel}: at most {PARALLEL_MAX} chunks are compared at the same time"
            )));
        }
        limits.chunks_in_flight = parallel.get();
    }
    let positive = |name: &str, span: Option<SignedDuration>| match span {
        None => Ok(None),
        Some(span) => match Duration::try_from(span) {
            Ok(span) if !span.is_zero() => Ok(Some(span)),
            _ => Err(Failure::refused(anyhow!(
                "[defaults] reconcile.{name} must be more than nothing"
            ))),
        },
    };
    let pace = &mut limits.pace;
    pace.digest = settings.digest;
    pace.chunk_target = positive("chunk_target", settings.chunk_target)?.unwrap_or(pace.chunk_target);
    pace.max_lag = positive("max_lag", settings.max_lag)?;
    pace.max_load = settings.max_load;
    pace.rows_per_second = settings.rows_per_second.map(std::num::NonZeroU64::get);
    Ok(limits)
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

//! From the configuration to a plan.

use anyhow::anyhow;
use reconcile::{About, Limits, ReconcileError, Request, RunPlan, Session, Stop, Workplace};
use reports::Event;
use stores::{Identity, Relation};
use tokio_util::sync::CancellationToken;

use super::fork::fork;
use super::job::{Job, Opened, jobs, open, select};
use super::progress::Progress;
use super::{Compared, Context, key_secret, limits};
use crate::cli::{Format, PlanArgs, RelationArg, SelectArgs};
use crate::command::print;
use crate::exit::{Exit, Failure, Outcome};
use crate::run::Run;
use crate::topology::Unit;
use crate::{events, topology};

/// `driftline reconcile plan`
pub(super) async fn run(context: &Context, args: &PlanArgs, now: CancellationToken) -> Outcome {
    let stop = Stop { now, ..Stop::default() };
    let mut compared = Compared::new();
    let units = topology::units(&context.config);
    let secret = key_secret(context)?;
    let opened = open_all(&units, &args.select, &stop, &mut compared).await?;
    let tell: Vec<_> = opened.iter().map(Opened::listener).collect();
    let sessions = opened.iter().zip(&tell);
    let sessions = sessions
        .map(|(one, tell)| Session::new(&one.ends.pair, secret.clone(), tell, stop.clone()))
        .collect();
    let mut limits = limits(context)?;
    limits.rows_per_shard = args.rows_per_shard.unwrap_or(limits.rows_per_shard);
    let (plan, _sessions) = planned(context, &args.select, limits, &opened, sessions, &mut compared).await?;
    let run_id = plan.about.run_id.clone();
    let below = format!("_work/{run_id}");
    let place = match &args.out {
        Some(out) => out.open().map_err(ReconcileError::from)?,
        None => journal::Place::folder(&context.output),
    };
    let place = place.below(&below);
    let local = match &args.out {
        Some(probes::CopyPlace::Folder(folder)) => folder.join(&below),
        _ => context.output.join(&below),
    };
    let address = place.name().to_owned();
    let workplace = Workplace::begin(place, local, plan).await?;
    let text = told(context.format, &workplace, &address)?;
    print::result(&text, compared.exit)
}

fn told(format: Format, workplace: &Workplace, address: &str) -> Result<String, Failure> {
    let plan = workplace.plan();
    let shards = plan.shards().len();
    Ok(match format {
        Format::Json => serde_json::to_string_pretty(&serde_json::json!({
            "run_id": plan.about.run_id,
            "plan": address,
            "shards": shards,
            "not_compared": plan.not_compared,
        }))
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?,
        Format::Human => {
            let missing = plan
                .not_compared
                .iter()
                .map(|reason| format!("NOT PLANNED: {reason}\n"));
            format!(
                "{}run     {}\nshards  {shards}\nplan    {address}\n",
                missing.collect::<String>(),
                plan.about.run_id
            )
        }
    })
}

/// The ends of every job that is wanted. A refusal ends the run; what does not answer is noted, and the run goes on with the others.
pub(super) async fn open_all<'a>(
    units: &'a [Unit<'a>],
    args: &SelectArgs,
    stop: &Stop,
    compared: &mut Compared,
) -> Result<Vec<Opened<'a>>, Failure> {
    let (jobs, not_compared) = jobs(units, &args.dataset)?;
    for reason in not_compared {
        compared.missing(reason);
    }
    let stated = args.relation.map(|relation| match relation {
        RelationArg::Replicating => Relation::Replicating,
        RelationArg::Independent => Relation::Independent,
    });
    let is_only = jobs.len() == 1;
    let mut opened = Vec::new();
    for job in jobs {
        let looked = async {
            let mut ends = open(stated, &job).await?;
            (ends.selected, ends.not_selected) = select(&ends.pair, &job).await?;
            Ok(ends)
        };
        let ends = tokio::select! {
            biased;
            () = stop.now.cancelled() => Err(Failure::from(ReconcileError::Stopped)),
            ends = looked => ends,
        };
        match ends.map_err(|failure: Failure| failure.context(job.about())) {
            Ok(ends) => opened.push(Opened {
                at: opened.len(),
                progress: Progress::new(job.dataset),
                job,
                ends,
            }),
            Err(failure) if failure.exit == Exit::Refused || is_only => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    Ok(opened)
}

/// Plans every opened job; gives the plan, and each session with the number of its job in the plan.
pub(super) async fn planned<'s>(
    context: &Context,
    args: &SelectArgs,
    limits: Limits,
    opened: &[Opened<'_>],
    sessions: Vec<Session<'s>>,
    compared: &mut Compared,
) -> Result<(RunPlan, Vec<(usize, Session<'s>)>), Failure> {
    let event = args.event.as_deref().map(|id| events::find(context, id)).transpose()?;
    let run = Run::begin();
    let is_only = opened.len() == 1 && compared.not_compared.is_empty();
    let mut identities: Vec<(String, Identity)> = Vec::new();
    let (mut jobs, mut planned) = (Vec::new(), Vec::new());
    for (one, session) in opened.iter().zip(sessions) {
        match plan_one(context, args, &limits, event.as_ref(), &run, one, &session).await {
            Ok(job) => {
                identities.extend(one.ends.reached.clone());
                planned.push((jobs.len(), session));
                jobs.push(job);
            }
            Err(failure) if is_only || (failure.exit == Exit::Refused && jobs.is_empty()) => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    let about = About {
        run_id: run.id,
        started_at_us: run.started_at_us,
        executed_by: run.executed_by,
        host: run.host,
        config_sha256: Some(context.config.sha256()),
        dataset_fingerprints: context.config.fingerprints(),
        event_id: event.map(|event| event.event_id),
        sites: topology::sites(&context.config, &identities),
    };
    Ok((RunPlan::new(about, compared.not_compared.clone(), jobs), planned))
}

async fn plan_one(
    context: &Context,
    args: &SelectArgs,
    limits: &Limits,
    event: Option<&Event>,
    run: &Run,
    one: &Opened<'_>,
    session: &Session<'_>,
) -> Result<reconcile::Job, Failure> {
    let job: &Job<'_> = &one.job;
    let request = Request {
        run_id: run.id.clone(),
        selected: one.ends.selected.clone(),
        not_selected: one.ends.not_selected.clone(),
        disclosure: context.config.defaults.reconcile.keys,
        key_hash: key_secret(context)?,
        include_values: args.include_values,
        fork: match event {
            Some(event) => fork(event, job, &one.ends.pair).await?,
            None => None,
        },
        limits: job.limits(&context.config.defaults.reconcile, limits),
    };
    let plan = session.plan(&request).await;
    Ok(reconcile::Job {
        dataset: job.dataset.to_owned(),
        connection: job.unit.name.to_owned(),
        store: job.unit.store().to_owned(),
        labels: job.tables.labels.clone(),
        plan: plan.map_err(|error| Failure::from(error).context(job.about()))?,
    })
}

/// Refuses a plan that was made with other settings of a dataset or of its connection.
///
/// # Errors
/// A refusal that says which.
pub(super) fn check_settings(context: &Context, plan: &RunPlan, job: &reconcile::Job) -> Result<(), Failure> {
    let read = |text: &str| -> Result<serde_json::Value, Failure> {
        serde_json::from_str(text).map_err(|error| Failure::refused(anyhow!("the plan's fingerprints: {error}")))
    };
    let (now, then) = (
        read(&context.config.fingerprints())?,
        read(&plan.about.dataset_fingerprints)?,
    );
    for name in [&job.dataset, &job.connection] {
        if now.get(name).is_none() || now.get(name) != then.get(name) {
            return Err(Failure::refused(anyhow!(
                "the plan was made with other settings of `{name}` than those of this configuration; use the same configuration, or plan again"
            )));
        }
    }
    Ok(())
}

//! `driftline reconcile run --recheck RUN` and `--against RUN`: narrow looks that rest on an earlier run.

use std::collections::BTreeSet;

use anyhow::anyhow;
use journal::Place;
use reconcile::{
    About, Earlier, KeyDisclosure, Limits, LiveSide, Look, NotSelected, Pair, RunPlan, Session, Stop, Workplace,
};
use stores::Identity;

use super::earlier::{EarlierRun, find, job_of_today, relation};
use super::job::{Opened, collections, identity, open, select};
use super::planning::{check_settings, planned};
use super::progress::Progress;
use super::{Compared, Context, finish, key_secret};
use crate::cli::ReconcileArgs;
use crate::exit::{Exit, Failure};
use crate::run::Run;
use crate::selection::Selection;
use crate::topology::Unit;
use crate::{events, topology};

/// No key is searched for, so no table is cut.
const ROWS_UNCUT: u64 = i64::MAX.cast_unsigned();

/// Looks again at the keys that a run found, and at nothing else.
pub(super) async fn recheck(
    context: &Context,
    args: &ReconcileArgs,
    run: &str,
    stop: &Stop,
) -> Result<Compared, Failure> {
    let found = find(context, run).await?;
    let mut compared = Compared::new();
    let units = topology::units(&context.config);
    let secret = key_secret(context)?;
    let mut select_args = args.select.clone();
    let event = found.workplace.plan().about.event_id.as_deref();
    if let Some(event) = event.filter(|id| args.select.event.is_none() && events::find(context, id).is_ok()) {
        select_args.event = Some(event.to_owned());
    }
    let (mut opened, mut earlier) = (Vec::new(), Vec::new());
    for (at, one) in wanted(&found, &args.select.dataset)? {
        let names = with_keys(one)?;
        if names.is_empty() {
            continue;
        }
        let then = found.job(at);
        let job = job_of_today(&units, then)?;
        let looked = async {
            let mut ends = open(relation(args.select.relation, then.plan.relation), &job).await?;
            let (selected, mut not_selected) = select(&ends.pair, &job).await?;
            let (selected, others): (Vec<_>, Vec<_>) = selected.into_iter().partition(|one| {
                let name = one.primary.as_ref().or(one.secondary.as_ref());
                name.is_some_and(|side| names.contains(&side.name))
            });
            not_selected.extend(others.into_iter().map(|one| NotSelected {
                primary: one.primary,
                secondary: one.secondary,
            }));
            (ends.selected, ends.not_selected) = (selected, not_selected);
            Ok(ends)
        };
        let ends = tokio::select! {
            biased;
            () = stop.now.cancelled() => Err(Failure::from(reconcile::ReconcileError::Stopped)),
            ends = looked => ends,
        };
        match ends.map_err(|failure: Failure| failure.context(job.about())) {
            Ok(ends) => {
                for name in gone(&names, &ends.selected) {
                    compared.missing(format!(
                        "{}: {name}, of which run {} found keys, is at neither site now, or not selected",
                        job.about(),
                        found.id()
                    ));
                }
                opened.push(Opened {
                    at: opened.len(),
                    progress: Progress::new(job.dataset),
                    job,
                    ends,
                });
                earlier.push(one);
            }
            Err(failure) if failure.exit == Exit::Refused => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    if opened.is_empty() && compared.not_compared.is_empty() {
        return Err(Failure::cannot_tell(anyhow!(
            "run {} found no key that could be looked at again; that is no proof that anything is equal",
            found.id()
        )));
    }
    let tell: Vec<_> = opened.iter().map(Opened::listener).collect();
    let sessions = opened.iter().zip(&tell);
    let sessions = sessions
        .map(|(one, tell)| Session::new(&one.ends.pair, secret.clone(), tell, stop.clone()))
        .collect();
    let limits = Limits {
        rows_per_chunk: ROWS_UNCUT,
        ..Limits::default()
    };
    let (mut plan, sessions) = planned(context, &select_args, limits, &opened, sessions, &mut compared).await?;
    let mut kept = Vec::new();
    for job in &mut plan.jobs {
        let of_job = |one: &&Earlier| {
            let (then, now) = (one.plan(), &job.plan);
            let sites = [&then.primary_site, &then.secondary_site];
            sites.contains(&&now.primary_site) && sites.contains(&&now.secondary_site)
        };
        let by_dataset = opened
            .iter()
            .zip(&earlier)
            .filter(|(one, _)| one.job.dataset == job.dataset);
        let one = by_dataset.map(|(_, earlier)| *earlier).find(of_job);
        let one = one.ok_or_else(|| Failure::refused(anyhow!("dataset {} is not one of the run", job.dataset)))?;
        job.plan = job.plan.clone().of_keys(one.plan());
        kept.push(one);
    }
    compared.narrow = Some(format!(
        "ONLY KEYS: only those that run {} found are looked at again; whatever becomes of them, nothing else is verified by it.",
        found.id()
    ));
    let workplace = begin(context, plan, &kept).await?;
    finish(context, &workplace, sessions, stop, compared).await
}

/// Compares the site that writes now with what a run recorded of the other one, which is not asked.
pub(super) async fn against(
    context: &Context,
    args: &ReconcileArgs,
    run: &str,
    stop: &Stop,
) -> Result<Compared, Failure> {
    let found = find(context, run).await?;
    let mut compared = Compared::new();
    let units = topology::units(&context.config);
    let mut beside = Vec::new();
    for (at, earlier) in wanted(&found, &args.select.dataset)? {
        let then = found.job(at);
        let job = job_of_today(&units, then)?;
        let looked = async {
            let end = job.unit.writer_end(job.unit.primary()).await?;
            let reached = identity(&end).await?;
            let selection = Selection::of(job.tables).map_err(Failure::refused)?;
            let all = collections(&end).await?;
            let (selected, not_selected) = all
                .into_iter()
                .partition(|one| selection.selects(&one.name) && !one.is_canary);
            let live = LiveSide { selected, not_selected };
            Ok((earlier.pair(end)?, reached, live))
        };
        let ends = tokio::select! {
            biased;
            () = stop.now.cancelled() => Err(Failure::from(reconcile::ReconcileError::Stopped)),
            ends = looked => ends,
        };
        match ends.map_err(|failure: Failure| failure.context(job.about())) {
            Ok((pair, reached, live)) => beside.push(Beside {
                at,
                earlier,
                site: job.unit.primary(),
                progress: Progress::new(job.dataset),
                pair,
                reached,
                live,
            }),
            Err(failure) if failure.exit == Exit::Refused || found.jobs.len() == 1 => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    let tell: Vec<_> = beside
        .iter()
        .map(|one| |event: reconcile::Event| one.progress.tell(&event))
        .collect();
    let run = Run::begin();
    let (mut jobs, mut sessions, mut kept, mut identities) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (one, tell) in beside.iter().zip(&tell) {
        let session = Session::new(&one.pair, None, tell, stop.clone());
        let mut plan = session.plan_against(one.earlier, &run.id, one.live.clone()).await?;
        if context.config.defaults.reconcile.keys != KeyDisclosure::Plain {
            plan.disclosure = KeyDisclosure::None;
        }
        sessions.push((jobs.len(), session));
        jobs.push(reconcile::Job {
            plan,
            ..found.job(one.at).clone()
        });
        kept.push(one.earlier);
        identities.push((one.site.to_owned(), one.reached.clone()));
    }
    let about = About {
        run_id: run.id,
        started_at_us: run.started_at_us,
        executed_by: run.executed_by,
        host: run.host,
        config_sha256: Some(context.config.sha256()),
        dataset_fingerprints: context.config.fingerprints(),
        event_id: None,
        sites: topology::sites(&context.config, &identities),
    };
    let plan = RunPlan::new(about, compared.not_compared.clone(), jobs);
    compared.narrow = Some(of_record(&plan));
    let workplace = begin(context, plan, &kept).await?;
    finish(context, &workplace, sessions, stop, compared).await
}

/// What a reader has to know of a comparison with a record.
fn of_record(plan: &RunPlan) -> String {
    let recorded: BTreeSet<&str> = plan.jobs.iter().map(|job| job.plan.secondary_site.as_str()).collect();
    let parents: BTreeSet<&str> = plan.jobs.iter().filter_map(|job| job.plan.look.parent()).collect();
    format!(
        "AGAINST A RECORD: {} is not asked; what is equal here is what run {} read there. Writes that came there later are not known.",
        recorded.into_iter().collect::<Vec<_>>().join(", "),
        parents.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// Whether a run compares with a record.
pub(super) fn is_against(plan: &RunPlan) -> bool {
    plan.jobs
        .iter()
        .any(|job| matches!(job.plan.look, Look::Against { .. }))
}

/// The live site of a job that compares with a record, beside that record.
///
/// # Errors
/// A refusal: the configuration compares other sites. Or nobody answers there.
pub(super) async fn pair_of_record(
    units: &[Unit<'_>],
    planned: &reconcile::Job,
    record: &Earlier,
) -> Result<Pair, Failure> {
    let job = job_of_today(units, planned)?;
    let end = job.unit.writer_end(job.unit.primary()).await?;
    Ok(record.pair(end)?)
}

/// Goes on with a comparison with a record: what is committed of it counts.
pub(super) async fn go_on_against(context: &Context, workplace: &Workplace, stop: &Stop) -> Result<Compared, Failure> {
    let plan = workplace.plan();
    let mut compared = Compared::new();
    for reason in &plan.not_compared {
        compared.missing(reason.clone());
    }
    let units = topology::units(&context.config);
    let mut opened = Vec::new();
    for (at, planned) in plan.jobs.iter().enumerate() {
        check_settings(context, plan, planned)?;
        let record = Earlier::kept(workplace.local(), at)?;
        let pair = tokio::select! {
            biased;
            () = stop.now.cancelled() => Err(Failure::from(reconcile::ReconcileError::Stopped)),
            pair = pair_of_record(&units, planned, &record) => pair,
        };
        match pair.map_err(|failure| failure.context(format!("dataset {}", planned.dataset))) {
            Ok(pair) => opened.push((at, pair, Progress::new(&planned.dataset))),
            Err(failure) if failure.exit == Exit::Refused || plan.jobs.len() == 1 => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    let tell: Vec<_> = opened
        .iter()
        .map(|(_, _, progress)| |event: reconcile::Event| progress.tell(&event))
        .collect();
    let mut sessions = Vec::new();
    for ((at, pair, _), tell) in opened.iter().zip(&tell) {
        let session = Session::new(pair, None, tell, stop.clone());
        session.admit(&plan.jobs[*at].plan).await?;
        sessions.push((*at, session));
    }
    compared.narrow = Some(of_record(plan));
    finish(context, workplace, sessions, stop, compared).await
}

/// One live side beside its record.
struct Beside<'a> {
    at: usize,
    earlier: &'a Earlier,
    site: &'a str,
    progress: Progress,
    pair: Pair,
    reached: Identity,
    live: LiveSide,
}

/// The jobs of a run that are wanted; an empty list of datasets means all.
fn wanted<'a>(found: &'a EarlierRun, datasets: &[String]) -> Result<Vec<(usize, &'a Earlier)>, Failure> {
    let all = || found.jobs.iter().map(|(at, earlier)| (*at, earlier));
    if let Some(name) = datasets
        .iter()
        .find(|name| !all().any(|(at, _)| found.job(at).dataset == **name))
    {
        return Err(Failure::refused(anyhow!("run {} has no dataset `{name}`", found.id())));
    }
    Ok(all()
        .filter(|(at, _)| datasets.is_empty() || datasets.contains(&found.job(*at).dataset))
        .collect())
}

/// The collections of which a run found keys, or another schema.
fn with_keys(earlier: &Earlier) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeSet::new();
    for one in earlier.divergences()? {
        let one = one?;
        if !names.contains(&one.collection) && (one.chunk_id.is_none() || one.known_key().is_some()) {
            names.insert(one.collection);
        }
    }
    Ok(names)
}

fn gone<'a>(names: &'a BTreeSet<String>, selected: &[reconcile::Selected]) -> Vec<&'a String> {
    let is_there = |name: &&String| {
        let mut sides = selected
            .iter()
            .filter_map(|one| one.primary.as_ref().or(one.secondary.as_ref()));
        sides.any(|side| side.name == **name)
    };
    names.iter().filter(|name| !is_there(name)).collect()
}

/// Puts a plan and what it rests on where its work is.
async fn begin(context: &Context, plan: RunPlan, kept: &[&Earlier]) -> Result<Workplace, Failure> {
    let local = context.output.join("_work").join(&plan.about.run_id);
    let workplace = Workplace::begin(Place::folder(&local), local, plan).await?;
    for (job, earlier) in kept.iter().enumerate() {
        earlier.keep(workplace.local(), job)?;
    }
    Ok(workplace)
}

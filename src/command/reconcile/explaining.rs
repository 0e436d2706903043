//! `driftline explain RUN KEY`: what a run found of one key, and another look at it.

use anyhow::anyhow;
use reconcile::{Divergence, Limits, Request, Session, Stop};
use reports::render::{Explained, may_show_rows};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::earlier::{EarlierRun, find, job_of_today, relation};
use super::fork::fork;
use super::job::{open, select};
use super::{Context, key_secret};
use crate::cli::{ExplainArgs, Format};
use crate::command::print;
use crate::exit::{Exit, Failure, Outcome};
use crate::{events, topology};

/// Divergences of one key that are kept: one for each pair of sites. More than that is no name of a key.
const MATCHES_MAX: usize = 16;
/// Nothing is searched for, so no table is cut.
const ROWS_UNCUT: u64 = i64::MAX.cast_unsigned();

/// What a run found of the key in one of its jobs.
struct Match {
    job: usize,
    divergence: Divergence,
}

pub(super) async fn run(context: &Context, args: &ExplainArgs, now: CancellationToken) -> Outcome {
    if args.rows && !may_show_rows(context.config.defaults.reconcile.keys) {
        return Err(Failure::refused(anyhow!(
            "--rows shows values, and the columns of the key are among them; this configuration does not let keys appear (`keys`)"
        )));
    }
    let found = find(context, &args.run).await?;
    let matches = matches(&found, args)?;
    let (mut texts, mut documents, mut exit) = (Vec::new(), Vec::new(), Exit::Fine);
    for one in matches {
        let planned = found.job(one.job);
        let looked = look(context, args, &found, &one, &now).await;
        let looked = match looked {
            Err(failure) if failure.exit == Exit::Refused => return Err(failure),
            Err(failure) => Err(format!("{:#}", failure.error)),
            Ok(looked) => Ok(looked),
        };
        let sites = (planned.plan.primary_site.as_str(), planned.plan.secondary_site.as_str());
        let beside = looked
            .as_ref()
            .map(|(divergence, a, b)| (divergence, (a.as_str(), b.as_str())))
            .map_err(Clone::clone);
        let explained = Explained::new((found.id(), &planned.dataset), sites, &one.divergence, beside);
        exit = super::worst(exit, explained.exit_code);
        texts.push(explained.terminal());
        documents.push(explained);
    }
    let text = match context.format {
        Format::Human => texts.join("\n"),
        Format::Json => serde_json::to_string_pretty(&serde_json::json!({
            "exit_code": exit.code(),
            "results": documents,
        }))
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?,
    };
    print::result(&text, exit)
}

/// What the run found of the key, in one collection of one dataset.
///
/// # Errors
/// A refusal: nothing, or in several collections.
fn matches(found: &EarlierRun, args: &ExplainArgs) -> Result<Vec<Match>, Failure> {
    let mut matches: Vec<Match> = Vec::new();
    for (at, earlier) in &found.jobs {
        let job = found.job(*at);
        if args.dataset.as_ref().is_some_and(|name| *name != job.dataset) {
            continue;
        }
        for one in earlier.divergences()? {
            let one = one?;
            let is_wanted = args.collection.as_ref().is_none_or(|name| *name == one.collection);
            if is_wanted && is_key(&args.key, &one, &job.plan) {
                matches.push(Match {
                    job: *at,
                    divergence: one,
                });
            }
            if matches.len() > MATCHES_MAX {
                break;
            }
        }
    }
    let mut places: Vec<String> = matches
        .iter()
        .map(|one| {
            format!(
                "--dataset {} --collection {}",
                found.job(one.job).dataset,
                one.divergence.collection
            )
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    match places.len() {
        0 => Err(Failure::refused(anyhow!(
            "run {} lists no such key; keys are written as it prints them, e.g. '{{\"id\":17}}', or as their hash. What is not listed was \
             equal, or not looked at: its coverage tells",
            found.id()
        ))),
        1 => Ok(matches),
        _ => Err(Failure::refused(anyhow!(
            "run {} found this key in several collections; add one of: {}",
            found.id(),
            places.join("; ")
        ))),
    }
}

/// Whether a person means this divergence: by its JSON, by the value alone where the key is one column, or by its hash.
fn is_key(asked: &str, divergence: &Divergence, plan: &reconcile::Plan) -> bool {
    if divergence.key_hash.as_deref() == Some(asked) {
        return true;
    }
    let Some(key) = &divergence.work_key else {
        return false;
    };
    let planned = plan.collections.iter().find(|one| one.name == divergence.collection);
    let Some(rows) = planned.and_then(|one| one.rows()) else {
        return false;
    };
    let Ok(json) = serde_json::from_str::<Value>(&key.to_json(&rows.recipe.key_names())) else {
        return false;
    };
    if serde_json::from_str::<Value>(asked).is_ok_and(|asked| asked == json) {
        return true;
    }
    let mut values = json.as_object().into_iter().flat_map(serde_json::Map::values);
    match (values.next(), values.next()) {
        (Some(Value::String(text)), None) => text == asked,
        (Some(Value::Number(number)), None) => number.to_string() == asked,
        _ => false,
    }
}

/// Looks at the key again: what it is now, and the primary and secondary site of this look.
async fn look(
    context: &Context,
    args: &ExplainArgs,
    found: &EarlierRun,
    one: &Match,
    now: &CancellationToken,
) -> Result<(Divergence, String, String), Failure> {
    let then = found.job(one.job);
    let name = &one.divergence.collection;
    let units = topology::units(&context.config);
    let job = job_of_today(&units, then)?;
    // A transient key is not listed: what is listed and has no key is a whole collection.
    let key = one.divergence.known_key();
    let key = key.ok_or_else(|| Failure::cannot_tell(anyhow!("{name} differs as a whole, not in this key")))?;
    let stop = Stop {
        now: now.clone(),
        ..Stop::default()
    };
    let looked = async {
        let ends = open(relation(args.relation, then.plan.relation), &job).await?;
        let (selected, _) = select(&ends.pair, &job).await?;
        Ok((ends, selected))
    };
    let (ends, selected) = tokio::select! {
        biased;
        () = stop.now.cancelled() => Err(Failure::from(reconcile::ReconcileError::Stopped)),
        looked = looked => looked.map_err(|failure: Failure| failure.context(job.about())),
    }?;
    let selected: Vec<_> = selected
        .into_iter()
        .filter(|one| {
            one.primary
                .as_ref()
                .or(one.secondary.as_ref())
                .is_some_and(|side| side.name == *name)
        })
        .collect();
    if selected.is_empty() {
        return Err(Failure::cannot_tell(anyhow!(
            "{name} is at neither site now, or not selected any more"
        )));
    }
    let event = found.workplace.plan().about.event_id.as_deref();
    let event = event.and_then(|id| events::find(context, id).ok());
    let secret = key_secret(context)?;
    let tell = |_: reconcile::Event| {};
    let session = Session::new(&ends.pair, secret.clone(), &tell, stop.clone());
    let request = Request {
        run_id: found.id().to_owned(),
        selected,
        not_selected: Vec::new(),
        disclosure: context.config.defaults.reconcile.keys,
        key_hash: secret,
        include_values: args.rows,
        fork: match &event {
            Some(event) => fork(event, &job, &ends.pair).await?,
            None => None,
        },
        limits: job.limits(
            &context.config.defaults.reconcile,
            &Limits {
                rows_per_chunk: ROWS_UNCUT,
                ..Limits::default()
            },
        ),
    };
    let plan = session.plan(&request).await?.of_keys(&then.plan);
    // The end of a look that cannot be made is no refusal: the evidence is told all the same.
    let mut looked = session
        .look(&plan, 0, vec![key])
        .await
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?;
    let divergence = looked
        .pop()
        .ok_or_else(|| Failure::cannot_tell(anyhow!("the look gave no answer")))?;
    Ok((
        divergence,
        ends.pair.primary.site.clone(),
        ends.pair.secondary.site.clone(),
    ))
}

//! `driftline event start | mark | end | list`

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use reports::{Event, EventKind};
use stores::{Fork, Role, StoreError};

use super::{Context, print, rpo};
use crate::cli::{EventCommand, EventEndArgs, EventKindArg, EventMarkArgs, EventStartArgs, Format, Mark};
use crate::exit::{Exit, Failure, Outcome};
use crate::stated::Stated;
use crate::topology::Unit;
use crate::{events, run, topology};

pub(super) async fn run(context: &Context, command: &EventCommand) -> Outcome {
    match command {
        EventCommand::Start(args) => tell(context, &start(context, args)?),
        EventCommand::Mark(args) => tell(context, &mark(context, args).await?),
        EventCommand::End(args) => tell(context, &end(context, args)?),
        EventCommand::List => list(context),
    }
}

impl From<EventKindArg> for EventKind {
    fn from(kind: EventKindArg) -> Self {
        match kind {
            EventKindArg::Failover => Self::Failover,
            EventKindArg::Switchover => Self::Switchover,
            EventKindArg::Failback => Self::Failback,
            EventKindArg::Restore => Self::Restore,
            EventKindArg::Maintenance => Self::Maintenance,
        }
    }
}

/// Declares an event.
pub(crate) fn start(context: &Context, args: &EventStartArgs) -> Result<Event, Failure> {
    for site in [&args.from, &args.to] {
        if !context.config.site.contains_key(site) {
            let known: Vec<&str> = context.config.site.keys().map(String::as_str).collect();
            return Err(Failure::refused(anyhow!(
                "unknown site `{site}`; known: {}",
                known.join(", ")
            )));
        }
    }
    if let Some(dataset) = args
        .dataset
        .iter()
        .find(|name| !context.config.dataset.contains_key(*name))
    {
        let known: Vec<&str> = context.config.dataset.keys().map(String::as_str).collect();
        return Err(Failure::refused(anyhow!(
            "unknown dataset `{dataset}`; known: {}",
            known.join(", ")
        )));
    }
    let event = Event {
        event_id: uuid::Uuid::now_v7().to_string(),
        kind: args.kind.into(),
        exercise: args.exercise,
        datasets: args.dataset.clone(),
        from_site: args.from.clone(),
        to_site: args.to.clone(),
        declared_at_us: instant(args.at),
        promoted_at_us: None,
        traffic_shifted_at_us: None,
        verified_at_us: None,
        ended_at_us: None,
        forks: std::collections::BTreeMap::new(),
        outcome: None,
        scenario: args.scenario.clone(),
        executed_by: run::executed_by(),
        notes: args.notes.clone(),
        revision: 0,
    };
    events::save(context, event)
}

/// Records an instant. `promoted` reads the fork of each connection that the event's new site is part of; what cannot be read is told
/// and leaves that connection without a fork.
pub(crate) async fn mark(context: &Context, args: &EventMarkArgs) -> Result<Event, Failure> {
    let mut event = events::find(context, &args.event)?;
    let at = instant(args.at);
    match args.mark {
        Mark::Promoted => {
            event.promoted_at_us = Some(at);
            let mut stated = Stated::load(&context.config.state).map_err(Failure::cannot_tell)?;
            for unit in topology::units(&context.config) {
                if !unit.has_site(&event.to_site) || !unit.carries_any_of(&event.datasets) {
                    continue;
                }
                stated.promote(&unit, &event.from_site, &event.to_site);
                if unit.aurora().is_none() {
                    continue; // no log that a fork could be a point of
                }
                let fork = fork(context, &event, &unit).await.map_err(|failure| {
                    failure.context(format!(
                        "event {} is not marked: the fork of connection {} could not be read at {}; mark it again when the \
                         promoted server answers, before it restarts",
                        event.event_id, unit.name, event.to_site
                    ))
                })?;
                event.forks.insert(unit.name.to_owned(), fork);
            }
            stated.statement += 1;
            stated.by = format!("event {}", event.event_id);
            stated.save(&context.config.state).map_err(Failure::cannot_tell)?;
        }
        Mark::TrafficShifted => event.traffic_shifted_at_us = Some(at),
        Mark::Verified => event.verified_at_us = Some(at),
    }
    event.revision += 1;
    events::save(context, event)
}

/// The fork by the promoted server's own word; and where it has restarted since and forgotten, by the canaries.
async fn fork(context: &Context, event: &Event, unit: &Unit<'_>) -> Result<Fork, Failure> {
    let told = match topology::fork(unit, &event.to_site).await {
        Ok(fork) => return Ok(fork),
        Err(told) => told,
    };
    let may_have_forgotten = matches!(told, StoreError::Unsupported(_))
        && unit.writer_end(&event.to_site).await?.identify.identity().await?.role == Role::Writable;
    if may_have_forgotten && let Some(fork) = rpo::fork_by_canaries(context, event, unit).await? {
        tracing::warn!("{told}; the fork is taken from the canaries");
        return Ok(fork);
    }
    Err(told.into())
}

/// Closes an event.
pub(crate) fn end(context: &Context, args: &EventEndArgs) -> Result<Event, Failure> {
    let mut event = events::find(context, &args.event)?;
    event.ended_at_us = Some(instant(args.at));
    event.outcome = args.outcome.clone().or(event.outcome);
    event.revision += 1;
    events::save(context, event)
}

fn instant(at: Option<Timestamp>) -> i64 {
    at.map_or_else(run::now_us, Timestamp::as_microsecond)
}

fn tell(context: &Context, event: &Event) -> Outcome {
    let text = match context.format {
        Format::Json => {
            serde_json::to_string_pretty(event).map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human => words(event),
    };
    print::line(&text)?;
    Ok(Exit::Fine)
}

fn words(event: &Event) -> String {
    let mut lines = vec![format!(
        "event {}  {}{}  {} -> {}",
        event.event_id,
        event.kind.word(),
        if event.exercise { " (exercise)" } else { "" },
        event.from_site,
        event.to_site
    )];
    let instants = [
        ("declared", Some(event.declared_at_us)),
        ("promoted", event.promoted_at_us),
        ("traffic shifted", event.traffic_shifted_at_us),
        ("verified", event.verified_at_us),
        ("ended", event.ended_at_us),
    ];
    for (name, at_us) in instants {
        if let Some(at) = at_us.and_then(|at_us| Timestamp::from_microsecond(at_us).ok()) {
            lines.push(format!("  {name:<16}{at}"));
        }
    }
    for (connection, fork) in &event.forks {
        let (low, high) = (
            Timestamp::from_microsecond(fork.at_low_us),
            Timestamp::from_microsecond(fork.at_high_us),
        );
        if let (Ok(low), Ok(high)) = (low, high) {
            lines.push(format!("  fork of {connection}: [{low}, {high}], {}", fork.evidence));
        }
    }
    lines.join("\n")
}

fn list(context: &Context) -> Outcome {
    let folder = &context.config.state;
    let events = Event::load_all(folder)
        .with_context(|| format!("read the events in {}", folder.display()))
        .map_err(Failure::cannot_tell)?;
    let text = match context.format {
        Format::Json => {
            serde_json::to_string_pretty(&events).map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human if events.is_empty() => format!("no events in {}", folder.display()),
        Format::Human => events.iter().map(words).collect::<Vec<_>>().join("\n"),
    };
    print::line(&text)?;
    Ok(Exit::Fine)
}

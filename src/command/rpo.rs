//! `driftline rpo`: the ledger against the promoted end.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use probes::{CopyPlace, CutOver, Rpo, RpoQuestion};
use reports::Event;
use reports::render::{Loss, write_rpo};
use reports::runs;
use reports::tables::{Hex, RunKind, RunRow, RunStatus};
use stores::{Fork, StoreError};

use super::{Context, print, probe};
use crate::cli::{Format, RpoArgs};
use crate::events;
use crate::exit::{Exit, Failure, Outcome};
use crate::lanes::{self, Lane};
use crate::run::{self, Run};
use crate::topology::{self, Unit};

pub(super) async fn run(context: &Context, args: &RpoArgs) -> Outcome {
    let loss = match &args.ledger {
        None => prove(context, &args.event, &context.config.ledger.path).await?,
        Some(place) => prove_by_copy(context, &args.event, place).await?,
    };
    let text = match context.format {
        Format::Json => {
            serde_json::to_string_pretty(&loss).map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human => loss.terminal(),
    };
    print::result(&text, Exit::from_code(loss.exit_code))
}

/// Judges by a copy of the ledger: what is left when the machine of the probe is gone.
async fn prove_by_copy(context: &Context, event: &str, place: &CopyPlace) -> Result<Loss, Failure> {
    let folder = context
        .output
        .join("_work")
        .join(format!("ledger-{}", uuid::Uuid::now_v7()));
    let opened = as_configured(context, place)
        .open()
        .context("--ledger")
        .map_err(Failure::refused)?;
    let fetched = probes::fetch_ledgers(&opened, &folder, |_| true)
        .await
        .with_context(|| format!("fetch the ledger from {place}"))
        .map_err(Failure::cannot_tell)?;
    tracing::info!(
        segments = fetched.segments,
        bytes = fetched.bytes,
        "fetched the ledger from {place}"
    );
    for segment in &fetched.incomplete {
        tracing::warn!(segment, "the copy is not whole: what lies behind the gap is not used");
    }
    let proved = prove(context, event, &folder).await;
    // What cannot be removed lies in the work folder, and harms nobody.
    drop(std::fs::remove_dir_all(&folder));
    proved
}

/// A place of the configuration is reached as it says there, whatever it takes beside the address.
fn as_configured<'a>(context: &'a Context, place: &'a CopyPlace) -> &'a CopyPlace {
    let named = place.to_string();
    let mut known = context.config.ledger.copy_to.iter();
    known.find(|known| known.to_string() == named).unwrap_or(place)
}

/// Judges every route that the event touched by the ledgers in `folder`, and writes what it proves.
pub(crate) async fn prove(context: &Context, id: &str, folder: &Path) -> Result<Loss, Failure> {
    let event = events::find(context, id)?;
    let run = Run::begin();
    let mut judged = Judged::default();
    for unit in topology::units(&context.config) {
        if unit.has_site(&event.from_site) && unit.has_site(&event.to_site) && unit.carries_any_of(&event.datasets) {
            judge(&event, &unit, folder, &mut judged).await?;
        }
    }
    if let Some(stream) = judged.unclaimed.first() {
        return Err(Failure::cannot_tell(anyhow!(
            "the ledger holds canaries of stream {stream}, which nothing in the configuration has; use the configuration that the probe ran with"
        )));
    }
    let results: Vec<Rpo> = probes::merge_rpos(judged.results, &[])
        .into_iter()
        .map(|merged| merged.rpo)
        .collect();
    if results.is_empty() {
        return Err(Failure::cannot_tell(anyhow!(
            "no ledger in {} holds canaries from {} to {}: nothing can be said about the loss of event {}; run `rpo` where the probe ran, \
             or name a copy of its ledger with --ledger",
            folder.display(),
            event.from_site,
            event.to_site,
            event.event_id
        )));
    }
    write_rpo(&context.output, &run.id, &results)
        .context("write the rpo table")
        .map_err(Failure::cannot_tell)?;
    let loss = Loss::new(&run.id, results);
    let mut row = RunRow::begin(
        RunKind::Rpo,
        run.id.clone(),
        run.started_at_us,
        run.executed_by,
        run.host,
    );
    row.config_sha256 = Some(Hex(context.config.sha256()));
    row.dataset_fingerprints = context.config.fingerprints();
    row.sites = topology::sites(&context.config, &[]);
    row.event_id = Some(event.event_id.clone());
    row.primary_site = Some(event.from_site.clone());
    row.secondary_site = Some(event.to_site.clone());
    let row = row.end(RunStatus::Succeeded, loss.complete, loss.exit_code, run::now_us());
    runs::write_run(&context.output, row)
        .and_then(|_| reports::views::write_views(&context.output))
        .context("write the runs table")
        .map_err(Failure::cannot_tell)?;
    Ok(loss)
}

/// The fork as the canaries show it: after the newest survivor was sent, and before the first lost one was acknowledged. `None` when none
/// is lost, or none survived: then they do not tell.
pub(crate) async fn fork_by_canaries(
    context: &Context,
    event: &Event,
    unit: &Unit<'_>,
) -> Result<Option<Fork>, Failure> {
    let mut forks = Vec::new();
    let mut judged = Judged::default();
    judge(event, unit, &context.config.ledger.path, &mut judged).await?;
    for rpo in judged.results {
        // The upper end of the RPO reaches from the newest survivor to the cut-over.
        let cut_over_us = event
            .traffic_shifted_at_us
            .or(event.promoted_at_us)
            .max(rpo.last_lost_at_us);
        let survivor_us = cut_over_us
            .zip(rpo.rpo_high_us)
            .map(|(at, high)| at.saturating_sub_unsigned(high));
        if let (Some(at_low_us), Some(at_high_us)) = (survivor_us, rpo.first_lost_at_us) {
            forks.push((at_low_us, at_high_us));
        }
    }
    // Several probes on one route each give an interval that holds the fork.
    let low = forks.iter().map(|(low, _)| *low).max();
    let high = forks.iter().map(|(_, high)| *high).min();
    Ok(low.zip(high).filter(|(low, high)| low <= high).map(|(at_low_us, at_high_us)| Fork {
        position: None,
        at_low_us,
        at_high_us,
        evidence: "after the newest surviving canary was sent and before the first lost one was acknowledged (ledger); the promoted \
                   server has restarted and forgotten its own"
            .to_owned(),
    }))
}

/// What was judged, stream by stream.
#[derive(Debug, Default)]
struct Judged {
    results: Vec<Rpo>,
    /// Streams of the ledger that no unit that was looked at owns, yet.
    unclaimed: BTreeSet<String>,
    claimed: BTreeSet<String>,
}

async fn judge(event: &Event, unit: &Unit<'_>, folder: &Path, judged: &mut Judged) -> Result<(), Failure> {
    let wanted = probe::route(unit, &event.from_site, &event.to_site, "");
    let files = probes::ledgers(folder, |origin| {
        origin.route.dataset == wanted.dataset
            && origin.route.store == wanted.store
            && origin.route.primary_site == wanted.primary_site
            && origin.route.secondary_site == wanted.secondary_site
    })
    .with_context(|| format!("read the ledgers in {}", folder.display()))
    .map_err(Failure::cannot_tell)?;
    let mut streams: Vec<&str> = files.iter().map(|file| file.origin.stream.as_str()).collect();
    streams.dedup();
    for stream in streams {
        let lane = match lanes::lane_of(unit, stream, &event.from_site, &event.to_site).await {
            Ok(lane) => lane,
            // Another table or bucket of the same dataset.
            Err(StoreError::Unsupported(_)) if unit.collection().is_some() => {
                if !judged.claimed.contains(stream) {
                    judged.unclaimed.insert(stream.to_owned());
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        judged.unclaimed.remove(stream);
        judged.claimed.insert(stream.to_owned());
        let ledgers: Vec<_> = files
            .iter()
            .filter(|file| file.origin.stream == stream)
            .cloned()
            .collect();
        judged
            .results
            .extend(judge_stream(event, stream, &ledgers, &lane).await?);
    }
    Ok(())
}

async fn judge_stream(
    event: &Event,
    stream: &str,
    ledgers: &[probes::EpochLedger],
    lane: &Lane,
) -> Result<Option<Rpo>, Failure> {
    let (Some(reader), Some(writer)) = (&lane.secondary.canary_reader, &lane.primary.canary_writer) else {
        return Err(Failure::refused(anyhow!(
            "site {}: this store shows no canaries",
            event.to_site
        )));
    };
    let Some(newest) = ledgers.last() else { return Ok(None) };
    let survivors = reader.poll(stream, stores::Sought::All).await?;
    let question = RpoQuestion {
        route: &newest.origin.route,
        event_id: &event.event_id,
        ledgers,
        survivors: &survivors,
        ring_slots: writer.ring_slots(),
        is_ordered: reader.is_ordered(),
        cut_over: CutOver {
            promoted_at_us: event.promoted_at_us,
            traffic_shifted_at_us: event.traffic_shifted_at_us,
        },
    };
    let judged = probes::judge_rpo(&question)
        .with_context(|| format!("judge the ledger of stream {stream}"))
        .map_err(Failure::cannot_tell)?;
    if let Some(rpo) = &judged {
        tracing::info!(stream, lost = rpo.lost, unknown = rpo.unknown, "judged");
    }
    Ok(judged)
}

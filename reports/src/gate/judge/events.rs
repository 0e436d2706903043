//! Events: whether they took place, and whether they lost anything.

use std::collections::{BTreeMap, BTreeSet};

use super::super::calendar::instant_text;
use super::super::evidence::{Evidence, Origins, Reconciliation};
use super::super::policy::{Criterion, EventRule};
use super::super::report::{CriterionResult, Unit, Verdict, Window};
use super::{Request, add_remark, undecided};
use crate::Event;

/// The relation in which the old copy can still tell what was lost: it came back by itself, and nothing overwrote it.
const INDEPENDENT: &str = "independent";
/// The first word of an event's outcome that says that it failed.
const FAILED: &str = "failed";

fn selected<'a>(rule: &EventRule, evidence: &'a Evidence, request: &Request, window: Window) -> Vec<&'a Event> {
    evidence
        .events
        .iter()
        .filter(|event| rule.events.contains(&event.kind))
        .filter(|event| match &request.event_id {
            Some(wanted) => *wanted == event.event_id,
            None => {
                let instants = [Some(event.declared_at_us), event.promoted_at_us, event.ended_at_us];
                instants.into_iter().flatten().any(|at| window.holds(at))
            }
        })
        .collect()
}

fn describe(event: &Event) -> String {
    let drill = if event.exercise { " (drill)" } else { "" };
    let at = instant_text(event.promoted_at_us.unwrap_or(event.declared_at_us));
    format!(
        "{} {} -> {}{drill}, {at}",
        event.kind.word(),
        event.from_site,
        event.to_site
    )
}

fn result_for(criterion: &Criterion, window: Window, event: &Event) -> CriterionResult {
    let mut result = undecided(criterion, window);
    result.subject = describe(event);
    result.event_id = Some(event.event_id.clone());
    result.primary_site = Some(event.from_site.clone());
    result.secondary_site = Some(event.to_site.clone());
    if let [dataset] = event.datasets.as_slice() {
        result.dataset = Some(dataset.clone());
    }
    result
}

fn without_event(criterion: &Criterion, rule: &EventRule, window: Window) -> Vec<CriterionResult> {
    let mut result = undecided(criterion, window);
    let kinds: Vec<&str> = rule.events.iter().map(|kind| kind.word()).collect();
    result.reason = format!("unmeasured: no {} in the window", kinds.join(" or "));
    result.next = format!(
        "hold a drill (`driftline event start {} --exercise`), or widen the window",
        kinds.first().copied().unwrap_or("failover")
    );
    vec![result]
}

/// Judges whether events of these kinds took place and did not fail, one result an event.
pub(super) fn promotion(
    criterion: &Criterion,
    rule: &EventRule,
    evidence: &Evidence,
    request: &Request,
    window: Window,
) -> Vec<CriterionResult> {
    let events = selected(rule, evidence, request, window);
    if events.is_empty() {
        return without_event(criterion, rule, window);
    }
    let judged = events.into_iter().map(|event| {
        let mut result = result_for(criterion, window, event);
        result.samples = 1;
        let outcome = event.outcome.as_deref().unwrap_or_default();
        if outcome.starts_with(FAILED) {
            result.verdict = Verdict::NoGo;
            result.reason = format!("the {} to {} ended with `{outcome}`", event.kind.word(), event.to_site);
            result.next = "find and remove the cause, then repeat it".to_owned();
        } else if let Some(promoted) = event.promoted_at_us {
            result.verdict = Verdict::Go;
            result.reason = format!("{} was promoted at {}", event.to_site, instant_text(promoted));
            if event.ended_at_us.is_none() {
                add_remark(&mut result, "the event has not ended yet");
            }
        } else {
            result.reason = format!("no promotion of {} is recorded", event.to_site);
            result.next = format!(
                "once it is promoted: `driftline event mark promoted` for event {}",
                event.event_id
            );
        }
        result
    });
    judged.collect()
}

/// Judges loss, one result an event.
pub(super) fn loss(
    criterion: &Criterion,
    rule: &EventRule,
    evidence: &Evidence,
    request: &Request,
    window: Window,
) -> Vec<CriterionResult> {
    let events = selected(rule, evidence, request, window);
    if events.is_empty() {
        return without_event(criterion, rule, window);
    }
    events
        .into_iter()
        .map(|event| {
            let mut result = result_for(criterion, window, event);
            loss_of(event, evidence, &mut result);
            result
        })
        .collect()
}

/// What canaries prove about an event: the worst run of each route.
#[derive(Debug, Default)]
struct CanaryLoss {
    lost: u64,
    unknown: u64,
    acked: u64,
}

fn canary_loss(event: &Event, evidence: &Evidence, run_ids: &mut BTreeSet<String>) -> CanaryLoss {
    let mut by_route: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
    for sourced in evidence
        .rpo
        .iter()
        .filter(|sourced| sourced.rpo.event_id == event.event_id)
    {
        run_ids.insert(sourced.run_id.clone());
        let rpo = &sourced.rpo;
        let worst = by_route.entry(&rpo.route).or_default();
        *worst = (*worst).max((rpo.lost, rpo.unknown, rpo.acked));
    }
    by_route
        .into_values()
        .fold(CanaryLoss::default(), |sum, (lost, unknown, acked)| CanaryLoss {
            lost: sum.lost + lost,
            unknown: sum.unknown + unknown,
            acked: sum.acked + acked,
        })
}

/// Comparisons that say something about an event: told of it, or of independent copies after it.
fn concerns(run: &Reconciliation, event: &Event) -> bool {
    match (&run.event_id, event.promoted_at_us) {
        (Some(told), _) => *told == event.event_id,
        (None, Some(promoted)) => run.started_at_us >= promoted && run.relation.as_deref() == Some(INDEPENDENT),
        (None, None) => false,
    }
}

/// Confirmed keys over all comparisons of an event: of each dataset the worst run, so that a repetition counts once.
fn key_loss(runs: &[&Reconciliation]) -> Origins {
    let mut worst: BTreeMap<&str, Origins> = BTreeMap::new();
    for run in runs {
        for (dataset, found) in run.origins_by_dataset() {
            let held = worst.entry(dataset).or_default();
            held.lost_write = held.lost_write.max(found.lost_write);
            held.conflict = held.conflict.max(found.conflict);
            held.new_write = held.new_write.max(found.new_write);
            held.unknown = held.unknown.max(found.unknown);
        }
    }
    worst.into_values().fold(Origins::default(), |sum, next| Origins {
        lost_write: sum.lost_write + next.lost_write,
        conflict: sum.conflict + next.conflict,
        new_write: sum.new_write + next.new_write,
        unknown: sum.unknown + next.unknown,
    })
}

/// The datasets that must have been compared, and whether anybody says which they are.
fn scope(event: &Event, evidence: &Evidence, runs: &[&Reconciliation]) -> (BTreeSet<String>, bool) {
    if !event.datasets.is_empty() {
        return (event.datasets.iter().cloned().collect(), true);
    }
    if !evidence.inventory.is_empty() {
        return (
            evidence.inventory.iter().map(|item| item.dataset.clone()).collect(),
            true,
        );
    }
    let seen = runs
        .iter()
        .flat_map(|run| run.collections.iter().map(|collection| collection.dataset.clone()));
    (seen.collect(), false)
}

fn loss_of(event: &Event, evidence: &Evidence, result: &mut CriterionResult) {
    let mut run_ids = BTreeSet::new();
    let canaries = canary_loss(event, evidence, &mut run_ids);
    let runs: Vec<&Reconciliation> = evidence
        .reconciliations
        .iter()
        .filter(|run| concerns(run, event))
        .collect();
    run_ids.extend(runs.iter().map(|run| run.run_id.clone()));
    let keys = key_loss(&runs);
    let proved_keys = keys.lost_write + keys.conflict;
    let (wanted, is_stated) = scope(event, evidence, &runs);
    let compared: BTreeSet<&str> = runs
        .iter()
        .filter(|run| run.complete && run.relation.as_deref() == Some(INDEPENDENT))
        .flat_map(|run| run.compared_datasets())
        .collect();
    let missing: Vec<&str> = wanted
        .iter()
        .map(String::as_str)
        .filter(|dataset| !compared.contains(dataset))
        .collect();
    let is_compared = missing.is_empty() && !compared.is_empty();

    result.evidence_run_ids = run_ids.into_iter().collect();
    result.bound = Some(0);
    result.bound_text = "0 lost".to_owned();
    if runs.is_empty() && canaries.acked > 0 {
        result.unit = Unit::Canaries;
        result.samples = canaries.acked;
        result.observed_low = count(canaries.lost);
        result.observed_high = if canaries.lost > 0 {
            count(canaries.lost + canaries.unknown)
        } else {
            None
        };
    } else if !runs.is_empty() {
        result.unit = Unit::Keys;
        result.samples = runs
            .iter()
            .flat_map(|run| &run.collections)
            .map(|c| c.primary_rows.unwrap_or(0))
            .sum();
        result.observed_low = count(proved_keys);
        result.observed_high = if is_compared {
            count(proved_keys + keys.unknown)
        } else {
            None
        };
    }
    remark_unselected(&runs, is_stated, &compared, result);

    if canaries.lost > 0 || proved_keys > 0 {
        result.verdict = Verdict::NoGo;
        result.reason = format!("proved loss: {}", loss_words(&canaries, keys));
        result.next = next_after_loss(&runs);
    } else if is_compared && keys.unknown == 0 {
        result.verdict = Verdict::Go;
        result.reason = format!(
            "the old copy was compared completely after the event: no lost write, no conflict ({} new writes)",
            keys.new_write
        );
    } else if keys.unknown > 0 {
        result.reason = format!("{} keys differ and nothing tells whether they were lost", keys.unknown);
        result.next = "look at `origin_evidence` of these keys in table `divergences`; name a `changed_at` column and reconcile again".to_owned();
    } else {
        result.reason = uncompared(&canaries, &runs, &missing);
        result.next = format!(
            "before the old copy is rebuilt: `driftline reconcile run --event {} --relation independent`",
            event.event_id
        );
    }
}

fn count(value: u64) -> Option<i64> {
    Some(i64::try_from(value).unwrap_or(i64::MAX))
}

fn loss_words(canaries: &CanaryLoss, keys: Origins) -> String {
    let mut parts = Vec::new();
    if keys.lost_write > 0 {
        parts.push(format!("{} lost writes", keys.lost_write));
    }
    if keys.conflict > 0 {
        parts.push(format!("{} conflicts", keys.conflict));
    }
    if keys.unknown > 0 {
        parts.push(format!("{} differing keys of unknown origin", keys.unknown));
    }
    if canaries.lost > 0 {
        parts.push(format!("{} of {} acknowledged canaries", canaries.lost, canaries.acked));
    }
    parts.join(", ")
}

fn next_after_loss(runs: &[&Reconciliation]) -> String {
    runs.iter().max_by_key(|run| run.started_at_us).map_or_else(
        || "reconcile with the old copy before it is rebuilt: it tells which keys were lost".to_owned(),
        |run| {
            format!(
                "repair or accept each key: `select dataset, collection, key, origin from divergences where run_id = '{}' and state = 'confirmed' and origin is distinct from 'new_write'`",
                run.run_id
            )
        },
    )
}

fn uncompared(canaries: &CanaryLoss, runs: &[&Reconciliation], missing: &[&str]) -> String {
    let seen = if canaries.acked > 0 {
        format!(
            "all {} acknowledged canaries that the ledger could judge survived, which does not prove zero loss; ",
            canaries.acked
        )
    } else {
        String::new()
    };
    if runs.is_empty() {
        format!("{seen}no comparison with the old copy since the event")
    } else if missing.is_empty() {
        format!("{seen}the comparison did not look at any collection")
    } else {
        format!(
            "{seen}not compared completely with an independent old copy: {}",
            missing.join(", ")
        )
    }
}

fn remark_unselected(
    runs: &[&Reconciliation],
    is_stated: bool,
    compared: &BTreeSet<&str>,
    result: &mut CriterionResult,
) {
    let skipped: BTreeSet<(&str, &str)> = runs
        .iter()
        .flat_map(|run| &run.collections)
        .filter(|collection| collection.is_not_selected())
        .map(|collection| (collection.dataset.as_str(), collection.collection.as_str()))
        .collect();
    if !skipped.is_empty() {
        add_remark(
            result,
            &format!(
                "nothing is said about collections that were not selected ({})",
                skipped.len()
            ),
        );
    }
    if !is_stated && !compared.is_empty() {
        let names: Vec<&str> = compared.iter().copied().collect();
        add_remark(
            result,
            &format!(
                "the event names no datasets: judged on those compared ({})",
                names.join(", ")
            ),
        );
    }
}

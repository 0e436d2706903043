//! Evidence for tests, made of the same records as the real one.

use std::cell::RefCell;
use std::collections::HashMap;

use probes::{LagInterval, LossShape, Quantiles, Route, Rpo};
use reconcile::{CoverageState, Origin, State};

use super::blocks::{BlockCollector, RouteLag, SourcedInterval};
use super::calendar::DAY_US;
use super::evidence::{CollectionCoverage, Evidence, KeyTally, Reconciliation, RunFacts, SourcedRpo};
use super::judge::{Request, judge};
use super::policy::{NINETY_DAY, Policy};
use super::report::{CriterionResult, GateReport};
use super::supplied::Supplied;
use crate::spread::tests::payload;
use crate::{Event, EventKind};

pub(super) const MINUTE_US: i64 = 60_000_000;

/// 2026-11-16T00:00:00Z, a Monday: far from its peak window.
pub(super) const MONDAY_US: i64 = 1_794_787_200_000_000;

pub(super) fn policy() -> Policy {
    Policy::parse("ninety-day.toml", NINETY_DAY).unwrap()
}

/// One canary: its ends, or what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Canary {
    Seen(u64, u64),
    /// Seen by a clock whose bound was proved false: 0 at the low end, nothing at the high end.
    Unread,
    /// With its age.
    Pending(u64),
    Lost(u64),
    Skipped,
}

/// One minute as the tracker writes it: low ends hold the ages of unseen canaries too.
pub(super) fn minute(dataset: &str, start_us: i64, canaries: &[Canary]) -> SourcedInterval {
    let (mut lows, mut highs) = (Vec::new(), Vec::new());
    let (mut seen, mut pending, mut lost, mut skipped) = (0, 0, 0, 0);
    let mut oldest = None;
    for canary in canaries {
        match *canary {
            Canary::Seen(low, high) => {
                lows.push(low.max(1));
                highs.push(high.max(1));
                seen += 1;
            }
            Canary::Unread => {
                lows.push(1);
                seen += 1;
            }
            Canary::Pending(age) => {
                lows.push(age);
                oldest = oldest.max(Some(age));
                pending += 1;
            }
            Canary::Lost(age) => {
                lows.push(age);
                lost += 1;
            }
            Canary::Skipped => skipped += 1,
        }
    }
    let interval = LagInterval {
        route: Route {
            dataset: dataset.to_owned(),
            store: "aurora".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
            observer: "usw2/probe-1".to_owned(),
        },
        epoch: "0f".repeat(16),
        interval_start_us: start_us,
        interval_end_us: start_us + MINUTE_US,
        revision: 0,
        is_final: pending == 0,
        planned: seen + pending + lost + skipped,
        seen,
        pending,
        overdue: 0,
        lost,
        superseded: 0,
        write_failed: 0,
        write_unknown: 0,
        skipped,
        gap_us: 0,
        low: Quantiles::default(),
        high: Quantiles::default(),
        oldest_unseen_us: oldest,
        native_lag_us: None,
        hdr_low: remembered(lows),
        hdr_high: remembered(highs),
    };
    SourcedInterval {
        run_id: "0199-probe".to_owned(),
        interval,
    }
}

/// Making a payload costs milliseconds in a test build, and most minutes of a test are alike.
fn remembered(values: Vec<u64>) -> String {
    thread_local! {
        static MADE: RefCell<HashMap<Vec<u64>, String>> = RefCell::default();
    }
    MADE.with_borrow_mut(|made| made.entry(values).or_insert_with_key(|values| payload(values)).clone())
}

/// Whole blocks of ten canaries a minute from `start_us` on, each reading made by `reading(block, canary)`.
pub(super) fn blocks(start_us: i64, count: i64, reading: impl Fn(i64, i64) -> Canary) -> Vec<SourcedInterval> {
    let minutes = (0..count * 5).map(|minute_number| {
        let canaries: Vec<Canary> = (0..10).map(|canary| reading(minute_number / 5, canary)).collect();
        minute("orders-db", start_us + minute_number * MINUTE_US, &canaries)
    });
    minutes.collect()
}

/// Collects day by day, as the loader does.
pub(super) fn collect(policy: &Policy, mut intervals: Vec<SourcedInterval>) -> (Vec<RouteLag>, Vec<String>) {
    let mut collector = BlockCollector::new(policy);
    let mut problems = Vec::new();
    intervals.sort_by_key(|sourced| sourced.interval.interval_start_us);
    for day in intervals.chunk_by(|a, b| {
        a.interval.interval_start_us.div_euclid(DAY_US) == b.interval.interval_start_us.div_euclid(DAY_US)
    }) {
        problems.extend(collector.add_day(day.to_vec()));
    }
    (collector.finish(), problems)
}

pub(super) fn evidence(policy: &Policy, intervals: Vec<SourcedInterval>) -> Evidence {
    let (lag, problems) = collect(policy, intervals);
    Evidence {
        lag,
        problems,
        ..Evidence::default()
    }
}

pub(super) fn request(now_us: i64) -> Request {
    Request {
        run_id: "0199-gate".to_owned(),
        judged_at_us: now_us,
        reproduce: "driftline gate run ninety-day --from 2026-11-16T00:00:00Z --to 2026-11-21T00:00:00Z".to_owned(),
        ..Request::default()
    }
}

pub(super) fn run(evidence: Evidence, supplied: &Supplied, now_us: i64) -> GateReport {
    judge(&policy(), supplied, evidence, &request(now_us))
}

pub(super) fn only<'a>(report: &'a GateReport, id: &str) -> &'a CriterionResult {
    let found: Vec<&CriterionResult> = report.criteria.iter().filter(|result| result.id == id).collect();
    assert_eq!(found.len(), 1, "{id}: {found:#?}");
    found[0]
}

pub(super) fn event(kind: EventKind, at_us: i64) -> Event {
    Event {
        event_id: format!("0199-{}", kind.word()),
        kind,
        exercise: true,
        datasets: vec!["shop".to_owned()],
        from_site: "use1".to_owned(),
        to_site: "usw2".to_owned(),
        declared_at_us: at_us - 30_000_000,
        promoted_at_us: Some(at_us),
        traffic_shifted_at_us: Some(at_us + 4_000_000),
        verified_at_us: None,
        ended_at_us: Some(at_us + 600_000_000),
        forks: std::collections::BTreeMap::new(),
        outcome: Some("succeeded".to_owned()),
        scenario: None,
        executed_by: "r.vogel".to_owned(),
        notes: String::new(),
        revision: 4,
    }
}

pub(super) fn rpo(event: &Event, lost: u64) -> SourcedRpo {
    SourcedRpo {
        run_id: "0199-rpo".to_owned(),
        rpo: Rpo {
            route: minute("orders-db", 0, &[]).interval.route,
            event_id: event.event_id.clone(),
            epoch: "0f".repeat(16),
            acked: 412,
            survived: 412 - lost,
            lost,
            unknown: 0,
            first_lost_at_us: None,
            last_lost_at_us: None,
            rpo_low_us: lost * 200_000,
            rpo_high_us: Some(lost * 200_000 + 310_000),
            ledger_complete_until_us: event.declared_at_us + 35_000_000,
            shape: if lost == 0 { LossShape::None } else { LossShape::Suffix },
            canaries: Vec::new(),
        },
    }
}

pub(super) fn covered(collection: &str, state: CoverageState, reason: &str, confirmed: u64) -> CollectionCoverage {
    CollectionCoverage {
        dataset: "shop".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "usw2".to_owned(),
        secondary_site: "use1".to_owned(),
        collection: collection.to_owned(),
        state,
        reason: reason.to_owned(),
        primary_rows: Some(80_000),
        secondary_rows: Some(80_000),
        confirmed,
        volatile: 0,
        unverified: 0,
    }
}

/// A comparison with the old copy that found these keys.
pub(super) fn reconciliation(event: &Event, found: &[(Option<Origin>, u64)]) -> Reconciliation {
    let confirmed = found.iter().map(|(_, count)| count).sum();
    let state = if confirmed == 0 {
        CoverageState::Verified
    } else {
        CoverageState::Diverged
    };
    Reconciliation {
        run_id: "0199-reconcile".to_owned(),
        event_id: Some(event.event_id.clone()),
        relation: Some("independent".to_owned()),
        complete: true,
        started_at_us: event.declared_at_us + 900_000_000,
        finished_at_us: Some(event.declared_at_us + 960_000_000),
        collections: vec![covered("public.orders", state, "", confirmed)],
        keys: found
            .iter()
            .map(|(origin, count)| KeyTally {
                dataset: "shop".to_owned(),
                state: State::Confirmed,
                origin: *origin,
                count: *count,
            })
            .collect(),
    }
}

pub(super) fn run_facts(run_id: &str, kind: &str, started_at_us: i64) -> RunFacts {
    RunFacts {
        run_id: run_id.to_owned(),
        kind: kind.to_owned(),
        tool_version: "0.1.0".to_owned(),
        host: "probe-1".to_owned(),
        executed_by: "r.vogel".to_owned(),
        config_sha256: Some("ab".repeat(32)),
        started_at_us,
        finished_at_us: Some(started_at_us + 60_000_000),
        status: "succeeded".to_owned(),
    }
}

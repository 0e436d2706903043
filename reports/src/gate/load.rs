//! Evidence from an output folder and a state folder.
//!
//! What cannot be read does not stop the gate: it is listed as a problem, and a gate with a problem is never GO; a loss that the
//! rest proves is still a loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reconcile::{Origin, State};

use super::blocks::{BlockCollector, RouteLag, SourcedInterval};
use super::calendar::{DAY_US, date_text, day_start};
use super::evidence::{CollectionCoverage, Evidence, KeyTally, Reconciliation, RunFacts, SourcedRpo};
use super::judge::Request;
use super::policy::{Kind, Policy};
use super::report::Window;
use crate::runs::latest_runs;
use crate::tables::{
    AtMicros, Cell, CoverageRow, DivergenceRow, EventRow, Field, LagIntervalRow, Row, RpoRow, RunKind, RunRow,
    RunStatus, Span, TableError, project, read,
};
use crate::{Event, tables};

/// Rows of `lag_intervals` that are held at once: one UTC day of 100 routes with revisions.
pub const INTERVALS_PER_DAY_MAX: usize = 300_000;

/// Loads everything that can count for this policy and request. The caller adds [`Evidence::inventory`] from its configuration:
/// without it, datasets that no probe ever measured cannot be noticed.
///
/// Rules: of an interval, an event and a run the highest revision counts; rows of `reconcile` and `rpo` count when their run has
/// a row in `runs`; lag that was measured under another fingerprint of its dataset than the newest one is left out, with a note,
/// and a comparison under another one can prove a loss but never its absence.
pub fn load(output: &Path, state: &Path, policy: &Policy, request: &Request) -> Evidence {
    let lag_window = request.widest_window(policy, Kind::is_lag);
    let window = request.widest_window(policy, |_| true);
    let mut evidence = Evidence::default();
    let runs = match latest_runs(output, Span::between_us(i64::MIN, window.to_us)) {
        Ok(runs) => runs,
        Err(error) => {
            evidence.problems.push(error.to_string());
            Vec::new()
        }
    };
    let committed = Committed::of(&runs);
    evidence.lag = load_lag(
        output,
        policy,
        lag_window,
        &committed,
        &mut evidence.problems,
        &mut evidence.notes,
    );
    let span = Span::between_us(window.from_us, window.to_us);
    evidence.reconciliations = gather(&mut evidence.problems, load_reconciliations(output, span, &committed));
    evidence.rpo = gather(&mut evidence.problems, load_rpo(output, span, &committed));
    evidence.events = load_events(output, state, &mut evidence.problems);
    evidence.runs = cited(&runs, &evidence, window);
    evidence
}

fn gather<T>(problems: &mut Vec<String>, found: Result<Vec<T>, TableError>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        problems.push(error.to_string());
        Vec::new()
    })
}

/// The runs whose rows count, and which fingerprint of a dataset is the newest.
struct Committed<'a> {
    runs: BTreeMap<&'a str, &'a RunRow>,
    newest: BTreeMap<String, String>,
}

impl<'a> Committed<'a> {
    /// Of runs in the order of their start.
    fn of(runs: &'a [RunRow]) -> Self {
        let mut newest = BTreeMap::new();
        for run in runs {
            newest.extend(fingerprints(run));
        }
        Self {
            runs: runs
                .iter()
                .filter(|run| run.commits())
                .map(|run| (run.run_id.as_str(), run))
                .collect(),
            newest,
        }
    }

    fn run(&self, run_id: &str, kind: RunKind) -> Option<&'a RunRow> {
        self.runs.get(run_id).copied().filter(|run| run.kind == kind)
    }

    /// Whether a run looked at a dataset as it is looked at now. A run or dataset without a fingerprint is taken as it is.
    fn is_current(&self, run: &RunRow, dataset: &str) -> bool {
        let own = fingerprints(run);
        match (own.get(dataset), self.newest.get(dataset)) {
            (Some(own), Some(newest)) => own == newest,
            _ => true,
        }
    }
}

fn fingerprints(run: &RunRow) -> BTreeMap<String, String> {
    serde_json::from_str(&run.dataset_fingerprints).unwrap_or_default()
}

fn load_lag(
    output: &Path,
    policy: &Policy,
    window: Window,
    committed: &Committed<'_>,
    problems: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Vec<RouteLag> {
    let mut collector = BlockCollector::new(policy);
    let mut outdated: BTreeMap<String, u64> = BTreeMap::new();
    let mut currency: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut day = day_start(window.from_us);
    while day < window.to_us {
        match load_day(output, day) {
            Ok(mut intervals) => {
                intervals.retain(|sourced| {
                    let dataset = &sourced.interval.route.dataset;
                    let key = (sourced.run_id.clone(), dataset.clone());
                    let is_current = *currency.entry(key).or_insert_with(|| {
                        let run = committed.run(&sourced.run_id, RunKind::Probe);
                        run.is_none_or(|run| committed.is_current(run, dataset))
                    });
                    if !is_current {
                        *outdated.entry(dataset.clone()).or_default() += 1;
                    }
                    is_current
                });
                problems.extend(collector.add_day(intervals));
            }
            Err(problem) => problems.push(problem),
        }
        day += DAY_US;
    }
    notes.extend(outdated.into_iter().map(|(dataset, count)| {
        format!("{count} rows of lag of {dataset} were measured under other settings than the newest (dataset fingerprint) and left out")
    }));
    collector.finish()
}

fn load_day(output: &Path, day: i64) -> Result<Vec<SourcedInterval>, String> {
    let rows = read::<LagIntervalRow>(output, Span::between_us(day, day)).map_err(|error| error.to_string())?;
    let mut intervals = Vec::new();
    for row in rows {
        let row = row.map_err(|error| error.to_string())?;
        if intervals.len() >= INTERVALS_PER_DAY_MAX {
            return Err(format!(
                "lag_intervals of {} hold more than {INTERVALS_PER_DAY_MAX} rows: the day was left out; judge fewer probes at a time",
                date_text(day)
            ));
        }
        intervals.push(SourcedInterval {
            run_id: row.run_id.clone(),
            interval: row.into_record(),
        });
    }
    Ok(intervals)
}

fn load_reconciliations(
    output: &Path,
    span: Span,
    committed: &Committed<'_>,
) -> Result<Vec<Reconciliation>, TableError> {
    let mut found: BTreeMap<String, Reconciliation> = BTreeMap::new();
    for row in read::<CoverageRow>(output, span)? {
        let row = row?;
        let Some(run) = committed
            .run(&row.run_id, RunKind::Reconcile)
            .filter(|run| !run.is_narrow())
        else {
            continue;
        };
        let reconciliation = found.entry(row.run_id.clone()).or_insert_with(|| Reconciliation {
            run_id: run.run_id.clone(),
            event_id: run.event_id.clone(),
            relation: run.relation.map(|relation| relation.word().to_owned()),
            complete: run.complete && run.status == RunStatus::Succeeded,
            started_at_us: run.started_at.0,
            finished_at_us: run.finished_at.map(|at| at.0),
            collections: Vec::new(),
            keys: Vec::new(),
        });
        reconciliation.complete &= committed.is_current(run, &row.dataset);
        reconciliation.collections.push(CollectionCoverage {
            dataset: row.dataset,
            store: row.store,
            primary_site: row.primary_site,
            secondary_site: row.secondary_site,
            collection: row.collection,
            state: row.state,
            reason: row.reason.unwrap_or_default(),
            primary_rows: row.primary_rows,
            secondary_rows: row.secondary_rows,
            confirmed: row.confirmed,
            volatile: row.volatile,
            unverified: row.unverified,
        });
    }
    count_keys(output, span, &mut found)?;
    let mut reconciliations: Vec<Reconciliation> = found.into_values().collect();
    reconciliations.sort_by(|a, b| (a.started_at_us, &a.run_id).cmp(&(b.started_at_us, &b.run_id)));
    Ok(reconciliations)
}

/// Counts keys without holding them.
fn count_keys(output: &Path, span: Span, found: &mut BTreeMap<String, Reconciliation>) -> Result<(), TableError> {
    let columns = ["run_id", "dataset", "state", "origin"];
    for cells in project(output, DivergenceRow::table(), &columns, span)? {
        let Some((run_id, dataset, state, origin)) = key_of(cells?) else {
            continue;
        };
        let Some(reconciliation) = found.get_mut(&run_id) else {
            continue;
        };
        let tally = reconciliation
            .keys
            .iter_mut()
            .find(|tally| tally.dataset == dataset && tally.state == state && tally.origin == origin);
        match tally {
            Some(tally) => tally.count += 1,
            None => reconciliation.keys.push(KeyTally {
                dataset,
                state,
                origin,
                count: 1,
            }),
        }
    }
    Ok(())
}

/// The reader has checked types and closed lists, so every row gives a key.
fn key_of(cells: Vec<Cell>) -> Option<(String, String, State, Option<Origin>)> {
    let mut cells = cells.into_iter();
    Some((
        String::from_cell(cells.next()?)?,
        String::from_cell(cells.next()?)?,
        State::from_cell(cells.next()?)?,
        Option::<Origin>::from_cell(cells.next()?)?,
    ))
}

fn load_rpo(output: &Path, span: Span, committed: &Committed<'_>) -> Result<Vec<SourcedRpo>, TableError> {
    let mut found = Vec::new();
    for row in read::<RpoRow>(output, span)? {
        let (run_id, rpo) = row?.into_record();
        if committed.run(&run_id, RunKind::Rpo).is_some() {
            found.push(SourcedRpo { run_id, rpo });
        }
    }
    Ok(found)
}

/// Events of the state folder and of the `events` table, which also holds those of other hosts.
fn load_events(output: &Path, state: &Path, problems: &mut Vec<String>) -> Vec<Event> {
    let mut newest: BTreeMap<String, Event> = BTreeMap::new();
    let mut take = |event: Event| {
        if newest
            .get(&event.event_id)
            .is_none_or(|held| held.revision < event.revision)
        {
            newest.insert(event.event_id.clone(), event);
        }
    };
    match Event::load_all(state) {
        Ok(events) => events.into_iter().for_each(&mut take),
        Err(error) => problems.push(format!("the events of {} cannot be read: {error}", state.display())),
    }
    match read::<EventRow>(output, Span::ALL).map(|rows| rows.collect::<Result<Vec<_>, _>>()) {
        Ok(Ok(rows)) => rows.into_iter().map(event_of).for_each(&mut take),
        Ok(Err(error)) | Err(error) => problems.push(error.to_string()),
    }
    let mut events: Vec<Event> = newest.into_values().collect();
    events.sort_by(|a, b| (a.declared_at_us, &a.event_id).cmp(&(b.declared_at_us, &b.event_id)));
    events
}

/// The event of a row. Forks stay in the table: the gate judges origins, not forks.
fn event_of(row: EventRow) -> Event {
    let us = |at: Option<AtMicros>| at.map(|at| at.0);
    Event {
        event_id: row.event_id,
        kind: row.kind,
        exercise: row.exercise,
        datasets: row.datasets,
        from_site: row.from_site,
        to_site: row.to_site,
        declared_at_us: row.declared_at.0,
        promoted_at_us: us(row.promoted_at),
        traffic_shifted_at_us: us(row.traffic_shifted_at),
        verified_at_us: us(row.verified_at),
        ended_at_us: us(row.ended_at),
        forks: BTreeMap::new(),
        outcome: row.outcome,
        scenario: row.scenario,
        executed_by: row.executed_by,
        notes: row.notes.unwrap_or_default(),
        revision: row.revision,
    }
}

/// The runs that the evidence names, and other runs of the window except gates.
fn cited(runs: &[RunRow], evidence: &Evidence, window: Window) -> Vec<RunFacts> {
    let named: BTreeSet<&str> = evidence
        .lag
        .iter()
        .flat_map(|lag| lag.run_ids.iter().map(String::as_str))
        .chain(evidence.reconciliations.iter().map(|run| run.run_id.as_str()))
        .chain(evidence.rpo.iter().map(|rpo| rpo.run_id.as_str()))
        .collect();
    runs.iter()
        .filter(|run| run.kind != RunKind::Gate)
        .filter(|run| named.contains(run.run_id.as_str()) || window.holds(run.started_at.0))
        .map(facts)
        .collect()
}

fn facts(run: &tables::RunRow) -> RunFacts {
    RunFacts {
        run_id: run.run_id.clone(),
        kind: run.kind.word().to_owned(),
        tool_version: run.tool_version.clone(),
        host: run.host.clone(),
        executed_by: run.executed_by.clone(),
        config_sha256: run.config_sha256.as_ref().map(|hex| hex.0.clone()),
        started_at_us: run.started_at.0,
        finished_at_us: run.finished_at.map(|at| at.0),
        status: run.status.word().to_owned(),
    }
}

//! The gate from end to end: evidence of the real tracker, files of the real writer, and what a person sees.

use std::time::Duration;

use probes::simulation::{Scenario, simulate};
use probes::{Config, Route};
use reconcile::{CoverageState, Origin, State};
use stores::Relation;

use super::fixture::{
    Canary, MONDAY_US, blocks, covered, event, evidence, only, policy, reconciliation, request, rpo, run_facts,
};
use super::{
    Evidence, GateReport, InventoryItem, KeyTally, Quantile, Request, SourcedInterval, Supplied, Verdict, html, judge,
    load, terminal,
};
use crate::EventKind;
use crate::render::{LagTables, write_event, write_rpo};
use crate::runs::{new_run_id, write_run};
use crate::tables::{AtMicros, CoverageRow, DivergenceRow, FileName, RunKind, RunRow, RunStatus, replace_rows};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 86_400_000_000;

/// Three hours of the real tracker from Monday midnight, with this true lag.
fn tracked(lag_us: impl FnMut(u64) -> Option<u64>, hours: u64) -> Vec<probes::LagInterval> {
    let scenario = Scenario {
        route: Route {
            dataset: "orders-db".to_owned(),
            store: "aurora".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
            observer: "usw2/simulated".to_owned(),
        },
        settings: Config {
            rate: Some("1/s".parse().unwrap()),
            ..Config::default()
        },
        seed: 7,
        start_wall_us: MONDAY_US,
        length: Duration::from_secs(hours * 3_600),
        write: Duration::from_millis(3),
        round_trip: Duration::from_micros(800),
        drain: Duration::from_secs(30),
    };
    simulate(&scenario, lag_us).intervals
}

fn sourced(intervals: Vec<probes::LagInterval>) -> Vec<SourcedInterval> {
    let rows = intervals.into_iter().map(|interval| SourcedInterval {
        run_id: "0199-probe".to_owned(),
        interval,
    });
    rows.collect()
}

fn steady_of(intervals: Vec<probes::LagInterval>) -> super::CriterionResult {
    let found = evidence(&policy(), sourced(intervals));
    assert_eq!(found.problems, Vec::<String>::new());
    let report = judge(&policy(), &Supplied::default(), found, &request(MONDAY_US + DAY_US));
    only(&report, "aurora-steady-lag").clone()
}

#[test]
fn what_the_real_tracker_measured_is_go() {
    let result = steady_of(tracked(|_| Some(40_000), 3));
    assert_eq!(result.verdict, Verdict::Go, "{}", result.reason);
    let (low, high) = (result.observed_low.unwrap(), result.observed_high.unwrap());
    assert!(low <= 40_000 && (40_000..60_000).contains(&high), "[{low}, {high}]");
    assert!(!result.remark.contains("blocks are not"), "{}", result.remark);
}

#[test]
fn a_stall_that_the_real_tracker_measured_forbids_go() {
    // Replication stands for ten minutes in the second hour, then catches up.
    let stall = |at: u64| {
        Some(if (4_000_000_000..4_600_000_000).contains(&at) {
            4_610_000_000 - at
        } else {
            40_000
        })
    };
    let result = steady_of(tracked(stall, 3));
    assert_eq!(result.verdict, Verdict::Inconclusive, "{}", result.reason);
    assert!(
        result
            .reason
            .contains("by their high end; 2 of them by the low end too"),
        "{}",
        result.reason
    );
}

#[test]
fn dead_replication_that_the_real_tracker_measured_is_no_go_only_when_settled() {
    let judged = |intervals| {
        let mut request = request(MONDAY_US + HOUR_US);
        request.from_us = Some(MONDAY_US);
        let report = judge(
            &policy(),
            &Supplied::default(),
            evidence(&policy(), sourced(intervals)),
            &request,
        );
        only(&report, "aurora-steady-lag").clone()
    };
    let dead = judged(tracked(|at| (at < 1_800_000_000).then_some(40_000), 1));
    assert_eq!(
        (dead.verdict, dead.observed_high),
        (Verdict::Inconclusive, None),
        "{}",
        dead.reason
    );
    assert!(dead.reason.contains("unbounded"), "{}", dead.reason);
    // The same standstill, over at last: its low ends are readings now, in 6 blocks of at least 30.
    let over = judged(tracked(
        |at| Some(if at < 1_800_000_000 { 40_000 } else { 3_610_000_000 - at }),
        1,
    ));
    assert_eq!(over.verdict, Verdict::NoGo, "{}", over.reason);
    assert!(over.reason.contains("in 6 of 30 blocks (20 %"), "{}", over.reason);
}

#[test]
fn the_tracker_s_own_quantiles_and_the_merged_ones_agree() {
    let mut lag = 1_000;
    let intervals = tracked(
        |_| {
            lag = (lag * 7 + 13) % 90_000;
            Some(lag)
        },
        1,
    );
    let one = intervals
        .iter()
        .find(|interval| interval.is_final && interval.gap_us == 0)
        .unwrap()
        .clone();
    let found = evidence(&policy(), sourced(vec![one.clone()]));
    let figures = &found.lag[0].blocks[0].figures;
    for (quantile, low, high) in [
        (Quantile::P50, one.low.p50_us, one.high.p50_us),
        (Quantile::P99, one.low.p99_us, one.high.p99_us),
    ] {
        let (low, high) = (low.unwrap(), high.unwrap());
        let (merged_low, merged_high) = (figures.low(quantile), figures.high(quantile).unwrap());
        // Three digits, rounded away from the middle at both ends.
        assert!(
            merged_low <= low && low - merged_low <= low / 500 + 1,
            "{merged_low} {low}"
        );
        assert!(
            high <= merged_high && merged_high - high <= high / 500 + 1,
            "{merged_high} {high}"
        );
    }
}

/// Three hours of good lag.
fn minutes() -> Vec<probes::LagInterval> {
    let rows = blocks(MONDAY_US, 36, |_, _| Canary::Seen(20_000, 60_000));
    rows.into_iter().map(|sourced| sourced.interval).collect()
}

/// Writes evidence with the writers that the commands use.
struct Written {
    output: tempfile::TempDir,
    state: tempfile::TempDir,
    request: Request,
}

impl Written {
    fn new() -> Self {
        Self {
            output: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
            request: request(MONDAY_US + DAY_US),
        }
    }

    fn run(&self, kind: RunKind, fingerprint: &str, change: impl FnOnce(&mut RunRow)) -> String {
        let mut run = RunRow::begin(kind, new_run_id(), MONDAY_US, "ops".to_owned(), "probe-1".to_owned());
        run.dataset_fingerprints = format!("{{\"orders-db\":\"{fingerprint}\",\"shop\":\"{fingerprint}\"}}");
        let mut run = run.end(RunStatus::Succeeded, true, 0, MONDAY_US + HOUR_US);
        change(&mut run);
        write_run(self.output.path(), run.clone()).unwrap();
        run.run_id
    }

    fn lag(&self, run_id: &str, intervals: &[probes::LagInterval]) {
        let mut tables = LagTables::create(self.output.path(), run_id);
        for interval in intervals {
            tables.interval(interval).unwrap();
        }
        tables.show().unwrap();
    }

    fn compared(&self, run_id: &str, confirmed: &[Option<Origin>]) {
        let state = if confirmed.is_empty() {
            CoverageState::Verified
        } else {
            CoverageState::Diverged
        };
        let row = coverage_row(run_id, state, u64::try_from(confirmed.len()).unwrap());
        replace_rows(self.output.path(), FileName::of_run(run_id), [row]).unwrap();
        let keys = confirmed.iter().map(|origin| divergence_row(run_id, *origin));
        replace_rows(self.output.path(), FileName::of_run(run_id), keys).unwrap();
    }

    fn failover(&self) -> crate::Event {
        let failover = event(EventKind::Failover, MONDAY_US + HOUR_US);
        failover.save(self.state.path()).unwrap();
        failover
    }

    fn load(&self) -> Evidence {
        load(self.output.path(), self.state.path(), &policy(), &self.request)
    }

    fn judge(&self) -> GateReport {
        let mut found = self.load();
        found.inventory = vec![InventoryItem {
            dataset: "shop".to_owned(),
            unit: "orders-db".to_owned(),
            store: "aurora".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
        }];
        judge(&policy(), &Supplied::default(), found, &self.request)
    }
}

fn coverage_row(run_id: &str, state: CoverageState, confirmed: u64) -> CoverageRow {
    CoverageRow {
        run_id: run_id.to_owned(),
        dataset: "shop".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "usw2".to_owned(),
        secondary_site: "use1".to_owned(),
        collection: "public.orders".to_owned(),
        primary_collection: None,
        secondary_collection: None,
        labels: "{}".to_owned(),
        scope: None,
        fence: None,
        state,
        reason: None,
        primary_rows: Some(100),
        secondary_rows: Some(100),
        primary_bytes: None,
        secondary_bytes: None,
        canaries_excluded: 0,
        chunks_total: 1,
        chunks_equal: 1,
        chunks_different: 0,
        chunks_failed: 0,
        confirmed,
        volatile: 0,
        unverified: 0,
        transient: 0,
        started_at: AtMicros(MONDAY_US + 2 * HOUR_US),
        finished_at: AtMicros(MONDAY_US + 2 * HOUR_US + 1_000_000),
    }
}

fn divergence_row(run_id: &str, origin: Option<Origin>) -> DivergenceRow {
    DivergenceRow {
        run_id: run_id.to_owned(),
        dataset: "shop".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "usw2".to_owned(),
        secondary_site: "use1".to_owned(),
        collection: "public.orders".to_owned(),
        chunk_id: Some(0),
        key: Some("{\"id\":1}".to_owned()),
        key_hash: None,
        class: stores::Class::Different,
        detail: None,
        state: State::Confirmed,
        origin,
        origin_evidence: None,
        columns: Vec::new(),
        primary_digest: None,
        secondary_digest: None,
        primary_value: None,
        secondary_value: None,
        primary_changed_at: None,
        secondary_changed_at: None,
        first_seen_at: AtMicros(MONDAY_US + 2 * HOUR_US),
        last_rechecked_at: None,
        rechecks: 2,
        explanation: None,
    }
}

fn told(run: &mut RunRow) {
    run.event_id = Some("0199-failover".to_owned());
    run.relation = Some(Relation::Independent);
}

#[test]
fn lag_written_by_a_probe_is_judged_from_its_files() {
    let written = Written::new();
    let probe = written.run(RunKind::Probe, "aa", |_| ());
    // Every revision of every interval stands in the files.
    written.lag(&probe, &tracked(|_| Some(40_000), 3));
    let report = written.judge();
    let result = only(&report, "aurora-steady-lag");
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(
        (result.verdict, &result.evidence_run_ids),
        (Verdict::Go, &vec![probe.clone()]),
        "{}",
        result.reason
    );
    assert!(report.runs.iter().any(|run| run.run_id == probe));
}

#[test]
fn lag_under_other_settings_is_left_out_with_a_note() {
    let written = Written::new();
    let old = written.run(RunKind::Probe, "aa", |_| ());
    written.lag(&old, &minutes());
    written.run(RunKind::Probe, "bb", |run| {
        run.started_at = AtMicros(MONDAY_US + 4 * HOUR_US)
    });
    let report = written.judge();
    assert!(only(&report, "aurora-steady-lag").reason.starts_with("unmeasured"));
    assert!(report.notes[0].contains("other settings"), "{:?}", report.notes);
}

#[test]
fn a_comparison_counts_when_its_run_is_committed() {
    let written = Written::new();
    written.failover();
    let run_id = new_run_id();
    written.compared(&run_id, &[]);
    assert_eq!(only(&written.judge(), "no-loss").verdict, Verdict::Inconclusive);
    let running = RunRow::begin(
        RunKind::Reconcile,
        run_id.clone(),
        MONDAY_US,
        "ops".to_owned(),
        "h".to_owned(),
    );
    write_run(written.output.path(), running.clone()).unwrap();
    assert!(
        written.load().reconciliations.is_empty(),
        "a run that is not over has committed nothing"
    );
    written.run(RunKind::Reconcile, "aa", |run| {
        told(run);
        run.run_id.clone_from(&run_id);
        run.revision = running.revision + 1;
    });
    let report = written.judge();
    let result = only(&report, "no-loss");
    assert_eq!(result.verdict, Verdict::Go, "{}", result.reason);
}

#[test]
fn a_comparison_that_was_cut_short_or_under_other_settings_proves_no_zero() {
    type Change = fn(&mut RunRow);
    let changes: [(&str, Change); 3] = [
        ("aa", |run| run.complete = false),
        ("aa", |run| run.status = RunStatus::Interrupted),
        ("old", |_| ()),
    ];
    for (fingerprint, change) in changes {
        let written = Written::new();
        written.failover();
        let run_id = written.run(RunKind::Reconcile, fingerprint, |run| {
            told(run);
            change(run);
        });
        written.run(RunKind::Probe, "aa", |run| {
            run.started_at = AtMicros(MONDAY_US + 4 * HOUR_US)
        });
        written.compared(&run_id, &[]);
        let report = written.judge();
        assert_eq!(only(&report, "no-loss").verdict, Verdict::Inconclusive, "{fingerprint}");
        // The loss that it saw is a loss all the same.
        written.compared(&run_id, &[Some(Origin::LostWrite), Some(Origin::NewWrite)]);
        let report = written.judge();
        let result = only(&report, "no-loss");
        assert_eq!(
            (result.verdict, result.observed_low),
            (Verdict::NoGo, Some(1)),
            "{}",
            result.reason
        );
    }
}

#[test]
fn loss_and_events_are_read_wherever_they_stand() {
    let written = Written::new();
    // The event is known from the table alone: it happened on another host.
    let failover = event(EventKind::Failover, MONDAY_US + HOUR_US);
    write_event(written.output.path(), &new_run_id(), &failover).unwrap();
    let run_id = written.run(RunKind::Rpo, "aa", |_| ());
    write_rpo(written.output.path(), &run_id, &[rpo(&failover, 37).rpo]).unwrap();
    let report = written.judge();
    let result = only(&report, "no-loss");
    assert_eq!(result.verdict, Verdict::NoGo, "{}", result.reason);
    assert_eq!((report.losses.len(), report.losses[0].lost), (1, 37));
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_and_never_skipped() {
    let written = Written::new();
    let probe = written.run(RunKind::Probe, "aa", |_| ());
    written.lag(&probe, &minutes());
    let folder = written.output.path().join("lag_intervals/run_date=2026-11-16");
    std::fs::write(folder.join("torn.parquet"), b"PAR1").unwrap();
    let report = written.judge();
    assert!(
        report.problems.iter().any(|problem| problem.contains("torn.parquet")),
        "{:?}",
        report.problems
    );
    assert_ne!(only(&report, "aurora-steady-lag").verdict, Verdict::Go);
}

/// A week as it is after a failover drill that lost something: what the demo ends with, and more.
fn told_story() -> GateReport {
    let hour = |number: i64| MONDAY_US + number * HOUR_US;
    let mut intervals = blocks(MONDAY_US, 8 * 12, |block, canary| {
        let wave = u64::try_from((block * 37 + canary * 11) % 40).unwrap();
        Canary::Seen((18 + wave) * 1_000, (24 + wave) * 1_000)
    });
    intervals.extend(blocks(hour(8), 10 * 12, |block, canary| {
        let wave = u64::try_from((block * 53 + canary * 17) % 90).unwrap();
        match block {
            70..=72 => Canary::Seen((140 + wave) * 1_000, (190 + wave) * 1_000),
            100 if canary > 4 => Canary::Pending(240_000_000),
            _ => Canary::Seen((30 + wave) * 1_000, (40 + wave) * 1_000),
        }
    }));
    let mut found = evidence(&policy(), intervals);
    let failover = event(EventKind::Failover, hour(17));
    let mut compared = reconciliation(
        &failover,
        &[
            (Some(Origin::LostWrite), 118),
            (Some(Origin::NewWrite), 342),
            (Some(Origin::Conflict), 3),
        ],
    );
    compared.complete = false;
    compared
        .collections
        .push(covered("public.customers", CoverageState::Verified, "", 0));
    compared.collections.push(covered(
        "public.audit_log",
        CoverageState::Failed,
        "no_usable_key: no primary key and no unique index",
        0,
    ));
    compared
        .collections
        .push(covered("public.scratch", CoverageState::Skipped, "not_selected", 0));
    compared.keys.push(KeyTally {
        dataset: "shop".to_owned(),
        state: State::Volatile,
        origin: None,
        count: 0,
    });
    found.reconciliations = vec![compared];
    found.rpo = vec![rpo(&failover, 37)];
    found.events = vec![failover];
    found.runs = vec![
        run_facts("0199-probe", "probe", MONDAY_US),
        run_facts("0199-rpo", "rpo", hour(17) + 60_000_000),
        run_facts("0199-reconcile", "reconcile", hour(17) + 120_000_000),
    ];
    found.notes = vec!["120 rows of lag of orders-db were measured under other settings than the newest (dataset fingerprint) and left out".to_owned()];
    found.inventory = vec![InventoryItem {
        dataset: "shop".to_owned(),
        unit: "orders-db".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "use1".to_owned(),
        secondary_site: "usw2".to_owned(),
    }];
    let text = "[[figure]]\ncriterion = 'restore-time'\nvalue = '12 min'\nmeasured_on = '2026-11-12'\nsupplied_by = 'R. Vogel'\nsource = 'restore drill 41'\n\
                [[figure]]\ncriterion = 'cost'\nvalue = '24.5 %'\nmeasured_on = '2026-11-16'\nsupplied_by = 'D. Haas'\nsource = 'invoice of October'\n\
                [[not_applicable]]\ncriterion = 'dynamodb-lag'\nreason = 'no DynamoDB table is in scope'\nstated_by = 'R. Vogel'\n\
                [[waiver]]\ncriterion = 'secret-rotation'\nreason = 'rotation is automated in January'\napprover = 'M. Okafor'\nexpires = '2027-01-31'\n\
                [[waiver]]\ncriterion = 'demotion'\nreason = 'first drill'\napprover = 'M. Okafor'\nexpires = '2026-11-01'\n";
    let supplied = Supplied::parse("evidence.toml", text, &policy()).unwrap();
    judge(&policy(), &supplied, found, &request(MONDAY_US + DAY_US))
}

#[test]
fn a_person_sees_the_verdict_why_and_what_to_do() {
    let report = told_story();
    assert_eq!((report.verdict, report.exit_code()), (Verdict::NoGo, 1));
    insta::assert_snapshot!("terminal", terminal(&report, 120));
}

#[test]
fn a_step_that_several_criteria_ask_for_stands_once() {
    let text = terminal(
        &judge(
            &policy(),
            &Supplied::default(),
            evidence(&policy(), sourced(tracked(|_| Some(40_000), 1))),
            &request(MONDAY_US + DAY_US),
        ),
        120,
    );
    assert!(
        text.contains("aurora-steady-lag, aurora-peak-lag: let the probe run until"),
        "{text}"
    );
    assert_eq!(text.matches("let the probe run until").count(), 1);
}

#[test]
fn names_cannot_steer_the_terminal_or_the_page() {
    let mut report = told_story();
    report.criteria[0].subject = "orders\u{1b}[2J<script>alert(1)</script>".to_owned();
    assert!(!terminal(&report, 120).contains('\u{1b}'));
    let page = html(&report).unwrap();
    assert!(
        !page.contains("<script") && page.contains("&#60;script&#62;"),
        "names are escaped"
    );
}

/// The words of the page in reading order, without drawings: what a screen reader gives.
fn outline(page: &str) -> String {
    let body = page.split_once("<main>").unwrap().1;
    let mut text = String::new();
    let (mut in_tag, mut in_drawing) = (false, false);
    for (index, letter) in body.char_indices() {
        match letter {
            '<' => {
                in_tag = true;
                let rest = &body[index..];
                in_drawing = (in_drawing || rest.starts_with("<svg")) && !rest.starts_with("</svg");
                let breaks = [
                    "<h1", "<h2", "<h3", "<p", "<li", "<tr", "<div", "<pre", "<dt", "<caption",
                ];
                if breaks.iter().any(|tag| rest.starts_with(tag)) {
                    text.push('\n');
                }
                if rest.starts_with("<td")
                    || rest.starts_with("<th")
                    || rest.starts_with("<dd")
                    || rest.starts_with("<br")
                    || rest.starts_with("<span")
                {
                    text.push(' ');
                }
            }
            '>' => in_tag = false,
            _ if in_tag || in_drawing => (),
            letter => text.push(letter),
        }
    }
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .join("\n")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#39;", "'")
}

#[test]
fn the_page_says_the_same_and_fetches_nothing() {
    let page = html(&told_story()).unwrap();
    for outside in ["http://", "https://", "<script", "<link", "<img", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("lang=\"en\""));
    assert_eq!(page.matches("<svg").count(), 2, "one drawing for each lag criterion");
    insta::assert_snapshot!("page", outline(&page));
}

#[test]
fn the_json_holds_verdict_and_reasons() {
    let text = told_story().to_json().unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["verdict"], "NO-GO");
    assert_eq!(json["criteria"].as_array().unwrap().len(), 9);
    assert_eq!(json["criteria"][5]["verdict"], "NO-GO");
}

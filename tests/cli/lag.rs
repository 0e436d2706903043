//! `driftline lag`: files in, figures and exit codes out. No server is needed.

use std::path::Path;
use std::process::Command;

use probes::{Distribution, FinalState, LagInterval, LagSample, Quantiles, Route};
use reports::render::LagTables;

use crate::fixture::{driftline, finish};

/// 2026-11-21 00:00:00 UTC.
const MIDNIGHT_US: i64 = 1_795_219_200_000_000;
const RUN_ID: &str = "01a1fb67-1800-7000-8000-000000000001";

fn route() -> Route {
    Route {
        dataset: "payments".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "use1".to_owned(),
        secondary_site: "usw2".to_owned(),
        observer: "usw2/probe-1".to_owned(),
    }
}

/// A minute with `seen` canaries of 40 ms to 50 ms and `pending` ones that are 31 s old.
fn minute(at: i64, seen: u64, pending: u64) -> LagInterval {
    let (mut low, mut high) = (Distribution::default(), Distribution::default());
    for _ in 0..seen {
        low.add(Some(40_000));
        high.add(Some(50_000));
    }
    for _ in 0..pending {
        low.add(Some(31_000_000));
        high.add(None);
    }
    LagInterval {
        route: route(),
        epoch: "e1".to_owned(),
        interval_start_us: MIDNIGHT_US + at * 60_000_000,
        interval_end_us: MIDNIGHT_US + (at + 1) * 60_000_000,
        revision: 0,
        is_final: pending == 0,
        planned: seen + pending,
        seen,
        pending,
        overdue: 0,
        lost: 0,
        superseded: 0,
        write_failed: 0,
        write_unknown: 0,
        skipped: 0,
        gap_us: 0,
        low: Quantiles::default(),
        high: Quantiles::default(),
        oldest_unseen_us: (pending > 0).then_some(31_000_000),
        native_lag_us: None,
        hdr_low: low.hdr_base64().0,
        hdr_high: high.hdr_base64().0,
    }
}

fn seen_sample() -> LagSample {
    LagSample {
        route: route(),
        stream: "s".to_owned(),
        epoch: "e1".to_owned(),
        sequence: 1,
        planned_at_us: MIDNIGHT_US,
        sent_at_us: Some(MIDNIGHT_US),
        acked_at_us: Some(MIDNIGHT_US),
        seen_at_us: Some(MIDNIGHT_US + 50_000),
        lag_low_us: Some(40_000),
        lag_high_us: Some(50_000),
        low_known: true,
        write_us: Some(1),
        late_us: Some(1),
        clock: "monotonic".to_owned(),
        clock_error_us: 0,
        state: FinalState::Seen,
    }
}

fn written(output: &Path, minutes: &[LagInterval]) {
    let mut tables = LagTables::create(output, RUN_ID);
    for interval in minutes {
        tables.interval(interval).expect("write an interval");
    }
    tables.show().expect("show the intervals");
}

fn lag(folder: &Path, args: &[&str]) -> Command {
    let mut command = driftline();
    command.current_dir(folder).arg("lag").args(args);
    command
}

#[test]
fn figures_need_no_configuration_and_unseen_canaries_are_no_number() {
    let folder = tempfile::tempdir().expect("make a folder");
    written(&folder.path().join("out"), &[minute(0, 95, 0), minute(1, 0, 5)]);
    let told = finish(&mut lag(folder.path(), &["out", "--svg", "lag.svg"])).expect(0);
    assert!(
        told.stdout.contains(">= 30 s") || told.stdout.contains(">= 31 s"),
        "{}",
        told.stdout
    );
    assert!(told.stdout.contains("+inf"), "{}", told.stdout);
    let picture = std::fs::read_to_string(folder.path().join("lag.svg")).expect("the picture");
    assert!(picture.starts_with("<svg") && picture.contains("1: +inf"), "{picture}");

    let json = finish(&mut lag(folder.path(), &["--output", "out", "--format", "json"]))
        .expect(0)
        .json();
    assert_eq!(json["complete"], true);
    let spectrum = &json["lag"]["routes"][0];
    assert_eq!((&spectrum["canaries"], &spectrum["bounded"]), (&100.into(), &95.into()));
    assert_eq!(spectrum["high"]["p99_us"], serde_json::Value::Null);
    let csv = finish(&mut lag(
        folder.path(),
        &["out", "--format", "csv", "--route", "payments"],
    ))
    .expect(0);
    let lines: Vec<&str> = csv.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", csv.stdout);
    assert!(
        lines[0].starts_with("dataset,store,") && lines[1].contains(",inf,"),
        "{}",
        csv.stdout
    );
}

#[test]
fn the_log_of_a_probe_is_read_as_well() {
    let folder = tempfile::tempdir().expect("make a folder");
    let mut tables = LagTables::create(folder.path(), RUN_ID);
    tables.sample(&seen_sample()).expect("write a sample");
    tables.finish().expect("show the sample");
    let told = finish(&mut lag(folder.path(), &["."])).expect(0);
    assert!(told.stdout.contains("Read from .hlog"), "{}", told.stdout);
}

#[test]
fn what_cannot_be_told_is_not_zero() {
    let folder = tempfile::tempdir().expect("make a folder");
    let out = folder.path().join("out");
    written(&out, &[minute(0, 95, 0)]);
    std::fs::create_dir(folder.path().join("empty")).expect("make a folder");
    written(&folder.path().join("idle"), &[minute(0, 0, 0)]);
    for (args, code, words) in [
        (&["out", "--route", "orders"][..], 3, "no lag matched"),
        (&["out", "--from", "2027-01-01T00:00:00Z"], 3, "no lag matched"),
        (&["empty"], 3, "no lag matched"),
        (&["idle"], 3, ""),
        (&["absent"], 3, "absent"),
        (&[], 2, "driftline.toml"),
        (&["out", "--route", "use1->"], 2, "names no route"),
        (
            &["out", "--from", "2026-11-22T00:00:00Z", "--to", "2026-11-21T00:00:00Z"],
            2,
            "--from",
        ),
    ] {
        let told = finish(&mut lag(folder.path(), args)).expect(code);
        assert!(told.stderr.contains(words), "{args:?}: {}", told.stderr);
    }
    let corrupt = out.join("lag_intervals/run_date=2026-11-21/corrupt.parquet");
    std::fs::write(&corrupt, "PAR1").expect("write a file");
    let told = finish(&mut lag(folder.path(), &["out"])).expect(3);
    assert!(
        told.stderr.contains("corrupt.parquet") && told.stdout.is_empty(),
        "{told:?}"
    );
}

#[test]
fn other_commands_write_no_csv() {
    let folder = tempfile::tempdir().expect("make a folder");
    std::fs::write(folder.path().join("driftline.toml"), "").expect("write a file");
    let told = finish(
        driftline()
            .current_dir(folder.path())
            .args(["config", "print", "--format", "csv"]),
    )
    .expect(2);
    assert!(told.stderr.contains("CSV"), "{}", told.stderr);
}

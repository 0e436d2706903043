//! What a person and a script see.

use super::*;
use crate::lag::{Hlog, PLOT_ROUTES_MAX, csv, plot, terminal};

/// A quiet route, one with a stall, an unread minute and a gap, one that measured nothing, and one that only a log tells of.
fn story(output: &Path) -> LagReport {
    let quiet: Vec<u64> = (0..297).map(|index| 3_000 + index * 20).collect();
    let higher: Vec<u64> = quiet.iter().map(|us| us + 1_500).collect();
    let mut rows: Vec<LagInterval> = (0..5).map(|at| minute(at, &quiet, &higher)).collect();
    let stalled = LagInterval {
        lost: 1,
        planned: 301,
        write_failed: 1,
        skipped: 1,
        pending: 1,
        is_final: false,
        oldest_unseen_us: Some(31_000_000),
        hdr_low: payload(&[&quiet[..], &[8_000_000, 31_000_000]].concat()),
        ..minute(0, &quiet, &higher)
    };
    rows.push(observed_by("use1@probe-2", stalled));
    let bare = LagInterval {
        hdr_low: String::new(),
        hdr_high: String::new(),
        ..minute(9, &[1; 3], &[1; 3])
    };
    rows.push(observed_by("use1@probe-2", bare));
    rows.push(observed_by("use1@probe-3, \"new\"", minute(0, &[], &[])));
    write(output, "a", &rows);
    let mut log = Hlog::create(output, "01a1fb67-1800-7000-8000-000000000002");
    let mut settled = sample(Some(400_000), Some(460_000), FinalState::Seen);
    settled.route.observer = "usw2@probe-4".to_owned();
    log.sample(&settled, samples::MIDNIGHT_US).unwrap();
    log.finish(samples::MIDNIGHT_US + MINUTE_US).unwrap();
    all(output)
}

#[test]
fn percentiles_in_words() {
    let output = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(terminal(&story(output.path())));
}

#[test]
fn percentiles_as_csv() {
    let output = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(csv(&story(output.path())));
}

#[test]
fn the_picture() {
    let output = tempfile::tempdir().unwrap();
    let report = story(output.path());
    let svg = plot(&report);
    if let Some(path) = std::env::var_os("DRIFTLINE_SHOW_PLOT") {
        std::fs::write(path, &svg).unwrap();
    }
    insta::assert_snapshot!(svg);
}

#[test]
fn a_picture_of_too_many_routes_says_so_and_stays_small() {
    let output = tempfile::tempdir().unwrap();
    let values: Vec<u64> = (0..20_000).map(|index| 1_000 + index * 37).collect();
    let rows: Vec<_> = (0..8)
        .map(|index| observed_by(&format!("probe-{index}"), minute(0, &values, &values)))
        .collect();
    write(output.path(), "a", &rows);
    let svg = plot(&all(output.path()));
    assert!(svg.contains("the first 6 of 8 measured routes"));
    assert_eq!(svg.matches("class=\"band\"").count(), PLOT_ROUTES_MAX);
    assert!(svg.len() < 300_000, "{} bytes", svg.len());
    let nothing = plot(&LagReport::default());
    assert!(nothing.contains("NOTHING WAS MEASURED"));
}

#[test]
fn json_tells_unbounded_by_null_and_counts() {
    let output = tempfile::tempdir().unwrap();
    let json = serde_json::to_value(story(output.path())).unwrap();
    let stalled = &json["routes"][0];
    assert_eq!(stalled["observed"]["observer"], "use1@probe-2");
    assert_eq!(stalled["high"]["max_us"], serde_json::Value::Null);
    assert_eq!((&stalled["canaries"], &stalled["bounded"]), (&302.into(), &297.into()));
}

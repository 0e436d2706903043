//! `.hlog`: what a probe writes is what is read, and what is no longer in it is said.

use super::*;
use crate::lag::Hlog;
use crate::lag::hlog_file::read_hlog;
use crate::render::LagTables;

const START_US: i64 = samples::MIDNIGHT_US + 20_000_000;

fn seen(low_us: u64, high_us: u64) -> LagSample {
    sample(Some(low_us), Some(high_us), FinalState::Seen)
}

#[test]
fn each_settled_canary_stands_once_in_the_interval_in_which_it_settled() {
    let output = tempfile::tempdir().unwrap();
    let mut log = Hlog::create(output.path(), samples::RUN_ID);
    log.sample(&seen(10, 20), START_US).unwrap();
    log.sample(&sample(Some(70), None, FinalState::Lost), START_US + 1)
        .unwrap();
    log.sample(&sample(None, None, FinalState::WriteFailed), START_US + 2)
        .unwrap();
    // The next one settles three minutes later.
    log.sample(&seen(30, 40), START_US + 3 * MINUTE_US).unwrap();
    log.finish(START_US + 3 * MINUTE_US + 10_000_000).unwrap();
    let path = output.path().join(format!("hlog/2026-11-21/{}.hlog", samples::RUN_ID));
    let file = read_hlog(&path).unwrap();
    let told: Vec<_> = file
        .intervals
        .iter()
        .map(|one| {
            let at = |us: i64| (us - samples::MIDNIGHT_US) / 1_000_000;
            (at(one.start_us), at(one.end_us), one.low.count(), one.high.count())
        })
        .collect();
    assert_eq!(told, [(20, 60, 2, 1), (60, 180, 0, 0), (180, 210, 1, 1)]);
    assert_eq!((file.run_id.as_str(), file.is_torn), (samples::RUN_ID, false));
    assert_eq!(file.intervals[0].route, samples::route());
}

#[test]
fn the_lag_tables_of_a_probe_write_the_log_as_well() {
    let output = tempfile::tempdir().unwrap();
    let mut tables = LagTables::create(output.path(), samples::RUN_ID);
    tables.sample(&seen(10, 20)).unwrap();
    tables.interval(&samples::lag_interval()).unwrap();
    tables.finish().unwrap();
    let day = std::fs::read_dir(output.path().join("hlog"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let file = read_hlog(&day.path().join(format!("{}.hlog", samples::RUN_ID))).unwrap();
    let counts: u64 = file.intervals.iter().map(|one| one.high.count()).sum();
    assert_eq!(counts, 1);
}

#[test]
fn a_new_day_and_a_full_file_begin_another() {
    let output = tempfile::tempdir().unwrap();
    let mut log = Hlog::create(output.path(), samples::RUN_ID).with_bytes_max(1_500);
    for minute in -5..5 {
        log.sample(&seen(10, 20), samples::MIDNIGHT_US + minute * MINUTE_US)
            .unwrap();
    }
    log.finish(samples::MIDNIGHT_US + 5 * MINUTE_US).unwrap();
    let mut files = 0;
    for date in ["2026-11-20", "2026-11-21"] {
        for entry in std::fs::read_dir(output.path().join("hlog").join(date)).unwrap() {
            let file = read_hlog(&entry.unwrap().path()).unwrap();
            assert!(!file.intervals.is_empty());
            files += 1;
        }
    }
    assert!(files > 2, "{files} files");
    let report = all(output.path());
    assert_eq!(report.routes[0].canaries, 10, "every canary in one of them");
}

#[test]
fn a_clock_that_was_set_back_loses_no_canary() {
    let output = tempfile::tempdir().unwrap();
    let mut log = Hlog::create(output.path(), samples::RUN_ID);
    log.sample(&seen(10, 20), START_US).unwrap();
    log.sample(&seen(30, 40), START_US - 5 * MINUTE_US).unwrap();
    log.finish(START_US - 4 * MINUTE_US).unwrap();
    assert_eq!(all(output.path()).routes[0].canaries, 2);
}

#[test]
fn a_run_never_writes_into_a_log_that_exists() {
    let output = tempfile::tempdir().unwrap();
    for is_first in [true, false] {
        let mut log = Hlog::create(output.path(), samples::RUN_ID);
        log.sample(&seen(10, 20), START_US).unwrap();
        assert_eq!(log.finish(START_US + 1_000_000).is_ok(), is_first);
    }
}

fn logged(output: &Path) -> std::path::PathBuf {
    let mut log = Hlog::create(output, samples::RUN_ID);
    for minute in 0..3 {
        log.sample(&seen(10, 20), START_US + minute * MINUTE_US).unwrap();
    }
    log.sample(
        &sample(Some(5_000_000), None, FinalState::Lost),
        START_US + 2 * MINUTE_US,
    )
    .unwrap();
    log.finish(START_US + 3 * MINUTE_US).unwrap();
    output.join(format!("hlog/2026-11-21/{}.hlog", samples::RUN_ID))
}

#[test]
fn logs_alone_tell_lag_and_say_what_they_cannot() {
    let output = tempfile::tempdir().unwrap();
    let path = logged(output.path());
    let copy = output.path().join("copy.hlog");
    std::fs::copy(&path, &copy).unwrap();
    let report = collect(&[path, copy], &Filter::default()).unwrap();
    let spectrum = &report.routes[0];
    assert_eq!((spectrum.canaries, spectrum.bounded), (4, 3), "a copy counts once");
    assert_eq!((spectrum.high.p50_us, spectrum.high.max_us), (Some(20), None));
    assert_eq!((spectrum.observed.planned, spectrum.observed.pending), (None, None));
    assert_eq!(spectrum.observed.gaps, 0);
}

#[test]
fn a_log_is_left_out_where_its_run_has_intervals() {
    let output = tempfile::tempdir().unwrap();
    logged(output.path());
    write(output.path(), "a", &[minute(0, &[10; 2], &[20; 2])]);
    let report = all(output.path());
    assert_eq!(report.routes[0].canaries, 2);
    assert!(report.notes[0].contains("left out"), "{:?}", report.notes);
}

#[test]
fn a_torn_last_line_is_said_and_the_rest_counts() {
    let output = tempfile::tempdir().unwrap();
    let path = logged(output.path());
    let text = std::fs::read(&path).unwrap();
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 6 + 2 * 4, "header and four intervals of two ends");
    // Without the last byte the last line is torn; without the last line its partner stands alone; one byte less, and that is torn.
    let last_line = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for length in [text.len() - 1, last_line, last_line - 1] {
        std::fs::write(&path, &text[..length]).unwrap();
        let report = all(output.path());
        assert_eq!(report.routes[0].observed.intervals, 3);
        assert!(report.notes[0].contains("cut off"), "{:?}", report.notes);
    }
}

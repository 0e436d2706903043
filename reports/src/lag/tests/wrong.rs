//! Inputs that are none: each is named, and nothing is concluded from the rest.

use super::*;
use crate::lag::Hlog;

#[track_caller]
fn refused(paths: &[&Path]) -> String {
    let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
    collect(&paths, &Filter::default()).unwrap_err().to_string()
}

#[test]
fn an_empty_folder_matches_nothing() {
    let output = tempfile::tempdir().unwrap();
    let report = all(output.path());
    assert!(report.routes.is_empty() && !report.is_measured());
    write(output.path(), "none", &[minute(0, &[], &[])]);
    assert!(
        !all(output.path()).is_measured(),
        "a minute without canaries answers nothing"
    );
}

#[test]
fn a_corrupt_file_among_good_ones_is_named() {
    let output = tempfile::tempdir().unwrap();
    write(output.path(), "good", &[minute(0, &[10], &[20])]);
    let folder = output.path().join("lag_intervals/run_date=2026-11-21");
    for (name, bytes) in [("cut.parquet", &b"PAR1 and no more"[..]), ("empty.parquet", b"")] {
        std::fs::write(folder.join(name), bytes).unwrap();
        let told = refused(&[output.path()]);
        assert!(told.contains(name), "{told}");
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, text) in [
        ("empty.hlog", ""),
        (
            "foreign.hlog",
            "#[Histogram log format version 1.3]\n1.0,1.0,1.0,HISTFAAA\n",
        ),
        ("noise.hlog", "#[Run: r]\nsome words\n"),
        ("tagless.hlog", "#[Run: r]\n1.0,1.0,1.0,HISTFAAA\n"),
        ("cut.hlog", "#[Run: r]\nTag=a/b/c/d/e/low,1.0,1.0,1.0,HISTFAAA\n"),
        ("alone.hlog", "#[Run: r]\nTag=a/b/c/d/e/high,1.0,1.0,1.0,HISTFAAA\n"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
        let told = refused(&[output.path()]);
        assert!(told.contains(name), "{told}");
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn a_histogram_that_is_none_or_counts_too_many_is_refused() {
    let broken = LagInterval {
        hdr_low: "AAAA".to_owned(),
        ..minute(0, &[10], &[20])
    };
    let too_many = LagInterval {
        seen: 1,
        planned: 1,
        ..minute(0, &[10; 3], &[20; 3])
    };
    for interval in [broken, too_many] {
        let output = tempfile::tempdir().unwrap();
        write(output.path(), "bad", &[interval]);
        let told = refused(&[output.path()]);
        assert!(told.contains("-bad.parquet") && told.contains("hdr_low"), "{told}");
    }
}

#[test]
fn what_is_not_there_or_no_table_of_lag_is_named() {
    let output = tempfile::tempdir().unwrap();
    let absent = output.path().join("absent");
    assert!(refused(&[&absent]).contains("absent"));
    let text = output.path().join("notes.txt");
    std::fs::write(&text, "x").unwrap();
    assert!(refused(&[&text]).contains("notes.txt"));
    crate::tables::write_specimens(output.path()).unwrap();
    let folder = output.path().join("lag_samples/run_date=2026-11-20");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert!(
        refused(&[&file]).contains("lag_samples"),
        "a table that was named is not skipped in silence"
    );
}

#[test]
fn a_row_of_another_day_than_its_file_is_refused() {
    let output = tempfile::tempdir().unwrap();
    write(output.path(), "a", &[minute(0, &[10], &[20])]);
    let table = output.path().join("lag_intervals");
    std::fs::rename(table.join("run_date=2026-11-21"), table.join("run_date=2026-11-22")).unwrap();
    assert!(refused(&[output.path()]).contains("interval_start"));
}

#[test]
fn two_logs_of_one_run_that_contradict_each_other_are_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, low_us) in [(&one, 10), (&other, 11)] {
        let mut log = Hlog::create(folder.path(), samples::RUN_ID);
        let sample = sample(Some(low_us), Some(20), FinalState::Seen);
        log.sample(&sample, samples::MIDNIGHT_US).unwrap();
        log.finish(samples::MIDNIGHT_US + 1_000_000).unwrap();
    }
    assert!(refused(&[one.path(), other.path()]).contains("contradicts"));
}

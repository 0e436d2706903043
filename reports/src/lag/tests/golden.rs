//! A reader in another language (PyPI `hdrhistogram`) finds the percentiles that we find.

use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::lag::Hlog;

/// The Python of `scripts/install.sh test`.
fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home).expect("a cache folder: set HOME");
    cache.join("driftline/python/bin/python")
}

#[test]
fn another_language_reads_the_same_percentiles() {
    let output = tempfile::tempdir().unwrap();
    let mut log = Hlog::create(output.path(), samples::RUN_ID);
    // A hundred decades-wide values a minute for ten minutes, and one minute in which nothing settles.
    for index in 0..1_000_u64 {
        let minute = i64::try_from(index / 100).unwrap();
        let low_us = index * index * 7;
        let settled = sample(Some(low_us), Some(low_us + 900), FinalState::Seen);
        log.sample(&settled, samples::MIDNIGHT_US + minute * MINUTE_US).unwrap();
    }
    log.finish(samples::MIDNIGHT_US + 12 * MINUTE_US).unwrap();
    let path = output.path().join(format!("hlog/2026-11-21/{}.hlog", samples::RUN_ID));

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/hlog/read_hlog.py");
    let ran = Command::new(python())
        .args([script.as_ref(), path.as_os_str()])
        .output()
        .expect("the Python of scripts/install.sh test: run it once");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();

    let report = all(output.path());
    let spectrum = &report.routes[0];
    let tag = "payments/aurora/use1/usw2/usw2@probe-1";
    assert_eq!(read["start_seconds"], samples::MIDNIGHT_US / 1_000_000);
    assert_eq!(read["tags"][format!("{tag}/low")]["intervals"], 11);
    for (end, quantiles) in [("low", &spectrum.low), ("high", &spectrum.high)] {
        let theirs = &read["tags"][format!("{tag}/{end}")];
        assert_eq!(theirs["count"], 1_000, "{theirs}");
        for (name, rank, ours) in [
            ("p50", 500, quantiles.p50_us),
            ("p90", 900, quantiles.p90_us),
            ("p95", 950, quantiles.p95_us),
            ("p99", 990, quantiles.p99_us),
            ("p99.9", 999, quantiles.p99_9_us),
            ("p100", 1_000, quantiles.max_us),
        ] {
            let truth = (rank - 1) * (rank - 1) * 7 + if end == "high" { 900 } else { 0 };
            let bucket = theirs[name]["low"].as_u64().unwrap()..=theirs[name]["high"].as_u64().unwrap();
            assert!(bucket.contains(&truth), "{end} {name}: {truth} is not in {theirs}");
            // Both ends of the bucket: ours is the one that keeps a bound a bound.
            assert_eq!(theirs[name][end], ours.unwrap(), "{end} {name}: {theirs}");
        }
    }
}

//! Quantiles over many minutes against a truth made by hand.

use super::*;
use crate::lag::Gap;

/// Whether a quantile is the value, as far as three digits tell.
#[track_caller]
fn assert_near(found: Option<u64>, value: u64) {
    let found = found.expect("a bounded quantile");
    assert!(found.abs_diff(value) <= value / 1_000 + 1, "{found} instead of {value}");
}

#[test]
fn quantiles_of_many_minutes_are_those_of_all_canaries() {
    let output = tempfile::tempdir().unwrap();
    // 1,000 canaries of 1 ms, 2 ms .. 1,000 ms; the first minute has the 900 fast ones, the other two share the slow ones.
    let values: Vec<u64> = (1..=1_000).map(|ms| ms * 1_000).collect();
    let later: Vec<u64> = values.iter().map(|us| us + 5_000).collect();
    for (at, range) in [(0, 0..900), (1, 900..950), (2, 950..1_000)] {
        write(
            output.path(),
            &at.to_string(),
            &[minute(at, &values[range.clone()], &later[range])],
        );
    }
    let report = all(output.path());
    let [spectrum] = report.routes.as_slice() else {
        panic!("{report:?}")
    };
    let (low, high) = (&spectrum.low, &spectrum.high);
    for (found, ms) in [
        (low.p50_us, 500),
        (low.p90_us, 900),
        (low.p95_us, 950),
        (low.p99_us, 990),
        (low.p99_9_us, 999),
        (low.max_us, 1_000),
    ] {
        assert_near(found, ms * 1_000);
        assert!(found.unwrap() <= ms * 1_000, "the low end of a bucket");
    }
    for (found, ms) in [(high.p50_us, 505), (high.p99_us, 995), (high.max_us, 1_005)] {
        assert_near(found, ms * 1_000);
        assert!(found.unwrap() >= ms * 1_000, "the high end of a bucket");
    }
    // The average of the minutes' medians would be 783 ms.
    assert_eq!((spectrum.canaries, spectrum.bounded), (1_000, 1_000));
}

#[test]
fn the_highest_revision_counts_wherever_it_stands() {
    let first = with_pending(minute(0, &[10; 9], &[20; 9]), &[10; 9], 1, 3_000_000);
    let last = LagInterval {
        revision: 2,
        ..minute(0, &[10; 10], &[20; 10])
    };
    let between = LagInterval {
        revision: 1,
        ..with_pending(minute(0, &[10; 9], &[20; 9]), &[10; 9], 1, 60_000_000)
    };
    for order in [
        [&first, &last, &between],
        [&last, &between, &first],
        [&between, &first, &last],
    ] {
        let output = tempfile::tempdir().unwrap();
        for (part, interval) in order.into_iter().enumerate() {
            write(output.path(), &part.to_string(), std::slice::from_ref(interval));
        }
        let report = all(output.path());
        let spectrum = &report.routes[0];
        assert_eq!((spectrum.canaries, spectrum.observed.pending), (10, Some(0)));
        assert_eq!(spectrum.high.max_us, Some(20));
        assert_eq!((spectrum.observed.intervals, spectrum.observed.intervals_open), (1, 0));
    }
}

#[test]
fn the_same_interval_in_two_files_counts_once() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let interval = minute(0, &[10, 11], &[20, 21]);
    write(one.path(), "a", std::slice::from_ref(&interval));
    write(other.path(), "b", &[interval.clone(), minute(1, &[12], &[22])]);
    let paths = [
        one.path().to_owned(),
        other.path().to_owned(),
        one.path().join("lag_intervals"),
    ];
    let report = collect(&paths, &Filter::default()).unwrap();
    let spectrum = &report.routes[0];
    assert_eq!(
        (spectrum.canaries, spectrum.observed.seen, spectrum.observed.intervals),
        (3, 3, 2)
    );
}

#[test]
fn one_revision_that_says_two_things_is_refused() {
    let output = tempfile::tempdir().unwrap();
    write(output.path(), "a", &[minute(0, &[10], &[20])]);
    write(output.path(), "b", &[minute(0, &[10], &[9_000_000])]);
    let refused = collect(&[output.path().to_owned()], &Filter::default())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("contradicts") && refused.contains("-b.parquet"),
        "{refused}"
    );
}

#[test]
fn among_equal_revisions_the_newest_run_has_the_last_word() {
    let output = tempfile::tempdir().unwrap();
    let newer = "01a1fb67-1800-7000-8000-00000000000f";
    let rows = [LagIntervalRow::from_record(newer, &minute(0, &[10], &[9_000]))];
    replace_rows(output.path(), FileName::of_run(newer), rows).unwrap();
    write(output.path(), "a", &[minute(0, &[10], &[20])]);
    let report = all(output.path());
    assert_eq!(
        (report.routes[0].canaries, report.routes[0].high.max_us),
        (1, Some(9_007))
    );
}

#[test]
fn two_observers_stay_apart_and_two_epochs_do_not() {
    let output = tempfile::tempdir().unwrap();
    let restarted = LagInterval {
        epoch: "e2".to_owned(),
        ..minute(0, &[30], &[40])
    };
    let theirs = observed_by("use1@probe-2", minute(0, &[9_000], &[9_500]));
    write(output.path(), "a", &[minute(0, &[10], &[20]), restarted, theirs]);
    let report = all(output.path());
    let told: Vec<_> = report
        .routes
        .iter()
        .map(|spectrum| {
            (
                spectrum.observed.observer.as_str(),
                spectrum.canaries,
                spectrum.low.max_us,
            )
        })
        .collect();
    assert_eq!(told, [("use1@probe-2", 1, Some(9_000)), ("usw2@probe-1", 2, Some(30))]);
}

#[test]
fn a_rank_among_unseen_canaries_is_unbounded_and_at_least_their_age() {
    let output = tempfile::tempdir().unwrap();
    let stuck = with_pending(minute(0, &[10; 95], &[20; 95]), &[10; 95], 5, 31_000_000);
    write(output.path(), "a", &[stuck]);
    let report = all(output.path());
    let spectrum = &report.routes[0];
    assert_eq!(
        (spectrum.high.p95_us, spectrum.high.p99_us, spectrum.high.max_us),
        (Some(20), None, None)
    );
    assert_near(spectrum.low.p99_us, 31_000_000);
    assert_eq!((spectrum.canaries, spectrum.bounded), (100, 95));
    assert_eq!(spectrum.observed.oldest_unseen_us, Some(31_000_000));
}

#[test]
fn canaries_without_histogram_could_have_been_anything() {
    let output = tempfile::tempdir().unwrap();
    let bare = LagInterval {
        hdr_low: String::new(),
        hdr_high: String::new(),
        ..minute(1, &[10; 2], &[20; 2])
    };
    write(output.path(), "a", &[minute(0, &[10; 8], &[20; 8]), bare]);
    let report = all(output.path());
    let spectrum = &report.routes[0];
    assert_eq!(
        (
            spectrum.without_histogram,
            spectrum.observed.intervals_without_histogram
        ),
        (2, 1)
    );
    assert_eq!((spectrum.low.p50_us, spectrum.low.max_us), (Some(10), Some(10)));
    assert_eq!((spectrum.high.p50_us, spectrum.high.p90_us), (Some(20), None));
}

#[test]
fn time_that_nobody_observed_is_told() {
    let output = tempfile::tempdir().unwrap();
    let late = LagInterval {
        gap_us: 20_000_000,
        ..minute(10, &[10], &[20])
    };
    write(
        output.path(),
        "a",
        &[
            minute(0, &[10], &[20]),
            minute(1, &[10], &[20]),
            late,
            minute(11, &[10], &[20]),
        ],
    );
    let report = all(output.path());
    let observed = &report.routes[0].observed;
    let gap = Gap {
        from_us: samples::MIDNIGHT_US + 2 * MINUTE_US,
        length_us: 8 * MINUTE_US + 20_000_000,
    };
    assert_eq!((observed.longest_gaps.as_slice(), observed.gaps), (&[gap][..], 1));
    assert_eq!(observed.observed_us, 4 * MINUTE_US - 20_000_000);
}

#[test]
fn only_what_the_filter_holds_counts() {
    let output = tempfile::tempdir().unwrap();
    let minutes: Vec<_> = (-2..5).map(|at| minute(at, &[10], &[20])).collect();
    write(output.path(), "a", &minutes);
    let filter = Filter {
        from_us: Some(samples::MIDNIGHT_US - MINUTE_US),
        to_us: Some(samples::MIDNIGHT_US + 2 * MINUTE_US),
        routes: vec!["payments:use1->usw2".parse().unwrap()],
    };
    let report = collect(&[output.path().to_owned()], &filter).unwrap();
    assert_eq!(report.routes[0].observed.intervals, 3, "23:59, 00:00 and 00:01");
    assert_eq!(report.routes[0].observed.gaps, 0);
    let other = Filter {
        routes: vec!["orders".parse().unwrap()],
        ..Filter::default()
    };
    assert!(collect(&[output.path().to_owned()], &other).unwrap().routes.is_empty());
}

use std::time::Duration;

use super::*;
use crate::Route;

const S: u64 = 1_000_000;
/// 2026-11-21 09:00:30 UTC: an epoch begins in the middle of a minute.
const WALL: i64 = 1_795_251_630_000_000;

fn intervals() -> Intervals {
    let origin = Origin {
        route: Route {
            dataset: "orders".to_owned(),
            store: "memory".to_owned(),
            primary_site: "a".to_owned(),
            secondary_site: "b".to_owned(),
            observer: "b/test".to_owned(),
        },
        stream: "s".to_owned(),
        epoch: "e".to_owned(),
        anchor: Anchor::at(0, WALL),
    };
    Intervals::new(origin, Duration::from_secs(30))
}

fn at(now_us: u64) -> Moment {
    Moment {
        now_us,
        last_miss_us: None,
        native_lag_us: Some(0),
        is_end: false,
    }
}

fn seen(sequence: u64, planned_us: u64, low_us: u64, high_us: u64) -> Settled {
    Settled {
        sequence,
        planned_us,
        sent_us: planned_us,
        acked_us: Some(planned_us + 1_000),
        seen_us: Some(planned_us + high_us),
        low_us: Some(low_us),
        high_us: Some(high_us),
        low_known: true,
        state: FinalState::Seen,
    }
}

fn accounted(row: &LagInterval) -> u64 {
    row.skipped + row.write_failed + row.write_unknown + row.pending + row.seen + row.lost + row.superseded
}

#[test]
fn minutes_are_aligned_to_utc_and_final_when_all_is_settled() {
    let mut intervals = intervals();
    intervals.sent(1, 10 * S);
    intervals.acked(1, 10 * S + 1_000);
    intervals.settled(&seen(1, 10 * S, 3_000, 6_000));
    intervals.skipped(20 * S);
    assert!(intervals.revise(&at(29 * S)).is_empty(), "the minute is not over");
    let rows = intervals.revise(&at(32 * S));
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(row.interval_start_us, WALL - 30_000_000);
    assert_eq!((row.planned, row.seen, row.skipped), (2, 1, 1));
    assert_eq!(row.gap_us, 30 * S, "the probe did not run in the first half");
    assert_eq!((row.low.p50_us, row.high.max_us), (Some(3_000), Some(6_000)));
    assert!(row.is_final && row.revision == 0 && accounted(row) == row.planned);
    assert!(intervals.revise(&at(80 * S)).is_empty(), "final rows are not revised");
}

#[test]
fn an_open_canary_keeps_its_minute_open_and_costs_a_logarithmic_number_of_revisions() {
    let mut intervals = intervals();
    intervals.sent(1, 10 * S);
    intervals.acked(1, 10 * S + 1_000);
    let mut mine = Vec::new();
    for second in 30..3_600 {
        let moment = Moment {
            last_miss_us: Some(second * S - 500_000),
            ..at(second * S)
        };
        let rows = intervals.revise(&moment);
        mine.extend(
            rows.into_iter()
                .filter(|row| row.interval_start_us == WALL - 30_000_000),
        );
    }
    assert!((4..10).contains(&mine.len()), "{} revisions in an hour", mine.len());
    for (revision, row) in mine.iter().enumerate() {
        assert_eq!(row.revision, u64::try_from(revision).unwrap());
        assert!(!row.is_final);
        assert_eq!(row.pending, 1);
        assert_eq!(row.high.p50_us, None, "unbounded");
        assert_eq!(
            row.low.p50_us,
            row.oldest_unseen_us.map(|age| age - 500_000),
            "proved by the last poll only"
        );
    }
    assert_eq!(mine[0].overdue, 0);
    assert_eq!(mine[3].overdue, 1);
    intervals.settled(&seen(1, 10 * S, 3_590 * S, 3_591 * S));
    let last = intervals.revise(&at(3_602 * S));
    assert!(last.iter().any(|row| row.is_final && row.seen == 1 && row.pending == 0));
}

#[test]
fn a_minute_without_canaries_has_a_row_and_the_end_writes_what_is_left() {
    let mut intervals = intervals();
    intervals.sent(1, 100 * S);
    intervals.unknown(1);
    intervals.sent(2, 101 * S);
    assert_eq!(
        intervals
            .revise(&at(95 * S))
            .iter()
            .map(|row| row.planned)
            .collect::<Vec<_>>(),
        [0, 0]
    );
    let rows = intervals.revise(&Moment {
        is_end: true,
        ..at(105 * S)
    });
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].is_final);
    assert_eq!((rows[0].write_unknown, rows[0].pending, rows[0].planned), (1, 1, 2));
    assert_eq!(
        rows[0].gap_us,
        45 * S,
        "from the end of the probe to the end of the minute"
    );
    assert_eq!(rows[0].low.p50_us, Some(0), "one under way is in [0, +inf)");
}

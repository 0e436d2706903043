//! Records that tests render: small, whole, and the same every time.

use probes::{FinalState, LagInterval, LagSample, LossShape, Quantiles, Route, Rpo};
use stores::{Fork, Position};

use crate::{Event, EventKind};

/// 2026-11-21 00:00:00 UTC.
pub(crate) const MIDNIGHT_US: i64 = 1_795_219_200_000_000;
/// A UUIDv7 of that day.
pub(crate) const RUN_ID: &str = "01a1fb67-1800-7000-8000-000000000001";

pub(crate) fn route() -> Route {
    Route {
        dataset: "payments".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "use1".to_owned(),
        secondary_site: "usw2".to_owned(),
        observer: "usw2@probe-1".to_owned(),
    }
}

pub(crate) fn lag_sample() -> LagSample {
    LagSample {
        route: route(),
        stream: "orders-db".to_owned(),
        epoch: "e1".to_owned(),
        sequence: 17,
        planned_at_us: MIDNIGHT_US + 1_000_000,
        sent_at_us: Some(MIDNIGHT_US + 1_000_040),
        acked_at_us: Some(MIDNIGHT_US + 1_003_000),
        seen_at_us: None,
        lag_low_us: Some(8_000_000),
        lag_high_us: None,
        low_known: true,
        write_us: Some(2_960),
        late_us: Some(40),
        clock: "monotonic".to_owned(),
        clock_error_us: 0,
        state: FinalState::Lost,
    }
}

pub(crate) fn lag_interval() -> LagInterval {
    LagInterval {
        route: route(),
        epoch: "e1".to_owned(),
        interval_start_us: MIDNIGHT_US,
        interval_end_us: MIDNIGHT_US + 60_000_000,
        revision: 1,
        is_final: false,
        planned: 300,
        seen: 296,
        pending: 1,
        overdue: 1,
        lost: 1,
        superseded: 0,
        write_failed: 1,
        write_unknown: 0,
        skipped: 1,
        gap_us: 0,
        low: Quantiles {
            p50_us: Some(41_000),
            p90_us: Some(62_000),
            p95_us: Some(70_000),
            p99_us: Some(90_000),
            p99_9_us: Some(8_000_000),
            max_us: Some(8_000_000),
        },
        high: Quantiles {
            p50_us: Some(44_000),
            p90_us: Some(66_000),
            p95_us: Some(75_000),
            p99_us: Some(97_000),
            p99_9_us: None,
            max_us: None,
        },
        oldest_unseen_us: Some(31_000_000),
        native_lag_us: Some(12_000),
        hdr_low: "HISTFAAAAA==".to_owned(),
        hdr_high: String::new(),
    }
}

pub(crate) fn rpo() -> Rpo {
    let lost = lag_sample();
    let mut unknown = lag_sample();
    unknown.sequence = 18;
    unknown.acked_at_us = None;
    unknown.state = FinalState::WriteUnknown;
    Rpo {
        route: route(),
        event_id: "01a1fb67-1800-7000-8000-00000000e001".to_owned(),
        epoch: "e1".to_owned(),
        acked: 400,
        survived: 399,
        lost: 1,
        unknown: 1,
        first_lost_at_us: lost.acked_at_us,
        last_lost_at_us: lost.acked_at_us,
        rpo_low_us: 0,
        rpo_high_us: Some(1_400_000),
        ledger_complete_until_us: MIDNIGHT_US + 9_000_000,
        shape: LossShape::Suffix,
        canaries: vec![lost, unknown],
    }
}

pub(crate) fn event() -> Event {
    let fork = Fork {
        position: Some(Position(0x1_0500_0028)),
        at_low_us: MIDNIGHT_US + 900_000,
        at_high_us: MIDNIGHT_US + 1_000_000,
        evidence: "pg_last_wal_replay_lsn at usw2".to_owned(),
    };
    Event {
        event_id: "01a1fb67-1800-7000-8000-00000000e001".to_owned(),
        kind: EventKind::Failover,
        exercise: true,
        datasets: vec!["payments".to_owned()],
        from_site: "use1".to_owned(),
        to_site: "usw2".to_owned(),
        declared_at_us: MIDNIGHT_US,
        promoted_at_us: Some(MIDNIGHT_US + 2_000_000),
        traffic_shifted_at_us: None,
        verified_at_us: None,
        ended_at_us: None,
        forks: [("orders-db".to_owned(), fork)].into(),
        outcome: Some(String::new()),
        scenario: Some("region lost".to_owned()),
        executed_by: "incident lead".to_owned(),
        notes: String::new(),
        revision: 2,
    }
}

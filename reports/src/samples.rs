//! Records that tests render: small, whole, and the same every time.

use std::collections::BTreeMap;

use probes::{FinalState, LagInterval, LagSample, LossShape, Quantiles, Route, Rpo};
use reconcile::{
    Chunk, ChunkState, Counts, Coverage, CoverageState, Cut, Divergence, FenceKind, Frame, KeyDisclosure, Limits, Look,
    Origin, Plan, PlannedCollection, RowPlan, Settings, State, Work,
};
use stores::{
    ChunkDigest, Class, Collection, DigestMode, Fork, Identity, Key, KeyRange, KeyShape, Part, Position, Recipe,
    Relation, Role,
};

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

/// A plan of `public.orders` in three key ranges and of `public.audit`, which cannot be compared.
pub(crate) fn plan(disclosure: KeyDisclosure) -> Plan {
    let collection = Collection {
        name: "public.orders".to_owned(),
        kind: "table".to_owned(),
        columns: Vec::new(),
        key: KeyShape::Usable {
            columns: vec!["id".to_owned()],
            order_identity: Some("int8".to_owned()),
        },
        rows_estimate: Some(300),
        bytes: Some(8_192),
        unreadable: None,
        is_canary: false,
        ..Collection::default()
    };
    let rows = RowPlan {
        recipe: Recipe {
            mode: DigestMode::Pushdown,
            columns: vec!["id".to_owned(), "total".to_owned()],
            key_columns: vec!["id".to_owned()],
            seed: 7,
            expression: String::new(),
            column_expressions: Vec::new(),
            forms: Vec::new(),
        },
        known_answer: 0,
        cut: Cut::Ranges(vec![Key::int(100), Key::int(200)]),
        changed_at: None,
    };
    let planned = |name: &str, work| PlannedCollection {
        name: name.to_owned(),
        primary: Some(collection.clone()),
        secondary: Some(collection.clone()),
        settings: Settings::default(),
        scope: String::new(),
        schema: Vec::new(),
        schema_undecided: String::new(),
        not_comparable: Vec::new(),
        work,
    };
    Plan {
        run_id: RUN_ID.to_owned(),
        tool_version: "0.1.0".to_owned(),
        encoding_version: 1,
        planned_at_us: MIDNIGHT_US,
        primary_site: "use1".to_owned(),
        secondary_site: "usw2".to_owned(),
        primary: identity("a"),
        secondary: identity("b"),
        relation: Relation::Replicating,
        fence: FenceKind::Lsn,
        disclosure,
        key_hash_id: None,
        include_values: false,
        limits: Limits::default(),
        fork: None,
        look: Look::All,
        collections: vec![
            planned("public.orders", Work::Compare(Box::new(rows))),
            planned("public.audit", Work::NotVerified("no_usable_key".to_owned())),
        ],
        not_selected: Vec::new(),
    }
}

fn identity(instance: &str) -> Identity {
    Identity {
        store: "aurora".to_owned(),
        version: "15.14".to_owned(),
        role: Role::Writable,
        lineage: None,
        instance: instance.to_owned(),
        shares_storage_with: Vec::new(),
        facts: BTreeMap::new(),
    }
}

pub(crate) fn plan_frame(disclosure: KeyDisclosure) -> Frame {
    Frame::Plan {
        run_id: RUN_ID.to_owned(),
        plan: serde_json::to_string(&plan(disclosure)).unwrap(),
    }
}

/// Chunk `chunk_id` of `public.orders`.
pub(crate) fn chunk(chunk_id: u64, state: ChunkState) -> Chunk {
    let ranges = KeyRange::ALL.cut(&[Key::int(100), Key::int(200)]);
    let digest = |sum| Some(ChunkDigest { count: 100, sum });
    Chunk {
        collection: "public.orders".to_owned(),
        chunk_id,
        part: Part::Range(ranges[usize::try_from(chunk_id).unwrap() % 3].clone()),
        primary: digest(17),
        secondary: digest(if state == ChunkState::Equal { 17 } else { 18 }),
        mode: DigestMode::Pushdown,
        seed: 7,
        state,
        attempts: 1,
        primary_us: Some(900),
        secondary_us: Some(1_100),
        read_at_us: MIDNIGHT_US + 1_000_000,
        error: String::new(),
    }
}

/// One confirmed lost write in chunk `chunk_id` of `public.orders`.
pub(crate) fn divergence(chunk_id: u64, id: u64) -> Divergence {
    Divergence {
        collection: "public.orders".to_owned(),
        chunk_id: Some(chunk_id),
        key: Some(format!("{{\"id\":{id}}}")),
        key_hash: None,
        class: Class::MissingOnSecondary,
        detail: String::new(),
        state: State::Confirmed,
        origin: Some(Origin::LostWrite),
        origin_evidence: "changed_at after the fork".to_owned(),
        columns: Vec::new(),
        primary_digest: Some(format!("{id:032x}")),
        secondary_digest: None,
        primary_value: None,
        secondary_value: None,
        primary_changed_at_us: Some(MIDNIGHT_US),
        secondary_changed_at_us: None,
        first_seen_at_us: MIDNIGHT_US + 2_000_000,
        last_rechecked_at_us: Some(MIDNIGHT_US + 3_000_000),
        rechecks: 2,
        explanation: "Only use1 has this row.".to_owned(),
        work_key: None,
    }
}

pub(crate) fn commit(chunk_id: Option<u64>) -> Frame {
    Frame::Commit {
        collection: "public.orders".to_owned(),
        chunk_id,
        counts: Counts::default(),
        finished_at_us: MIDNIGHT_US + 4_000_000,
    }
}

/// The result of `public.orders` after three equal chunks.
pub(crate) fn coverage() -> Coverage {
    Coverage {
        collection: "public.orders".to_owned(),
        primary_collection: Some("public.orders".to_owned()),
        secondary_collection: Some("public.orders".to_owned()),
        scope: String::new(),
        fence: "lsn".to_owned(),
        state: CoverageState::Verified,
        reason: String::new(),
        primary_rows: Some(300),
        secondary_rows: Some(300),
        primary_bytes: Some(8_192),
        secondary_bytes: None,
        canaries_excluded: 0,
        chunks_total: 3,
        chunks_equal: 3,
        chunks_different: 0,
        chunks_failed: 0,
        confirmed: 0,
        volatile: 0,
        unverified: 0,
        transient: 0,
        started_at_us: MIDNIGHT_US,
        finished_at_us: MIDNIGHT_US + 5_000_000,
    }
}

/// The result of `public.audit`, which could not be compared.
pub(crate) fn audit_coverage() -> Coverage {
    Coverage {
        collection: "public.audit".to_owned(),
        state: CoverageState::Failed,
        reason: "no_usable_key: public.audit has no primary key".to_owned(),
        primary_rows: None,
        secondary_rows: None,
        chunks_total: 0,
        chunks_equal: 0,
        ..coverage()
    }
}

/// A table that nobody asked for.
pub(crate) fn skipped_coverage() -> Coverage {
    Coverage {
        collection: "public.notes".to_owned(),
        state: CoverageState::Skipped,
        reason: "not_selected".to_owned(),
        ..audit_coverage()
    }
}

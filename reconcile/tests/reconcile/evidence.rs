//! What the evidence says of a divergence: origin, keys, values.

use std::collections::BTreeMap;

use reconcile::{ForkEvidence, KeyDisclosure, KeySecret, Origin, ReconcileError, Side};
use stores::{Fork, Relation};

use crate::outcome::{id, pair, request, run};
use crate::world::{Shared, World, column, lock};

const FORK_US: i64 = 1_000_000_000;

fn forked() -> Shared {
    let mut world = World::new((0..100).map(|key| (key, key)));
    for collection in [&mut world.primary_collection, &mut world.secondary_collection] {
        collection
            .as_mut()
            .unwrap()
            .columns
            .push(column("changed_at", "timestamptz"));
    }
    for copy in [&mut world.primary, &mut world.secondary] {
        copy.rows
            .values_mut()
            .for_each(|cell| cell.changed_at_us = Some(FORK_US - 60_000_000));
    }
    world.share()
}

/// The new side is the primary: it takes writes now. The secondary came back.
fn evidence(old_side: Side) -> ForkEvidence {
    ForkEvidence {
        fork: Fork {
            position: None,
            at_low_us: FORK_US,
            at_high_us: FORK_US,
            evidence: "last replayed transaction".to_owned(),
        },
        old_side,
        longest_transaction_us: 1_000,
    }
}

#[tokio::test(start_paused = true)]
async fn lost_writes_new_writes_and_conflicts_are_told_apart() {
    for old_side in [Side::Primary, Side::Secondary] {
        let world = forked();
        {
            let mut world = lock(&world);
            let world = &mut *world;
            let (old, new) = match old_side {
                Side::Primary => (&mut world.primary, &mut world.secondary),
                Side::Secondary => (&mut world.secondary, &mut world.primary),
            };
            let write = |copy: &mut crate::world::Copy, key: i64, value: i64| {
                copy.put(key, value, 3, 0);
                copy.rows.get_mut(&key).unwrap().changed_at_us = Some(FORK_US + 5);
            };
            write(old, 10, -1);
            write(old, 500, 1);
            write(new, 20, -1);
            write(new, 600, 1);
            write(old, 30, -1);
            write(new, 30, -2);
            old.rows.remove(&40);
            new.rows.get_mut(&50).unwrap().value = -1;
        }
        let mut request = request(&world);
        request.selected[0].settings.changed_at = Some("changed_at".to_owned());
        request.fork = Some(evidence(old_side));
        let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
        let found: BTreeMap<_, _> = outcome
            .divergences()
            .map(|one| (id(one.key.as_deref().unwrap()), one.origin.unwrap()))
            .collect();
        let expected = [
            (10, Origin::LostWrite),
            (500, Origin::LostWrite),
            (20, Origin::NewWrite),
            (600, Origin::NewWrite),
            (30, Origin::Conflict),
            (40, Origin::Unknown),
            (50, Origin::Unknown),
        ];
        assert_eq!(found, BTreeMap::from(expected), "old side: {old_side:?}");
        assert_eq!(outcome.summary.counts.origins[&Origin::LostWrite], 2);
        let lost = outcome
            .divergences()
            .find(|one| one.key.as_deref() == Some(r#"{"id":10}"#))
            .unwrap();
        assert!(lost.explanation.ends_with("a lost write."), "{}", lost.explanation);
        assert!(
            lost.origin_evidence.contains("by last replayed transaction"),
            "{}",
            lost.origin_evidence
        );
        let changed_at = match old_side {
            Side::Primary => lost.primary_changed_at_us,
            Side::Secondary => lost.secondary_changed_at_us,
        };
        assert_eq!(changed_at, Some(FORK_US + 5));
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_event_there_is_no_origin() {
    let world = forked();
    lock(&world).secondary.rows.remove(&1);
    let outcome = run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap();
    let divergence = outcome.divergences().next().unwrap();
    assert_eq!((divergence.origin, divergence.origin_evidence.as_str()), (None, ""));
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_appear_only_as_asked_for() {
    let world = World::new((0..100).map(|key| (key, key))).share();
    lock(&world).secondary.put(7, 123_456, 3, 0);
    let pair = pair(&world, Relation::Independent);
    let mut request = request(&world);
    request.include_values = true;
    let outcome = run(&pair, &request).await.unwrap();
    let divergence = outcome.divergences().next().unwrap();
    assert_eq!(divergence.key.as_deref(), Some(r#"{"id":7}"#));
    assert_eq!(
        divergence.secondary_value.as_deref(),
        Some(r#"{"id":"7","value":"123456"}"#)
    );

    request.include_values = false;
    request.disclosure = KeyDisclosure::Hashed;
    request.key_hash = Some(KeySecret::new("a test's secret"));
    let outcome = run(&pair, &request).await.unwrap();
    let divergence = outcome.divergences().next().unwrap();
    assert_eq!(divergence.key, None);
    assert_eq!(divergence.key_hash.as_ref().map(String::len), Some(64));
    assert!(divergence.primary_value.is_none() && divergence.secondary_value.is_none());
    assert_eq!(outcome.plan().disclosure, KeyDisclosure::Hashed);
    let frames = serde_json::to_string(&outcome.frames).unwrap();
    assert!(!frames.contains("test's secret") && !frames.contains("123456"));

    request.disclosure = KeyDisclosure::None;
    let outcome = run(&pair, &request).await.unwrap();
    let divergence = outcome.divergences().next().unwrap();
    assert_eq!((&divergence.key, &divergence.key_hash), (&None, &None));

    request.disclosure = KeyDisclosure::Hashed;
    request.key_hash = None;
    let error = run(&pair, &request).await.unwrap_err();
    assert!(matches!(error, ReconcileError::Request(_)), "{error}");
}

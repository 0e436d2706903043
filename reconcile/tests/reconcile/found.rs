//! What is planted is found, with its class, and nothing else.

use std::collections::BTreeMap;

use reconcile::{ChunkState, CoverageState, State};
use stores::{Class, KeyShape, Relation};

use crate::outcome::{pair, request, run};
use crate::world::{Shared, World, lock};

const BOTH: [Relation; 2] = [Relation::Replicating, Relation::Independent];

fn table(rows: i64) -> World {
    World::new((0..rows).map(|key| (key, key * 7)))
}

/// One difference of each class that rows can have.
pub(crate) fn plant(world: &Shared) -> BTreeMap<i64, Class> {
    let mut world = lock(world);
    let secondary = &mut world.secondary;
    secondary.rows.remove(&3);
    secondary.put(-5, 1, 3, 0);
    secondary.put(1_000, 1, 3, 0);
    secondary.put(50, 999, 3, 0);
    // Two rows of one chunk swap their values.
    secondary.put(60, 61 * 7, 3, 0);
    secondary.put(61, 60 * 7, 3, 0);
    secondary.rows.get_mut(&70).unwrap().copies = 2;
    BTreeMap::from([
        (3, Class::MissingOnSecondary),
        (-5, Class::MissingOnPrimary),
        (1_000, Class::MissingOnPrimary),
        (50, Class::Different),
        (60, Class::Different),
        (61, Class::Different),
        (70, Class::Duplicate),
    ])
}

#[tokio::test(start_paused = true)]
async fn equal_copies_are_equal() {
    for relation in BOTH {
        let world = table(100).share();
        let outcome = run(&pair(&world, relation), &request(&world)).await.unwrap();
        assert_eq!(outcome.summary.exit_code(), 0);
        assert_eq!(outcome.divergences().count(), 0);
        assert_eq!(outcome.chunks().count(), 4);
        let coverage = outcome.coverage().next().unwrap();
        assert_eq!(coverage.state, CoverageState::Verified);
        assert_eq!((coverage.primary_rows, coverage.secondary_rows), (Some(100), Some(100)));
        assert_eq!(
            lock(&world).links_proved,
            0,
            "nothing is written where nothing has to be proved"
        );
        assert!(outcome.summary.miss_probability > 0.0 && outcome.summary.miss_probability < 1e-15);
    }
}

#[tokio::test(start_paused = true)]
async fn each_class_is_found_with_its_key() {
    for relation in BOTH {
        let world = table(100).share();
        let planted = plant(&world);
        let outcome = run(&pair(&world, relation), &request(&world)).await.unwrap();
        assert_eq!(outcome.confirmed(), planted);
        assert_eq!(outcome.summary.exit_code(), 1);
        assert!(outcome.summary.complete, "shown to differ is not left open");
        let coverage = outcome.coverage().next().unwrap();
        assert_eq!(coverage.state, CoverageState::Diverged);
        assert_eq!(coverage.confirmed, 7);
        let different = outcome.divergences().find(|one| one.class == Class::Different).unwrap();
        assert_eq!(different.columns, ["value"]);
        assert_eq!(different.primary_digest.as_ref().map(String::len), Some(32));
        assert_eq!(different.primary_value, None, "values only when asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_side_is_all_missing() {
    let world = table(60).share();
    lock(&world).secondary.rows.clear();
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 60);
    assert!(
        outcome
            .confirmed()
            .values()
            .all(|class| *class == Class::MissingOnSecondary)
    );

    let world = table(60).share();
    lock(&world).primary.rows.clear();
    let outcome = run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 60);
    assert_eq!(outcome.chunks().count(), 1, "the one range is open at both ends");
}

#[tokio::test(start_paused = true)]
async fn keys_are_bucketed_where_the_sides_order_them_otherwise() {
    let world = table(100).share();
    let planted = plant(&world);
    {
        let mut world = lock(&world);
        let mut other = world.secondary_collection.clone().unwrap();
        other.rows_estimate = Some(3_000_001);
        let KeyShape::Usable { order_identity, .. } = &mut other.key else {
            panic!("the key is usable");
        };
        *order_identity = Some("another order".to_owned());
        world.secondary_collection = Some(other);
    }
    let outcome = run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed(), planted);
    assert_eq!(outcome.chunks().count(), 4);
    assert!(
        outcome
            .chunks()
            .all(|chunk| matches!(chunk.part, stores::Part::Bucket { of: 4, .. }))
    );
}

#[tokio::test(start_paused = true)]
async fn seeds_differ_from_run_to_run() {
    let world = table(10).share();
    let pair = pair(&world, Relation::Independent);
    for _ in 0..8 {
        run(&pair, &request(&world)).await.unwrap();
    }
    assert_eq!(lock(&world).seeds.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_differences_pass_through_a_bounded_join() {
    let world = table(12_000).share();
    {
        let mut world = lock(&world);
        for key in 0..10_000 {
            let cell = world.secondary.rows.get_mut(&key).unwrap();
            cell.value += 1;
        }
    }
    let mut request = request(&world);
    request.limits.rows_per_chunk = 1_000_000;
    // About 500 keys at a time.
    request.limits.narrow_bytes_max = 60_000;
    let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
    assert_eq!(outcome.chunks().count(), 1);
    assert_eq!(outcome.summary.counts.confirmed, 10_000);
    assert_eq!(
        outcome.confirmed().len(),
        10_000,
        "each key once, although the chunk was read in many passes"
    );
    assert!(lock(&world).lists > 2 * 20, "{} listings", lock(&world).lists);
}

#[tokio::test(start_paused = true)]
async fn a_cap_stops_the_listing_and_never_the_counting() {
    // In one shard, which stops by itself, and in shards of which none comes to the cap alone.
    for rows_per_shard in [200, 20] {
        let world = table(200).share();
        lock(&world).secondary.rows.clear();
        let mut request = request(&world);
        request.limits.listed_max = Some(30);
        request.limits.rows_per_chunk = 10;
        request.limits.rows_per_shard = rows_per_shard;
        let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
        assert_eq!(outcome.divergences().count(), 30);
        assert_eq!(outcome.summary.counts.confirmed, 200);
        assert_eq!(outcome.summary.counts.not_listed, 170);
        assert_eq!(outcome.coverage().next().unwrap().confirmed, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_difference_that_the_listings_hide_is_never_equal() {
    let world = table(50).share();
    {
        let mut world = lock(&world);
        world.secondary.rows.remove(&10);
        world.faults.unlisted = Some(10);
    }
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.summary.exit_code(), 3);
    let chunk = outcome.chunks().find(|chunk| chunk.chunk_id == 0).unwrap();
    assert_eq!(chunk.state, ChunkState::Failed);
    assert!(chunk.error.starts_with("kept_changing"), "{}", chunk.error);
    assert_eq!(outcome.keys(State::Confirmed).len(), 0);
}

//! Of a chunk that differs, only the sub-ranges that do are listed, where their digests are proof.

use std::collections::BTreeMap;
use std::sync::Arc;

use reconcile::Event;
use stores::{Class, Relation};
use tokio_util::sync::CancellationToken;

use crate::outcome::{Outcome, pair, request, run, run_until};
use crate::world::{Change, Shared, World, lock};

const ROWS: i64 = 4_000;
/// Of one sub-range, if all have like many: the chunk is cut into as many as it may be.
const ROWS_OF_ONE: usize = 125;

fn table() -> World {
    World::new((0..ROWS).map(|key| (key, key * 7)))
}

/// Three differences in three sub-ranges that are no neighbours.
fn plant(world: &mut World) -> BTreeMap<i64, Class> {
    world.secondary.rows.remove(&3);
    world.secondary.put(2_010, 999, 3, 0);
    world.secondary.put(ROWS, 1, 3, 0);
    BTreeMap::from([
        (3, Class::MissingOnSecondary),
        (2_010, Class::Different),
        (ROWS, Class::MissingOnPrimary),
    ])
}

async fn whole(world: &Shared, relation: Relation) -> Outcome {
    let mut request = request(world);
    request.limits.rows_per_chunk = 10_000;
    request.limits.rows_per_subrange = 100;
    run(&pair(world, relation), &request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn only_rows_of_subranges_that_differ_are_listed() {
    for (relation, tells_moments) in [(Relation::Replicating, false), (Relation::Independent, true)] {
        let mut world = table();
        world.faults.tells_moments = tells_moments;
        let planted = plant(&mut world);
        let world = world.share();
        let outcome = whole(&world, relation).await;
        assert_eq!(outcome.confirmed(), planted, "{relation:?}");
        let world = lock(&world);
        assert_eq!(world.lists, 2 * 3, "{relation:?}");
        assert!(
            (2 * ROWS_OF_ONE..=2 * 3 * ROWS_OF_ONE + 2).contains(&world.rows_listed),
            "{relation:?}: {} rows",
            world.rows_listed
        );
    }
}

#[tokio::test(start_paused = true)]
async fn neighbours_that_differ_are_one_listing() {
    let mut world = table();
    for key in [1_100, 1_200, 1_300] {
        world.secondary.put(key, -1, 3, 0);
    }
    let world = world.share();
    let outcome = whole(&world, Relation::Replicating).await;
    assert_eq!(outcome.confirmed().len(), 3);
    assert_eq!(lock(&world).lists, 2);
    assert!(
        lock(&world).rows_listed <= 2 * 3 * ROWS_OF_ONE,
        "{}",
        lock(&world).rows_listed
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_link_equal_digests_of_two_instants_hide_nothing() {
    // Nobody can say that nothing changed: because it cannot tell, or because both sides go on.
    for (tells_moments, goes_on) in [(false, false), (true, true)] {
        let mut world = table();
        world.faults.tells_moments = tells_moments;
        let planted = plant(&mut world);
        if goes_on {
            world.secondary_delay = Some(0);
            world.workload = Box::new(|_| vec![Change::Delete(ROWS + 100)]);
        }
        let world = world.share();
        let outcome = whole(&world, Relation::Independent).await;
        assert_eq!(outcome.confirmed(), planted);
        let rows = usize::try_from(ROWS).unwrap();
        assert_eq!(lock(&world).rows_listed, rows + rows, "goes on: {goes_on}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_most_of_it_differs_all_of_it_is_listed_at_once() {
    let mut world = table();
    for key in (0..ROWS).step_by(100) {
        world.secondary.put(key, -1, 3, 0);
    }
    let world = world.share();
    let outcome = whole(&world, Relation::Replicating).await;
    assert_eq!(outcome.confirmed().len(), 40);
    assert_eq!(lock(&world).lists, 2);
}

#[tokio::test(start_paused = true)]
async fn digests_of_subranges_that_do_not_come_cost_a_listing_and_no_difference() {
    let mut world = table();
    let planted = plant(&mut world);
    // The chunk itself is read in time; its sub-ranges, and halves of them, are not.
    let world = world.share();
    let mut request = request(&world);
    request.limits.rows_per_chunk = 10_000;
    request.limits.rows_per_subrange = 100;
    request.limits.attempts_max = 1;
    let silenced = Arc::clone(&world);
    let outcome = run_until(
        &pair(&world, Relation::Replicating),
        &request,
        CancellationToken::new(),
        move |event| {
            if matches!(event, Event::Narrowing { .. }) {
                lock(&silenced).faults.secondary_digests_fail = 1;
            }
        },
    )
    .await
    .unwrap();
    assert_eq!(outcome.confirmed(), planted);
    assert_eq!(lock(&world).lists, 2);
}

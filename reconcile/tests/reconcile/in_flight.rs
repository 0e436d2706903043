//! What is in flight is no divergence, and a divergence among what is in flight is still found.

use std::collections::BTreeMap;

use reconcile::{ChunkState, CoverageState, Limits, Request, State};
use stores::{Class, Relation};

use crate::outcome::{Outcome, pair, request, run};
use crate::world::{Change, Shared, World, lock};

const ROWS: i64 = 400;
/// Keys below this are left alone by the workloads.
const HOT_FROM: i64 = 100;

/// The same numbers in every run.
fn draw(state: &mut u64) -> i64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    i64::try_from(*state >> 40).unwrap()
}

/// Updates of hot keys, and keys that are inserted and deleted in a loop: one change each `every` steps.
fn busy(seed: u64, every: u64) -> impl FnMut(u64) -> Vec<Change> + Send + 'static {
    let mut state = seed;
    let mut is_there: BTreeMap<i64, bool> = BTreeMap::new();
    move |step| {
        if step % every != 0 {
            return Vec::new();
        }
        let hot = HOT_FROM + draw(&mut state) % (ROWS - HOT_FROM);
        let looped = ROWS + draw(&mut state) % 20;
        let there = is_there.entry(looped).or_default();
        *there = !*there;
        let flip = if *there {
            Change::Put(looped, draw(&mut state))
        } else {
            Change::Delete(looped)
        };
        vec![Change::Add(hot, 1), flip]
    }
}

fn world(seed: u64, primary_delay: usize, secondary_delay: usize) -> Shared {
    let mut world = World::new((0..ROWS).map(|key| (key, key)));
    world.primary_delay = primary_delay;
    world.secondary_delay = Some(secondary_delay);
    world.workload = Box::new(busy(seed, 2));
    // Everything that is in flight at the start of a run that is under way.
    for _ in 0..200 {
        world.tick();
    }
    world.share()
}

fn plenty(world: &Shared) -> Request {
    let mut request = request(world);
    request.limits = Limits {
        rows_per_chunk: 40,
        rounds_max: 60,
        ..Limits::default()
    };
    request
}

fn assert_no_phantom(outcome: &Outcome, planted: &BTreeMap<i64, Class>, what: &str) {
    assert_eq!(&outcome.confirmed(), planted, "{what}");
    assert!(outcome.summary.counts.transient > 0, "{what}: something was in flight");
}

/// A lagging secondary, a secondary in step, and one that shows commits before the primary does.
const DELAYS: [(usize, usize); 5] = [(0, 40), (0, 7), (3, 3), (25, 2), (60, 0)];

#[tokio::test(start_paused = true)]
async fn rows_in_flight_are_no_divergences() {
    for (primary_delay, secondary_delay) in DELAYS {
        for seed in 0..12 {
            let world = world(seed, primary_delay, secondary_delay);
            let outcome = run(&pair(&world, Relation::Replicating), &plenty(&world))
                .await
                .unwrap();
            let what = format!("seed {seed}, delays {primary_delay} and {secondary_delay}");
            assert_eq!(outcome.confirmed(), BTreeMap::new(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn planted_differences_are_found_among_rows_in_flight() {
    for (primary_delay, secondary_delay) in DELAYS {
        for seed in 0..6 {
            let world = world(seed, primary_delay, secondary_delay);
            {
                let mut world = lock(&world);
                world.secondary.rows.remove(&5);
                world.secondary.put(-7, 0, 3, 0);
                world.secondary.rows.get_mut(&50).unwrap().value += 1;
                // On a hot row, too: updates add to what each side has. (By more than what is in flight, else it is equal to a
                // state that the primary shows.)
                world.secondary.rows.get_mut(&200).unwrap().value += 1_000;
            }
            let planted = BTreeMap::from([
                (5, Class::MissingOnSecondary),
                (-7, Class::MissingOnPrimary),
                (50, Class::Different),
                (200, Class::Different),
            ]);
            let outcome = run(&pair(&world, Relation::Replicating), &plenty(&world))
                .await
                .unwrap();
            assert_no_phantom(
                &outcome,
                &planted,
                &format!("seed {seed}, delays {primary_delay} and {secondary_delay}"),
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_counter_that_is_off_by_one_is_never_equal() {
    // In copies without a link both counters go on, in step or nearly so, and are read as equal now and then. (Where the second
    // follows later than a recheck takes, the two really are equal most of the time.)
    for secondary_delay in [0, 1, 2, 3, 5] {
        for (every, tells_moments) in [1, 2, 3, 4, 7, 11]
            .into_iter()
            .flat_map(|every| [(every, false), (every, true)])
        {
            let mut world = World::new((0..30).map(|key| (key, key)));
            world.secondary_delay = Some(secondary_delay);
            world.faults.tells_moments = tells_moments;
            world.workload = Box::new(move |step| {
                if step % every == 0 {
                    vec![Change::Add(17, 1)]
                } else {
                    Vec::new()
                }
            });
            world.secondary.rows.get_mut(&17).unwrap().value += 1;
            let world = world.share();
            let outcome = run(&pair(&world, Relation::Independent), &request(&world))
                .await
                .unwrap();
            let what = format!(
                "a change each {every} steps, the other side {secondary_delay} steps later, moments told: {tells_moments}"
            );
            assert_ne!(
                outcome.summary.exit_code(),
                0,
                "{what}: {:?}",
                outcome.coverage().next()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn copies_without_a_link_are_digested_once_where_one_of_them_stands_still() {
    // The primary goes on with a key that is not compared twice alike; the secondary applies nothing any more.
    for (is_still, tells_moments, looks) in [(true, true, 1), (true, false, 2), (false, true, 2)] {
        let mut world = World::new((0..5).map(|key| (key, key)));
        world.faults.tells_moments = tells_moments;
        world.secondary_delay = if is_still { None } else { Some(0) };
        // A deletion of what is not there: something happened, and nothing is another.
        world.workload = Box::new(|_| vec![Change::Delete(100)]);
        let world = world.share();
        let outcome = run(&pair(&world, Relation::Independent), &request(&world))
            .await
            .unwrap();
        assert_eq!(outcome.summary.exit_code(), 0, "{:?}", outcome.coverage().next());
        for side in ["primary", "secondary"] {
            let seen = lock(&world).looks.iter().filter(|(at, _)| *at == side).count();
            assert_eq!(
                seen,
                looks * outcome.chunks().count(),
                "{side}, still: {is_still}, told: {tells_moments}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_never_rests_is_volatile() {
    let mut world = World::new((0..30).map(|key| (key, key)));
    world.secondary_delay = Some(4);
    world.workload = Box::new(|_| vec![Change::Add(17, 1)]);
    let world = world.share();
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.keys(State::Volatile).keys().copied().collect::<Vec<_>>(), [17]);
    assert_eq!(outcome.summary.exit_code(), 3);
    let chunk = outcome.chunks().find(|chunk| chunk.chunk_id == 0).unwrap();
    assert_eq!(
        (chunk.state, chunk.error.as_str()),
        (ChunkState::Failed, "undecided: 1 volatile and 0 unverified keys")
    );
    assert_eq!(outcome.coverage().next().unwrap().state, CoverageState::Partial);
    assert!(
        outcome
            .divergences()
            .all(|one| one.explanation.contains("no conclusion after 16 rechecks"))
    );
}

#[tokio::test(start_paused = true)]
async fn each_vote_has_a_fence_of_its_own_between_its_readings() {
    let world = World::new((0..30).map(|key| (key, key))).share();
    lock(&world).secondary.rows.remove(&3);
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 1);
    // The first bracket is thrown away: the link is proved behind it.
    let bracket = ["read primary", "point", "wait", "read secondary", "read primary"];
    let begun = &bracket[1..]; // with the last reading of the one before
    assert_eq!(lock(&world).calls, [&bracket, &bracket, begun].concat());

    let world = World::new((0..30).map(|key| (key, key))).share();
    lock(&world).secondary.rows.remove(&3);
    run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap();
    let bracket = ["read primary", "read secondary", "read primary", "read secondary"];
    let begun = &bracket[2..];
    assert_eq!(lock(&world).calls, [&bracket, begun].concat());
}

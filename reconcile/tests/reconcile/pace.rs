//! Rows that are kept, parts that are halved, and pauses.

use std::time::Duration;

use reconcile::{ChunkState, DigestChoice, Event, FenceKind, Limits, Pair, ReadsInFlight, Request, Stop};
use stores::{DigestMode, Part, Relation};
use tokio::time::Instant;

use crate::outcome::{pair, request, run};
use crate::world::{Shared, World, lock};

fn world(differing: impl IntoIterator<Item = i64>) -> Shared {
    let mut world = World::new((0..100).map(|key| (key, key)));
    world.keeps = true;
    for key in differing {
        world.secondary.put(key, -1, 3, 0);
    }
    world.share()
}

fn with(world: &Shared, digest: DigestChoice) -> Request {
    let mut request = request(world);
    request.limits.pace.digest = digest;
    request.limits.chunks_in_flight = 1;
    request
}

fn looks(world: &Shared, side: &str) -> usize {
    lock(world).looks.iter().filter(|(at, _)| *at == side).count()
}

#[tokio::test(start_paused = true)]
async fn rows_that_were_hashed_here_are_not_read_a_second_time() {
    let world = world([3, 4, 30, 99]);
    let pair = pair(&world, Relation::Replicating);
    let outcome = run(&pair, &with(&world, DigestChoice::Client)).await.unwrap();
    assert_eq!(outcome.confirmed().into_keys().collect::<Vec<_>>(), [3, 4, 30, 99]);
    assert!(outcome.chunks().all(|chunk| chunk.mode == DigestMode::Client));
    assert_eq!(lock(&world).lists, 0, "nothing was listed");
    assert_eq!((looks(&world, "primary"), looks(&world, "secondary")), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn rows_that_do_not_fit_are_listed() {
    let world = world([3, 4, 30, 99]);
    let pair = pair(&world, Relation::Replicating);
    let mut request = with(&world, DigestChoice::Client);
    request.limits.pace.keep_bytes_max = 100;
    let outcome = run(&pair, &request).await.unwrap();
    assert_eq!(outcome.confirmed().into_keys().collect::<Vec<_>>(), [3, 4, 30, 99]);
    assert_eq!(lock(&world).lists, 6, "three chunks, both sides");
}

#[tokio::test(start_paused = true)]
async fn when_chunks_keep_differing_they_are_read_with_their_rows() {
    let world = world((0..100).step_by(5));
    let pair = pair(&world, Relation::Replicating);
    let mut request = with(&world, DigestChoice::Pushdown);
    request.limits.rows_per_chunk = 10;
    let outcome = run(&pair, &request).await.unwrap();
    assert_eq!(outcome.confirmed().len(), 20);
    assert!(outcome.chunks().all(|chunk| chunk.state == ChunkState::Different));
    assert_eq!(lock(&world).lists, 4, "of the first two chunks alone");
}

#[tokio::test(start_paused = true)]
async fn ends_that_hash_a_known_row_differently_are_not_compared_in_any_mode() {
    let world = world([]);
    lock(&world).faults.known_answer_differs = true;
    let pair = pair(&world, Relation::Replicating);
    for digest in [DigestChoice::Auto, DigestChoice::Pushdown, DigestChoice::Client] {
        let outcome = run(&pair, &with(&world, digest)).await.unwrap();
        assert_eq!(outcome.summary.exit_code(), 3);
        let reason = &outcome.coverage().next().unwrap().reason;
        assert!(reason.starts_with("digest_differs"), "{reason}");
    }
    lock(&world).faults.known_answer_differs = false;
    lock(&world).keeps = false;
    let outcome = run(&pair, &with(&world, DigestChoice::Client)).await.unwrap();
    let reason = &outcome.coverage().next().unwrap().reason;
    assert!(reason.starts_with("unsupported"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_replay_cancels_is_read_in_halves_at_that_side_alone() {
    for (most, relation) in [(7, Relation::Replicating), (13, Relation::Independent)] {
        for digest in [DigestChoice::Pushdown, DigestChoice::Client] {
            let world = world([42]);
            lock(&world).faults.secondary_cancels_above = Some(most);
            let pair = pair(&world, relation);
            let outcome = run(&pair, &with(&world, digest)).await.unwrap();
            assert_eq!(outcome.confirmed().into_keys().collect::<Vec<_>>(), [42]);
            assert!(outcome.summary.complete, "{:?}", outcome.summary.coverage);
            assert!(outcome.chunks().all(|chunk| chunk.secondary.unwrap().count == 25));
            let whole = |side: &str| {
                let looks = &lock(&world).looks;
                looks
                    .iter()
                    .filter(|(at, _)| *at == side)
                    .map(|(_, part)| part.clone())
                    .collect::<Vec<Part>>()
            };
            let (ours, theirs) = (whole("primary"), whole("secondary"));
            assert!(
                ours.len() < theirs.len(),
                "the primary is read whole: {} and {}",
                ours.len(),
                theirs.len()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_stays_cancelled_fails_and_is_never_equal() {
    let world = world([]);
    lock(&world).faults.secondary_cancels_above = Some(0);
    let pair = pair(&world, Relation::Replicating);
    let outcome = run(&pair, &with(&world, DigestChoice::Auto)).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 3);
    assert!(outcome.chunks().all(|chunk| chunk.state == ChunkState::Failed));
    assert!(looks(&world, "secondary") < 100, "tries are bounded");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_over_all_chunks() {
    let world = world([]);
    let pair = pair(&world, Relation::Replicating);
    let mut request = with(&world, DigestChoice::Auto);
    request.limits.pace.rows_per_second = Some(10);
    request.limits.rows_per_chunk = 5;
    request.limits.chunks_in_flight = 4;
    let begun = Instant::now();
    let outcome = run(&pair, &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 0);
    // 100 rows, 10 a second; what is in flight together waits for one instant.
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_secs(12),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_chunk_begins_while_the_sides_are_busy() {
    let world = world([]);
    // At work for the first five looks.
    lock(&world).active_sessions = Some(|_, asked| if asked <= 5 { 9 } else { 3 });
    let pair = pair(&world, Relation::Replicating);
    let mut request = with(&world, DigestChoice::Auto);
    request.limits.pace.max_load = Some(4);
    let begun = Instant::now();
    let outcome = run(&pair, &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 0);
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());

    let at_primary: fn(&'static str, u64) -> u64 = |side, _| if side == "primary" { 9 } else { 3 };
    let at_secondary: fn(&'static str, u64) -> u64 = |side, _| if side == "secondary" { 9 } else { 3 };
    for active in [Some(at_primary), Some(at_secondary), None] {
        lock(&world).active_sessions = active;
        lock(&world).looks.clear();
        let outcome = run(&pair, &request).await.unwrap();
        assert_eq!(outcome.summary.exit_code(), 3, "never equal");
        assert!(outcome.chunks().all(|chunk| chunk.error.starts_with("busy: ")));
        assert!(lock(&world).looks.is_empty(), "nothing was read");
    }
}

#[tokio::test(start_paused = true)]
async fn no_chunk_begins_while_the_secondary_is_behind_or_does_not_tell() {
    let world = world([]);
    let mut request = with(&world, DigestChoice::Auto);
    request.limits.pace.max_lag = Some(Duration::from_secs(10));
    let passes = lock(&world).wait_steps;
    for (lag_us, wait_steps, relation, code) in [
        (Some(9_000_000), 0, Relation::Replicating, 0),
        (Some(11_000_000), 0, Relation::Replicating, 3),
        (None, 0, Relation::Replicating, 3),
        (None, 0, Relation::Independent, 0),
        // It is seen to be there, whatever it says of itself.
        (Some(11_000_000), passes, Relation::Replicating, 0),
        (None, passes, Relation::Replicating, 0),
    ] {
        {
            let mut world = lock(&world);
            (world.lag_us, world.wait_steps) = (lag_us, wait_steps);
        }
        let outcome = run(&pair(&world, relation), &request).await.unwrap();
        assert_eq!(
            outcome.summary.exit_code(),
            code,
            "{lag_us:?} {wait_steps} {relation:?}"
        );
        let tried = "and it did not reach within 10s what the primary had written";
        assert!(outcome.chunks().all(|chunk| code == 0 || chunk.error.ends_with(tried)));
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_position_tells_only_the_secondary_s_own_word_counts() {
    let world = world([]);
    lock(&world).lag_us = None;
    let mut request = with(&world, DigestChoice::Auto);
    request.limits.pace.max_lag = Some(Duration::from_secs(10));
    let by_time = Pair {
        fence: FenceKind::Time,
        ..pair(&world, Relation::Replicating)
    };
    let outcome = run(&by_time, &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 3);
    assert!(outcome.chunks().all(|chunk| chunk.error.starts_with("busy: ")));
    let only = "does not tell its lag";
    assert!(
        outcome.chunks().all(|chunk| chunk.error.ends_with(only)),
        "no more was tried"
    );
}

/// How long a row takes at the primary and at the secondary, by who hashes it.
type Takes = fn(&'static str, DigestMode) -> Duration;

/// Microseconds a row: by the servers, then here.
fn takes_us(side: &str, mode: DigestMode, pushdown: [u64; 2], client: [u64; 2]) -> Duration {
    let us = if mode == DigestMode::Client { client } else { pushdown };
    Duration::from_micros(us[usize::from(side == "secondary")])
}

#[tokio::test(start_paused = true)]
async fn rows_are_hashed_where_the_slower_side_is_done_first_and_chunks_take_their_time() {
    let cases: [(Takes, DigestMode, usize); 5] = [
        (
            |side, mode| takes_us(side, mode, [500, 500], [250, 250]),
            DigestMode::Client,
            2,
        ),
        // It has to be worth its while.
        (
            |side, mode| takes_us(side, mode, [500, 500], [480, 480]),
            DigestMode::Pushdown,
            3,
        ),
        // The slower side counts, whichever it is.
        (
            |side, mode| takes_us(side, mode, [10, 1_000], [500, 500]),
            DigestMode::Client,
            3,
        ),
        (
            |side, mode| takes_us(side, mode, [1_000, 10], [500, 500]),
            DigestMode::Client,
            3,
        ),
        (
            |side, mode| takes_us(side, mode, [500, 500], [10, 1_000]),
            DigestMode::Pushdown,
            3,
        ),
    ];
    for (case, (takes, mode, chunks)) in cases.into_iter().enumerate() {
        let (ends, mut request) = measured(takes);
        let outcome = run(&ends, &request).await.unwrap();
        assert_eq!(outcome.summary.exit_code(), 0);
        assert!(outcome.chunks().all(|chunk| chunk.mode == mode), "case {case}");
        assert_eq!(outcome.chunks().count(), chunks, "case {case}");
        // Too small to be worth a look: as they are, by the servers.
        if case == 0 {
            request.limits.pace.measured_rows_min += 1;
            let outcome = run(&ends, &request).await.unwrap();
            assert_eq!(outcome.chunks().count(), 30);
            assert!(outcome.chunks().all(|chunk| chunk.mode == DigestMode::Pushdown));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_first_chunk_differs_rows_are_hashed_here_though_that_is_no_faster() {
    let alike: Takes = |side, mode| takes_us(side, mode, [500, 500], [500, 500]);
    for (differing, mode) in [(7, DigestMode::Client), (2_900, DigestMode::Pushdown)] {
        let (ends, request) = measured_with(alike, [differing]);
        let outcome = run(&ends, &request).await.unwrap();
        assert_eq!(outcome.confirmed().len(), 1);
        assert!(outcome.chunks().all(|chunk| chunk.mode == mode), "{differing}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_read_first_is_not_taken_to_be_slower_for_that() {
    let alike: Takes = |side, mode| takes_us(side, mode, [500, 500], [480, 480]);
    let (world, mut request) = measured_world(alike, []);
    let ends = pair(&world, Relation::Replicating);
    lock(&world).cold_takes = Duration::from_secs(1);
    // Looks that only measure: one for each way, and one more where the first may have been slower for no other reason.
    for (digest, mode, measuring) in [
        (DigestChoice::Auto, DigestMode::Pushdown, 3),
        (DigestChoice::Auto, DigestMode::Pushdown, 2),
        (DigestChoice::Client, DigestMode::Client, 1),
    ] {
        let before = looks(&world, "primary");
        request.limits.pace.digest = digest;
        let outcome = run(&ends, &request).await.unwrap();
        assert!(outcome.chunks().all(|chunk| chunk.mode == mode));
        assert_eq!(outcome.chunks().count(), 3, "nor are chunks smaller for that");
        assert_eq!(looks(&world, "primary") - before, 3 + measuring);
    }
}

/// 3,000 rows in 30 chunks, just enough to be measured.
fn measured(takes: Takes) -> (Pair, Request) {
    measured_with(takes, [])
}

/// The same, of which these differ.
fn measured_with(takes: Takes, differing: impl IntoIterator<Item = i64>) -> (Pair, Request) {
    let (world, request) = measured_world(takes, differing);
    (pair(&world, Relation::Replicating), request)
}

fn measured_world(takes: Takes, differing: impl IntoIterator<Item = i64>) -> (Shared, Request) {
    let mut world = World::new((0..3_000).map(|key| (key, key)));
    for key in differing {
        world.secondary.put(key, -1, 3, 0);
    }
    world.keeps = true;
    world.takes = Some(takes);
    for side in [&mut world.primary_collection, &mut world.secondary_collection] {
        side.as_mut().unwrap().rows_estimate = Some(3_000);
    }
    let world = world.share();
    let mut request = with(&world, DigestChoice::Auto);
    request.limits.rows_per_chunk = 100;
    request.limits.pace.measured_rows_min = 3_000;
    (world, request)
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_waits_for_its_rechecks_keeps_none_from_reading() {
    // One row of each chunk differs: each is voted on twice, a quarter of a second for each vote.
    let world = world((0..100).step_by(10));
    let pair = pair(&world, Relation::Independent);
    let mut request = with(&world, DigestChoice::Pushdown);
    request.limits.rows_per_chunk = 10;
    let begun = Instant::now();
    let outcome = run(&pair, &request).await.unwrap();
    assert_eq!(outcome.confirmed().len(), 10);
    // One after the other would be ten times the two votes.
    let one_by_one = request.limits.unfenced_gap * 2 * 10;
    assert!(begun.elapsed() < one_by_one / 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_too_many_keys_wait_for_their_rechecks_no_other_chunk_is_read() {
    // All ten rows of each of ten chunks differ.
    let mut took = Vec::new();
    for keys_max in [10, 1, 100] {
        let world = world(0..100);
        let pair = pair(&world, Relation::Independent);
        let mut request = with(&world, DigestChoice::Pushdown);
        request.limits.rows_per_chunk = 10;
        request.limits.chunks_in_flight = 1;
        request.limits.rechecked_keys_max = keys_max;
        let begun = Instant::now();
        let outcome = run(&pair, &request).await.unwrap();
        assert_eq!((outcome.summary.exit_code(), outcome.confirmed().len()), (1, 100));
        took.push(begun.elapsed());
    }
    let one_by_one = Limits::default().unfenced_gap * 2 * 10;
    assert!(took[0] >= one_by_one && took[1] >= one_by_one, "{took:?}");
    assert!(took[2] < one_by_one / 4, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_has_not_begun_to_read_is_none_that_comes_to_its_end() {
    let world = world([5]);
    let pair = pair(&world, Relation::Independent);
    let mut request = with(&world, DigestChoice::Pushdown);
    request.limits.rows_per_chunk = 10;
    let folder = tempfile::tempdir().unwrap();
    let stop = Stop::default();
    let soon = stop.soon.clone();
    let listener = move |event: Event| {
        if matches!(event, Event::Narrowing { .. }) {
            soon.cancel();
        }
    };
    let (summary, _) = reconcile::run(&pair, &request, folder.path(), listener, stop)
        .await
        .unwrap();
    assert!(!summary.complete);
    let read = lock(&world)
        .looks
        .iter()
        .filter(|(at, part)| *at == "primary" && *part != Part::ALL)
        .count();
    assert!((1..=2).contains(&read), "{read} parts were read");
}

#[tokio::test(start_paused = true)]
async fn a_side_that_bears_fewer_reads_gets_no_more() {
    let world = world([]);
    lock(&world).takes = Some(|_, _| Duration::from_millis(10));
    let pair = pair(&world, Relation::Replicating);
    let mut request = with(&world, DigestChoice::Pushdown);
    request.limits.rows_per_chunk = 5;
    request.limits.chunks_in_flight = 4;
    request.limits.reads_in_flight = ReadsInFlight {
        primary: 4,
        secondary: 2,
    };
    let outcome = run(&pair, &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 0);
    assert_eq!(lock(&world).reads_at_once, [4, 2]);
}

#[tokio::test(start_paused = true)]
async fn where_no_index_serves_ranges_of_keys_buckets_are_read() {
    let world = world([7]);
    for no_index_serves in [true, false] {
        {
            let mut world = lock(&world);
            world.faults.no_index_serves = no_index_serves;
            world.looks.clear();
        }
        let outcome = run(&pair(&world, Relation::Replicating), &with(&world, DigestChoice::Auto))
            .await
            .unwrap();
        assert_eq!(outcome.confirmed().len(), 1);
        let world = lock(&world);
        let in_buckets = world
            .looks
            .iter()
            .filter(|(_, part)| matches!(part, Part::Bucket { .. }));
        assert_eq!(in_buckets.count() > 0, no_index_serves);
    }
}

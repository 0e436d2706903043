//! What goes wrong is recorded, never equal, and never stops more than it must.

use std::collections::BTreeMap;
use std::time::Duration;

use reconcile::{ChunkState, CoverageState, Event, FenceKind, ReconcileError, State, Stop};
use stores::Relation;
use tokio_util::sync::CancellationToken;

use crate::outcome::{pair, request, run, run_until};
use crate::world::{Change, Shared, World, lock};

/// A pair with one planted difference.
fn planted() -> Shared {
    let world = World::new((0..100).map(|key| (key, key))).share();
    lock(&world).secondary.rows.remove(&40);
    world
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_place_of_the_end_of_a_listing_fails_the_chunk() {
    for fails_after in [0, 10, usize::MAX] {
        // The sides hold the same but for one row that only the primary has: were the error taken for the end, that row, and
        // nothing else, would be listed and confirmed as the only difference.
        let world = planted();
        lock(&world).faults.secondary_list_fails_after = Some(fails_after);
        let outcome = run(&pair(&world, Relation::Independent), &request(&world))
            .await
            .unwrap();
        assert_eq!(outcome.summary.exit_code(), 3);
        let chunk = outcome.chunks().find(|chunk| chunk.chunk_id == 1).unwrap();
        assert_eq!(chunk.state, ChunkState::Failed);
        assert!(
            chunk
                .error
                .contains("retryable: site usw2: list public.t: connection cut"),
            "{}",
            chunk.error
        );
        assert_eq!(
            outcome.divergences().count(),
            0,
            "nothing is claimed from half a listing"
        );
        let coverage = outcome.coverage().next().unwrap();
        assert_eq!(
            (coverage.state, coverage.chunks_failed, coverage.chunks_equal),
            (CoverageState::Partial, 1, 3)
        );
        assert!(
            coverage.reason.starts_with("chunks_failed: 1 of 4, first chunk 1: "),
            "{}",
            coverage.reason
        );
    }
}

#[tokio::test(start_paused = true)]
async fn passing_errors_are_tried_again_and_counted() {
    let world = planted();
    lock(&world).faults.secondary_digests_fail = 3;
    let mut request = request(&world);
    request.limits.chunks_in_flight = 1;
    let outcome = run(&pair(&world, Relation::Replicating), &request).await.unwrap();
    assert_eq!(outcome.confirmed().len(), 1);
    assert!(outcome.summary.complete);
    assert_eq!(outcome.chunks().map(|chunk| chunk.attempts).max(), Some(4));
}

#[tokio::test(start_paused = true)]
async fn silence_is_waited_for_and_not_for_ever() {
    let world = planted();
    lock(&world).faults.secondary_digests_silent = 3;
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 1);
    assert!(outcome.summary.complete);

    for silent_after in [0, 10] {
        let world = planted();
        lock(&world).faults.secondary_list_silent_after = Some(silent_after);
        let outcome = run(&pair(&world, Relation::Independent), &request(&world))
            .await
            .unwrap();
        assert_eq!(outcome.summary.exit_code(), 3);
        assert_eq!(outcome.divergences().count(), 0);
        let failed = outcome
            .chunks()
            .find(|chunk| chunk.state == ChunkState::Failed)
            .unwrap();
        assert!(
            failed.error.contains("unreachable: site usw2: wait for an answer"),
            "{}",
            failed.error
        );
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_stay_fail_their_chunks_and_the_run_goes_on() {
    let world = planted();
    lock(&world).faults.secondary_digests_fail = 4;
    let mut request = request(&world);
    request.limits.chunks_in_flight = 1;
    let outcome = run(&pair(&world, Relation::Replicating), &request).await.unwrap();
    let states: BTreeMap<_, _> = outcome.chunks().map(|chunk| (chunk.chunk_id, chunk.state)).collect();
    assert_eq!(
        states.into_values().collect::<Vec<_>>(),
        [
            ChunkState::Failed,
            ChunkState::Different,
            ChunkState::Equal,
            ChunkState::Equal
        ]
    );
    assert_eq!(outcome.summary.exit_code(), 1);
    assert!(
        !outcome.summary.complete,
        "1 beats 3, and what was not compared is still told"
    );
    assert_eq!(
        outcome.coverage().next().unwrap().primary_rows,
        None,
        "not all rows were counted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_times_out_gives_unverified() {
    let world = planted();
    {
        let mut world = lock(&world);
        world.wait_steps = 5;
        // The canary arrives; then applying stops.
        world.workload = Box::new(|step| {
            if step > 40 {
                vec![Change::Put(1_000, 1)]
            } else {
                Vec::new()
            }
        });
        world.secondary_delay = Some(30);
    }
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 0);
    assert_eq!(outcome.keys(State::Unverified).len(), 1);
    assert_eq!(outcome.summary.exit_code(), 3);
    let divergence = outcome.divergences().next().unwrap();
    assert!(
        divergence.explanation.contains("the fence timed out: site usw2"),
        "{}",
        divergence.explanation
    );
}

#[tokio::test(start_paused = true)]
async fn a_reading_behind_the_fence_is_not_trusted_whatever_the_wait_says() {
    for (lies, behind) in [(true, 0), (false, 1)] {
        let world = World::new((0..100).map(|key| (key, key))).share();
        {
            let mut world = lock(&world);
            world.faults.wait_lies = lies;
            world.faults.position_behind = behind;
            if lies {
                // Two seconds of updates behind: every hot row is in flight, and the wait says that nothing is.
                world.secondary_delay = Some(500);
                world.workload = Box::new(|step| {
                    if step < 60 {
                        vec![Change::Put(17, i64::try_from(step).unwrap())]
                    } else {
                        Vec::new()
                    }
                });
            } else {
                world.secondary.rows.remove(&40);
            }
        }
        let mut request = request(&world);
        request.limits.fence_patience = Duration::from_secs(3_600);
        let outcome = run(&pair(&world, Relation::Replicating), &request).await.unwrap();
        assert_eq!(outcome.confirmed().len(), 0, "lies: {lies}");
        let text = &outcome.divergences().next().unwrap().explanation;
        assert_eq!(outcome.keys(State::Unverified).len(), 1, "{text}");
        assert!(text.contains("not proved to have passed the fence"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_proved_link_nothing_is_confirmed() {
    // Said to replicate, and does not: canaries never arrive, though positions would pass.
    let world = planted();
    {
        let mut world = lock(&world);
        world.secondary_delay = None;
        world.faults.wait_lies = true;
        world.secondary.applied = 1_000_000;
        world.secondary.rows.remove(&80);
    }
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 0);
    let explanation = &outcome.divergences().next().unwrap().explanation;
    assert!(
        explanation.contains("the link from use1 to usw2 is not proved"),
        "{explanation}"
    );
    assert_eq!(lock(&world).links_proved, 1, "one canary, not one for each key");
}

#[tokio::test(start_paused = true)]
async fn the_link_is_proved_once_and_again_for_another_instance() {
    let world = planted();
    lock(&world).secondary.rows.remove(&80);
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 2);
    assert_eq!(lock(&world).links_proved, 1);

    let world = planted();
    lock(&world).secondary.rows.remove(&80);
    let pair = pair(&world, Relation::Replicating);
    let mut request = request(&world);
    request.limits.chunks_in_flight = 1;
    let restart = |event: &Event| {
        if matches!(event, Event::LinkProved { .. }) {
            let mut world = lock(&world);
            let step = world.step;
            world.faults.instance_changes_at.get_or_insert(step);
        }
    };
    let outcome = run_until(&pair, &request, CancellationToken::new(), restart)
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 2);
    assert_eq!(lock(&world).links_proved, 2);
    let proofs = outcome
        .events
        .iter()
        .filter(|event| matches!(event, Event::LinkProved { .. }));
    assert_eq!(proofs.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_is_seen_proves_the_link_however_its_write_ends() {
    let world = planted();
    lock(&world).faults.canaries_hang = true;
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    assert_eq!(outcome.confirmed().len(), 1);

    for (refused, confirmed) in [(4, 1), (5, 0)] {
        let world = planted();
        lock(&world).faults.canaries_refused = refused;
        let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
            .await
            .unwrap();
        assert_eq!(outcome.confirmed().len(), confirmed, "{refused} refused");
        assert_eq!(outcome.keys(State::Unverified).len(), 1 - confirmed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replicating_pair_without_a_fence_confirms_nothing() {
    let world = planted();
    let mut pair = pair(&world, Relation::Replicating);
    pair.fence = FenceKind::None;
    let outcome = run(&pair, &request(&world)).await.unwrap();
    assert_eq!(outcome.keys(State::Unverified).len(), 1);
    assert_eq!(outcome.summary.exit_code(), 3);
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_read_again_are_unverified() {
    let world = planted();
    lock(&world).faults.secondary_reads_denied = true;
    for relation in [Relation::Replicating, Relation::Independent] {
        let outcome = run(&pair(&world, relation), &request(&world)).await.unwrap();
        assert_eq!(outcome.keys(State::Unverified).len(), 1);
        let divergence = outcome.divergences().next().unwrap();
        assert!(
            divergence.explanation.contains("permission denied"),
            "{}",
            divergence.explanation
        );
        assert!(
            divergence.primary_digest.is_some() && divergence.secondary_digest.is_none(),
            "as listed"
        );
        let mut world = lock(&world);
        let asked = world.calls.iter().filter(|call| **call == "read secondary").count();
        assert_eq!(asked, 1, "what is denied is not asked for again");
        world.calls.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_data_twice_is_refused_before_and_in_mid_run() {
    let world = planted();
    lock(&world).faults.same_data_from = Some(0);
    let error = run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap_err();
    assert!(matches!(error, ReconcileError::SameData { .. }), "{error}");

    let world = World::new((0..100).map(|key| (key, key))).share();
    let pair = pair(&world, Relation::Independent);
    let mut request = request(&world);
    request.limits.chunks_in_flight = 1;
    let flip = |event: &Event| {
        if matches!(event, Event::ChunkDone { chunk_id: 1, .. }) {
            let mut world = lock(&world);
            world.faults.same_data_from = Some(world.step);
        }
    };
    let outcome = run_until(&pair, &request, CancellationToken::new(), flip)
        .await
        .unwrap();
    assert_eq!(outcome.summary.exit_code(), 3);
    let failed: Vec<_> = outcome
        .chunks()
        .filter(|chunk| chunk.state == ChunkState::Failed)
        .collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|chunk| chunk.error.starts_with("same_data: ")));
    assert!(
        failed
            .iter()
            .all(|chunk| chunk.primary.is_none() && chunk.secondary.is_none()),
        "digests of another site are no record of this one"
    );
}

/// What makes one pair of digests enough, that the secondary applies what the primary writes, ends with the promotion.
#[tokio::test(start_paused = true)]
async fn a_secondary_that_is_promoted_in_mid_run_is_not_equal_from_then_on() {
    let world = World::new((0..100).map(|key| (key, key))).share();
    let mut request = request(&world);
    request.limits.chunks_in_flight = 1;
    let promote = |event: &Event| {
        if matches!(event, Event::ChunkDone { chunk_id: 1, .. }) {
            let mut world = lock(&world);
            world.faults.promoted_from = Some(world.step);
        }
    };
    let pair = pair(&world, Relation::Replicating);
    let outcome = run_until(&pair, &request, CancellationToken::new(), promote)
        .await
        .unwrap();
    assert_eq!(outcome.summary.exit_code(), 3);
    let states: Vec<_> = outcome.chunks().map(|chunk| (chunk.chunk_id, chunk.state)).collect();
    let (equal, failed) = (ChunkState::Equal, ChunkState::Failed);
    assert_eq!(states, [(0, equal), (1, equal), (2, failed), (3, failed)]);
    let told = outcome.chunks().find(|chunk| chunk.chunk_id == 2).unwrap();
    assert!(told.error.starts_with("role_changed: site usw2 "), "{}", told.error);
    assert!(told.primary.is_none() && told.secondary.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_keeps_what_was_committed() {
    let world = planted();
    // One in each chunk, so that none is done while others wait for their rechecks.
    lock(&world).secondary.rows.retain(|key, _| key % 10 != 3);
    let mut request = request(&world);
    request.limits.rows_per_chunk = 10;
    request.limits.chunks_in_flight = 1;
    let shutdown = CancellationToken::new();
    let cancel = |event: &Event| {
        if matches!(event, Event::ChunkDone { .. }) {
            shutdown.cancel();
        }
    };
    let outcome = run_until(&pair(&world, Relation::Replicating), &request, shutdown.clone(), cancel)
        .await
        .unwrap();
    assert!(outcome.summary.cancelled && !outcome.summary.complete);
    let (done, open): (Vec<_>, Vec<_>) = outcome.chunks().partition(|chunk| chunk.error.is_empty());
    assert!(!done.is_empty() && done.iter().all(|chunk| chunk.state == ChunkState::Different));
    let confirmed = outcome.confirmed();
    let planted_in = |chunk_id: u64| i64::try_from(chunk_id).unwrap() * 10 + 3;
    assert!(
        done.iter()
            .all(|chunk| confirmed.contains_key(&planted_in(chunk.chunk_id))),
        "{confirmed:?}"
    );
    assert_eq!(done.len() + open.len(), 10, "every chunk is told");
    assert!(
        open.len() >= 4
            && open
                .iter()
                .all(|chunk| chunk.error.starts_with("not_looked_at: ") && chunk.state == ChunkState::Failed)
    );
    assert_eq!(
        outcome.coverage().next().unwrap().chunks_failed,
        u64::try_from(open.len()).unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_has_a_plan_compares_nothing() {
    let world = planted();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let stopped = run_until(&pair(&world, Relation::Independent), &request(&world), shutdown, |_| {}).await;
    assert!(matches!(stopped, Err(ReconcileError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_stops_the_run() {
    let world = planted();
    let folder = tempfile::tempdir().unwrap();
    // The attempt that is gone on with is on a disk that is full.
    let attempts = folder.path().join("digest/00000");
    std::fs::create_dir_all(&attempts).unwrap();
    std::os::unix::fs::symlink("/dev/full", attempts.join("full.journal")).unwrap();
    let pair = pair(&world, Relation::Independent);
    let result = reconcile::run(&pair, &request(&world), folder.path(), |_| {}, Stop::default()).await;
    let error = result.unwrap_err();
    assert!(matches!(error, ReconcileError::Journal(_)), "{error}");
    assert!(error.to_string().contains("its evidence cannot be written"), "{error}");
}

//! Fences by time: quiet and exact while the secondary keeps up, and worth nothing while it stands still.

use std::collections::BTreeMap;
use std::time::Duration;

use reconcile::{FenceKind, Pair, Request, State};
use stores::memory::{self, Delay, NativeLag, Side};
use stores::{Class, Key, Relation};

use crate::memory::{IDS, Kind, ends, in_use, memory, request, row};
use crate::outcome::{Outcome, run};

/// What tells how far the secondary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Positions of both ends.
    ByPosition,
    /// The secondary's own lag; the primary gives no position.
    ByLag,
}

async fn story(told: Told) -> (memory::Pair, Pair, Request) {
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    let mut ends = ends(&pair, Kind::Ordered, Relation::Replicating);
    ends.fence = FenceKind::Time;
    if told == Told::ByLag {
        ends.primary.fence = None;
    }
    let mut request = request(&ends).await;
    request.limits.rounds_max = 5;
    (pair, ends, request)
}

#[track_caller]
fn unverified(outcome: &Outcome, reason: &str) {
    assert_eq!(outcome.confirmed(), BTreeMap::new());
    assert_eq!(outcome.summary.exit_code(), 3, "{:?}", outcome.summary.coverage);
    let open = outcome.divergences().filter(|one| one.state == State::Unverified);
    let words: Vec<&str> = open.map(|one| one.explanation.as_str()).collect();
    assert!(
        !words.is_empty() && words.iter().all(|words| words.contains(reason)),
        "{words:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pair_in_use_has_no_divergences_and_a_planted_one_is_found() {
    for told in [Told::ByPosition, Told::ByLag] {
        let (pair, ends, request) = story(told).await;
        pair.set_delay(Delay::Fixed(Duration::from_millis(50)));
        let _in_use = in_use(&pair);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let quiet = run(&ends, &request).await.unwrap();
        assert_eq!(quiet.confirmed(), BTreeMap::new(), "{told:?}");
        let looked_at = quiet.summary.counts.transient + quiet.summary.counts.undecided();
        assert!(
            looked_at > 0,
            "{told:?}: nothing was in flight, so the test proves nothing"
        );
        assert!(quiet.coverage().all(|one| one.fence == "time"), "{told:?}");
        pair.plant(Side::Secondary, "t", Key::int(100), None);
        let planted = run(&ends, &request).await.unwrap();
        assert_eq!(
            planted.confirmed(),
            BTreeMap::from([(100, Class::MissingOnSecondary)]),
            "{told:?}"
        );
        let words: Vec<&str> = planted.divergences().map(|one| one.explanation.as_str()).collect();
        assert!(
            words.iter().any(|words| words.contains("behind a fence by time")),
            "{words:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_stands_still_is_neither_equal_nor_different() {
    for (told, reason) in [
        (Told::ByPosition, "the fence timed out"),
        (Told::ByLag, "by its own account"),
    ] {
        let (pair, ends, request) = story(told).await;
        pair.stall();
        let _hot = pair.update_hot("t", vec![Key::int(5)], "a", Duration::from_millis(500));
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(_hot);
        unverified(&run(&ends, &request).await.unwrap(), reason);
        // It goes on: what was in flight has arrived, and all is equal.
        pair.resume();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let outcome = run(&ends, &request).await.unwrap();
        assert_eq!(
            outcome.summary.exit_code(),
            0,
            "{told:?}: {:?}",
            outcome.summary.coverage
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_is_not_told_or_too_long_for_the_time_that_was_waited_proves_nothing() {
    let (pair, ends, mut request) = story(Told::ByLag).await;
    pair.plant(Side::Secondary, "t", Key::int(100), None);
    pair.set_native_lag(NativeLag::NotCollected);
    unverified(
        &run(&ends, &request).await.unwrap(),
        "nothing tells how far site usw2 is behind",
    );
    // Two seconds behind at all times: ten seconds are too few, and twenty-one are enough.
    pair.set_native_lag(NativeLag::True);
    pair.set_delay(Delay::Fixed(Duration::from_secs(2)));
    let _hot = pair.update_hot("t", vec![Key::int(5)], "a", Duration::from_millis(10));
    tokio::time::sleep(Duration::from_secs(10)).await;
    unverified(&run(&ends, &request).await.unwrap(), "by its own account");
    request.limits.time_fence = Duration::from_secs(21);
    let outcome = run(&ends, &request).await.unwrap();
    assert_eq!(outcome.confirmed(), BTreeMap::from([(100, Class::MissingOnSecondary)]));
}

//! Reconciliations of real PostgreSQL pairs, as the least-privileged role.

mod keyless;
mod logical;
mod setup;
mod tables;
mod timed;
mod versions;

use std::time::Duration;

use lab::{Pattern, Plant, WorkloadOptions, plant};
use stores::Relation;

use setup::{Shop, request, run, until_in_flight};

#[tokio::test]
async fn equal_pairs_are_equal_and_all_plants_are_found() {
    let shop = Shop::start(20_000).await;
    let pair = shop.ends(Relation::Replicating);
    let (found, summary) = run(&pair, &request(&pair).await).await;
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    assert!(found.is_empty() && summary.chunks >= 15, "{} chunks", summary.chunks);

    shop.fail_over().await;
    let pair = shop.ends(Relation::Independent);
    let (_, summary) = run(&pair, &request(&pair).await).await;
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);

    let plants: Vec<(Plant, i64)> = Plant::ALL.into_iter().zip((100..).step_by(500)).collect();
    let plants: Vec<(Plant, i64)> = plants
        .into_iter()
        .map(|(kind, id)| (kind, if kind == Plant::Extra { -5 } else { id }))
        .collect();
    let truth = plant(shop.pair.primary(), shop.pair.standby(), "app", &plants)
        .await
        .unwrap();
    let (found, summary) = run(&pair, &request(&pair).await).await;
    let mismatches = truth.compare(&found);
    assert!(mismatches.is_empty(), "{mismatches:?}");
    assert_eq!(summary.exit_code(), 1);
    assert!(summary.complete, "{:?}", summary.coverage);
    shop.shutdown().await;
}

#[tokio::test]
async fn rows_in_flight_on_a_real_pair_are_no_divergences() {
    let shop = Shop::start(10_000).await;
    let pair = shop.ends(Relation::Replicating);
    let mut workloads = Vec::new();
    for (table, pattern) in [
        ("orders", Pattern::Hot { rows: 20 }),
        ("payments", Pattern::Churn { keys: 4 }),
        ("customers", Pattern::Mixed),
    ] {
        let options = WorkloadOptions {
            pattern,
            per_second: 100,
            sessions: 2,
            asynchronous_commit: table != "customers",
            ..WorkloadOptions::new("app", table)
        };
        workloads.push(shop.write(options).await);
    }
    shop.pair.set_replay_delay(Duration::from_millis(300)).await.unwrap();
    until_in_flight(2, async || {
        let (found, summary) = run(&pair, &request(&pair).await).await;
        assert!(found.is_empty(), "{found:?}");
        summary
    })
    .await;
    for workload in workloads {
        assert!(workload.stop().await.unwrap().writes() > 0);
    }
    shop.pair.set_replay_delay(Duration::ZERO).await.unwrap();
    shop.pair.wait_replayed(Duration::from_secs(60)).await.unwrap();
    let (_, summary) = run(&pair, &request(&pair).await).await;
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    shop.shutdown().await;
}

#[tokio::test]
async fn commits_that_the_standby_shows_first_are_no_divergences() {
    let shop = Shop::start(2_000).await;
    shop.pair.add_synchronous_standby().await.unwrap();
    let pair = shop.ends(Relation::Replicating);
    let request = request(&pair).await;
    let mut in_flight = 0;
    for round in 0..2 {
        // Commits hang from now on: the standby shows them, the primary does not.
        shop.pair.stall_synchronous_standby().await.unwrap();
        let options = WorkloadOptions {
            per_second: 200,
            sessions: 16,
            seed: round,
            ..WorkloadOptions::new("app", "orders")
        };
        let workload = shop.write(options).await;
        let (found, summary) = run(&pair, &request).await;
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(
            summary.counts.unverified, 0,
            "the link is proved, and fences are passed"
        );
        in_flight += summary.counts.volatile;
        shop.pair.resume_synchronous_standby();
        workload.stop().await.unwrap();
    }
    assert!(in_flight > 0, "nothing was in flight: the test proves nothing");
    shop.shutdown().await;
}

#[tokio::test]
async fn a_paused_standby_is_unverified_and_a_hot_counter_off_by_one_is_never_equal() {
    let shop = Shop::start(2_000).await;
    let pair = shop.ends(Relation::Replicating);
    let mut request = request(&pair).await;
    request.limits.fence_patience = Duration::from_millis(700);
    shop.pair.pause_replay().await.unwrap();
    let change = "update public.orders set note = 'changed' where id = 7";
    shop.pair.primary().execute("app", change).await.unwrap();
    let (found, summary) = run(&pair, &request).await;
    assert!(found.is_empty());
    assert_eq!((summary.exit_code(), summary.counts.unverified), (3, 1));
    shop.pair.resume_replay().await.unwrap();
    shop.fail_over().await;

    let pair = shop.ends(Relation::Independent);
    let off_by_one = "update public.orders set quantity = quantity + 1 where id = 1";
    shop.pair.standby().execute("app", off_by_one).await.unwrap();
    let mut workloads = Vec::new();
    for server in [shop.pair.primary(), shop.pair.standby()] {
        let options = WorkloadOptions {
            pattern: Pattern::Hot { rows: 1 },
            per_second: 40,
            ..WorkloadOptions::new("app", "orders")
        };
        workloads.push(lab::Workload::start(server, options).await.unwrap());
    }
    for _ in 0..2 {
        let (_, summary) = run(&pair, &request).await;
        assert_ne!(summary.exit_code(), 0, "{:?}", summary.coverage);
    }
    for workload in workloads {
        workload.stop().await.unwrap();
    }
    shop.shutdown().await;
}

//! Fences by time: standbys, subscribers without a canary, and a stand-in of Aurora, whose readers tell no position.

use std::time::Duration;

use lab::{Pattern, Workload, WorkloadOptions};
use reconcile::CoverageState;

use crate::setup::{Copies, Shop, request, run, until_in_flight};

const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes the shop and no canary.
async fn without_canaries(rows: u32) -> Copies {
    let copies = Copies::start(None, None, rows).await;
    let publish =
        "drop publication lab; create publication lab for table public.customers, public.orders, public.payments";
    copies.pair.publisher().execute("app", publish).await.unwrap();
    copies.pair.refresh().await.unwrap();
    copies.pair.wait_applied(PATIENCE).await.unwrap();
    copies
}

#[tokio::test]
async fn by_time_and_slots_rows_in_flight_are_no_divergences_and_an_injected_one_is_found_among_them() {
    let copies = without_canaries(2_000).await;
    let pair = copies.timed_ends();
    let mut asked = request(&pair).await;
    asked.limits.time_fence = Duration::from_secs(1);
    asked.limits.rounds_max = 4;
    let (found, summary) = run(&pair, &asked).await;
    assert!(found.is_empty(), "{found:?}");
    let shop = |summary: &reconcile::Summary| {
        let tables = ["public.customers", "public.orders", "public.payments"];
        let of = summary
            .coverage
            .iter()
            .filter(|one| tables.contains(&one.collection.as_str()));
        of.cloned().collect::<Vec<_>>()
    };
    assert_eq!(shop(&summary).len(), 3);
    let is_verified = |one: &reconcile::Coverage| one.state == CoverageState::Verified && one.fence == "time";
    assert!(shop(&summary).iter().all(is_verified), "{:?}", summary.coverage);

    let wrong = "update public.orders set note = 'wrong' where id = 900";
    copies.pair.subscriber().execute("app", wrong).await.unwrap();
    let mut workloads = Vec::new();
    for (table, pattern) in [
        ("orders", Pattern::Hot { rows: 20 }),
        ("payments", Pattern::Churn { keys: 4 }),
    ] {
        let options = WorkloadOptions {
            pattern,
            per_second: 100,
            sessions: 2,
            asynchronous_commit: table == "orders",
            ..WorkloadOptions::new("app", table)
        };
        workloads.push(Workload::start(copies.pair.publisher(), options).await.unwrap());
    }
    let held_up = copies.hold_up("public.orders, public.payments").await;
    until_in_flight(2, async || {
        let (found, summary) = run(&pair, &asked).await;
        let keys: Vec<_> = found.iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(found.len(), 1, "{keys:?}");
        assert!(keys[0].contains("900") && keys[0].contains("different"), "{keys:?}");
        summary
    })
    .await;
    held_up.abort();
    for workload in workloads {
        assert!(workload.stop().await.unwrap().writes() > 0);
    }
    copies.shutdown().await;
}

#[tokio::test]
async fn by_time_a_subscription_that_stands_still_verifies_nothing_that_differs() {
    let copies = without_canaries(1_000).await;
    let pair = copies.timed_ends();
    let mut asked = request(&pair).await;
    asked.limits.time_fence = Duration::from_millis(500);
    asked.limits.fence_patience = Duration::from_millis(700);
    // The worker waits for a lock: it lives, and applies nothing.
    let holder = copies.pair.subscriber().client("app").await.unwrap();
    let hold = "begin; lock table public.orders in share row exclusive mode";
    holder.batch_execute(hold).await.unwrap();
    let change = "update public.orders set note = 'changed' where id = 7";
    copies.pair.publisher().execute("app", change).await.unwrap();
    let (found, summary) = run(&pair, &asked).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((summary.exit_code(), summary.counts.unverified), (3, 1));
    holder.batch_execute("rollback").await.unwrap();
    copies.pair.wait_applied(PATIENCE).await.unwrap();
    // Disabled after the catalog was read: its slot is held by nobody, and nothing is known.
    copies.pair.pause().await.unwrap();
    copies
        .pair
        .publisher()
        .execute("app", "update public.orders set note = 'again' where id = 7")
        .await
        .unwrap();
    let (found, summary) = run(&pair, &asked).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((summary.exit_code(), summary.counts.unverified), (3, 1));
    // Disabled before: no table can be verified at all.
    let late = copies.timed_ends();
    let (found, summary) = run(&late, &request(&late).await).await;
    assert!(found.is_empty(), "{found:?}");
    let orders = summary
        .coverage
        .iter()
        .find(|one| one.collection == "public.orders")
        .unwrap();
    assert_eq!(orders.state, CoverageState::Failed, "{orders:?}");
    assert!(orders.reason.contains("pg_replication_slots"), "{}", orders.reason);
    copies.shutdown().await;
}

#[tokio::test]
async fn by_time_a_standby_under_load_is_quiet_and_a_paused_one_unverified() {
    let shop = Shop::start(2_000).await;
    let pair = shop.timed_ends();
    let mut asked = request(&pair).await;
    asked.limits.time_fence = Duration::from_secs(1);
    asked.limits.rounds_max = 4;
    asked.limits.fence_patience = Duration::from_secs(1);
    let options = WorkloadOptions {
        pattern: Pattern::Hot { rows: 10 },
        per_second: 60,
        ..WorkloadOptions::new("app", "orders")
    };
    let workload = shop.write(options).await;
    shop.pair.set_replay_delay(Duration::from_millis(200)).await.unwrap();
    let (found, summary) = run(&pair, &asked).await;
    assert!(found.is_empty(), "{found:?}");
    assert!(
        summary
            .coverage
            .iter()
            .filter(|one| one.chunks_total > 0)
            .all(|one| one.fence == "time")
    );
    shop.pair.set_replay_delay(Duration::ZERO).await.unwrap();
    assert!(workload.stop().await.unwrap().writes() > 0);
    shop.pair.pause_replay().await.unwrap();
    let change = "update public.orders set note = 'changed' where id = 7";
    shop.pair.primary().execute("app", change).await.unwrap();
    let (found, summary) = run(&pair, &asked).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(summary.exit_code(), 3, "{:?}", summary.coverage);
    assert_eq!(summary.counts.unverified, 1, "{:?}", summary.coverage);
    shop.pair.resume_replay().await.unwrap();
    shop.shutdown().await;
}

/// Aurora's functions as AWS documents them, one cluster on each side, and what is refused there.
const AURORA: &str = "\
set allow_system_table_mods = on;
create function pg_catalog.aurora_version() returns text language sql as $$ select '15.0' $$;
create function pg_catalog.aurora_db_instance_identifier() returns text language sql as
  $$ select case when pg_is_in_recovery() then 'west-1' else 'east-1' end $$;
create function pg_catalog.aurora_replica_status(out server_id text, out session_id text, out replica_lag_in_msec float8,
    out last_update_timestamp timestamptz) returns setof record language sql as
  $$ select case when pg_is_in_recovery() then 'west-1' else 'east-1' end, 'MASTER_SESSION_ID', null::float8, now() $$;
revoke execute on function pg_catalog.pg_last_wal_replay_lsn(), pg_catalog.pg_last_wal_receive_lsn(),
    pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_lsn() from public";

async fn lag_is(shop: &Shop, lag_ms: &str, as_of: &str) {
    let sql = format!(
        "set allow_system_table_mods = on;
         create or replace function pg_catalog.aurora_global_db_status(out aws_region text, out highest_lsn_written int8,
           out durability_lag_in_msec float8, out rpo_lag_in_msec float8, out last_lag_calculation_time timestamptz)
           returns setof record language sql as
           $$ values ('us-west-2', 93763984222::int8, 900::float8, {lag_ms}::float8, {as_of}) $$"
    );
    shop.pair.primary().execute("app", &sql).await.unwrap();
    shop.pair.wait_replayed(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn by_time_aurora_is_believed_its_own_lag_and_without_that_nothing() {
    let shop = Shop::start(2_000).await;
    shop.pair.primary().execute("app", AURORA).await.unwrap();
    lag_is(&shop, "12.5", "now()").await;
    let pair = shop.timed_ends();
    let mut asked = request(&pair).await;
    asked.limits.time_fence = Duration::from_secs(2);
    asked.limits.rounds_max = 4;
    let options = WorkloadOptions {
        pattern: Pattern::Churn { keys: 4 },
        per_second: 20,
        ..WorkloadOptions::new("app", "payments")
    };
    let workload = shop.write(options).await;
    let (found, summary) = run(&pair, &asked).await;
    assert!(found.is_empty(), "{found:?}");
    assert!(workload.stop().await.unwrap().writes() > 0);
    assert_eq!(
        summary.counts.unverified, 0,
        "it can be read again: {:?}",
        summary.coverage
    );
    let equal = summary
        .coverage
        .iter()
        .find(|one| one.collection == "public.orders")
        .unwrap();
    assert_eq!(
        (equal.state, equal.fence.as_str()),
        (CoverageState::Verified, "time"),
        "{equal:?}"
    );

    // It stands still. As long as it says so, or says nothing that is of now, nothing is confirmed.
    for (lag_ms, as_of, note) in [
        ("30000", "now()", "changed"),
        ("12.5", "now() - interval '1 minute'", "again"),
    ] {
        lag_is(&shop, lag_ms, as_of).await;
        shop.pair.pause_replay().await.unwrap();
        let change = format!("update public.orders set note = '{note}' where id = 7");
        shop.pair.primary().execute("app", &change).await.unwrap();
        let (found, summary) = run(&pair, &asked).await;
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(
            (summary.exit_code(), summary.counts.unverified),
            (3, 1),
            "{:?}",
            summary.coverage
        );
        shop.pair.resume_replay().await.unwrap();
    }
    shop.shutdown().await;
}

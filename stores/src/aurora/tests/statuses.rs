//! The store's own word on lag: never zero without a witness.

use super::setup::{One, Two, eventually};
use crate::{NativeStatus, Role, StoreError};

async fn status(two: &Two, site: &str) -> NativeStatus {
    two.at(site).status.status().await.unwrap()
}

async fn let_see_all(two: &Two) {
    two.pair
        .primary()
        .execute("postgres", "grant pg_monitor to driftline")
        .await
        .unwrap();
    two.settled().await;
}

async fn write(two: &Two) {
    let sql = "insert into public.granted select coalesce(max(id), 0) + 1, 'more' from public.granted";
    two.pair.primary().execute("app", sql).await.unwrap();
}

#[tokio::test]
async fn a_plain_role_is_told_little_and_nothing_false() {
    let two = Two::start().await;
    let primary = status(&two, "use1").await;
    assert_eq!(primary.identity.role, Role::Writable);
    assert!(primary.position.is_some());
    assert_eq!((primary.lag_us, primary.lag_bytes, primary.link), (None, None, None));
    assert_eq!(primary.longest_transaction_us, Some(0));
    assert!(!primary.is_logical);

    let standby = status(&two, "usw2").await;
    assert_eq!(standby.identity.role, Role::ReadOnly);
    assert!(standby.position.is_some());
    assert_eq!(
        (standby.lag_us, standby.lag_bytes),
        (None, None),
        "idle and stalled look alike to this role"
    );

    two.pair.pause_replay().await.unwrap();
    write(&two).await;
    let behind = eventually("WAL arrives and is not replayed", async || {
        let status = status(&two, "usw2").await;
        status.lag_bytes.is_some_and(|bytes| bytes > 0).then_some(status)
    })
    .await;
    assert!(behind.lag_us.is_some_and(|lag_us| lag_us > 0), "{behind:?}");
    two.pair.resume_replay().await.unwrap();
}

#[tokio::test]
async fn with_pg_monitor_zero_is_witnessed_and_a_cut_is_seen() {
    let two = Two::start().await;
    let_see_all(&two).await;
    let caught_up = eventually("the sender has spoken just now", async || {
        write(&two).await;
        two.settled().await;
        let status = status(&two, "usw2").await;
        (status.lag_us == Some(0)).then_some(status)
    })
    .await;
    assert_eq!(caught_up.lag_bytes, Some(0));
    assert_eq!(caught_up.link.as_deref(), Some("streaming"));
    let primary = status(&two, "use1").await;
    assert_eq!(primary.link.as_deref(), Some("1 standby: streaming"));
    assert!(primary.lag_bytes.is_some());

    two.pair.cut();
    let cut = eventually("the receiver is gone", async || {
        let status = status(&two, "usw2").await;
        (status.link.as_deref() == Some("no receiver")).then_some(status)
    })
    .await;
    assert!(cut.lag_us.is_some_and(|lag_us| lag_us > 0), "{cut:?}");
    assert_eq!(cut.lag_bytes, None);
    let later = eventually("it keeps rising", async || {
        let status = status(&two, "usw2").await;
        (status.lag_us > cut.lag_us).then_some(status)
    })
    .await;
    assert!(later.as_of_us > cut.as_of_us);
    eventually("the primary misses its standby", async || {
        let status = status(&two, "use1").await;
        (status.link.as_deref() == Some("no standby")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_open_write_transaction_has_an_age_only_for_those_who_may_see_it() {
    let two = Two::start().await;
    let mut writer = two.pair.primary().client("app").await.unwrap();
    let open = writer.transaction().await.unwrap();
    open.batch_execute("insert into public.granted values (-1, 'open')")
        .await
        .unwrap();
    assert_eq!(status(&two, "use1").await.longest_transaction_us, None);
    two.pair
        .primary()
        .execute("postgres", "grant pg_monitor to driftline")
        .await
        .unwrap();
    let age_us = status(&two, "use1").await.longest_transaction_us;
    assert!(age_us.is_some_and(|age_us| age_us > 0), "{age_us:?}");
    open.rollback().await.unwrap();
    assert_eq!(status(&two, "use1").await.longest_transaction_us, Some(0));
}

#[tokio::test]
async fn publications_make_it_logical() {
    let one = One::start().await;
    assert!(!one.connection().status.status().await.unwrap().is_logical);
    one.server
        .execute("app", "create publication everything for all tables")
        .await
        .unwrap();
    assert!(one.connection().status.status().await.unwrap().is_logical);
}

#[tokio::test]
async fn the_fork_is_known_from_the_promotion_to_the_next_restart() {
    let two = Two::start().await;
    for _ in 0..3 {
        write(&two).await;
    }
    let last =
        "select (extract(epoch from max(pg_xact_commit_timestamp(xmin))) * 1000000)::int8::text from public.granted";
    let committed = two.pair.primary().value("app", last).await.unwrap().unwrap();
    two.settled().await;
    for site in ["use1", "usw2"] {
        let error = two.at(site).status.fork().await.unwrap_err();
        assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");
    }
    two.pair.promote().await.unwrap();
    // Writes of the new primary do not move the fork.
    two.pair
        .standby()
        .execute("app", "insert into public.granted values (-1, 'new')")
        .await
        .unwrap();
    let fork = two.at("usw2").status.fork().await.unwrap();
    assert_eq!(
        (fork.at_low_us, fork.at_high_us),
        (committed.parse().unwrap(), committed.parse().unwrap())
    );
    assert!(
        fork.position.is_some() && fork.evidence.contains("00000002"),
        "{fork:?}"
    );

    two.pair.standby().stop().await.unwrap();
    two.pair.standby().start_again().await.unwrap();
    let error = eventually("the promoted server is back", async || {
        two.at("usw2")
            .status
            .fork()
            .await
            .err()
            .filter(|error| !error.is_passing())
    })
    .await;
    assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");
    assert!(error.to_string().contains("restarted"), "{error}");
}

#[tokio::test]
async fn recovery_from_a_crash_is_no_fork() {
    let two = Two::start().await;
    two.pair.promote().await.unwrap();
    let promoted = two.pair.standby();
    promoted.execute("postgres", "checkpoint").await.unwrap();
    promoted
        .execute("app", "insert into public.granted values (-1, 'new')")
        .await
        .unwrap();
    promoted.kill9().await.unwrap();
    promoted.start_again().await.unwrap();
    let error = eventually("the promoted server is back", async || {
        two.at("usw2")
            .status
            .fork()
            .await
            .err()
            .filter(|error| !error.is_passing())
    })
    .await;
    assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");
}

/// Aurora's functions as AWS documents them, and what is refused there.
const AURORA: &str = "\
set allow_system_table_mods = on;
create function pg_catalog.aurora_version() returns text language sql as $$ select '15.0' $$;
create function pg_catalog.aurora_db_instance_identifier() returns text language sql as $$ select 'reader-1' $$;
create function pg_catalog.aurora_replica_status(out server_id text, out session_id text, out replica_lag_in_msec float8,
    out last_update_timestamp timestamptz) returns setof record language sql as $$
    values ('writer-1', 'MASTER_SESSION_ID', null::float8, now()), ('reader-1', 's-1', 34::float8, to_timestamp(1700000000)) $$;
create function pg_catalog.aurora_global_db_status(out aws_region text, out highest_lsn_written int8, out durability_lag_in_msec float8,
    out rpo_lag_in_msec float8, out last_lag_calculation_time timestamptz) returns setof record language sql as $$
    values ('us-east-1', 93763984222::int8, -1::float8, -1::float8, to_timestamp(0)),
           ('us-west-2', 93763984222::int8, 900::float8, 12.5::float8, to_timestamp(1700000060)) $$;
revoke execute on function pg_catalog.pg_last_wal_replay_lsn(), pg_catalog.pg_last_wal_receive_lsn(),
    pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_wal_lsn() from public";

#[tokio::test]
async fn aurora_is_asked_by_its_own_functions_and_by_none_that_it_refuses() {
    let two = Two::start().await;
    two.pair.primary().execute("app", AURORA).await.unwrap();
    two.settled().await;
    for site in ["use1", "usw2"] {
        let told = status(&two, site).await;
        assert_eq!(
            (told.lag_us, told.lag_as_of_us),
            (Some(12_500), Some(1_700_000_060_000_000)),
            "{site}"
        );
        assert_eq!(told.link.as_deref(), Some("global database: us-west-2 12500 us behind"));
        assert_eq!((told.position, told.lag_bytes, told.not_collected), (None, None, None));
        assert_eq!(told.longest_transaction_us, Some(0));
        let fork = two.at(site).status.fork().await.unwrap_err();
        assert!(
            matches!(&fork, StoreError::Unsupported(why) if why.cause.contains("Aurora") && why.hint.contains("canaries")),
            "{site}: {fork:?}"
        );
    }

    // Without another region, a reader tells how far it is behind its cluster's storage.
    let without = "set allow_system_table_mods = on; drop function pg_catalog.aurora_global_db_status()";
    two.pair.primary().execute("app", without).await.unwrap();
    two.settled().await;
    let told = status(&two, "usw2").await;
    assert_eq!(
        (told.lag_us, told.lag_as_of_us),
        (Some(34_000), Some(1_700_000_000_000_000))
    );
    assert_eq!(
        told.link.as_deref(),
        Some("reader of its cluster: reader-1 34000 us behind")
    );

    // The writer of a cluster without another region is behind nobody, which is no lag of 0.
    let writer = "set allow_system_table_mods = on; create or replace function pg_catalog.aurora_db_instance_identifier() \
                  returns text language sql as $$ select 'writer-1' $$";
    two.pair.primary().execute("app", writer).await.unwrap();
    two.settled().await;
    let told = status(&two, "use1").await;
    assert_eq!((told.lag_us, told.link), (None, None));
    assert!(
        told.not_collected
            .is_some_and(|reason| reason.contains("neither in a global database"))
    );
}

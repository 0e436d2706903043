use std::time::{Duration, Instant};

use lab::{PgOptions, PgPair};
use tokio::time::timeout;

use crate::support::{NUMBERS, PATIENCE, count, until};

async fn pair() -> PgPair {
    let pair = PgPair::start(PgOptions::with_database("shop")).await.unwrap();
    pair.primary().execute("shop", NUMBERS).await.unwrap();
    pair
}

async fn insert(pair: &PgPair, id: i64) {
    let sql = format!("insert into numbers values ({id})");
    pair.primary().execute("shop", &sql).await.unwrap();
}

#[tokio::test]
async fn a_standby_streams_and_takes_no_writes() {
    let pair = pair().await;
    insert(&pair, 1).await;
    pair.wait_replayed(PATIENCE).await.unwrap();
    assert_eq!(count(pair.standby()).await.as_deref(), Some("1"));
    let refused = pair.standby().execute("shop", "insert into numbers values (2)").await;
    assert!(refused.unwrap_err().to_string().contains("read-only"));
    let sql = "select system_identifier from pg_control_system()";
    assert_eq!(
        pair.primary().value("shop", sql).await.unwrap(),
        pair.standby().value("shop", sql).await.unwrap()
    );
    let timestamps = pair
        .standby()
        .value("shop", "show track_commit_timestamp")
        .await
        .unwrap();
    assert_eq!(timestamps.as_deref(), Some("on"));
    pair.shutdown().await;
}

#[tokio::test]
async fn pairs_run_side_by_side_and_are_nothing_to_each_other() {
    let (first, second) = tokio::join!(pair(), pair());
    insert(&first, 1).await;
    first.wait_replayed(PATIENCE).await.unwrap();
    assert_eq!(count(second.primary()).await.as_deref(), Some("0"));
    let sql = "select system_identifier from pg_control_system()";
    assert_ne!(
        first.primary().value("shop", sql).await.unwrap(),
        second.primary().value("shop", sql).await.unwrap()
    );
    assert_ne!(first.primary().password(), second.primary().password());
}

#[tokio::test]
async fn a_replay_delay_holds_rows_back_until_it_ends() {
    let pair = pair().await;
    pair.wait_replayed(PATIENCE).await.unwrap();
    pair.set_replay_delay(Duration::from_secs(3600)).await.unwrap();
    insert(&pair, 1).await;
    // Received, and still not shown.
    let received = "select pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()";
    until(pair.standby(), "shop", received).await;
    assert_eq!(count(pair.standby()).await.as_deref(), Some("0"));
    pair.set_replay_delay(Duration::ZERO).await.unwrap();
    pair.wait_replayed(PATIENCE).await.unwrap();
    assert_eq!(count(pair.standby()).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn paused_replay_shows_nothing_new_until_it_goes_on() {
    let pair = pair().await;
    pair.wait_replayed(PATIENCE).await.unwrap();
    pair.pause_replay().await.unwrap();
    insert(&pair, 1).await;
    let late = pair
        .wait_replayed(Duration::from_millis(200))
        .await
        .unwrap_err()
        .to_string();
    assert!(late.contains("standby") && late.contains("replay up to"), "{late}");
    assert_eq!(count(pair.standby()).await.as_deref(), Some("0"));
    pair.resume_replay().await.unwrap();
    pair.wait_replayed(PATIENCE).await.unwrap();
    assert_eq!(count(pair.standby()).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_cut_ends_the_stream_that_stands_and_restore_brings_it_back() {
    let pair = pair().await;
    pair.wait_replayed(PATIENCE).await.unwrap();
    pair.cut();
    until(pair.primary(), "shop", "select count(*) = 0 from pg_stat_replication").await;
    insert(&pair, 1).await;
    // The receiver tries again all the time, and never gets through.
    assert!(pair.wait_replayed(Duration::from_millis(500)).await.is_err());
    assert_eq!(count(pair.standby()).await.as_deref(), Some("0"));
    pair.restore();
    pair.wait_replayed(PATIENCE).await.unwrap();
    assert_eq!(count(pair.standby()).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn after_a_promotion_both_sides_take_writes_of_their_own() {
    let pair = pair().await;
    assert!(pair.return_old_primary().await.is_err(), "there is no old primary yet");
    insert(&pair, 1).await;
    pair.wait_replayed(PATIENCE).await.unwrap();
    pair.cut();
    insert(&pair, 2).await;
    pair.promote().await.unwrap();
    pair.standby()
        .execute("shop", "insert into numbers values (3), (4)")
        .await
        .unwrap();
    pair.primary().stop().await.unwrap();
    assert!(!pair.primary().is_running());
    pair.return_old_primary().await.unwrap();
    insert(&pair, 5).await;
    let ids = "select string_agg(id::text, ',' order by id) from numbers";
    assert_eq!(
        pair.primary().value("shop", ids).await.unwrap().as_deref(),
        Some("1,2,5")
    );
    assert_eq!(
        pair.standby().value("shop", ids).await.unwrap().as_deref(),
        Some("1,3,4")
    );
    assert!(pair.promote().await.is_err(), "nothing is left to promote");
}

#[tokio::test]
async fn commits_wait_for_a_stalled_synchronous_standby_which_the_other_standby_does_not() {
    let pair = pair().await;
    assert!(pair.stall_synchronous_standby().await.is_err());
    let second = pair.add_synchronous_standby().await.unwrap();
    insert(&pair, 1).await;
    assert_eq!(
        count(second).await.as_deref(),
        Some("1"),
        "a commit is on the second standby when it returns"
    );
    pair.stall_synchronous_standby().await.unwrap();
    let client = pair.primary().client("shop").await.unwrap();
    let mut write = Box::pin(client.batch_execute("insert into numbers values (2)"));
    assert!(
        timeout(Duration::from_millis(300), &mut write).await.is_err(),
        "the commit waits"
    );
    // The trap: the first standby shows what the primary does not show yet.
    until(pair.standby(), "shop", "select count(*) = 2 from numbers").await;
    assert_eq!(count(pair.primary()).await.as_deref(), Some("1"));
    pair.resume_synchronous_standby();
    timeout(PATIENCE, write).await.unwrap().unwrap();
    assert_eq!(count(pair.primary()).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn an_old_primary_does_not_wait_for_a_standby_that_stalls() {
    let pair = pair().await;
    pair.add_synchronous_standby().await.unwrap();
    pair.stall_synchronous_standby().await.unwrap();
    pair.promote().await.unwrap();
    pair.return_old_primary().await.unwrap();
    timeout(PATIENCE, insert(&pair, 1)).await.unwrap();
    // Stopped processes must not keep the lab from going away.
    let folder = pair.primary().data_dir();
    pair.shutdown().await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_client_connection_is_cut_in_the_middle_of_a_result() {
    let pair = pair().await;
    pair.primary()
        .execute(
            "shop",
            "insert into numbers select i, 0, repeat('x', 100) from generate_series(1, 20000) i",
        )
        .await
        .unwrap();
    let proxy = pair.proxy_to(pair.primary()).unwrap();
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(proxy.port())
        .user("postgres")
        .password(pair.primary().password())
        .dbname("shop");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(client.query("select * from numbers", &[]).await.unwrap().len(), 20_000);
    proxy.cut_after(100_000);
    assert!(client.query("select * from numbers", &[]).await.is_err());
    assert!(proxy.is_cut());
    let _ended = timeout(PATIENCE, connection).await.unwrap();
    assert!(config.connect(tokio_postgres::NoTls).await.is_err());
    proxy.restore();
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query("select * from numbers", &[]).await.unwrap().len(), 20_000);
}

#[tokio::test]
async fn a_silent_link_keeps_the_stream_and_delivers_late() {
    let pair = pair().await;
    pair.wait_replayed(PATIENCE).await.unwrap();
    pair.silence();
    insert(&pair, 1).await;
    assert!(pair.wait_replayed(Duration::from_millis(300)).await.is_err());
    let streams = "select count(*) = 1 from pg_stat_replication where state = 'streaming'";
    assert_eq!(
        pair.primary().value("shop", streams).await.unwrap().as_deref(),
        Some("t")
    );
    pair.restore();
    pair.wait_replayed(PATIENCE).await.unwrap();
    assert_eq!(count(pair.standby()).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_lab_waits_in_real_time_when_the_clock_of_a_test_stands_still() {
    let pair = pair().await;
    tokio::time::pause();
    let before = Instant::now();
    assert!(pair.standby().stop().await.is_ok());
    pair.standby().start_again().await.unwrap();
    assert!(before.elapsed() < PATIENCE);
    tokio::time::resume();
    insert(&pair, 1).await;
    pair.wait_replayed(PATIENCE).await.unwrap();
}

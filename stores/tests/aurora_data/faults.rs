//! What must never look like an answer.

use futures::StreamExt as _;
use stores::{Collection, KeyShape, Part};

use crate::setup::{One, Two, collection, digest, list, ranged, recipe};

#[tokio::test]
async fn row_security_denies_and_never_counts_zero() {
    let one = One::start().await;
    one.execute("create table t (id int primary key); insert into t values (1)")
        .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    one.execute("alter table t enable row level security; create policy nobody on t using (false)")
        .await;
    // The catalog was read before the policy was made: the server itself must refuse.
    let error = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(error.kind(), "denied", "{error}");
    let error = list(&one.end, &table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(error.kind(), "denied", "{error}");
    let table = collection(&one.end, "public.t").await;
    assert!(table.unreadable.is_some());
    let error = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(error.kind(), "denied", "{error}");
    one.execute("alter role reader bypassrls").await;
    assert_eq!(digest(&one.end, "public.t", &made, &Part::ALL).await.unwrap().count, 1);
}

#[tokio::test]
async fn missing_rights_and_missing_tables_are_told_apart() {
    let one = One::start().await;
    one.execute("create table t (id int primary key); create table gone (id int primary key)")
        .await;
    let (table, gone) = (
        collection(&one.end, "public.t").await,
        collection(&one.end, "public.gone").await,
    );
    let made = recipe(&one.end, &table, 1).await;
    one.execute("revoke pg_read_all_data from reader; drop table gone")
        .await;
    let denied = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(denied.kind(), "denied", "{denied}");
    let missing = ranged(&one.end).digest(&gone, &made, &Part::ALL).await.unwrap_err();
    assert!(matches!(missing.kind(), "not_found" | "denied"), "{missing}");
    let unknown = Collection {
        name: "public.never".into(),
        kind: "table".into(),
        columns: Vec::new(),
        key: KeyShape::Unusable(String::new()),
        rows_estimate: None,
        bytes: None,
        unreadable: None,
        is_canary: false,
        ..Collection::default()
    };
    let missing = ranged(&one.end).digest(&unknown, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(missing.kind(), "not_found", "{missing}");
}

#[tokio::test]
async fn a_table_without_a_usable_key_is_refused() {
    let one = One::start().await;
    one.execute("create table t (id int); insert into t values (1)").await;
    let table = collection(&one.end, "public.t").await;
    let error = ranged(&one.end).recipe(&table, &["id".into()], 1).await.unwrap_err();
    assert_eq!(error.kind(), "unsupported", "{error}");
    assert!(error.to_string().contains("no usable key"));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_may_be_tried_again() {
    let two = Two::start().await;
    two.execute("create table t (id int primary key); insert into t values (1)")
        .await;
    two.settled().await;
    let table = collection(&two.standby, "public.t").await;
    let mut made = recipe(&two.standby, &table, 1).await;
    made.expression = "(select 1::pg_catalog.int8 from pg_catalog.pg_sleep(20))".to_owned();
    let error = ranged(&two.standby)
        .digest(&table, &made, &Part::ALL)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "retryable", "{error}");
}

#[tokio::test]
async fn a_locked_table_may_be_tried_again() {
    let one = One::start().await;
    one.execute("create table t (id int primary key)").await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let other = one.server.client("app").await.unwrap();
    other
        .batch_execute("begin; lock table t in access exclusive mode")
        .await
        .unwrap();
    let error = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(error.kind(), "retryable", "{error}");
}

#[tokio::test]
async fn a_list_that_is_cut_ends_with_an_error() {
    let two = Two::start().await;
    let proxy = two.pair.proxy_to(two.pair.primary()).unwrap();
    let end = two.through(proxy.port());
    two.execute("create table t (id int primary key, v text); insert into t select i, repeat('x', 50) from generate_series(1, 600000) i")
        .await;
    let table = collection(&end, "public.t").await;
    let made = recipe(&end, &table, 1).await;
    let mut rows = ranged(&end).list(&table, &made, &Part::ALL).await.unwrap();
    for _ in 0..10 {
        rows.next().await.unwrap().unwrap();
    }
    proxy.cut_after(100_000);
    let mut count = 10;
    let error = loop {
        match rows.next().await {
            Some(Ok(_)) => count += 1,
            Some(Err(error)) => break error,
            None => panic!("the list ended as if it were whole, after {count} rows"),
        }
    };
    assert!(count < 600_000);
    assert_eq!(error.kind(), "retryable", "{error}");
    assert!(rows.next().await.is_none(), "after an error there is nothing more");
}

#[tokio::test]
async fn values_above_the_bound_are_not_hashed_and_said_so() {
    let one = One::start().await;
    one.execute(
        "create table t (id int primary key, v json, b bytea); alter table t alter v set storage external; \
         insert into t values (1, to_json(repeat('x', 17 << 20)), ''), (2, '1', 'z')",
    )
    .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let error = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(error.kind(), "unsupported", "{error}");
    assert!(error.to_string().contains("16 MB"), "{error}");
    let error = list(&one.end, &table, &made, &Part::ALL).await.unwrap_err();
    assert_eq!(error.kind(), "unsupported", "{error}");
    let narrow = ranged(&one.end)
        .recipe(&table, &["id".into(), "b".into()], 1)
        .await
        .unwrap();
    assert_eq!(
        digest(&one.end, "public.t", &narrow, &Part::ALL).await.unwrap().count,
        2
    );
}

#[tokio::test]
async fn text_and_bytes_of_a_hundred_megabytes_are_compared_as_exactly_as_short_ones() {
    let one = One::start().await;
    one.execute(
        "create table t (id int primary key, v text, b bytea); \
         insert into t values (1, repeat('x', 100 << 20), null), (2, null, decode(repeat('00', 20 << 20), 'hex')), (3, 'y', 'z')",
    )
    .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let whole = digest(&one.end, "public.t", &made, &Part::ALL).await.unwrap();
    assert_eq!(whole.count, 3);
    let changes = [
        (
            "v = overlay(v placing 'y' from 60000000)",
            "id = 1",
            "v = repeat('x', 100 << 20)",
        ),
        ("v = v || ' '", "id = 1", "v = repeat('x', 100 << 20)"),
        (
            "b = set_byte(b, 20000000, 1)",
            "id = 2",
            "b = decode(repeat('00', 20 << 20), 'hex')",
        ),
        // The two trade places: no sum over columns would see it.
        ("v = '', b = v::bytea", "id = 1", "v = repeat('x', 100 << 20), b = null"),
    ];
    for (change, row, back) in changes {
        one.execute(&format!("update t set {change} where {row}")).await;
        assert_ne!(
            digest(&one.end, "public.t", &made, &Part::ALL).await.unwrap(),
            whole,
            "{change}"
        );
        one.execute(&format!("update t set {back} where {row}")).await;
    }
    assert_eq!(digest(&one.end, "public.t", &made, &Part::ALL).await.unwrap(), whole);
}

#[tokio::test]
async fn a_digest_that_replay_cancels_may_be_tried_again() {
    let two = Two::with(&[("max_standby_streaming_delay", "0"), ("hot_standby_feedback", "off")]).await;
    two.execute("create table t (id int primary key); insert into t select generate_series(1, 1000)")
        .await;
    two.settled().await;
    let table = collection(&two.standby, "public.t").await;
    let mut made = recipe(&two.standby, &table, 1).await;
    made.expression = "(select 1::pg_catalog.int8 from pg_catalog.pg_sleep(4.5))".to_owned();
    let digest = async { ranged(&two.standby).digest(&table, &made, &Part::ALL).await };
    let disturb = async {
        let running =
            "select count(*) from pg_stat_activity where query like '%pg_sleep(4.5)%' and pid <> pg_backend_pid()";
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while two.pair.standby().value("app", running).await.unwrap().as_deref() == Some("0") {
            assert!(tokio::time::Instant::now() < deadline, "the digest never ran");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        two.execute("delete from t").await;
        two.execute("vacuum t").await;
    };
    let (answer, ()) = futures::join!(digest, disturb);
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), "retryable", "{error}");
    assert!(error.to_string().contains("conflict with recovery"), "{error}");
}

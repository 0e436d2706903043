use lab::{PgOptions, PgPair};

#[tokio::test]
async fn a_pair_streams() {
    let pair = PgPair::start(PgOptions::with_database("shop")).await.unwrap();
    pair.primary()
        .execute("shop", "create table t (id int primary key); insert into t values (1)")
        .await
        .unwrap();
    let count = pair
        .standby()
        .value("shop", "select pg_is_in_recovery()")
        .await
        .unwrap();
    assert_eq!(count.as_deref(), Some("t"));
    pair.promote().await.unwrap();
    assert_eq!(
        pair.standby()
            .value("shop", "select count(*) from t")
            .await
            .unwrap()
            .as_deref(),
        Some("1")
    );
    drop(pair);
}

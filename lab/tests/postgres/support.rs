use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::{PgServer, Planted};

/// Far more than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at a boolean until it is true.
pub(crate) async fn until(server: &PgServer, database: &str, sql: &str) {
    let deadline = Instant::now() + PATIENCE;
    while server.value(database, sql).await.unwrap().as_deref() != Some("t") {
        assert!(Instant::now() < deadline, "never true: {sql}\n{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A table in the database `shop`, on both servers of a pair.
pub(crate) const NUMBERS: &str =
    "create table numbers (id bigint primary key, quantity int not null default 0, note text)";

pub(crate) async fn count(server: &PgServer) -> Option<String> {
    server.value("shop", "select count(*) from numbers").await.unwrap()
}

/// What differs in a table, found by reading every byte of every row: nothing of what the lab believes goes into it.
pub(crate) async fn look(primary: &PgServer, secondary: &PgServer, collection: &str) -> Vec<Planted> {
    let (first, second) = (rows(primary, collection).await, rows(secondary, collection).await);
    let mut ids: Vec<&i64> = first.keys().chain(second.keys()).collect();
    ids.sort();
    ids.dedup();
    ids.into_iter()
        .filter_map(|id| {
            let class = match (first.get(id), second.get(id)) {
                (Some(one), Some(other)) if one == other => return None,
                (Some(_), Some(_)) => "different",
                (Some(_), None) => "missing_on_secondary",
                _ => "missing_on_primary",
            };
            Some(Planted::new(collection, &format!("{{\"id\":{id}}}"), class))
        })
        .collect()
}

async fn rows(server: &PgServer, collection: &str) -> BTreeMap<i64, Vec<u8>> {
    let client = server.client("shop").await.unwrap();
    let sql = format!("select id, record_send(t) from {collection} t");
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

//! Rows for tables that are compared: many, the same ones each time, and at rest.

use std::time::Duration;

use anyhow::Context as _;
use lab::PgPair;

/// Rows of one insert.
const BATCH: u64 = 250_000;
/// For the standby to apply all of it.
pub(crate) const REPLAY_PATIENCE: Duration = Duration::from_secs(900);

/// What a table takes on the disk.
pub(crate) struct Sizes {
    /// With values that are kept apart.
    pub(crate) table_bytes: u64,
    pub(crate) key_bytes: u64,
}

/// Fills an empty table at the primary, whose first column is `id`, with `rows` rows of `values`: expressions of the number `i` of a row and of a
/// hash `h` of it. The key is made behind them, which is faster. Waits until the standby has all. Every tuple is frozen, so that nobody who reads
/// it later has to write.
pub(crate) async fn load(pair: &PgPair, database: &str, name: &str, values: &str, rows: u64) -> anyhow::Result<Sizes> {
    let client = pair.primary().client(database).await?;
    let mut first = 1;
    while first <= rows {
        let last = rows.min(first + BATCH - 1);
        let insert = format!(
            "insert into {name} select i, {values} from (select i, hashint8(i)::bigint & 2147483647 as h \
             from generate_series({first}::bigint, {last}::bigint) i) x"
        );
        client
            .batch_execute(&insert)
            .await
            .with_context(|| format!("insert rows {first} to {last} of {name}"))?;
        first = last + 1;
    }
    for statement in [
        "set maintenance_work_mem = '512MB'".to_owned(),
        format!("alter table {name} add primary key (id)"),
        format!("vacuum (freeze, analyze) {name}"),
        "checkpoint".to_owned(),
    ] {
        client.batch_execute(&statement).await.context(statement)?;
    }
    pair.wait_replayed(REPLAY_PATIENCE).await?;
    // The restart point of the standby writes what it still holds, now and not in the middle of a measurement.
    pair.standby()
        .client(database)
        .await?
        .batch_execute("checkpoint")
        .await?;
    let sizes = format!("select pg_table_size('{name}'), pg_indexes_size('{name}')");
    let sizes = client.query_one(&sizes, &[]).await?;
    Ok(Sizes {
        table_bytes: u64::try_from(sizes.get::<_, i64>(0))?,
        key_bytes: u64::try_from(sizes.get::<_, i64>(1))?,
    })
}

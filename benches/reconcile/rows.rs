//! The table that is compared.

use std::time::Duration;

use anyhow::Context as _;
use lab::PgPair;
use serde::Serialize;

use crate::fixture::DATABASE;

/// As evidence names it.
pub(crate) const NAME: &str = "public.measured";
/// Its columns behind the key, `id`.
pub(crate) const BODY: [&str; 5] = ["note", "amount", "weight", "paid", "placed_at"];
/// Without its key, which is made after the rows: that is faster.
pub(crate) const TABLE: &str = "create table public.measured (
    id bigint not null, note text, amount numeric(12, 2) not null, weight double precision not null,
    paid boolean not null, placed_at timestamptz not null)";

/// Rows of one insert.
const BATCH: u64 = 250_000;
/// For the standby to apply all of it.
const REPLAY_PATIENCE: Duration = Duration::from_secs(900);

/// What was compared.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    pub(crate) rows: u64,
    pub(crate) columns: usize,
    definition: &'static str,
    table_bytes: u64,
    key_bytes: u64,
}

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes / 1_000_000;
        write!(
            f,
            "{} equal rows x {} columns (bigint, text, numeric, double precision, boolean, timestamptz), {} MB and {} MB of key, \
             primary and streaming standby on this machine",
            self.rows,
            self.columns,
            mb(self.table_bytes),
            mb(self.key_bytes)
        )
    }
}

/// Fills the table at the primary with `rows` rows, the same ones each time, and waits until the standby has them. All tuples are frozen, so
/// that nobody who reads them later has to write.
pub(crate) async fn load(pair: &PgPair, rows: u64) -> anyhow::Result<Data> {
    let client = pair.primary().client(DATABASE).await?;
    let mut first = 1;
    while first <= rows {
        let last = rows.min(first + BATCH - 1);
        client
            .batch_execute(&insert(first, last))
            .await
            .with_context(|| format!("insert rows {first} to {last}"))?;
        first = last + 1;
    }
    for statement in [
        "set maintenance_work_mem = '512MB'",
        "alter table public.measured add primary key (id)",
        "vacuum (freeze, analyze) public.measured",
        "checkpoint",
    ] {
        client.batch_execute(statement).await.context(statement)?;
    }
    pair.wait_replayed(REPLAY_PATIENCE).await?;
    // The restart point of the standby writes what it still holds, now and not in the middle of a measurement.
    pair.standby()
        .client(DATABASE)
        .await?
        .batch_execute("checkpoint")
        .await?;
    let sizes = client
        .query_one(
            "select pg_table_size('public.measured'), pg_indexes_size('public.measured')",
            &[],
        )
        .await?;
    Ok(Data {
        rows,
        columns: BODY.len() + 1,
        definition: TABLE,
        table_bytes: u64::try_from(sizes.get::<_, i64>(0))?,
        key_bytes: u64::try_from(sizes.get::<_, i64>(1))?,
    })
}

fn insert(first: u64, last: u64) -> String {
    format!(
        "insert into public.measured
         select i, case when h % 20 = 0 then null else md5(h::text) end, (h % 100000000) / 100.0, sqrt(h), h % 3 = 0,
                timestamptz '2026-01-01 00:00:00+00' + i * interval '1.000001 seconds'
         from (select i, hashint8(i)::bigint & 2147483647 as h from generate_series({first}::bigint, {last}::bigint) i) x"
    )
}

//! The table that is compared.

use lab::PgPair;
use serde::Serialize;

use crate::fixture::DATABASE;
use crate::stage::loading;

/// As evidence names it.
pub(crate) const NAME: &str = "public.measured";
/// Its columns behind the key, `id`.
pub(crate) const BODY: [&str; 5] = ["note", "amount", "weight", "paid", "placed_at"];
/// Without its key, which is made after the rows: that is faster.
pub(crate) const TABLE: &str = "create table public.measured (
    id bigint not null, note text, amount numeric(12, 2) not null, weight double precision not null,
    paid boolean not null, placed_at timestamptz not null)";

/// What [`BODY`] holds, as [`loading::load`] takes it.
const VALUES: &str = "case when h % 20 = 0 then null else md5(h::text) end, (h % 100000000) / 100.0, sqrt(h), h % 3 = 0, \
     timestamptz '2026-01-01 00:00:00+00' + i * interval '1.000001 seconds'";

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

/// Fills the table.
pub(crate) async fn load(pair: &PgPair, rows: u64) -> anyhow::Result<Data> {
    let sizes = loading::load(pair, DATABASE, NAME, VALUES, rows).await?;
    Ok(Data {
        rows,
        columns: BODY.len() + 1,
        definition: TABLE,
        table_bytes: sizes.table_bytes,
        key_bytes: sizes.key_bytes,
    })
}

//! Where to cut a table: at keys that it holds, never at numbers computed from its extremes.

use super::key_type::KeyColumn;
use super::quote::{ROW, column};
use super::session::Lease;
use super::table::Table;
use crate::{Key, Result};

/// Up to this many rows the boundaries are exact: one pass over the key's index.
const EXACT_ROWS_MAX: u64 = 200_000;
/// Rows in a block, where nothing was ever analysed.
const BLOCK_ROWS_GUESS: u64 = 80;
/// Blocks sampled for each chunk of a larger table. Where keys follow the order of blocks, chunks vary by about one part in the square
/// root of this.
const BLOCKS_PER_CHUNK: u64 = 10;
/// Rows kept of those blocks for each chunk.
const ROWS_PER_CHUNK: u64 = 50;
/// Keeping fewer rows than one of so many would keep less than one row of a block.
const ONE_OF_MAX: u64 = 200;
/// More chunks than this are not planned: they grow instead.
const BOUNDARIES_MAX: u64 = 200_000;
/// The seed of the sample: the same table gives the same plan.
const SAMPLE_SEED: u32 = 1;

/// See [`crate::Ranged::split`].
pub(crate) async fn boundaries(
    lease: &Lease,
    table: &Table,
    key: &[KeyColumn],
    rows_per_chunk: u64,
    tried: &str,
) -> Result<Vec<Key>> {
    let rows = table
        .rows_estimate
        .unwrap_or(table.blocks.saturating_mul(BLOCK_ROWS_GUESS));
    let sql = if rows > EXACT_ROWS_MAX {
        sampled(table, key, rows_per_chunk.max(1), rows)
    } else {
        exact(table, key, rows_per_chunk.max(1))
    };
    keys(lease, key, &sql, tried).await
}

/// See [`crate::Ranged::cut`].
pub(crate) async fn cuts(lease: &Lease, key: &[KeyColumn], source: &str, pieces: u32, tried: &str) -> Result<Vec<Key>> {
    let sql = numbered(key, source, &begins_a_part(pieces.into()));
    keys(lease, key, &sql, tried).await
}

async fn keys(lease: &Lease, key: &[KeyColumn], sql: &str, tried: &str) -> Result<Vec<Key>> {
    let rows = lease
        .query_typed(sql, &[])
        .await
        .map_err(|error| lease.trouble(tried, error))?;
    rows.iter()
        .map(|row| {
            let values: std::result::Result<Vec<_>, _> = key
                .iter()
                .enumerate()
                .map(|(index, column)| column.kind.read(row, index))
                .collect();
            values.map(Key).map_err(|error| lease.trouble(tried, error))
        })
        .collect()
}

/// Every n-th key. The first key of the table is no boundary: the first range is open below.
fn exact(table: &Table, key: &[KeyColumn], rows_per_chunk: u64) -> String {
    let source = format!("{} as {ROW} where {}", table.from(), table.within("true"));
    let is_boundary = format!("pg_catalog.int8eq(pg_catalog.int8mod(x.n, '{rows_per_chunk}'::pg_catalog.int8), 0)");
    numbered(key, &source, &is_boundary)
}

/// The keys that cut a sample of blocks into as many parts as there will be chunks: fewer, if the statistics promised too many rows.
fn sampled(table: &Table, key: &[KeyColumn], rows_per_chunk: u64, rows: u64) -> String {
    let chunks = (rows / rows_per_chunk).clamp(1, BOUNDARIES_MAX);
    let blocks = table.blocks.max(1);
    // Hundredths of a percent, rounded up: whole numbers keep it exact.
    let share = (chunks * BLOCKS_PER_CHUNK * 10_000).div_ceil(blocks).clamp(1, 10_000);
    let read = rows.saturating_mul(share) / 10_000;
    let one_of = (read / (chunks * ROWS_PER_CHUNK)).clamp(1, ONE_OF_MAX);
    let source = format!(
        "{} as {ROW} tablesample system ({}.{:02}) repeatable ({SAMPLE_SEED}) \
         where {}",
        table.from(),
        share / 100,
        share % 100,
        table.within(&format!(
            "pg_catalog.int4eq(pg_catalog.int4mod(pg_catalog.hashtext({ROW}.ctid::pg_catalog.text), {one_of}), 0)"
        ))
    );
    numbered(key, &source, &begins_a_part(chunks))
}

/// Whether row `x.n` of `x.total` is the first of one of so many parts of about the same size.
fn begins_a_part(parts: u64) -> String {
    let part = |n: &str| format!("pg_catalog.int8div(pg_catalog.int8mul({n}, '{parts}'::pg_catalog.int8), x.total)");
    format!(
        "pg_catalog.int8ne({}, {})",
        part("x.n"),
        part("pg_catalog.int8mi(x.n, 1)")
    )
}

/// The keys of `source` but the first, where `is_boundary` holds of the row's number `x.n`, from 0, and of the number of rows `x.total`.
/// They come in the order of the key, which is unique: so they increase strictly.
fn numbered(key: &[KeyColumn], source: &str, is_boundary: &str) -> String {
    let columns: Vec<String> = key
        .iter()
        .map(|part| format!("{}{}", column(&part.name), if part.descending { " desc" } else { "" }))
        .collect();
    let canonical: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(index, part)| format!("{} as k{index}", part.kind.canonical(&part.name)))
        .collect();
    let names: Vec<String> = (0..key.len()).map(|index| format!("x.k{index}")).collect();
    format!(
        "select {names} from (select {canonical}, pg_catalog.int8mi(pg_catalog.row_number() over (order by {columns}), 1) as n, \
         pg_catalog.count(*) over () as total from {source}) as x \
         where pg_catalog.int8gt(x.n, 0) and {is_boundary} order by x.n limit {BOUNDARIES_MAX}",
        names = names.join(", "),
        canonical = canonical.join(", "),
        columns = columns.join(", "),
    )
}

//! Passes over a table in the order of its blocks: what is left where no key can be trusted.
//!
//! A part is a range of blocks, read by one statement, so that a standby's limit for statements holds however large the table is. Of a
//! partitioned table it is that range of each partition. The last part is open at its end: blocks that are added later are in it.

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream;
use tokio_postgres::{Row, RowStream};

use super::key_type::KeyType;
use super::quote::{ROW, literal};
use super::ranged::digest_of;
use super::recipe;
use super::session::Lease;
use super::table::Table;
use super::tables::Tables;
use crate::{
    Collection, DigestMode, Key, KeyedBy, Listing, Ranged, Recipe, Result, RowDigest, ScanPart, Scanned, StoreError,
    Trouble,
};

/// Blocks that one statement reads on a standby, where it has seconds: 32 MB.
const BLOCKS_ON_STANDBY_MAX: u64 = 4_096;
/// Blocks that one statement reads at a primary, where it has a minute: 512 MB.
const BLOCKS_ON_PRIMARY_MAX: u64 = 65_536;
/// The first version that finds a range of blocks without reading the whole table.
const BLOCK_RANGES_SINCE: i32 = 140_000;

impl Tables {
    /// The ranges of blocks in which one statement each reads a table, as large as it is now; at least `wanted`, unless they were empty.
    pub(crate) async fn blocks(&self, lease: &Lease, table: &Table, wanted: u32, tried: &str) -> Result<Vec<ScanPart>> {
        let root = literal(&table.qualified());
        let sql = format!(
            "select pg_catalog.current_setting('server_version_num')::pg_catalog.int4, pg_catalog.pg_is_in_recovery(), \
             pg_catalog.int8div(greatest(pg_catalog.pg_relation_size({root}::pg_catalog.regclass), \
             (select pg_catalog.max(pg_catalog.pg_relation_size(l.relid)) \
             from pg_catalog.pg_partition_tree({root}::pg_catalog.regclass) as l where l.isleaf)), \
             pg_catalog.current_setting('block_size')::pg_catalog.int8)"
        );
        let failed = |error| lease.trouble(tried, error);
        let rows = lease.query_typed(&sql, &[]).await.map_err(failed)?;
        let [row] = rows.as_slice() else {
            return Err(StoreError::Corrupt(
                self.trouble(tried, "not one row of sizes came back"),
            ));
        };
        let version: i32 = row.try_get(0).map_err(failed)?;
        let is_in_recovery: bool = row.try_get(1).map_err(failed)?;
        let blocks: Option<i64> = row.try_get(2).map_err(failed)?;
        let blocks = blocks.and_then(|blocks| u64::try_from(blocks).ok()).unwrap_or(0);
        if version < BLOCK_RANGES_SINCE {
            return Ok(cut(0, 1));
        }
        let blocks_max = if is_in_recovery {
            BLOCKS_ON_STANDBY_MAX
        } else {
            BLOCKS_ON_PRIMARY_MAX
        };
        let each = blocks.div_ceil(u64::from(wanted.max(1))).clamp(1, blocks_max);
        Ok(cut(blocks, each))
    }
}

/// `blocks` in ranges of `each`, of which the last is open.
fn cut(blocks: u64, each: u64) -> Vec<ScanPart> {
    let parts = blocks.div_ceil(each).max(1);
    (0..parts)
        .map(|at| ScanPart::Blocks {
            first: at * each,
            end: (at + 1 < parts).then(|| (at + 1) * each),
        })
        .collect()
}

/// The condition that holds for the rows in a range of blocks. Written so that the server finds them without reading all others.
///
/// # Errors
/// In words: the part is of another kind of store.
pub(crate) fn in_blocks(part: &ScanPart) -> std::result::Result<String, String> {
    let (first, end) = match part {
        ScanPart::Segment { index: 0, of: 1 } => (0, None),
        ScanPart::Blocks { first, end } => (*first, *end),
        ScanPart::Segment { .. } => return Err(format!("{part}: a table is cut into blocks")),
    };
    let mut terms = Vec::with_capacity(2);
    for (operator, block) in [(">=", Some(first).filter(|first| *first > 0)), ("<", end)] {
        if let Some(block) = block {
            terms.push(format!(
                "{ROW}.ctid operator(pg_catalog.{operator}) '({block},0)'::pg_catalog.tid"
            ));
        }
    }
    if terms.is_empty() {
        terms.push("true".to_owned());
    }
    Ok(terms.join(" and "))
}

#[async_trait]
impl Scanned for Tables {
    async fn recipe(
        &self,
        collection: &Collection,
        columns: &[String],
        seed: u64,
        keyed_by: KeyedBy,
    ) -> Result<Recipe> {
        let tried = format!("make a recipe for {}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let made = match keyed_by {
            KeyedBy::Columns => recipe::recipe(&table, columns, seed),
            KeyedBy::Digest => {
                let keyless = Table {
                    key: Ok(Vec::new()),
                    ..Table::clone(&table)
                };
                recipe::recipe(&keyless, columns, seed)
            }
        };
        made.map_err(|reason| StoreError::Unsupported(self.trouble(&tried, reason)))
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        Ranged::known_answer(self, collection, recipe).await
    }

    async fn parts(&self, collection: &Collection, wanted: u32) -> Result<Vec<ScanPart>> {
        let tried = format!("plan parts of {}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        self.blocks(&lease, &table, wanted, &tried).await
    }

    async fn scan(&self, collection: &Collection, recipe: &Recipe, part: &ScanPart) -> Result<Listing> {
        let tried = format!("scan {}, {part}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let condition = in_blocks(part).map_err(|reason| StoreError::Unsupported(self.trouble(&tried, reason)))?;
        let key = if recipe.is_keyless() {
            &[]
        } else {
            self.key(&table, &tried)?
        };
        let mut selected: Vec<String> = key.iter().map(|column| column.kind.canonical(&column.name)).collect();
        if recipe.mode != DigestMode::Pushdown {
            let why = "rows of a scan are hashed on the server only";
            return Err(StoreError::Unsupported(self.trouble(&tried, why)));
        }
        selected.push(recipe.expression.clone());
        let sql = format!(
            "select {} from {} as {ROW} where {}",
            selected.join(", "),
            table.from(),
            table.within(&condition)
        );
        let no_parameters: [(i64, tokio_postgres::types::Type); 0] = [];
        let rows = lease
            .query_typed_raw(&sql, no_parameters)
            .await
            .map_err(|error| lease.trouble(&tried, error))?;
        let reader = ListReader {
            kinds: key.iter().map(|column| column.kind).collect(),
            wide: self.too_wide(&tried, 1),
            corrupt: self.trouble(&tried, "a row without key or digest"),
            tried,
            lease,
            rows: Box::pin(rows),
        };
        Ok(reader.stream())
    }
}

/// Reads a scan off the wire. Rows wait in the socket, not in memory, while nobody asks for them.
struct ListReader {
    rows: std::pin::Pin<Box<RowStream>>,
    lease: Lease,
    /// Of the columns of the key; none: the digest stands in its place.
    kinds: Vec<KeyType>,
    tried: String,
    wide: StoreError,
    corrupt: Trouble,
}

impl ListReader {
    /// Ends after the last row or the first error.
    fn stream(self) -> Listing {
        stream::unfold(Some(self), |reader| async move {
            let mut reader = reader?;
            match reader.rows.next().await? {
                Ok(row) => match reader.read(&row) {
                    Ok(item) => Some((Ok(item), Some(reader))),
                    Err(error) => Some((Err(error), None)),
                },
                Err(error) => Some((Err(reader.lease.trouble(&reader.tried, error)), None)),
            }
        })
        .boxed()
    }

    fn read(&self, row: &Row) -> Result<(Key, RowDigest)> {
        let corrupt = |error: tokio_postgres::Error| {
            let mut trouble = self.corrupt.clone();
            trouble.cause = format!("{}: {error}", trouble.cause);
            StoreError::Corrupt(trouble)
        };
        let hash: Option<i64> = row.try_get(self.kinds.len()).map_err(corrupt)?;
        let digest = digest_of(hash.ok_or_else(|| self.wide.clone())?);
        if self.kinds.is_empty() {
            return Ok((Key::digest(digest), digest));
        }
        let kinds = self.kinds.iter().enumerate();
        let key: std::result::Result<Vec<_>, _> = kinds.map(|(index, kind)| kind.read(row, index)).collect();
        Ok((Key(key.map_err(corrupt)?), digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_blocks_follow_one_another_and_the_last_is_open() {
        for (blocks, each, parts) in [(0, 1, 1), (1, 1, 1), (10, 4, 3), (8, 4, 2), (1_000_000, 65_536, 16)] {
            let cut = cut(blocks, each);
            assert_eq!(cut.len(), parts);
            let mut next = Some(0);
            for part in &cut {
                let ScanPart::Blocks { first, end } = part else {
                    panic!("{part:?}");
                };
                assert_eq!(Some(*first), next);
                next = *end;
            }
            assert_eq!(next, None);
        }
    }

    #[test]
    fn the_condition_is_one_that_the_server_finds_blocks_by() {
        let part = |first, end| in_blocks(&ScanPart::Blocks { first, end }).unwrap();
        assert_eq!(part(0, None), "true");
        assert_eq!(
            part(7, Some(9)),
            "t.ctid operator(pg_catalog.>=) '(7,0)'::pg_catalog.tid and t.ctid operator(pg_catalog.<) '(9,0)'::pg_catalog.tid"
        );
        assert!(in_blocks(&ScanPart::Segment { index: 1, of: 2 }).is_err());
    }
}

//! Digests and lists of parts of a table.

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::copy::{Copying, Layout};
use super::part::{condition, in_words};
use super::quote::{ROW, column};
use super::recipe;
use super::session::Lease;
use super::shape::VALUE_BYTES_MAX;
use super::table::{Table, TableKind};
use super::tables::Tables;
use crate::ranged::one_by_one;
use crate::{
    ChunkDigest, Collection, DigestMode, Kept, KeptRows, Key, KeyRange, Listing, Part, Ranged, Recipe, Result,
    RowDigest, StoreError,
};

/// A table with fewer boundaries, or fewer blocks, may well be read whole for a range of it.
const BOUNDARIES_EXPLAINED_MIN: usize = 8;
const BLOCKS_EXPLAINED_MIN: u64 = 1_000;
/// Parts that one statement sums up: the expression stands in it once for each.
const PARTS_PER_STATEMENT: usize = 32;

/// The snapshot of this instant, if no older transaction is still under way: then whatever commits next raises its upper end, so that two
/// alike show the same rows. In recovery the list of what is under way stays empty, and nothing is told by it.
const MOMENT: &str = "\
select case when not pg_catalog.pg_is_in_recovery() and pg_catalog.pg_snapshot_xmin(shown) = pg_catalog.pg_snapshot_xmax(shown)
            then shown::pg_catalog.text end
from pg_catalog.pg_current_snapshot() as shown";

/// A signed 64-bit hash as a digest: its bits in the low half.
pub(crate) fn digest_of(hash: i64) -> RowDigest {
    RowDigest(u128::from(hash.cast_unsigned()))
}

/// The exact sum of signed 64-bit hashes, as the server writes it, modulo 2^64. `None` is the sum of no rows.
fn sum_of(text: Option<&str>) -> Option<u128> {
    let Some(text) = text else { return Some(0) };
    let exact: i128 = text.parse().ok()?;
    Some(exact.cast_unsigned() & u128::from(u64::MAX))
}

impl Tables {
    /// The error for `rows` rows that hold values which are too wide to be hashed.
    pub(crate) fn too_wide(&self, tried: &str, rows: u64) -> StoreError {
        StoreError::Unsupported(
            self.trouble(
                tried,
                format!(
                    "{rows} rows hold a value of more than {} MB, which is not hashed",
                    VALUE_BYTES_MAX >> 20
                ),
            )
            .hint("exclude the column, or compare it by other means"),
        )
    }

    /// Counts and sums up each of these sources of rows, in one statement.
    async fn sums(&self, lease: &Lease, tried: &str, expression: &str, sources: &[String]) -> Result<Vec<ChunkDigest>> {
        let selects: Vec<String> = sources
            .iter()
            .enumerate()
            .map(|(number, source)| {
                // `offset 0` keeps the row's hash from being computed once for each aggregate.
                format!(
                    "select {number} as part, pg_catalog.count(*), pg_catalog.count(x.h), \
                     pg_catalog.sum(x.h)::pg_catalog.text from (select {expression} as h from {source} offset 0) as x"
                )
            })
            .collect();
        let sql = format!("{} order by part", selects.join(" union all "));
        let rows = lease
            .query_typed(&sql, &[])
            .await
            .map_err(|error| lease.trouble(tried, error))?;
        if rows.len() != sources.len() {
            let cause = format!("{} sums came back of {}", rows.len(), sources.len());
            return Err(StoreError::Corrupt(self.trouble(tried, cause)));
        }
        rows.iter().map(|row| self.sum_in(lease, tried, row)).collect()
    }

    fn sum_in(&self, lease: &Lease, tried: &str, row: &tokio_postgres::Row) -> Result<ChunkDigest> {
        let corrupt = |cause: &str| StoreError::Corrupt(self.trouble(tried, cause));
        let read = |index: usize| -> Result<u64> {
            let count: i64 = row.try_get(index).map_err(|error| lease.trouble(tried, error))?;
            u64::try_from(count).map_err(|_| corrupt("a negative count"))
        };
        let (count, hashed) = (read(1)?, read(2)?);
        if hashed != count {
            return Err(self.too_wide(tried, count - hashed));
        }
        let sum: Option<&str> = row.try_get(3).map_err(|error| lease.trouble(tried, error))?;
        let sum = sum_of(sum).ok_or_else(|| corrupt("the sum of digests is not a number"))?;
        Ok(ChunkDigest { count, sum })
    }

    async fn sum(&self, lease: &Lease, tried: &str, expression: &str, source: String) -> Result<ChunkDigest> {
        let sums = self.sums(lease, tried, expression, &[source]).await?;
        // As many as sources.
        sums.into_iter()
            .next()
            .ok_or_else(|| StoreError::Corrupt(self.trouble(tried, "no sum came back")))
    }
}

#[async_trait]
impl Ranged for Tables {
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64) -> Result<Recipe> {
        let tried = format!("make a recipe for {}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        recipe::recipe(&table, columns, seed).map_err(|reason| StoreError::Unsupported(self.trouble(&tried, reason)))
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        let tried = format!("hash a known row of {}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let source = recipe::literal_rows(&table, &recipe.columns);
        match recipe.mode {
            DigestMode::Pushdown => Ok(self.sum(&lease, &tried, &recipe.expression, source).await?.sum),
            DigestMode::Client => {
                let layout = Layout::of_columns(&table, recipe, false);
                let copying = self.copy(lease, layout, &source, tried).await?;
                Ok(kept(copying, recipe.mode, 0).await?.digest.sum)
            }
        }
    }

    async fn split(&self, collection: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>> {
        let tried = format!("plan chunks of {}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let key = self.key(&table, &tried)?;
        super::split::boundaries(&lease, &table, key, rows_per_chunk, &tried).await
    }

    async fn digest(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
        let tried = format!("digest {}, {}", collection.name, in_words(part));
        if recipe.mode == DigestMode::Client {
            return Ok(self.read_part((collection, part), recipe, 0, tried).await?.digest);
        }
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let source = self.source(&table, part, &tried)?;
        self.sum(&lease, &tried, &recipe.expression, source).await
    }

    async fn digests(&self, collection: &Collection, recipe: &Recipe, parts: &[Part]) -> Result<Vec<ChunkDigest>> {
        if recipe.mode == DigestMode::Client {
            return one_by_one(self, collection, recipe, parts).await;
        }
        let tried = format!("digest {} in {} parts", collection.name, parts.len());
        let mut digests = Vec::with_capacity(parts.len());
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        for parts in parts.chunks(PARTS_PER_STATEMENT) {
            let sources: Result<Vec<String>> = parts.iter().map(|part| self.source(&table, part, &tried)).collect();
            digests.extend(self.sums(&lease, &tried, &recipe.expression, &sources?).await?);
        }
        Ok(digests)
    }

    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        let tried = format!("list {}, {}", collection.name, in_words(part));
        let corrupt = StoreError::Corrupt(self.trouble(&tried, "a row without key or digest"));
        let copying = self.copy_part((collection, part), recipe, tried).await?;
        let batches = stream::try_unfold(copying, |mut copying| async move {
            let mut rows = KeptRows::default();
            let came = copying.next(Some(&mut rows)).await?;
            Ok(came.map(|_| (rows, copying)))
        });
        let items = batches.map_ok(move |rows| {
            let corrupt = corrupt.clone();
            stream::iter((0..rows.len()).map(move |index| {
                let item = rows.key(index).zip(rows.digest(index));
                item.ok_or_else(|| corrupt.clone())
            }))
        });
        Ok(items.try_flatten().boxed())
    }

    async fn read(&self, collection: &Collection, recipe: &Recipe, part: &Part, keep_bytes_max: usize) -> Result<Kept> {
        let tried = format!("read {}, {}", collection.name, in_words(part));
        self.read_part((collection, part), recipe, keep_bytes_max, tried).await
    }

    async fn cut(&self, collection: &Collection, range: &KeyRange, pieces: u32) -> Result<Vec<Key>> {
        let tried = format!("cut a range of {} into {pieces}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let source = self.source(&table, &Part::Range(range.clone()), &tried)?;
        super::split::cuts(&lease, self.key(&table, &tried)?, &source, pieces, &tried).await
    }

    async fn moment(&self) -> Result<Option<String>> {
        let tried = "ask which transactions are visible";
        let lease = self.lease().await?;
        let rows = lease.query_typed(MOMENT, &[]).await;
        let rows = rows.map_err(|error| lease.trouble(tried, error))?;
        let [row] = rows.as_slice() else {
            return Err(StoreError::Corrupt(self.trouble(tried, "not one snapshot came back")));
        };
        let visible: Option<&str> = row.try_get(0).map_err(|error| lease.trouble(tried, error))?;
        // Asked last: it speaks for every session that was opened before, also for those that digests ran on.
        Ok(visible
            .zip(self.only_instance())
            .map(|(visible, instance)| format!("{instance} {visible}")))
    }

    async fn serves(&self, collection: &Collection, recipe: &Recipe, boundaries: &[Key]) -> Result<()> {
        let tried = format!("look at the plan of a range of {}", collection.name);
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        if boundaries.len() < BOUNDARIES_EXPLAINED_MIN || table.blocks < BLOCKS_EXPLAINED_MIN {
            return Ok(());
        }
        let (lower, upper) = (boundaries.len() / 2 - 1, boundaries.len() / 2);
        let range = KeyRange {
            lower: boundaries.get(lower).cloned(),
            upper: boundaries.get(upper).cloned(),
        };
        let source = self.source(&table, &Part::Range(range), &tried)?;
        // Either mode reads the same rows for the same condition.
        let sql = format!(
            "explain (costs off) select {} from {source}",
            recipe
                .columns
                .iter()
                .map(|name| column(name))
                .collect::<Vec<_>>()
                .join(", ")
        );
        let rows = lease
            .query_typed(&sql, &[])
            .await
            .map_err(|error| lease.trouble(&tried, error))?;
        let lines: std::result::Result<Vec<&str>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        let lines = lines.map_err(|error| lease.trouble(&tried, error))?;
        let is_read_whole = lines.iter().any(|line| line.contains("Seq Scan"));
        let has_index = lines.iter().any(|line| line.contains("Index"));
        // Of a partitioned table, a small partition may well be read whole.
        if is_read_whole && !(has_index && table.kind == TableKind::Partitioned) {
            return Err(StoreError::Unsupported(
                self.trouble(&tried, "the server would read the whole table for each range")
                    .hint("analyze the table, and look at its key's index and at the planner's settings"),
            ));
        }
        Ok(())
    }
}

impl Tables {
    /// The rows of `part`, as a table expression with its condition.
    fn source(&self, table: &Table, part: &Part, tried: &str) -> Result<String> {
        let condition = condition(self.key(table, tried)?, part)
            .map_err(|reason| StoreError::Unsupported(self.trouble(tried, reason)))?;
        Ok(format!("{} as {ROW} where {}", table.from(), table.within(&condition)))
    }

    async fn copy(&self, lease: Lease, layout: Layout, source: &str, tried: String) -> Result<Copying> {
        let wide = self.too_wide(&tried, 1);
        Copying::begin(lease, layout, source, (tried, wide)).await
    }

    /// Begins to copy key and digest of each row of a part, whoever hashes.
    pub(super) async fn copy_part(
        &self,
        (collection, part): (&Collection, &Part),
        recipe: &Recipe,
        tried: String,
    ) -> Result<Copying> {
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let key = self.key(&table, &tried)?;
        let may_be_wide = recipe.mode == DigestMode::Client && self.may_be_wide(&lease, &table, &tried).await?;
        let layout = Layout::of_rows(&table, key, recipe, may_be_wide);
        let source = self.source(&table, part, &tried)?;
        self.copy(lease, layout, &source, tried).await
    }

    async fn read_part(
        &self,
        of: (&Collection, &Part),
        recipe: &Recipe,
        keep_bytes_max: usize,
        tried: String,
    ) -> Result<Kept> {
        let copying = self.copy_part(of, recipe, tried).await?;
        kept(copying, recipe.mode, keep_bytes_max).await
    }
}

/// Reads a copy to its end. Rows are kept while they fit.
async fn kept(mut copying: Copying, mode: DigestMode, keep_bytes_max: usize) -> Result<Kept> {
    let mut kept = Kept {
        digest: ChunkDigest::default(),
        rows: (keep_bytes_max > 0).then(KeptRows::default),
    };
    while let Some(digest) = copying.next(kept.rows.as_mut()).await? {
        kept.digest = kept.digest.merge(digest, mode);
        kept.rows = kept.rows.filter(|rows| rows.bytes() <= keep_bytes_max);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_sums_wrap_as_the_sum_of_unsigned_digests_does() {
        let hashes = [i64::MIN, i64::MIN, -1, 5, i64::MAX];
        let exact: i128 = hashes.iter().copied().map(i128::from).sum();
        let mut chunk = ChunkDigest::default();
        for hash in hashes {
            chunk = chunk.merge(
                ChunkDigest {
                    count: 1,
                    sum: digest_of(hash).0,
                },
                DigestMode::Pushdown,
            );
        }
        assert_eq!(sum_of(Some(&exact.to_string())), Some(chunk.sum));
        assert_eq!(sum_of(None), Some(0));
        assert_eq!(sum_of(Some("x")), None);
    }
}

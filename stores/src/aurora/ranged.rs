//! Digests and lists of parts of a table, computed by the server.

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio_postgres::{Row, RowStream};

use super::key_type::KeyType;
use super::part::{condition, in_words};
use super::quote::ROW;
use super::recipe;
use super::session::Lease;
use super::shape::VALUE_BYTES_MAX;
use super::tables::Tables;
use crate::{
    ChunkDigest, Collection, DigestMode, Key, Listing, Part, Ranged, Recipe, Result, RowDigest, StoreError, Trouble,
};

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

    /// Only the recipe's own mode can be executed here.
    fn expression<'a>(&self, recipe: &'a Recipe, tried: &str) -> Result<&'a str> {
        match recipe.mode {
            DigestMode::Pushdown => Ok(&recipe.expression),
            DigestMode::Client => Err(StoreError::Unsupported(
                self.trouble(tried, "this store hashes on the server only"),
            )),
        }
    }

    /// Runs `select count, hashed, sum` over a source of rows.
    async fn sum(&self, lease: &Lease, tried: &str, expression: &str, source: &str) -> Result<ChunkDigest> {
        // `offset 0` keeps the row's hash from being computed once for each aggregate.
        let sql = format!(
            "select pg_catalog.count(*), pg_catalog.count(x.h), pg_catalog.sum(x.h)::pg_catalog.text \
             from (select {expression} as h from {source} offset 0) as x"
        );
        let rows = lease
            .query_typed(&sql, &[])
            .await
            .map_err(|error| lease.trouble(tried, error))?;
        let corrupt = |cause: &str| StoreError::Corrupt(self.trouble(tried, cause));
        let [row] = rows.as_slice() else {
            return Err(corrupt("not one row of sums came back"));
        };
        let read = |index: usize| -> Result<u64> {
            let count: i64 = row.try_get(index).map_err(|error| lease.trouble(tried, error))?;
            u64::try_from(count).map_err(|_| corrupt("a negative count"))
        };
        let (count, hashed) = (read(0)?, read(1)?);
        if hashed != count {
            return Err(self.too_wide(tried, count - hashed));
        }
        let sum: Option<&str> = row.try_get(2).map_err(|error| lease.trouble(tried, error))?;
        let sum = sum_of(sum).ok_or_else(|| corrupt("the sum of digests is not a number"))?;
        Ok(ChunkDigest { count, sum })
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
        let expression = self.expression(recipe, &tried)?;
        let source = recipe::literal_rows(&table, &recipe.columns);
        Ok(self.sum(&lease, &tried, expression, &source).await?.sum)
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
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let condition = condition(self.key(&table, &tried)?, part)
            .map_err(|reason| StoreError::Unsupported(self.trouble(&tried, reason)))?;
        let expression = self.expression(recipe, &tried)?;
        let source = format!("{} as {ROW} where {}", table.from(), table.within(&condition));
        self.sum(&lease, &tried, expression, &source).await
    }

    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        let tried = format!("list {}, {}", collection.name, in_words(part));
        let lease = self.lease().await?;
        let table = self.table(&lease, collection, &tried).await?;
        let key = self.key(&table, &tried)?;
        let unsupported = |reason| StoreError::Unsupported(self.trouble(&tried, reason));
        let condition = condition(key, part).map_err(unsupported)?;
        let expression = self.expression(recipe, &tried)?;
        let mut selected: Vec<String> = key.iter().map(|column| column.kind.canonical(&column.name)).collect();
        selected.push(expression.to_owned());
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

/// Reads a listing off the wire. Rows wait in the socket, not in memory, while nobody asks for them.
struct ListReader {
    rows: std::pin::Pin<Box<RowStream>>,
    lease: Lease,
    kinds: Vec<KeyType>,
    tried: String,
    wide: StoreError,
    corrupt: Trouble,
}

impl ListReader {
    /// Ends after the last row or the first error.
    fn stream(self) -> BoxStream<'static, Result<(Key, RowDigest)>> {
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
        let key: std::result::Result<Vec<_>, _> = self
            .kinds
            .iter()
            .enumerate()
            .map(|(index, kind)| kind.read(row, index))
            .collect();
        let hash: Option<i64> = row.try_get(self.kinds.len()).map_err(corrupt)?;
        let hash = hash.ok_or_else(|| self.wide.clone())?;
        Ok((Key(key.map_err(corrupt)?), digest_of(hash)))
    }
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

//! Digests over parts of an ordered collection.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{ChunkDigest, Collection, Kept, Key, KeyRange, Part, Recipe, Result, RowDigest};

/// A stream of (key, row digest). It ends with `None` only after the last row: a fault in mid-stream is an `Err` item, and then
/// nothing that came before may be taken for the whole.
pub type Listing = BoxStream<'static, Result<(Key, RowDigest)>>;

/// Splits a collection into key ranges and digests them.
#[async_trait]
pub trait Ranged: std::fmt::Debug + Send + Sync + 'static {
    /// How rows of `collection` will be hashed over `columns` with `seed`. Made once, at the primary, and used at both ends.
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64) -> Result<Recipe>;

    /// The recipe applied to a fixed literal row of the same types. Both ends must give the same value before a run; if they
    /// do not, their digests cannot be compared.
    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128>;

    /// Interior boundaries, strictly increasing in the store's order, that cut the collection into ranges of about
    /// `rows_per_chunk` rows. From statistics or sampled keys, never from arithmetic on the extremes. Empty: one range.
    async fn split(&self, collection: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>>;

    /// Count and digest of the rows of one part, read in one snapshot.
    async fn digest(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest>;

    /// [`Ranged::digest`] of each of these parts, in their order; in one request where the store can.
    async fn digests(&self, collection: &Collection, recipe: &Recipe, parts: &[Part]) -> Result<Vec<ChunkDigest>> {
        one_by_one(self, collection, recipe, parts).await
    }

    /// Key and digest of each row of one part, read in one snapshot, in no order that may be trusted.
    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing>;

    /// As [`Ranged::digest`], and keeps the digests of the rows as long as they take no more than `keep_bytes_max` bytes together. One
    /// look: the digest is that of exactly the rows that were kept. A store that hashes elsewhere keeps none.
    async fn read(&self, collection: &Collection, recipe: &Recipe, part: &Part, keep_bytes_max: usize) -> Result<Kept> {
        let _ = keep_bytes_max;
        Ok(Kept {
            digest: self.digest(collection, recipe, part).await?,
            rows: None,
        })
    }

    /// Fewer than `pieces` keys, strictly increasing and strictly between its ends, that cut the rows of a range into parts of about the
    /// same size. Empty: there are none, or this store does not know any.
    async fn cut(&self, collection: &Collection, range: &KeyRange, pieces: u32) -> Result<Vec<Key>> {
        let _ = (collection, range, pieces);
        Ok(Vec::new())
    }

    /// A word for what can be read at this end now. Two that are alike prove that nothing which readers here can see changed between
    /// them, whichever connection they read on. `None`: this store cannot tell, or not at this instant.
    async fn moment(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether each range between these boundaries is read by itself here. `Unsupported` with the reason when every range would read the
    /// whole collection.
    async fn serves(&self, collection: &Collection, recipe: &Recipe, boundaries: &[Key]) -> Result<()> {
        let _ = (collection, recipe, boundaries);
        Ok(())
    }
}

/// [`Ranged::digests`], a request for each part.
pub(crate) async fn one_by_one<R: Ranged + ?Sized>(
    ranged: &R,
    collection: &Collection,
    recipe: &Recipe,
    parts: &[Part],
) -> Result<Vec<ChunkDigest>> {
    let mut digests = Vec::with_capacity(parts.len());
    for part in parts {
        digests.push(ranged.digest(collection, recipe, part).await?);
    }
    Ok(digests)
}

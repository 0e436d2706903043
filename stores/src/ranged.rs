//! Digests over parts of an ordered collection.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{ChunkDigest, Collection, Key, Part, Recipe, Result, RowDigest};

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

    /// Key and digest of each row of one part, read in one snapshot, in no order that may be trusted.
    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing>;
}

//! Unordered passes over a collection.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Collection, Listing, Recipe, Result};

/// Reads a collection in a fixed number of parts, each of which is one unordered pass over (key, row digest). For stores that cannot cut by
/// the order of keys, and for collections without a key that could be cut.
///
/// **Parts are disjoint and complete.** [`parts`](Self::parts) is asked once, when a run is planned; what it gives is pinned and means the
/// same rows in every process until the run ends. Each row that is there before a pass over all parts begins, and is not written until that
/// pass has ended, is listed by exactly one of them, exactly once. Rows that are written meanwhile may be listed once, twice or not at all:
/// two parts are not of one instant. The parts of one side mean nothing at the other.
///
/// **An error is never the end.** A pass ends with `None` only after its last row. Whatever breaks it - a cut connection, a page that
/// failed, a time limit - is an `Err` item, and then nothing that came before may be taken for the part.
///
/// **A row digest covers the whole row**, key and body, as one byte string, as with [`crate::Ranged`].
#[async_trait]
pub trait Scanned: std::fmt::Debug + Send + Sync + 'static {
    /// How rows of `collection` will be hashed over `columns` with `seed`, and what tells them apart. Made once, at the primary, and used at
    /// both ends.
    ///
    /// # Errors
    /// `Unsupported`: rows cannot be told apart in this way here.
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64, keyed_by: KeyedBy)
    -> Result<Recipe>;

    /// As [`crate::Ranged::known_answer`].
    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128>;

    /// The parts of one pass over `collection` as it is now: at least one, and at most `wanted` where the store has no reason of its own for
    /// more (a limit on how long one request may read).
    async fn parts(&self, collection: &Collection, wanted: u32) -> Result<Vec<ScanPart>>;

    /// Key and digest of each row of one part, in no order. Rows without a key are listed once for each copy, by
    /// [`Key::digest`](crate::Key::digest).
    async fn scan(&self, collection: &Collection, recipe: &Recipe, part: &ScanPart) -> Result<Listing>;
}

/// What tells the rows of a scan apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyedBy {
    /// The columns of the collection's key.
    Columns,
    /// The digest of the whole row: equal rows are copies of one, and only their number can differ between two sides.
    Digest,
}

/// A part of one pass, in the terms of its store. Pinned by a plan, at one side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanPart {
    /// One of the segments into which the store itself cuts a collection.
    Segment {
        /// Which one, from 0.
        index: u32,
        /// Number of segments.
        of: u32,
    },
    /// Blocks of the store's files.
    Blocks {
        /// The first one.
        first: u64,
        /// The first one behind; `None`: all that follow, also those that are added later.
        end: Option<u64>,
    },
}

impl ScanPart {
    /// The only part of a pass that is not cut.
    pub const WHOLE: Self = Self::Segment { index: 0, of: 1 };
}

impl std::fmt::Display for ScanPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment { index: 0, of: 1 } | Self::Blocks { first: 0, end: None } => f.write_str("the whole"),
            Self::Segment { index, of } => write!(f, "segment {index} of {of}"),
            Self::Blocks { first, end: Some(end) } => write!(f, "blocks {first} to {end}"),
            Self::Blocks { first, end: None } => write!(f, "blocks from {first} on"),
        }
    }
}

//! What a run tells while it goes on.

use crate::{ChunkState, Coverage};

/// One thing that happened. For people who watch; the evidence is in the journal.
#[derive(Debug, Clone)]
pub enum Event {
    /// The plan is made.
    Planned {
        /// Collections that will be compared.
        collections: u64,
        /// Their chunks.
        chunks: u64,
    },
    /// A canary of this run was written at the primary and seen at the secondary.
    LinkProved {
        /// The primary's instance.
        primary: String,
        /// The secondary's instance.
        secondary: String,
    },
    /// A collection is begun.
    Begun {
        /// Its name.
        collection: String,
        /// Its chunks.
        chunks: u64,
    },
    /// A part of one side of a collection that is scanned was read, or could not be.
    Scanned {
        /// The collection.
        collection: String,
        /// Whose side it is.
        site: String,
        /// Rows that were read.
        rows: u64,
    },
    /// Digests of a chunk differ and its keys are being looked for.
    Narrowing {
        /// The collection.
        collection: String,
        /// The chunk.
        chunk_id: u64,
    },
    /// A chunk is complete.
    ChunkDone {
        /// The collection.
        collection: String,
        /// The chunk.
        chunk_id: u64,
        /// Its result.
        state: ChunkState,
        /// Rows counted at the primary, when they could be.
        rows: Option<u64>,
    },
    /// A collection is complete.
    Done(Box<Coverage>),
}

/// Takes events; must not block.
pub(crate) type Listener<'a> = &'a (dyn Fn(Event) + Send + Sync);

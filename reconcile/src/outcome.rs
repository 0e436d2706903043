//! What a reconciliation found: the records of its journal.

use serde::{Deserialize, Serialize};
use stores::{ChunkDigest, Class, DigestMode, Key, Part, Recipe};

use crate::{Counts, Side};

/// Result for one collection of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageState {
    /// Everything selected was compared and is equal.
    Verified,
    /// At least one confirmed divergence.
    Diverged,
    /// Something was verified, and something was not.
    Partial,
    /// Nothing could be verified.
    Failed,
    /// Not looked at; the reason tells why.
    Skipped,
}

impl CoverageState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Verified,
        Self::Diverged,
        Self::Partial,
        Self::Failed,
        Self::Skipped,
    ];

    /// The word of the `coverage.state` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Diverged => "diverged",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// What was and was not verified of one collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The name that evidence uses: the primary's.
    pub collection: String,
    /// The name at the primary; `None` = it does not exist there.
    pub primary_collection: Option<String>,
    /// The name at the secondary; `None` = it does not exist there.
    pub secondary_collection: Option<String>,
    /// Filters, excluded columns, semantic compares, evidence used, in words; empty = the whole collection.
    pub scope: String,
    /// Kind of fence: `lsn`, `none`.
    pub fence: String,
    /// The result.
    pub state: CoverageState,
    /// Why it is not `verified`; starts with a stable word, e.g. `not_selected`, `no_usable_key: ...`. Empty when verified.
    pub reason: String,
    /// Rows counted at the primary by the digests; `None` = not counted.
    pub primary_rows: Option<u64>,
    /// Rows counted at the secondary.
    pub secondary_rows: Option<u64>,
    /// Size at the primary by the store's own account.
    pub primary_bytes: Option<u64>,
    /// Size at the secondary.
    pub secondary_bytes: Option<u64>,
    /// Canaries left out of the comparison.
    pub canaries_excluded: u64,
    /// Chunks planned.
    pub chunks_total: u64,
    /// Chunks with equal digests, or whose differences all proved transient.
    pub chunks_equal: u64,
    /// Chunks with a confirmed divergence.
    pub chunks_different: u64,
    /// Chunks that could not be compared.
    pub chunks_failed: u64,
    /// Keys by state.
    pub confirmed: u64,
    /// Keys that kept changing.
    pub volatile: u64,
    /// Keys that could not be read again.
    pub unverified: u64,
    /// Keys that were only in flight.
    pub transient: u64,
    /// Microseconds since 1970 UTC.
    pub started_at_us: i64,
    /// Microseconds since 1970 UTC.
    pub finished_at_us: i64,
}

/// Result for one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkState {
    /// Equal digests, or every difference proved to be in flight only.
    Equal,
    /// Different digests and at least one confirmed divergence; the divergences tell which keys.
    Different,
    /// Could not be compared, or its differences could not be decided; `error` tells why. Its divergences still count.
    Failed,
}

impl ChunkState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Equal, Self::Different, Self::Failed];

    /// The word of the `chunks.state` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Failed => "failed",
        }
    }
}

/// One chunk as digested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The collection.
    pub collection: String,
    /// Number of the chunk in its collection, from 0.
    pub chunk_id: u64,
    /// What it covers.
    pub part: Part,
    /// Digest at the primary; `None` = not obtained.
    pub primary: Option<ChunkDigest>,
    /// Digest at the secondary.
    pub secondary: Option<ChunkDigest>,
    /// Where rows were hashed.
    pub mode: DigestMode,
    /// The seed.
    pub seed: u64,
    /// The result.
    pub state: ChunkState,
    /// Tries, both sides together counted once.
    pub attempts: u64,
    /// Time of the primary's digest query, microseconds.
    pub primary_us: Option<u64>,
    /// Time of the secondary's.
    pub secondary_us: Option<u64>,
    /// When it was read, microseconds since 1970 UTC.
    pub read_at_us: i64,
    /// Why it failed; empty otherwise.
    pub error: String,
}

impl Chunk {
    /// One of which nothing has been read. It counts as failed, so that whoever forgets to say more has not said "equal".
    pub(crate) fn unread(collection: &str, chunk_id: u64, part: Part, recipe: &Recipe, read_at_us: i64) -> Self {
        Self {
            collection: collection.to_owned(),
            chunk_id,
            part,
            primary: None,
            secondary: None,
            mode: recipe.mode,
            seed: recipe.seed,
            state: ChunkState::Failed,
            attempts: 0,
            primary_us: None,
            secondary_us: None,
            read_at_us,
            error: String::new(),
        }
    }

    /// What one side gave for it.
    pub(crate) fn digest_of(&self, side: Side) -> Option<ChunkDigest> {
        match side {
            Side::Primary => self.primary,
            Side::Secondary => self.secondary,
        }
    }
}

/// What became of one differing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Two conclusive votes in a row: a divergence.
    Confirmed,
    /// Equal when looked at again: was in flight. Counted, not listed.
    Transient,
    /// Kept changing: no conclusion.
    Volatile,
    /// Could not be read again, or its fence timed out.
    Unverified,
    /// The store itself says in flight.
    Pending,
    /// Outside of what was asked.
    OutOfScope,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Confirmed,
        Self::Transient,
        Self::Volatile,
        Self::Unverified,
        Self::Pending,
        Self::OutOfScope,
    ];

    /// The word of the `divergences.state` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Transient => "transient",
            Self::Volatile => "volatile",
            Self::Unverified => "unverified",
            Self::Pending => "pending",
            Self::OutOfScope => "out_of_scope",
        }
    }
}

/// Where a divergence comes from, after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Only the old side changed after the fork.
    LostWrite,
    /// Only the new side did. Not a loss.
    NewWrite,
    /// Both did.
    Conflict,
    /// The evidence does not tell.
    Unknown,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::LostWrite, Self::NewWrite, Self::Conflict, Self::Unknown];

    /// The word of the `divergences.origin` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::LostWrite => "lost_write",
            Self::NewWrite => "new_write",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
        }
    }
}

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The collection.
    pub collection: String,
    /// The chunk that it was found in; `None` for a collection as a whole (class `schema`).
    pub chunk_id: Option<u64>,
    /// The key as JSON by the names of its columns; `None` by `keys = hashed | none`, or for a whole collection.
    pub key: Option<String>,
    /// Keyed hash of the key (HMAC-SHA-256, 64 hex digits) by `keys = hashed`.
    pub key_hash: Option<String>,
    /// The class.
    pub class: Class,
    /// Store-specific words; empty when there is nothing to add.
    pub detail: String,
    /// The state.
    pub state: State,
    /// The origin; `None` when no event was given.
    pub origin: Option<Origin>,
    /// What the origin rests on; empty without one.
    pub origin_evidence: String,
    /// The columns that differ.
    pub columns: Vec<String>,
    /// Row digest at the primary, 32 hex digits; `None` = no row.
    pub primary_digest: Option<String>,
    /// Row digest at the secondary.
    pub secondary_digest: Option<String>,
    /// Row at the primary as JSON, only when asked for.
    pub primary_value: Option<String>,
    /// Row at the secondary as JSON, only when asked for.
    pub secondary_value: Option<String>,
    /// When the primary's row says that it changed, microseconds since 1970 UTC.
    pub primary_changed_at_us: Option<i64>,
    /// When the secondary's row says so.
    pub secondary_changed_at_us: Option<i64>,
    /// First listed as different, microseconds since 1970 UTC.
    pub first_seen_at_us: i64,
    /// Last recheck.
    pub last_rechecked_at_us: Option<i64>,
    /// Number of rechecks, conclusive or not.
    pub rechecks: u64,
    /// One sentence for a person.
    pub explanation: String,
    /// The key itself, whatever may appear in output: what a later look needs. It stays in the work of the run (for its owner only), and
    /// no table has it. `None` for a whole collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_key: Option<Key>,
}

/// One frame of a reconcile journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// First frame: what was planned. `plan` is the plan's own JSON.
    Plan {
        /// The run.
        run_id: String,
        /// The plan.
        plan: String,
    },
    /// First frame of what one process wrote into the journal of a shard; a process that resumes it writes another one. What an earlier one
    /// left uncommitted does not count.
    Shard {
        /// The run.
        run_id: String,
        /// SHA-256 of the plan as it was read, 64 hex digits.
        plan_sha256: String,
        /// Number of the shard.
        shard: u64,
    },
    /// The final state of one chunk. Its divergences stand before it, written as they were decided, and frames of several chunks
    /// interleave: the `Commit` of the same collection and chunk makes all of them count.
    Chunk(Box<Chunk>),
    /// One key, or one collection. Counts only once its chunk is committed.
    Divergence(Box<Divergence>),
    /// Chunk `chunk_id` of `collection` is complete with all its divergences.
    Commit {
        /// The collection.
        collection: String,
        /// The chunk; `None` closes divergences of the collection as a whole.
        chunk_id: Option<u64>,
        /// What became of its keys: all of them, whatever was listed.
        counts: Counts,
        /// Microseconds since 1970 UTC.
        finished_at_us: i64,
    },
    /// What one pass over one part of one side found: all that a shard of stage `digest` tells.
    Scanned(Box<crate::ScannedPart>),
    /// Last frame of a shard: every chunk of it is committed.
    ShardEnd,
    /// A collection is complete.
    Coverage(Box<Coverage>),
    /// Last frame: the run came to its end.
    End {
        /// Whether everything selected was verified or shown to differ: nothing failed, volatile, unverified or cut short.
        complete: bool,
        /// Microseconds since 1970 UTC.
        finished_at_us: i64,
    },
}

/// How keys may appear in output; never how they are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyDisclosure {
    /// As JSON.
    #[default]
    Plain,
    /// As a keyed hash.
    Hashed,
    /// Not at all.
    None,
}

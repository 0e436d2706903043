//! What the caller asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stores::{Collection, End, Fork, Relation, Scope};

use crate::{KeyDisclosure, Pace};

/// The two copies. Lag has a direction, a comparison has none: `primary` is the stated writer, the first one when both write.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The stated writer.
    pub primary: End,
    /// The other copy.
    pub secondary: End,
    /// How they are related, as detected or stated.
    pub relation: Relation,
    /// What proves that the secondary has passed a point of the primary.
    pub fence: FenceKind,
}

/// What proves that a secondary has passed a point of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceKind {
    /// A log position that the secondary's own reading shows.
    Lsn,
    /// A canary that came by the same subscription, read in one statement with the keys.
    Canary,
    /// Time: what the primary held so long before is there by then, unless the lag is worse than it ever was. For stores that tell no position.
    /// The report says that it is time-based.
    Time,
    /// Nothing, because nothing is in flight. Only for copies without a link: with a replicating pair no difference can be confirmed.
    None,
}

impl FenceKind {
    /// The word of the `coverage.fence` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lsn => "lsn",
            Self::Canary => "canary",
            Self::Time => "time",
            Self::None => "none",
        }
    }
}

/// One end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The stated writer.
    Primary,
    /// The other copy.
    Secondary,
}

/// A collection to compare, as the catalogs of both ends show it.
#[derive(Debug, Clone)]
pub struct Selected {
    /// At the primary; `None` = it does not exist there.
    pub primary: Option<Collection>,
    /// At the secondary; `None` = it does not exist there.
    pub secondary: Option<Collection>,
    /// What the configuration says about it.
    pub settings: Settings,
}

/// Settings of one collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The column that tells when a row last changed: evidence for origins.
    pub changed_at: Option<String>,
    /// Columns that are not compared. Columns of the key are compared always.
    pub exclude_columns: Vec<String>,
    /// What of it is compared, and how.
    #[serde(default)]
    pub scope: Scope,
}

/// A collection that was found and is not to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotSelected {
    /// At the primary.
    pub primary: Option<Collection>,
    /// At the secondary.
    pub secondary: Option<Collection>,
}

/// Where the two copies parted, when the run belongs to an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkEvidence {
    /// The fork.
    pub fork: Fork,
    /// The side that was the writer before the event.
    pub old_side: Side,
    /// The longest transaction of the old side around the fork, microseconds. A row's change time is the begin of its transaction in
    /// many applications; one that began so long before the fork may have been committed after it.
    pub longest_transaction_us: u64,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Request {
    /// The run.
    pub run_id: String,
    /// What to compare, in the order in which it is compared.
    pub selected: Vec<Selected>,
    /// What was found besides; it appears in the coverage as skipped.
    pub not_selected: Vec<NotSelected>,
    /// How keys may appear.
    pub disclosure: KeyDisclosure,
    /// The secret of hashed keys; needed with [`KeyDisclosure::Hashed`].
    pub key_hash: Option<KeySecret>,
    /// Whether values of differing rows may appear.
    pub include_values: bool,
    /// The fork of the event, for origins.
    pub fork: Option<ForkEvidence>,
    /// Bounds; the defaults are what the command line uses.
    pub limits: Limits,
}

/// The secret of hashed keys. Its `Debug` form does not show it.
#[derive(Clone)]
pub struct KeySecret(pub(crate) Vec<u8>);

impl KeySecret {
    /// Takes the secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }
}

impl std::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// Rows that a shard should hold: some tens of seconds of digests, so that the start of a worker is worth its while.
const ROWS_PER_SHARD: u64 = 20_000_000;

/// A fence by time waits no shorter, whatever the lag was.
pub const TIME_FENCE_MIN: Duration = Duration::from_secs(10);

/// Reads of rows that run at the same time: digests, listings and scans, each in one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadsInFlight {
    /// At the primary.
    pub primary: usize,
    /// At the secondary.
    pub secondary: usize,
}

impl Default for ReadsInFlight {
    fn default() -> Self {
        Self {
            primary: 4,
            secondary: 4,
        }
    }
}

/// The bounds of one run. A plan pins them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Rows that a key range should hold.
    pub rows_per_chunk: u64,
    /// Rows that a sub-range of a different chunk should hold.
    pub rows_per_subrange: u64,
    /// Rows that the chunks of one shard should hold together.
    pub rows_per_shard: u64,
    /// Chunks that are read at the same time; each has at most one statement at each side.
    pub chunks_in_flight: usize,
    /// Reads of rows that run at the same time at each side.
    pub reads_in_flight: ReadsInFlight,
    /// Batches of one chunk that are rechecked at the same time.
    pub recheck_batches_in_flight: usize,
    /// Keys that are rechecked at the same time of chunks which are read to their end: where there are more, no other chunk is read.
    pub rechecked_keys_max: u32,
    /// Tries of one request to a store before its passing error counts.
    pub attempts_max: u32,
    /// Pause before the second try; doubled for each further one, with jitter.
    pub backoff: Duration,
    /// How long one answer of a store, or one row of a listing, may take. It is longer than any statement may run at the server, so that
    /// only silence exceeds it.
    pub answer_patience: Duration,
    /// How long one fence, and one proof of the link, may take.
    pub fence_patience: Duration,
    /// How long a fence by time waits: at least ten times the worst lag of the last hour. Whoever plans a run knows that lag.
    pub time_fence: Duration,
    /// Brackets that a key may take before it counts as volatile.
    pub rounds_max: u32,
    /// Longest pause between two inconclusive brackets; the pause is drawn at random below it.
    pub round_pause: Duration,
    /// Time between the two readings of each side without a fence. A row that changes more often than once in this time stays
    /// volatile there; it is long enough for counters that are written several times a second.
    pub unfenced_gap: Duration,
    /// Bytes that the join of one chunk's listings may hold; beyond it the chunk is joined in several passes.
    pub narrow_bytes_max: usize,
    /// Divergences that are listed. All of them are counted. `None`: all are listed.
    pub listed_max: Option<u64>,
    /// How fast and how gently it goes.
    #[serde(default)]
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows_per_chunk: 50_000,
            rows_per_subrange: 2_000,
            rows_per_shard: ROWS_PER_SHARD,
            chunks_in_flight: 4,
            reads_in_flight: ReadsInFlight::default(),
            // Most of a recheck is waiting, for a fence or for time to pass: nothing is held at a server meanwhile.
            recheck_batches_in_flight: 8,
            // Those of 32 chunks where one row of a hundred differs; the last join of one whose rows all do may hold half as many.
            rechecked_keys_max: 16_000,
            attempts_max: 4,
            backoff: Duration::from_millis(100),
            answer_patience: Duration::from_secs(75),
            fence_patience: Duration::from_secs(30),
            time_fence: TIME_FENCE_MIN,
            rounds_max: 16,
            round_pause: Duration::from_millis(250),
            unfenced_gap: Duration::from_millis(250),
            narrow_bytes_max: 1 << 20,
            listed_max: None,
            pace: Pace::default(),
        }
    }
}

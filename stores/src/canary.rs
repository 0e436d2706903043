//! Writing canaries and seeing them arrive.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Result, Stamp, StoreError};

/// One canary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Canary {
    /// The numbered series that it belongs to; one writer task has one. At most 100 ASCII characters.
    pub stream: String,
    /// Random identity of this life of the writer, 32 hex digits.
    pub epoch: String,
    /// Position in the stream, from 1, never reused, growing over epochs.
    pub sequence: u64,
    /// For watchers by another clock; `None`: the writer tells them nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// How a write ended.
#[derive(Debug)]
pub enum WriteOutcome {
    /// Durable at the primary, as the session pins it.
    Acknowledged,
    /// Certainly not written.
    Failed(StoreError),
    /// Sent, and nobody knows: timed out or cut after sending.
    Unknown(StoreError),
}

/// Writes canaries at a primary.
#[async_trait]
pub trait CanaryWriter: std::fmt::Debug + Send + Sync + 'static {
    /// Writes one canary into its slot (`sequence mod ring_slots`), guarded: a slot never goes back to an older sequence.
    async fn write(&self, canary: &Canary) -> WriteOutcome;

    /// The highest sequence that the ring of `stream` holds, whatever its epoch; 0 when it holds none. A new epoch starts above it.
    async fn highest_sequence(&self, stream: &str) -> Result<u64>;

    /// Slots of a stream's ring. A canary is overwritten `ring_slots` sequences later.
    fn ring_slots(&self) -> u64;
}

/// What a poll looks for in the ring of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought<'a> {
    /// Everything that the ring holds.
    All,
    /// The slots of these sequences. Where one request shows the whole ring anyway, a store may show it all.
    Only(&'a [u64]),
}

/// Sees canaries at a secondary.
#[async_trait]
pub trait CanaryReader: std::fmt::Debug + Send + Sync + 'static {
    /// What the ring of `stream` shows now of what is sought. Objects that are no canaries of ours are left out and counted.
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting>;

    /// Whether a visible sequence proves that all earlier ones of its stream were visible (one WAL, one partition).
    fn is_ordered(&self) -> bool;
}

/// What one poll showed. The caller takes the instants of sending and receiving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The canaries in the ring, in no order.
    pub canaries: Vec<Canary>,
    /// The instance that answered; a miss counts only for the instance that later hits.
    pub instance: String,
    /// Whether the read was strong: it showed all that this instance had applied.
    pub strong: bool,
    /// How much of the ring was read. What was not read is no miss.
    pub covers: Covers,
    /// What was there beside canaries that are shown once.
    pub oddities: Oddities,
}

/// How much of a ring a poll has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// All of it.
    Ring,
    /// The slots of these sequences, and no others: a store that was throttled may have read fewer than were sought.
    Slots(Vec<u64>),
}

impl Covers {
    /// Whether the slot of `sequence` was read.
    pub fn has(&self, sequence: u64) -> bool {
        match self {
            Self::Ring => true,
            Self::Slots(sequences) => sequences.contains(&sequence),
        }
    }
}

/// What a poll met and left out, counted once: since the poll before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Oddities {
    /// Canaries that arrived again (a mirror that restarted).
    pub duplicates: u64,
    /// Objects in the place of canaries that are none of ours, or are malformed.
    pub foreign: u64,
}

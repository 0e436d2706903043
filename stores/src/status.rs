//! What a store says of its own replication.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Identity, Position, Result};

/// The store's own word on lag and links. Every figure is optional: *not collected* is never zero.
#[async_trait]
pub trait Status: std::fmt::Debug + Send + Sync + 'static {
    /// Asks this end.
    async fn status(&self) -> Result<NativeStatus>;

    /// The fork of this promoted end: the last point that it replayed from its old primary. `Unsupported` when the end cannot tell
    /// (never promoted, or restarted since).
    async fn fork(&self) -> Result<Fork>;

    /// Sessions of others that are at work at this end now. `None`: this store or this role cannot tell.
    async fn active_sessions(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// Figures of one end as of one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeStatus {
    /// Who answered.
    pub identity: Identity,
    /// The server's clock when it answered, microseconds since 1970 UTC.
    pub as_of_us: i64,
    /// Lag in time by the store's own account, microseconds.
    pub lag_us: Option<u64>,
    /// The instant that the lag is of, microseconds since 1970 UTC, where that is another one than `as_of_us`: metrics are minutes old.
    #[serde(default)]
    pub lag_as_of_us: Option<i64>,
    /// Operations that wait to be replicated by the store's own account (a replication rule of S3, what an MSK Replicator has not read).
    #[serde(default)]
    pub pending_operations: Option<u64>,
    /// Why a lag that was asked for is not collected, in words.
    #[serde(default)]
    pub not_collected: Option<String>,
    /// Lag in bytes by the store's own account.
    pub lag_bytes: Option<u64>,
    /// At a primary: the end of its log. At a secondary: what it has applied.
    pub position: Option<Position>,
    /// The link in the store's words, e.g. `streaming`, `no receiver`; `None` when this role may not see it.
    pub link: Option<String>,
    /// Age of the oldest open write transaction at this end, microseconds; `None` when not readable.
    pub longest_transaction_us: Option<u64>,
    /// Whether this end takes part in a logical subscription or publication.
    pub is_logical: bool,
    /// Lag of single collections by their name at the primary, where the store accounts for them (mirrored topics of Kafka). One that is
    /// absent was not collected.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub collections: BTreeMap<String, CollectionLag>,
}

/// Lag of one collection by the store's own account. `None` is not collected, and never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CollectionLag {
    /// Records of the primary that are not at the secondary yet.
    pub lag_records: Option<u64>,
    /// Lag in time, microseconds.
    pub lag_us: Option<u64>,
}

/// Where an old primary and a promoted secondary parted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The last point replayed.
    pub position: Option<Position>,
    /// The fork happened not before, microseconds since 1970 UTC of the old primary's clock.
    pub at_low_us: i64,
    /// And not after.
    pub at_high_us: i64,
    /// How this is known, in words.
    pub evidence: String,
}

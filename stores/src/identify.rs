//! Who is at the other end of a connection.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Tells which end a connection reached.
#[async_trait]
pub trait Identify: std::fmt::Debug + Send + Sync + 'static {
    /// The identity of the end that answers *now*; asked anew on each new physical connection.
    async fn identity(&self) -> Result<Identity>;
}

/// Whether an end takes writes, as observed and not as stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes writes.
    Writable,
    /// Refuses writes (a standby in recovery).
    ReadOnly,
}

/// What an end says of itself. Two identities of the same end compare equal with [`Identity::same_data`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `aurora`, `dynamodb`, `s3`, `kafka`, `memory`.
    pub store: String,
    /// The server's version in its own words.
    pub version: String,
    /// Observed role.
    pub role: Role,
    /// What copies of one origin share: PostgreSQL's system identifier, Kafka has none. Equal lineage is a physical pair, or a
    /// fork of one.
    pub lineage: Option<String>,
    /// Names this very instance in this life: changes when the server restarts or another one answers.
    pub instance: String,
    /// Names of the members of the cluster that share storage with this instance (Aurora), itself included. Empty where
    /// instances share nothing.
    pub shares_storage_with: Vec<String>,
    /// Facts to print: address, port, database, Aurora or not.
    pub facts: BTreeMap<String, String>,
}

impl Identity {
    /// Whether both ends hold the very same data, so that comparing them would prove nothing.
    pub fn same_data(&self, other: &Self) -> bool {
        self.instance == other.instance
            || self
                .shares_storage_with
                .iter()
                .any(|member| other.shares_storage_with.contains(member))
    }
}

/// How two copies are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The secondary applies what the primary writes.
    Replicating,
    /// No link: an old primary that came back, or two copies that never had one.
    Independent,
    /// One side is a snapshot or export with an as-of time.
    Frozen,
}

impl Relation {
    /// The word of the `runs.relation` column and of the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Replicating => "replicating",
            Self::Independent => "independent",
            Self::Frozen => "frozen",
        }
    }
}

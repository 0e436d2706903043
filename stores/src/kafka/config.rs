//! `[connection.NAME.kafka]` and `[dataset.NAME.kafka]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// How to reach one cluster on each site. The mirroring between them is one replication unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How clients prove who they are; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// How brokers prove who they are. Default: a certificate from an authority that the system trusts.
    #[serde(default)]
    pub tls: Tls,
    /// Where the canaries live.
    #[serde(default)]
    pub canary: CanaryPlace,
    /// How topics are called at the other site, by route (`"use1->usw2" = "use1.{topic}"`); the same name where a route is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mapping: Mapping,
    /// The sites that take writes, where they are not those of the whole configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Vec<String>>,
    /// The cluster of each site.
    pub sites: BTreeMap<String, Cluster>,
}

/// Topic names at the other end, by route.
pub type Mapping = BTreeMap<String, String>;

/// The cluster of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
}

/// SASL. `mechanism = "plain" | "scram_sha_256" | "scram_sha_512"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// Who.
    pub user: String,
    /// Read at each connect.
    pub password: Secret,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// The password itself; over TLS only.
    Plain,
    /// A challenge, SHA-256.
    ScramSha256,
    /// A challenge, SHA-512.
    ScramSha512,
}

/// `{ ca_file = "..." }` or `"disable"`, which is for loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Authorities that the system trusts. The default.
    #[default]
    System,
    /// This authority.
    CaFile(PathBuf),
    /// In clear.
    Disable,
}

/// The topic of the canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryPlace {
    /// Its name at the site that writes. Reserved: nothing else may use it.
    pub topic: String,
}

impl Default for CanaryPlace {
    fn default() -> Self {
        Self {
            topic: "driftline-canary".to_owned(),
        }
    }
}

/// `[dataset.NAME.kafka]`: topics of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Name of the connection.
    pub connection: String,
    /// Patterns of topics at the writer.
    pub topics: Vec<String>,
    /// Patterns to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Where it differs from the connection's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mapping: Mapping,
    /// Labels for policies and queries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

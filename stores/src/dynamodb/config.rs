//! `[dataset.NAME.dynamodb]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SiteNames;
use crate::aws::Native;

/// Tables of one dataset. Each table is a replication unit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The tables, by name.
    pub tables: Vec<SiteNames>,
    /// The sites that take writes, where they are not those of the whole configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Vec<String>>,
    /// Labels for policies and queries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where the store's own lag is read. Default: nowhere, it is *not collected*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// Where the canaries live.
    #[serde(default)]
    pub canary: CanaryPlace,
}

/// Where the canaries of a dataset live.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryPlace {
    /// A table of their own, which then represents only itself. Default: each table carries its own canaries, under a reserved name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<SiteNames>,
}

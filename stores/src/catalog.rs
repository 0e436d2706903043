//! What there is to compare.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Lists collections with what is needed to plan a comparison.
#[async_trait]
pub trait Catalog: std::fmt::Debug + Send + Sync + 'static {
    /// Every user collection of this end, sorted by name, whether or not anything selects it and whether or not this role may read it.
    async fn collections(&self) -> Result<Vec<Collection>>;
}

/// One table, topic, bucket + prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// The store's qualified name without quoting, e.g. `public.orders`.
    pub name: String,
    /// How the store calls this kind of collection, e.g. `table`, `partitioned table`, `materialized view`.
    pub kind: String,
    /// Its columns in the store's order; dropped ones left out.
    pub columns: Vec<Column>,
    /// Its key, or why none can be used.
    pub key: KeyShape,
    /// Rows by the store's statistics. An estimate; `None` when there are none.
    pub rows_estimate: Option<u64>,
    /// Size by the store's own count.
    pub bytes: Option<u64>,
    /// Why it cannot be read as a whole by this role (no right, row-level security), in words with the remedy. `None`: it can.
    pub unreadable: Option<String>,
    /// driftline's own canaries: excluded from comparison and counted.
    pub is_canary: bool,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as the store writes it, e.g. `numeric(10,2)`.
    pub type_name: String,
    /// Whether it may be NULL or absent.
    pub nullable: bool,
    /// Why its values cannot be compared (no binary form, by-OID values). `None`: they can.
    pub not_comparable: Option<String>,
}

/// The key of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyShape {
    /// Valid, unique, total, NOT NULL.
    Usable {
        /// Key columns in key order.
        columns: Vec<String>,
        /// Names the order of keys. Two ends may share key ranges only if both are `Some` and equal; else hash buckets.
        order_identity: Option<String>,
    },
    /// There is none that identifies each row; the reason, in words.
    Unusable(String),
}

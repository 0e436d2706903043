//! What there is to compare.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Result, StoreError, Trouble};

/// Lists collections with what is needed to plan a comparison.
#[async_trait]
pub trait Catalog: std::fmt::Debug + Send + Sync + 'static {
    /// Every user collection of this end, sorted by name, whether or not anything selects it and whether or not this role may read it.
    async fn collections(&self) -> Result<Vec<Collection>>;

    /// Where a counter stands now. Only of collections that are one.
    async fn counter(&self, collection: &Collection) -> Result<Counter> {
        Err(StoreError::Unsupported(Trouble::new(
            "",
            format!("read the counter {}", collection.name),
            "this store has no counters",
        )))
    }
}

/// One table, topic, bucket + prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Why its rows are not meant to be the same at both ends (derived, or kept elsewhere). `None`: they are.
    #[serde(default)]
    pub not_replicated: Option<String>,
    /// It has no rows: it is a number that is counted up, and its position is compared.
    #[serde(default)]
    pub is_counter: bool,
    /// What is defined beside the columns, in a text that both ends write alike; without names that nobody relies on.
    #[serde(default)]
    pub definitions: Vec<Definition>,
    /// What of it is compared, and how. Of a catalog: all, exactly.
    #[serde(default)]
    pub scope: Scope,
}

/// Something that is defined beside the columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Definition {
    /// What it is: `index`, `constraint`, `extension`, `sequence`.
    pub kind: String,
    /// The definition itself.
    pub text: String,
}

/// What of a collection is compared, and how: the operator's own choice, the same at both ends. A store that has settings for it applies it in
/// everything that it reads; the others are never given one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The condition that rows have to meet, in the store's own language. `None`: all rows.
    pub filter: Option<String>,
    /// Columns in which two values are equal when their type holds them equal, whatever their form (1.0 and 1.00).
    pub semantic: Vec<String>,
}

/// A number that is counted up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// What it gave last; `None`: nothing yet.
    pub last: Option<i64>,
    /// Added with each step; negative: it counts down.
    pub increment: i64,
    /// Numbers that a session takes at once.
    pub cache: i64,
    /// It begins anew at its end, so that no position is behind another.
    pub cycles: bool,
    /// The highest number (lowest, when it counts down) in the column that it feeds; `None`: there is no such column, or no row.
    pub in_use: Option<i64>,
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

impl Default for KeyShape {
    fn default() -> Self {
        Self::Unusable(String::new())
    }
}

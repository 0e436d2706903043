//! Digests of rows and of chunks.

use serde::{Deserialize, Serialize};

/// The digest of one whole row (key and body hashed as **one** byte string).
///
/// 64-bit pushdown digests stand in the low half. Digests of different recipes must never be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowDigest(pub u128);

/// The digest of a chunk: the number of its rows and the wrapping sum of their digests.
///
/// A sum and not XOR: two equal rows must not cancel. It is modulo 2^128 in client mode and modulo 2^64 in pushdown mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChunkDigest {
    /// Rows in the chunk.
    pub count: u64,
    /// Sum of the row digests.
    pub sum: u128,
}

impl ChunkDigest {
    /// Adds one row.
    pub fn add(&mut self, row: RowDigest) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(row.0);
    }

    /// The digest of two disjoint chunks together, by the rule of `mode`.
    #[must_use]
    pub fn merge(self, other: Self, mode: DigestMode) -> Self {
        let sum = self.sum.wrapping_add(other.sum);
        let sum = match mode {
            DigestMode::Client => sum,
            DigestMode::Pushdown => sum & u128::from(u64::MAX),
        };
        Self {
            count: self.count + other.count,
            sum,
        }
    }

    /// The sum as 32 lower-case hex digits.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// Where rows are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestMode {
    /// By the server, 64 bits, over the binary form of the row.
    Pushdown,
    /// By driftline, 128 bits, over the bytes that the row is sent as.
    Client,
}

impl DigestMode {
    /// The word of the `chunks.digest_mode` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pushdown => "pushdown",
            Self::Client => "client",
        }
    }

    /// The probability that one differing chunk has equal digests, if the hash behaves as a random function: 2^-bits.
    pub fn miss_probability(self) -> f64 {
        match self {
            Self::Pushdown => 2f64.powi(-64),
            Self::Client => 2f64.powi(-128),
        }
    }
}

/// How rows of one collection are hashed in one run: pinned at the plan, the same text at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Where.
    pub mode: DigestMode,
    /// The compared columns in the order in which they are hashed.
    pub columns: Vec<String>,
    /// The columns of the key, in key order. Empty: rows have no key, and the digest of a row stands in its place
    /// ([`Key::digest`](crate::Key::digest)).
    pub key_columns: Vec<String>,
    /// Drawn at random for each run.
    pub seed: u64,
    /// The store's own expression of the whole-row digest, complete with the seed. Opaque outside of the store.
    pub expression: String,
    /// For each of `columns`, the store's expression of that column's digest (NULL stays NULL). Used to name the columns that differ.
    pub column_expressions: Vec<String>,
    /// For each of `columns`, the store's expression of its value as it travels to driftline, to be hashed there. Empty: this store
    /// hashes in one place only.
    pub forms: Vec<String>,
}

impl Recipe {
    /// The same recipe, hashed elsewhere; `None` when the store cannot.
    #[must_use]
    pub fn hashed(&self, mode: DigestMode) -> Option<Self> {
        (mode == self.mode || !self.forms.is_empty()).then(|| Self { mode, ..self.clone() })
    }
}

/// The name of the key of rows without one, wherever keys have names.
const DIGEST_KEY: &str = "row_digest";

impl Recipe {
    /// Whether rows are told apart by their digests alone.
    pub fn is_keyless(&self) -> bool {
        self.key_columns.is_empty()
    }

    /// Names for the values of a key: its columns, or `row_digest` where rows have none.
    pub fn key_names(&self) -> Vec<String> {
        if self.is_keyless() {
            vec![DIGEST_KEY.to_owned()]
        } else {
            self.key_columns.clone()
        }
    }
}

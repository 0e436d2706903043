//! Keys, and the parts of a collection that both ends digest.

use serde::{Deserialize, Serialize};

use crate::RowDigest;

/// One column of a key, in the canonical form that its store gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    /// A whole number.
    Int(i64),
    /// Text, and every other type in one canonical text form: two values that the key's type holds equal have the
    /// same text here (numeric 1.0 and 1.00 are one key).
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The key of one row, item, object or record: one value for each key column.
///
/// Equality is identity of the record. The derived order is *not* the store's order; nothing may trust it beyond sorting
/// output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub Vec<KeyValue>);

impl Key {
    /// A key of one whole number.
    pub fn int(value: i64) -> Self {
        Self(vec![KeyValue::Int(value)])
    }

    /// The key of a row that has none: its digest. Rows with the same one are copies of each other.
    pub fn digest(digest: RowDigest) -> Self {
        Self(vec![KeyValue::Text(format!("{:032x}", digest.0))])
    }

    /// The digest that [`Self::digest`] was made of; `None`: this is the key of another kind of row.
    pub fn as_digest(&self) -> Option<RowDigest> {
        match self.0.as_slice() {
            [KeyValue::Text(hex)] if hex.len() == 32 => u128::from_str_radix(hex, 16).ok().map(RowDigest),
            _ => None,
        }
    }

    /// The key as one JSON object, `{"id":17}`, with the names of its columns in key order.
    pub fn to_json(&self, columns: &[String]) -> String {
        let mut object = serde_json::Map::new();
        for (column, value) in columns.iter().zip(&self.0) {
            object.insert(column.clone(), value.to_json());
        }
        serde_json::Value::Object(object).to_string()
    }
}

impl KeyValue {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Int(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
            Self::Bytes(value) => {
                let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("\\x{hex}").into()
            }
        }
    }
}

/// A half-open range of keys in the store's own order: `lower <= key < upper`, open where `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key of the range, or minus infinity.
    pub lower: Option<Key>,
    /// First key behind the range, or plus infinity.
    pub upper: Option<Key>,
}

impl KeyRange {
    /// The range that holds every key.
    pub const ALL: Self = Self {
        lower: None,
        upper: None,
    };

    /// Cuts `self` at strictly increasing interior boundaries: `n` boundaries give `n + 1` ranges without gap or overlap.
    pub fn cut(&self, boundaries: &[Key]) -> Vec<Self> {
        let lowers = std::iter::once(self.lower.clone()).chain(boundaries.iter().cloned().map(Some));
        let uppers = boundaries
            .iter()
            .cloned()
            .map(Some)
            .chain(std::iter::once(self.upper.clone()));
        lowers.zip(uppers).map(|(lower, upper)| Self { lower, upper }).collect()
    }
}

/// A part of a collection that both ends can name alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A range in the key order, when both ends order keys alike.
    Range(KeyRange),
    /// The keys whose hash falls into bucket `index` of `of`, when they do not. The hash is unseeded by the run, so that both ends agree.
    Bucket {
        /// Which bucket, from 0.
        index: u32,
        /// Number of buckets.
        of: u32,
    },
}

impl Part {
    /// Everything.
    pub const ALL: Self = Self::Range(KeyRange::ALL);
}

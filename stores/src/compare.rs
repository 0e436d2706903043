//! What two readings of one key say together. Pure: no I/O.

use serde::{Deserialize, Serialize};

use crate::{Reading, Readings};

/// Judges readings. Tolerances and evidence rules of a store live behind it.
pub trait Compare: std::fmt::Debug + Send + Sync + 'static {
    /// Compares one key as read at the primary with the same key as read at the secondary. `columns` are the recipe's.
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison;

    /// Whether a bracketed reading of key `index` (primary, then secondary, then primary again) allows a conclusion at all, beyond
    /// the equality of the two primary readings, which the caller has checked.
    ///
    /// # Errors
    /// The reason why it does not, in words.
    fn guard(
        &self,
        first: &Readings,
        secondary: &Readings,
        again: &Readings,
        index: usize,
    ) -> std::result::Result<(), String>;
}

/// The outcome of a comparison of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// Nothing differs.
    Equal,
    /// Something does.
    Differs {
        /// What, by the closed list.
        class: Class,
        /// Store-specific and documented; empty when there is nothing to add.
        detail: String,
        /// The columns that differ; empty when a whole row is missing.
        columns: Vec<String>,
    },
    /// Cannot be compared; the reason.
    NotComparable(String),
}

/// The classes of divergence: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Only the primary has the key.
    MissingOnSecondary,
    /// Only the secondary has the key.
    MissingOnPrimary,
    /// Both have it, with other contents.
    Different,
    /// A key exists more often on one side.
    Duplicate,
    /// The order of records differs.
    Reordered,
    /// Contents agree, metadata does not.
    Metadata,
    /// Gone on one side by its retention.
    Expired,
    /// A sequence or a consumer group stands elsewhere.
    Position,
    /// Columns, types, or a whole collection on one side only.
    Schema,
    /// It exists and cannot be compared.
    NotComparable,
}

impl Class {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::MissingOnSecondary,
        Self::MissingOnPrimary,
        Self::Different,
        Self::Duplicate,
        Self::Reordered,
        Self::Metadata,
        Self::Expired,
        Self::Position,
        Self::Schema,
        Self::NotComparable,
    ];

    /// The word of the `divergences.class` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::MissingOnSecondary => "missing_on_secondary",
            Self::MissingOnPrimary => "missing_on_primary",
            Self::Different => "different",
            Self::Duplicate => "duplicate",
            Self::Reordered => "reordered",
            Self::Metadata => "metadata",
            Self::Expired => "expired",
            Self::Position => "position",
            Self::Schema => "schema",
            Self::NotComparable => "not_comparable",
        }
    }
}

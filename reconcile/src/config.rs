//! What the configuration may say about reconciliations.

use serde::{Deserialize, Serialize};

use crate::KeyDisclosure;

/// `[defaults] reconcile`. The secret of hashed keys is resolved by the caller, who knows where secrets come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How keys may appear in output: `plain`, `hashed` or `none`.
    pub keys: KeyDisclosure,
}

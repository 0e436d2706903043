//! Reference stores: two ends in memory, one replicating to the other after a known delay.
//!
//! What it is for: trying everything that is built on the abilities against a pair whose truth is known. It runs on tokio's clock, so a
//! test may pause time. Replication is one log, as in a physical copy: each change has a position, becomes visible at the primary when it
//! commits and at the secondary later, in order. Keys are ordered by [`Key`]'s own order, which is this store's order.
//! [`Pair::unordered`] gives the ends of the same pair as a second store has them: without order, versions or fences, and with a tolerance.
//!
//! Changes come in three ways: [`Pair::put`], [`Pair::delete`] and canaries are written at the primary and replicated;
//! [`Pair::write_at`] writes at a side that takes writes by itself after a promotion; [`Pair::plant`] alters one side behind the log, which
//! is how divergences are made.

mod abilities;
mod compare;
mod digests;
mod hot;
mod log;
mod pair;
mod rows;
mod scans;
#[cfg(test)]
mod tests;
mod unordered;

pub use hot::Hot;
pub use pair::{Delay, NativeLag, Pair, Settings, Side};
pub use rows::Fields;
pub use unordered::Tolerance;

use crate::Key;

/// Makes the columns of a row: `fields([("name", Value::Text("x".into()))])`. Key columns are added from the key.
pub fn fields<const N: usize>(pairs: [(&str, crate::Value); N]) -> Fields {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// A table that was asked for, and a key in it.
pub(crate) type Place = (String, Key);

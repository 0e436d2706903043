//! Reading single keys again, with proof of when the reading was.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Collection, Key, Recipe, Result, RowDigest};

/// Reads chosen keys.
#[async_trait]
pub trait Reread: std::fmt::Debug + Send + Sync + 'static {
    /// Reads each key once, all in one snapshot. `position` of the result is a point that the readings are proved to have
    /// passed: it was observed *before* the rows were read, on the same connection.
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings>;
}

/// What to read. At most [`KEYS_PER_READ_MAX`] keys, or [`DIGESTS_PER_READ_MAX`] where the recipe is keyless: then each reading is a recount
/// of the rows with that digest, all of them in one pass over the collection.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest<'a> {
    /// This end's collection.
    pub collection: &'a Collection,
    /// The recipe of the run.
    pub recipe: &'a Recipe,
    /// The keys.
    pub keys: &'a [Key],
    /// Whether the values of the columns are wanted (never unless the person asked).
    pub values: bool,
    /// The column that tells when a row last changed.
    pub changed_at: Option<&'a str>,
}

/// Bound of one read.
pub const KEYS_PER_READ_MAX: usize = 256;

/// Bound of one recount: it costs a pass over the collection however many digests it looks for, so it looks for many.
pub const DIGESTS_PER_READ_MAX: usize = 4_096;

/// The answer to a [`ReadRequest`].
#[derive(Debug, Clone)]
pub struct Readings {
    /// One for each key asked for, in the same order.
    pub rows: Vec<Reading>,
    /// The point that the readings have passed; `None` where the store has no such notion.
    pub position: Option<Position>,
    /// What was committed when the first statement of the reading began (primary of a physical pair).
    pub snapshot: Option<Snapshot>,
    /// [`crate::Identity::instance`] of the connection that answered. A change means: prove the link again.
    pub instance: String,
}

/// One key, as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// No row has this key.
    Absent,
    /// At least one row has.
    Present(Row),
}

/// A row as read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Equal for two readings only if the row was not written between them. Comparable within one end only.
    ///
    /// A store that keeps no versions puts the contents in their place: there a row that was written away and back between two readings
    /// counts as unchanged, and its documentation says so.
    pub version: String,
    /// Digest of the whole row by the recipe.
    pub digest: RowDigest,
    /// Digest of each of the recipe's columns; `None` is NULL. A number that the store's [`crate::Compare`] judges with a tolerance (a time
    /// to live) may stand here itself.
    pub columns: Vec<Option<u64>>,
    /// Values as the store's text, when asked for; `None` within is NULL.
    pub values: Option<Vec<Option<String>>>,
    /// When the row says that it last changed, microseconds since 1970 UTC.
    pub changed_at_us: Option<i64>,
    /// How many rows have this key. More than one: no unique key guards it there, or the key is the digest of the row.
    pub copies: u64,
    /// The 32-bit transaction that created this version (xmin), where the store tells.
    pub created_by: Option<u32>,
    /// The 32-bit transaction that ended or locked this version (xmax), where the store tells and it is not zero.
    pub ended_by: Option<u32>,
    /// When this version was committed by the store's own record, microseconds since 1970 UTC, where it keeps one.
    #[serde(default)]
    pub committed_at_us: Option<i64>,
}

/// A point of a primary's history that another end can be known to have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position(pub u64);

/// Which transactions had ended when a snapshot was taken (PostgreSQL's `pg_snapshot`, 64-bit transaction IDs).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// All before it had ended.
    pub xmin: u64,
    /// This and all after it had not begun.
    pub xmax: u64,
    /// Those between that were running.
    pub running: Vec<u64>,
}

/// A 32-bit ID further ahead of a snapshot than this is taken for one of an earlier epoch: a long frozen row shows its old ID for ever.
/// No primary begins so many transactions between the two ends of one recheck.
const AHEAD_MAX: i64 = 1 << 28;

impl Snapshot {
    /// The 64-bit form of a 32-bit transaction ID that was read near this snapshot: at most `AHEAD_MAX` ahead, else behind.
    pub fn widen(&self, xid: u32) -> u64 {
        let low = u32::try_from(self.xmax & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let mut ahead = i64::from(xid.wrapping_sub(low).cast_signed());
        if ahead > AHEAD_MAX {
            ahead -= 1 << 32;
        }
        self.xmax.saturating_add_signed(ahead)
    }

    /// Whether a transaction that ran in this snapshot runs in the `later` one, too.
    pub fn runs_on(&self, later: &Self) -> bool {
        self.running.iter().any(|xid| later.running.contains(xid))
    }

    /// Whether what `xid` did is *known* to have been visible in this snapshot. Aborted transactions count as visible: their rows are
    /// never read.
    ///
    /// That is so below `xmin` only. An ID between `xmin` and `xmax` that is not among the running ones may be a subtransaction
    /// (savepoint, PL/pgSQL exception block) of one that is: `pg_snapshot` leaves those out.
    pub fn sees(&self, xid: u32) -> bool {
        const FIRST_NORMAL_XID: u32 = 3;
        if xid < FIRST_NORMAL_XID {
            return true; // bootstrap and frozen
        }
        self.widen(xid) < self.xmin
    }
}

/// Proof that a secondary has passed a point of the primary. Only saves polls: the position of a reading is what is trusted.
#[async_trait]
pub trait Fence: std::fmt::Debug + Send + Sync + 'static {
    /// A point behind everything that is written at this primary until now, committed or not.
    async fn point(&self) -> Result<Position>;

    /// Waits until this secondary has passed `point`, at most `patience`. `false`: timed out. No transaction or snapshot is open
    /// on the secondary while it waits.
    async fn wait(&self, point: Position, patience: Duration) -> Result<bool>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(xmin: u64, xmax: u64) -> Snapshot {
        Snapshot {
            xmin,
            xmax,
            running: vec![xmin],
        }
    }

    fn low(xid: u64) -> u32 {
        u32::try_from(xid & 0xffff_ffff).unwrap()
    }

    #[test]
    fn a_savepoint_of_a_running_transaction_is_not_seen() {
        let snapshot = snapshot(100, 110);
        assert!(snapshot.sees(99));
        assert!(!snapshot.sees(100));
        assert!(!snapshot.sees(105), "not listed, and may be a savepoint of 100");
        assert!(!snapshot.sees(110));
        assert!(snapshot.sees(1) && snapshot.sees(2), "bootstrap and frozen");
    }

    #[test]
    fn epochs_are_told_apart_on_both_sides_of_the_wrap() {
        let just_wrapped = snapshot(3 << 32, (3 << 32) + 5);
        assert_eq!(just_wrapped.widen(u32::MAX), (3 << 32) - 1);
        assert!(just_wrapped.sees(u32::MAX));
        let about_to_wrap = snapshot((3 << 32) - 10, (3 << 32) - 5);
        assert_eq!(about_to_wrap.widen(7), (3 << 32) + 7);
        assert!(!about_to_wrap.sees(7));
    }

    proptest! {
        #[test]
        fn a_transaction_near_a_snapshot_gets_its_own_epoch(
            xmin in 1u64 << 33..1 << 40,
            span in 0u64..1 << 20,
            behind in 0u64..1 << 31,
            ahead in 0u64..1 << 28,
        ) {
            let snapshot = snapshot(xmin, xmin + span);
            let old = snapshot.xmax - behind;
            prop_assert_eq!(snapshot.widen(low(old)), old);
            let new = snapshot.xmax + ahead;
            prop_assert_eq!(snapshot.widen(low(new)), new);
            prop_assert!(!snapshot.sees(low(new)) || low(new) < 3);
            prop_assert_eq!(snapshot.sees(low(old)), old < xmin || low(old) < 3);
        }

        #[test]
        fn nothing_that_began_after_the_oldest_running_transaction_is_seen(
            xmin in 3u64..1 << 40,
            span in 0u64..1 << 20,
            ahead in 0u64..1 << 28,
            has_ended in any::<bool>(),
        ) {
            let snapshot = snapshot(xmin, xmin + span);
            let xid = xmin + if has_ended { ahead % (span + 1) } else { ahead };
            prop_assert!(!snapshot.sees(low(xid)) || low(xid) < 3);
        }
    }
}

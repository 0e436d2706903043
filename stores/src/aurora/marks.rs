//! Fences between logical copies: canaries that travel in the same subscription as the rows.
//!
//! A subscriber applies transactions in the order of their commits. So a reading that shows a mark shows everything that was visible at the
//! publisher when the mark was written, if rows and mark came by the same subscription, and if both were read in one statement.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::poll::until;
use super::quote::literal;
use super::session::Lease;
use crate::{Canary, CanaryWriter, Position, Result, StoreError, Trouble, WriteOutcome};

/// The marks of all reconciliations share one ring, so that runs leave no rows behind.
const STREAM: &str = "reconcile-fence";
/// Marks that one point may try to write: another run may take the slot.
const TRIES_MAX: u32 = 5;

/// Which tables of a subscriber are brought by the one subscription that brings the canaries, and by no other: by object ID.
///
/// A partitioned table is, if it is itself, or if all its leaves are.
pub(crate) const CARRIED: &str = "\
with recursive ring(oid) as (
  select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'driftline' and c.relname = 'canary'),
carrier(oid) as (select r.srsubid from pg_catalog.pg_subscription_rel r join ring on ring.oid = r.srrelid
  where r.srsubstate = 'r' and (select pg_catalog.count(*) from pg_catalog.pg_subscription_rel x where x.srrelid = ring.oid) = 1),
brought(oid) as (select r.srrelid from pg_catalog.pg_subscription_rel r join carrier on carrier.oid = r.srsubid
  where r.srsubstate = 'r'
  and not exists (select from pg_catalog.pg_subscription_rel x where x.srrelid = r.srrelid and x.srsubid <> r.srsubid)),
tree(root, oid) as (select c.oid, c.oid from pg_catalog.pg_class c where c.relkind = 'p' and not c.relispartition
  union all select tree.root, i.inhrelid from tree join pg_catalog.pg_inherits i on i.inhparent = tree.oid)
select brought.oid from brought
union select tree.root from tree join pg_catalog.pg_class l on l.oid = tree.oid and l.relkind <> 'p'
  left join brought on brought.oid = tree.oid
  group by tree.root having pg_catalog.bool_and(brought.oid is not null)";

/// Why rows of a table that is not [`CARRIED`] cannot be verified.
pub(crate) const NOT_CARRIED: &str = "nothing proves what of it is in flight: the subscription that brings driftline.canary does not bring this \
     table, or has not finished its first copy, or another one brings it too; publish both together, then `alter subscription ... refresh publication`";

/// The marks of one pair in this process. The epoch is random, so that no row that is older, or of another writer, can pass for a mark.
#[derive(Debug)]
pub(crate) struct Marks {
    epoch: String,
    writer: Arc<dyn CanaryWriter>,
    /// The highest sequence that is known to be taken; `None` before the first mark.
    taken: Mutex<Option<u64>>,
}

impl Marks {
    /// Marks that `writer`, of the publisher, writes.
    pub(crate) fn new(writer: Arc<dyn CanaryWriter>) -> Self {
        Self {
            epoch: format!("{:032x}", rand::random::<u128>()),
            writer,
            taken: Mutex::new(None),
        }
    }

    /// Writes a mark; the point is durable, and behind everything that is visible at the publisher now.
    pub(crate) async fn put(&self, site: &str) -> Result<Position> {
        let mut taken = self.taken.lock().await;
        let mut refused = None;
        for _ in 0..TRIES_MAX {
            let highest = match (*taken, &refused) {
                (Some(highest), None) => highest,
                _ => self.writer.highest_sequence(STREAM).await?,
            };
            let sequence = highest + 1;
            *taken = Some(sequence);
            let canary = Canary {
                stream: STREAM.to_owned(),
                epoch: self.epoch.clone(),
                sequence,
                stamp: None,
            };
            match self.writer.write(&canary).await {
                WriteOutcome::Acknowledged => return Ok(Position(sequence)),
                WriteOutcome::Unknown(error) => return Err(error),
                // Another run took the slot, or the publisher refused it.
                WriteOutcome::Failed(error) => refused = Some(error),
            }
        }
        Err(refused
            .unwrap_or_else(|| StoreError::Corrupt(Trouble::new(site, "write a fence mark", "no mark was tried"))))
    }

    /// The highest mark that a snapshot shows, as one row; 0 when there is none.
    pub(crate) fn shown(&self) -> String {
        format!(
            "(select coalesce(pg_catalog.max(c.seq), 0)::pg_catalog.int8 as seq from driftline.canary as c \
             where c.stream operator(pg_catalog.=) {} and c.epoch operator(pg_catalog.=) {})",
            literal(STREAM),
            literal(&self.epoch)
        )
    }

    /// Waits until this end shows the mark of `point`.
    pub(crate) async fn wait(&self, lease: &Lease, site: &str, point: Position, patience: Duration) -> Result<bool> {
        const TRIED: &str = "wait for a fence mark";
        let sql = format!("select m.seq from {} as m", self.shown());
        let is_shown = || async {
            let rows = lease
                .query_typed(&sql, &[])
                .await
                .map_err(|error| lease.trouble(TRIED, error))?;
            let Some(row) = rows.first() else {
                return Err(StoreError::Corrupt(Trouble::new(site, TRIED, "no answer")));
            };
            Ok(position_in(lease, row, 0, TRIED)? >= point)
        };
        until(patience, is_shown).await
    }
}

/// The mark in column `index`.
pub(crate) fn position_in(lease: &Lease, row: &tokio_postgres::Row, index: usize, tried: &str) -> Result<Position> {
    let sequence: i64 = row.try_get(index).map_err(|error| lease.trouble(tried, error))?;
    Ok(Position(u64::try_from(sequence).unwrap_or(0)))
}

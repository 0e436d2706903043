//! How far a subscriber has applied what its publisher wrote, by the publisher's own account: for copies whose publication carries no canary.
//!
//! A subscriber confirms to the slot of its subscription what it has applied and made durable. Positions of both are of the publisher's log, and
//! the slot is known by its name, which the subscription tells. A subscription that stands still holds no slot: then nothing is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::types::PgLsn;

use super::session::{Lease, Sessions};
use crate::{Position, Result};

/// The subscriptions of this database, with the names of their slots.
const SUBSCRIPTIONS: &str = "select s.oid, s.subslotname::pg_catalog.text from pg_catalog.pg_subscription s \
     where s.subenabled and s.subslotname is not null \
     and s.subdbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())";

/// The slots of this database that a subscriber holds now, and what it has confirmed.
const SLOTS: &str = "select r.slot_name::pg_catalog.text, r.confirmed_flush_lsn from pg_catalog.pg_replication_slots r \
     where r.slot_type = 'logical' and r.active and r.confirmed_flush_lsn is not null \
     and r.database = pg_catalog.current_database()";

/// Which tables have had their first copy, and which subscription brings them; one that two bring is not among them.
const BROUGHT: &str = "\
with recursive brought(oid, sub) as (select r.srrelid, pg_catalog.min(r.srsubid::pg_catalog.int8)
  from pg_catalog.pg_subscription_rel r group by r.srrelid
  having pg_catalog.count(*) = 1 and pg_catalog.bool_and(r.srsubstate = 'r')),
tree(root, oid) as (select c.oid, c.oid from pg_catalog.pg_class c where c.relkind = 'p' and not c.relispartition
  union all select tree.root, i.inhrelid from tree join pg_catalog.pg_inherits i on i.inhparent = tree.oid)
select brought.oid, brought.sub from brought
union select tree.root, pg_catalog.min(brought.sub) from tree
  join pg_catalog.pg_class l on l.oid = tree.oid and l.relkind <> 'p' left join brought on brought.oid = tree.oid
  group by tree.root having pg_catalog.bool_and(brought.oid is not null) and pg_catalog.count(distinct brought.sub) = 1";

/// Why rows of other tables cannot be verified.
pub(crate) const NOT_BROUGHT: &str = "nothing proves what of it is in flight: no subscription whose slot the publisher shows as held brings \
     this table, or its first copy is not finished, or two bring it; look at pg_subscription_rel here and at pg_replication_slots there";

/// The slots that a subscriber holds at its publisher.
#[derive(Debug)]
pub(crate) struct Slots {
    publisher: Arc<Sessions>,
    /// Those that bring tables which are compared: by the catalog as it was read last.
    held: Mutex<Vec<String>>,
}

impl Slots {
    pub(crate) fn new(publisher: Arc<Sessions>) -> Self {
        Self {
            publisher,
            held: Mutex::default(),
        }
    }

    /// The tables of the subscriber, by object ID, of which it can be told how far they are.
    pub(crate) async fn brought(&self, subscriber: &Lease) -> Result<Vec<u32>> {
        const TRIED: &str = "read the subscriptions";
        let failed = |error| subscriber.trouble(TRIED, error);
        let confirmed = self.confirmed().await?;
        let mut slots: BTreeMap<i64, String> = BTreeMap::new();
        for row in subscriber.query_typed(SUBSCRIPTIONS, &[]).await.map_err(failed)? {
            let (oid, slot): (u32, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            if confirmed.contains_key(&slot) {
                slots.insert(i64::from(oid), slot);
            }
        }
        let mut brought = Vec::new();
        for row in subscriber.query_typed(BROUGHT, &[]).await.map_err(failed)? {
            let (table, subscription): (u32, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            if slots.contains_key(&subscription) {
                brought.push(table);
            }
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = slots.into_values().collect();
        Ok(brought)
    }

    /// What every one of those subscriptions has applied; `None`: one of them is not held now.
    pub(crate) async fn applied(&self) -> Result<Option<Position>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if held.is_empty() {
            return Ok(None);
        }
        let confirmed = self.confirmed().await?;
        let all: Option<Vec<Position>> = held.iter().map(|slot| confirmed.get(slot).copied()).collect();
        Ok(all.and_then(|all| all.into_iter().min()))
    }

    async fn confirmed(&self) -> Result<BTreeMap<String, Position>> {
        const TRIED: &str = "ask for the slots of subscribers";
        let lease = self.publisher.lease().await?;
        let failed = |error| lease.trouble(TRIED, error);
        let mut confirmed = BTreeMap::new();
        for row in lease.query_typed(SLOTS, &[]).await.map_err(failed)? {
            let (slot, position): (String, PgLsn) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            confirmed.insert(slot, Position(u64::from(position)));
        }
        Ok(confirmed)
    }
}

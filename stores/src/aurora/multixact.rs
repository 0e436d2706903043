//! Who really ended a row whose xmax may stand for several transactions.
//!
//! A transaction that locks a row and deletes it in a savepoint leaves a multixact in xmax: a number of another counter, which must
//! not be looked up in a snapshot. Only the server knows its members.

use std::collections::HashMap;

use super::reread::Found;
use super::session::Lease;
use crate::Snapshot;

/// Puts into each row's `ended_by` the transaction that decides whether its end was visible in `snapshot`: one that was not, if any
/// that it may stand for was not. When the members cannot be had, one that was not, for want of proof.
pub(crate) async fn resolve(lease: &Lease, rows: &mut [Found], snapshot: &Snapshot) {
    let suspects: Vec<u32> = rows
        .iter_mut()
        .filter(|row| row.may_be_multixact)
        .filter_map(|row| row.ended_by().copied())
        .collect();
    if suspects.is_empty() {
        return;
    }
    let members = members(lease, &suspects).await;
    for row in rows.iter_mut().filter(|row| row.may_be_multixact) {
        let Some(ended_by) = row.ended_by() else { continue };
        let unseen = match &members {
            Ok(members) => members
                .get(ended_by)
                .into_iter()
                .flatten()
                .copied()
                .find(|xid| !snapshot.sees(*xid)),
            Err(_) => Some(not_begun(snapshot)),
        };
        if let Some(unseen) = unseen {
            *ended_by = unseen;
        }
    }
}

/// A transaction ID that `snapshot` does not see.
pub(crate) fn not_begun(snapshot: &Snapshot) -> u32 {
    const FIRST_NORMAL_XID: u32 = 3;
    let low = u32::try_from(snapshot.xmax & u64::from(u32::MAX)).unwrap_or(FIRST_NORMAL_XID);
    low.max(FIRST_NORMAL_XID)
}

/// The updaters and deleters among the members of those suspects that are multixacts which still exist.
async fn members(lease: &Lease, suspects: &[u32]) -> Result<HashMap<u32, Vec<u32>>, tokio_postgres::Error> {
    let values: Vec<String> = suspects
        .iter()
        .map(|xid| format!("('{xid}'::pg_catalog.xid)"))
        .collect();
    // `offset 0` keeps the members of what does not exist from being asked for: that is an error.
    let sql = format!(
        "select k.x::pg_catalog.text, m.xid::pg_catalog.text from (select v.x from (values {}) as v(x) \
         where pg_catalog.mxid_age(v.x) operator(pg_catalog.>) 0 and pg_catalog.mxid_age(v.x) operator(pg_catalog.<=) \
         (select pg_catalog.mxid_age(c.oldest_multi_xid) from pg_catalog.pg_control_checkpoint() as c) offset 0) as k \
         cross join lateral pg_catalog.pg_get_multixact_members(k.x) as m where m.mode in ('upd', 'nokeyupd')",
        values.join(", ")
    );
    let mut members: HashMap<u32, Vec<u32>> = HashMap::new();
    for row in lease.query_typed(&sql, &[]).await? {
        let (of, xid): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        if let (Ok(of), Ok(xid)) = (of.parse(), xid.parse()) {
            members.entry(of).or_default().push(xid);
        }
    }
    Ok(members)
}

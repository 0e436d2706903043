//! How many rows have a digest: what can be read again of a row without a key.
//!
//! It reads the whole table, part by part where a statement has a limit, and so it looks for many digests at once. What stands in the place of
//! a row's version is the place and transaction of every copy, added up: it changes whenever one of them is written, moved or deleted.

use std::collections::HashMap;

use futures::StreamExt as _;
use tokio_postgres::Row as SqlRow;

use super::marks::position_in;
use super::multixact;
use super::quote::{ROW, column};
use super::ranged::digest_of;
use super::reread::{AFTER, Found, before_of, changed_at, instant_us};
use super::scanned::in_blocks;
use super::session::Lease;
use super::table::Table;
use super::tables::Tables;
use crate::{DIGESTS_PER_READ_MAX, Key, ReadRequest, Reading, Readings, Result, Row, ScanPart, Snapshot, StoreError};

/// The copies of one row, as they come together.
#[derive(Debug)]
struct Copies {
    row: Row,
    /// The sum of the places and transactions of all copies.
    places: i128,
    /// How old the youngest of the transactions that made them is.
    age: i32,
    /// Transactions that ended or locked copies, and whether each may stand for several; at most one more than [`ENDS_MAX`].
    ends: Vec<(u32, bool)>,
}

/// Transactions that are looked at of those which end copies of one row; where there are more, one of them is taken to go on.
const ENDS_MAX: usize = 16;

impl Tables {
    /// [`crate::Reread::read`] of rows that are told apart by their digests.
    pub(crate) async fn recount(&self, request: &ReadRequest<'_>, tried: &str) -> Result<Readings> {
        let unsupported = |reason: String| StoreError::Unsupported(self.trouble(tried, reason));
        if request.keys.len() > DIGESTS_PER_READ_MAX {
            return Err(unsupported(format!("more than {DIGESTS_PER_READ_MAX} digests at once")));
        }
        let lease = self.lease().await?;
        let table = self.table(&lease, request.collection, tried).await?;
        let mut wanted = HashMap::with_capacity(request.keys.len());
        for (at, key) in request.keys.iter().enumerate() {
            wanted.insert(
                hash_of(key).ok_or_else(|| unsupported("a key that is no digest".to_owned()))?,
                at,
            );
        }
        let applied = self.fencing.applied().await?;
        let before = self.before(&lease, lease.query_typed(before_of(&lease), &[]).await, tried)?;
        // In statements behind this one everything is visible that was when it was answered: so a mark that it shows proves the counts.
        let mark = match self.fencing.marks() {
            None => before.if_writable(applied),
            Some(marks) => {
                let sql = format!("select m.seq from {} as m", marks.shown());
                let shown = lease.query_typed(&sql, &[]).await;
                let shown = shown.map_err(|error| lease.trouble(tried, error))?;
                let none = || StoreError::Corrupt(self.trouble(tried, "no answer about fence marks"));
                Some(position_in(&lease, shown.first().ok_or_else(none)?, 0, tried)?)
            }
        };
        let mut found: Vec<Option<Copies>> = Vec::new();
        found.resize_with(request.keys.len(), || None);
        if !wanted.is_empty() {
            for part in self.blocks(&lease, &table, 1, tried).await? {
                let sql = counts_sql(&table, request, &wanted, &part).map_err(unsupported)?;
                self.add(&lease, &sql, request, &wanted, &mut found, tried).await?;
            }
        }
        let after = lease.query_typed(AFTER, &[]).await;
        self.same_role(&lease, &before, after, tried)?;
        if let Some(snapshot) = &before.snapshot {
            for copies in found.iter_mut().flatten().filter(|copies| !copies.ends.is_empty()) {
                copies.settle_ends(&lease, snapshot).await;
            }
        }
        let reading = |copies: Option<Copies>| {
            copies.map_or(Reading::Absent, |mut copies| {
                copies.row.version = format!("{} rows {:x}", copies.row.copies, copies.places);
                Reading::Present(copies.row)
            })
        };
        Ok(Readings {
            rows: found.into_iter().map(reading).collect(),
            position: mark.or(before.position),
            snapshot: before.snapshot,
            instance: lease.who().instance(),
        })
    }

    async fn add(
        &self,
        lease: &Lease,
        sql: &str,
        request: &ReadRequest<'_>,
        wanted: &HashMap<i64, usize>,
        found: &mut [Option<Copies>],
        tried: &str,
    ) -> Result<()> {
        let failed = |error| lease.trouble(tried, error);
        let no_parameters: [(i64, tokio_postgres::types::Type); 0] = [];
        let mut rows = std::pin::pin!(lease.query_typed_raw(sql, no_parameters).await.map_err(failed)?);
        while let Some(row) = rows.next().await {
            let (hash, copies) = read(&row.map_err(failed)?, request).map_err(failed)?;
            let corrupt = || StoreError::Corrupt(self.trouble(tried, "a count that cannot be read"));
            let (copies, at) = (copies.ok_or_else(corrupt)?, wanted.get(&hash).ok_or_else(corrupt)?);
            match &mut found[*at] {
                Some(known) => known.merge(copies),
                none => *none = Some(copies),
            }
        }
        Ok(())
    }
}

impl Copies {
    fn merge(&mut self, more: Self) {
        self.row.copies += more.row.copies;
        self.places = self.places.wrapping_add(more.places);
        for end in more.ends {
            if self.ends.len() <= ENDS_MAX && !self.ends.contains(&end) {
                self.ends.push(end);
            }
        }
        self.row.changed_at_us = self.row.changed_at_us.max(more.row.changed_at_us);
        // An age below zero is that of a row that was frozen so long ago that its transaction's number came round again.
        if more.age >= 0 && (self.age < 0 || more.age < self.age) {
            self.age = more.age;
            self.row.created_by = more.row.created_by;
        }
    }

    /// Of all transactions that ended or locked copies, tells one that `snapshot` does not see, if there is one.
    async fn settle_ends(&mut self, lease: &Lease, snapshot: &Snapshot) {
        if self.ends.len() > ENDS_MAX {
            self.row.ended_by = Some(multixact::not_begun(snapshot));
            return;
        }
        let mut ends: Vec<Found> = self
            .ends
            .iter()
            .map(|(xid, is_several)| Found::ended(*xid, *is_several))
            .collect();
        multixact::resolve(lease, &mut ends, snapshot).await;
        let ended: Vec<u32> = ends.iter_mut().filter_map(|end| end.ended_by().copied()).collect();
        let unseen = ended.iter().find(|xid| !snapshot.sees(**xid));
        self.row.ended_by = unseen.or(ended.first()).copied();
    }
}

/// The hash of a digest that stands in the place of a key.
fn hash_of(key: &Key) -> Option<i64> {
    let hash = u64::try_from(key.as_digest()?.0).ok()?;
    Some(hash.cast_signed())
}

/// For each digest that is wanted and found, and for each of the transactions that made or ended its copies: their number and places.
///
/// Names of system columns carry what is computed of a row: no column of a user's table can have one of them.
fn counts_sql(
    table: &Table,
    request: &ReadRequest<'_>,
    wanted: &HashMap<i64, usize>,
    part: &ScanPart,
) -> std::result::Result<String, String> {
    let hashes: Vec<String> = wanted.keys().map(i64::to_string).collect();
    let place = format!(
        "pg_catalog.hashtextextended(pg_catalog.concat({ROW}.tableoid, {ROW}.ctid, {ROW}.xmin), '0'::pg_catalog.int8)"
    );
    let mut selected = vec![
        format!("{ROW}.cmin"),
        format!("{ROW}.xmin::pg_catalog.text"),
        format!("pg_catalog.age({ROW}.xmin)"),
        format!("{ROW}.xmax::pg_catalog.text"),
        format!("pg_catalog.mxid_age({ROW}.xmax)"),
        "pg_catalog.count(*)".to_owned(),
        format!("pg_catalog.sum({place})::pg_catalog.text"),
        format!(
            "pg_catalog.max(pg_catalog.encode({}, 'hex'))",
            changed_at(table, request.changed_at)?
        ),
    ];
    if request.values {
        let columns = request.recipe.columns.iter();
        let texts: Vec<String> = columns
            .map(|name| format!("{}::pg_catalog.text", column(name)))
            .collect();
        selected.push(format!(
            "pg_catalog.min(array[{}]::pg_catalog.text[])",
            texts.join(", ")
        ));
    }
    Ok(format!(
        "select {} from (select {} as cmin, {ROW}.tableoid, {ROW}.ctid, {ROW}.xmin, {ROW}.xmax, {ROW}.* from {} as {ROW} \
         where {} offset 0) as {ROW} where {ROW}.cmin operator(pg_catalog.=) any ('{{{}}}'::pg_catalog.int8[]) \
         group by {ROW}.cmin, {ROW}.xmin, {ROW}.xmax",
        selected.join(", "),
        request.recipe.expression,
        table.from(),
        table.within(&in_blocks(part)?),
        hashes.join(","),
    ))
}

/// One row of counts: the hash, and what it says; `None` within: a number cannot be read.
fn read(row: &SqlRow, request: &ReadRequest<'_>) -> std::result::Result<(i64, Option<Copies>), tokio_postgres::Error> {
    let hash: i64 = row.try_get(0)?;
    let (xmin, age, xmax): (&str, i32, &str) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    let multixact_age: i32 = row.try_get(4)?;
    let (count, places): (i64, &str) = (row.try_get(5)?, row.try_get(6)?);
    let changed_at: Option<&str> = row.try_get(7)?;
    let values = if request.values { Some(row.try_get(8)?) } else { None };
    let end = xmax.parse().ok().filter(|xid| *xid != 0);
    let (Ok(copies), Ok(places)) = (u64::try_from(count), places.parse()) else {
        return Ok((hash, None));
    };
    let copies = Copies {
        row: Row {
            version: String::new(),
            digest: digest_of(hash),
            columns: vec![None; request.recipe.columns.len()],
            values,
            committed_at_us: None,
            changed_at_us: changed_at.and_then(bytes_of).and_then(|bytes| instant_us(&bytes)),
            copies,
            created_by: xmin.parse().ok(),
            ended_by: None,
        },
        places,
        age,
        ends: end.map(|xid| (xid, multixact_age > 0)).into_iter().collect(),
    };
    Ok((hash, Some(copies)))
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect()
}

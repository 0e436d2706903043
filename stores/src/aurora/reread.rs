//! Single rows, read again with proof of when.

use async_trait::async_trait;
use futures::StreamExt as _;
use tokio_postgres::Row as SqlRow;
use tokio_postgres::types::{FromSql, PgLsn, Type};

use super::copy::forms;
use super::key_type::KeyColumn;
use super::marks::position_in;
use super::part::literals;
use super::quote::{ROW, column};
use super::ranged::digest_of;
use super::sent_row;
use super::session::Lease;
use super::table::Table;
use super::tables::Tables;
use crate::{
    ChunkDigest, DigestMode, KEYS_PER_READ_MAX, Position, ReadRequest, Reading, Readings, Reread, Result, Row,
    RowDigest, Snapshot, StoreError, bytes_digest,
};

/// Before the rows: whether this end replays, how far it has, and what was committed if it does not.
const BEFORE: &str = "select pg_catalog.pg_is_in_recovery(), \
     case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() end, \
     case when not pg_catalog.pg_is_in_recovery() then pg_catalog.pg_current_snapshot()::pg_catalog.text end";
/// The same of Aurora: its copies follow its storage, and the function that tells where replay stands must not even be named.
const BEFORE_AT_AURORA: &str = "select pg_catalog.pg_is_in_recovery(), null::pg_catalog.pg_lsn, \
     case when not pg_catalog.pg_is_in_recovery() then pg_catalog.pg_current_snapshot()::pg_catalog.text end";
/// After the rows: a promotion in between makes the reading worthless, for both histories then use the same transaction IDs.
pub(crate) const AFTER: &str = "select pg_catalog.pg_is_in_recovery()";
/// Rows of one key that a reading remembers the versions of; further ones are only counted and summed up.
const VERSIONS_MAX: u64 = 8;
/// When the row's transaction was committed, where this server keeps commit times (`track_commit_timestamp`). A standby is not asked: it
/// refuses where its primary keeps none, whatever its own setting says. NULL for rows that were committed before it kept them, and for frozen ones.
const COMMITTED_AT: &str = "case when not pg_catalog.pg_is_in_recovery() \
     and pg_catalog.current_setting('track_commit_timestamp')::pg_catalog.bool \
     then pg_catalog.timestamptz_send(pg_catalog.pg_xact_commit_timestamp(t.xmin)) end";
/// Microseconds from 1970 to 2000, where PostgreSQL's clock begins.
const EPOCH_2000_US: i64 = 946_684_800_000_000;

#[async_trait]
impl Reread for Tables {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        let tried = format!("read {} keys of {} again", request.keys.len(), request.collection.name);
        if request.recipe.is_keyless() {
            return self.recount(request, &tried).await;
        }
        let unsupported = |reason: String| StoreError::Unsupported(self.trouble(&tried, reason));
        if request.keys.len() > KEYS_PER_READ_MAX {
            return Err(unsupported(format!("more than {KEYS_PER_READ_MAX} keys at once")));
        }
        let lease = self.lease().await?;
        let table = self.table(&lease, request.collection, &tried).await?;
        let key = self.key(&table, &tried)?;
        let sql = rows_sql(&table, key, request).map_err(unsupported)?;
        let sql = match self.fencing.marks() {
            None => sql,
            // One statement, one snapshot: a mark that it shows proves the rows beside it.
            Some(marks) => format!(
                "select x.*, m.seq from {} as m left join ({sql}) as x on true",
                marks.shown()
            ),
        };
        let applied = self.fencing.applied().await?;
        // Three statements, three snapshots, in this order: nothing stays open between them.
        let (before, rows, after) = futures::join!(
            lease.query_typed(before_of(&lease), &[]),
            self.rows(&lease, &sql, request, &tried),
            lease.query_typed(AFTER, &[])
        );
        let before = self.before(&lease, before, &tried)?;
        let (mut rows, mark) = rows?;
        let mark = mark.or(before.if_writable(applied));
        self.same_role(&lease, &before, after, &tried)?;
        if let Some(snapshot) = &before.snapshot {
            super::multixact::resolve(&lease, &mut rows, snapshot).await;
        }
        Ok(Readings {
            rows: rows.into_iter().map(Found::reading).collect(),
            position: mark.or(before.position),
            snapshot: before.snapshot,
            instance: lease.who().instance(),
        })
    }
}

/// The first statement, as this server answers it.
pub(crate) fn before_of(lease: &Lease) -> &'static str {
    if lease.who().is_aurora {
        BEFORE_AT_AURORA
    } else {
        BEFORE
    }
}

/// What the first statement says.
pub(crate) struct Before {
    is_in_recovery: bool,
    pub(crate) position: Option<Position>,
    pub(crate) snapshot: Option<Snapshot>,
}

impl Before {
    /// What a subscriber applied says nothing of a standby of it.
    pub(crate) fn if_writable(&self, applied: Option<Position>) -> Option<Position> {
        applied.filter(|_| !self.is_in_recovery)
    }
}

/// One key as it comes together.
#[derive(Debug, Default)]
pub(crate) struct Found {
    row: Option<Row>,
    /// The row's xmax may be a multixact: several transactions that locked or ended it.
    pub(crate) may_be_multixact: bool,
}

impl Found {
    /// A row of which nothing counts but who ended it.
    pub(crate) fn ended(by: u32, may_be_multixact: bool) -> Self {
        let row = Row {
            version: String::new(),
            digest: digest_of(0),
            columns: Vec::new(),
            values: None,
            changed_at_us: None,
            committed_at_us: None,
            copies: 0,
            created_by: None,
            ended_by: Some(by),
        };
        Self {
            row: Some(row),
            may_be_multixact,
        }
    }

    fn reading(self) -> Reading {
        self.row.map_or(Reading::Absent, Reading::Present)
    }

    /// The transaction that ended or locked the row.
    pub(crate) fn ended_by(&mut self) -> Option<&mut u32> {
        self.row.as_mut().and_then(|row| row.ended_by.as_mut())
    }

    /// Another row of the same key: no unique key guards it there, or its index is damaged.
    fn add(&mut self, more: Row, mode: DigestMode) {
        let Some(row) = &mut self.row else {
            self.row = Some(more);
            return;
        };
        row.copies += 1;
        row.committed_at_us = None;
        let one = |digest: RowDigest| ChunkDigest {
            count: 1,
            sum: digest.0,
        };
        row.digest = RowDigest(one(row.digest).merge(one(more.digest), mode).sum);
        if row.copies <= VERSIONS_MAX {
            row.version = format!("{} {}", row.version, more.version);
        }
    }
}

impl Tables {
    /// Nothing was promoted between the first statement and the last.
    pub(crate) fn same_role(
        &self,
        lease: &Lease,
        before: &Before,
        after: std::result::Result<Vec<SqlRow>, tokio_postgres::Error>,
        tried: &str,
    ) -> Result<()> {
        let after = after.map_err(|error| lease.trouble(tried, error))?;
        let is_in_recovery: Option<bool> = after.first().and_then(|row| row.try_get(0).ok());
        if is_in_recovery == Some(before.is_in_recovery) {
            return Ok(());
        }
        Err(StoreError::Retryable {
            after: None,
            trouble: self.trouble(tried, "the server changed its role while it was read"),
        })
    }

    pub(crate) fn before(
        &self,
        lease: &Lease,
        answer: std::result::Result<Vec<SqlRow>, tokio_postgres::Error>,
        tried: &str,
    ) -> Result<Before> {
        let failed = |error| lease.trouble(tried, error);
        let rows = answer.map_err(failed)?;
        let corrupt = |cause: &str| StoreError::Corrupt(self.trouble(tried, cause));
        let row = rows.first().ok_or_else(|| corrupt("no answer about recovery"))?;
        let position: Option<PgLsn> = row.try_get(1).map_err(failed)?;
        let snapshot: Option<&str> = row.try_get(2).map_err(failed)?;
        Ok(Before {
            is_in_recovery: row.try_get(0).map_err(failed)?,
            position: position.map(|lsn| Position(u64::from(lsn))),
            snapshot: match snapshot {
                Some(text) => Some(snapshot_of(text).ok_or_else(|| corrupt("a snapshot that cannot be read"))?),
                None => None,
            },
        })
    }

    async fn rows(
        &self,
        lease: &Lease,
        sql: &str,
        request: &ReadRequest<'_>,
        tried: &str,
    ) -> Result<(Vec<Found>, Option<Position>)> {
        let failed = |error| lease.trouble(tried, error);
        let no_parameters: [(i64, tokio_postgres::types::Type); 0] = [];
        let mut rows = std::pin::pin!(lease.query_typed_raw(sql, no_parameters).await.map_err(failed)?);
        let (mut found, mut mark): (Vec<Found>, _) = (Vec::new(), None);
        found.resize_with(request.keys.len(), Found::default);
        while let Some(row) = rows.next().await {
            let row = row.map_err(failed)?;
            if self.fencing.marks().is_some() {
                mark = Some(position_in(lease, &row, row.len() - 1, tried)?);
            }
            let index: Option<i32> = row.try_get(0).map_err(failed)?;
            let Some(index) = index else { continue }; // the mark alone: no key was found
            let index = usize::try_from(index).unwrap_or(usize::MAX);
            let place = found
                .get_mut(index)
                .ok_or_else(|| StoreError::Corrupt(self.trouble(tried, "an answer to a key that was not asked for")))?;
            let age: Option<i32> = row.try_get(5).map_err(failed)?;
            place.may_be_multixact |= age.is_some_and(|age| age > 0);
            match read_row(&row, request).map_err(failed)? {
                Some(read) => place.add(read, request.recipe.mode),
                None => return Err(self.too_wide(tried, 1)),
            }
        }
        Ok((found, mark))
    }
}

/// The rows of the keys asked for, each with its number. Found through the key's index, at either end.
fn rows_sql(table: &Table, key: &[KeyColumn], request: &ReadRequest<'_>) -> std::result::Result<String, String> {
    let mut values: Vec<String> = Vec::with_capacity(request.keys.len());
    for (index, asked) in request.keys.iter().enumerate() {
        values.push(format!("({index}, {})", literals(key, asked)?.join(", ")));
    }
    let names: Vec<String> = (0..key.len()).map(|index| format!("driftline_k{index}")).collect();
    if values.is_empty() {
        return Ok("select 0 where false".to_owned());
    }
    let joined: Vec<String> = key
        .iter()
        .zip(&names)
        .map(|(part, name)| format!("{} operator(pg_catalog.=) k.{name}", column(&part.name)))
        .collect();
    let mut selected = vec![
        "k.driftline_n".to_owned(),
        format!("{ROW}.tableoid"),
        format!("{ROW}.ctid::pg_catalog.text"),
        format!("{ROW}.xmin::pg_catalog.text"),
        format!("{ROW}.xmax::pg_catalog.text"),
        format!(
            "case when {ROW}.xmax operator(pg_catalog.<>) '0'::pg_catalog.xid then pg_catalog.mxid_age({ROW}.xmax) end"
        ),
    ];
    let recipe = request.recipe;
    let sent = match recipe.mode {
        DigestMode::Pushdown => {
            selected.push(recipe.expression.clone());
            selected.push(format!(
                "array[{}]::pg_catalog.int8[]",
                recipe.column_expressions.join(", ")
            ));
            Vec::new()
        }
        // In the place of the row's digest: its guard.
        DigestMode::Client => {
            let (guard, forms) = forms(table, recipe, true);
            selected.push(guard.unwrap_or_else(|| "pg_catalog.decode('', 'hex')".to_owned()));
            selected.push("null::pg_catalog.int8[]".to_owned());
            forms
        }
    };
    selected.push(changed_at(table, request.changed_at)?);
    selected.push(COMMITTED_AT.to_owned());
    if request.values {
        let texts: Vec<String> = request
            .recipe
            .columns
            .iter()
            .map(|name| format!("{}::pg_catalog.text", column(name)))
            .collect();
        selected.push(format!("array[{}]::pg_catalog.text[]", texts.join(", ")));
    }
    selected.extend(sent);
    Ok(format!(
        "select {} from (values {}) as k(driftline_n, {}) join {} as {ROW} on {}",
        selected.join(", "),
        values.join(", "),
        names.join(", "),
        table.from(),
        table.within(&joined.join(" and "))
    ))
}

/// The binary form of the column that tells when a row changed: microseconds since 2000. A timestamp without zone is taken for UTC.
pub(crate) fn changed_at(table: &Table, name: Option<&str>) -> std::result::Result<String, String> {
    let Some(name) = name else {
        return Ok("null::pg_catalog.bytea".to_owned());
    };
    let found = table
        .column(name)
        .ok_or_else(|| format!("changed_at names column {name}, which does not exist"))?;
    match found.shape.base() {
        super::shape::Shape::Simple(simple) if matches!(simple.type_name.as_str(), "timestamptz" | "timestamp") => {
            Ok(format!("pg_catalog.{}({})", simple.send, column(name)))
        }
        _ => Err(format!(
            "changed_at names column {name} of type {}; it has to be a timestamp",
            found.type_name
        )),
    }
}

/// Of a row, and of each of its columns; `None` is NULL.
type Digests = (RowDigest, Vec<Option<u64>>);

/// Digests of the row and of its columns, by whoever hashes. `None`: a value is too wide to be hashed.
fn digests(row: &SqlRow, request: &ReadRequest<'_>) -> std::result::Result<Option<Digests>, tokio_postgres::Error> {
    match request.recipe.mode {
        DigestMode::Pushdown => {
            let Some(hash) = row.try_get::<_, Option<i64>>(6)? else {
                return Ok(None);
            };
            let columns: Vec<Option<i64>> = row.try_get(7)?;
            let columns = columns.into_iter().map(|hash| hash.map(i64::cast_unsigned)).collect();
            Ok(Some((digest_of(hash), columns)))
        }
        DigestMode::Client => {
            let Some(guard) = row.try_get::<_, Option<Sent<'_>>>(6)? else {
                return Ok(None);
            };
            let first = if request.values { 11 } else { 10 };
            let (seed, count) = (request.recipe.seed, request.recipe.columns.len());
            let (mut sent, mut columns) = (Vec::new(), Vec::with_capacity(count));
            for index in first..first + count {
                let value: Option<Sent<'_>> = row.try_get(index)?;
                let value = value.map(|value| value.0);
                sent_row::push(&mut sent, value);
                columns.push(value.map(|value| bytes_digest(seed, value)));
            }
            Ok(Some((sent_row::digest(seed, &sent, guard.0), columns)))
        }
    }
}

/// A value of any type in its binary form.
#[derive(Debug, Clone, Copy)]
struct Sent<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Sent<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// `None`: a value is too wide to be hashed.
fn read_row(row: &SqlRow, request: &ReadRequest<'_>) -> std::result::Result<Option<Row>, tokio_postgres::Error> {
    let (table, place): (u32, &str) = (row.try_get(1)?, row.try_get(2)?);
    let (xmin, xmax): (&str, &str) = (row.try_get(3)?, row.try_get(4)?);
    let Some((digest, columns)) = digests(row, request)? else {
        return Ok(None);
    };
    let changed_at: Option<&[u8]> = row.try_get(8)?;
    let committed_at: Option<&[u8]> = row.try_get(9)?;
    Ok(Some(Row {
        version: format!("{table},{place},{xmin}"),
        digest,
        columns,
        values: if request.values { Some(row.try_get(10)?) } else { None },
        changed_at_us: changed_at.and_then(instant_us),
        copies: 1,
        created_by: xmin.parse().ok(),
        ended_by: xmax.parse().ok().filter(|xid| *xid != 0),
        committed_at_us: committed_at.and_then(instant_us),
    }))
}

/// The eight bytes of a timestamp as microseconds since 1970; `None` for the infinities.
pub(crate) fn instant_us(bytes: &[u8]) -> Option<i64> {
    let since_2000 = i64::from_be_bytes(bytes.try_into().ok()?);
    if since_2000 == i64::MAX || since_2000 == i64::MIN {
        return None;
    }
    since_2000.checked_add(EPOCH_2000_US)
}

/// `xmin:xmax:running,running`, as `pg_snapshot` is written.
fn snapshot_of(text: &str) -> Option<Snapshot> {
    let mut parts = text.split(':');
    let (xmin, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
    let running: std::result::Result<Vec<u64>, _> = running
        .split(',')
        .filter(|xid| !xid.is_empty())
        .map(str::parse)
        .collect();
    Some(Snapshot {
        xmin: xmin.parse().ok()?,
        xmax: xmax.parse().ok()?,
        running: running.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_read_with_and_without_running_transactions() {
        let none = snapshot_of("725:725:").unwrap();
        assert_eq!((none.xmin, none.xmax, none.running.len()), (725, 725, 0));
        assert_eq!(snapshot_of("10:20:10,14,15").unwrap().running, [10, 14, 15]);
        assert_eq!(snapshot_of("10:20"), None);
        assert_eq!(snapshot_of("10:x:"), None);
    }

    #[test]
    fn the_clock_starts_in_2000_and_infinity_is_no_instant() {
        assert_eq!(instant_us(&0i64.to_be_bytes()), Some(946_684_800_000_000));
        assert_eq!(instant_us(&i64::MAX.to_be_bytes()), None);
        assert_eq!(instant_us(&i64::MIN.to_be_bytes()), None);
    }
}

//! What a database holds beside tables: sequences and where they stand, and large objects.

use super::quote::literal;
use super::session::Lease;
use crate::{Collection, Counter, Definition, KeyShape, Result, StoreError, Trouble};

/// schema, name, whether this role may look at it, definition.
const SEQUENCES: &str = "\
select n.nspname::text, c.relname::text,
       pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_sequence_privilege(c.oid, 'select'),
       pg_catalog.format('%s from %s to %s by %s, start %s, cache %s%s', pg_catalog.format_type(s.seqtypid, null), s.seqmin, s.seqmax,
                         s.seqincrement, s.seqstart, s.seqcache, case when s.seqcycle then ', cycles' else '' end)
from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relpersistence = 'p' and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
order by 1, 2";

/// How many large objects there are.
const LARGE_OBJECTS: &str = "select pg_catalog.count(*) from pg_catalog.pg_largeobject_metadata";
/// Where they are kept.
const LARGE_OBJECT_TABLE: &str = "pg_catalog.pg_largeobject";

/// Large objects, if there are any: a collection that is found and not compared.
pub(crate) async fn large_objects(lease: &Lease) -> Result<Option<Collection>> {
    let failed = |error| lease.trouble("count the large objects", error);
    let rows = lease.query_typed(LARGE_OBJECTS, &[]).await.map_err(failed)?;
    let count: i64 = match rows.first() {
        Some(row) => row.try_get(0).map_err(failed)?,
        None => 0,
    };
    Ok((count > 0).then(|| Collection {
        name: LARGE_OBJECT_TABLE.to_owned(),
        kind: "large objects".to_owned(),
        key: KeyShape::Unusable("large objects are not compared".to_owned()),
        rows_estimate: u64::try_from(count).ok(),
        unreadable: Some(
            "large objects are not compared in this version; keep such data in tables, or compare it by other means"
                .to_owned(),
        ),
        ..Collection::default()
    }))
}

/// Its object ID, how it steps, and the column that it feeds: quoted table and column.
fn shape(name: &str) -> String {
    format!(
        "select c.oid, s.seqincrement, s.seqcache, s.seqcycle, \
         (select pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.relname) from pg_catalog.pg_class t \
          join pg_catalog.pg_namespace tn on tn.oid = t.relnamespace where t.oid = d.refobjid), \
         (select pg_catalog.quote_ident(a.attname) from pg_catalog.pg_attribute a \
          where a.attrelid = d.refobjid and a.attnum = d.refobjsubid) \
         from pg_catalog.pg_sequence s join pg_catalog.pg_class c on c.oid = s.seqrelid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid \
         and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype in ('a', 'i') and d.refobjsubid > 0 \
         where n.nspname || '.' || c.relname = {}",
        literal(name)
    )
}

/// Every sequence, as a collection without rows.
pub(crate) async fn collections(lease: &Lease) -> Result<Vec<Collection>> {
    let failed = |error| lease.trouble("list the sequences", error);
    let rows = lease.query_typed(SEQUENCES, &[]).await.map_err(failed)?;
    let collection = |row: &tokio_postgres::Row| -> std::result::Result<Collection, tokio_postgres::Error> {
        let (schema, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let is_readable: bool = row.try_get(2)?;
        Ok(Collection {
            name: format!("{schema}.{name}"),
            kind: "sequence".to_owned(),
            key: KeyShape::Unusable("a sequence has no rows; its position is compared".to_owned()),
            unreadable: (!is_readable).then(|| {
                "this role may not look at this sequence; `grant select on sequence ... to` the role".to_owned()
            }),
            is_counter: true,
            definitions: vec![Definition {
                kind: "sequence".to_owned(),
                text: row.try_get(3)?,
            }],
            ..Collection::default()
        })
    };
    rows.iter().map(|row| collection(row).map_err(failed)).collect()
}

/// Where `collection` stands now.
pub(crate) async fn read(lease: &Lease, site: &str, collection: &Collection) -> Result<Counter> {
    let tried = format!("read where {} stands", collection.name);
    let failed = |error| lease.trouble(&tried, error);
    let rows = lease.query_typed(&shape(&collection.name), &[]).await.map_err(failed)?;
    let [row] = rows.as_slice() else {
        return Err(StoreError::NotFound(Trouble::new(
            site,
            &tried,
            format!("{} sequences have this name", rows.len()),
        )));
    };
    let oid: u32 = row.try_get(0).map_err(failed)?;
    let increment: i64 = row.try_get(1).map_err(failed)?;
    let feeds: (Option<&str>, Option<&str>) = (row.try_get(4).map_err(failed)?, row.try_get(5).map_err(failed)?);
    let in_use = match feeds {
        (Some(table), Some(column)) => {
            let extreme = if increment < 0 { "min" } else { "max" };
            let sql = format!("select pg_catalog.{extreme}(t.{column})::pg_catalog.int8 from {table} as t");
            let rows = lease.query_typed(&sql, &[]).await.map_err(failed)?;
            match rows.first() {
                Some(row) => row.try_get(0).map_err(failed)?,
                None => None,
            }
        }
        _ => None,
    };
    // Behind the column: a number is given before it is in use, so that no row that is written in between makes a sequence look behind.
    let sql = format!("select pg_catalog.pg_sequence_last_value('{oid}'::pg_catalog.regclass)");
    let stands = lease.query_typed(&sql, &[]).await.map_err(failed)?;
    let stands = stands
        .first()
        .ok_or_else(|| StoreError::Corrupt(Trouble::new(site, &tried, "no answer")))?;
    Ok(Counter {
        last: stands.try_get(0).map_err(failed)?,
        increment,
        cache: row.try_get(2).map_err(failed)?,
        cycles: row.try_get(3).map_err(failed)?,
        in_use,
    })
}

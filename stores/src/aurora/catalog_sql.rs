//! The catalog queries. Each reads one aspect of all user tables; what versions name differently is read through `to_jsonb`.

/// The tables that are listed: partitions are part of their root, temporary tables belong to a session.
macro_rules! user_tables {
    () => {
        "pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'f', 'm') and not c.relispartition and c.relpersistence <> 't' \
         and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'"
    };
}

macro_rules! tables { ($bytes:literal, $blocks:literal) => { concat!(
    "select c.oid, c.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, \
     pg_catalog.has_schema_privilege(c.relnamespace, 'usage'), pg_catalog.has_table_privilege(c.oid, 'select'), \
     pg_catalog.row_security_active(c.oid), leaves.rows, leaves.bytes, leaves.unlogged, leaves.foreign_tables, leaves.blocks from ",
    "(select c.*, n.nspname from ",
    user_tables!(),
    ") c cross join lateral (\
     select case when bool_and(l.reltuples >= 0) then sum(l.reltuples::float8)::int8 end as rows, \
     sum(",
    $bytes,
    ")::int8 as bytes, sum(",
    $blocks,
    ")::int8 as blocks, \
     coalesce(bool_or(l.relpersistence = 'u'), false) as unlogged, \
     coalesce(bool_or(l.relkind = 'f'), false) as foreign_tables \
     from pg_catalog.pg_class l where l.oid = c.oid and c.relkind <> 'p' \
     or c.relkind = 'p' and l.relkind <> 'p' and l.oid in (with recursive tree(oid) as (select c.oid \
     union all select i.inhrelid from tree join pg_catalog.pg_inherits i on i.inhparent = tree.oid) select tree.oid from tree)\
     ) leaves order by 2, 3"
) } }

/// oid, schema, name, kind, persistence, may use the schema, may select, row security applies, rows, bytes, spoiled leaves,
/// blocks of the rows themselves.
///
/// Figures of a partitioned table are those of its leaves. Rows are -1 where nothing was ever analysed.
pub(crate) const TABLES: &str = tables!(
    "pg_catalog.pg_total_relation_size(l.oid)",
    "pg_catalog.pg_relation_size(l.oid) / pg_catalog.current_setting('block_size')::int8"
);

/// The same without a look at the files, which waits for whoever holds a table: bytes are unknown, blocks are those of the statistics.
pub(crate) const TABLES_WHILE_LOCKED: &str = tables!("null::int8", "l.relpages");

/// table oid, name, type oid, type text, not null, collation oid, in order.
pub(crate) const COLUMNS: &str = concat!(
    "select a.attrelid, a.attname::text, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
     a.attcollation, a.attnum from pg_catalog.pg_attribute a where a.attnum > 0 and not a.attisdropped \
     and a.attrelid in (select c.oid from ",
    user_tables!(),
    ") order by a.attrelid, a.attnum"
);

/// Every type that a column reaches: oid, name, built in, typtype, is a true array, element, base type, composite relation,
/// range subtype, the built-in send function, is text in all but name, its extension, a send function in C, an enum's labels in order, its
/// name in SQL.
pub(crate) const TYPES: &str = concat!(
    "with recursive used(oid) as (select a.atttypid from pg_catalog.pg_attribute a where a.attnum > 0 and not a.attisdropped \
     and a.attrelid in (select c.oid from ",
    user_tables!(),
    ") union select x.oid from used u join pg_catalog.pg_type t on t.oid = u.oid cross join lateral (\
     select t.typbasetype union all select t.typelem \
     union all select r.rngsubtype from pg_catalog.pg_range r \
     where r.rngtypid = t.oid or (pg_catalog.to_jsonb(r) ->> 'rngmultitypid') = t.oid::text \
     union all select f.atttypid from pg_catalog.pg_attribute f where t.typtype = 'c' and f.attrelid = t.typrelid \
     and f.attnum > 0 and not f.attisdropped) x(oid) where x.oid <> 0) \
     select t.oid, t.typname::text, t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace, t.typtype::text, \
     exists (select from pg_catalog.pg_type e where e.oid = t.typelem and e.typarray = t.oid), t.typelem, t.typbasetype, \
     t.typrelid, coalesce((select r.rngsubtype from pg_catalog.pg_range r \
     where r.rngtypid = t.oid or (pg_catalog.to_jsonb(r) ->> 'rngmultitypid') = t.oid::text), 0::oid), \
     (select case when p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace then p.proname::text else p.prosrc end \
     from pg_catalog.pg_proc p join pg_catalog.pg_language g on g.oid = p.prolang \
     where p.oid = t.typsend and g.lanname = 'internal'), \
     exists (select from pg_catalog.pg_cast k where k.castsource = t.oid and k.casttarget = 'pg_catalog.text'::pg_catalog.regtype \
     and k.castmethod = 'b'), \
     (select x.extname::text from pg_catalog.pg_depend d join pg_catalog.pg_extension x on x.oid = d.refobjid \
     where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.objid = t.oid and d.deptype = 'e' \
     and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass), \
     (select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname) \
     from pg_catalog.pg_proc p join pg_catalog.pg_language g on g.oid = p.prolang \
     join pg_catalog.pg_namespace n on n.oid = p.pronamespace where p.oid = t.typsend and g.lanname = 'c'), \
     (select pg_catalog.string_agg(pg_catalog.quote_literal(l.enumlabel), ',' order by l.enumsortorder) \
     from pg_catalog.pg_enum l where l.enumtypid = t.oid), \
     (select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) \
     from pg_catalog.pg_namespace n where n.oid = t.typnamespace) \
     from pg_catalog.pg_type t where t.oid in (select oid from used)"
);

/// Fields of composite types: relation oid, name, type oid, in order.
pub(crate) const FIELDS: &str = "select a.attrelid, a.attname::text, a.atttypid from pg_catalog.pg_attribute a \
     join pg_catalog.pg_class c on c.oid = a.attrelid where a.attnum > 0 and not a.attisdropped \
     and exists (select from pg_catalog.pg_type t where t.typrelid = c.oid and t.typtype = 'c') \
     and c.relnamespace not in ('pg_catalog'::pg_catalog.regnamespace, 'information_schema'::pg_catalog.regnamespace) \
     order by a.attrelid, a.attnum";

/// Unique indexes: table oid, primary, key columns by number, whether all are indexed by the default operator class, their collations, how
/// many are of the key, and their directions.
///
/// Valid, unique, immediate, total, without expressions; one is enough that a row has at most one copy.
pub(crate) const KEYS: &str = concat!(
    "select i.indrelid, i.indisprimary, i.indkey::pg_catalog.int2[], \
     (select bool_and(o.opcdefault and o.opcnamespace = 'pg_catalog'::pg_catalog.regnamespace) \
     from pg_catalog.unnest(i.indclass::oid[]) x(oid) join pg_catalog.pg_opclass o on o.oid = x.oid), \
     i.indcollation::oid[], i.indnkeyatts, i.indoption::pg_catalog.int2[] \
     from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid \
     join pg_catalog.pg_am m on m.oid = x.relam \
     where m.amname = 'btree' and i.indisunique and i.indisvalid and i.indisready and i.indimmediate \
     and i.indpred is null and i.indexprs is null and i.indrelid in (select c.oid from ",
    user_tables!(),
    ") order by i.indrelid, not i.indisprimary, i.indnkeyatts, x.relname"
);

/// Collations of columns: oid, provider, locale, deterministic, actual version, rules.
pub(crate) const COLLATIONS: &str = concat!(
    "select c.oid, c.collprovider::text, coalesce(c.collcollate, pg_catalog.to_jsonb(c) ->> 'colllocale', \
     pg_catalog.to_jsonb(c) ->> 'colliculocale', '')::text, c.collisdeterministic, \
     pg_catalog.pg_collation_actual_version(c.oid), coalesce(pg_catalog.to_jsonb(c) ->> 'collicurules', '') \
     from pg_catalog.pg_collation c where c.collprovider <> 'd' and c.oid in (select a.attcollation \
     from pg_catalog.pg_attribute a where a.attrelid in (select c.oid from ",
    user_tables!(),
    "))"
);

/// The database's own collation: provider, locale, actual version, rules. Versions before 15 do not tell the version.
pub(crate) const DATABASE_COLLATION: &str = "select coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c'), \
     case coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') when 'c' then d.datcollate::text \
     else coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale', '') end, \
     coalesce(pg_catalog.to_jsonb(d) ->> 'daticurules', '') \
     from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";

/// The actual version of the database's own collation (15 and later).
pub(crate) const DATABASE_COLLATION_VERSION: &str = "select pg_catalog.pg_database_collation_actual_version(d.oid) \
     from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()";

/// Table oid, kind and definition of indexes that back no constraint, of constraints (NOT NULL is told by the columns), and of extensions
/// whose types the table uses.
pub(crate) const DEFINITIONS: &str = concat!(
    "with tables as (select c.oid from ",
    user_tables!(),
    ") select i.indrelid, 'index', pg_catalog.pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' (invalid)' end \
     from pg_catalog.pg_index i where i.indrelid in (select oid from tables) and not exists (select from pg_catalog.pg_constraint k \
     where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')) \
     union all select k.conrelid, 'constraint', pg_catalog.pg_get_constraintdef(k.oid) from pg_catalog.pg_constraint k \
     where k.conrelid in (select oid from tables) and k.contype in ('p', 'u', 'x', 'c', 'f') \
     union all select distinct a.attrelid, 'extension', x.extname || ' ' || x.extversion from pg_catalog.pg_attribute a \
     join pg_catalog.pg_type t on t.oid = a.atttypid \
     join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass \
     and d.objid in (t.oid, t.typelem, t.typbasetype) and d.deptype = 'e' \
     and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass \
     join pg_catalog.pg_extension x on x.oid = d.refobjid \
     where a.attnum > 0 and not a.attisdropped and a.attrelid in (select oid from tables)"
);

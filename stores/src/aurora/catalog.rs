//! Reads the catalog and puts it together.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use super::catalog_sql;
use super::key_type::{KeyColumn, KeyType};
use super::shape::{KNOWN_EXTENSION_TYPES, NESTING_MAX, Shape, built_in};
use super::table::{Table, TableColumn, TableKind};
use crate::{Definition, Scope};

/// All user tables of one database, as one connection saw them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    /// By dotted name, sorted.
    pub(crate) tables: BTreeMap<String, Arc<Table>>,
}

/// The OID of `pg_catalog."default"`: the database's own collation.
const DEFAULT_COLLATION: u32 = 100;
/// The first version that tells the actual version of the database's own collation.
const COLLATION_VERSION_SINCE: i32 = 150_000;

/// A collation: deterministic, and what identifies its order.
#[derive(Debug, Clone)]
struct Collation {
    is_deterministic: bool,
    order: Option<String>,
}

/// What identifies an order of text. `None` when the version of the rules is unknown: two libraries of one name may sort apart.
fn text_order(provider: &str, locale: &str, version: Option<&str>, rules: &str) -> Option<String> {
    match (provider, locale) {
        ("c", "C" | "POSIX") => Some("C".to_owned()),
        // The built-in provider (17 and later): C.UTF-8 sorts by code point, C by byte; the server's own version.
        ("b", "C") => Some("C".to_owned()),
        // By code point, in every C library: PostgreSQL too gives it no version. A wrong guess here would cost time, not truth: a key
        // that falls into another range at the other end is found there when it is read again.
        ("c", locale) if matches!(locale.to_ascii_lowercase().as_str(), "c.utf-8" | "c.utf8") => {
            Some("libc C.UTF-8".to_owned())
        }
        _ => version.map(|version| {
            let provider = match provider {
                "c" => "libc",
                "i" => "icu",
                other => other,
            };
            let rules = if rules.is_empty() {
                String::new()
            } else {
                format!(" {rules}")
            };
            format!("{provider} {locale} {version}{rules}")
        }),
    }
}

impl Schema {
    /// Says of every readable table that is not among `fit` why it cannot be verified.
    pub(crate) fn mark_unfit(&mut self, fit: &[u32], reason: &str) {
        for table in self.tables.values_mut() {
            if table.unreadable.is_none() && !fit.contains(&table.oid) {
                Arc::make_mut(table).unreadable = Some(reason.to_owned());
            }
        }
    }

    /// Reads everything. Not in one transaction: DDL in between shows as a table without columns or key, never as a wrong one.
    pub(crate) async fn load(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let types = Types::load(client).await?;
        let collations = collations(client).await?;
        let mut columns: HashMap<u32, Vec<RawColumn>> = HashMap::new();
        for row in client.query_typed(catalog_sql::COLUMNS, &[]).await? {
            columns.entry(row.try_get(0)?).or_default().push(RawColumn::read(&row)?);
        }
        let mut indexes: HashMap<u32, Vec<RawIndex>> = HashMap::new();
        for row in client.query_typed(catalog_sql::KEYS, &[]).await? {
            indexes.entry(row.try_get(0)?).or_default().push(RawIndex::read(&row)?);
        }
        let mut definitions = definitions(client).await?;
        let mut tables: BTreeMap<String, Arc<Table>> = BTreeMap::new();
        let found = match client.query_typed(catalog_sql::TABLES, &[]).await {
            // One table that somebody holds must not hide all others.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                client.query_typed(catalog_sql::TABLES_WHILE_LOCKED, &[]).await?
            }
            found => found?,
        };
        for row in found {
            let oid: u32 = row.try_get(0)?;
            let columns = columns.remove(&oid).unwrap_or_default();
            let key = choose_key(
                &columns,
                indexes.get(&oid).map_or(&[], Vec::as_slice),
                &types,
                &collations,
            );
            let mut table = read_table(&row, &columns, key, &types)?;
            table.definitions = definitions.remove(&oid).unwrap_or_default();
            match tables.entry(table.dotted()) {
                Entry::Vacant(place) => {
                    place.insert(Arc::new(table));
                }
                Entry::Occupied(mut place) => {
                    Arc::make_mut(place.get_mut()).unreadable = Some(
                        "two tables have this name when schema and table are joined by a dot; rename one of them"
                            .into(),
                    );
                }
            }
        }
        Ok(Self { tables })
    }
}

fn read_table(
    row: &Row,
    columns: &[RawColumn],
    key: Result<Vec<KeyColumn>, String>,
    types: &Types,
) -> Result<Table, tokio_postgres::Error> {
    let kind = match row.try_get::<_, &str>(3)? {
        "p" => TableKind::Partitioned,
        "f" => TableKind::Foreign,
        "m" => TableKind::MaterializedView,
        _ => TableKind::Ordinary,
    };
    let rows: Option<i64> = row.try_get(8)?;
    let bytes: Option<i64> = row.try_get(9)?;
    let blocks: Option<i64> = row.try_get(12)?;
    Ok(Table {
        oid: row.try_get(0)?,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind,
        columns: columns.iter().map(|column| column.public(types)).collect(),
        key,
        rows_estimate: rows.and_then(|rows| u64::try_from(rows).ok()),
        bytes: bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        blocks: blocks.and_then(|blocks| u64::try_from(blocks).ok()).unwrap_or(0),
        unreadable: unreadable(row, kind)?,
        not_replicated: not_replicated(kind),
        definitions: Vec::new(),
        scope: Scope::default(),
    })
}

/// Indexes, constraints and extensions of each table, sorted.
async fn definitions(client: &Client) -> Result<HashMap<u32, Vec<Definition>>, tokio_postgres::Error> {
    let mut definitions: HashMap<u32, Vec<Definition>> = HashMap::new();
    for row in client.query_typed(catalog_sql::DEFINITIONS, &[]).await? {
        let (kind, text): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
        definitions.entry(row.try_get(0)?).or_default().push(Definition {
            kind: kind.to_owned(),
            text: if kind == "index" {
                nameless(text)
            } else {
                text.to_owned()
            },
        });
    }
    definitions.values_mut().for_each(|of_table| of_table.sort());
    Ok(definitions)
}

/// The definition of an index without its name and its table's: nobody relies on the first, and the second is known.
fn nameless(index: &str) -> String {
    match index.split_once(" USING ") {
        Some((head, how)) if head.starts_with("CREATE UNIQUE ") => format!("unique using {how}"),
        Some((_, how)) => format!("using {how}"),
        None => index.to_owned(),
    }
}

/// Why the rows of a table are not meant to be the same at both ends.
fn not_replicated(kind: TableKind) -> Option<String> {
    let reason = match kind {
        TableKind::Foreign => "a foreign table: its rows live in another server; compare them there",
        TableKind::MaterializedView => {
            "a materialized view: its rows are derived from other tables; compare those, and refresh it after a failover"
        }
        TableKind::Ordinary | TableKind::Partitioned => return None,
    };
    Some(reason.to_owned())
}

/// Why a table cannot be read as a whole, with the remedy.
fn unreadable(row: &Row, kind: TableKind) -> Result<Option<String>, tokio_postgres::Error> {
    let flag = |index: usize| row.try_get::<_, Option<bool>>(index).map(Option::unwrap_or_default);
    if let Some(reason) = not_replicated(kind) {
        return Ok(Some(reason));
    }
    let is_unlogged = row.try_get::<_, &str>(4)? == "u" || flag(10)?;
    let reason = match () {
        () if flag(11)? => "a partition of it is a foreign table: its rows live in another server",
        // Not skipped: what it holds is lost in a failover, and somebody has to know.
        () if is_unlogged => {
            "unlogged: it is not replicated, and empty after a crash or a promotion; `alter table ... set logged`"
        }
        () if !flag(5)? => "this role may not use its schema; `grant usage on schema ... to` the role",
        // Rights on all columns are not enough: the row's version is read too.
        () if !flag(6)? => "this role may not select from it; `grant select on ... to` the role",
        () if flag(7)? => {
            "row-level security hides rows from this role; `alter role ... bypassrls`, or connect as a role that sees all rows"
        }
        () => return Ok(None),
    };
    Ok(Some(reason.to_owned()))
}

/// A column as the catalog has it.
#[derive(Debug)]
struct RawColumn {
    name: String,
    type_oid: u32,
    type_name: String,
    not_null: bool,
    collation: u32,
    number: i16,
}

impl RawColumn {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            name: row.try_get(1)?,
            type_oid: row.try_get(2)?,
            type_name: row.try_get(3)?,
            not_null: row.try_get(4)?,
            collation: row.try_get(5)?,
            number: row.try_get(6)?,
        })
    }

    fn public(&self, types: &Types) -> TableColumn {
        TableColumn {
            name: self.name.clone(),
            type_name: self.type_name.clone(),
            nullable: !self.not_null,
            shape: types.shape(self.type_oid, 0),
        }
    }
}

/// A unique index that has all it takes, as the catalog has it.
#[derive(Debug)]
struct RawIndex {
    columns: Vec<i16>,
    has_default_order: bool,
    collations: Vec<u32>,
    /// Bit 0 of each: descending.
    options: Vec<i16>,
}

impl RawIndex {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns: Vec<i16> = row.try_get(2)?;
        // Columns that the index only carries (INCLUDE) stand behind those of its key.
        columns.truncate(usize::try_from(row.try_get::<_, i16>(5)?).unwrap_or(0));
        Ok(Self {
            columns,
            has_default_order: row.try_get::<_, Option<bool>>(3)?.unwrap_or(false),
            collations: row.try_get(4)?,
            options: row.try_get(6)?,
        })
    }

    fn is_descending(&self, place: usize) -> bool {
        self.options.get(place).is_some_and(|option| option & 1 == 1)
    }
}

/// The best key: the indexes come primary key first, then by number of columns.
fn choose_key(
    columns: &[RawColumn],
    indexes: &[RawIndex],
    types: &Types,
    collations: &HashMap<u32, Collation>,
) -> Result<Vec<KeyColumn>, String> {
    let mut reasons: Vec<String> = Vec::new();
    for index in indexes {
        match key_of(index, columns, types, collations) {
            Ok(key) => return Ok(key),
            Err(reason) => reasons.push(reason),
        }
    }
    reasons.dedup();
    if reasons.is_empty() {
        return Err("no valid, immediate, total unique index without expressions; add a primary key".to_owned());
    }
    Err(reasons.join("; "))
}

fn key_of(
    index: &RawIndex,
    columns: &[RawColumn],
    types: &Types,
    collations: &HashMap<u32, Collation>,
) -> Result<Vec<KeyColumn>, String> {
    if !index.has_default_order {
        return Err("a unique index is not of a built-in default operator class".to_owned());
    }
    let mut key = Vec::with_capacity(index.columns.len());
    // An index that descends in all its columns is read backwards.
    let is_mixed = (0..index.columns.len()).any(|place| index.is_descending(place) != index.is_descending(0));
    for (place, number) in index.columns.iter().enumerate() {
        let column = columns
            .iter()
            .find(|column| column.number == *number)
            .ok_or("a unique index covers a system column")?;
        let name = &column.name;
        if !column.not_null {
            return Err(format!("key column {name} may be NULL"));
        }
        let (kind, literal_type, labels) = match types.shape(column.type_oid, 0).base() {
            Shape::Simple(simple) => {
                let kind = KeyType::of(&simple.type_name).map_err(|reason| format!("key column {name}: {reason}"))?;
                (kind, kind.built_in_literal_type(), None)
            }
            Shape::Enum => {
                let (enum_name, labels) = types.enum_below(column.type_oid);
                (KeyType::Enum, enum_name, labels)
            }
            _ => {
                return Err(format!(
                    "key column {name}: type {} is not supported in keys",
                    column.type_name
                ));
            }
        };
        let collation = match column.collation {
            0 => None,
            oid => Some(
                collations
                    .get(&oid)
                    .ok_or(format!("key column {name}: unknown collation"))?,
            ),
        };
        if collation.is_some_and(|collation| !collation.is_deterministic) {
            return Err(format!("key column {name}: its collation holds different texts equal"));
        }
        if index.collations.get(place).is_some_and(|oid| *oid != column.collation) {
            return Err(format!(
                "key column {name}: its index sorts by another collation than the column"
            ));
        }
        let order = match labels {
            Some(labels) => Some(format!("enum({labels})")),
            None => kind.order(collation.and_then(|collation| collation.order.as_deref())),
        };
        let descending = is_mixed && index.is_descending(place);
        key.push(KeyColumn {
            name: name.clone(),
            kind,
            literal_type,
            descending,
            order: order.map(|order| {
                if descending {
                    format!("{order} descending")
                } else {
                    order
                }
            }),
        });
    }
    Ok(key)
}

/// All types that columns reach.
#[derive(Debug)]
struct Types {
    types: HashMap<u32, RawType>,
    fields: HashMap<u32, Vec<(String, u32)>>,
}

#[derive(Debug)]
struct RawType {
    name: String,
    is_built_in: bool,
    kind: String,
    is_array: bool,
    element: u32,
    base: u32,
    relation: u32,
    subtype: u32,
    send: Option<String>,
    is_text: bool,
    extension: Option<String>,
    extension_send: Option<String>,
    labels: Option<String>,
    qualified: String,
}

impl Types {
    async fn load(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let mut types = HashMap::new();
        for row in client.query_typed(catalog_sql::TYPES, &[]).await? {
            types.insert(
                row.try_get(0)?,
                RawType {
                    name: row.try_get(1)?,
                    is_built_in: row.try_get(2)?,
                    kind: row.try_get(3)?,
                    is_array: row.try_get(4)?,
                    element: row.try_get(5)?,
                    base: row.try_get(6)?,
                    relation: row.try_get(7)?,
                    subtype: row.try_get(8)?,
                    send: row.try_get(9)?,
                    is_text: row.try_get(10)?,
                    extension: row.try_get(11)?,
                    extension_send: row.try_get(12)?,
                    labels: row.try_get(13)?,
                    qualified: row.try_get(14)?,
                },
            );
        }
        let mut fields: HashMap<u32, Vec<(String, u32)>> = HashMap::new();
        for row in client.query_typed(catalog_sql::FIELDS, &[]).await? {
            fields
                .entry(row.try_get(0)?)
                .or_default()
                .push((row.try_get(1)?, row.try_get(2)?));
        }
        Ok(Self { types, fields })
    }

    /// The enum below domains: its name in SQL, and its labels in their order.
    fn enum_below(&self, oid: u32) -> (String, Option<String>) {
        let mut oid = oid;
        for _ in 0..NESTING_MAX {
            match self.types.get(&oid) {
                Some(raw) if raw.kind == "d" => oid = raw.base,
                Some(raw) => return (raw.qualified.clone(), raw.labels.clone()),
                None => break,
            }
        }
        (String::new(), None)
    }

    fn shape(&self, oid: u32, depth: usize) -> Shape {
        let Some(raw) = self.types.get(&oid) else {
            return Shape::Unfit(format!("type {oid} vanished while the catalog was read"));
        };
        if depth >= NESTING_MAX {
            return Shape::Unfit(format!("type {} nests deeper than {NESTING_MAX} levels", raw.name));
        }
        let inner = |oid| self.shape(oid, depth + 1);
        match raw.kind.as_str() {
            "d" => Shape::Domain(Box::new(inner(raw.base))),
            "e" => Shape::Enum,
            "c" if !raw.is_built_in => Shape::Composite(
                self.fields
                    .get(&raw.relation)
                    .into_iter()
                    .flatten()
                    .map(|(name, oid)| (name.clone(), inner(*oid)))
                    .collect(),
            ),
            "r" | "m" => Shape::Range {
                send: if raw.kind == "r" {
                    "range_send"
                } else {
                    "multirange_send"
                },
                subtype: Box::new(inner(raw.subtype)),
            },
            "b" if raw.is_array => Shape::Array {
                element: Box::new(inner(raw.element)),
            },
            "b" if raw.is_built_in => built_in(&raw.name, raw.send.as_deref()),
            // citext and its like: text in all but name and operators, by a cast that changes nothing.
            "b" if raw.is_text && raw.send.as_deref() == Some("textsend") => text_alike(),
            "b" if raw.is_known_of_extension() => Shape::Extension {
                send: raw.extension_send.clone().unwrap_or_default(),
            },
            _ => Shape::Unfit(format!(
                "type {} is not built in, and its binary form is its author's own",
                raw.name
            )),
        }
    }
}

impl RawType {
    fn is_known_of_extension(&self) -> bool {
        let is_known = |extension: &str| KNOWN_EXTENSION_TYPES.contains(&(extension, self.name.as_str()));
        self.extension.as_deref().is_some_and(is_known) && self.extension_send.is_some()
    }
}

/// A user type that is stored as text.
fn text_alike() -> Shape {
    match built_in("text", Some("textsend")) {
        Shape::Simple(mut simple) => {
            simple.cast = Some("text");
            // Not `text`: its `=` may be coarser, so it is no key type.
            simple.type_name = "text alike".to_owned();
            Shape::Simple(simple)
        }
        other => other,
    }
}

async fn collations(client: &Client) -> Result<HashMap<u32, Collation>, tokio_postgres::Error> {
    let mut collations = HashMap::new();
    for row in client.query_typed(catalog_sql::COLLATIONS, &[]).await? {
        let version: Option<&str> = row.try_get(4)?;
        let collation = Collation {
            is_deterministic: row.try_get(3)?,
            order: text_order(row.try_get(1)?, row.try_get(2)?, version, row.try_get(5)?),
        };
        collations.insert(row.try_get(0)?, collation);
    }
    let server: String = client
        .query_typed_one("select pg_catalog.current_setting('server_version_num')", &[])
        .await?
        .try_get(0)?;
    let version: Option<String> = if server
        .parse::<i32>()
        .is_ok_and(|server| server >= COLLATION_VERSION_SINCE)
    {
        client
            .query_typed_one(catalog_sql::DATABASE_COLLATION_VERSION, &[])
            .await?
            .try_get(0)?
    } else {
        None
    };
    let row = client.query_typed_one(catalog_sql::DATABASE_COLLATION, &[]).await?;
    let database = Collation {
        is_deterministic: true, // the database's own always is
        order: text_order(row.try_get(0)?, row.try_get(1)?, version.as_deref(), row.try_get(2)?),
    };
    collations.insert(DEFAULT_COLLATION, database);
    Ok(collations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_told_apart_by_what_they_do() {
        let of = |name: &str| {
            nameless(&format!(
                "CREATE UNIQUE INDEX {name} ON public.t USING btree (a, b DESC) WHERE (a > 0)"
            ))
        };
        assert_eq!(of("one"), "unique using btree (a, b DESC) WHERE (a > 0)");
        assert_eq!(of("one"), of("another"));
        assert_ne!(
            of("one"),
            nameless("CREATE INDEX one ON public.t USING btree (a, b DESC) WHERE (a > 0)")
        );
    }

    #[test]
    fn an_order_without_a_version_has_no_identity() {
        assert_eq!(text_order("c", "POSIX", None, "").as_deref(), Some("C"));
        assert_eq!(text_order("c", "C.utf8", None, "").as_deref(), Some("libc C.UTF-8"));
        assert_eq!(text_order("c", "en_US.UTF-8", None, ""), None);
        assert_eq!(
            text_order("c", "en_US.UTF-8", Some("2.36"), "").as_deref(),
            Some("libc en_US.UTF-8 2.36")
        );
        let plain = text_order("i", "und", Some("153.120"), "");
        assert_ne!(plain, text_order("i", "und", Some("153.121"), ""));
        assert_ne!(plain, text_order("i", "und", Some("153.120"), "&a < b"));
        assert_eq!(text_order("i", "und", None, ""), None);
    }
}

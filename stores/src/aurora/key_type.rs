//! Key columns: their canonical text, and the way back to SQL.
//!
//! Canonical means: two values that the type's own `=` holds equal give the same key. Types for which that cannot be had cheaply
//! (interval: `1 day` = `24:00`; citext) are not used as keys.

use super::quote::{bytea, column, literal};
use crate::KeyValue;

/// The type of a key column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// smallint, integer, bigint: compared as bigint, which is of the same operator family, so the index serves.
    Int,
    /// text and varchar, under a deterministic collation.
    Text,
    /// char(n): blanks at its end do not count.
    Bpchar,
    /// numeric: 1.0 = 1.00.
    Numeric,
    /// bytea.
    Bytea,
    /// float4 and float8: -0 = 0.
    Float(&'static str),
    /// A user's enum: its label.
    Enum,
    /// Types whose text form is canonical under the pinned session settings.
    Plain(&'static str),
}

impl KeyType {
    /// The key type for a built-in type, if it can be one.
    pub(crate) fn of(type_name: &str) -> Result<Self, String> {
        Ok(match type_name {
            "int2" | "int4" | "int8" => Self::Int,
            "text" | "varchar" => Self::Text,
            "bpchar" => Self::Bpchar,
            "numeric" => Self::Numeric,
            "bytea" => Self::Bytea,
            "float4" => Self::Float("float4"),
            "float8" => Self::Float("float8"),
            "uuid" => Self::Plain("uuid"),
            "date" => Self::Plain("date"),
            "time" => Self::Plain("time"),
            "timetz" => Self::Plain("timetz"),
            "timestamp" => Self::Plain("timestamp"),
            "timestamptz" => Self::Plain("timestamptz"),
            "bool" => Self::Plain("bool"),
            // The index of a cidr column compares as inet does.
            "inet" | "cidr" => Self::Plain("inet"),
            "macaddr" => Self::Plain("macaddr"),
            "macaddr8" => Self::Plain("macaddr8"),
            "oid" => Self::Plain("oid"),
            "xid8" => Self::Plain("xid8"),
            "pg_lsn" => Self::Plain("pg_lsn"),
            "name" => Self::Plain("name"),
            "varbit" => Self::Plain("varbit"),
            "interval" => return Err("interval: '1 day' and '24:00' are one key in two forms".into()),
            other => return Err(format!("type {other} is not supported in keys")),
        })
    }

    /// The `pg_catalog` type of its literals.
    fn literal_type(self) -> &'static str {
        match self {
            Self::Int => "int8",
            Self::Text => "text",
            Self::Bpchar => "bpchar",
            Self::Numeric => "numeric",
            Self::Bytea => "bytea",
            Self::Plain(name) | Self::Float(name) => name,
            Self::Enum => "an enum",
        }
    }

    /// The type of its literals in SQL, unless it is a user's own.
    pub(crate) fn built_in_literal_type(self) -> String {
        format!("pg_catalog.{}", self.literal_type())
    }

    /// What identifies the order of keys of this type, given the identity of the collation for those that have one. `None`: not
    /// known to be the same elsewhere.
    pub(crate) fn order(self, collation: Option<&str>) -> Option<String> {
        match self {
            Self::Text | Self::Bpchar | Self::Plain("name") => {
                collation.map(|collation| format!("{}({collation})", self.literal_type()))
            }
            _ => Some(self.literal_type().to_owned()),
        }
    }

    /// The expression that selects the canonical form: bigint, bytea or text.
    pub(crate) fn canonical(self, name: &str) -> String {
        let value = column(name);
        match self {
            Self::Int => format!("{value}::pg_catalog.int8"),
            Self::Bytea => format!("{value}::pg_catalog.bytea"),
            Self::Numeric => format!("pg_catalog.trim_scale({value})::pg_catalog.text"),
            // -0 + 0 is 0.
            Self::Float(kind) => format!("pg_catalog.{kind}pl({value}, '0'::pg_catalog.{kind})::pg_catalog.text"),
            // The cast from char(n) to text drops the blanks at the end.
            Self::Text | Self::Bpchar | Self::Enum | Self::Plain(_) => format!("{value}::pg_catalog.text"),
        }
    }

    /// The canonical form as bytes, for hashing into buckets.
    pub(crate) fn canonical_bytes(self, name: &str) -> String {
        let canonical = self.canonical(name);
        match self {
            Self::Int => format!("pg_catalog.int8send({canonical})"),
            Self::Bytea => canonical,
            Self::Text | Self::Bpchar | Self::Numeric | Self::Float(_) | Self::Enum | Self::Plain(_) => {
                format!("pg_catalog.textsend({canonical})")
            }
        }
    }

    /// A key value as a literal of `literal_type`, that the index can be searched with.
    ///
    /// # Errors
    /// In words, if the value is of another kind: the other end's key has another type.
    fn literal(self, literal_type: &str, value: &KeyValue) -> Result<String, String> {
        Ok(match (self, value) {
            (Self::Int, KeyValue::Int(number)) => format!("'{number}'::pg_catalog.int8"),
            (Self::Bytea, KeyValue::Bytes(bytes)) => bytea(bytes),
            (
                Self::Text | Self::Bpchar | Self::Numeric | Self::Float(_) | Self::Enum | Self::Plain(_),
                KeyValue::Text(text),
            ) => format!("{}::{literal_type}", literal(text)),
            (_, value) => {
                let kind = match value {
                    KeyValue::Int(_) => "a whole number",
                    KeyValue::Text(_) => "text",
                    KeyValue::Bytes(_) => "bytes",
                };
                return Err(format!(
                    "the key column is {} here, and the key is {kind}",
                    self.literal_type()
                ));
            }
        })
    }

    /// Reads the canonical form from position `index` of a row.
    pub(crate) fn read(self, row: &tokio_postgres::Row, index: usize) -> Result<KeyValue, tokio_postgres::Error> {
        Ok(match self {
            Self::Int => KeyValue::Int(row.try_get(index)?),
            Self::Bytea => KeyValue::Bytes(row.try_get(index)?),
            Self::Text | Self::Bpchar | Self::Numeric | Self::Float(_) | Self::Enum | Self::Plain(_) => {
                KeyValue::Text(row.try_get(index)?)
            }
        })
    }
}

/// One column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) kind: KeyType,
    /// The type of its literals, in SQL.
    pub(crate) literal_type: String,
    /// Its index sorts it downwards, and another column of the key upwards.
    pub(crate) descending: bool,
    /// Names the order of its values, see [`KeyType::order`].
    pub(crate) order: Option<String>,
}

impl KeyColumn {
    /// A key value as a literal that the index can be searched with.
    ///
    /// # Errors
    /// In words, if the value is of another kind: the other end's key has another type.
    pub(crate) fn literal(&self, value: &KeyValue) -> Result<String, String> {
        self.kind.literal(&self.literal_type, value)
    }
}

/// The identity of the order of a whole key; `None` if one of its columns has none.
pub(crate) fn order_identity(columns: &[KeyColumn]) -> Option<String> {
    let orders: Option<Vec<&str>> = columns.iter().map(|column| column.order.as_deref()).collect();
    orders.map(|orders| orders.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: KeyType, collation: Option<&str>) -> KeyColumn {
        KeyColumn {
            name: "k".into(),
            kind,
            literal_type: kind.built_in_literal_type(),
            descending: false,
            order: kind.order(collation),
        }
    }

    #[test]
    fn literals_carry_their_type_and_refuse_another_kind() {
        let literal = |kind, value: &KeyValue| column(kind, None).literal(value);
        assert_eq!(
            literal(KeyType::Int, &KeyValue::Int(i64::MIN)).unwrap(),
            "'-9223372036854775808'::pg_catalog.int8"
        );
        assert_eq!(
            literal(KeyType::Plain("date"), &KeyValue::Text("0044-03-15 BC".into())).unwrap(),
            "'0044-03-15 BC'::pg_catalog.date"
        );
        assert!(literal(KeyType::Int, &KeyValue::Text("1".into())).is_err());
        assert!(literal(KeyType::Text, &KeyValue::Int(1)).is_err());
    }

    #[test]
    fn an_unknown_collation_spoils_the_order_of_the_whole_key() {
        let int = column(KeyType::Int, None);
        assert_eq!(order_identity(std::slice::from_ref(&int)).as_deref(), Some("int8"));
        let known = column(KeyType::Text, Some("C"));
        assert_eq!(order_identity(&[int.clone(), known]).as_deref(), Some("int8, text(C)"));
        assert_eq!(order_identity(&[int, column(KeyType::Text, None)]), None);
    }
}

//! Key columns: their canonical text, and the way back to SQL.
//!
//! Canonical means: two values that the type's own `=` holds equal give the same key. Types for which that cannot be had cheaply
//! (floats: -0 = 0; interval: `1 day` = `24:00`; citext) are not used as keys.

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
            "uuid" => Self::Plain("uuid"),
            "date" => Self::Plain("date"),
            "timestamp" => Self::Plain("timestamp"),
            "timestamptz" => Self::Plain("timestamptz"),
            "bool" => Self::Plain("bool"),
            "float4" | "float8" => return Err(format!("{type_name}: -0 and 0 are one key in two forms")),
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
            Self::Plain(name) => name,
        }
    }

    /// What identifies the order of keys of this type, given the identity of the collation for those that have one. `None`: not
    /// known to be the same elsewhere.
    pub(crate) fn order(self, collation: Option<&str>) -> Option<String> {
        match self {
            Self::Text | Self::Bpchar => collation.map(|collation| format!("{}({collation})", self.literal_type())),
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
            // The cast from char(n) to text drops the blanks at the end.
            Self::Text | Self::Bpchar | Self::Plain(_) => format!("{value}::pg_catalog.text"),
        }
    }

    /// The canonical form as bytes, for hashing into buckets.
    pub(crate) fn canonical_bytes(self, name: &str) -> String {
        let canonical = self.canonical(name);
        match self {
            Self::Int => format!("pg_catalog.int8send({canonical})"),
            Self::Bytea => canonical,
            Self::Text | Self::Bpchar | Self::Numeric | Self::Plain(_) => {
                format!("pg_catalog.textsend({canonical})")
            }
        }
    }

    /// A key value as a literal that the index can be searched with.
    ///
    /// # Errors
    /// In words, if the value is of another kind: the other end's key has another type.
    pub(crate) fn literal(self, value: &KeyValue) -> Result<String, String> {
        Ok(match (self, value) {
            (Self::Int, KeyValue::Int(number)) => format!("'{number}'::pg_catalog.int8"),
            (Self::Bytea, KeyValue::Bytes(bytes)) => bytea(bytes),
            (Self::Text | Self::Bpchar | Self::Numeric | Self::Plain(_), KeyValue::Text(text)) => {
                format!("{}::pg_catalog.{}", literal(text), self.literal_type())
            }
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
            Self::Text | Self::Bpchar | Self::Numeric | Self::Plain(_) => KeyValue::Text(row.try_get(index)?),
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
    /// Names the order of its values, see [`KeyType::order`].
    pub(crate) order: Option<String>,
}

/// The identity of the order of a whole key; `None` if one of its columns has none.
pub(crate) fn order_identity(columns: &[KeyColumn]) -> Option<String> {
    let orders: Option<Vec<&str>> = columns.iter().map(|column| column.order.as_deref()).collect();
    orders.map(|orders| orders.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_carry_their_type_and_refuse_another_kind() {
        assert_eq!(
            KeyType::Int.literal(&KeyValue::Int(i64::MIN)).unwrap(),
            "'-9223372036854775808'::pg_catalog.int8"
        );
        assert_eq!(
            KeyType::Plain("date")
                .literal(&KeyValue::Text("0044-03-15 BC".into()))
                .unwrap(),
            "'0044-03-15 BC'::pg_catalog.date"
        );
        assert!(KeyType::Int.literal(&KeyValue::Text("1".into())).is_err());
        assert!(KeyType::Text.literal(&KeyValue::Int(1)).is_err());
    }

    #[test]
    fn an_unknown_collation_spoils_the_order_of_the_whole_key() {
        let column = |kind: KeyType, collation| KeyColumn {
            name: "k".into(),
            kind,
            order: kind.order(collation),
        };
        let int = column(KeyType::Int, None);
        assert_eq!(order_identity(std::slice::from_ref(&int)).as_deref(), Some("int8"));
        let known = column(KeyType::Text, Some("C"));
        assert_eq!(order_identity(&[int.clone(), known]).as_deref(), Some("int8, text(C)"));
        assert_eq!(order_identity(&[int, column(KeyType::Text, None)]), None);
    }
}

//! Rows and tables of one side.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::encode::key_bucket;
use crate::{Collection, Key, KeyRange, KeyShape, KeyValue, Part, Recipe, RowDigest, Value, column_digest, row_digest};

/// The columns of a row by name.
pub type Fields = BTreeMap<String, Value>;

#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    pub(crate) fields: Fields,
    /// Grows with each change at this side.
    pub(crate) version: u64,
    /// The transaction that wrote it; frozen when planted.
    pub(crate) created_by: u32,
    pub(crate) copies: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) collection: Collection,
    pub(crate) rows: BTreeMap<Key, StoredRow>,
}

impl Table {
    pub(crate) fn key_columns(&self) -> &[String] {
        match &self.collection.key {
            KeyShape::Usable { columns, .. } => columns,
            KeyShape::Unusable(_) => &[],
        }
    }

    /// The rows of a part, in key order.
    pub(crate) fn part<'a>(&'a self, part: &'a Part) -> Box<dyn Iterator<Item = (&'a Key, &'a StoredRow)> + 'a> {
        match part {
            Part::Range(range) if is_empty(range) => Box::new(std::iter::empty()),
            Part::Range(range) => {
                let lower = range.lower.as_ref().map_or(Bound::Unbounded, Bound::Included);
                let upper = range.upper.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(self.rows.range::<Key, _>((lower, upper)))
            }
            Part::Bucket { index, of } => Box::new(self.rows.iter().filter(|(key, _)| key_bucket(key, *of) == *index)),
        }
    }
}

/// A map refuses a range that ends before it begins.
fn is_empty(range: &KeyRange) -> bool {
    matches!((&range.lower, &range.upper), (Some(lower), Some(upper)) if lower >= upper)
}

impl StoredRow {
    /// The digest of the row; of one without a key, its columns are all that there is.
    pub(crate) fn digest_by(&self, key: &Key, recipe: &Recipe) -> RowDigest {
        let columns: Vec<(&str, &Value)> = recipe
            .columns
            .iter()
            .map(|name| (name.as_str(), self.field(name)))
            .collect();
        if recipe.is_keyless() {
            return row_digest(recipe.seed, &Key(Vec::new()), &columns);
        }
        row_digest(recipe.seed, key, &columns)
    }

    pub(crate) fn column_digests(&self, recipe: &Recipe) -> Vec<Option<u64>> {
        let columns = recipe.columns.iter();
        columns
            .map(|name| column_digest(recipe.seed, self.field(name)))
            .collect()
    }

    pub(crate) fn texts(&self, recipe: &Recipe) -> Vec<Option<String>> {
        recipe.columns.iter().map(|name| text(self.field(name))).collect()
    }

    /// The value of a column of whole numbers; an instant is one of microseconds.
    pub(crate) fn number(&self, column: &str) -> Option<i64> {
        match self.field(column) {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    fn field(&self, name: &str) -> &Value {
        self.fields.get(name).unwrap_or(&Value::Absent)
    }
}

/// `fields` with the values of the key in the key's columns.
pub(crate) fn with_key(mut fields: Fields, columns: &[String], key: &Key) -> Fields {
    for (column, value) in columns.iter().zip(&key.0) {
        let value = match value {
            KeyValue::Int(value) => Value::Int(*value),
            KeyValue::Text(value) => Value::Text(value.clone()),
            KeyValue::Bytes(value) => Value::Bytes(value.clone()),
        };
        fields.insert(column.clone(), value);
    }
    fields
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Absent => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Decimal(value) => Some(value.to_string()),
        Value::Float(bits) => Some(f64::from_bits(*bits).to_string()),
        Value::Text(value) => Some(value.clone()),
        Value::Bytes(_) | Value::List(_) | Value::Map(_) | Value::Set(_) => Some(format!("{value:?}")),
    }
}

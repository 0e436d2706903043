//! Parts of a table as SQL conditions.

use super::key_type::KeyColumn;
use super::quote::column;
use super::send::hash_row;
use crate::{Key, Part};

/// Buckets are the same in every run and at both ends.
const BUCKET_SEED: u64 = 0;

/// The condition that holds for exactly the rows of `part`. All parts of one cut, or all buckets, hold each row exactly once: key
/// columns are never NULL.
///
/// # Errors
/// In words, when a boundary is not of this table's key.
pub(crate) fn condition(key: &[KeyColumn], part: &Part) -> Result<String, String> {
    match part {
        Part::Range(range) => {
            let mut terms = Vec::with_capacity(2);
            if let Some(lower) = &range.lower {
                terms.push(compare(key, Bound::From, lower)?);
            }
            if let Some(upper) = &range.upper {
                terms.push(compare(key, Bound::Before, upper)?);
            }
            if terms.is_empty() {
                terms.push("true".to_owned());
            }
            Ok(terms.join(" and "))
        }
        Part::Bucket { index, of } => {
            if index >= of {
                return Err(format!("bucket {index} of {of} does not exist"));
            }
            // One byte string again: a hash of several elements would be linear in them.
            let forms: Vec<String> = key
                .iter()
                .map(|column| column.kind.canonical_bytes(&column.name))
                .collect();
            let hash = hash_row(&forms, BUCKET_SEED);
            Ok(format!(
                "pg_catalog.int8eq(pg_catalog.int8mod(pg_catalog.int8and({hash}, '{}'::pg_catalog.int8), \
                 '{of}'::pg_catalog.int8), '{index}'::pg_catalog.int8)",
                i64::MAX
            ))
        }
    }
}

/// Which rows a boundary keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// Those at it or behind it, in the order of the index.
    From,
    /// Those before it.
    Before,
}

impl Bound {
    /// What a row's value has to be to lie on this side of the boundary's.
    fn strictly(self, column: &KeyColumn) -> &'static str {
        if (self == Self::From) == column.descending {
            "<"
        } else {
            ">"
        }
    }
}

/// The key of the row at hand compared with `boundary`, in the order of the types and collations of the columns. With literals, it is a
/// condition that the key's index serves.
fn compare(key: &[KeyColumn], bound: Bound, boundary: &Key) -> Result<String, String> {
    let literals = literals(key, boundary)?;
    let columns: Vec<String> = key.iter().map(|part| column(&part.name)).collect();
    if key.iter().any(|part| part.descending) {
        return Ok(by_column(key, bound, &columns, &literals));
    }
    let operator = if bound == Bound::From { ">=" } else { "<" };
    Ok(match (columns.as_slice(), literals.as_slice()) {
        ([column], [literal]) => format!("{column} operator(pg_catalog.{operator}) {literal}"),
        _ => format!(
            "({}) operator(pg_catalog.{operator}) ({})",
            columns.join(", "),
            literals.join(", ")
        ),
    })
}

/// The same for an index whose columns run in different directions, which no comparison of rows serves: one alternative for each column
/// that may be the first to differ. The condition on the first column stands apart, so that the index can be searched by it.
fn by_column(key: &[KeyColumn], bound: Bound, columns: &[String], literals: &[String]) -> String {
    let is = |place: usize, operator: &str| {
        format!("{} operator(pg_catalog.{operator}) {}", columns[place], literals[place])
    };
    let alike = |up_to: usize| (0..up_to).map(|place| is(place, "=")).collect::<Vec<_>>();
    let mut alternatives: Vec<String> = Vec::with_capacity(key.len() + 1);
    for (place, part) in key.iter().enumerate() {
        let mut terms = alike(place);
        terms.push(is(place, bound.strictly(part)));
        alternatives.push(format!("({})", terms.join(" and ")));
    }
    if bound == Bound::From {
        alternatives.push(format!("({})", alike(key.len()).join(" and ")));
    }
    let first = key.first().map_or_else(
        || "true".to_owned(),
        |part| is(0, &format!("{}=", bound.strictly(part))),
    );
    format!("{first} and ({})", alternatives.join(" or "))
}

/// One literal for each column of `key`.
pub(crate) fn literals(key: &[KeyColumn], value: &Key) -> Result<Vec<String>, String> {
    if key.len() != value.0.len() {
        return Err(format!(
            "the key has {} columns here, and {} values were given",
            key.len(),
            value.0.len()
        ));
    }
    key.iter()
        .zip(&value.0)
        .map(|(column, value)| column.literal(value))
        .collect()
}

/// `part` in words without key values: errors are shown also where keys are not.
pub(crate) fn in_words(part: &Part) -> String {
    match part {
        Part::Range(range) => match (&range.lower, &range.upper) {
            (None, None) => "all keys".to_owned(),
            _ => "a range of keys".to_owned(),
        },
        Part::Bucket { index, of } => format!("bucket {index} of {of}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_type::KeyType;
    use super::*;
    use crate::{KeyRange, KeyValue};

    fn key(kinds: &[KeyType]) -> Vec<KeyColumn> {
        let names = ["a", "b", "c"];
        kinds
            .iter()
            .zip(names)
            .map(|(kind, name)| KeyColumn {
                name: name.to_owned(),
                kind: *kind,
                literal_type: kind.built_in_literal_type(),
                descending: false,
                order: kind.order(None),
            })
            .collect()
    }

    #[test]
    fn ranges_are_half_open_and_composite_keys_compare_as_rows() {
        let part = |lower, upper| Part::Range(KeyRange { lower, upper });
        let int = key(&[KeyType::Int]);
        assert_eq!(condition(&int, &Part::ALL).unwrap(), "true");
        assert_eq!(
            condition(&int, &part(Some(Key::int(1)), Some(Key::int(9)))).unwrap(),
            "t.\"a\" operator(pg_catalog.>=) '1'::pg_catalog.int8 and t.\"a\" operator(pg_catalog.<) '9'::pg_catalog.int8"
        );
        let two = Key(vec![KeyValue::Int(1), KeyValue::Text("x'".into())]);
        assert_eq!(
            condition(&key(&[KeyType::Int, KeyType::Text]), &part(Some(two.clone()), None)).unwrap(),
            "(t.\"a\", t.\"b\") operator(pg_catalog.>=) ('1'::pg_catalog.int8, 'x'''::pg_catalog.text)"
        );
        assert!(condition(&int, &part(Some(two), None)).is_err());
        assert!(condition(&int, &Part::Bucket { index: 4, of: 4 }).is_err());
    }

    #[test]
    fn mixed_directions_are_compared_column_by_column() {
        let mut two = key(&[KeyType::Int, KeyType::Int]);
        two[0].descending = true;
        let bound = Key(vec![KeyValue::Int(5), KeyValue::Int(7)]);
        let part = |lower, upper| Part::Range(KeyRange { lower, upper });
        assert_eq!(
            condition(&two, &part(Some(bound.clone()), None)).unwrap(),
            "t.\"a\" operator(pg_catalog.<=) '5'::pg_catalog.int8 and ((t.\"a\" operator(pg_catalog.<) '5'::pg_catalog.int8) or \
             (t.\"a\" operator(pg_catalog.=) '5'::pg_catalog.int8 and t.\"b\" operator(pg_catalog.>) '7'::pg_catalog.int8) or \
             (t.\"a\" operator(pg_catalog.=) '5'::pg_catalog.int8 and t.\"b\" operator(pg_catalog.=) '7'::pg_catalog.int8))"
        );
        assert_eq!(
            condition(&two, &part(None, Some(bound))).unwrap(),
            "t.\"a\" operator(pg_catalog.>=) '5'::pg_catalog.int8 and ((t.\"a\" operator(pg_catalog.>) '5'::pg_catalog.int8) or \
             (t.\"a\" operator(pg_catalog.=) '5'::pg_catalog.int8 and t.\"b\" operator(pg_catalog.<) '7'::pg_catalog.int8))"
        );
    }
}

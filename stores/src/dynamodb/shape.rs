//! The key of a table, and the reserved keys that canaries have in it.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, KeyType, ScalarAttributeType, TableDescription};
use xxhash_rust::xxh3::xxh3_64;

use super::canary::RING_SLOTS;
use crate::{Decimal, StoreError, Trouble};

/// Text and binary keys of canaries begin so; what follows is `STREAM/SLOT`.
pub(crate) const RESERVED_PREFIX: &str = "driftline-canary/";
/// The sort key of every canary where it is text or binary.
const RESERVED_SORT: &str = "driftline-canary";
/// The sort key of every canary where it is a number; their partition keys are reserved already.
const RESERVED_SORT_NUMBER: &str = "0";
/// Number keys of canaries are -(9 x 10^37 + a hash of the stream x slots + the slot): of the 38 digits that a number has, the first
/// fourteen are `90000000000000`.
const RESERVED_NUMBERS_FROM: u128 = 90_000_000_000_000_000_000_000_000_000_000_000_000;

/// The type of a key attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Text.
    String,
    /// A number.
    Number,
    /// Bytes.
    Binary,
}

/// One key attribute of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: KeyKind,
}

/// The key of a table. Each slot of a canary ring has a partition key of its own, since DynamoDB replicates, throttles and fails by
/// partition key: `driftline-canary/STREAM/SLOT` as text or its bytes; as a number, one below -9 x 10^37.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What items are spread by.
    pub partition: NamedKey,
    /// What items of one partition key are sorted by, where there is such a key.
    pub sort: Option<NamedKey>,
}

impl Shape {
    /// The key that `table` declares.
    pub(crate) fn of(site: &str, table: &TableDescription) -> crate::Result<Self> {
        let corrupt = |cause: String| StoreError::Corrupt(Trouble::new(site, "read the table's key", cause));
        let named = |role: &KeyType| -> crate::Result<Option<NamedKey>> {
            let Some(element) = table.key_schema().iter().find(|element| element.key_type() == role) else {
                return Ok(None);
            };
            let name = element.attribute_name();
            let declared = table
                .attribute_definitions()
                .iter()
                .find(|attribute| attribute.attribute_name() == name);
            let kind = match declared.map(|attribute| attribute.attribute_type()) {
                Some(ScalarAttributeType::S) => KeyKind::String,
                Some(ScalarAttributeType::N) => KeyKind::Number,
                Some(ScalarAttributeType::B) => KeyKind::Binary,
                other => return Err(corrupt(format!("key `{name}` has the type {other:?}"))),
            };
            Ok(Some(NamedKey {
                name: name.to_owned(),
                kind,
            }))
        };
        Ok(Self {
            partition: named(&KeyType::Hash)?.ok_or_else(|| corrupt("no partition key".to_owned()))?,
            sort: named(&KeyType::Range)?,
        })
    }

    /// Name and value of each key attribute of `slot` in the ring of `stream`.
    pub(crate) fn slot_key(&self, stream: &str, slot: u64) -> Vec<(String, AttributeValue)> {
        let mut key = vec![(self.partition.name.clone(), self.partition_value(stream, slot))];
        if let Some(sort) = &self.sort {
            let value = match sort.kind {
                KeyKind::String => AttributeValue::S(RESERVED_SORT.to_owned()),
                KeyKind::Number => AttributeValue::N(RESERVED_SORT_NUMBER.to_owned()),
                KeyKind::Binary => AttributeValue::B(Blob::new(RESERVED_SORT)),
            };
            key.push((sort.name.clone(), value));
        }
        key
    }

    fn partition_value(&self, stream: &str, slot: u64) -> AttributeValue {
        let name = format!("{RESERVED_PREFIX}{stream}/{slot}");
        match self.partition.kind {
            KeyKind::String => AttributeValue::S(name),
            KeyKind::Binary => AttributeValue::B(Blob::new(name)),
            KeyKind::Number => {
                let offset = u128::from(xxh3_64(stream.as_bytes())) * u128::from(RING_SLOTS) + u128::from(slot);
                AttributeValue::N(format!("-{}", RESERVED_NUMBERS_FROM + offset))
            }
        }
    }
}

/// Whether two key values are one. A store may write a number in another form than it was given.
pub(crate) fn is_same(one: &AttributeValue, other: &AttributeValue) -> bool {
    match (one, other) {
        (AttributeValue::N(one), AttributeValue::N(other)) => {
            Decimal::parse(one).is_ok_and(|one| Decimal::parse(other).is_ok_and(|other| one == other))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape(kind: KeyKind) -> Shape {
        Shape {
            partition: NamedKey {
                name: "id".to_owned(),
                kind,
            },
            sort: None,
        }
    }

    #[test]
    fn number_keys_are_in_the_reserved_range_and_apart() {
        let mut seen = BTreeSet::new();
        for stream in ["a", "b", "use1>usw2"] {
            for slot in [0, 1, RING_SLOTS - 1] {
                let AttributeValue::N(text) = shape(KeyKind::Number).partition_value(stream, slot) else {
                    panic!("not a number");
                };
                assert_eq!(text.len(), 39, "{text}");
                assert!(text.starts_with("-90000000000000"), "{text}");
                assert!(seen.insert(text));
            }
        }
    }

    #[test]
    fn one_number_in_two_forms_is_one_key() {
        let number = |text: &str| AttributeValue::N(text.to_owned());
        assert!(is_same(&number("-900"), &number("-9E+2")));
        assert!(!is_same(&number("-900"), &number("-901")));
        assert!(!is_same(&number("1"), &AttributeValue::S("1".to_owned())));
    }
}

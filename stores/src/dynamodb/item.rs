//! A canary as an item.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;

use super::canary::RING_SLOTS;
use super::shape::{Shape, is_same};
use crate::Canary;

/// Attributes of a canary beside its key.
pub(crate) const STREAM: &str = "driftline_stream";
pub(crate) const EPOCH: &str = "driftline_epoch";
pub(crate) const SEQUENCE: &str = "driftline_seq";
pub(crate) const STAMP: &str = "driftline_stamp";
/// When the canary may be deleted, in seconds since 1970: the form that DynamoDB's expiry wants.
pub(crate) const EXPIRES_AT: &str = "driftline_expires_at";

/// After this long without a newer canary a slot may be deleted: longer than the ring lasts at one canary in 10 minutes, so that
/// expiry never makes a canary that is still watched for look absent.
const EXPIRES_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// An item by attribute.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The item of `canary`. `expiry` is the attribute that the table's own expiry goes by.
pub(crate) fn of(canary: &Canary, shape: &Shape, expiry: Option<&str>) -> Item {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires_at = AttributeValue::N((since_1970 + EXPIRES_AFTER).as_secs().to_string());
    let mut item = Item::new();
    if let Some(expiry) = expiry {
        item.insert(expiry.to_owned(), expires_at.clone());
    }
    item.insert(EXPIRES_AT.to_owned(), expires_at);
    item.insert(STREAM.to_owned(), AttributeValue::S(canary.stream.clone()));
    item.insert(EPOCH.to_owned(), AttributeValue::S(canary.epoch.clone()));
    item.insert(SEQUENCE.to_owned(), AttributeValue::N(canary.sequence.to_string()));
    if let Some(stamp) = canary.stamp {
        item.insert(STAMP.to_owned(), AttributeValue::S(stamp.to_string()));
    }
    // The key last: whatever the table calls it, it is the key that counts.
    item.extend(shape.slot_key(&canary.stream, canary.sequence % RING_SLOTS));
    item
}

/// The canary of `stream` that `item` is; `None`: it is none, or it stands in another slot than its own.
pub(crate) fn read(item: &Item, stream: &str, shape: &Shape) -> Option<Canary> {
    if item.get(STREAM)?.as_s().ok()? != stream {
        return None;
    }
    let sequence: u64 = item.get(SEQUENCE)?.as_n().ok()?.parse().ok()?;
    let epoch = item.get(EPOCH)?.as_s().ok()?;
    let is_epoch = epoch.len() == 32 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_home = shape
        .slot_key(stream, sequence % RING_SLOTS)
        .iter()
        .all(|(name, value)| item.get(name).is_some_and(|found| is_same(found, value)));
    (sequence > 0 && is_epoch && is_home).then(|| Canary {
        stream: stream.to_owned(),
        epoch: epoch.clone(),
        sequence,
        stamp: item.get(STAMP).and_then(|stamp| stamp.as_s().ok()?.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::shape::{KeyKind, NamedKey};
    use super::*;

    fn shape() -> Shape {
        Shape {
            partition: NamedKey {
                name: "id".to_owned(),
                kind: KeyKind::Number,
            },
            sort: Some(NamedKey {
                name: "at".to_owned(),
                kind: KeyKind::String,
            }),
        }
    }

    fn canary() -> Canary {
        Canary {
            stream: "s".to_owned(),
            epoch: "a".repeat(32),
            sequence: RING_SLOTS + 7,
            stamp: None,
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let item = of(&canary(), &shape(), Some("ttl"));
        assert_eq!(read(&item, "s", &shape()), Some(canary()));
        assert_eq!(item["ttl"], item[EXPIRES_AT]);
    }

    #[test]
    fn anything_else_is_no_canary_of_this_stream() {
        let whole = of(&canary(), &shape(), None);
        assert_eq!(read(&whole, "other", &shape()), None);
        let spoilt = [
            (STREAM, AttributeValue::N("1".to_owned())),
            (EPOCH, AttributeValue::S("short".to_owned())),
            (SEQUENCE, AttributeValue::N("-1".to_owned())),
            (SEQUENCE, AttributeValue::N("0".to_owned())),
            // Of another slot: copied there by hand, it would prove an arrival that never was.
            (SEQUENCE, AttributeValue::N("8".to_owned())),
            ("at", AttributeValue::S("elsewhere".to_owned())),
        ];
        for (name, value) in spoilt {
            let mut item = whole.clone();
            item.insert(name.to_owned(), value);
            assert_eq!(read(&item, "s", &shape()), None, "{name}");
            item.remove(name);
            assert_eq!(read(&item, "s", &shape()), None, "without {name}");
        }
    }
}

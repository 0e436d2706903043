//! Where canaries lie in a bucket, and how one is told from anything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Canary;

/// Slots of a stream's ring. An object store keeps no order, so the ring has to outlast an outage: 42 minutes at 6 canaries a minute. What is
/// older is superseded.
pub(crate) const RING_SLOTS: u64 = 256;

const STREAM: &str = "driftline-stream";
const EPOCH: &str = "driftline-epoch";
const SEQUENCE: &str = "driftline-sequence";
const STAMP: &str = "driftline-stamp";

/// Where the canaries of one replication rule lie, and how they are marked so that the rule takes them along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// The rule that it represents; `None`: no rule could be read, and it represents only its prefix.
    pub rule: Option<String>,
    /// Keys of the rule begin with this.
    pub prefix: String,
    /// Tags that the rule asks for.
    pub tags: BTreeMap<String, String>,
    /// The bucket that the rule copies to; `None`: not known.
    pub destination: Option<String>,
}

impl KeySet {
    /// Whether the rule copies to `bucket`, as far as is known.
    pub fn reaches(&self, bucket: &str) -> bool {
        self.destination
            .as_deref()
            .is_none_or(|destination| destination == bucket)
    }

    /// All canaries of this key set lie under it.
    pub fn reserved(&self, canary_prefix: &str) -> String {
        format!("{}{canary_prefix}", self.prefix)
    }

    /// The tags as the header of a write wants them.
    pub(crate) fn tagging(&self) -> String {
        let pairs = self.tags.iter();
        let escaped: Vec<String> = pairs
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
            .collect();
        escaped.join("&")
    }
}

fn escape(text: &str) -> String {
    const PLAIN: &[u8] = b"-_.~";
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The ring of one stream: its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ring {
    /// Ends with a slash.
    pub(crate) prefix: String,
}

impl Ring {
    pub(crate) fn new(reserved: &str, stream: &str) -> Self {
        Self {
            prefix: format!("{reserved}{:016x}/", xxh3_64(stream.as_bytes())),
        }
    }

    pub(crate) fn key(&self, slot: u64) -> String {
        format!("{}{slot:03}", self.prefix)
    }

    /// The slot that `key` is of; `None`: something else lies there.
    pub(crate) fn slot(&self, key: &str) -> Option<u64> {
        let slot: u64 = key.strip_prefix(&self.prefix)?.parse().ok()?;
        (slot < RING_SLOTS && key == self.key(slot)).then_some(slot)
    }
}

pub(crate) fn slot_of(sequence: u64) -> u64 {
    sequence % RING_SLOTS
}

/// What is written beside the body.
pub(crate) fn metadata(canary: &Canary) -> Vec<(&'static str, String)> {
    let mut metadata = vec![
        (STREAM, canary.stream.clone()),
        (EPOCH, canary.epoch.clone()),
        (SEQUENCE, canary.sequence.to_string()),
    ];
    metadata.extend(canary.stamp.map(|stamp| (STAMP, stamp.to_string())));
    metadata
}

/// The body says the same, so that two canaries never have one ETag.
pub(crate) fn body(canary: &Canary) -> String {
    serde_json::json!({ "stream": canary.stream, "epoch": canary.epoch, "sequence": canary.sequence }).to_string()
}

/// The canary that an object in `slot` of `stream` is; `None`: it is none of ours, or malformed.
pub(crate) fn canary(stream: &str, slot: u64, metadata: &BTreeMap<String, String>) -> Option<Canary> {
    let epoch = metadata.get(EPOCH)?;
    let sequence: u64 = metadata.get(SEQUENCE)?.parse().ok()?;
    let is_ours = metadata.get(STREAM).is_some_and(|found| found == stream)
        && sequence > 0
        && slot_of(sequence) == slot
        && epoch.len() == 32
        && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then(|| Canary {
        stream: stream.to_owned(),
        epoch: epoch.clone(),
        sequence,
        stamp: metadata.get(STAMP).and_then(|stamp| stamp.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(canary: &Canary) -> BTreeMap<String, String> {
        let metadata = metadata(canary).into_iter();
        metadata.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[test]
    fn a_canary_is_known_by_its_stream_slot_and_epoch() {
        let one = Canary {
            stream: "media/img use1->usw2".to_owned(),
            epoch: "0a".repeat(16),
            sequence: 2 * RING_SLOTS + 5,
            stamp: None,
        };
        let whole = sent(&one);
        assert_eq!(canary(&one.stream, 5, &whole), Some(one.clone()));
        assert_eq!(canary("another", 5, &whole), None, "a stream whose hash is the same");
        assert_eq!(canary(&one.stream, 6, &whole), None, "copied to another slot");
        for (name, value) in [(EPOCH, "short"), (SEQUENCE, "0"), (SEQUENCE, "-5"), (SEQUENCE, "x")] {
            let mut broken = whole.clone();
            broken.insert(name.to_owned(), value.to_owned());
            assert_eq!(canary(&one.stream, 5, &broken), None, "{name} = {value}");
        }
        assert_eq!(canary(&one.stream, 5, &BTreeMap::new()), None);
    }

    #[test]
    fn two_canaries_of_one_slot_have_different_bodies() {
        let one = Canary {
            stream: "s".to_owned(),
            epoch: "a".repeat(32),
            sequence: 1,
            stamp: None,
        };
        let later = Canary {
            sequence: 1 + RING_SLOTS,
            ..one.clone()
        };
        let other_life = Canary {
            epoch: "b".repeat(32),
            ..one.clone()
        };
        assert_ne!(body(&one), body(&later));
        assert_ne!(body(&one), body(&other_life));
    }

    #[test]
    fn keys_are_of_a_slot_or_foreign() {
        let ring = Ring::new("img/driftline-canary/", "s");
        assert_eq!(ring.slot(&ring.key(7)), Some(7));
        assert_eq!(ring.slot(&ring.key(255)), Some(255));
        for foreign in ["7", "0007", "256", "+07", "", "007/x"] {
            assert_eq!(ring.slot(&format!("{}{foreign}", ring.prefix)), None, "{foreign}");
        }
        assert_eq!(ring.slot("007"), None);
    }

    #[test]
    fn tags_are_escaped() {
        let set = KeySet {
            rule: None,
            prefix: String::new(),
            tags: [("tier", "a&b=c"), ("größe", "1 2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            destination: None,
        };
        assert_eq!(set.tagging(), "gr%C3%B6%C3%9Fe=1%202&tier=a%26b%3Dc");
    }
}

//! How keys and values may appear in output.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use stores::{Key, KeyValue, Reading};

use crate::{KeyDisclosure, KeySecret, ReconcileError};

/// Digits of what tells two secrets apart.
const KEY_HASH_ID_DIGITS: usize = 16;

/// Shows keys as the configuration allows.
#[derive(Debug)]
pub(crate) struct Disclosure {
    kind: KeyDisclosure,
    secret: Option<KeySecret>,
}

impl Disclosure {
    /// # Errors
    /// `Request` when keys are to be hashed and there is no secret, or an empty one: an unkeyed hash of small keys hides nothing.
    pub(crate) fn new(kind: KeyDisclosure, secret: Option<KeySecret>) -> Result<Self, ReconcileError> {
        let is_usable = secret.as_ref().is_some_and(|secret| !secret.0.is_empty());
        if kind == KeyDisclosure::Hashed && !is_usable {
            return Err(ReconcileError::Request(
                "keys = \"hashed\" needs key_hash, a secret that is not empty; give one, or choose keys = \"none\""
                    .to_owned(),
            ));
        }
        Ok(Self { kind, secret })
    }

    /// Tells two secrets apart and gives none away; `None` unless keys appear hashed.
    pub(crate) fn id(&self) -> Option<String> {
        // No collection has an empty name, so that this is the hash of no key.
        let hash = self.key_hash("", &Key(Vec::new()))?;
        hash.get(..KEY_HASH_ID_DIGITS).map(str::to_owned)
    }

    /// The key as JSON, if keys may appear.
    pub(crate) fn key(&self, key: &Key, columns: &[String]) -> Option<String> {
        (self.kind == KeyDisclosure::Plain).then(|| key.to_json(columns))
    }

    /// HMAC-SHA-256 of the collection's name and the key in canonical form, 64 hex digits, if keys appear hashed. Keys of two
    /// collections cannot be linked by it.
    pub(crate) fn key_hash(&self, collection: &str, key: &Key) -> Option<String> {
        if self.kind != KeyDisclosure::Hashed {
            return None;
        }
        let secret = self.secret.as_ref()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
        mac.update(&canonical(collection, key));
        Some(crate::hex(&mac.finalize().into_bytes()))
    }
}

/// Injective: each part is a tag, its length and its bytes.
fn canonical(collection: &str, key: &Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, b'c', collection.as_bytes());
    for value in &key.0 {
        match value {
            KeyValue::Int(value) => put(&mut bytes, b'i', &value.to_be_bytes()),
            KeyValue::Text(value) => put(&mut bytes, b't', value.as_bytes()),
            KeyValue::Bytes(value) => put(&mut bytes, b'b', value),
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, tag: u8, part: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
    bytes.extend_from_slice(part);
}

/// The row as one JSON object of texts by column; `None` without a row or without values.
pub(crate) fn value(reading: &Reading, columns: &[String]) -> Option<String> {
    let Reading::Present(row) = reading else { return None };
    let values = row.values.as_ref()?;
    let object: serde_json::Map<String, serde_json::Value> = columns
        .iter()
        .zip(values)
        .map(|(column, value)| (column.clone(), value.clone().into()))
        .collect();
    Some(serde_json::Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hashed(secret: &str) -> Disclosure {
        Disclosure::new(KeyDisclosure::Hashed, Some(KeySecret::new(secret.as_bytes()))).unwrap()
    }

    #[test]
    fn the_hash_is_the_hmac_of_the_canonical_form() {
        let hash = hashed("k").key_hash("public.orders", &Key::int(17)).unwrap();
        let again = hashed("k").key_hash("public.orders", &Key::int(17)).unwrap();
        assert_eq!(hash, again);
        // Computed apart with Python's hmac over b"c" + len + b"public.orders" + b"i" + len + 17.
        assert_eq!(hash, "c9d7ce13d6f6857d6e67451e396df0e187d67b5ec345c7b26f96814f5d5dba0a");
        assert_ne!(hash, hashed("other").key_hash("public.orders", &Key::int(17)).unwrap());
    }

    #[test]
    fn keys_that_differ_in_form_only_have_other_hashes() {
        let text = |text: &str| KeyValue::Text(text.to_owned());
        let keys = [
            Key(vec![text("a"), text("bc")]),
            Key(vec![text("ab"), text("c")]),
            Key(vec![text("abc")]),
            Key(vec![KeyValue::Bytes(b"abc".to_vec())]),
            Key(vec![text("17")]),
            Key(vec![KeyValue::Int(17)]),
            Key(vec![]),
        ];
        let hashes: HashSet<_> = keys.iter().map(|key| hashed("k").key_hash("t", key)).collect();
        assert_eq!(hashes.len(), keys.len());
        let elsewhere = hashed("k").key_hash("u", &keys[0]);
        assert!(!hashes.contains(&elsewhere));
    }

    #[test]
    fn keys_appear_only_as_allowed() {
        let key = Key::int(1);
        let columns = ["id".to_owned()];
        let plain = Disclosure::new(KeyDisclosure::Plain, None).unwrap();
        assert_eq!(plain.key(&key, &columns).as_deref(), Some(r#"{"id":1}"#));
        assert_eq!(plain.key_hash("t", &key), None);
        let none = Disclosure::new(KeyDisclosure::None, None).unwrap();
        assert_eq!((none.key(&key, &columns), none.key_hash("t", &key)), (None, None));
        assert_eq!(hashed("k").key(&key, &columns), None);
    }

    #[test]
    fn hashed_keys_need_a_secret_that_is_never_shown() {
        assert!(Disclosure::new(KeyDisclosure::Hashed, None).is_err());
        assert!(Disclosure::new(KeyDisclosure::Hashed, Some(KeySecret::new(""))).is_err());
        assert!(!format!("{:?}", hashed("very-secret")).contains("very-secret"));
    }
}

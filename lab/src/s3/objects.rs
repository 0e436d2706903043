//! What the buckets of one site hold.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use s3s::dto::{BucketLifecycleConfiguration, ReplicationConfiguration, ReplicationRule, ReplicationRuleStatus};

/// Versions that one key keeps; older ones go, as a lifecycle rule would have it.
const VERSIONS_MAX: usize = 64;

/// One version of an object.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) body: Bytes,
    pub(crate) etag: String,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) content_type: Option<String>,
    pub(crate) modified: SystemTime,
    /// Its place among all writes of its site; a copy keeps the one of its original.
    pub(crate) order: u64,
    /// `x-amz-replication-status`.
    pub(crate) replication: Option<&'static str>,
    pub(crate) is_delete_marker: bool,
}

/// One bucket.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) is_versioned: bool,
    /// Versions of each key, oldest first. A `BTreeMap` lists in the byte order that S3 lists in.
    pub(crate) objects: BTreeMap<String, Vec<Version>>,
    pub(crate) replication: Option<ReplicationConfiguration>,
    pub(crate) lifecycle: Option<BucketLifecycleConfiguration>,
}

impl Bucket {
    /// The current version, unless it is a delete marker.
    pub(crate) fn current(&self, key: &str) -> Option<&Version> {
        let newest = self.objects.get(key)?.last()?;
        (!newest.is_delete_marker).then_some(newest)
    }

    /// Puts a version in its place: copies may arrive in another order than they were written, and more than once.
    pub(crate) fn put(&mut self, key: &str, version: Version) {
        let is_versioned = self.is_versioned;
        let versions = self.objects.entry(key.to_owned()).or_default();
        if !is_versioned {
            versions.clear();
        }
        versions.retain(|held| held.id != version.id);
        let place = versions.partition_point(|held| held.order <= version.order);
        versions.insert(place, version);
        if versions.len() > VERSIONS_MAX {
            versions.remove(0);
        }
    }

    pub(crate) fn version_mut(&mut self, key: &str, id: &str) -> Option<&mut Version> {
        self.objects.get_mut(key)?.iter_mut().find(|version| version.id == id)
    }

    /// The rule that takes `version` of `key` along, and the bucket that it names.
    pub(crate) fn destination(&self, key: &str, version: &Version) -> Option<String> {
        let rules = &self.replication.as_ref()?.rules;
        let matching = rules.iter().filter(|rule| takes(rule, key, version));
        let rule = matching.max_by_key(|rule| rule.priority.unwrap_or(0))?;
        let arn = &rule.destination.bucket;
        Some(arn.rsplit(':').next().unwrap_or(arn).to_owned())
    }
}

fn takes(rule: &ReplicationRule, key: &str, version: &Version) -> bool {
    let filter = rule.filter.as_ref();
    let and = filter.and_then(|filter| filter.and.as_ref());
    let prefix = and
        .and_then(|and| and.prefix.as_ref())
        .or_else(|| filter.and_then(|filter| filter.prefix.as_ref()))
        .or(rule.prefix.as_ref());
    let tags = and.and_then(|and| and.tags.as_ref()).into_iter().flatten();
    let mut tags = tags.chain(filter.and_then(|filter| filter.tag.as_ref()));
    let takes_markers = rule
        .delete_marker_replication
        .as_ref()
        .and_then(|markers| markers.status.as_ref())
        .is_some_and(|status| status.as_str() == "Enabled");
    rule.status.as_str() == ReplicationRuleStatus::ENABLED
        && prefix.is_none_or(|prefix| key.starts_with(prefix.as_str()))
        && tags.all(|tag| tag.key.as_ref().and_then(|name| version.tags.get(name)) == tag.value.as_ref())
        && (takes_markers || !version.is_delete_marker)
}

/// The ETag of a body that was written in one piece.
pub(crate) fn etag(body: &[u8]) -> String {
    let digest = Md5::digest(body);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The header `x-amz-tagging`: a query.
pub(crate) fn tags(header: &str) -> BTreeMap<String, String> {
    let pairs = header.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescaped(name), unescaped(value))
        })
        .collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, order: u64) -> Version {
        Version {
            id: id.to_owned(),
            body: Bytes::new(),
            etag: etag(id.as_bytes()),
            metadata: HashMap::new(),
            tags: BTreeMap::new(),
            content_type: None,
            modified: SystemTime::now(),
            order,
            replication: None,
            is_delete_marker: false,
        }
    }

    #[test]
    fn tags_are_unescaped() {
        let read = tags("gr%C3%B6%C3%9Fe=1%202&tier=a%26b%3Dc&flag&x=1+1");
        let expected = [("größe", "1 2"), ("tier", "a&b=c"), ("flag", ""), ("x", "1 1")];
        assert_eq!(
            read,
            BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value.to_owned())))
        );
    }

    #[test]
    fn a_late_copy_does_not_become_the_current_version() {
        let mut bucket = Bucket {
            is_versioned: true,
            ..Bucket::default()
        };
        for (id, order) in [("two", 2), ("one", 1), ("two", 2)] {
            bucket.put("key", version(id, order));
        }
        assert_eq!(bucket.current("key").map(|current| current.id.as_str()), Some("two"));
        assert_eq!(bucket.objects["key"].len(), 2, "a copy that comes twice is there once");
    }

    #[test]
    fn the_etag_is_the_md5_of_the_body() {
        assert_eq!(etag(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}

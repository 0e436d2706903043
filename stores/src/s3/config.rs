//! `[dataset.NAME.s3]`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::aws::Native;

/// Buckets of one dataset. Each replication rule is a unit of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The buckets, by name.
    pub buckets: Vec<Bucket>,
    /// The sites that take writes, where they are not those of the whole configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Vec<String>>,
    /// Labels for policies and queries.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where the store's own lag is read. Default: nowhere, it is *not collected*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// Where the canaries live.
    #[serde(default)]
    pub canary: CanaryPlace,
}

/// `{ use1 = "media-use1", usw2 = "media-usw2", prefix = "img/" }`: one bucket at each site, and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The name of the bucket at each site.
    pub names: BTreeMap<String, String>,
    /// Keys begin with this. Default: the whole bucket.
    pub prefix: Option<String>,
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let prefix = self.prefix.iter().map(|prefix| ("prefix", prefix.as_str()));
        let names = self.names.iter().map(|(site, name)| (site.as_str(), name.as_str()));
        serializer.collect_map(names.chain(prefix))
    }
}

/// By hand: sites and `prefix` stand side by side, so every other key must be a site with a name.
impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sites;
        impl<'de> Visitor<'de> for Sites {
            type Value = Bucket;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bucket at each site: { use1 = \"...\", usw2 = \"...\", prefix = \"...\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bucket, A::Error> {
                let (mut names, mut prefix) = (BTreeMap::new(), None);
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    match key.as_str() {
                        "prefix" => prefix = Some(value),
                        _ => drop(names.insert(key, value)),
                    }
                }
                if names.len() < 2 {
                    return Err(de::Error::custom("a copy needs a bucket at two sites at least"));
                }
                Ok(Bucket { names, prefix })
            }
        }
        deserializer.deserialize_any(Sites)
    }
}

/// Where the canaries of a dataset live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryPlace {
    /// Behind the prefix of the replication rule, canary keys begin with this. Reserved: nothing else may use it.
    pub prefix: String,
}

impl Default for CanaryPlace {
    fn default() -> Self {
        Self {
            prefix: "driftline-canary/".to_owned(),
        }
    }
}

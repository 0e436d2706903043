//! `ledger = { path, copy_to, upload_every, keep }`: where the ledger lives and where copies of it go.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use journal::{Bucket, Place, PlaceError};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use stores::aws::AccessKey;

use crate::config::{SettingError, parse_text};

const SCHEME: &str = "s3://";

/// Where the probe's ledger lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// A folder on a local disk: its fsync is what an RPO is proved with.
    pub path: PathBuf,
    /// Places that get a copy: what is left to prove a loss with when this machine is lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copy_to: Vec<CopyPlace>,
    /// How often what is new goes there.
    pub upload_every: Period,
    /// How long settled canaries are kept, at `path`; copies are left to whoever keeps them.
    pub keep: Period,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./driftline-ledger"),
            copy_to: Vec::new(),
            upload_every: Period(Duration::from_secs(2)),
            keep: Period(Duration::from_secs(72 * 3_600)),
        }
    }
}

/// A length of time, written with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{span:#}"),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}

impl FromStr for Period {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = || {
            SettingError(format!(
                "{text:?} is not a length of time; write a number and a unit, such as \"2s\", \"5min\" or \"72h\""
            ))
        };
        let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
        match Duration::try_from(span) {
            Ok(span) if !span.is_zero() => Ok(Self(span)),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_text(deserializer, "a length of time with its unit such as \"2s\"")
    }
}

/// A place for copies: `"s3://bucket/prefix"`, a folder, or a table when a bucket is not reached as AWS's own tools would:
/// `{ url = "s3://bucket/prefix", region = "...", endpoint_url = "...", credentials = { ... } }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyPlace {
    /// On a file system of this machine.
    Folder(PathBuf),
    /// In S3.
    Bucket {
        /// The bucket's name.
        name: String,
        /// What the names of all objects begin with.
        prefix: String,
        /// How it is reached.
        reach: Reach,
    },
}

/// How a bucket is reached; what is absent is found as every AWS tool finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another endpoint than AWS's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Keys of a service that knows no roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AccessKey>,
}

/// The table form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credentials: Option<AccessKey>,
}

impl CopyPlace {
    /// The place itself. Nothing is asked of it yet; a secret is read now.
    ///
    /// # Errors
    /// `Config`: a secret cannot be read, or what is stated does not fit together.
    pub fn open(&self) -> Result<Place, PlaceError> {
        match self {
            Self::Folder(path) => Ok(Place::folder(path)),
            Self::Bucket { name, prefix, reach } => {
                let access_key = match &reach.credentials {
                    None => None,
                    Some(key) => {
                        let secret = key.secret_access_key.reveal().map_err(|error| PlaceError::Config {
                            place: self.to_string(),
                            cause: error.to_string(),
                        })?;
                        Some((key.access_key_id.clone(), secret.expose().to_owned()))
                    }
                };
                Place::bucket(&Bucket {
                    name: name.clone(),
                    prefix: prefix.clone(),
                    region: reach.region.clone(),
                    endpoint_url: reach.endpoint_url.clone(),
                    access_key,
                })
            }
        }
    }

    fn reach(&self) -> Option<&Reach> {
        match self {
            Self::Bucket { reach, .. } if *reach != Reach::default() => Some(reach),
            _ => None,
        }
    }
}

impl fmt::Display for CopyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { name, prefix, .. } if prefix.is_empty() => write!(f, "{SCHEME}{name}"),
            Self::Bucket { name, prefix, .. } => write!(f, "{SCHEME}{name}/{prefix}"),
        }
    }
}

impl FromStr for CopyPlace {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = |why: &str| {
            SettingError(format!(
                "copy place {text:?}: {why}; write \"s3://bucket/prefix\" or the path of a folder"
            ))
        };
        if let Some(rest) = text.strip_prefix(SCHEME) {
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            if name.contains('@') {
                return Err(wrong("credentials do not belong into an address"));
            }
            if name.len() < 3 || !name.bytes().all(fits) {
                return Err(wrong("that is not the name of a bucket"));
            }
            return Ok(Self::Bucket {
                name: name.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
                reach: Reach::default(),
            });
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(wrong(&format!("{scheme:?} is not a kind of place that is known"))),
            None if text.trim().is_empty() => Err(wrong("it is empty")),
            None => Ok(Self::Folder(PathBuf::from(text))),
        }
    }
}

impl Serialize for CopyPlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.reach().cloned() {
            None => serializer.collect_str(self),
            Some(reach) => Table {
                url: self.to_string(),
                region: reach.region,
                endpoint_url: reach.endpoint_url,
                credentials: reach.credentials,
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CopyPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> de::Visitor<'de> for TextOrTable {
            type Value = CopyPlace;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"s3://bucket/prefix\", the path of a folder, or { url = \"s3://...\", ... }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CopyPlace, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CopyPlace, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                match table.url.parse().map_err(de::Error::custom)? {
                    CopyPlace::Bucket { name, prefix, .. } => Ok(CopyPlace::Bucket {
                        name,
                        prefix,
                        reach: Reach {
                            region: table.region,
                            endpoint_url: table.endpoint_url,
                            credentials: table.credentials,
                        },
                    }),
                    CopyPlace::Folder(_) => Err(de::Error::custom("url: only a bucket is written as a table")),
                }
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<LedgerConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_person_writes_survives_being_printed_and_read_again() {
        let written = r#"{"path":"/var/lib/ledger","copy_to":["s3://evidence-usw2/driftline/","/mnt/other",
            {"url":"s3://lab","endpoint_url":"http://127.0.0.1:9000","credentials":{"access_key_id":"lab","secret_access_key":{"env":"X"}}}],
            "upload_every":"500ms","keep":"24h"}"#;
        let config = parse(written).unwrap();
        let names: Vec<String> = config.copy_to.iter().map(CopyPlace::to_string).collect();
        assert_eq!(names, ["s3://evidence-usw2/driftline", "/mnt/other", "s3://lab"]);
        assert_eq!(config.upload_every.0, Duration::from_millis(500));
        let printed = serde_json::to_string(&config).unwrap();
        assert_eq!(parse(&printed).unwrap(), config, "{printed}");
        let default = parse("{}").unwrap();
        assert_eq!(default, LedgerConfig::default());
        assert!(default.copy_to.is_empty());
    }

    #[test]
    fn a_wrong_place_is_refused_with_the_right_form() {
        for (json, words) in [
            (r#"{"copy_to":["gs://bucket"]}"#, "not a kind of place"),
            (r#"{"copy_to":["s3:///prefix"]}"#, "not the name of a bucket"),
            (r#"{"copy_to":["s3://Key:secret@bucket"]}"#, "credentials do not belong"),
            (r#"{"copy_to":[""]}"#, "it is empty"),
            (r#"{"copy_to":[5]}"#, "the path of a folder"),
            (r#"{"copy_to":[{"url":"/mnt/other"}]}"#, "only a bucket"),
            (r#"{"copy_to":[{"url":"s3://lab","key":"x"}]}"#, "unknown field"),
            (r#"{"upload_every":"2"}"#, "not a length of time"),
            (r#"{"keep":"0s"}"#, "not a length of time"),
            (r#"{"keep":72}"#, "with its unit"),
            (r#"{"copy":[]}"#, "unknown field"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named_and_not_shown() {
        let json = r#"{"url":"s3://lab","credentials":{"access_key_id":"lab","secret_access_key":{"env":"DRIFTLINE_TEST_UNSET"}}}"#;
        let place: CopyPlace = serde_json::from_str(json).unwrap();
        let words = place.open().unwrap_err().to_string();
        assert!(
            words.contains("s3://lab") && words.contains("DRIFTLINE_TEST_UNSET"),
            "{words}"
        );
    }
}

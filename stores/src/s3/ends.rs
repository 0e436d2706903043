//! Who answers, what the store says of the newest canary, and how an end is opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::reader::RingReader;
use super::remote::Remote;
use super::ring::{self, KeySet};
use super::writer::{RING_KEYS_MAX, RingWriter};
use super::{Bucket, Config};
use crate::aws::Site;
use crate::{Canary, End, Fork, Identify, Identity, NativeStatus, Position, Result, Role, Status, StoreError, Trouble};

/// Streams under one reserved prefix; more is an error of the listing that looks for the newest canary.
const STREAMS_MAX: usize = 64;

/// One key set in one bucket.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) remote: Remote,
    /// All canaries of the key set lie under it.
    pub(crate) reserved: String,
    /// Tags of the rule, as a header.
    pub(crate) tagging: String,
    /// The key of the canary that was written or seen last.
    newest: Mutex<Option<String>>,
}

impl Place {
    fn newest(&self) -> Option<String> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_newest(&self, key: &str) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.to_owned());
    }

    pub(crate) fn note_newest_of(&self, stream: &str, canaries: &[Canary]) {
        if let Some(newest) = canaries.iter().map(|canary| canary.sequence).max() {
            self.note_newest(&self.ring(stream).key(ring::slot_of(newest)));
        }
    }

    /// Names the bucket. AWS has one bucket of a name, whichever endpoint leads there; elsewhere the endpoint is part of the name.
    pub(crate) fn instance(&self) -> String {
        let bucket = &self.remote.bucket;
        match self.remote.endpoint.as_deref().map(host_of) {
            None => format!("aws/{bucket}"),
            Some(host) if host.ends_with(".amazonaws.com") => format!("aws/{bucket}"),
            Some(host) if host.ends_with(".amazonaws.com.cn") => format!("aws-cn/{bucket}"),
            Some(host) => format!("{host}/{bucket}"),
        }
    }
}

/// Host and port of an endpoint, in lower case.
fn host_of(endpoint: &str) -> String {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest).to_ascii_lowercase();
    match host.strip_prefix("localhost") {
        Some(port) if port.is_empty() || port.starts_with(':') => format!("127.0.0.1{port}"),
        _ => host,
    }
}

#[async_trait]
impl Identify for Place {
    async fn identity(&self) -> Result<Identity> {
        let greeting = self.remote.greet().await;
        let greeting = greeting.map_err(|fault| match fault.status {
            Some(404) => StoreError::NotFound(
                self.remote
                    .trouble("identify", "HTTP 404")
                    .hint("the bucket is not there; check its name, and endpoint_url of the site"),
            ),
            _ => self.remote.error("identify", fault),
        })?;
        let mut facts = BTreeMap::from([
            ("bucket".to_owned(), self.remote.bucket.clone()),
            (
                "region".to_owned(),
                greeting.region.unwrap_or_else(|| self.remote.region.clone()),
            ),
        ]);
        if let Some(endpoint) = &self.remote.endpoint {
            facts.insert("endpoint".to_owned(), host_of(endpoint));
        }
        Ok(Identity {
            store: "s3".to_owned(),
            version: greeting.server.unwrap_or_else(|| "S3 (names no version)".to_owned()),
            role: Role::Writable, // a bucket knows no role: who writes is stated
            lineage: None,
            instance: self.instance(),
            shares_storage_with: Vec::new(),
            facts,
        })
    }
}

impl Place {
    /// The canary that was written last, as far as this process or else the store knows.
    async fn find_newest(&self) -> Result<Option<String>> {
        if let Some(key) = self.newest() {
            return Ok(Some(key));
        }
        let listed = self.remote.list(&self.reserved, STREAMS_MAX * RING_KEYS_MAX).await?;
        Ok(listed
            .into_iter()
            .max_by_key(|object| object.modified_us)
            .map(|object| object.key))
    }
}

/// `x-amz-replication-status` of the newest canary. To ask for it is a HEAD: on MinIO it has a failed object retried at once, which no other object
/// gets. The figure is beside our own reading and never part of it.
#[async_trait]
impl Status for Place {
    async fn status(&self) -> Result<NativeStatus> {
        let identity = self.identity().await?;
        let (mut link, mut answered_us) = (None, None);
        if let Some(key) = self.find_newest().await? {
            let head = self.remote.head(&key).await;
            let head = head.map_err(|fault| {
                self.remote
                    .error(&format!("read the replication status of {key}"), fault)
            })?;
            match head {
                Some(head) => (link, answered_us) = (head.replication, head.answered_us),
                // Expired or removed: look for another one next time.
                None => *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = None,
            }
        }
        let as_of_us = match answered_us {
            Some(answered_us) => answered_us,
            None => self.server_clock_us().await?,
        };
        Ok(NativeStatus {
            identity,
            as_of_us,
            lag_us: None, // S3 tells none here
            lag_as_of_us: None,
            pending_operations: None,
            not_collected: None,
            lag_bytes: None,
            position: None::<Position>,
            link,
            longest_transaction_us: None,
            is_logical: false,
            collections: BTreeMap::new(),
        })
    }

    async fn fork(&self) -> Result<Fork> {
        Err(StoreError::Unsupported(Trouble::new(
            &self.remote.site,
            "read the fork",
            "buckets are copied object by object and have no point at which they part",
        )))
    }
}

impl Place {
    async fn server_clock_us(&self) -> Result<i64> {
        let greeting = self.remote.greet().await;
        let greeting = greeting.map_err(|fault| self.remote.error("read the server's clock", fault))?;
        greeting.answered_us.ok_or_else(|| {
            StoreError::Corrupt(
                self.remote
                    .trouble("read the server's clock", "the answer has no Date header"),
            )
        })
    }
}

/// The bucket of `bucket` at `site_name`, seen through one key set (see [`super::rules`]). The writer at a site must only be used while the site
/// is stated as one that takes writes: a bucket itself refuses nothing.
///
/// # Errors
/// `Config`: the bucket has no name at this site, no region, or a secret that cannot be read.
pub async fn open(config: &Config, bucket: &Bucket, keys: &KeySet, site_name: &str, site: &Site) -> Result<End> {
    let remote = Remote::open(site_name, site, name_at(bucket, site_name)?).await?;
    let meter = Arc::clone(&remote.meter);
    let place = Arc::new(Place {
        remote,
        reserved: keys.reserved(&config.canary.prefix),
        tagging: keys.tagging(),
        newest: Mutex::default(),
    });
    Ok(End {
        status: Some(Arc::clone(&place) as Arc<dyn Status>),
        canary_writer: Some(Arc::new(RingWriter::new(Arc::clone(&place)))),
        canary_reader: Some(Arc::new(RingReader::new(Arc::clone(&place)))),
        meter: Some(meter),
        ..End::new(site_name, place as Arc<dyn Identify>)
    })
}

/// The name of the bucket at a site.
pub(crate) fn name_at<'b>(bucket: &'b Bucket, site: &str) -> Result<&'b str> {
    bucket.names.get(site).map(String::as_str).ok_or_else(|| {
        let named: Vec<&str> = bucket.names.keys().map(String::as_str).collect();
        StoreError::Config(Trouble::new(
            site,
            "find the bucket",
            format!("none is named for this site, only for {}", named.join(", ")),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn one_endpoint_has_one_name() {
        for written in ["http://127.0.0.1:9000", "http://LOCALHOST:9000/", "127.0.0.1:9000"] {
            assert_eq!(host_of(written), "127.0.0.1:9000", "{written}");
        }
        assert_eq!(host_of("https://localhost.example.com/x"), "localhost.example.com");
        assert_eq!(host_of("http://localhost"), "127.0.0.1");
    }
}

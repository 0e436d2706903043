//! One bucket, reached at one site: each request that is sent is counted, timed out, and never repeated behind our back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ConfigBag, Intercept, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};

use super::fault::Fault;
use crate::aws::{self, Service, Site};
use crate::{Meter, Result, StoreError, Trouble, Usage};

/// A connection that does not stand after this long is given up.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1_500);
/// An answer that takes longer is not awaited; a write is of unknown outcome then. Below the patience of whoever polls.
const ANSWER_PATIENCE: Duration = Duration::from_millis(3_500);
/// Keys of one page of a listing.
const PAGE_KEYS: i32 = 1_000;
/// Pages of one listing. Pages need not be full, so this is far more than a reserved prefix needs.
const PAGES_MAX: usize = 64;

/// A bucket at a site.
#[derive(Clone)]
pub(crate) struct Remote {
    client: Client,
    /// The site, for errors.
    pub(crate) site: String,
    /// The name of the bucket there.
    pub(crate) bucket: String,
    /// The endpoint when it is not AWS's own.
    pub(crate) endpoint: Option<String>,
    /// The region.
    pub(crate) region: String,
    /// Counts what is sent.
    pub(crate) meter: Arc<Meter>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {} at {}", self.bucket, self.site)
    }
}

/// What HEAD tells of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) etag: String,
    pub(crate) metadata: BTreeMap<String, String>,
    /// `COMPLETED`, `PENDING`, `FAILED`, `REPLICA`.
    pub(crate) replication: Option<String>,
    /// The server's clock when it answered, microseconds since 1970 UTC.
    pub(crate) answered_us: Option<i64>,
}

/// What a listing tells of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) key: String,
    pub(crate) etag: String,
    /// Microseconds since 1970 UTC by the server's clock.
    pub(crate) modified_us: i64,
}

/// On what a write depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition<'a> {
    /// Nothing is there.
    Absent,
    /// This very object is there.
    Etag(&'a str),
}

/// An object to be written.
#[derive(Debug)]
pub(crate) struct Put<'a> {
    pub(crate) key: &'a str,
    pub(crate) body: String,
    pub(crate) metadata: &'a [(&'static str, String)],
    /// As in a query: `name=value&name=value`, escaped. Empty: none.
    pub(crate) tagging: &'a str,
    pub(crate) condition: Option<Condition<'a>>,
}

impl Remote {
    pub(crate) async fn open(site_name: &str, site: &Site, bucket: &str) -> Result<Self> {
        let shared = aws::load(site_name, site).await?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .operation_attempt_timeout(ANSWER_PATIENCE)
            .operation_timeout(ANSWER_PATIENCE)
            .build();
        let endpoint = site.endpoint(Service::S3).map(str::to_owned);
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // Stores that only speak S3's protocol do not all know the newer checksums.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &endpoint {
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        let region = shared.region().map(ToString::to_string).unwrap_or_default();
        Ok(Self {
            client: Client::from_conf(config.build()),
            site: site_name.to_owned(),
            bucket: bucket.to_owned(),
            endpoint,
            region,
            meter: Arc::new(Meter::default()),
        })
    }

    /// Configuration reads that have no method of their own here.
    pub(crate) fn client(&self, operation: &'static str) -> &Client {
        self.count(operation, 0);
        &self.client
    }

    fn count(&self, operation: &'static str, bytes: usize) {
        let usage = Usage {
            requests: 1,
            units: 0.0,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
        };
        self.meter.count(operation, usage);
    }

    pub(crate) fn error(&self, tried: &str, fault: impl Into<Fault>) -> StoreError {
        fault
            .into()
            .at(&self.site, &format!("{tried} in bucket {}", self.bucket))
    }

    pub(crate) fn trouble(&self, tried: &str, cause: impl Into<String>) -> Trouble {
        Trouble::new(&self.site, format!("{tried} in bucket {}", self.bucket), cause)
    }

    /// `None`: HTTP 404, which may also mean that the bucket is gone, or that something else answers. See [`Self::is_missing`].
    pub(crate) async fn head(&self, key: &str) -> std::result::Result<Option<Head>, Fault> {
        self.count("HeadObject", 0);
        let notes = Notes::default();
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let answer = request.customize().interceptor(notes.clone()).send().await;
        let head = match answer {
            Ok(head) => head,
            Err(error) => {
                let fault = Fault::from(error);
                return match fault.status {
                    Some(404) => Ok(None),
                    _ => Err(fault),
                };
            }
        };
        Ok(Some(Head {
            etag: head.e_tag().unwrap_or_default().to_owned(),
            metadata: head.metadata().into_iter().flatten().map(owned).collect(),
            replication: head.replication_status().map(|status| status.as_str().to_owned()),
            answered_us: notes.date_us(),
        }))
    }

    /// Asks for a key in a way that is answered in words, as HEAD is not. Ok(true): the bucket is there and the key is not. Ok(false):
    /// the key is there. Everything else is a fault with its code.
    pub(crate) async fn is_missing(&self, key: &str) -> std::result::Result<bool, Fault> {
        self.count("GetObject", 0);
        // The body is dropped unread.
        match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(_there) => Ok(false),
            Err(error) => {
                let fault = Fault::from(error);
                if fault.is_missing_key() { Ok(true) } else { Err(fault) }
            }
        }
    }

    /// Writes one object; its new ETag.
    pub(crate) async fn put(&self, put: Put<'_>) -> std::result::Result<String, Fault> {
        self.count("PutObject", put.body.len());
        let mut request = self.client.put_object().bucket(&self.bucket).key(put.key);
        for (name, value) in put.metadata {
            request = request.metadata(*name, value);
        }
        if !put.tagging.is_empty() {
            request = request.tagging(put.tagging);
        }
        request = match put.condition {
            Some(Condition::Absent) => request.if_none_match("*"),
            Some(Condition::Etag(etag)) => request.if_match(etag),
            None => request,
        };
        let body = ByteStream::from(put.body.into_bytes());
        let answer = request.content_type("application/json").body(body).send().await?;
        Ok(answer.e_tag().unwrap_or_default().to_owned())
    }

    /// Everything whose key begins with `prefix`, in the order of the store. `KEYS` is an error, not an end: a listing that was cut short would
    /// look like absence.
    pub(crate) async fn list(&self, prefix: &str, keys_max: usize) -> Result<Vec<Listed>> {
        let tried = format!("list {prefix}");
        let mut listed = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            self.count("ListObjectsV2", 0);
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let request = request.max_keys(PAGE_KEYS).set_continuation_token(next.take());
            let page = request.send().await.map_err(|error| self.error(&tried, error))?;
            listed.extend(page.contents().iter().map(|object| Listed {
                key: object.key().unwrap_or_default().to_owned(),
                etag: object.e_tag().unwrap_or_default().to_owned(),
                modified_us: object.last_modified().map_or(0, micros),
            }));
            if listed.len() > keys_max {
                break;
            }
            next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() {
                return Ok(listed);
            }
        }
        Err(StoreError::Corrupt(
            self.trouble(&tried, format!("more than {keys_max} objects under a reserved prefix"))
                .hint("remove what is not driftline's, or choose another `canary.prefix`"),
        ))
    }

    /// The server's own word for itself and its clock, by HeadBucket.
    pub(crate) async fn greet(&self) -> std::result::Result<Greeting, Fault> {
        self.count("HeadBucket", 0);
        let notes = Notes::default();
        let request = self.client.head_bucket().bucket(&self.bucket);
        let answer = request.customize().interceptor(notes.clone()).send().await?;
        Ok(Greeting {
            server: notes.server(),
            region: answer.bucket_region().map(str::to_owned),
            answered_us: notes.date_us(),
        })
    }
}

/// What the answer to HeadBucket tells.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) server: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) answered_us: Option<i64>,
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

fn micros(instant: &DateTime) -> i64 {
    let whole = instant.secs().saturating_mul(1_000_000);
    whole.saturating_add(i64::from(instant.subsec_nanos() / 1_000))
}

/// Headers of an answer that the client does not hand out.
#[derive(Debug, Clone, Default)]
struct Notes {
    date_and_server: Arc<Mutex<(Option<String>, Option<String>)>>,
}

impl Notes {
    fn read(&self) -> (Option<String>, Option<String>) {
        let notes = self.date_and_server.lock();
        notes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn date_us(&self) -> Option<i64> {
        let date = self.read().0?;
        DateTime::from_str(&date, DateTimeFormat::HttpDate)
            .ok()
            .map(|instant| micros(&instant))
    }

    fn server(&self) -> Option<String> {
        self.read().1
    }
}

impl Intercept for Notes {
    fn name(&self) -> &'static str {
        "notes"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let headers = context.response().headers();
        let text = |name| headers.get(name).map(str::to_owned);
        *self.date_and_server.lock().unwrap_or_else(PoisonError::into_inner) = (text("date"), text("server"));
        Ok(())
    }
}

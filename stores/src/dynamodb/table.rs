//! One table at one site: what describes it, and what its requests have in common.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::{TableDescription, TableStatus, TimeToLiveStatus};

use super::fault;
use super::shape::Shape;
use crate::aws::{Service, Site};
use crate::{Meter, Result, StoreError, Trouble, Usage};

/// How long a connection may take to stand.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// How long one request may take. Shorter than the engine waits, so that the error says what happened.
const ANSWER_PATIENCE: Duration = Duration::from_secs(4);
/// Tries of a request that only describes.
const DESCRIBE_TRIES: u32 = 3;

/// A table, reached as its site is.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) client: Client,
    pub(crate) site: String,
    pub(crate) name: String,
    region: String,
    /// The endpoint, where it is not AWS's own.
    endpoint: Option<String>,
    meter: Arc<Meter>,
    known: Mutex<Known>,
}

/// What is remembered of the table until a request contradicts it.
#[derive(Debug, Default)]
struct Known {
    ring: Option<Arc<Ring>>,
    expiry: Option<Expiry>,
}

/// What canaries need to know of a table.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) shape: Shape,
    pub(crate) instance: String,
}

/// The attribute that the table's own expiry goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// This one.
    By(String),
    /// Expiry is off.
    Off,
    /// Not readable for this role.
    Hidden,
}

/// AWS's own endpoints, private ones included, all lead to one service.
const OWN_ENDPOINTS: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];

impl Table {
    pub(crate) fn new(sdk: &SdkConfig, site_name: &str, site: &Site, name: &str, meter: Arc<Meter>) -> Self {
        let times = TimeoutConfig::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .operation_attempt_timeout(ANSWER_PATIENCE)
            .build();
        let mut settings = aws_sdk_dynamodb::config::Builder::from(sdk)
            // A request that is silently sent again is a canary that was not sent when we say so.
            .retry_config(RetryConfig::disabled())
            .timeout_config(times);
        if let Some(endpoint) = site.endpoint(Service::Dynamodb) {
            settings = settings.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(settings.build()),
            site: site_name.to_owned(),
            name: name.to_owned(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
            endpoint: site.endpoint(Service::Dynamodb).and_then(foreign),
            meter,
            known: Mutex::default(),
        }
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Counts a request, also when it fails: it is paid for as well.
    pub(crate) fn count_request(&self, operation: &'static str) {
        let usage = Usage {
            requests: 1,
            ..Usage::default()
        };
        self.meter.count(operation, usage);
    }

    /// Counts what a request consumed.
    pub(crate) fn count_units(&self, operation: &'static str, units: f64) {
        let usage = Usage {
            units,
            ..Usage::default()
        };
        self.meter.count(operation, usage);
    }

    /// The table as it is now.
    pub(crate) async fn describe(&self) -> Result<TableDescription> {
        let tried = format!("describe table {}", self.name);
        self.count_request("DescribeTable");
        let again = aws_sdk_dynamodb::config::Builder::new()
            .retry_config(RetryConfig::standard().with_max_attempts(DESCRIBE_TRIES));
        let answer = self
            .client
            .describe_table()
            .table_name(&self.name)
            .customize()
            .config_override(again)
            .send()
            .await
            .map_err(|error| fault::of(&self.site, &tried, &error))?;
        answer
            .table
            .ok_or_else(|| StoreError::Corrupt(Trouble::new(&self.site, tried, "an answer without a table")))
    }

    /// Names the table so that the same data is never taken for two copies: by its ARN, which holds the region, and by the endpoint
    /// where that is not AWS's own. Stand-ins give the same ARN to every table of one name, whatever region is asked for.
    pub(crate) fn instance(&self, table: &TableDescription) -> Result<String> {
        let Some(arn) = table.table_arn() else {
            let tried = format!("describe table {}", self.name);
            return Err(StoreError::Corrupt(Trouble::new(
                &self.site,
                tried,
                "a table without an ARN",
            )));
        };
        Ok(match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{arn}"),
            None => arn.to_owned(),
        })
    }

    /// What canaries need to know; asked once, and again after [`Self::forget`].
    pub(crate) async fn ring(&self) -> Result<Arc<Ring>> {
        if let Some(ring) = &self.known().ring {
            return Ok(Arc::clone(ring));
        }
        let table = self.describe().await?;
        let ring = Arc::new(Ring {
            shape: Shape::of(&self.site, &table)?,
            instance: self.instance(&table)?,
        });
        self.known().ring = Some(Arc::clone(&ring));
        Ok(ring)
    }

    /// The attribute that expiry goes by. What cannot be asked now is asked again at the next write: every canary carries an expiry of
    /// our own name anyway.
    pub(crate) async fn expiry(&self) -> Result<Expiry> {
        if let Some(expiry) = &self.known().expiry {
            return Ok(expiry.clone());
        }
        self.count_request("DescribeTimeToLive");
        let answer = self.client.describe_time_to_live().table_name(&self.name).send().await;
        let expiry = match answer {
            Ok(answer) => {
                let described = answer.time_to_live_description;
                let is_on = described
                    .as_ref()
                    .and_then(|ttl| ttl.time_to_live_status())
                    .is_some_and(|status| matches!(status, TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
                let attribute = described.and_then(|ttl| ttl.attribute_name).filter(|_| is_on);
                attribute.map_or(Expiry::Off, Expiry::By)
            }
            Err(error) => {
                let tried = format!("ask for the expiry of table {}", self.name);
                match fault::of(&self.site, &tried, &error) {
                    passing if passing.is_passing() => return Err(passing),
                    StoreError::NotFound(trouble) => return Err(StoreError::NotFound(trouble)),
                    _ => Expiry::Hidden,
                }
            }
        };
        self.known().expiry = Some(expiry.clone());
        Ok(expiry)
    }

    /// Has the next request describe the table anew: it was removed, or made again with another key.
    pub(crate) fn forget(&self, error: &StoreError) {
        if matches!(error, StoreError::NotFound(_) | StoreError::Unsupported(_)) {
            *self.known() = Known::default();
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a table in this state takes writes.
pub(crate) fn takes_writes(table: &TableDescription) -> bool {
    matches!(table.table_status(), Some(TableStatus::Active | TableStatus::Updating))
}

/// An endpoint that is not AWS's own, in one form.
fn foreign(endpoint: &str) -> Option<String> {
    let lower = endpoint.trim_end_matches('/').to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").unwrap_or(("", &lower));
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    if OWN_ENDPOINTS.iter().any(|own| host.ends_with(own)) {
        return None;
    }
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    let port = match (scheme, port) {
        ("http", "") => "80",
        ("https", "") => "443",
        _ => port,
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_aws_are_one_and_others_are_told_apart() {
        for own in [
            "https://dynamodb.us-east-1.amazonaws.com",
            "https://vpce-1-2.dynamodb.us-east-1.vpce.amazonaws.com/",
            "https://dynamodb.us-east-1.api.aws:443",
        ] {
            assert_eq!(foreign(own), None, "{own}");
        }
        assert_eq!(foreign("http://LOCALHOST:8000/"), foreign("http://127.0.0.1:8000"));
        assert_ne!(foreign("http://127.0.0.1:8000"), foreign("http://127.0.0.1:8001"));
        assert_eq!(foreign("http://db.lab").as_deref(), Some("db.lab:80"));
    }
}

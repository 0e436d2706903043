//! How a site is reached through AWS's client: region, credentials, endpoints. What DynamoDB, S3 and CloudWatch have in common.

use std::collections::BTreeMap;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use serde::{Deserialize, Serialize};

use crate::secret::Secret;
use crate::{Result, StoreError, Trouble};

/// `[site.NAME]`: where the site is and as whom it is reached. All of it is optional; what is absent is found as every AWS tool finds
/// it (environment, profile, container or instance role).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The cloud region, e.g. `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A role to take on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// A profile of the shared configuration files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Keys of a service that knows no roles (a private object store).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AccessKey>,
    /// Other endpoints than AWS's own, by service: `{ s3 = "http://127.0.0.1:9000" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_url: BTreeMap<Service, String>,
}

/// A service of AWS that may have an endpoint of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Object storage.
    S3,
    /// Tables.
    Dynamodb,
    /// The store's own metrics.
    Cloudwatch,
    /// Roles.
    Sts,
}

/// `native = "cloudwatch"`: where the store's own lag is read, for stores that do not tell it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Native {
    /// From AWS's metrics, once a minute. Each figure is paid for.
    Cloudwatch,
}

/// An access key. The secret half is a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Its public half.
    pub access_key_id: String,
    /// Where its secret half is kept.
    pub secret_access_key: Secret,
}

impl Site {
    /// The endpoint of `service` when it is not AWS's own.
    pub fn endpoint(&self, service: Service) -> Option<&str> {
        self.endpoint_url.get(&service).map(String::as_str)
    }
}

/// Everything that a client of `name` needs. Credentials are looked for now and refreshed by the client later on.
///
/// # Errors
/// `Config`: no region, or a secret that cannot be read.
pub(crate) async fn load(name: &str, site: &Site) -> Result<SdkConfig> {
    let trouble = |cause: String| Trouble::new(name, "prepare the AWS client", cause);
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &site.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &site.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(key) = &site.credentials {
        let secret = key
            .secret_access_key
            .reveal()
            .map_err(|error| StoreError::Config(trouble(error.to_string())))?;
        loader = loader.credentials_provider(aws_sdk_s3::config::Credentials::new(
            &key.access_key_id,
            secret.expose(),
            None,
            None,
            "driftline configuration",
        ));
    }
    let base = loader.load().await;
    if base.region().is_none() {
        return Err(StoreError::Config(
            trouble("no region".to_owned()).hint(format!("add `region = \"...\"` to [site.{name}]")),
        ));
    }
    match &site.role_arn {
        None => Ok(base),
        Some(role) => {
            let provider = aws_config::sts::AssumeRoleProvider::builder(role)
                .session_name("driftline")
                .configure(&base)
                .build()
                .await;
            Ok(base
                .into_builder()
                .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(provider))
                .build())
        }
    }
}

/// Of what a service or a library says, no more is repeated.
const CAUSE_CHARS_MAX: usize = 300;

/// The first line: what follows in a signature's error is the request itself, with its token.
pub(crate) fn shortened(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(CAUSE_CHARS_MAX)
        .collect()
}

/// The client's own text says little; what happened is further down its chain.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        cause = inner.source();
    }
    shortened(&parts.join(": "))
}

//! What errors of S3 mean to the caller.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws::in_full;
use crate::{StoreError, Trouble};

/// S3 asks to slow down; the next try goes out not before this.
const SLOW_DOWN: Duration = Duration::from_millis(500);
/// Causes of an error that are told, one within the other.
const CAUSES_MAX: usize = 8;

/// A request that was not answered with success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The HTTP status, when there was an answer.
    pub(crate) status: Option<u16>,
    /// S3's own word, e.g. `NoSuchKey`. The answer to a HEAD has none.
    pub(crate) code: String,
    /// Whether the request may have reached the store.
    pub(crate) was_sent: bool,
    /// In words.
    cause: String,
}

impl<E> From<SdkError<E, HttpResponse>> for Fault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match &error {
            SdkError::ServiceError(context) => {
                let code = context.err().code().unwrap_or_default().to_owned();
                let mut cause = format!("HTTP {}", status.unwrap_or_default());
                for more in [Some(code.as_str()), context.err().message()].into_iter().flatten() {
                    if !more.is_empty() {
                        let _infallible = write!(cause, " {more}");
                    }
                }
                Self {
                    status,
                    code,
                    was_sent: true,
                    cause,
                }
            }
            other => {
                let was_made = !matches!(other, SdkError::ConstructionFailure(_));
                Self {
                    status,
                    code: String::new(),
                    was_sent: was_made && !never_connected(other),
                    cause: in_full(other),
                }
            }
        }
    }
}

/// Whether no connection ever stood, so that nothing can have been sent.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    for _ in 0..CAUSES_MAX {
        let Some(inner) = cause else { break };
        let http = inner.downcast_ref::<hyper_util::client::legacy::Error>();
        if http.is_some_and(hyper_util::client::legacy::Error::is_connect) {
            return true;
        }
        cause = inner.source();
    }
    false
}

impl Fault {
    pub(crate) fn is_missing_key(&self) -> bool {
        self.code == "NoSuchKey"
    }

    /// Whether the answer says without doubt that nothing was written: S3 refused the request itself. An error within S3, or of whoever stands
    /// between, leaves it open.
    pub(crate) fn is_refusal(&self) -> bool {
        match self.status {
            None => !self.was_sent,
            Some(503) => self.code == "SlowDown",
            Some(501) => true,
            Some(408) => false,
            Some(status) => (400..500).contains(&status),
        }
    }

    /// What the caller does next.
    pub(crate) fn at(self, site: &str, tried: &str) -> StoreError {
        let trouble = Trouble::new(site, tried, self.cause);
        let Some(status) = self.status else {
            return match self.was_sent {
                true => StoreError::Retryable { after: None, trouble },
                false => StoreError::Unreachable(
                    trouble.hint("check endpoint_url, region, firewall and that the store runs"),
                ),
            };
        };
        match (status, self.code.as_str()) {
            (_, "NoSuchBucket") => StoreError::NotFound(trouble.hint("the bucket is not there; was it removed or renamed?")),
            (_, "SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded") | (429 | 503, _) => StoreError::Retryable {
                after: Some(SLOW_DOWN),
                trouble,
            },
            (_, "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "TokenRefreshRequired") => {
                StoreError::Config(trouble.hint("renew or correct the credentials of this site"))
            }
            (_, "RequestTimeTooSkewed") => StoreError::Config(trouble.hint("set this machine's clock")),
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed") => {
                StoreError::Config(trouble.hint("the bucket is in another region; correct `region` of this site"))
            }
            (403, _) => StoreError::Denied(trouble.hint(
                "without s3:ListBucket a key that is not there answers 403 too; driftline init prints the permissions that are needed",
            )),
            (404, _) => StoreError::NotFound(trouble),
            (501, _) | (405, _) => StoreError::Unsupported(trouble),
            (408 | 409, _) | (500.., _) => StoreError::Retryable { after: None, trouble },
            _ => StoreError::Config(trouble),
        }
    }
}

//! Errors of AWS's client, told by what the caller does next.

use std::time::Duration;

use aws_sdk_dynamodb::error::{ConnectorError, ProvideErrorMetadata, SdkError};

use crate::aws::{in_full, shortened};
use crate::{StoreError, Trouble};

/// A request that was throttled is not sent again sooner.
const THROTTLED_WAIT: Duration = Duration::from_millis(500);

const THROTTLED: [&str; 6] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "LimitExceededException",
    "TooManyRequestsException",
];
const BUSY: [&str; 5] = [
    "InternalServerError",
    "ServiceUnavailable",
    "TransactionConflictException",
    "ReplicatedWriteConflictException",
    "ResourceInUseException",
];
const ABSENT: [&str; 2] = ["ResourceNotFoundException", "TableNotFoundException"];
const DENIED: [&str; 3] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation"];
const CREDENTIALS: [&str; 12] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "RequestExpired",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "RequestTimeTooSkewed",
];
const REFUSED: [&str; 3] = [
    "ValidationException",
    "ItemCollectionSizeLimitExceededException",
    "UnknownOperationException",
];

/// What became of a request.
pub(crate) fn of<E>(site: &str, tried: &str, error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let trouble = |cause: String| Trouble::new(site, tried, cause);
    match error {
        SdkError::TimeoutError(_) => StoreError::Retryable {
            after: None,
            trouble: trouble("no answer in time".to_owned()),
        },
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map_or_else(
            || StoreError::Unreachable(trouble(in_full(error))),
            |connector| dispatched(trouble, connector),
        ),
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let (code, message) = (answer.err().code(), answer.err().message());
            answered(
                site,
                tried,
                status,
                code.unwrap_or_default(),
                message.unwrap_or_default(),
            )
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            answered(site, tried, status, "", "an answer that is not DynamoDB's")
        }
        other => StoreError::Config(trouble(in_full(other))),
    }
}

fn dispatched(trouble: impl Fn(String) -> Trouble, error: &ConnectorError) -> StoreError {
    let cause = in_full(error);
    if error.is_timeout() && !super::sent::was_never_connected(error) {
        return StoreError::Retryable {
            after: None,
            trouble: trouble(cause),
        };
    }
    if error.is_other() && !is_of_the_network(error) {
        return StoreError::Config(trouble(cause).hint(
            "the request could not be signed: check the credentials of this site (environment, profile, role, or [site.NAME])",
        ));
    }
    StoreError::Unreachable(trouble(cause).hint("check the region, the endpoint and the route to it"))
}

/// Everything else that prevents a request happens before the network: no credentials, a role that cannot be taken on.
fn is_of_the_network(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if inner.is::<hyper_util::client::legacy::Error>() || inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// What DynamoDB, or whoever answered for it, said.
fn answered(site: &str, tried: &str, status: u16, code: &str, message: &str) -> StoreError {
    let cause = match (code, message) {
        ("", message) => format!("HTTP {status}: {}", shortened(message)),
        (code, "") => code.to_owned(),
        (code, message) => format!("{code}: {}", shortened(message)),
    };
    let trouble = Trouble::new(site, tried, cause);
    if THROTTLED.contains(&code) || status == 429 {
        return StoreError::Retryable {
            after: Some(THROTTLED_WAIT),
            trouble: trouble.hint("the table or the account is at its limit of throughput"),
        };
    }
    if BUSY.contains(&code) || status >= 500 || status == 408 {
        return StoreError::Retryable { after: None, trouble };
    }
    if ABSENT.contains(&code) {
        return StoreError::NotFound(trouble.hint(
            "check the table's name and the site's region; `driftline init` makes a canary table where one is configured",
        ));
    }
    if DENIED.contains(&code) {
        return StoreError::Denied(trouble.hint("`driftline init --print` shows the rights that are needed"));
    }
    if CREDENTIALS.contains(&code) {
        return StoreError::Config(
            trouble.hint("renew the credentials of this site, and check the clock of this host: a signature is only valid for minutes"),
        );
    }
    if REFUSED.contains(&code) {
        return StoreError::Unsupported(trouble);
    }
    StoreError::Corrupt(trouble.hint("is this endpoint DynamoDB's?"))
}

/// Whether an answer proves that the write was not done: DynamoDB itself rejected it. What else answers with an error, a gateway or a
/// server that failed on the way, may have done it.
pub(crate) fn is_rejection<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let SdkError::ServiceError(answer) = error else {
        return false;
    };
    let status = answer.raw().status().as_u16();
    (400..500).contains(&status) && status != 408 && answer.err().code().is_some_and(|code| !code.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variant_says_what_to_do_next() {
        for (status, code, kind) in [
            (400, "ProvisionedThroughputExceededException", "retryable"),
            (400, "ThrottlingException", "retryable"),
            (500, "InternalServerError", "retryable"),
            (502, "", "retryable"),
            (400, "ResourceNotFoundException", "not_found"),
            (400, "AccessDeniedException", "denied"),
            (400, "ExpiredTokenException", "config"),
            (400, "UnrecognizedClientException", "config"),
            (400, "ValidationException", "unsupported"),
            (404, "", "corrupt"),
        ] {
            let error = answered("use1", "write canary 1", status, code, "words");
            assert_eq!(error.kind(), kind, "{status} {code}: {error}");
        }
    }

    #[test]
    fn a_signed_request_is_never_repeated() {
        let message = "The signature does not match.\n\nx-amz-security-token:lab-secret";
        let error = answered("use1", "write canary 1", 403, "InvalidSignatureException", message);
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("does not match") && !shown.contains("lab-secret"),
            "{shown}"
        );
    }
}

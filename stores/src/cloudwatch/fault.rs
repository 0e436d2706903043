//! Why CloudWatch told nothing, in words for the person who can change it.

use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};

use crate::aws::{in_full, shortened};

const THROTTLED: [&str; 4] = [
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
];
const DENIED: [&str; 4] = [
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthorizationError",
];

/// The reason, with advice where there is any. Every reason ends the same way for the caller: not collected, asked again a minute later.
pub(crate) fn reason<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let answer = match error {
        SdkError::TimeoutError(_) => return "no answer in time".to_owned(),
        SdkError::ServiceError(answer) => answer,
        other => return in_full(other),
    };
    let status = answer.raw().status().as_u16();
    let code = answer.err().code().unwrap_or_default();
    let message = shortened(answer.err().message().unwrap_or_default());
    let said = [format!("HTTP {status}"), code.to_owned(), message];
    let said = said.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
    let advice = if THROTTLED.contains(&code) || status == 429 {
        " (throttled: the account asks CloudWatch too often)"
    } else if DENIED.contains(&code) || status == 403 {
        " (denied: allow cloudwatch:GetMetricData for this site's credentials, and check that they are still valid)"
    } else {
        ""
    };
    format!("{}{advice}", said.join(" "))
}

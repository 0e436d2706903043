//! Whether a request left this process: what tells a write that failed from one of unknown outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, SdkError};

/// Set when the client hands a request over to its connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentMark(Arc<AtomicBool>);

impl Intercept for SentMark {
    fn name(&self) -> &'static str {
        "driftline-sent-mark"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}

impl SentMark {
    /// Whether, after `error`, it is certain that the server never had the request: no credentials, no signature, or no connection.
    pub(crate) fn is_unsent<E, R>(&self, error: &SdkError<E, R>) -> bool {
        if !self.0.load(Ordering::Acquire) {
            return true;
        }
        let SdkError::DispatchFailure(failure) = error else {
            return false;
        };
        failure
            .as_connector_error()
            .is_some_and(|error| was_never_connected(error))
    }
}

/// The connection was refused, timed out before it stood, or failed in its TLS handshake.
pub(crate) fn was_never_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(client) = inner.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        cause = inner.source();
    }
    false
}

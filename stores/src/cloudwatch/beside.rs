//! The figures of CloudWatch as part of what an end says of itself.

use std::sync::Arc;

use async_trait::async_trait;

use super::watch::Watch;
use crate::{End, Fork, NativeStatus, Result, Status};

/// `end`, whose status also says what CloudWatch does. What the store tells itself comes first.
#[must_use]
pub fn beside(end: End, watch: Arc<Watch>) -> End {
    let status = end.status.map(|own| Arc::new(Beside { own, watch }) as Arc<dyn Status>);
    End { status, ..end }
}

#[derive(Debug)]
struct Beside {
    own: Arc<dyn Status>,
    watch: Arc<Watch>,
}

#[async_trait]
impl Status for Beside {
    async fn status(&self) -> Result<NativeStatus> {
        let (own, told) = tokio::join!(self.own.status(), self.watch.now());
        let own = own?;
        if own.lag_us.is_some() {
            return Ok(own);
        }
        Ok(NativeStatus {
            lag_us: told.lag_us,
            lag_as_of_us: told.lag_us.and(told.as_of_us),
            lag_bytes: own.lag_bytes.or(told.bytes),
            pending_operations: told.operations,
            not_collected: told.not_collected,
            ..own
        })
    }

    async fn fork(&self) -> Result<Fork> {
        self.own.fork().await
    }
}

//! Writing canaries: one guarded write for each, never sent twice.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure};

use super::fault;
use super::item::{self, Item};
use super::sent::SentMark;
use super::shape::Shape;
use super::table::{Expiry, Ring, Table};
use super::watch::{Slots, read_slots};
use crate::{Canary, CanaryWriter, Result, StoreError, Trouble, WriteOutcome};

/// Slots of a stream's ring. Copies of a table arrive in no order, so each canary has to outlast the outage that it is to be found
/// after: 68 minutes at one canary a second. A longer outage supersedes the oldest.
pub const RING_SLOTS: u64 = 4_096;

/// A slot is written when it is empty, or holds an older canary of this stream. What else is there belongs to somebody else.
const GUARD: &str = "attribute_not_exists(#key) OR (driftline_stream = :stream AND driftline_seq < :seq)";

/// What a write takes that was refused by its guard; the answer does not tell. A canary is smaller than the 1 KB of a unit.
const REFUSED_UNITS: f64 = 1.0;

/// Writes canaries at one copy of a table.
#[derive(Debug)]
pub(crate) struct SlotWriter {
    table: Arc<Table>,
}

impl SlotWriter {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table }
    }

    /// What is needed before anything is sent.
    async fn prepared(&self, canary: &Canary) -> Result<(Arc<Ring>, Item)> {
        let ring = self.table.ring().await?;
        let expiry = match self.table.expiry().await {
            Ok(Expiry::By(attribute)) => Some(attribute),
            Ok(Expiry::Off | Expiry::Hidden) => None,
            Err(error) if error.is_passing() => None,
            Err(error) => {
                self.table.forget(&error);
                return Err(error);
            }
        };
        let item = item::of(canary, &ring.shape, expiry.as_deref());
        Ok((ring, item))
    }

    fn refused(&self, tried: &str, found: Option<&Item>, canary: &Canary, shape: &Shape) -> StoreError {
        let site = &self.table.site;
        if found.is_some_and(|found| item::read(found, &canary.stream, shape).is_none()) {
            return StoreError::Config(
                Trouble::new(site, tried, "an item that is no canary of this stream holds the slot's key").hint(
                    format!(
                        "keys of table {} that begin with `{}` are driftline's (numbers: below -9 x 10^37); the item was left as it is",
                        self.table.name,
                        super::shape::RESERVED_PREFIX
                    ),
                ),
            );
        }
        StoreError::Config(
            Trouble::new(site, tried, "the slot holds a later canary of this stream")
                .hint("another probe writes this stream, or the ledger was lost"),
        )
    }

    fn outcome(
        &self,
        tried: &str,
        sent: &SentMark,
        error: &SdkError<PutItemError>,
        canary: &Canary,
        shape: &Shape,
    ) -> WriteOutcome {
        if let Some(PutItemError::ConditionalCheckFailedException(check)) = error.as_service_error() {
            self.table.count_units("PutItem", REFUSED_UNITS);
            return WriteOutcome::Failed(self.refused(tried, check.item(), canary, shape));
        }
        let trouble = fault::of(&self.table.site, tried, error);
        self.table.forget(&trouble);
        if sent.is_unsent(error) || fault::is_rejection(error) {
            WriteOutcome::Failed(trouble)
        } else {
            WriteOutcome::Unknown(trouble)
        }
    }
}

#[async_trait]
impl CanaryWriter for SlotWriter {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let tried = format!(
            "write canary {} of stream {} into table {}",
            canary.sequence, canary.stream, self.table.name
        );
        let (ring, item) = match self.prepared(canary).await {
            Ok(prepared) => prepared,
            Err(error) => return WriteOutcome::Failed(error),
        };
        let sent = SentMark::default();
        self.table.count_request("PutItem");
        let answer = self
            .table
            .client
            .put_item()
            .table_name(&self.table.name)
            .set_item(Some(item))
            .condition_expression(GUARD)
            .expression_attribute_names("#key", &ring.shape.partition.name)
            .expression_attribute_values(":stream", AttributeValue::S(canary.stream.clone()))
            .expression_attribute_values(":seq", AttributeValue::N(canary.sequence.to_string()))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .customize()
            .interceptor(sent.clone())
            .send()
            .await;
        match answer {
            Ok(done) => {
                let units = done.consumed_capacity().and_then(|capacity| capacity.capacity_units());
                self.table.count_units("PutItem", units.unwrap_or_default());
                WriteOutcome::Acknowledged
            }
            Err(error) => self.outcome(&tried, &sent, &error, canary, &ring.shape),
        }
    }

    /// Reads the whole ring: 41 requests and about 4,100 read units, once for each start of a probe.
    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let read = read_slots(&self.table, stream, Slots::All).await?;
        Ok(read.canaries.iter().map(|canary| canary.sequence).max().unwrap_or(0))
    }

    fn ring_slots(&self) -> u64 {
        RING_SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{SEQUENCE, STREAM};
    use super::GUARD;

    #[test]
    fn the_guard_names_the_attributes_that_are_written() {
        assert!(GUARD.contains(&format!("{STREAM} = :stream")));
        assert!(GUARD.contains(&format!("{SEQUENCE} < :seq")));
    }
}

//! Points of the log, and waiting until a standby has passed one.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::PgLsn;

use super::poll::until;
use super::tables::{Fencing, Tables};
use crate::{Fence, Position, Result, StoreError};

/// The end of the log, with the sizes that tell where it has headers.
///
/// Never `pg_current_wal_lsn()`: under asynchronous commit it lags behind what readers of the primary see already.
const POINT: &str = "select pg_catalog.pg_current_wal_insert_lsn(), \
     pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_block_size')), \
     pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))";
/// One statement: both facts are of one moment, and no transaction stays open.
const REPLAYED: &str = "select pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn()";
/// Header of a page of the log.
const PAGE_HEADER_BYTES: u64 = 24;
/// Header of the first page of a segment.
const SEGMENT_HEADER_BYTES: u64 = 40;

/// The end of the last record at or before `point`. On a page boundary the insert position is already behind the header of a page
/// that has no record yet, and replay stays short of it until there is one.
fn end_of_record(point: u64, block_bytes: u64, segment_bytes: u64) -> u64 {
    if segment_bytes > 0 && point % segment_bytes == SEGMENT_HEADER_BYTES {
        point - SEGMENT_HEADER_BYTES
    } else if block_bytes > 0 && point % block_bytes == PAGE_HEADER_BYTES {
        point - PAGE_HEADER_BYTES
    } else {
        point
    }
}

#[async_trait]
impl Fence for Tables {
    async fn point(&self) -> Result<Position> {
        let tried = "take a fence point";
        if let Some(marks) = self.fencing.marks() {
            return marks.put(self.site()).await;
        }
        let lease = self.lease().await?;
        let failed = |error| lease.trouble(tried, error);
        let rows = lease.query_typed(POINT, &[]).await.map_err(failed)?;
        let Some(row) = rows.first() else {
            return Err(StoreError::Corrupt(self.trouble(tried, "no answer")));
        };
        let point: PgLsn = row.try_get(0).map_err(failed)?;
        let size = |index: usize| -> Result<u64> {
            let size: i64 = row.try_get(index).map_err(failed)?;
            u64::try_from(size).map_err(|_| StoreError::Corrupt(self.trouble(tried, "a negative size")))
        };
        Ok(Position(end_of_record(u64::from(point), size(1)?, size(2)?)))
    }

    async fn wait(&self, point: Position, patience: Duration) -> Result<bool> {
        let tried = "wait for a fence point";
        let lease = self.lease().await?;
        if let Some(marks) = self.fencing.marks() {
            return marks.wait(&lease, self.site(), point, patience).await;
        }
        if let Fencing::Slots(slots) = &self.fencing {
            let is_applied = || async { Ok(slots.applied().await?.is_some_and(|applied| applied >= point)) };
            return until(patience, is_applied).await;
        }
        let failed = |error| lease.trouble(tried, error);
        let is_passed = || async {
            let rows = lease.query_typed(REPLAYED, &[]).await.map_err(failed)?;
            let Some(row) = rows.first() else {
                return Err(StoreError::Corrupt(self.trouble(tried, "no answer")));
            };
            if !row.try_get::<_, bool>(0).map_err(failed)? {
                return Err(StoreError::Unsupported(
                    self.trouble(
                        tried,
                        "this server does not replay a log: it is no standby, or no longer",
                    )
                    .hint("state the relation of the two sites, or swap the writers"),
                ));
            }
            let replayed: Option<PgLsn> = row.try_get(1).map_err(failed)?;
            Ok(replayed.is_some_and(|replayed| u64::from(replayed) >= point.0))
        };
        until(patience, is_passed).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_pages_and_segments_are_taken_off() {
        const BLOCK: u64 = 8192;
        const SEGMENT: u64 = 16 << 20;
        let start = 5 * SEGMENT;
        assert_eq!(end_of_record(start + 40, BLOCK, SEGMENT), start);
        assert_eq!(end_of_record(start + BLOCK + 24, BLOCK, SEGMENT), start + BLOCK);
        // 40 bytes into a page that does not begin a segment is a record's end as any other.
        assert_eq!(end_of_record(start + BLOCK + 40, BLOCK, SEGMENT), start + BLOCK + 40);
        assert_eq!(end_of_record(start + 4711 * 8, BLOCK, SEGMENT), start + 4711 * 8);
    }
}

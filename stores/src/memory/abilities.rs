//! Identity, catalog, status, canaries and fences of one side.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::log::{Change, End};
use super::pair::{NativeLag, Shared, Side, State};
use crate::{
    Canary, CanaryReader, CanaryWriter, Catalog, Collection, Covers, Fence, Fork, Identify, Identity, NativeStatus,
    Oddities, Position, Result, Role, Sighting, Sought, Status, StoreError, Trouble, WriteOutcome,
};

/// A connection to one side.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    side: Side,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, side: Side) -> Self {
        Self { shared, side }
    }

    /// One request: `ask` runs in the middle of the round trip.
    pub(crate) async fn request<T>(
        &self,
        tried: impl Into<String> + Send,
        ask: impl FnOnce(&mut State, Side) -> Result<T> + Send,
    ) -> Result<T> {
        self.travel().await;
        let result = {
            let mut state = self.shared.now();
            self.check_reachable(&state, tried)
                .and_then(|()| ask(&mut state, self.side))
        };
        self.travel().await;
        result
    }

    pub(crate) fn instance(&self, end: &End) -> String {
        format!("memory-{}-{:?}-{}", self.shared.number, self.side, end.life).to_lowercase()
    }

    /// Half of a round trip.
    async fn travel(&self) {
        let half = self.shared.now().knobs.round_trip / 2;
        if !half.is_zero() {
            tokio::time::sleep(half).await;
        }
    }

    fn check_reachable(&self, state: &MutexGuard<'_, State>, tried: impl Into<String>) -> Result<()> {
        let end = state.log.side(self.side);
        if end.is_reachable {
            return Ok(());
        }
        let trouble = Trouble::new(&end.site, tried, "nobody answers");
        Err(StoreError::Unreachable(trouble.hint("make the end reachable again")))
    }

    fn describe(&self, state: &State) -> Identity {
        let end = state.log.side(self.side);
        Identity {
            store: "memory".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: end.role,
            lineage: Some(format!("memory-{}", self.shared.number)),
            instance: self.instance(end),
            shares_storage_with: Vec::new(),
            facts: BTreeMap::from([("site".to_owned(), end.site.clone())]),
        }
    }

    /// The secondary's own figure of its lag.
    fn lag_us(&self, state: &State) -> Option<u64> {
        if state.log.side(self.side).role == Role::Writable {
            return None;
        }
        match state.knobs.native_lag {
            NativeLag::NotCollected => None,
            NativeLag::Zero => Some(0),
            NativeLag::True => {
                let oldest = state.log.oldest_unapplied();
                let age = oldest.map_or(Duration::ZERO, |entry| entry.committed_at.elapsed());
                u64::try_from(age.as_micros()).ok()
            }
        }
    }
}

#[async_trait]
impl Identify for Handle {
    async fn identity(&self) -> Result<Identity> {
        self.request("identify", |state, _| Ok(self.describe(state))).await
    }
}

#[async_trait]
impl Catalog for Handle {
    async fn collections(&self) -> Result<Vec<Collection>> {
        let list = |state: &mut State, side| {
            let tables = state.log.side(side).tables.values();
            let with_estimate = |table: &super::rows::Table| Collection {
                rows_estimate: Some(table.rows.values().map(|row| row.copies).sum()),
                ..table.collection.clone()
            };
            Ok(tables.map(with_estimate).collect())
        };
        self.request("list tables", list).await
    }
}

#[async_trait]
impl Status for Handle {
    async fn status(&self) -> Result<NativeStatus> {
        let ask = |state: &mut State, side| {
            let end = state.log.side(side);
            let link = match (end.role, state.log.is_promoted, state.log.is_stalled) {
                (Role::Writable, _, _) => None,
                (Role::ReadOnly, _, true) => Some("stalled".to_owned()),
                (Role::ReadOnly, _, false) => Some("streaming".to_owned()),
            };
            Ok(NativeStatus {
                identity: self.describe(state),
                as_of_us: self.shared.wall_us(Instant::now()),
                lag_us: self.lag_us(state),
                lag_as_of_us: None,
                pending_operations: None,
                not_collected: None,
                lag_bytes: None,
                position: Some(Position(end.applied)),
                link,
                longest_transaction_us: Some(0),
                is_logical: false,
                collections: BTreeMap::new(),
            })
        };
        self.request("ask for status", ask).await
    }

    async fn fork(&self) -> Result<Fork> {
        let ask = |state: &mut State, side| {
            let end = state.log.side(side);
            let Some((position, Some(committed_at))) = end.fork else {
                let trouble = Trouble::new(&end.site, "read the fork", "this end was not promoted in this life");
                return Err(StoreError::Unsupported(
                    trouble.hint("take the fork from the canaries of the ledger"),
                ));
            };
            let at_us = self.shared.wall_us(committed_at);
            Ok(Fork {
                position: Some(Position(position)),
                at_low_us: at_us,
                at_high_us: at_us,
                evidence: "commit of the last change applied before the promotion".to_owned(),
            })
        };
        self.request("read the fork", ask).await
    }
}

#[async_trait]
impl CanaryWriter for Handle {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        self.travel().await;
        let written = {
            let mut state = self.shared.now();
            self.check_reachable(&state, "write a canary").and_then(|()| {
                let end = state.log.side(self.side);
                if end.slot_holds(canary, state.log.ring_slots) {
                    let trouble = Trouble::new(
                        &end.site,
                        "write a canary",
                        "the slot holds a later canary of this stream",
                    );
                    return Err(StoreError::Config(
                        trouble.hint("start a new epoch above the ring's highest sequence"),
                    ));
                }
                state.write(self.side, Change::Canary(canary.clone()), Instant::now())
            })
        };
        let outcome = match written {
            Ok((_, acknowledged_at)) => {
                tokio::time::sleep_until(acknowledged_at).await;
                WriteOutcome::Acknowledged
            }
            Err(error) => WriteOutcome::Failed(error),
        };
        self.travel().await;
        outcome
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let ask = |state: &mut State, side| Ok(state.log.side(side).highest_sequence(stream));
        self.request("read the highest sequence", ask).await
    }

    fn ring_slots(&self) -> u64 {
        self.shared.now().log.ring_slots
    }
}

#[async_trait]
impl CanaryReader for Handle {
    async fn poll(&self, stream: &str, _sought: Sought<'_>) -> Result<Sighting> {
        let ask = |state: &mut State, side| {
            let end = state.log.side(side);
            let ring = end.rings.get(stream);
            Ok(Sighting {
                canaries: ring.map_or_else(Vec::new, |ring| ring.values().cloned().collect()),
                instance: self.instance(end),
                strong: true,
                covers: Covers::Ring,
                oddities: Oddities::default(),
            })
        };
        self.request("look for canaries", ask).await
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

#[async_trait]
impl Fence for Handle {
    async fn point(&self) -> Result<Position> {
        let ask = |state: &mut State, side| match side {
            Side::Primary => Ok(Position(state.log.newest())),
            Side::Secondary => Ok(Position(state.log.side(side).applied)),
        };
        self.request("take a fence point", ask).await
    }

    async fn wait(&self, point: Position, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let ask = |state: &mut State, side| {
                let end = state.log.side(side);
                let passed = end.role == Role::ReadOnly && end.applied >= point.0;
                Ok((passed, state.log.next_due()))
            };
            let (passed, next_due) = self.request("wait for a fence", ask).await?;
            if passed || Instant::now() >= deadline {
                return Ok(passed);
            }
            let until = next_due.map_or(deadline, |due| due.min(deadline));
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = &mut changed => {}
            }
        }
    }
}

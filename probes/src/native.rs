//! The stores' own figures beside ours, and the observed roles: a promotion is noticed here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stores::{NativeStatus, Role, Sighting, Sought, Status};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Frame, RING_FRAME_CANARIES_MAX};
use crate::live::Native;
use crate::route::Shared;

/// How often the stores are asked.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// An answer that takes longer is not collected.
const STATUS_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks both ends of one route.
#[derive(Debug)]
pub(crate) struct NativeWatch {
    shared: Shared,
    stop: CancellationToken,
    secondary_role: Option<Role>,
    promotion: Promotion,
}

/// How far a promotion has been dealt with. It is judged at the look after the one that saw it: behind the secondary's endpoint may
/// be another instance than the one that was promoted, and it may need a moment to have everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promotion {
    None,
    Seen,
    Kept,
    Judged,
}

impl NativeWatch {
    pub(crate) fn new(shared: Shared, stop: CancellationToken) -> Self {
        Self {
            shared,
            stop,
            secondary_role: None,
            promotion: Promotion::None,
        }
    }

    /// Until it is stopped. A promotion that was seen is always recorded whole.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(STATUS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.look().await,
            }
        }
    }

    async fn look(&mut self) {
        // The secondary first: the primary's position is then not older, so that bytes are never understated.
        let secondary = self.ask(self.shared.spec.secondary_status.as_ref()).await;
        let primary = self.ask(self.shared.spec.primary_status.as_ref()).await;
        self.shared
            .live
            .set_native(combine(primary.as_ref(), secondary.as_ref()));
        let Some(secondary) = secondary else {
            return;
        };
        let role = secondary.identity.role;
        let was = self.secondary_role.replace(role);
        match (role, self.promotion) {
            (Role::ReadOnly, _) => self.promotion = Promotion::None,
            (Role::Writable, Promotion::None) if was == Some(Role::ReadOnly) => {
                tracing::warn!(
                    secondary_site = self.shared.spec.route.secondary_site,
                    stream = self.shared.spec.stream,
                    "the secondary was promoted; its ring is kept in the ledger"
                );
                self.shared.was_promoted.store(true, Ordering::Release);
                self.promotion = Promotion::Seen;
            }
            (Role::Writable, _) => {}
        }
        self.promotion = match self.promotion {
            Promotion::Seen if self.keep_ring().await.is_some() => Promotion::Kept,
            Promotion::Kept => match self.keep_ring().await {
                Some(ring) => {
                    self.judge(&ring).await;
                    Promotion::Judged
                }
                None => Promotion::Kept,
            },
            other => other,
        };
    }

    async fn ask(&self, status: Option<&Arc<dyn Status>>) -> Option<NativeStatus> {
        let status = status?;
        self.shared.live.status_queries.fetch_add(1, Ordering::Relaxed);
        let asked = tokio::time::timeout(STATUS_TIMEOUT, status.status());
        match self.stop.run_until_cancelled(asked).await? {
            Ok(Ok(status)) => Some(status),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the store's own figures were not collected");
                None
            }
            Err(_) => None,
        }
    }

    /// Copies the surviving ring into the ledger before anything is concluded from it. `None`: it could not be read.
    async fn keep_ring(&self) -> Option<KeptRing> {
        let (spec, clock) = (&self.shared.spec, &self.shared.setting.clock);
        let sent_us = clock.now_us();
        let asked = tokio::time::timeout(STATUS_TIMEOUT, spec.reader.poll(&spec.stream, Sought::All));
        let survivors = self.stop.run_until_cancelled(asked).await?.ok()?.ok()?;
        let received_us = clock.now_us();
        let mut parts = survivors.canaries.chunks(RING_FRAME_CANARIES_MAX);
        let first = parts.next().unwrap_or(&[]);
        for part in std::iter::once(first).chain(parts) {
            let frame = Frame::Ring {
                at_us: received_us,
                instance: survivors.instance.clone(),
                canaries: part.to_vec(),
            };
            self.shared.record(frame).await;
        }
        Some(KeptRing {
            survivors,
            sent_us,
            received_us,
        })
    }

    async fn judge(&self, ring: &KeptRing) {
        let settled = self
            .shared
            .live
            .tracker()
            .promoted(&ring.survivors, ring.sent_us, ring.received_us);
        for settled in settled {
            self.shared.record(Frame::Settled(settled)).await;
        }
    }
}

/// A ring as it was read after a promotion.
#[derive(Debug)]
struct KeptRing {
    survivors: Sighting,
    sent_us: u64,
    received_us: u64,
}

/// One figure from two ends. The secondary's own word on its lag comes first; bytes may also be the distance of both positions.
fn combine(primary: Option<&NativeStatus>, secondary: Option<&NativeStatus>) -> Native {
    let either =
        |figure: fn(&NativeStatus) -> Option<u64>| secondary.and_then(figure).or_else(|| primary.and_then(figure));
    let distance = || {
        let ahead = primary?.position?.0;
        let applied = secondary?.position?.0;
        Some(ahead.saturating_sub(applied))
    };
    Native {
        lag_us: either(|status| status.lag_us),
        lag_bytes: either(|status| status.lag_bytes).or_else(distance),
        role_conflict: primary
            .zip(secondary)
            .map(|(a, b)| a.identity.role == Role::Writable && b.identity.role == Role::Writable),
    }
}

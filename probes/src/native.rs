//! The stores' own figures beside ours, and the observed roles: a promotion is noticed here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stores::{NativeStatus, Role, Status};
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
}

impl NativeWatch {
    pub(crate) fn new(shared: Shared, stop: CancellationToken) -> Self {
        Self {
            shared,
            stop,
            secondary_role: None,
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
        if was == Some(Role::ReadOnly)
            && role == Role::Writable
            && !self.note_promotion(&secondary.identity.instance).await
        {
            self.secondary_role = was; // try again at the next look
        }
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

    /// Copies the surviving ring into the ledger before anything is concluded from it. `false`: it could not be read from the
    /// promoted instance.
    async fn note_promotion(&self, instance: &str) -> bool {
        let (spec, clock) = (&self.shared.spec, &self.shared.setting.clock);
        let sent_us = clock.now_us();
        let asked = tokio::time::timeout(STATUS_TIMEOUT, spec.reader.poll(&spec.stream));
        let Some(Ok(Ok(survivors))) = self.stop.run_until_cancelled(asked).await else {
            return false;
        };
        let at_us = clock.now_us();
        if survivors.instance != instance {
            // Another replica may not have everything yet: judging by it would call arrived canaries lost.
            return false;
        }
        tracing::warn!(
            secondary_site = spec.route.secondary_site,
            stream = spec.stream,
            "the secondary was promoted; its ring is kept in the ledger"
        );
        self.shared.was_promoted.store(true, Ordering::Release);
        let mut parts = survivors.canaries.chunks(RING_FRAME_CANARIES_MAX);
        let first = parts.next().unwrap_or(&[]);
        for part in std::iter::once(first).chain(parts) {
            let frame = Frame::Ring {
                at_us,
                instance: survivors.instance.clone(),
                canaries: part.to_vec(),
            };
            self.shared.record(frame).await;
        }
        let settled = self.shared.live.tracker().promoted(&survivors, sent_us, at_us);
        for settled in settled {
            self.shared.record(Frame::Settled(settled)).await;
        }
        true
    }
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

//! The stores' own figures beside ours, and the observed roles: a promotion and a role conflict are noticed here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stores::{NativeStatus, Role, Sighting, Sought, Status};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::epoch::Shared;
use crate::ledger::{Frame, ring_frames};
use crate::live::Native;
use crate::reader::record_earlier;

/// How often the stores are asked.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How soon they are asked again while a promotion is not dealt with.
const PROMOTION_EVERY: Duration = Duration::from_millis(500);

/// An answer that takes longer is not collected.
const STATUS_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks both ends of one stream.
#[derive(Debug)]
pub(crate) struct NativeWatch {
    shared: Shared,
    stop: CancellationToken,
    secondary_role: Option<Role>,
    /// What copies of one origin share, as the primary said when it last answered.
    primary_lineage: Option<String>,
    promotion: Promotion,
}

/// How far a promotion has been dealt with. It is judged at once by a ring of the very instance that says that it takes writes. Behind
/// the secondary's endpoint may also be another instance than the one that was promoted, which may need a moment to have everything: then
/// it is judged at the look after.
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
            primary_lineage: None,
            promotion: Promotion::None,
        }
    }

    /// Until it is stopped. A promotion that was seen is always recorded whole.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval_at(Instant::now() + STATUS_EVERY, STATUS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            let is_promoting = matches!(self.promotion, Promotion::Seen | Promotion::Kept);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PROMOTION_EVERY), if is_promoting => self.look().await,
                _ = ticks.tick() => self.look().await,
            }
        }
    }

    /// One look at both ends.
    pub(crate) async fn look(&mut self) {
        // The secondary first: the primary's position is then not older, so that bytes are never understated.
        let secondary = self.ask(self.shared.spec.secondary_status.as_ref()).await;
        let primary = self.ask(self.shared.spec.primary_status.as_ref()).await;
        if let Some(primary) = &primary {
            self.primary_lineage.clone_from(&primary.identity.lineage);
        }
        self.note_conflict(primary.as_ref(), secondary.as_ref());
        let is_conflicting = self.shared.live.is_conflicting.load(Ordering::Acquire);
        let native = combine(primary.as_ref(), secondary.as_ref(), is_conflicting);
        self.shared.live.set_native(native);
        let ends = [secondary.as_ref(), primary.as_ref()].into_iter().flatten();
        let by_collection = ends.map(|status| &status.collections).find(|lags| !lags.is_empty());
        *self.shared.live.by_collection() = by_collection.cloned().unwrap_or_default();
        if let Some(secondary) = secondary {
            self.follow_promotion(&secondary).await;
        }
    }

    /// Stops writing, once, when the ends do not play the roles that were stated.
    fn note_conflict(&self, primary: Option<&NativeStatus>, secondary: Option<&NativeStatus>) {
        if !self.shared.spec.single_writer {
            return;
        }
        let refuses = primary.is_some_and(|status| status.identity.role == Role::ReadOnly);
        let words = if refuses {
            "the stated writer refuses writes"
        } else if secondary.is_some_and(|status| self.is_second_writer(status)) {
            "the secondary takes writes too"
        } else {
            return;
        };
        let statement = self.shared.setting.stated.borrow().statement();
        if self.shared.live.conflict(statement) {
            let route = &self.shared.spec.route;
            tracing::warn!(
                primary_site = route.primary_site,
                secondary_site = route.secondary_site,
                stream = self.shared.spec.stream,
                "{words}: no canary is written here until the writer is stated anew"
            );
        }
    }

    /// Both ends of a logical subscription take writes; of copies of one origin, one alone may.
    fn is_second_writer(&self, secondary: &NativeStatus) -> bool {
        let is_copy = match (&self.primary_lineage, &secondary.identity.lineage) {
            (Some(primary), Some(secondary)) => primary == secondary,
            _ => !secondary.is_logical,
        };
        is_copy && secondary.identity.role == Role::Writable
    }

    async fn follow_promotion(&mut self, secondary: &NativeStatus) {
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
        let has_open = |shared: &Shared| shared.live.pending() > 0;
        self.promotion = match self.promotion {
            Promotion::None => Promotion::None,
            Promotion::Judged if !has_open(&self.shared) => Promotion::Judged,
            // A write that was under way then has ended since: it did not get there either.
            Promotion::Judged => match read_ring(&self.shared, &self.stop).await {
                Some(ring) => self.judge(&ring).await,
                None => Promotion::Judged,
            },
            waiting @ (Promotion::Seen | Promotion::Kept) => match keep_ring(&self.shared, &self.stop).await {
                Some(ring) if waiting == Promotion::Kept || ring.survivors.instance == secondary.identity.instance => {
                    self.judge(&ring).await
                }
                Some(_) => Promotion::Kept,
                None => waiting,
            },
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

    async fn judge(&self, ring: &KeptRing) -> Promotion {
        let live = &self.shared.live;
        let KeptRing {
            survivors,
            sent_us,
            received_us,
        } = ring;
        let settled = live.tracker().promoted(survivors, *sent_us, *received_us);
        let earlier = live.carried().promoted(survivors, *sent_us, *received_us);
        for settled in settled {
            self.shared.record(Frame::Settled(settled)).await;
        }
        record_earlier(&self.shared, earlier).await;
        live.changed.notify_one();
        Promotion::Judged
    }
}

/// A ring as it was read after a promotion.
#[derive(Debug)]
pub(crate) struct KeptRing {
    survivors: Sighting,
    sent_us: u64,
    received_us: u64,
}

async fn read_ring(shared: &Shared, stop: &CancellationToken) -> Option<KeptRing> {
    let (spec, clock) = (&shared.spec, &shared.setting.clock);
    let sent_us = clock.now_us();
    let asked = tokio::time::timeout(STATUS_TIMEOUT, spec.reader.poll(&spec.stream, Sought::All));
    let survivors = stop.run_until_cancelled(asked).await?.ok()?.ok()?;
    let received_us = clock.now_us();
    shared.live.answered(received_us, survivors.oddities);
    Some(KeptRing {
        survivors,
        sent_us,
        received_us,
    })
}

/// Copies the surviving ring into the ledger before anything is concluded from it, and before a new writer overwrites it. `None`: it
/// could not be read.
pub(crate) async fn keep_ring(shared: &Shared, stop: &CancellationToken) -> Option<KeptRing> {
    let ring = read_ring(shared, stop).await?;
    for frame in ring_frames(&ring.survivors, ring.received_us) {
        shared.record(frame).await;
    }
    Some(ring)
}

/// One figure from two ends. The secondary's own word on its lag comes first; bytes may also be the distance of both positions.
fn combine(primary: Option<&NativeStatus>, secondary: Option<&NativeStatus>, is_conflicting: bool) -> Native {
    let either =
        |figure: fn(&NativeStatus) -> Option<u64>| secondary.and_then(figure).or_else(|| primary.and_then(figure));
    let distance = || {
        let ahead = primary?.position?.0;
        let applied = secondary?.position?.0;
        Some(ahead.saturating_sub(applied))
    };
    let lag = [secondary, primary].into_iter().flatten();
    let lag = lag.filter_map(|status| Some((status.lag_us?, status.lag_as_of_us.unwrap_or(status.as_of_us))));
    let (lag_us, lag_as_of_us) = lag.into_iter().next().unzip();
    Native {
        lag_us,
        lag_as_of_us,
        pending_operations: either(|status| status.pending_operations),
        lag_bytes: either(|status| status.lag_bytes).or_else(distance),
        role_conflict: (is_conflicting || primary.and(secondary).is_some()).then_some(is_conflicting),
    }
}

#[cfg(test)]
mod tests {
    use stores::memory::{Pair, Settings};

    use super::*;

    async fn said(lag_us: Option<u64>, lag_as_of_us: Option<i64>) -> NativeStatus {
        let status = Pair::new(Settings::default()).primary().status.unwrap();
        NativeStatus {
            as_of_us: 900,
            lag_us,
            lag_as_of_us,
            ..status.status().await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lag_keeps_the_instant_of_whoever_told_it() {
        let (metric, own, silent) = (
            said(Some(0), Some(100)).await,
            said(Some(7), None).await,
            said(None, Some(5)).await,
        );
        let lag = |primary, secondary| {
            let native = combine(Some(primary), Some(secondary), false);
            (native.lag_us, native.lag_as_of_us)
        };
        assert_eq!(
            lag(&metric, &silent),
            (Some(0), Some(100)),
            "told at the primary, as a metric"
        );
        assert_eq!(
            lag(&metric, &own),
            (Some(7), Some(900)),
            "the secondary's own word, of now"
        );
        assert_eq!(lag(&silent, &silent), (None, None));
    }
}

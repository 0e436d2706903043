//! What a probe shows while things go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use probes::{FinalState, ProbeError};
use stores::memory::{Delay, NativeLag, Settings, Side};
use stores::{Canary, CanaryReader, CanaryWriter, Result, Sighting, Sought, StoreError, Trouble, WriteOutcome};

use crate::rig::{Rig, pair, until};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_unseen_canary_rises_while_the_native_metric_reads_zero() {
    let pair = pair(settings());
    pair.set_native_lag(NativeLag::Zero);
    let running = Rig::new(&pair, "5/s").start();
    tokio::time::sleep(SECOND * 20).await;
    assert!(running.figure("driftline_oldest_unseen_seconds").unwrap() < 0.1);
    pair.stall();
    tokio::time::sleep(SECOND * 40).await;
    let earlier = running.figure("driftline_oldest_unseen_seconds").unwrap();
    tokio::time::sleep(SECOND * 20).await;
    let later = running.figure("driftline_oldest_unseen_seconds").unwrap();
    assert!(earlier > 38.0 && later > earlier + 19.0, "{earlier} then {later}");
    assert_eq!(running.figure("driftline_native_lag_seconds"), Some(0.0));
    assert_eq!(running.figure("postgres_replication_lag_seconds"), Some(0.0));
    assert!(running.figure("driftline_pending").unwrap() > 250.0);
    pair.resume();
    tokio::time::sleep(SECOND * 3).await;
    assert!(
        running.figure("driftline_oldest_unseen_seconds").unwrap() < 0.1,
        "a resumed replica is noticed"
    );
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_eq!(
        (accounting.pending, accounting.superseded, accounting.lost),
        (0, 0, 0),
        "order proves the overwritten"
    );
    assert!(
        left.samples
            .iter()
            .any(|sample| sample.lag_high_us.unwrap() > 55_000_000)
    );
}

#[tokio::test(start_paused = true)]
async fn a_native_figure_that_is_not_collected_is_absent_and_not_zero() {
    let pair = pair(settings());
    pair.set_native_lag(NativeLag::NotCollected);
    let running = Rig::new(&pair, "5/s").start();
    tokio::time::sleep(SECOND * 20).await;
    assert_eq!(running.figure("driftline_native_lag_seconds"), None);
    assert_eq!(running.figure("driftline_role_conflict"), Some(0.0));
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_leaves_canaries_pending_at_the_drain_deadline() {
    let pair = pair(settings());
    pair.stall();
    let left = Rig::new(&pair, "5/s").drain(SECOND * 2).run_for(SECOND * 10).await;
    let accounting = left.accounting();
    assert!(accounting.pending > 20, "{accounting:?}");
    assert!(!left.summary.is_drained());
    assert_eq!(left.summary.pending(), accounting.pending);
    assert!(left.samples.is_empty());
    let last = left.intervals.last().unwrap();
    assert!(!last.is_final && last.high.p50_us.is_none() && last.pending > 20);
}

#[tokio::test(start_paused = true)]
async fn a_lost_write_is_told_from_a_late_one() {
    let pair = pair(settings());
    let running = Rig::new(&pair, "5/s").start();
    tokio::time::sleep(SECOND * 5).await;
    pair.lose_next(3);
    tokio::time::sleep(SECOND * 5).await;
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_eq!((accounting.lost, accounting.pending), (3, 0));
    let lost: Vec<_> = left
        .samples
        .iter()
        .filter(|sample| sample.state == FinalState::Lost)
        .collect();
    assert!(
        lost.len() == 3
            && lost
                .iter()
                .all(|sample| sample.lag_high_us.is_none() && sample.acked_at_us.is_some())
    );
    assert!(
        left.intervals
            .iter()
            .any(|row| row.lost == 3 && row.high.max_us.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_promotion_keeps_the_ring_in_the_ledger_and_loses_what_is_not_there() {
    let pair = pair(settings());
    let running = Rig::new(&pair, "5/s").drain(SECOND * 2).start();
    tokio::time::sleep(SECOND * 20).await;
    pair.stall();
    tokio::time::sleep(SECOND * 7).await;
    pair.promote();
    until("a role conflict shows", || {
        running.figure("driftline_role_conflict") == Some(1.0)
    })
    .await;
    tokio::time::sleep(SECOND * 12).await;
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert!(left.summary.routes[0].was_promoted);
    assert!(accounting.lost >= 25, "{accounting:?}");
    let replayed = probes::replay(&left.ledgers()[0], |_| {}).unwrap();
    let ring = replayed.ring.unwrap().canaries;
    let survivor = ring.iter().map(|canary| canary.sequence).max().unwrap();
    let first_lost = left
        .samples
        .iter()
        .filter(|sample| sample.state == FinalState::Lost)
        .map(|sample| sample.sequence)
        .min();
    assert_eq!(first_lost, Some(survivor + 1));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_secondary_is_no_lag() {
    let pair = pair(settings());
    let running = Rig::new(&pair, "5/s").start();
    tokio::time::sleep(SECOND * 30).await;
    pair.set_reachable(Side::Secondary, false);
    tokio::time::sleep(SECOND * 100).await;
    pair.set_reachable(Side::Secondary, true);
    tokio::time::sleep(SECOND * 30).await;
    let left = running.stop().await.unwrap();
    assert_eq!(left.accounting().pending, 0);
    // The true lag was 5 ms all the time. While nobody could look, only the high end may grow.
    let low = left
        .samples
        .iter()
        .filter_map(|sample| sample.lag_low_us)
        .max()
        .unwrap();
    assert!(low < 10_000, "{low} us claimed");
    let open = left.intervals.iter().filter(|row| row.pending > 100);
    assert!(open.clone().count() > 0);
    for row in open {
        assert!(row.low.max_us.unwrap() < 10_000 && row.high.max_us.is_none(), "{row:?}");
    }
}

/// Every fifth write reaches the primary and is never answered, every seventh fails.
#[derive(Debug)]
struct Shaky {
    inner: Arc<dyn CanaryWriter>,
    calls: AtomicU64,
}

#[async_trait]
impl CanaryWriter for Shaky {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call.is_multiple_of(7) {
            return WriteOutcome::Failed(StoreError::Unreachable(Trouble::new("use1", "write", "refused")));
        }
        let outcome = self.inner.write(canary).await;
        if call.is_multiple_of(5) {
            return std::future::pending().await;
        }
        outcome
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        self.inner.highest_sequence(stream).await
    }

    fn ring_slots(&self) -> u64 {
        self.inner.ring_slots()
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_write_that_appears_is_seen_and_a_failed_one_is_counted() {
    let pair = pair(settings());
    let rig = Rig::new(&pair, "2/s").writer(|inner| {
        Arc::new(Shaky {
            inner,
            calls: AtomicU64::new(0),
        })
    });
    let left = rig.run_for(SECOND * 120).await;
    let accounting = left.accounting();
    assert!(accounting.write_failed > 20, "{accounting:?}");
    assert_eq!(
        (accounting.write_unknown, accounting.lost),
        (0, 0),
        "all of them had been written"
    );
    let unanswered = left
        .samples
        .iter()
        .filter(|one| one.state == FinalState::Seen && one.acked_at_us.is_none());
    assert!(unanswered.clone().count() > 20);
    assert!(
        unanswered
            .clone()
            .all(|one| !one.low_known && one.lag_high_us.is_some())
    );
}

/// A primary that takes its time.
#[derive(Debug)]
struct Slow(Arc<dyn CanaryWriter>, Duration);

#[async_trait]
impl CanaryWriter for Slow {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        tokio::time::sleep(self.1).await;
        self.0.write(canary).await
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        self.0.highest_sequence(stream).await
    }

    fn ring_slots(&self) -> u64 {
        self.0.ring_slots()
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_primary_makes_slots_skipped_and_never_slows_the_schedule() {
    let pair = pair(settings());
    let left = Rig::new(&pair, "10/s")
        .writer(|inner| Arc::new(Slow(inner, SECOND)))
        .run_for(SECOND * 60)
        .await;
    let accounting = left.accounting();
    assert!((500..700).contains(&accounting.planned), "{accounting:?}");
    assert!(
        (200..280).contains(&accounting.seen),
        "four writes of a second at a time: {accounting:?}"
    );
    assert!(accounting.skipped > 250);
    let (skipped, late) = left.samples.iter().fold((0, 0), |(skipped, late), one| {
        (skipped, late.max(one.late_us.unwrap_or(skipped)))
    });
    assert!(skipped == 0 && late <= probes::SLOT_LATE_US_MAX, "{late} us late");
    let rows: u64 = left
        .intervals
        .iter()
        .filter(|row| row.is_final)
        .map(|row| row.skipped)
        .sum();
    assert!(rows > 200, "skipped slots stand in the intervals: {rows}");
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_refuses_for_good_stops_the_probe_and_one_that_is_away_is_waited_for() {
    let pair = pair(settings());
    pair.set_reachable(Side::Primary, false);
    let running = Rig::new(&pair, "5/s").start();
    tokio::time::sleep(SECOND * 5).await;
    assert!(!running.readiness.is_set());
    pair.set_reachable(Side::Primary, true);
    until("the probe is ready", || running.readiness.is_set()).await;
    tokio::time::sleep(SECOND * 5).await;
    assert!(running.stop().await.unwrap().accounting().seen > 5);

    let never = Rig::new(&pair, "5/s");
    pair.set_reachable(Side::Primary, false);
    let left = never.run_for(SECOND * 5).await;
    assert_eq!(left.summary.routes[0].epoch, None);
    assert!(!left.summary.is_drained(), "nothing was measured, so nothing is fine");

    let denied = Rig::new(&pair, "5/s").writer(|_| Arc::new(Denied));
    let error = denied.start().end().await.err().unwrap();
    assert!(matches!(error, ProbeError::Store { .. }));
    assert!(error.to_string().contains("no INSERT right"), "{error}");
}

#[derive(Debug)]
struct Denied;

#[async_trait]
impl CanaryWriter for Denied {
    async fn write(&self, _: &Canary) -> WriteOutcome {
        WriteOutcome::Failed(StoreError::Denied(Trouble::new("use1", "write", "no INSERT right")))
    }

    async fn highest_sequence(&self, _: &str) -> Result<u64> {
        Err(StoreError::Denied(Trouble::new(
            "use1",
            "read the ring",
            "no INSERT right",
        )))
    }

    fn ring_slots(&self) -> u64 {
        64
    }
}

/// Shows a ring too large for a frame of the ledger, so that the ledger fails in mid-run.
#[derive(Debug)]
struct Bloated(Arc<dyn CanaryReader>);

#[async_trait]
impl CanaryReader for Bloated {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        let mut sighting = self.0.poll(stream, sought).await?;
        let epoch = "x".repeat(4_000);
        sighting.canaries.extend((0..5_000).map(|sequence| Canary {
            stream: stream.to_owned(),
            epoch: epoch.clone(),
            sequence,
            stamp: None,
        }));
        Ok(sighting)
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_fails_in_mid_run_stops_the_probe_with_its_error() {
    let pair = pair(settings());
    let mut rig = Rig::new(&pair, "6/min");
    rig.spec.reader = Arc::new(Bloated(rig.spec.reader.clone()));
    let running = rig.start();
    tokio::time::sleep(SECOND * 30).await;
    pair.promote();
    let error = tokio::time::timeout(SECOND * 120, running.end())
        .await
        .unwrap()
        .err()
        .unwrap();
    assert!(matches!(error, ProbeError::Ledger(_)), "{error}");
    assert!(error.to_string().contains("probe stopped"), "{error}");
}

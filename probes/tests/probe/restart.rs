//! What was in flight when a probe died, and two probes on one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use probes::{Accounting, CLOCK_ERROR_UNKNOWN_US, ClockBound, FinalState, LagInterval, LagSample};
use stores::memory::{Delay, Pair, Settings};
use uuid::Uuid;

use crate::rig::{Left, Rig, TestClock, pair};

const SECOND: Duration = Duration::from_secs(1);

fn quick() -> Pair {
    pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    })
}

/// Vouches for a wall clock, to two milliseconds.
#[derive(Debug)]
struct Vouched;

#[async_trait]
impl ClockBound for Vouched {
    async fn bound_us(&self) -> Option<u64> {
        Some(2_000)
    }
}

/// A probe is killed while replication stands still, which goes on before the next one starts, on this clock.
async fn restarted(pair: &Pair, clock: TestClock) -> Left {
    restarted_by(pair, clock, || Rig::new(pair, "10/s")).await.0
}

/// As [`restarted`], with what the second life counted of readings that no bound explains.
async fn restarted_by(pair: &Pair, clock: TestClock, rig: impl Fn() -> Rig) -> (Left, f64) {
    let running = rig().start();
    tokio::time::sleep(SECOND * 10).await;
    pair.stall();
    tokio::time::sleep(SECOND * 4).await;
    let folder = running.kill().await;
    tokio::time::sleep(SECOND * 30).await;
    pair.resume();
    let running = rig().folder(folder).clock(Arc::new(clock)).start();
    tokio::time::sleep(SECOND * 20).await;
    let violated = running.figure("driftline_clock_bounds_violated_total").unwrap();
    (running.stop().await.unwrap(), violated)
}

fn earlier(left: &Left) -> Vec<&LagSample> {
    let own = left.summary.routes[0].epoch.as_deref();
    let seen = |sample: &&LagSample| Some(sample.epoch.as_str()) != own && sample.state == FinalState::Seen;
    left.samples.iter().filter(seen).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_in_flight_is_settled_on_one_clock_within_one_boot() {
    let pair = quick();
    let left = restarted(&pair, TestClock::stepping_by(0)).await;
    let earlier = earlier(&left);
    assert!((25..60).contains(&earlier.len()), "{} of about 40", earlier.len());
    for sample in &earlier {
        let canary = crate::rig::canary(sample);
        let (committed, visible) = (pair.committed_at(&canary).unwrap(), pair.visible_at(&canary).unwrap());
        let truth = u64::try_from((visible - committed).as_micros()).unwrap();
        assert!(
            sample.lag_low_us.unwrap() <= truth && truth <= sample.lag_high_us.unwrap(),
            "{truth}: {sample:?}"
        );
        assert!(sample.lag_high_us.unwrap() < 40_000_000, "{sample:?}");
        assert_eq!(sample.clock, "monotonic");
    }
    let summary = &left.summary.routes[0];
    assert_eq!((summary.earlier.pending, summary.earlier.lost), (0, 0), "{summary:?}");
    assert!(summary.earlier.holds() && left.accounting().pending == 0);

    // Settled once: a third start finds nothing to look for.
    let again = Rig::new(&pair, "10/s").folder(left.folder).run_for(SECOND * 5).await;
    assert_eq!(again.summary.routes[0].earlier, Accounting::default());
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_there_is_a_sighting_and_no_reading() {
    let pair = quick();
    let mut clock = TestClock::stepping_by(0);
    clock.boot_id = Some(Uuid::from_u128(2));
    let left = restarted(&pair, clock).await;
    let earlier = earlier(&left);
    assert!((25..60).contains(&earlier.len()), "{} of about 40", earlier.len());
    for sample in earlier {
        assert_eq!(
            (sample.lag_low_us, sample.low_known, sample.lag_high_us),
            (Some(0), false, None)
        );
        assert_eq!(
            (sample.clock.as_str(), sample.clock_error_us),
            ("two_clock", CLOCK_ERROR_UNKNOWN_US)
        );
    }
}

/// The wall clock of the second boot is the one that the first began with: what arrives seems to arrive before it left.
#[tokio::test(start_paused = true)]
async fn after_a_reboot_with_a_clock_that_was_set_back_readings_are_excluded_and_counted() {
    let pair = quick();
    let mut clock = TestClock::stepping_by(0);
    clock.boot_id = Some(Uuid::from_u128(2));
    let vouched = || {
        let mut rig = Rig::new(&pair, "10/s");
        rig.setting.clock_bound = Some(Arc::new(Vouched));
        rig
    };
    let (left, violated) = restarted_by(&pair, clock, vouched).await;
    let earlier = earlier(&left);
    assert!((25..60).contains(&earlier.len()), "{} of about 40", earlier.len());
    for sample in &earlier {
        assert_eq!((sample.lag_low_us, sample.lag_high_us), (None, None), "{sample:?}");
    }
    let excluded = f64::from(u32::try_from(earlier.len()).unwrap());
    assert!(
        (violated - excluded).abs() < 0.5,
        "{excluded} excluded and {violated} counted"
    );
}

#[tokio::test(start_paused = true)]
async fn what_never_arrives_stays_pending_in_its_epoch_over_restarts() {
    let pair = quick();
    let running = Rig::new(&pair, "10/s").start();
    tokio::time::sleep(SECOND * 5).await;
    pair.stall();
    tokio::time::sleep(SECOND * 3).await;
    let folder = running.kill().await;
    let second = Rig::new(&pair, "10/s")
        .folder(folder)
        .drain(SECOND)
        .run_for(SECOND * 3)
        .await;
    let open = second.summary.routes[0].earlier.pending;
    assert!((20..40).contains(&open), "{open}");
    assert!(!second.summary.is_drained());
    let running = Rig::new(&pair, "10/s").folder(second.folder).start();
    tokio::time::sleep(SECOND).await;
    let shown = running.figure("driftline_pending").unwrap();
    assert!(shown > 45.0, "{shown}: of all three epochs");
    pair.resume();
    tokio::time::sleep(SECOND * 5).await;
    let third = running.stop().await.unwrap();
    let summary = &third.summary.routes[0];
    assert_eq!((summary.earlier.pending, summary.earlier.lost), (0, 0), "{summary:?}");
    assert!(summary.earlier.seen > open, "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn two_probes_on_one_stream_find_each_other_and_the_older_begins_anew_above() {
    let pair = quick();
    let first = Rig::new(&pair, "10/s").start();
    tokio::time::sleep(SECOND * 5).await;
    let mut second = Rig::new(&pair, "10/s");
    second.setting.seed = 6;
    let second = second.start();
    tokio::time::sleep(SECOND * 60).await;
    let (first, second) = (first.stop().await.unwrap(), second.stop().await.unwrap());
    let epochs = |left: &Left| {
        let mut epochs: Vec<String> = left.samples.iter().map(|sample| sample.epoch.clone()).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs.len()
    };
    assert!(epochs(&first) + epochs(&second) > 2, "one of them gave way");
    for left in [&first, &second] {
        let accounting = left.accounting();
        assert_eq!((accounting.lost, accounting.pending), (0, 0), "{accounting:?}");
        let summary = &left.summary.routes[0];
        assert!(summary.earlier.holds() && summary.earlier.lost == 0, "{summary:?}");
        assert!(accounting.seen > 50, "{accounting:?}");
    }
}

/// The last word on each minute, as readers of `lag_intervals` take it: the highest revision, of the newest run.
fn last_words<'a>(rows: impl Iterator<Item = &'a LagInterval>) -> BTreeMap<(String, i64), LagInterval> {
    let mut last: BTreeMap<(String, i64), LagInterval> = BTreeMap::new();
    for row in rows {
        let key = (row.epoch.clone(), row.interval_start_us);
        if last.get(&key).is_none_or(|known| known.revision <= row.revision) {
            last.insert(key, row.clone());
        }
    }
    last
}

#[tokio::test(start_paused = true)]
async fn minutes_of_a_killed_probe_are_revised_until_all_of_their_canaries_are_settled() {
    let pair = quick();
    let running = Rig::new(&pair, "10/s").start();
    tokio::time::sleep(SECOND * 100).await;
    pair.stall();
    tokio::time::sleep(SECOND * 150).await;
    // What was handed over before the kill counts but for the last rows, which never became a file.
    let (folder, mut rows) = running.killed().await;
    rows.retain(|row| row.interval_start_us < crate::rig::WALL + 60_000_000);
    tokio::time::sleep(SECOND * 30).await;
    let second = Rig::new(&pair, "10/s")
        .folder(folder)
        .drain(SECOND)
        .run_for(SECOND * 45)
        .await;
    let first = rows[0].epoch.clone();
    let of_first = |row: &&LagInterval| row.epoch == first;
    let pending: u64 = last_words(rows.iter().chain(&second.intervals).filter(of_first))
        .values()
        .map(|row| row.pending)
        .sum();
    assert!((1_400..1_600).contains(&pending), "{pending} while nothing arrives");
    pair.resume();
    let third = Rig::new(&pair, "10/s")
        .folder(second.folder)
        .run_for(SECOND * 150)
        .await;
    let all = || rows.iter().chain(&second.intervals).chain(&third.intervals);
    let last = last_words(all().filter(of_first));
    for row in last.values() {
        assert!(row.is_final && row.pending == 0, "{row:?}");
        assert_eq!(
            row.planned,
            row.seen + row.skipped + row.write_failed + row.write_unknown + row.lost + row.superseded
        );
    }
    let starts: Vec<i64> = last.keys().map(|(_, start)| *start).collect();
    assert_eq!(starts.len(), 5, "each minute of the epoch, once: {starts:?}");
    let gaps: u64 = last.values().map(|row| row.gap_us).sum();
    assert!(
        (49_000_000..51_000_000).contains(&gaps),
        "{gaps}: from the kill to the end of its minute"
    );
    let mut samples: BTreeSet<u64> = BTreeSet::new();
    for sample in second.samples.iter().chain(&third.samples) {
        assert!(sample.epoch != first || samples.insert(sample.sequence), "{sample:?}");
    }
    // What settled before the kill was handed over to a process that is gone; the rest arrived after the stall.
    let planned: u64 = last.values().map(|row| row.planned).sum();
    let seen: u64 = last.values().map(|row| row.seen).sum();
    assert!(
        (2_300..2_700).contains(&planned) && planned - seen <= 4,
        "{seen} of {planned}"
    );
    let stalled = last.values().nth(2).unwrap();
    assert!(stalled.high.p50_us.unwrap() > 150_000_000, "{stalled:?}");
    // A fourth start has nothing to say about the first epoch.
    let fourth = Rig::new(&pair, "10/s").folder(third.folder).run_for(SECOND * 5).await;
    assert_eq!(fourth.intervals.iter().filter(of_first).count(), 0);
}

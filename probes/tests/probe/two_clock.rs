//! Readings by two clocks: whatever they are off by, within their bounds the truth lies within the reading; beyond, it is refused.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use probes::{Clock, ClockBound, KeptBound, LagSample, Part, Polling, SystemClock};
use stores::memory::{Delay, Pair, Settings};

use crate::rig::{Left, Rig, WALL, pair};
use crate::scattered::{Scattered, ends};

const SECOND: Duration = Duration::from_secs(1);

/// A host whose wall clock is off by so much, and a bound that somebody vouches for.
#[derive(Debug)]
struct Host {
    system: SystemClock,
    off_us: AtomicI64,
    bound_us: Mutex<Option<u64>>,
}

impl Host {
    fn new(system: SystemClock, off_us: i64, bound_us: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            system,
            off_us: AtomicI64::new(off_us),
            bound_us: Mutex::new(bound_us),
        })
    }
}

impl Clock for Host {
    fn now_us(&self) -> u64 {
        self.system.now_us()
    }

    fn wall_us(&self) -> i64 {
        WALL + i64::try_from(self.system.now_us()).unwrap() + self.off_us.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl ClockBound for Host {
    async fn bound_us(&self) -> Option<u64> {
        *self.bound_us.lock().unwrap()
    }
}

/// A probe that writes, on one host, and one that watches, on another.
async fn watched(pair: &Pair, hosts: [Arc<Host>; 2], seconds: u32) -> [Left; 2] {
    let [writes, watches] = hosts;
    let mut first = Rig::new(pair, "20/s").clock(writes.clone());
    first.setting.wall_bound = Some(Arc::new(KeptBound::of(writes).await));
    let mut second = Rig::new(pair, "20/s").clock(watches.clone());
    second.setting.wall_bound = Some(Arc::new(KeptBound::of(watches).await));
    second.spec.part = Part::Watch;
    second.spec.route.observer = "usw2/watcher".to_owned();
    let watcher = second.start();
    tokio::time::sleep(SECOND).await;
    let writer = first.start();
    tokio::time::sleep(SECOND * seconds).await;
    let writer = writer.stop().await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    let text = watcher.metrics.render();
    assert!(
        !text.contains("driftline_oldest_unseen_seconds{") && !text.contains("driftline_pending{"),
        "what a watcher does not know it does not show"
    );
    assert!(text.contains("driftline_newest_seen_age_seconds{"), "{text}");
    [writer, watcher.stop().await.unwrap()]
}

fn lagging(round_trip: Duration, delay: Delay) -> Pair {
    pair(Settings {
        delay,
        round_trip,
        ..Settings::default()
    })
}

fn holds(pair: &Pair, sample: &LagSample) -> bool {
    let canary = crate::rig::canary(sample);
    let (committed, visible) = (pair.committed_at(&canary).unwrap(), pair.visible_at(&canary).unwrap());
    let truth = u64::try_from((visible - committed).as_micros()).unwrap();
    sample.lag_low_us.unwrap() <= truth && truth <= sample.lag_high_us.unwrap()
}

#[tokio::test(start_paused = true)]
async fn within_their_bounds_two_clocks_hold_the_truth() {
    let even = Delay::Fixed(Duration::from_millis(1));
    let spread = Delay::Between(Duration::from_millis(5), Duration::from_millis(900));
    for (off_us, other_us, delay) in [
        (0, 0, even),
        (900, -900, spread),
        (39_000, -39_000, even),
        (-40_000, 40_000, spread),
    ] {
        let pair = lagging(Duration::from_millis(4), delay);
        let bound = |off: i64| Some(off.unsigned_abs() + 50);
        let hosts = [(off_us, bound(off_us)), (other_us, bound(other_us))];
        let hosts = hosts.map(|(off, bound)| Host::new(SystemClock::new(), off, bound));
        let [writer, watcher] = watched(&pair, hosts, 60).await;
        let written = writer.accounting().seen;
        let samples = &watcher.samples;
        assert!(samples.len() > 1_000, "{} of {written}", samples.len());
        let readings: Vec<_> = samples.iter().filter(|sample| sample.lag_high_us.is_some()).collect();
        let held = readings.iter().filter(|sample| holds(&pair, sample)).count();
        assert_eq!(readings.len(), samples.len(), "no bound was violated");
        assert!(held * 1_000 >= readings.len() * 999, "{held} of {}", readings.len());
        let known = samples.iter().filter(|sample| sample.low_known).count();
        assert!(known * 10 >= samples.len() * 9, "{known} of {}", samples.len());
        assert!(
            samples
                .iter()
                .all(|sample| sample.clock == "two_clock" && sample.late_us.is_none())
        );
        let slack = bound(off_us).unwrap() + bound(other_us).unwrap() + 2_000;
        assert!(samples.iter().all(|sample| sample.clock_error_us <= slack));
        let last = &watcher.intervals;
        assert!(last.iter().any(|row| row.is_final && row.seen > 500));
        assert!(last.iter().all(|row| row.planned == row.seen + row.pending));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_that_is_false_is_seen_where_a_canary_arrives_before_it_left() {
    let pair = lagging(Duration::from_millis(2), Delay::Fixed(Duration::from_millis(5)));
    // The watcher's clock is a second behind, and its host vouches for 200 us.
    let hosts = [
        Host::new(SystemClock::new(), 0, Some(200)),
        Host::new(SystemClock::new(), -1_000_000, Some(200)),
    ];
    let [writer, watcher] = watched(&pair, hosts, 30).await;
    assert!(writer.accounting().seen > 400);
    assert!(watcher.samples.len() > 400);
    for sample in &watcher.samples {
        assert_eq!((sample.lag_low_us, sample.lag_high_us), (None, None), "{sample:?}");
    }
    let unbounded = watcher.intervals.iter().filter(|row| row.seen > 0);
    for row in unbounded {
        assert_eq!(
            (row.low.p99_us, row.high.p50_us),
            (Some(0), None),
            "neither good nor bad: {row:?}"
        );
    }
}

/// The clock of the watcher's host is set back by five seconds. Until its bound is told, each reading says that a canary arrived before it left.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_stepped_by_five_seconds_is_excluded_and_counted_until_its_bound_is_told() {
    let pair = lagging(Duration::from_millis(2), Delay::Fixed(Duration::from_millis(5)));
    let [writes, watches] = [200, 200].map(|bound| Host::new(SystemClock::new(), 0, Some(bound)));
    let mut first = Rig::new(&pair, "20/s").clock(writes.clone());
    first.setting.wall_bound = Some(Arc::new(KeptBound::of(writes).await));
    let mut second = Rig::new(&pair, "20/s").clock(watches.clone());
    second.setting.wall_bound = Some(Arc::new(KeptBound::of(watches.clone()).await));
    second.spec.part = Part::Watch;
    let (watcher, writer) = (second.start(), first.start());
    let violated = || watcher.figure("driftline_clock_bounds_violated_total").unwrap();

    tokio::time::sleep(SECOND * 20).await;
    assert!(violated() < 0.5, "nothing is wrong yet");
    watches.off_us.store(-5_000_000, Ordering::SeqCst);
    tokio::time::sleep(SECOND * 20).await;
    assert!(violated() > 300.0, "{} of about 400", violated());
    *watches.bound_us.lock().unwrap() = Some(5_000_200);
    // Asked for every few seconds.
    tokio::time::sleep(SECOND * 10).await;
    let counted = violated();
    tokio::time::sleep(SECOND * 20).await;
    assert!((violated() - counted).abs() < 0.5, "the bound holds again");

    let metrics = Arc::clone(&watcher.metrics);
    let written = writer.stop().await.unwrap().accounting();
    let left = watcher.stop().await.unwrap();
    let (read, unread): (Vec<_>, Vec<_>) = left.samples.iter().partition(|sample| sample.lag_high_us.is_some());
    assert!(
        read.len() > 700 && read.iter().all(|sample| holds(&pair, sample)),
        "{written:?}"
    );
    // Some wait for the word of a later canary, and are told at the end.
    let text = metrics.render();
    let figure = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let amount = |samples: usize| f64::from(u32::try_from(samples).unwrap());
    let counted = figure("driftline_clock_bounds_violated_total{");
    let excluded = amount(unread.len());
    assert!(
        (excluded - counted).abs() < 0.5,
        "{excluded} excluded and {counted} counted"
    );
    for end in ["driftline_lag_low_seconds_count{", "driftline_lag_high_seconds_count{"] {
        assert!(
            (figure(end) - amount(read.len())).abs() < 0.5,
            "{} of {} in {end}",
            figure(end),
            read.len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_at_either_end_there_is_no_reading() {
    for (writes, watches) in [(None, Some(200)), (Some(200), None)] {
        let pair = lagging(Duration::from_millis(2), Delay::Fixed(Duration::from_millis(5)));
        let hosts = [writes, watches].map(|bound| Host::new(SystemClock::new(), 0, bound));
        let [_, watcher] = watched_quietly(&pair, hosts).await;
        assert!(watcher.samples.iter().all(|sample| sample.lag_high_us.is_none()));
        let seen: u64 = watcher
            .intervals
            .iter()
            .filter(|row| row.is_final)
            .map(|row| row.seen)
            .sum();
        assert!(seen > 400, "{seen}");
        assert!(watcher.intervals.iter().all(|row| row.high.p50_us.is_none()));
    }
}

/// As [`watched`]; what is shown in a scrape is not looked at.
async fn watched_quietly(pair: &Pair, hosts: [Arc<Host>; 2]) -> [Left; 2] {
    let [writes, watches] = hosts;
    let mut first = Rig::new(pair, "20/s").clock(writes.clone());
    first.setting.wall_bound = Some(Arc::new(KeptBound::of(writes).await));
    let mut second = Rig::new(pair, "20/s").clock(watches.clone());
    second.setting.wall_bound = Some(Arc::new(KeptBound::of(watches).await));
    second.spec.part = Part::Watch;
    let watcher = second.start();
    tokio::time::sleep(SECOND).await;
    let writer = first.start();
    tokio::time::sleep(SECOND * 30).await;
    [writer.stop().await.unwrap(), watcher.stop().await.unwrap()]
}

#[tokio::test(start_paused = true)]
async fn canaries_that_arrive_in_no_order_are_looked_for_one_by_one() {
    let late = |n: u64, _| Some(Duration::from_millis(if n.is_multiple_of(10) { 3_000 } else { 30 }));
    let store = ends(Scattered::new(4, late));
    let rig = |off_us: i64| {
        let host = Host::new(SystemClock::new(), off_us, Some(2_050));
        let rig = Rig::over(store.clone(), store.clone(), Polling::DYNAMODB, "5/s");
        (rig.clock(host.clone()), host)
    };
    let ((mut first, writes), (mut second, watches)) = (rig(2_000), rig(-2_000));
    first.setting.wall_bound = Some(Arc::new(KeptBound::of(writes).await));
    second.setting.wall_bound = Some(Arc::new(KeptBound::of(watches).await));
    second.spec.part = Part::Watch;
    let watcher = second.start();
    tokio::time::sleep(SECOND).await;
    let writer = first.start();
    tokio::time::sleep(SECOND * 60).await;
    let writer = writer.stop().await.unwrap();
    tokio::time::sleep(SECOND * 5).await;
    watcher.stated.send_replace(crate::rig::writers(2, &["usw2"]));
    tokio::time::sleep(SECOND * 300).await;
    let watcher = watcher.stop().await.unwrap();
    assert!(
        watcher.intervals.len() < 6,
        "what it slept through it has not observed: {}",
        watcher.intervals.len()
    );
    let seen = usize::try_from(writer.accounting().seen).unwrap();
    assert!(
        seen > 200 && watcher.samples.len() + 5 > seen,
        "{} of {seen}",
        watcher.samples.len()
    );
    for sample in &watcher.samples {
        let truth = store.truth_us(&sample.stream, sample.sequence).unwrap();
        let (low, high) = (sample.lag_low_us.unwrap(), sample.lag_high_us.unwrap());
        assert!(low <= truth && truth <= high, "{truth}: {sample:?}");
        assert!(high < truth * 3 / 2 + 300_000, "{truth}: {sample:?}");
    }
}

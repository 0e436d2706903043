//! The measured interval holds the true lag.

use std::sync::Arc;
use std::time::Duration;

use probes::FinalState;
use stores::memory::{Delay, Pair, Settings};

use crate::rig::{Left, Rig, TestClock, assert_all_seen, canary, pair};

const MS: Duration = Duration::from_millis(1);

/// (canaries seen, of those with the true lag outside of the interval, of those with a known low end).
fn judge(pair: &Pair, left: &Left) -> (usize, usize, usize) {
    let seen: Vec<_> = left
        .samples
        .iter()
        .filter(|sample| sample.state == FinalState::Seen)
        .collect();
    let outside = seen.iter().filter(|sample| {
        let canary = canary(sample);
        let (committed, visible) = (pair.committed_at(&canary).unwrap(), pair.visible_at(&canary).unwrap());
        let truth = u64::try_from((visible - committed).as_micros()).unwrap();
        !(sample.lag_low_us.unwrap() <= truth && truth <= sample.lag_high_us.unwrap())
    });
    let known = seen.iter().filter(|sample| sample.low_known).count();
    (seen.len(), outside.count(), known)
}

#[tokio::test(start_paused = true)]
async fn the_interval_contains_the_true_lag_for_delays_from_1_ms_to_10_s() {
    for (low, high) in [(1, 1), (1, 20), (50, 200), (470, 470), (1_000, 3_000), (10_000, 10_000)] {
        let pair = pair(Settings {
            delay: Delay::Between(MS * low, MS * high),
            round_trip: MS * 4,
            ring_slots: 64,
            ..Settings::default()
        });
        let left = Rig::new(&pair, "20/s").run_for(Duration::from_secs(60)).await;
        let (seen, outside, known) = judge(&pair, &left);
        assert!(seen > 1_000, "{seen} seen");
        assert!(
            outside * 1_000 <= seen,
            "{outside} of {seen} outside for {low}..{high} ms"
        );
        assert!(
            low < 50 || known * 100 > seen * 95,
            "{known} of {seen} with a known low end"
        );
        let accounting = left.accounting();
        assert_all_seen(&accounting, "accuracy");
        assert!(left.summary.is_drained());
        assert_eq!(left.samples.len() as u64, accounting.planned - accounting.skipped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_far_watcher_widens_the_interval_and_high_alone_would_accuse_the_store() {
    let pair = pair(Settings {
        delay: Delay::Fixed(MS * 470),
        round_trip: MS * 64,
        ..Settings::default()
    });
    let left = Rig::new(&pair, "5/s").run_for(Duration::from_secs(120)).await;
    let last = left
        .intervals
        .iter()
        .filter(|row| row.is_final)
        .max_by_key(|row| row.planned)
        .unwrap();
    assert!(last.low.p50_us.unwrap() < 470_000, "{:?}", last.low);
    assert!(last.high.p50_us.unwrap() > 500_000, "{:?}", last.high);
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_changes_no_lag_and_no_date_within_an_epoch() {
    let pair = pair(Settings {
        delay: Delay::Fixed(MS * 100),
        round_trip: MS * 2,
        ..Settings::default()
    });
    let clock = Arc::new(TestClock::stepping_by(-3_600_000_000));
    let left = Rig::new(&pair, "5/s")
        .clock(clock)
        .run_for(Duration::from_secs(150))
        .await;
    let (seen, outside, _) = judge(&pair, &left);
    assert!(seen > 500 && outside == 0, "{outside} of {seen}");
    assert!(
        left.samples
            .iter()
            .all(|sample| (1_795_251_600_000_000..1_795_251_800_000_000).contains(&sample.planned_at_us))
    );
    let mut starts: Vec<i64> = left.intervals.iter().map(|row| row.interval_start_us).collect();
    starts.dedup();
    assert!(
        starts.windows(2).all(|pair| pair[1] - pair[0] == 60_000_000),
        "{starts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn between_canaries_nobody_polls() {
    let pair = pair(Settings {
        delay: Delay::Fixed(MS * 3),
        round_trip: MS,
        ..Settings::default()
    });
    let running = Rig::new(&pair, "10/s").start();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let polls: f64 = running
        .metrics
        .render()
        .lines()
        .filter(|line| line.starts_with("driftline_requests_total{") && line.contains("operation=\"poll\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!(
        (1_000.0..5_000.0).contains(&polls),
        "{polls} polls for about 1,000 canaries"
    );
    assert!(running.stop().await.unwrap().accounting().seen > 800);
}

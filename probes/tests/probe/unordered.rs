//! Stores that prove one canary at a time, and polls over long round trips.

use std::sync::Arc;
use std::time::Duration;

use probes::{FinalState, LagSample, Polling};

use crate::rig::{Left, Rig};
use crate::scattered::{Scattered, ends};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// (seen, of those outside of the truth).
fn judge(store: &Scattered, left: &Left) -> (usize, usize) {
    let seen = || left.samples.iter().filter(|sample| sample.state == FinalState::Seen);
    let is_outside = |sample: &&LagSample| {
        let truth = store.truth_us(&sample.stream, sample.sequence).unwrap();
        !(sample.lag_low_us.unwrap() <= truth && truth <= sample.lag_high_us.unwrap())
    };
    (seen().count(), seen().filter(is_outside).count())
}

async fn probed(store: Scattered, polling: Polling, rate: &str, length: Duration) -> (Arc<Scattered>, Left) {
    let store = ends(store);
    let left = Rig::over(store.clone(), store.clone(), polling, rate)
        .drain(SECOND * 90)
        .run_for(length)
        .await;
    (store, left)
}

/// Delays by name: the n-th canary, at this time.
fn delay(kind: &str) -> impl Fn(u64, Duration) -> Option<Duration> + Send + Sync + 'static {
    let kind = kind.to_owned();
    move |n, at| {
        Some(match kind.as_str() {
            "1 ms" => MS,
            "470 ms" => MS * 470,
            "60 s" => SECOND * 60,
            "bimodal" if n.is_multiple_of(10) => SECOND * 3,
            "bimodal" => MS * 8,
            // Every tenth of a minute nothing arrives for two seconds, then all of it at once.
            "bursty" => {
                let into = u64::try_from(at.as_millis()).unwrap() % 6_000;
                Duration::from_millis(if into > 4_000 { 6_000 - into } else { 5 })
            }
            "stalled" if (SECOND * 20..SECOND * 50).contains(&at) => SECOND * 70 - at,
            "stalled" => MS * 30,
            other => panic!("no delay {other}"),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_interval_contains_the_true_lag_whatever_the_delay_the_round_trip_and_the_order() {
    for kind in ["1 ms", "470 ms", "60 s", "bimodal", "bursty", "stalled"] {
        for round_trip_ms in [0, 60] {
            for is_ordered in [true, false] {
                let store = Scattered::new(round_trip_ms, delay(kind));
                let (store, polling) = if is_ordered {
                    (store.ordered(), Polling::AURORA)
                } else {
                    (store, Polling::DYNAMODB)
                };
                let (store, left) = probed(store, polling, "5/s", SECOND * 60).await;
                let (seen, outside) = judge(&store, &left);
                let accounting = left.accounting();
                let case = format!("{kind}, {round_trip_ms} ms, ordered: {is_ordered}: {accounting:?}");
                assert!(
                    seen > 230 && outside * 1_000 <= seen,
                    "{outside} of {seen} outside: {case}"
                );
                assert_eq!(accounting.planned - accounting.skipped, accounting.seen, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_round_trip_does_not_widen_readings_by_itself_twice() {
    for (store, polling) in [
        (Scattered::new(60, delay("470 ms")).ordered(), Polling::AURORA),
        (Scattered::new(60, delay("470 ms")), Polling::DYNAMODB),
    ] {
        let (_, left) = probed(store, polling, "2/s", SECOND * 120).await;
        let mut widths: Vec<u64> = left
            .samples
            .iter()
            .filter(|sample| sample.low_known)
            .map(|sample| sample.lag_high_us.unwrap() - sample.lag_low_us.unwrap())
            .collect();
        widths.sort_unstable();
        assert!(widths.len() > 200, "{} readings", widths.len());
        // The write and the poll that hit take 60 ms each; the rest is the gap between two polls: at most 10 % of 470 ms, or a
        // quarter of a round trip. One poll at a time would add the 60 ms of the poll that missed.
        let median = widths[widths.len() / 2];
        assert!(median < 170_000, "{median} us");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_asks_for_what_is_due_in_bounded_requests_and_throttled_slots_are_no_misses() {
    let store = Scattered::new(4, |n, _| Some(if n < 300 { SECOND * 40 } else { MS * 50 })).reads_max(7);
    let (store, left) = probed(store, Polling::DYNAMODB, "20/s", SECOND * 60).await;
    let (seen, outside) = judge(&store, &left);
    assert!(seen > 1_000 && outside == 0, "{outside} of {seen} outside");
    let (_, sought_most) = store.polls();
    assert!(
        (20..=probes::SOUGHT_MAX).contains(&sought_most),
        "{sought_most} at a time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_unordered_store_costs_a_logarithmic_number_of_looks() {
    let store = Scattered::new(4, |_, _| Some(SECOND * 60));
    let (store, left) = probed(store, Polling::S3, "6/min", SECOND * 120).await;
    let seen = left.accounting().seen;
    let (polls, _) = store.polls();
    assert!(
        seen >= 8 && polls < seen * 60,
        "{polls} polls for {seen} canaries of a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_store_supersedes_what_its_ring_overwrites_and_accounts_for_everything() {
    let store = Scattered::new(4, |n, _| (n < 50).then_some(MS * 20)).ring_slots(200);
    let (_, left) = probed(store, Polling::DYNAMODB, "10/s", SECOND * 120).await;
    let accounting = left.accounting();
    assert_eq!((accounting.seen, accounting.lost), (50, 0), "{accounting:?}");
    assert!(
        accounting.pending <= 200 && accounting.superseded > 800,
        "{accounting:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn duplicates_and_foreign_objects_are_counted() {
    let store = ends(Scattered::new(4, delay("1 ms")));
    let running = Rig::over(store.clone(), store.clone(), Polling::DYNAMODB, "5/s").start();
    tokio::time::sleep(SECOND * 30).await;
    let text = running.metrics.render();
    let figure = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let duplicates = figure("driftline_canaries_duplicate_total{");
    assert!(duplicates > 100.0, "{duplicates}");
    assert!((figure("driftline_canaries_foreign_total{") - duplicates * 2.0).abs() < 0.5);
    running.stop().await.unwrap();
}

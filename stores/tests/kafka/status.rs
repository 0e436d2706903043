//! Lag in records by the mirror's own account.

use std::time::{Duration, Instant};

use stores::{CollectionLag, End};

use super::setup::{PATIENCE, ends, pair};

async fn orders(secondary: &End) -> Option<CollectionLag> {
    let status = secondary.status.as_ref().unwrap().status().await.unwrap();
    status.collections.get("orders").copied()
}

pub(crate) async fn until_lag(secondary: &End, records: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lag = orders(secondary).await;
        if lag.is_some_and(|lag| lag.lag_records == Some(records)) {
            return;
        }
        assert!(Instant::now() < deadline, "never {records}: {lag:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_in_records_rises_while_the_mirror_is_stalled_and_returns_to_zero() {
    let pair = pair(1).await;
    let [primary, secondary] = ends(&pair, 0);
    pair.mirror().stall();
    for number in 0..5_i32 {
        pair.produce("orders", number % 2, None, Some(b"o")).await.unwrap();
    }
    until_lag(&secondary, 5).await;
    pair.mirror().resume();
    until_lag(&secondary, 0).await;
    pair.mirror().stall();
    for _ in 0..3 {
        pair.produce("orders", 1, None, Some(b"o")).await.unwrap();
    }
    until_lag(&secondary, 3).await;
    pair.mirror().resume();
    until_lag(&secondary, 0).await;
    let status = secondary.status.as_ref().unwrap().status().await.unwrap();
    let link = status.link.unwrap();
    assert!(link.contains("mm2-offset-syncs.usw2.internal at use1"), "{link}");
    assert!(
        !status.collections.contains_key("driftline-canary"),
        "our own topic is no collection"
    );
    let at_primary = primary.status.as_ref().unwrap().status().await.unwrap();
    assert!(at_primary.collections.is_empty() && at_primary.link.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_primary_nothing_is_collected_and_the_secondary_still_answers() {
    let pair = pair(1).await;
    let [_, secondary] = ends(&pair, 0);
    pair.produce("orders", 0, None, Some(b"o")).await.unwrap();
    until_lag(&secondary, 0).await;
    pair.primary().broker_down(-1).unwrap();
    let status = secondary.status.as_ref().unwrap().status().await.unwrap();
    assert!(status.collections.is_empty(), "{:?}", status.collections);
    assert!(status.link.is_none());
}

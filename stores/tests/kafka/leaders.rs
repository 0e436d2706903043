//! Partitions without a leader and brokers that are gone.

use std::time::{Duration, Instant};

use stores::{Sought, StoreError, WriteOutcome};

use super::setup::{STREAM, TOPIC, canary, ends, pair, poll, reader, sequences, until, write, writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_a_leader_delays_no_other() {
    let pair = pair(2).await;
    for (cluster, topic) in [
        (pair.primary(), TOPIC.to_owned()),
        (pair.secondary(), format!("use1.{TOPIC}")),
    ] {
        cluster.lead(&topic, 0, 2).unwrap();
        cluster.lead(&topic, 1, 1).unwrap();
    }
    let [dead, dead_there] = ends(&pair, 0);
    let [alive, alive_there] = ends(&pair, 1);
    for (primary, secondary) in [(&dead, &dead_there), (&alive, &alive_there)] {
        write(primary, &canary('a', 1)).await;
        until(secondary, |sighting, _| sequences(sighting) == [1]).await;
    }
    pair.primary().broker_down(2).unwrap();
    // One refuses, the other hangs.
    pair.secondary().slow_down(2, Duration::from_secs(6)).unwrap();
    let (second, third) = (canary('a', 2), canary('a', 3));
    let hangs = tokio::join!(
        writer(&dead).write(&second),
        reader(&dead_there).poll(STREAM, Sought::All),
        async {
            let started = Instant::now();
            write(&alive, &third).await;
            until(&alive_there, |sighting, _| sequences(sighting) == [1, 3]).await;
            started.elapsed()
        }
    );
    let (written, polled, took) = hangs;
    assert!(
        matches!(written, WriteOutcome::Unknown(_)),
        "sent for four seconds, and nobody took it: {written:?}"
    );
    let error = polled.unwrap_err();
    assert!(
        error.is_passing() && error.to_string().contains(&format!("use1.{TOPIC}-0")),
        "{error}"
    );
    assert!(took < Duration::from_secs(3), "the other partition waited {took:?}");
    pair.primary().broker_up(2).unwrap();
    pair.secondary().slow_down(2, Duration::ZERO).unwrap();
    write(&dead, &canary('a', 4)).await;
    let (sighting, _) = until(&dead_there, |sighting, _| sequences(sighting).contains(&4)).await;
    assert!(sighting.strong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_answer_is_unreachable_and_comes_back() {
    let pair = pair(1).await;
    let [primary, secondary] = ends(&pair, 0);
    write(&primary, &canary('a', 1)).await;
    until(&secondary, |sighting, _| sequences(sighting) == [1]).await;
    pair.secondary().broker_down(-1).unwrap();
    let error = reader(&secondary).poll(STREAM, Sought::All).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    let error = secondary.identify.identity().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    pair.secondary().broker_up(-1).unwrap();
    let before = poll_when_up(&secondary).await;
    assert_eq!(before, [1]);
    write(&primary, &canary('a', 2)).await;
    until(&secondary, |sighting, _| sequences(sighting) == [1, 2]).await;
}

async fn poll_when_up(end: &stores::End) -> Vec<u64> {
    until(end, |_, _| true).await;
    sequences(&poll(end).await)
}

//! A broker that answers late because of a quota: that widens readings, and proves nothing.

use std::sync::Arc;

use lab::KafkaServer;
use probes::{FinalState, Polling, SystemClock};
use stores::kafka::{self, InitSpec};

use super::servers::kafka_config;
use super::{Span, counted, oldest, seen_more, settled, until, wall_us};
use crate::rig::{Rig, assert_all_seen};

/// As the brokers know driftline.
const CLIENT_ID: &str = "driftline";
/// A reading that is wider than this was made by a client that had to wait.
const FELT_US: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_client_of_kafka_reads_wider_and_claims_no_lag_and_no_loss() {
    let server = KafkaServer::start_alone().await.unwrap();
    // One cluster at both ends: what is acknowledged can be seen at once, so that the true lag is none.
    let config = kafka_config([(); 2].map(|()| server.bootstrap().remove(0)));
    kafka::init(&config, "use1", &InitSpec::default()).await.unwrap();
    let [primary, secondary] = kafka::open(&config, "use1", "usw2", 0).unwrap();
    let (writer, reader) = (primary.canary_writer.unwrap(), secondary.canary_reader.unwrap());
    let running = Rig::over(writer, reader, Polling::KAFKA, "5/s")
        .clock(Arc::new(SystemClock::new()))
        .start();
    seen_more(&running, 10.0).await;

    server.throttle(CLIENT_ID).await.unwrap();
    let from_us = wall_us();
    // The brokers go by what was read and written over some seconds.
    until("the quota is felt", &running, |running| oldest(running) > 2.0).await;
    seen_more(&running, 20.0).await;
    let throttled = Span {
        from_us,
        until_us: wall_us(),
    };
    assert!(counted(&running, "lost") + counted(&running, "superseded") < 0.5);
    server.relieve(CLIENT_ID).await.unwrap();
    settled(&running).await;
    seen_more(&running, 10.0).await;

    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_all_seen(&accounting, "a quota");
    let seen: Vec<_> = left
        .samples
        .iter()
        .filter(|sample| sample.state == FinalState::Seen)
        .collect();
    for sample in &seen {
        assert_eq!(sample.lag_low_us, Some(0), "a late answer is taken for lag: {sample:?}");
    }
    let felt = seen.iter().filter(|sample| throttled.has(sample.sent_at_us.unwrap()));
    let felt = felt.filter(|sample| sample.lag_high_us.unwrap() > FELT_US).count();
    assert!(felt > 3, "{felt} canaries were throttled of {}", seen.len());
}

//! Real clusters with MirrorMaker 2. They take seconds to start, so that one pair serves several parts.

use async_trait::async_trait;
use lab::{KafkaServers, KafkaServersOptions};
use stores::End;
use stores::conformance::Fixture;
use stores::kafka::{check_canary, open, partitions};

use super::contracts::assert_holds;
use super::setup::{PATIENCE, TOPIC, canary, config, poll, sequences, until, write};
use super::status::until_lag;

struct Real<'p> {
    pair: &'p KafkaServers,
    ends: [End; 2],
}

#[async_trait]
impl Fixture for Real<'_> {
    fn primary(&self) -> End {
        self.ends[0].clone()
    }

    fn secondary(&self) -> End {
        self.ends[1].clone()
    }

    fn collection(&self) -> String {
        "orders".to_owned()
    }

    async fn put(&self, rows: &[(i64, Option<&str>)]) {
        for (number, body) in rows {
            let key = number.to_string();
            let put = self
                .pair
                .primary()
                .produce("orders", 0, Some(key.as_bytes()), body.map(str::as_bytes));
            put.await.unwrap();
        }
    }

    async fn delete(&self, numbers: &[i64]) {
        for number in numbers {
            self.put(&[(*number, None)]).await;
        }
    }

    async fn settle(&self) {
        self.pair.settle(PATIENCE).await.unwrap();
    }

    async fn stall(&self) {
        self.pair.mirror().stall();
    }

    async fn resume(&self) {
        self.pair.mirror().resume();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_pair_holds_every_contract_and_its_mirror_stalls_dies_and_repeats() {
    let pair = KafkaServers::start(KafkaServersOptions {
        topics: vec![(TOPIC.to_owned(), 2), ("orders".to_owned(), 2)],
        ..KafkaServersOptions::default()
    })
    .await
    .unwrap();
    let config = config(pair.primary().bootstrap(), pair.secondary().bootstrap());
    let ends = |partition| open(&config, "use1", "usw2", partition).unwrap();
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(partitions(&config, "use1").await.unwrap(), [0, 1]);
    assert_eq!(
        check_canary(&config, "use1", "usw2").await.unwrap(),
        Vec::<String>::new()
    );
    assert_holds(&Real {
        pair: &pair,
        ends: ends(0),
    })
    .await;
    let [primary, secondary] = ends(1);
    lag_rises_while_the_mirror_is_stopped(&pair, &secondary).await;
    a_killed_mirror_repeats(&pair, &primary, &secondary).await;
}

async fn lag_rises_while_the_mirror_is_stopped(pair: &KafkaServers, secondary: &End) {
    let order = |partition| pair.primary().produce("orders", partition, None, Some(b"order"));
    for partition in [0, 1] {
        order(partition).await.unwrap();
    }
    until_lag(secondary, 0).await;
    pair.mirror().stall();
    for number in 0..6 {
        order(number % 2).await.unwrap();
    }
    until_lag(secondary, 6).await;
    pair.mirror().resume();
    until_lag(secondary, 0).await;
}

/// Killed before it has noted how far it was, a mirror sends some records again, and loses none.
async fn a_killed_mirror_repeats(pair: &KafkaServers, primary: &End, secondary: &End) {
    poll(secondary).await;
    let mut sequence = 0;
    let mut duplicates = 0;
    // It notes every second; when it noted just before it was killed, nothing is repeated: then once more.
    while duplicates == 0 {
        assert!(sequence < 100, "killed in vain {sequence} canaries long");
        for _ in 0..20 {
            sequence += 1;
            write(primary, &canary('a', sequence)).await;
        }
        until(secondary, |sighting, _| sequences(sighting).last() == Some(&sequence)).await;
        pair.mirror().kill();
        pair.mirror().start_again().await.unwrap();
        sequence += 1;
        write(primary, &canary('a', sequence)).await;
        let (sighting, oddities) = until(secondary, |sighting, _| sequences(sighting).last() == Some(&sequence)).await;
        assert_eq!(sequences(&sighting), (1..=sequence).collect::<Vec<_>>());
        assert_eq!(oddities.foreign, 0);
        duplicates += oddities.duplicates;
    }
}

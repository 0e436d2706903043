//! The suite of contracts.

use async_trait::async_trait;
use lab::KafkaPair;
use stores::End;
use stores::conformance::{Fixture, check};

use super::setup::{PATIENCE, ends, pair};

struct Simulated {
    pair: KafkaPair,
    ends: [End; 2],
}

#[async_trait]
impl Fixture for Simulated {
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
            let body = body.map(str::as_bytes);
            self.pair
                .produce("orders", 0, Some(key.as_bytes()), body)
                .await
                .unwrap();
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
async fn a_simulated_pair_holds_every_contract() {
    let pair = pair(1).await;
    let fixture = Simulated {
        ends: ends(&pair, 1),
        pair,
    };
    assert_holds(&fixture).await;
}

pub(crate) async fn assert_holds(fixture: &dyn Fixture) {
    let breaches = check(fixture).await;
    let seen: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "\n{}", seen.join("\n"));
}

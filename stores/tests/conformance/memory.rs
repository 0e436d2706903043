//! The reference pair, alone and within the wrapper.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use async_trait::async_trait;
use stores::conformance::Fixture;
use stores::limited::{self, Bounds};
use stores::memory::{Delay, Pair, Settings, Side, Tolerance, fields};
use stores::{End, KeyShape, Value, faulty};

use super::assert_holds;

pub(crate) struct Memory {
    pub(crate) pair: Pair,
    pub(crate) ends: [End; 2],
    tells_versions: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let pair = Pair::new(Settings {
            delay: Delay::Between(Duration::from_millis(1), Duration::from_millis(30)),
            round_trip: Duration::from_millis(2),
            ..Settings::default()
        });
        pair.create_table("another", &["id"], &["id"]);
        pair.create_table("rows", &["id"], &["id", "body"]);
        let ends = [pair.primary(), pair.secondary()];
        Self {
            pair,
            ends,
            tells_versions: true,
        }
    }

    /// The same pair as the store without order shows it.
    pub(crate) fn unordered() -> Self {
        let memory = Self::new();
        let tolerance = Tolerance {
            column: "expires_at_us".to_owned(),
            within: 1_000,
        };
        Self {
            ends: [Side::Primary, Side::Secondary].map(|side| memory.pair.unordered(side, Some(tolerance.clone()))),
            tells_versions: false,
            ..memory
        }
    }
}

#[async_trait]
impl Fixture for Memory {
    fn primary(&self) -> End {
        self.ends[0].clone()
    }

    fn secondary(&self) -> End {
        self.ends[1].clone()
    }

    fn collection(&self) -> String {
        "rows".to_owned()
    }

    async fn put(&self, rows: &[(i64, Option<&str>)]) {
        for (number, body) in rows {
            let body = body.map_or(Value::Null, |body| Value::Text(body.to_owned()));
            self.pair.put("rows", self.key(*number), fields([("body", body)]));
        }
    }

    async fn delete(&self, numbers: &[i64]) {
        for number in numbers {
            self.pair.delete("rows", self.key(*number));
        }
    }

    fn tells_versions(&self) -> bool {
        self.tells_versions
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(31)).await;
    }

    async fn stall(&self) {
        self.pair.stall();
    }

    async fn resume(&self) {
        self.pair.resume();
    }
}

#[tokio::test(start_paused = true)]
async fn the_reference_pair_holds_every_contract() {
    assert_holds(&Memory::new()).await;
}

#[tokio::test(start_paused = true)]
async fn so_it_does_when_keys_have_no_common_order() {
    let memory = Memory::new();
    for side in [Side::Primary, Side::Secondary] {
        let found = memory.pair.edit_catalog(side, "rows", |collection| {
            if let KeyShape::Usable { order_identity, .. } = &mut collection.key {
                *order_identity = None;
            }
        });
        assert!(found);
    }
    assert_holds(&memory).await;
}

#[tokio::test(start_paused = true)]
async fn the_unordered_pair_holds_every_contract() {
    assert_holds(&Memory::unordered()).await;
}

#[tokio::test(start_paused = true)]
async fn the_wrapper_without_faults_holds_every_contract() {
    for mut memory in [Memory::new(), Memory::unordered()] {
        memory.ends = memory.ends.each_ref().map(|end| faulty::wrap(end).0);
        assert_holds(&memory).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_limited_holds_every_contract() {
    let bounds = Bounds {
        requests_per_second: NonZeroU32::new(200),
        in_flight: NonZeroUsize::new(1),
        rows_per_second: NonZeroU64::new(20_000),
    };
    for mut memory in [Memory::new(), Memory::unordered()] {
        memory.ends = memory.ends.each_ref().map(|end| limited::wrap(end, bounds));
        assert_holds(&memory).await;
    }
}

//! Each scripted fault does what it says, and a fault in a listing never looks like its end.

use std::time::Duration;

use futures::{FutureExt, TryStreamExt};
use stores::conformance::Fixture;
use stores::faulty::{Call, Fault, Script, wrap};
use stores::{
    Canary, Collection, End, Key, Listing, Part, Recipe, RowDigest, ScanPart, Sought, StoreError, Trouble, WriteOutcome,
};

use super::memory::Memory;

fn error(cause: &str) -> StoreError {
    StoreError::Retryable {
        after: None,
        trouble: Trouble::new("usw2", "try", cause),
    }
}

/// The items before the end or the error, and the error.
async fn items(mut listing: Listing) -> (Vec<(Key, RowDigest)>, Option<StoreError>) {
    let mut items = Vec::new();
    loop {
        match listing.try_next().await {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

struct Bench {
    memory: Memory,
    end: End,
    script: Script,
    collection: Collection,
    recipe: Recipe,
}

async fn bench() -> Bench {
    let memory = Memory::new();
    memory.put(&[(1, Some("a")), (2, None), (3, Some("c"))]).await;
    let (end, script) = wrap(&memory.primary());
    let mut collections = end.catalog.as_ref().unwrap().collections().await.unwrap();
    let collection = collections.pop().unwrap();
    let columns = ["id".to_owned(), "body".to_owned()];
    let recipe = end
        .ranged
        .as_ref()
        .unwrap()
        .recipe(&collection, &columns, 1)
        .await
        .unwrap();
    Bench {
        memory,
        end,
        script,
        collection,
        recipe,
    }
}

impl Bench {
    async fn list(&self) -> (Vec<(Key, RowDigest)>, Option<StoreError>) {
        let ranged = self.end.ranged.as_ref().unwrap();
        items(ranged.list(&self.collection, &self.recipe, &Part::ALL).await.unwrap()).await
    }

    async fn scan(&self) -> (Vec<(Key, RowDigest)>, Option<StoreError>) {
        let scanned = self.end.scanned.as_ref().unwrap();
        items(
            scanned
                .scan(&self.collection, &self.recipe, &ScanPart::WHOLE)
                .await
                .unwrap(),
        )
        .await
    }

    async fn digest(&self) -> stores::Result<stores::ChunkDigest> {
        let ranged = self.end.ranged.as_ref().unwrap();
        ranged.digest(&self.collection, &self.recipe, &Part::ALL).await
    }

    async fn write(&self, sequence: u64) -> WriteOutcome {
        let canary = Canary {
            stream: "s".to_owned(),
            epoch: "e".to_owned(),
            sequence,
            stamp: None,
        };
        self.end.canary_writer.as_ref().unwrap().write(&canary).await
    }

    async fn highest(&self) -> u64 {
        let writer = self.memory.primary().canary_writer.unwrap();
        writer.highest_sequence("s").await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_on_the_last_page_never_looks_like_the_end() {
    let bench = bench().await;
    let faults = [
        (Fault::EmptyThenError(error("empty")), 0),
        (Fault::FailAtItem(2, error("second")), 2),
        (Fault::FailAtItem(9, error("beyond")), 3),
        (Fault::FailAtEnd(error("last")), 3),
    ];
    for (fault, items) in faults {
        bench.script.next(Call::List, fault.clone());
        let (listed, failed) = bench.list().await;
        assert_eq!(listed.len(), items, "{fault:?}");
        assert!(failed.is_some(), "{fault:?} looks like the end");
        bench.script.next(Call::Scan, fault.clone());
        let (scanned, failed) = bench.scan().await;
        assert_eq!(scanned.len(), items, "{fault:?}");
        assert!(failed.is_some(), "{fault:?} looks like the end of a scan");
    }
    for (listed, failed) in [bench.list().await, bench.scan().await] {
        assert_eq!((listed.len(), failed), (3, None));
    }
}

#[tokio::test(start_paused = true)]
async fn faults_come_in_their_order_and_then_end() {
    let bench = bench().await;
    bench.script.spare(Call::Digest, 1);
    bench.script.next(Call::Digest, Fault::Reject(error("first")));
    bench.script.next(Call::Digest, Fault::FailAfterWrite(error("second")));
    assert_eq!(bench.digest().await.unwrap().count, 3);
    assert_eq!(bench.digest().await, Err(error("first")));
    assert_eq!(bench.digest().await, Err(error("second")));
    assert_eq!(bench.digest().await.unwrap().count, 3);
    bench.script.always(Call::Digest, Some(Fault::Reject(error("always"))));
    assert_eq!(bench.digest().await, Err(error("always")));
    assert_eq!(bench.digest().await, Err(error("always")));
    bench.script.always(Call::Digest, None);
    assert!(bench.digest().await.is_ok());
    assert_eq!(bench.script.calls(Call::Digest), 7);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_done_and_not_answered_is_unknown() {
    let bench = bench().await;
    bench.script.next(Call::WriteCanary, Fault::Reject(error("refused")));
    assert!(matches!(bench.write(1).await, WriteOutcome::Failed(_)));
    assert_eq!(bench.highest().await, 0, "rejected is not written");
    bench
        .script
        .next(Call::WriteCanary, Fault::FailAfterWrite(error("cut")));
    assert!(matches!(bench.write(2).await, WriteOutcome::Unknown(_)));
    assert_eq!(bench.highest().await, 2, "it is there all the same");
    bench
        .script
        .next(Call::WriteCanary, Fault::FailAfterWrite(error("cut")));
    assert!(
        matches!(bench.write(2).await, WriteOutcome::Failed(_)),
        "a refused write stays refused"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_slow_or_held() {
    let bench = bench().await;
    let start = tokio::time::Instant::now();
    bench
        .script
        .next(Call::Digest, Fault::RespondSlowly(Duration::from_secs(5)));
    bench.digest().await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(5));

    bench.script.next(Call::WriteCanary, Fault::HoldResponse);
    let mut held = Box::pin(bench.write(1));
    let waited = tokio::time::timeout(Duration::from_secs(60), &mut held).await;
    assert!(waited.is_err(), "nobody has released it");
    assert_eq!(bench.highest().await, 1, "the store has done it");
    bench.script.release();
    assert!(matches!(held.now_or_never(), Some(WriteOutcome::Acknowledged)));
}

#[tokio::test(start_paused = true)]
async fn every_call_can_be_rejected() {
    let bench = bench().await;
    let refused = || Fault::Reject(error("refused"));
    let calls = [
        Call::Identity,
        Call::Collections,
        Call::Status,
        Call::Fork,
        Call::HighestSequence,
        Call::Poll,
        Call::Recipe,
        Call::KnownAnswer,
        Call::Split,
        Call::Digest,
        Call::List,
        Call::Parts,
        Call::Scan,
        Call::Read,
        Call::Point,
        Call::Wait,
    ];
    for call in calls {
        bench.script.next(call, refused());
    }
    let (end, collection, recipe) = (&bench.end, &bench.collection, &bench.recipe);
    let (status, ranged) = (end.status.as_ref().unwrap(), end.ranged.as_ref().unwrap());
    let scanned = end.scanned.as_ref().unwrap();
    let (reader, fence) = (end.canary_reader.as_ref().unwrap(), end.fence.as_ref().unwrap());
    let request = stores::ReadRequest {
        collection,
        recipe,
        keys: &[],
        values: false,
        changed_at: None,
    };
    let patience = Duration::ZERO;
    let errors = [
        end.identify.identity().await.err(),
        end.catalog.as_ref().unwrap().collections().await.err(),
        status.status().await.err(),
        status.fork().await.err(),
        end.canary_writer.as_ref().unwrap().highest_sequence("s").await.err(),
        reader.poll("s", Sought::All).await.err(),
        ranged.recipe(collection, &recipe.columns, 1).await.err(),
        ranged.known_answer(collection, recipe).await.err(),
        ranged.split(collection, 1).await.err(),
        ranged.digest(collection, recipe, &Part::ALL).await.err(),
        ranged.list(collection, recipe, &Part::ALL).await.err(),
        scanned.parts(collection, 1).await.err(),
        scanned.scan(collection, recipe, &ScanPart::WHOLE).await.err(),
        end.reread.as_ref().unwrap().read(&request).await.err(),
        fence.point().await.err(),
        fence.wait(stores::Position(0), patience).await.err(),
    ];
    for (seen, call) in errors.into_iter().zip(calls) {
        assert_eq!(seen, Some(error("refused")), "{call:?}");
    }
}

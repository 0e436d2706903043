//! What the link between two DynamoDB servers does on demand.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use lab::{DynamoPair, LabError, TableSpec};

const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for a link of milliseconds to have shown that it does not settle.
const BRIEF: Duration = Duration::from_millis(300);

fn tables() -> [TableSpec; 1] {
    [TableSpec::new("rows", "id", ScalarAttributeType::N)]
}

async fn put(pair: &DynamoPair, side: usize, id: u32, body: &str) {
    let put = pair.client(side).put_item().table_name("rows");
    let put = put.item("id", AttributeValue::N(id.to_string()));
    put.item("body", AttributeValue::S(body.to_owned()))
        .send()
        .await
        .unwrap();
}

/// The rows of a side as `id=body`, sorted.
async fn rows(pair: &DynamoPair, side: usize) -> Vec<String> {
    let page = pair.client(side).scan().table_name("rows").send().await.unwrap();
    let shown = |item: &std::collections::HashMap<String, AttributeValue>| {
        format!("{}={}", item["id"].as_n().unwrap(), item["body"].as_s().unwrap())
    };
    let mut all: Vec<String> = page.items().iter().map(shown).collect();
    all.sort();
    all
}

/// What is asked of any pair.
async fn replicates(pair: &DynamoPair) {
    put(pair, 0, 1, "a").await;
    put(pair, 0, 2, "b").await;
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(rows(pair, 1).await, ["1=a", "2=b"]);
    let delete = pair.client(0).delete_item().table_name("rows");
    delete
        .key("id", AttributeValue::N("1".to_owned()))
        .send()
        .await
        .unwrap();
    put(pair, 0, 2, "c").await;
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(rows(pair, 1).await, ["2=c"]);
}

/// Something that a pair is told to do.
type Order = fn(&DynamoPair);

#[tokio::test]
async fn an_embedded_pair_replicates() {
    replicates(&DynamoPair::embedded(&tables()).await.unwrap()).await;
}

#[tokio::test]
async fn dynamodb_local_replicates_and_ends_with_its_handle() {
    let pair = DynamoPair::local(&tables()).await.unwrap();
    replicates(&pair).await;
    let processes = pair.processes();
    assert_eq!(processes.len(), 2);
    drop(pair);
    for pid in processes {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} still runs"
        );
    }
}

#[tokio::test]
async fn a_stalled_or_cut_link_settles_only_when_it_goes_on() {
    let pair = DynamoPair::embedded(&tables()).await.unwrap();
    let (stop, go): ([Order; 2], [Order; 2]) = (
        [DynamoPair::stall, DynamoPair::cut],
        [DynamoPair::resume, DynamoPair::restore],
    );
    for (id, (stop, go)) in (0..).zip(stop.into_iter().zip(go)) {
        stop(&pair);
        put(&pair, 0, id, "a").await;
        let late = pair.settle(BRIEF).await;
        assert!(matches!(late, Err(LabError::Late { .. })), "{late:?}");
        assert!(!rows(&pair, 1).await.contains(&format!("{id}=a")));
        go(&pair);
        pair.settle(PATIENCE).await.unwrap();
        assert!(rows(&pair, 1).await.contains(&format!("{id}=a")));
    }
}

#[tokio::test]
async fn a_dropped_change_never_arrives_and_is_counted() {
    let pair = DynamoPair::embedded(&tables()).await.unwrap();
    pair.drop_next(1);
    put(&pair, 0, 1, "a").await;
    pair.settle(PATIENCE).await.unwrap();
    put(&pair, 0, 2, "b").await;
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(rows(&pair, 1).await, ["2=b"]);
    assert_eq!(pair.lost(), 1);
}

#[tokio::test]
async fn a_later_change_overtakes_an_earlier_one() {
    let pair = DynamoPair::embedded(&tables()).await.unwrap();
    pair.reverse_next(2);
    put(&pair, 0, 1, "a").await;
    let held = pair.settle(BRIEF).await;
    assert!(held.is_err(), "the first of two was not held");
    put(&pair, 0, 1, "b").await;
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(rows(&pair, 1).await, ["1=a"], "the earlier change was applied last");
}

#[tokio::test]
async fn a_delayed_change_comes_when_it_is_due() {
    let pair = DynamoPair::embedded(&tables()).await.unwrap();
    pair.set_delay(Duration::from_secs(1));
    let written = std::time::Instant::now();
    put(&pair, 0, 1, "a").await;
    pair.settle(PATIENCE).await.unwrap();
    assert!(written.elapsed() >= Duration::from_secs(1));
    assert_eq!(rows(&pair, 1).await, ["1=a"]);
}

#[tokio::test]
async fn a_promotion_turns_the_direction_and_loses_what_was_under_way() {
    let pair = DynamoPair::embedded(&tables()).await.unwrap();
    put(&pair, 0, 1, "a").await;
    pair.settle(PATIENCE).await.unwrap();
    pair.cut();
    put(&pair, 0, 2, "lost").await;
    pair.promote().await.unwrap();
    pair.restore();
    assert_eq!(pair.writer(), 1);
    put(&pair, 1, 3, "b").await;
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(rows(&pair, 1).await, ["1=a", "3=b"]);
    assert_eq!(rows(&pair, 0).await, ["1=a", "2=lost", "3=b"]);
}

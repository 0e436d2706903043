//! What canaries leave alone, and what they leave behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;
use stores::{Sought, StoreError};

use super::setup::{Kind, PATIENCE, STREAM, Two, acknowledged, by_text, canary, end, poll, refused, text};

fn slot_key(slot: u64) -> String {
    format!("driftline-canary/{STREAM}/{slot}")
}

/// An item of somebody else under a reserved key is not overwritten, not shown, and counted once.
async fn a_foreign_item_is_left_alone(kind: Kind) {
    let two = Two::start(kind, by_text("profiles")).await;
    let put = two.pair.client(0).put_item().table_name("profiles");
    let theirs = put.item("id", text(&slot_key(5))).item("owner", text("somebody"));
    theirs.send().await.unwrap();
    let error = refused(&two.ends[0], &canary('a', 5)).await;
    assert!(
        matches!(&error, StoreError::Config(trouble) if trouble.cause.contains("no canary")),
        "{error}"
    );
    assert_eq!(two.item(0, &slot_key(5)).await.unwrap()["owner"], text("somebody"));
    acknowledged(&two.ends[0], &canary('a', 6)).await;
    let first = poll(&two.ends[0], &[5, 6]).await.unwrap();
    assert_eq!(
        (first.canaries.as_slice(), first.oddities.foreign),
        ([canary('a', 6)].as_slice(), 1)
    );
    let again = poll(&two.ends[0], &[5, 6]).await.unwrap();
    assert_eq!(again.oddities.foreign, 0, "counted twice");
}

#[tokio::test]
async fn foreign_items_are_left_alone() {
    a_foreign_item_is_left_alone(Kind::Embedded).await;
}

#[tokio::test]
async fn and_so_in_dynamodb_local() {
    a_foreign_item_is_left_alone(Kind::Local).await;
}

/// A canary that was copied by hand into another slot would prove an arrival that never was.
#[tokio::test]
async fn a_canary_counts_in_its_own_slot_alone() {
    let two = Two::start(Kind::Embedded, by_text("profiles")).await;
    acknowledged(&two.ends[0], &canary('a', 8)).await;
    let mut copy = two.item(0, &slot_key(8)).await.unwrap();
    copy.insert("id".to_owned(), text(&slot_key(9)));
    let put = two.pair.client(1).put_item().table_name("profiles");
    put.set_item(Some(copy.into_iter().collect())).send().await.unwrap();
    let seen = poll(&two.ends[1], &[9]).await.unwrap();
    assert_eq!((seen.canaries.len(), seen.oddities.foreign), (0, 1));
}

#[tokio::test]
async fn canaries_expire_by_the_tables_own_attribute() {
    let two = Two::start(Kind::Embedded, by_text("profiles").expires_by("ttl")).await;
    acknowledged(&two.ends[0], &canary('a', 1)).await;
    let item = two.item(0, &slot_key(1)).await.unwrap();
    assert_eq!(item["ttl"], item["driftline_expires_at"]);
    let AttributeValue::N(expires) = &item["ttl"] else {
        panic!("{item:?}");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let in_a_week = now + Duration::from_secs(7 * 24 * 3600);
    assert!(expires.parse::<u64>().unwrap() > in_a_week.as_secs(), "{expires}");
    let names: Vec<&str> = item.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "driftline_epoch",
            "driftline_expires_at",
            "driftline_seq",
            "driftline_stream",
            "id",
            "ttl"
        ]
    );
}

#[tokio::test]
async fn what_is_asked_for_is_counted() {
    let two = Two::start(Kind::Local, by_text("profiles")).await;
    acknowledged(&two.ends[0], &canary('a', 1)).await;
    let _late = refused(&two.ends[0], &canary('a', 1)).await;
    poll(&two.ends[0], &[1, 2, 3]).await.unwrap();
    let usage = two.ends[0].meter.as_ref().unwrap().usage();
    assert_eq!(usage["PutItem"].requests, 2, "the refused write is paid for as well");
    assert!((usage["PutItem"].units - 2.0).abs() < f64::EPSILON, "{usage:?}");
    assert_eq!(usage["BatchGetItem"].requests, 1);
    assert!(usage["BatchGetItem"].units >= 1.0, "{usage:?}");
    assert_eq!(usage["DescribeTable"].requests, 1, "described once");
    let reader = two.ends[0].canary_reader.as_ref().unwrap();
    reader.poll(STREAM, Sought::All).await.unwrap();
    let usage = two.ends[0].meter.as_ref().unwrap().usage();
    assert_eq!(usage["BatchGetItem"].requests, 1 + 41);
}

#[tokio::test]
async fn one_table_reached_twice_is_one() {
    let two = Two::start(Kind::Embedded, by_text("profiles")).await;
    let mut again = two.site(0);
    again.region = Some("us-west-2".to_owned());
    let again = end(&again, "usw2", "profiles").await;
    let one = two.ends[0].identify.identity().await.unwrap();
    assert!(one.same_data(&again.identify.identity().await.unwrap()));
    assert!(!one.same_data(&two.ends[1].identify.identity().await.unwrap()));
    assert_eq!(one.facts["key"], "id (String)");
}

/// What the copies do not have when one is lost: canaries of the lost side are absent, later ones arrive the other way.
#[tokio::test]
async fn a_promotion_loses_what_was_under_way() {
    let two = Two::start(Kind::Embedded, by_text("profiles")).await;
    acknowledged(&two.ends[0], &canary('a', 1)).await;
    two.settle().await;
    two.pair.cut();
    acknowledged(&two.ends[0], &canary('a', 2)).await;
    two.pair.promote().await.unwrap();
    two.pair.restore();
    acknowledged(&two.ends[1], &canary('b', 3)).await;
    two.pair.settle(PATIENCE).await.unwrap();
    let mut survivors = poll(&two.ends[1], &[1, 2, 3]).await.unwrap().canaries;
    survivors.sort_by_key(|canary| canary.sequence);
    assert_eq!(survivors, [canary('a', 1), canary('b', 3)]);
    let old: Vec<u64> = poll(&two.ends[0], &[3])
        .await
        .unwrap()
        .canaries
        .iter()
        .map(|canary| canary.sequence)
        .collect();
    assert_eq!(old, [3]);
}

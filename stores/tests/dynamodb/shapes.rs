//! Canaries in tables of every key shape.

use aws_sdk_dynamodb::types::ScalarAttributeType::{B, N, S};
use lab::TableSpec;
use stores::{Covers, StoreError};

use super::setup::{Kind, Two, acknowledged, canary, poll, refused};

fn every_shape() -> Vec<TableSpec> {
    let mut all = Vec::new();
    for partition in [S, N, B] {
        let table = || TableSpec::new("shaped", "name", partition.clone());
        all.push(table());
        all.extend([S, N, B].map(|sort| table().sorted_by("at", sort)));
    }
    all
}

/// Written here, seen there, guarded, and the highest found again, whatever the key is.
async fn holds_in(kind: Kind, table: TableSpec) {
    let words = format!("{table:?}");
    let two = Two::start(kind, table).await;
    for sequence in [1, 2, 4_095] {
        acknowledged(&two.ends[0], &canary('a', sequence)).await;
    }
    let newer = canary('b', 4_097);
    acknowledged(&two.ends[0], &newer).await;
    let late = refused(&two.ends[0], &canary('a', 1)).await;
    assert!(matches!(late, StoreError::Config(_)), "{words}: {late}");
    let writer = two.ends[0].canary_writer.as_ref().unwrap();
    assert_eq!(
        writer.highest_sequence(super::setup::STREAM).await,
        Ok(4_097),
        "{words}"
    );
    two.settle().await;
    let mut seen = poll(&two.ends[1], &[2, 4_095, 4_097, 4_098, 7]).await.unwrap();
    seen.canaries.sort_by_key(|canary| canary.sequence);
    assert_eq!(seen.canaries, [canary('a', 2), canary('a', 4_095), newer], "{words}");
    assert_eq!(seen.covers, Covers::Slots(vec![2, 4_095, 4_097, 4_098, 7]), "{words}");
    assert!(seen.strong && seen.oddities.foreign == 0, "{words}: {seen:?}");
}

#[tokio::test]
async fn canaries_take_the_shape_of_any_key() {
    for table in every_shape() {
        holds_in(Kind::Embedded, table).await;
    }
}

#[tokio::test]
async fn and_so_in_dynamodb_local() {
    for table in [
        TableSpec::new("shaped", "name", N).sorted_by("at", B),
        TableSpec::new("shaped", "name", B).sorted_by("at", N),
    ] {
        holds_in(Kind::Local, table).await;
    }
}

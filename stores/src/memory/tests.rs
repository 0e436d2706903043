//! The truth of the reference pair: what everything else is measured against.

use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::Instant;

use super::{Delay, Fields, NativeLag, Pair, Settings, Side, fields};
use crate::{
    Canary, Comparison, End, Key, Part, Position, ReadRequest, Reading, Readings, Recipe, Role, Sought, StoreError,
    Value, WriteOutcome,
};

const SECOND: Duration = Duration::from_secs(1);

fn pair(delay: Duration) -> Pair {
    let pair = Pair::new(Settings {
        delay: Delay::Fixed(delay),
        ..Settings::default()
    });
    pair.create_table("t", &["id"], &["id", "a"]);
    pair
}

fn a(value: i64) -> Fields {
    fields([("a", Value::Int(value))])
}

fn canary(sequence: u64) -> Canary {
    Canary {
        stream: "s".to_owned(),
        epoch: "e".to_owned(),
        sequence,
        stamp: None,
    }
}

async fn write(end: &End, sequence: u64) -> WriteOutcome {
    end.canary_writer.as_ref().unwrap().write(&canary(sequence)).await
}

async fn sequences(end: &End) -> Vec<u64> {
    let sighting = end
        .canary_reader
        .as_ref()
        .unwrap()
        .poll("s", Sought::All)
        .await
        .unwrap();
    let mut sequences: Vec<u64> = sighting.canaries.iter().map(|canary| canary.sequence).collect();
    sequences.sort_unstable();
    sequences
}

async fn recipe(end: &End) -> Recipe {
    let collection = &end.catalog.as_ref().unwrap().collections().await.unwrap()[0];
    let columns = ["id".to_owned(), "a".to_owned()];
    let ranged = end.ranged.as_ref().unwrap();
    ranged.recipe(collection, &columns, 7).await.unwrap()
}

async fn read(end: &End, keys: &[Key]) -> Readings {
    let collection = &end.catalog.as_ref().unwrap().collections().await.unwrap()[0];
    let request = ReadRequest {
        collection,
        recipe: &recipe(end).await,
        keys,
        values: true,
        changed_at: None,
    };
    end.reread.as_ref().unwrap().read(&request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_canary_is_visible_at_its_instant_and_not_before() {
    let pair = pair(SECOND);
    let start = Instant::now();
    assert!(matches!(write(&pair.primary(), 1).await, WriteOutcome::Acknowledged));
    assert_eq!(sequences(&pair.primary()).await, [1]);
    assert_eq!(pair.visible_at(&canary(1)), None);
    tokio::time::advance(SECOND - Duration::from_nanos(1)).await;
    assert_eq!(sequences(&pair.secondary()).await, [0u64; 0]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(sequences(&pair.secondary()).await, [1]);
    assert_eq!(
        pair.visible_at(&canary(1)),
        Some(start + SECOND),
        "whenever it was looked for"
    );
    assert_eq!(pair.committed_at(&canary(1)), Some(start));
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_is_paid_half_each_way() {
    let pair = pair(SECOND);
    pair.set_round_trip(Duration::from_millis(60));
    let start = Instant::now();
    write(&pair.primary(), 1).await;
    assert_eq!(start.elapsed(), Duration::from_millis(60));
    assert_eq!(pair.committed_at(&canary(1)), Some(start + Duration::from_millis(30)));
}

#[tokio::test(start_paused = true)]
async fn random_delays_never_change_the_order() {
    let pair = Pair::new(Settings {
        delay: Delay::Between(Duration::ZERO, SECOND),
        ..Settings::default()
    });
    for sequence in 1..=50 {
        write(&pair.primary(), sequence).await;
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    tokio::time::advance(SECOND).await;
    let instants: Vec<Instant> = (1..=50).map(|n| pair.visible_at(&canary(n)).unwrap()).collect();
    assert!(instants.is_sorted());
    let distinct = instants.windows(2).filter(|two| two[0] < two[1]).count();
    assert!(distinct > 1, "delays are drawn anew");
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_everything_and_its_end_is_the_instant_of_visibility() {
    let pair = pair(Duration::from_millis(10));
    pair.stall();
    write(&pair.primary(), 1).await;
    tokio::time::advance(10 * SECOND).await;
    assert!(sequences(&pair.secondary()).await.is_empty());
    let status = pair.secondary().status.unwrap();
    assert_eq!(status.status().await.unwrap().lag_us, Some(10_000_000));
    pair.set_native_lag(NativeLag::Zero);
    assert_eq!(status.status().await.unwrap().lag_us, Some(0));
    pair.resume();
    assert_eq!(sequences(&pair.secondary()).await, [1]);
    assert_eq!(pair.visible_at(&canary(1)), Some(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_change_never_arrives_and_its_position_is_passed() {
    let pair = pair(Duration::ZERO);
    pair.lose_next(1);
    let lost = pair.put("t", Key::int(1), a(1));
    pair.put("t", Key::int(2), a(2));
    assert_eq!(pair.row(Side::Secondary, "t", &Key::int(1)), None);
    assert!(pair.row(Side::Secondary, "t", &Key::int(2)).is_some());
    let fence = pair.secondary().fence.unwrap();
    assert!(fence.wait(Position(lost), Duration::ZERO).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_promotion_splits_the_pair() {
    let pair = pair(SECOND);
    write(&pair.primary(), 1).await;
    let committed_at = Instant::now();
    tokio::time::advance(2 * SECOND).await;
    write(&pair.primary(), 2).await;
    let (primary, secondary) = (pair.primary(), pair.secondary());
    assert!(matches!(
        write(&secondary, 9).await,
        WriteOutcome::Failed(StoreError::Config(_))
    ));
    assert!(pair.write_at(Side::Secondary, "t", Key::int(5), Some(a(5))).is_err());
    pair.promote();
    tokio::time::advance(5 * SECOND).await;
    assert_eq!(sequences(&secondary).await, [1], "what was on its way is lost");
    assert_eq!(sequences(&primary).await, [1, 2]);
    assert!(matches!(write(&secondary, 9).await, WriteOutcome::Acknowledged));
    pair.write_at(Side::Secondary, "t", Key::int(5), Some(a(5))).unwrap();
    pair.put("t", Key::int(6), a(6));
    assert!(pair.row(Side::Primary, "t", &Key::int(5)).is_none());
    assert!(pair.row(Side::Secondary, "t", &Key::int(6)).is_none());
    assert_eq!(secondary.identify.identity().await.unwrap().role, Role::Writable);
    let fork = secondary.status.as_ref().unwrap().fork().await.unwrap();
    assert_eq!(fork.at_high_us, pair.wall_us(committed_at));
    pair.restart(Side::Secondary);
    let fork = secondary.status.unwrap().fork().await;
    assert!(matches!(fork, Err(StoreError::Unsupported(_))));
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_shows_at_the_secondary_first_and_the_guard_sees_it() {
    let pair = pair(Duration::ZERO);
    pair.load("t", [(Key::int(1), a(1)), (Key::int(2), a(2))]);
    let keys = [Key::int(1), Key::int(2)];
    let (primary, secondary) = (pair.primary(), pair.secondary());
    let columns = recipe(&primary).await.columns;
    pair.set_primary_hold(SECOND);
    pair.put("t", Key::int(1), a(10));
    pair.delete("t", Key::int(2));
    let first = read(&primary, &keys).await;
    let there = read(&secondary, &keys).await;
    let again = read(&primary, &keys).await;
    for index in 0..2 {
        assert_eq!(first.rows[index], again.rows[index], "the primary shows neither change");
        let seen = primary
            .compare
            .as_ref()
            .unwrap()
            .compare(&first.rows[index], &there.rows[index], &columns);
        assert!(matches!(seen, Comparison::Differs { .. }), "the secondary shows both");
        assert!(
            primary
                .compare
                .as_ref()
                .unwrap()
                .guard(&first, &there, &again, index)
                .is_err()
        );
    }
    tokio::time::advance(SECOND).await;
    let first = read(&primary, &keys).await;
    for index in 0..2 {
        assert_eq!(
            primary.compare.as_ref().unwrap().guard(&first, &there, &first, index),
            Ok(())
        );
        let seen = primary
            .compare
            .as_ref()
            .unwrap()
            .compare(&first.rows[index], &there.rows[index], &columns);
        assert_eq!(seen, Comparison::Equal);
    }
}

#[tokio::test(start_paused = true)]
async fn planted_differences_stay_and_name_their_columns() {
    let pair = pair(Duration::ZERO);
    pair.load("t", (1..=3).map(|n| (Key::int(n), a(n))));
    pair.plant(Side::Secondary, "t", Key::int(1), Some(a(100)));
    pair.plant(Side::Primary, "t", Key::int(2), None);
    pair.plant_copies(Side::Secondary, "t", &Key::int(3), 2);
    let keys: Vec<Key> = (1..=3).map(Key::int).collect();
    let (here, there) = (read(&pair.primary(), &keys).await, read(&pair.secondary(), &keys).await);
    let compare = |index: usize| {
        let names = ["id".to_owned(), "a".to_owned()];
        match pair
            .primary()
            .compare
            .as_ref()
            .unwrap()
            .compare(&here.rows[index], &there.rows[index], &names)
        {
            Comparison::Differs { class, columns, .. } => (class.word(), columns),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(compare(0), ("different", vec!["a".to_owned()]));
    assert_eq!(compare(1), ("missing_on_primary", vec![]));
    assert_eq!(compare(2), ("duplicate", vec![]));
}

#[tokio::test(start_paused = true)]
async fn hot_updates_go_on_until_dropped() {
    let pair = pair(Duration::from_millis(5));
    pair.load("t", [(Key::int(1), a(0))]);
    let hot = pair.update_hot("t", vec![Key::int(1)], "a", Duration::from_millis(20));
    tokio::time::sleep(Duration::from_millis(101)).await;
    let counter = |side| pair.row(side, "t", &Key::int(1)).unwrap()["a"].clone();
    assert_eq!(counter(Side::Primary), Value::Int(6));
    assert_eq!(counter(Side::Secondary), Value::Int(5));
    drop(hot);
    tokio::time::sleep(SECOND).await;
    assert_eq!(counter(Side::Primary), Value::Int(6));
    assert_eq!(counter(Side::Secondary), Value::Int(6));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_cut_off_is_unreachable() {
    let pair = pair(Duration::ZERO);
    pair.set_reachable(Side::Secondary, false);
    let error = pair.secondary().identify.identity().await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("usw2"), "{error}");
    pair.set_reachable(Side::Secondary, true);
    assert!(pair.secondary().identify.identity().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_listing_holds_every_copy() {
    let pair = pair(Duration::ZERO);
    pair.load("t", [(Key::int(1), a(1))]);
    pair.plant_copies(Side::Primary, "t", &Key::int(1), 3);
    let end = pair.primary();
    let (catalog, ranged) = (end.catalog.clone().unwrap(), end.ranged.clone().unwrap());
    let collection = &catalog.collections().await.unwrap()[0];
    let recipe = recipe(&end).await;
    let listing = ranged.list(collection, &recipe, &Part::ALL).await.unwrap();
    let rows: Vec<_> = listing.try_collect().await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(matches!(&read(&end, &[Key::int(1)]).await.rows[0], Reading::Present(row) if row.copies == 3));
}

#[tokio::test(start_paused = true)]
async fn a_tolerated_column_may_differ_by_its_tolerance_and_no_other() {
    let pair = Pair::new(Settings::default());
    pair.create_table("t", &["id"], &["id", "a", "expires_at_us"]);
    let entry = |a: i64, expires: i64| fields([("a", Value::Int(a)), ("expires_at_us", Value::Int(expires))]);
    pair.load("t", (1..=5).map(|id| (Key::int(id), entry(1, 5_000))));
    for (id, a, expires) in [(2, 1, 5_100), (3, 1, 5_101), (4, 2, 5_050)] {
        pair.plant(Side::Secondary, "t", Key::int(id), Some(entry(a, expires)));
    }
    pair.plant_copies(Side::Secondary, "t", &Key::int(5), 3);
    let tolerance = super::Tolerance {
        column: "expires_at_us".to_owned(),
        within: 100,
    };
    let ends = [Side::Primary, Side::Secondary].map(|side| pair.unordered(side, Some(tolerance.clone())));
    let collection = ends[0].catalog.as_ref().unwrap().collections().await.unwrap().remove(0);
    let columns = ["id", "a", "expires_at_us"].map(str::to_owned);
    let scanned = ends[0].scanned.clone().unwrap();
    let recipe = scanned
        .recipe(&collection, &columns, 7, crate::KeyedBy::Columns)
        .await
        .unwrap();
    let keys: Vec<Key> = (1..=6).map(Key::int).collect();
    let request = ReadRequest {
        collection: &collection,
        recipe: &recipe,
        keys: &keys,
        values: false,
        changed_at: None,
    };
    let mut read = Vec::new();
    for end in &ends {
        read.push(end.reread.as_ref().unwrap().read(&request).await.unwrap());
    }
    let compare = ends[0].compare.clone().unwrap();
    let said = |at: usize| match compare.compare(&read[0].rows[at], &read[1].rows[at], &columns) {
        Comparison::Differs { class, columns, .. } => format!("{} {}", class.word(), columns.join(",")),
        Comparison::Equal => "equal".to_owned(),
        Comparison::NotComparable(reason) => reason,
    };
    let all: Vec<String> = (0..6).map(said).collect();
    assert_eq!(
        all,
        [
            "equal",
            "equal",
            "different expires_at_us",
            "different a",
            "duplicate ",
            "equal"
        ]
    );
}

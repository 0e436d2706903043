//! A primary and its standby, of every version beside the one that all other tests are made with.

use std::time::Duration;

use lab::{Plant, Planted, plant};
use reconcile::{CoverageState, Divergence};
use stores::{Class, Relation};

use crate::setup::{Shop, divergences, everything};

/// A table without a key and some rows alike, one whose definition drifts later, and a sequence.
const TABLES: &str = "create table public.log (at int, note text); \
    insert into public.log select i, repeat('n', 50) from generate_series(1, 3000) i; \
    insert into public.log select -1, 'alike' from generate_series(1, 3); \
    create table public.drifting (id int primary key, v int); \
    create table public.counted (id bigserial primary key); \
    insert into public.counted select nextval('public.counted_id_seq') from generate_series(1, 3); \
    grant select on all tables in schema public to driftline; grant select on all sequences in schema public to driftline";

/// What is changed at the promoted standby beside the rows of the shop, and how it is found.
const CHANGES: &str = "insert into public.log values (-1, 'alike'); delete from public.log where at = 7; \
    insert into public.log values (-9, 'new'); alter table public.drifting add column w int; \
    select setval('public.counted_id_seq', 2)";
const CHANGED: [(&str, Class); 6] = [
    // Behind the primary's, and behind the column that it feeds.
    ("public.counted_id_seq", Class::Position),
    ("public.counted_id_seq", Class::Position),
    ("public.drifting", Class::Schema),
    ("public.log", Class::MissingOnSecondary),
    ("public.log", Class::MissingOnPrimary),
    ("public.log", Class::Duplicate),
];
/// The only table of the shop in which differences are planted.
const ORDERS: &str = "public.orders";

/// Equal copies are equal, behind a link and after a failover; then each kind of difference is found and named.
async fn compared(version: u16) {
    let shop = Shop::of_version(Some(version), 2_000).await;
    shop.pair.primary().execute("app", TABLES).await.unwrap();
    shop.pair.wait_replayed(Duration::from_secs(30)).await.unwrap();
    let is_version = format!("select current_setting('server_version_num')::int / 10000 = {version}");
    for server in [shop.pair.primary(), shop.pair.standby()] {
        assert_eq!(server.value("app", &is_version).await.unwrap().as_deref(), Some("t"));
    }
    quiet(&shop, Relation::Replicating, version).await;
    shop.fail_over().await;
    quiet(&shop, Relation::Independent, version).await;

    let plants: Vec<(Plant, i64)> = Plant::ALL
        .into_iter()
        .zip((100..).step_by(50))
        .map(|(kind, id)| (kind, if kind == Plant::Extra { -5 } else { id }))
        .collect();
    let truth = plant(shop.pair.primary(), shop.pair.standby(), "app", &plants)
        .await
        .unwrap();
    shop.pair.standby().execute("app", CHANGES).await.unwrap();
    let pair = shop.ends(Relation::Independent);
    let (found, summary) = divergences(&pair, &everything(&pair, &[]).await).await;
    assert_eq!(summary.exit_code(), 1, "{version}: {:?}", summary.coverage);
    let (orders, others): (Vec<Divergence>, Vec<Divergence>) =
        found.into_iter().partition(|one| one.collection == ORDERS);
    let orders: Vec<Planted> = orders
        .iter()
        .map(|one| Planted::new(&one.collection, &one.key.clone().unwrap_or_default(), one.class.word()))
        .collect();
    let mismatches = truth.compare(&orders);
    assert!(mismatches.is_empty(), "{version}: {mismatches:?}");
    let mut others: Vec<(&str, Class)> = others.iter().map(|one| (one.collection.as_str(), one.class)).collect();
    others.sort_unstable();
    let mut wanted = CHANGED;
    wanted.sort_unstable();
    assert_eq!(others, wanted, "{version}");
    shop.shutdown().await;
}

async fn quiet(shop: &Shop, relation: Relation, version: u16) {
    let pair = shop.ends(relation);
    let request = everything(&pair, &[]).await;
    let (found, summary) = divergences(&pair, &request).await;
    assert!(found.is_empty(), "{version} {relation:?}: {found:?}");
    assert_eq!(summary.exit_code(), 0, "{version} {relation:?}: {:?}", summary.coverage);
    for one in &summary.coverage {
        assert_eq!(one.state, CoverageState::Verified, "{version}: {one:?}");
    }
    let mut tables = request.selected.iter().filter_map(|one| one.secondary.as_ref());
    let log = tables.find(|one| one.name == "public.log").unwrap();
    let parts = pair.secondary.scanned.as_ref().unwrap().parts(log, 4).await.unwrap();
    // Before 14, a range of blocks is not found without reading the whole table: one statement reads it once.
    assert_eq!(parts.len() > 1, version > 13, "{version}: {parts:?}");
}

#[tokio::test]
async fn a_standby_of_13_or_14_is_compared_as_any_other() {
    compared(13).await;
    compared(14).await;
}

#[tokio::test]
async fn a_standby_of_16_17_or_18_is_compared_as_any_other() {
    compared(16).await;
    compared(17).await;
    compared(18).await;
}

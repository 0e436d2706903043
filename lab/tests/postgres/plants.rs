use lab::{Pattern, PgOptions, PgPair, Plant, Side, Touches, Truth, Workload, WorkloadOptions, demo, plant};

use crate::support::{PATIENCE, look};

const SEED: u32 = 7;

async fn two_shops(rows: u32) -> PgPair {
    let pair = PgPair::start(PgOptions::with_database("shop")).await.unwrap();
    demo::create_schema(pair.primary(), "shop").await.unwrap();
    demo::fill(pair.primary(), "shop", rows, SEED).await.unwrap();
    pair.wait_replayed(PATIENCE).await.unwrap();
    pair
}

#[tokio::test]
async fn every_plant_is_a_difference_and_nothing_else_is() {
    let pair = two_shops(1000).await;
    pair.promote().await.unwrap();
    pair.return_old_primary().await.unwrap();
    for collection in demo::TABLES {
        assert_eq!(look(pair.primary(), pair.standby(), collection).await, []);
    }
    // Ten apart, since a swap takes two; the extra one lies behind the last.
    let plants: Vec<(Plant, i64)> = Plant::ALL
        .into_iter()
        .zip((10..).step_by(10))
        .map(|(kind, id)| (kind, if kind == Plant::Extra { 9_000_000_000 } else { id }))
        .collect();
    let truth = plant(pair.primary(), pair.standby(), "shop", &plants).await.unwrap();
    assert_eq!(truth.divergences.len(), Plant::ALL.len() + 1);
    let found = look(pair.primary(), pair.standby(), "public.orders").await;
    let mismatches = truth.compare(&found);
    assert!(mismatches.is_empty(), "{mismatches}");
    let evidence = "select string_agg(updated_at::text, ',' order by id) from orders where id between 30 and 170";
    assert_eq!(
        pair.primary().value("shop", evidence).await.unwrap(),
        pair.standby().value("shop", evidence).await.unwrap(),
        "the time of change gives no plant away"
    );
    // A truth that claims what is not there is refused.
    let absent = [(Plant::Changed, 8_000_000_000)];
    assert!(plant(pair.primary(), pair.standby(), "shop", &absent).await.is_err());
}

#[tokio::test]
async fn the_same_seed_gives_the_same_rows() {
    let (first, second) = tokio::join!(two_shops(500), two_shops(500));
    for collection in demo::TABLES {
        assert_eq!(look(first.primary(), second.primary(), collection).await, []);
    }
    let counts = "select concat_ws(' ', (select count(*) from customers), (select count(*) from orders), \
                  (select count(*) from payments), (select count(distinct note) from orders))";
    let counts = first.primary().value("shop", counts).await.unwrap().unwrap();
    assert!(counts.starts_with("100 250 150 "), "{counts}");
}

#[tokio::test]
async fn a_whole_demonstration_is_filled() {
    let pair = two_shops(demo::ROWS).await;
    let sql =
        "select (select count(*) from customers) + (select count(*) from orders) + (select count(*) from payments)";
    assert_eq!(
        pair.standby().value("shop", sql).await.unwrap().as_deref(),
        Some("200000")
    );
}

#[tokio::test]
async fn writes_after_a_fork_are_told_apart_by_side() {
    let pair = two_shops(1000).await;
    pair.cut();
    let mixed = |first_new_id, seed| WorkloadOptions {
        pattern: Pattern::Mixed,
        per_second: 2000,
        writes_max: 150,
        first_new_id: Some(first_new_id),
        seed,
        ..WorkloadOptions::new("shop", "orders")
    };
    let old = run(pair.primary(), mixed(10_000, 1)).await;
    pair.promote().await.unwrap();
    let new = run(pair.standby(), mixed(20_000, 2)).await;
    pair.return_old_primary().await.unwrap();

    let truth = Touches::truth(&old, &new, Side::Old);
    let classes_only = Truth {
        divergences: truth
            .divergences
            .iter()
            .cloned()
            .map(|mut one| {
                one.origin = None;
                one
            })
            .collect(),
    };
    let mismatches = classes_only.compare(&look(pair.primary(), pair.standby(), "public.orders").await);
    assert!(mismatches.is_empty(), "{mismatches}");
    for origin in ["lost_write", "new_write", "conflict"] {
        let told = truth
            .divergences
            .iter()
            .filter(|one| one.origin.as_deref() == Some(origin))
            .count();
        assert!(told > 0, "none is {origin}");
    }
}

async fn run(server: &lab::PgServer, options: WorkloadOptions) -> Touches {
    let wanted = options.writes_max;
    let workload = Workload::start(server, options).await.unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while workload.committed() < wanted {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let written = workload.stop().await.unwrap();
    assert_eq!(written.failures, 0);
    written.touches
}

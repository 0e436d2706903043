//! Collections that cannot be compared as a whole, and differences of the catalogs.

use reconcile::{CoverageState, NotSelected, Selected, Settings, State, Work};
use stores::{Class, Collection, KeyShape, Relation};

use crate::outcome::{Outcome, pair, request, run};
use crate::world::{Shared, World, collection, column, lock};

fn world() -> World {
    World::new((0..50).map(|key| (key, key)))
}

/// Runs with other catalogs on an equal pair.
async fn with(change: impl FnOnce(&mut Collection, &mut Collection)) -> (Shared, Outcome) {
    let (mut primary, mut secondary) = (collection(), collection());
    change(&mut primary, &mut secondary);
    let mut world = world();
    (world.primary_collection, world.secondary_collection) = (Some(primary), Some(secondary));
    let world = world.share();
    let outcome = run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap();
    (world, outcome)
}

fn not_verified(outcome: &Outcome, reason: &str) {
    let coverage = outcome.coverage().next().unwrap();
    assert_eq!(coverage.state, CoverageState::Failed, "{}", coverage.reason);
    assert!(coverage.reason.starts_with(reason), "{}", coverage.reason);
    assert_eq!(outcome.summary.exit_code(), 3);
    assert_eq!(outcome.chunks().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_compared_is_not_verified() {
    let unusable = |side: &mut Collection| side.key = KeyShape::Unusable("there is no unique index".to_owned());
    let (_, outcome) = with(|primary, _| unusable(primary)).await;
    not_verified(&outcome, "no_usable_key: site use1: there is no unique index");
    let (_, outcome) = with(|_, secondary| unusable(secondary)).await;
    not_verified(&outcome, "no_usable_key: site usw2");
    let (_, outcome) = with(|_, secondary| secondary.unreadable = Some("no SELECT".to_owned())).await;
    not_verified(&outcome, "unreadable: site usw2: no SELECT");
    let (_, outcome) = with(|_, secondary| {
        secondary.key = KeyShape::Usable {
            columns: vec!["value".to_owned()],
            order_identity: None,
        };
    })
    .await;
    not_verified(
        &outcome,
        "key_differs: site use1 has the key (id), site usw2 has (value)",
    );

    let world = world().share();
    lock(&world).faults.known_answer_differs = true;
    let outcome = run(&pair(&world, Relation::Independent), &request(&world))
        .await
        .unwrap();
    not_verified(&outcome, "digest_differs: ");

    let world = crate::schema::world().share();
    lock(&world).faults.is_logical = true;
    let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
        .await
        .unwrap();
    not_verified(&outcome, "logical_copy: ");
}

#[tokio::test(start_paused = true)]
async fn columns_that_differ_are_divergences_and_the_others_are_compared() {
    let (_, outcome) = with(|primary, secondary| {
        primary.columns.push(column("only_here", "text"));
        primary.columns.push(column("typed", "integer"));
        secondary.columns.push(column("typed", "bigint"));
        secondary.columns.push(column("only_there", "text"));
    })
    .await;
    let schema: Vec<_> = outcome
        .divergences()
        .map(|one| (one.class, one.state, one.columns.join(",")))
        .collect();
    let expected = |column: &str| (Class::Schema, State::Confirmed, column.to_owned());
    assert_eq!(
        schema,
        [expected("only_here"), expected("typed"), expected("only_there")]
    );
    assert!(
        outcome
            .divergences()
            .any(|one| one.detail == "type is integer at site use1 and bigint at site usw2")
    );
    assert_eq!(outcome.summary.exit_code(), 1);
    let coverage = outcome.coverage().next().unwrap();
    assert_eq!((coverage.state, coverage.chunks_equal), (CoverageState::Diverged, 2));
    assert_eq!(
        coverage.scope,
        "columns that differ in the schema: only_here, typed, only_there"
    );
    assert_eq!(
        outcome.plan().collections[0].rows().unwrap().recipe.columns,
        ["id", "value"]
    );
}

#[tokio::test(start_paused = true)]
async fn excluded_columns_are_told_and_keys_cannot_be_excluded() {
    let mut world = world();
    world
        .secondary_collection
        .as_mut()
        .unwrap()
        .columns
        .push(column("only_there", "text"));
    let world = world.share();
    let mut request = request(&world);
    request.selected[0].settings = Settings {
        changed_at: Some("nowhere".to_owned()),
        exclude_columns: vec!["only_there".to_owned(), "value".to_owned(), "id".to_owned()],
        ..Settings::default()
    };
    let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 0);
    let scope = &outcome.coverage().next().unwrap().scope;
    assert_eq!(
        scope,
        "excluded columns: value, only_there; change times: nowhere (not a column of both sides: no evidence)"
    );
    assert_eq!(outcome.plan().collections[0].rows().unwrap().recipe.columns, ["id"]);
}

#[tokio::test(start_paused = true)]
async fn a_column_that_cannot_be_compared_leaves_the_collection_partial() {
    let (_, outcome) = with(|primary, secondary| {
        let mut oid = column("owner", "oid");
        secondary.columns.push(oid.clone());
        oid.not_comparable = Some("differs between servers".to_owned());
        primary.columns.push(oid);
    })
    .await;
    let coverage = outcome.coverage().next().unwrap();
    assert_eq!(coverage.state, CoverageState::Partial);
    assert_eq!(
        coverage.reason,
        "columns_not_comparable: owner (differs between servers)"
    );
    assert_eq!(outcome.summary.exit_code(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_collection_on_one_side_is_a_divergence() {
    for is_primary in [true, false] {
        let mut world = world();
        let (primary, secondary) = (&mut world.primary_collection, &mut world.secondary_collection);
        *(if is_primary { secondary } else { primary }) = None;
        let world = world.share();
        for relation in [Relation::Independent, Relation::Replicating] {
            let outcome = run(&pair(&world, relation), &request(&world)).await.unwrap();
            assert_eq!(outcome.summary.exit_code(), 1);
            assert!(outcome.summary.complete);
            let divergence = outcome.divergences().next().unwrap();
            let site = if is_primary { "use1" } else { "usw2" };
            assert_eq!(divergence.detail, format!("the collection exists at site {site} only"));
            assert_eq!((divergence.chunk_id, divergence.class), (None, Class::Schema));
            let coverage = outcome.coverage().next().unwrap();
            assert_eq!(
                (coverage.collection.as_str(), coverage.state),
                ("public.t", CoverageState::Diverged)
            );
            assert_eq!(coverage.primary_collection.is_some(), is_primary);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_change_in_flight_is_no_divergence() {
    let altered = || {
        let mut altered = collection();
        altered.columns.push(column("added", "text"));
        Some(altered)
    };
    for secondary in [Some(collection()), None] {
        let mut world = world();
        world.primary_collection = altered();
        world.secondary_collection = secondary;
        world.secondary_collection_later = altered();
        let world = world.share();
        let outcome = run(&pair(&world, Relation::Replicating), &request(&world))
            .await
            .unwrap();
        assert_eq!(outcome.divergences().count(), 0);
        assert_eq!(outcome.summary.exit_code(), 0);
    }
    // The primary is altered while both are being looked at: nothing is proved.
    let mut altering = world();
    (altering.primary_collection, altering.primary_collection_later) = (altered(), Some(collection()));
    let altering = altering.share();
    let outcome = run(&pair(&altering, Relation::Replicating), &request(&altering))
        .await
        .unwrap();
    assert!(outcome.divergences().all(|one| one.state == State::Unverified));
    assert_eq!(outcome.summary.exit_code(), 3);
    // It stays: a divergence. Nobody can prove it: unverified.
    for (has_fence, state, exit) in [(true, State::Confirmed, 1), (false, State::Unverified, 3)] {
        let mut world = world();
        world.primary_collection = altered();
        let world = world.share();
        let mut pair = pair(&world, Relation::Replicating);
        pair.secondary.fence = pair.secondary.fence.filter(|_| has_fence);
        let outcome = run(&pair, &request(&world)).await.unwrap();
        let states: Vec<_> = outcome.divergences().map(|one| one.state).collect();
        assert_eq!((states, outcome.summary.exit_code()), (vec![state], exit));
        let reason = &outcome.summary.coverage[0].reason;
        assert_eq!(
            reason.contains("schema_undecided: the schema cannot be looked at again"),
            !has_fence,
            "{reason}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn canaries_and_what_was_not_selected_are_skipped_and_told() {
    let world = world().share();
    let mut request = request(&world);
    let mut canary = collection();
    (canary.name, canary.is_canary, canary.rows_estimate) = ("driftline.canary".to_owned(), true, Some(64));
    let mut other = collection();
    other.name = "public.other".to_owned();
    request.selected.push(Selected {
        primary: Some(canary.clone()),
        secondary: Some(canary.clone()),
        settings: Settings::default(),
    });
    request.not_selected = vec![
        NotSelected {
            primary: None,
            secondary: Some(other),
        },
        NotSelected {
            primary: Some(canary),
            secondary: None,
        },
    ];
    let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 0);
    let told: Vec<_> = outcome
        .coverage()
        .map(|one| (one.collection.as_str(), one.state, one.canaries_excluded))
        .collect();
    assert_eq!(
        told,
        [
            ("public.t", CoverageState::Verified, 0),
            ("driftline.canary", CoverageState::Skipped, 64),
            ("public.other", CoverageState::Skipped, 0),
            ("driftline.canary", CoverageState::Skipped, 64),
        ]
    );
    assert_eq!(outcome.coverage().nth(2).unwrap().reason, "not_selected");
    assert!(matches!(outcome.plan().collections[1].work, Work::Skipped(_)));
}

#[tokio::test(start_paused = true)]
async fn nothing_selected_is_never_complete() {
    let world = world().share();
    let mut request = request(&world);
    request.selected[0].primary.as_mut().unwrap().is_canary = true;
    let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 3, "canaries alone");
    request.selected.clear();
    let outcome = run(&pair(&world, Relation::Independent), &request).await.unwrap();
    assert_eq!(outcome.summary.exit_code(), 3);
}

//! Random tables, differences, chunk sizes and bounds: found is exactly what was planted.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reconcile::{DigestChoice, Pace};
use stores::{Class, Relation};

use crate::outcome::{Outcome, pair, request, run};
use crate::world::World;

#[derive(Debug, Clone)]
enum Plant {
    Remove,
    Change(i64),
    Extra,
    Twice,
}

fn plants() -> impl Strategy<Value = BTreeMap<i64, Plant>> {
    let plant = prop_oneof![
        Just(Plant::Remove),
        (1i64..5).prop_map(Plant::Change),
        Just(Plant::Extra),
        Just(Plant::Twice),
    ];
    proptest::collection::btree_map(-50i64..250, plant, 0..40)
}

/// Plants what makes sense and tells what that is.
fn apply(world: &mut World, plants: &BTreeMap<i64, Plant>) -> BTreeMap<i64, Class> {
    let mut planted = BTreeMap::new();
    for (key, plant) in plants {
        let rows = &mut world.secondary.rows;
        let class = match (plant, rows.get_mut(key)) {
            (Plant::Remove, Some(_)) => {
                rows.remove(key);
                Class::MissingOnSecondary
            }
            (Plant::Change(by), Some(cell)) => {
                cell.value += by;
                Class::Different
            }
            (Plant::Twice, Some(cell)) => {
                cell.copies = 2;
                Class::Duplicate
            }
            (Plant::Extra, None) => {
                world.secondary.put(*key, 1, 3, 0);
                Class::MissingOnPrimary
            }
            _ => continue,
        };
        planted.insert(*key, class);
    }
    planted
}

fn outcome(
    world: World,
    relation: Relation,
    rows_per_chunk: u64,
    narrow_bytes_max: usize,
    chunks_in_flight: usize,
    rows_per_subrange: u64,
    pace: Pace,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = world.share();
    let mut request = request(&world);
    request.limits.rows_per_chunk = rows_per_chunk;
    request.limits.narrow_bytes_max = narrow_bytes_max;
    request.limits.chunks_in_flight = chunks_in_flight;
    request.limits.rows_per_subrange = rows_per_subrange;
    request.limits.reads_in_flight.secondary = chunks_in_flight.div_ceil(2);
    request.limits.pace = pace;
    request.limits.attempts_max = 6;
    runtime.block_on(run(&pair(&world, relation), &request)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn found_is_what_was_planted(
        keys in proptest::collection::btree_set(-50i64..250, 0..150),
        plants in plants(),
        rows_per_chunk in 1u64..80,
        narrow_bytes_max in 300usize..20_000,
        chunks_in_flight in 1usize..6,
        rows_per_subrange in 1u64..40,
        tells_moments in any::<bool>(),
        is_replicating in any::<bool>(),
        keeps in any::<bool>(),
        keep_bytes_max in prop_oneof![Just(0usize), 100usize..8_000],
        digest in prop_oneof![Just(DigestChoice::Auto), Just(DigestChoice::Client)],
        cancels_above in prop::option::of(10usize..60),
    ) {
        let mut world = World::new(keys.into_iter().map(|key| (key, key * 3)));
        let planted = apply(&mut world, &plants);
        let relation = if is_replicating { Relation::Replicating } else { Relation::Independent };
        world.keeps = keeps;
        world.faults.tells_moments = tells_moments;
        world.faults.secondary_cancels_above = cancels_above.filter(|_| rows_per_chunk < 70);
        let digest = if keeps { digest } else { DigestChoice::Auto };
        let pace = Pace { digest, keep_bytes_max, ..Pace::default() };
        let outcome = outcome(world, relation, rows_per_chunk, narrow_bytes_max, chunks_in_flight, rows_per_subrange, pace);
        prop_assert_eq!(outcome.confirmed(), planted.clone());
        prop_assert_eq!(outcome.summary.exit_code(), u8::from(!planted.is_empty()));
        prop_assert!(outcome.summary.complete);
    }
}

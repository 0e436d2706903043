//! One request in ten fails, at both ends, at random and repeatably: what is claimed is true, and what could not be told is told.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stores::faulty::{Call, Fault, Script, wrap};
use stores::{Relation, StoreError, Trouble};

use crate::found::plant;
use crate::outcome::{pair, request, run};
use crate::world::{World, lock};

/// Calls of one kind whose fate is drawn; no run makes more.
const CALLS_DRAWN: usize = 600;
const SEEDS: u64 = 24;

/// Draws what happens to each call: nine of ten go well.
fn draw(script: &Script, site: &str, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let calls = [
        Call::Identity,
        Call::Digest,
        Call::List,
        Call::Read,
        Call::Point,
        Call::Wait,
        Call::KnownAnswer,
        Call::Recipe,
        Call::Split,
        Call::Collections,
    ];
    for call in calls {
        for _ in 0..CALLS_DRAWN {
            if !random.random_ratio(1, 10) {
                script.spare(call, 1);
                continue;
            }
            let trouble = Trouble::new(site, "ask", "one in ten");
            let error = match random.random_range(0..3) {
                0 => StoreError::Unreachable(trouble),
                1 => StoreError::Retryable { after: None, trouble },
                // It does not pass: no further try is made.
                _ => StoreError::Denied(trouble),
            };
            let fault = match random.random_range(0..5) {
                0 => Fault::Reject(error),
                1 => Fault::FailAfterWrite(error),
                2 => Fault::FailAtItem(random.random_range(0..9), error),
                3 => Fault::FailAtEnd(error),
                _ => Fault::EmptyThenError(error),
            };
            script.next(call, fault);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_false_is_claimed_and_what_failed_is_never_equal() {
    let (mut wholes, mut holes) = (0, 0);
    for seed in 0..SEEDS {
        for relation in [Relation::Independent, Relation::Replicating] {
            let world = World::new((0..100).map(|key| (key, key * 7))).share();
            let planted = if seed % 2 == 0 {
                plant(&world)
            } else {
                Default::default()
            };
            let mut pair = pair(&world, relation);
            let (primary, secondary) = (wrap(&pair.primary), wrap(&pair.secondary));
            (pair.primary, pair.secondary) = (primary.0, secondary.0);
            draw(&primary.1, "use1", seed);
            draw(&secondary.1, "usw2", seed + 1_000);
            let Ok(outcome) = run(&pair, &request(&world)).await else {
                // Before anything was compared: nothing is claimed at all.
                holes += 1;
                continue;
            };
            let confirmed = outcome.confirmed();
            for (key, class) in &confirmed {
                assert_eq!(
                    planted.get(key),
                    Some(class),
                    "seed {seed}: key {key} was never planted"
                );
            }
            if outcome.summary.exit_code() == 0 {
                assert!(planted.is_empty(), "seed {seed}: a planted difference is called equal");
            }
            if outcome.summary.complete {
                assert_eq!(confirmed, planted, "seed {seed}: complete, and not all was found");
                wholes += 1;
            } else {
                let is_told = outcome.coverage().any(|one| !one.reason.is_empty());
                assert!(is_told, "seed {seed}: not complete, and no coverage says why");
                holes += 1;
            }
            assert!(lock(&world).step > 0);
        }
    }
    assert!(
        wholes > 0 && holes > 0,
        "{wholes} whole runs and {holes} with holes: the rate tests nothing"
    );
}

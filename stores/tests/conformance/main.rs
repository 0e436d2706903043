//! The suite of contracts, run against every store and wrapper, and against liars, so that the suite itself is known to bite.

mod aurora;
mod faults;
mod liar;
mod memory;

use stores::conformance::{Fixture, check};

/// Fails with every contract that does not hold.
async fn assert_holds(fixture: &dyn Fixture) {
    let breaches = check(fixture).await;
    let seen: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "\n{}", seen.join("\n"));
}

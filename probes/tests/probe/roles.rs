//! Stated and observed roles: who may write when, and what a change of roles does to canaries under way.

use std::time::Duration;

use probes::FinalState;
use stores::memory::{Delay, Settings, Side};

use crate::rig::{Rig, Running, pair, until, writers};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    }
}

fn total(running: &Running, line: &str) -> f64 {
    let text = running.metrics.render();
    let found = text
        .lines()
        .find(|one| one.starts_with("driftline_") && one.contains(line));
    found.map_or(0.0, |one| one.rsplit(' ').next().unwrap().parse().unwrap())
}

fn writes(running: &Running) -> f64 {
    total(running, "operation=\"write\"")
}

#[tokio::test(start_paused = true)]
async fn a_route_sleeps_until_its_primary_is_stated_to_be_a_writer_and_again_when_it_is_none() {
    let pair = pair(settings());
    let rig = Rig::new(&pair, "10/s");
    rig.stated.send_replace(writers(1, &["usw2"]));
    let running = rig.start();
    tokio::time::sleep(SECOND * 5).await;
    assert!(running.readiness.is_set(), "a dormant route holds up nothing");
    assert_eq!(writes(&running), 0.0);
    running.stated.send_replace(writers(2, &["use1"]));
    tokio::time::sleep(SECOND * 10).await;
    let written = writes(&running);
    assert!(written > 60.0, "{written}");
    running.stated.send_replace(writers(3, &["usw2"]));
    tokio::time::sleep(SECOND).await;
    let written = writes(&running);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(writes(&running), written, "no canary at a site that is no writer");
    assert_eq!(running.figure("driftline_pending"), None, "what sleeps has no figures");
    running.stated.send_replace(writers(4, &["use1"]));
    tokio::time::sleep(SECOND * 5).await;
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_eq!((accounting.pending, accounting.lost), (0, 0), "{accounting:?}");
    assert!(left.summary.is_drained());
    let mut epochs: Vec<&str> = left.samples.iter().map(|sample| sample.epoch.as_str()).collect();
    epochs.dedup();
    assert_eq!(epochs.len(), 2, "each change of roles begins a new epoch");
    assert!(left.samples.windows(2).all(|two| two[0].sequence < two[1].sequence));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_is_no_writer_any_more_is_watched_until_all_that_it_wrote_has_arrived() {
    let pair = pair(settings());
    let running = Rig::new(&pair, "10/s").drain(SECOND).start();
    tokio::time::sleep(SECOND * 5).await;
    pair.stall();
    tokio::time::sleep(SECOND * 5).await;
    running.stated.send_replace(writers(2, &[]));
    tokio::time::sleep(SECOND * 60).await;
    assert!(running.figure("driftline_pending").unwrap() > 30.0);
    pair.resume();
    until("all have arrived", || running.figure("driftline_pending").is_none()).await;
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_eq!((accounting.pending, accounting.lost), (0, 0), "{accounting:?}");
    let late = |sample: &&probes::LagSample| sample.lag_low_us.unwrap() > 60_000_000;
    assert!(left.samples.iter().filter(late).count() > 30);
    let replayed = probes::replay(&left.ledgers()[0], |_| {}).unwrap();
    assert!(
        replayed.is_closed && replayed.ring.is_some(),
        "the ring is kept before others write"
    );
}

#[tokio::test(start_paused = true)]
async fn a_promotion_is_acted_on_at_the_first_look_that_sees_it() {
    let pair = pair(settings());
    let running = Rig::new(&pair, "10/s").drain(SECOND).start();
    tokio::time::sleep(SECOND * 20).await;
    pair.stall();
    tokio::time::sleep(SECOND * 3).await;
    pair.promote();
    until("a role conflict shows", || {
        running.figure("driftline_role_conflict") == Some(1.0)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(total(&running, "state=\"lost\"") > 20.0, "not only at the next look");
    let written = writes(&running);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(
        writes(&running),
        written,
        "nothing is written where both ends take writes"
    );
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert!(
        accounting.skipped > 90 && accounting.pending == 0,
        "slots are counted all the same: {accounting:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_role_conflict_is_resolved_by_a_new_statement_and_nothing_else() {
    let pair = pair(settings());
    pair.promote(); // before the probe knew either of them
    let running = Rig::new(&pair, "10/s").drain(SECOND).start();
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(running.figure("driftline_role_conflict"), Some(1.0));
    assert_eq!(writes(&running), 0.0, "roles are looked at before the first canary");
    // Stated again while both still take writes: looked at anew, and still refused.
    running.stated.send_replace(writers(2, &["use1"]));
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(writes(&running), 0.0);
    // The returned site does not answer any more, and the writer is stated anew.
    pair.set_reachable(Side::Secondary, false);
    tokio::time::sleep(SECOND * 10).await;
    assert_eq!(writes(&running), 0.0, "not by itself");
    running.stated.send_replace(writers(3, &["use1"]));
    tokio::time::sleep(SECOND * 10).await;
    let written = writes(&running);
    assert!(written > 60.0, "{written}");
    let left = running.stop().await.unwrap();
    assert!(left.samples.iter().all(|sample| sample.state != FinalState::Seen));
}

//! Answers that are held back on the line, while what they did not find arrives: each is as old as its question, and proves nothing of what came
//! after that.

use std::sync::Arc;
use std::time::Duration;

use probes::{FinalState, LagSample, SystemClock};
use tokio::time::Instant;

use super::{Ends, LOOK_EVERY, PATIENCE, oldest, requests, seen_more, settled, until, wall_us};
use crate::rig::{Rig, Running, assert_all_seen};

/// What the line adds to each answer, at most: less than a store's patience.
const HELD: Duration = Duration::from_secs(3);
/// As many questions are under way as may be when none has left for this long.
const QUIET: Duration = Duration::from_millis(400);

/// Replication stops by `freeze`. Questions are asked until no more may be under way, and all of them miss. `thaw` lets everything arrive that
/// was written before it; only then the answers come.
pub(super) async fn answers_come_late(ends: Ends, freeze: impl AsyncFnOnce(), thaw: impl AsyncFnOnce()) {
    ends.writer.highest_sequence("nobody's").await.unwrap();
    let rig = Rig::over(ends.writer, ends.reader, ends.polling, ends.rate).clock(Arc::new(SystemClock::new()));
    let running = rig.start();
    let [_, to_watcher] = &ends.lines;
    seen_more(&running, 5.0).await;

    freeze().await;
    until("canaries wait", &running, |running| oldest(running) > 1.0).await;
    to_watcher.delay(HELD).await.unwrap();
    no_question_leaves(&running).await;
    let frozen_until_us = wall_us();
    thaw().await;
    let arrived_at_us = wall_us();
    to_watcher.hurry().await.unwrap();
    settled(&running).await;

    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_all_seen(&accounting, "late answers");
    let had_arrived = |sample: &&LagSample| {
        sample.state == FinalState::Seen
            && sample.acked_at_us.is_some_and(|at| at < frozen_until_us)
            && sample.seen_at_us.is_some_and(|at| at >= arrived_at_us)
    };
    let held: Vec<&LagSample> = left.samples.iter().filter(had_arrived).collect();
    assert!(held.len() > 3, "{} canaries waited", held.len());
    for sample in &held {
        let lag_us = u64::try_from(arrived_at_us - sample.acked_at_us.unwrap()).unwrap();
        let low_us = sample.lag_low_us.unwrap();
        assert!(
            low_us <= lag_us,
            "at least {low_us} us of {lag_us} us at most: {sample:?}"
        );
    }
    let proved = held.iter().filter(|sample| sample.lag_low_us > Some(0)).count();
    assert!(
        proved > 3,
        "of {} canaries that waited {proved} have a low end",
        held.len()
    );
}

async fn no_question_leaves(running: &Running) {
    let deadline = Instant::now() + PATIENCE;
    let (mut asked, mut since) = (requests(running, "poll"), Instant::now());
    while since.elapsed() < QUIET {
        assert!(Instant::now() < deadline, "never: no question leaves");
        tokio::time::sleep(LOOK_EVERY).await;
        let now = requests(running, "poll");
        if now > asked {
            (asked, since) = (now, Instant::now());
        }
    }
}

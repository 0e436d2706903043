//! A probe before real servers, behind a line that is slow, cut or silent while replication goes on: what nobody could look at is no lag, no loss, and counted once.
//!
//! The dates of samples are compared with the instants at which the line was changed; how long anything takes is nowhere judged.

mod held;
mod revoked;
mod servers;
mod throttled;

use std::collections::BTreeSet;
use std::time::Duration;

use lab::ToxicLine;
use probes::{Clock, FinalState, LagSample, Polling, SystemClock};
use stores::{CanaryReader, CanaryWriter};

use std::sync::Arc;

use crate::rig::{Left, Rig, Running, assert_all_seen};

/// What has not happened after this long does not happen.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a slow line adds to each answer.
const DELAY: Duration = Duration::from_millis(400);
/// For how long nobody can look, in seconds.
const BLIND_SECONDS: f64 = 8.0;

/// Two ends, each behind a line of its own.
struct Ends {
    writer: Arc<dyn CanaryWriter>,
    reader: Arc<dyn CanaryReader>,
    polling: Polling,
    rate: &'static str,
    /// Before the writer and before the reader.
    lines: [ToxicLine; 2],
}

/// Dates between which the line of the reader was in some state.
#[derive(Debug, Clone, Copy)]
struct Span {
    from_us: i64,
    until_us: i64,
}

impl Span {
    fn has(self, at_us: i64) -> bool {
        (self.from_us..self.until_us).contains(&at_us)
    }

    fn length_us(self) -> u64 {
        u64::try_from(self.until_us - self.from_us).unwrap()
    }
}

fn wall_us() -> i64 {
    SystemClock::new().wall_us()
}

async fn until(what: &str, running: &Running, holds: impl Fn(&Running) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds(running) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "never: {what}\n{}",
            running.metrics.render()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn counted(running: &Running, state: &str) -> f64 {
    let text = running.metrics.render();
    let label = format!("state=\"{state}\"");
    let of = |line: &&str| line.starts_with("driftline_canaries_total{") && line.contains(&label);
    let values = text.lines().filter(of).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// Canaries that left.
fn sent(running: &Running) -> f64 {
    requests(running, "write")
}

fn requests(running: &Running, operation: &str) -> f64 {
    let text = running.metrics.render();
    let label = format!("operation=\"{operation}\"");
    let of = |line: &&str| line.starts_with("driftline_requests_total{") && line.contains(&label);
    let values = text.lines().filter(of).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

fn oldest(running: &Running) -> f64 {
    running.figure("driftline_oldest_unseen_seconds").unwrap_or(0.0)
}

async fn seen_more(running: &Running, canaries: f64) {
    let wanted = counted(running, "seen") + canaries;
    until("more canaries are seen", running, |running| {
        counted(running, "seen") >= wanted
    })
    .await;
}

/// Nothing older than what is under way in a healthy pair.
async fn settled(running: &Running) {
    until("what was unseen is settled", running, |running| {
        oldest(running) < BLIND_SECONDS / 2.0
    })
    .await;
    seen_more(running, 3.0).await;
}

/// Slow answers, a cut towards the watcher, one towards the writer, and silence; then the end.
async fn endures(ends: Ends) {
    ends.writer.highest_sequence("nobody's").await.unwrap();
    let rig = Rig::over(ends.writer, ends.reader, ends.polling, ends.rate).clock(Arc::new(SystemClock::new()));
    let running = rig.start();
    let [to_writer, to_watcher] = &ends.lines;
    seen_more(&running, 5.0).await;

    to_watcher.delay(DELAY).await.unwrap();
    let from_us = wall_us();
    // What was under way may come in first.
    seen_more(&running, 10.0 + running.figure("driftline_pending").unwrap()).await;
    let slow = Span {
        from_us,
        until_us: wall_us(),
    };
    to_watcher.hurry().await.unwrap();
    settled(&running).await;

    let from_us = wall_us();
    to_watcher.cut().await.unwrap();
    let cut = blind(&running, from_us).await;
    to_watcher.restore().await.unwrap();
    settled(&running).await;

    // Writes that nobody answers; what became of those that were sent is known later.
    let before = sent(&running);
    to_writer.cut().await.unwrap();
    until("writes go nowhere", &running, |running| sent(running) >= before + 6.0).await;
    to_writer.restore().await.unwrap();
    settled(&running).await;

    let from_us = wall_us();
    to_watcher.silence().await.unwrap();
    let silent = blind(&running, from_us).await;
    to_watcher.speak().await.unwrap();
    settled(&running).await;

    let left = running.stop().await.unwrap();
    judge(&left, slow, &[cut, silent]);
}

/// While nobody answers, the oldest unseen canary ages, what is pending grows, and nothing is concluded.
async fn blind(running: &Running, from_us: i64) -> Span {
    let seen = |running: &Running| counted(running, "seen");
    until("nobody answers", running, |running| {
        oldest(running) > BLIND_SECONDS / 2.0
    })
    .await;
    let (seen_then, pending_then) = (seen(running), running.figure("driftline_pending").unwrap());
    until("the oldest unseen canary ages", running, |running| {
        oldest(running) > BLIND_SECONDS
    })
    .await;
    let pending = running.figure("driftline_pending").unwrap();
    assert!(
        pending > pending_then && pending_then > 1.0,
        "{pending_then} then {pending}"
    );
    assert!((seen(running) - seen_then).abs() < 0.5, "seen by nobody");
    assert!(counted(running, "lost") + counted(running, "superseded") < 0.5);
    Span {
        from_us,
        until_us: wall_us(),
    }
}

fn judge(left: &Left, slow: Span, blind: &[Span]) {
    let accounting = left.accounting();
    assert_all_seen(&accounting, "a bad line");
    let once: BTreeSet<(&str, u64)> = left
        .samples
        .iter()
        .map(|one| (one.epoch.as_str(), one.sequence))
        .collect();
    assert_eq!(once.len(), left.samples.len(), "a canary was counted twice");
    let count = |state: FinalState| {
        let of = left.samples.iter().filter(|sample| sample.state == state);
        u64::try_from(of.count()).unwrap()
    };
    assert_eq!(count(FinalState::Seen), accounting.seen);
    assert_eq!(count(FinalState::WriteFailed), accounting.write_failed);
    assert_eq!(count(FinalState::WriteUnknown), accounting.write_unknown);
    assert!(accounting.write_failed + accounting.write_unknown > 0, "{accounting:?}");

    let seen: Vec<(&LagSample, u64, u64)> = left
        .samples
        .iter()
        .filter(|sample| sample.state == FinalState::Seen)
        .map(|sample| (sample, sample.lag_low_us.unwrap(), sample.lag_high_us.unwrap()))
        .collect();
    let delay_us = u64::try_from(DELAY.as_micros()).unwrap();
    let during: Vec<_> = seen
        .iter()
        .filter(|(sample, ..)| slow.has(sample.sent_at_us.unwrap()) && slow.has(sample.seen_at_us.unwrap()))
        .collect();
    assert!(during.len() >= 3, "{} canaries over the slow line", during.len());
    for (sample, low, high) in during {
        assert!(*high >= delay_us, "{high} us over a line of {delay_us} us: {sample:?}");
        assert!(high - low >= delay_us, "the line is taken for lag: {sample:?}");
    }
    for span in blind {
        let longest = seen.iter().filter(|(sample, ..)| span.has(sample.sent_at_us.unwrap()));
        let longest: Vec<_> = longest.filter(|(_, _, high)| *high > span.length_us() / 2).collect();
        assert!(longest.len() > 1, "{} canaries waited", longest.len());
        for (sample, low, high) in longest {
            // They had arrived all the time, and no answer says that they had not.
            assert!(
                *low < span.length_us() / 3,
                "of [{low}, {high}] nobody knows: {sample:?}"
            );
        }
    }
}

//! Stores that refuse, are removed, freeze for ten minutes, or answer with what was true before: nothing of it may look like health, and nothing like a loss.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use probes::{FinalState, Polling};
use stores::memory::{Delay, Pair, Settings};
use stores::{Canary, CanaryReader, CanaryWriter, Result, Sighting, Sought, StoreError, Trouble, WriteOutcome};

use crate::rig::{Left, Rig, Running, assert_all_seen, pair, until};
use crate::scattered::{Scattered, ends};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a store says from one moment to another.
type Saying = Arc<Mutex<Option<StoreError>>>;

/// An end that refuses with what it is told to say.
#[derive(Debug)]
struct Refusing<T: ?Sized> {
    inner: Arc<T>,
    saying: Saying,
}

impl<T: ?Sized> Refusing<T> {
    fn answer(&self) -> Result<()> {
        self.saying.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl CanaryWriter for Refusing<dyn CanaryWriter> {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        match self.answer() {
            Ok(()) => self.inner.write(canary).await,
            Err(error) => WriteOutcome::Failed(error),
        }
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        self.inner.highest_sequence(stream).await
    }

    fn ring_slots(&self) -> u64 {
        self.inner.ring_slots()
    }
}

#[async_trait]
impl CanaryReader for Refusing<dyn CanaryReader> {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        self.answer()?;
        self.inner.poll(stream, sought).await
    }

    fn is_ordered(&self) -> bool {
        self.inner.is_ordered()
    }
}

/// Every way in which a store refuses, in the order of what comes back sooner.
fn refusals() -> [StoreError; 5] {
    let trouble = |cause: &str| Trouble::new("usw2", "look for canaries", cause);
    [
        StoreError::Retryable {
            after: Some(SECOND),
            trouble: trouble("throttled"),
        },
        StoreError::Unreachable(trouble("refused")),
        StoreError::NotFound(trouble("the canary table does not exist")),
        StoreError::Config(trouble("the security token is expired")),
        StoreError::Denied(trouble("no SELECT right")),
    ]
}

fn refusing(mut rig: Rig, writes: &Saying, reads: &Saying) -> Rig {
    rig.spec.writer = Arc::new(Refusing {
        inner: rig.spec.writer,
        saying: writes.clone(),
    });
    rig.spec.reader = Arc::new(Refusing {
        inner: rig.spec.reader,
        saying: reads.clone(),
    });
    rig
}

fn say(saying: &Saying, error: Option<&StoreError>) {
    *saying.lock().unwrap() = error.cloned();
}

fn quick() -> Pair {
    pair(Settings {
        delay: Delay::Fixed(MS * 5),
        round_trip: MS * 2,
        ..Settings::default()
    })
}

/// The same two stores for each test: one log, and one that proves canary by canary.
fn rigs() -> [Rig; 2] {
    let scattered = ends(Scattered::new(2, |_, _| Some(MS * 5)));
    [
        Rig::new(&quick(), "5/s"),
        Rig::over(scattered.clone(), scattered, Polling::DYNAMODB, "5/s"),
    ]
}

fn count(running: &Running, state: &str) -> f64 {
    let label = format!("state=\"{state}\"");
    let text = running.metrics.render();
    let of = |line: &&str| line.starts_with("driftline_canaries_total{") && line.contains(&label);
    let value = text.lines().find(of).and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_to_look_claims_no_lag_no_loss_and_no_health() {
    for refusal in refusals() {
        for rig in rigs() {
            let (writes, reads) = (Saying::default(), Saying::default());
            let running = refusing(rig, &writes, &reads).start();
            tokio::time::sleep(SECOND * 20).await;
            say(&reads, Some(&refusal));
            tokio::time::sleep(SECOND * 60).await;
            let oldest = running.figure("driftline_oldest_unseen_seconds").unwrap();
            let pending = running.figure("driftline_pending").unwrap();
            assert!(
                oldest > 59.0 && pending > 250.0,
                "{refusal}: {oldest} s, {pending} pending"
            );
            assert!(
                count(&running, "lost") + count(&running, "superseded") < 0.5,
                "{refusal}"
            );
            say(&reads, None);
            tokio::time::sleep(SECOND * 30).await;
            let left = running.stop().await.unwrap();
            let accounting = left.accounting();
            assert_all_seen(&accounting, "outage");
            assert_eq!(
                accounting.seen,
                accounting.planned - accounting.skipped,
                "{accounting:?}"
            );
            let low = left.samples.iter().filter_map(|one| one.lag_low_us).max().unwrap();
            assert!(low < 10_000, "{refusal}: {low} us claimed, by nobody's answer");
            let high = left.samples.iter().filter_map(|one| one.lag_high_us).max().unwrap();
            assert!(high > 59_000_000, "{refusal}: {high} us");
            assert!(left.summary.is_drained());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_table_that_is_removed_in_mid_run_is_counted_as_unwritten_and_what_was_open_stays_open() {
    for refusal in refusals() {
        for rig in rigs() {
            let (writes, reads) = (Saying::default(), Saying::default());
            let running = refusing(rig.drain(SECOND * 5), &writes, &reads).start();
            tokio::time::sleep(SECOND * 20).await;
            say(&reads, Some(&refusal));
            tokio::time::sleep(SECOND).await;
            say(&writes, Some(&refusal));
            tokio::time::sleep(SECOND * 60).await;
            let seen = count(&running, "seen");
            let failed = count(&running, "write_failed");
            let oldest = running.figure("driftline_oldest_unseen_seconds").unwrap();
            assert!(
                failed > 250.0 && oldest > 59.0,
                "{refusal}: {failed} not written, {oldest} s"
            );
            let left = running.stop().await.unwrap();
            let accounting = left.accounting();
            assert!(accounting.pending >= 2 && !left.summary.is_drained(), "{accounting:?}");
            assert_eq!((accounting.lost, accounting.superseded), (0, 0));
            assert!(seen > 50.0);
            let last = left.intervals.iter().rfind(|row| row.write_failed > 100).unwrap();
            assert_eq!(
                (last.seen, last.high.p50_us),
                (0, None),
                "no figure of a minute without canaries"
            );
        }
    }
}

/// A probe whose every write is refused has nothing pending, and has measured nothing.
#[tokio::test(start_paused = true)]
async fn a_probe_that_wrote_nothing_has_not_drained() {
    for refusal in refusals() {
        for rig in rigs() {
            let (writes, reads) = (Saying::default(), Saying::default());
            say(&writes, Some(&refusal));
            let left = refusing(rig, &writes, &reads).run_for(SECOND * 30).await;
            let accounting = left.accounting();
            assert!(
                accounting.write_failed > 100 && accounting.pending == 0,
                "{accounting:?}"
            );
            assert!(
                !left.summary.is_drained(),
                "{refusal}: nothing was measured, so nothing is fine"
            );
        }
    }
}

/// (seen, of those outside of the truth).
fn judge(store: &Scattered, left: &Left) -> (usize, usize) {
    let seen = || left.samples.iter().filter(|sample| sample.state == FinalState::Seen);
    let outside = seen().filter(|sample| {
        let truth = store.truth_us(&sample.stream, sample.sequence).unwrap();
        !(sample.lag_low_us.unwrap() <= truth && truth <= sample.lag_high_us.unwrap())
    });
    (seen().count(), outside.count())
}

/// Frozen after a minute, and resumed after ten: as every store is polled.
#[tokio::test(start_paused = true)]
async fn what_was_frozen_for_ten_minutes_is_measured_when_it_is_resumed() {
    let frozen = |_, at: Duration| {
        let (from, until) = (SECOND * 60, SECOND * 660);
        Some(if (from..until).contains(&at) {
            until - at
        } else {
            MS * 20
        })
    };
    for (is_ordered, polling, rate) in [
        (true, Polling::AURORA, "1/s"),
        (true, Polling::KAFKA, "1/s"),
        (false, Polling::DYNAMODB, "30/min"),
        (false, Polling::S3, "30/min"),
    ] {
        let store = Scattered::new(2, frozen);
        let store = ends(if is_ordered { store.ordered() } else { store });
        let running = Rig::over(store.clone(), store.clone(), polling, rate)
            .drain(SECOND * 120)
            .start();
        tokio::time::sleep(SECOND * 650).await;
        let oldest = running.figure("driftline_oldest_unseen_seconds").unwrap();
        assert!(oldest > 570.0, "{polling:?}: {oldest} s");
        let text = running.metrics.render();
        assert!(count(&running, "lost") + count(&running, "superseded") < 0.5, "{text}");
        tokio::time::sleep(SECOND * 20).await;
        let newest_settled = running.figure("driftline_oldest_unseen_seconds").unwrap_or(0.0);
        // The old canaries of a store that is paid by the read may wait for a tenth of their age; no more.
        let growth = if polling.gap_us_max == u64::MAX { 700.0 } else { 1.0 };
        assert!(
            newest_settled < growth,
            "{polling:?}: {newest_settled} s after it went on"
        );
        tokio::time::sleep(SECOND * 80).await;
        let left = running.stop().await.unwrap();
        let accounting = left.accounting();
        assert_all_seen(&accounting, format_args!("{polling:?}"));
        let (seen, outside) = judge(&store, &left);
        assert_eq!(
            (u64::try_from(seen).unwrap(), outside),
            (accounting.seen, 0),
            "{polling:?}"
        );
        // The low end of the longest is known, and within a tenth of it.
        let longest = left.samples.iter().max_by_key(|one| one.lag_low_us).unwrap();
        let truth = store.truth_us(&longest.stream, longest.sequence).unwrap();
        assert!(longest.low_known && truth > 570_000_000, "{longest:?}");
        assert!(longest.lag_low_us.unwrap() > truth / 10 * 8, "{truth}: {longest:?}");
        assert!(longest.lag_high_us.unwrap() < truth / 10 * 12, "{truth}: {longest:?}");
    }
}

/// Behind one address, one instance that is up to date and one that is three seconds old; also where nobody can tell them apart.
#[tokio::test(start_paused = true)]
async fn a_balanced_reader_that_answers_stale_again_claims_no_lag_and_loses_nothing() {
    for (is_ordered, is_named) in [(true, true), (true, false), (false, true), (false, false)] {
        let store = Scattered::new(2, |n, _| Some(if n.is_multiple_of(7) { MS * 300 } else { MS * 10 }));
        let store = if is_ordered { store.ordered() } else { store };
        let polling = if is_ordered { Polling::AURORA } else { Polling::DYNAMODB };
        let store = ends(store.balanced(SECOND * 3, is_named));
        let running = Rig::over(store.clone(), store.clone(), polling, "5/s").start();
        tokio::time::sleep(SECOND * 120).await;
        let left = running.stop().await.unwrap();
        let accounting = left.accounting();
        let case = format!("ordered: {is_ordered}, named: {is_named}");
        assert_all_seen(&accounting, &case);
        let (seen, outside) = judge(&store, &left);
        assert!(seen > 500 && outside == 0, "{outside} of {seen} outside: {case}");
        let known = left.samples.iter().filter(|sample| sample.low_known).count();
        assert_eq!(known > 0, is_named, "{known} low ends known, of {seen}: {case}");
        if is_ordered {
            assert!(left.summary.routes[0].stale_reads > 100, "{case}");
        }
    }
}

/// Killed while much is in flight in a store without order; what arrives meanwhile, or later, is settled by the next life, each canary once.
#[tokio::test(start_paused = true)]
async fn what_a_killed_probe_left_in_an_unordered_store_is_settled_once_by_the_next() {
    let store = ends(Scattered::new(2, |n, _| match n % 3 {
        0 => Some(MS * 20),
        1 => Some(SECOND * 15),
        _ => Some(SECOND * 40),
    }));
    let rig = || Rig::over(store.clone(), store.clone(), Polling::DYNAMODB, "5/s");
    let first = rig().start();
    tokio::time::sleep(SECOND * 30).await;
    let open = first.figure("driftline_pending").unwrap();
    assert!(open > 50.0, "{open}");
    let folder = first.kill().await;
    tokio::time::sleep(SECOND * 5).await;
    let second = rig().folder(folder).drain(SECOND * 60).start();
    until("the second life shows what the first left open", || {
        second.figure("driftline_pending").is_some_and(|pending| pending > 20.0)
    })
    .await;
    tokio::time::sleep(SECOND * 60).await;
    let left = second.stop().await.unwrap();
    let summary = &left.summary.routes[0];
    assert!(summary.earlier.holds() && left.accounting().holds());
    assert_eq!(
        (
            summary.earlier.pending,
            summary.earlier.lost,
            summary.earlier.superseded
        ),
        (0, 0, 0)
    );
    let own = summary.epoch.clone().unwrap();
    let mut earlier: Vec<_> = left.samples.iter().filter(|sample| sample.epoch != own).collect();
    earlier.retain(|sample| sample.state == FinalState::Seen);
    let sequences: std::collections::BTreeSet<u64> = earlier.iter().map(|sample| sample.sequence).collect();
    assert_eq!(sequences.len(), earlier.len(), "settled twice");
    assert!(earlier.len() > 50, "{} of the first life", earlier.len());
    let (_, outside) = judge(&store, &left);
    assert_eq!(outside, 0);
    let third = rig().folder(left.folder).run_for(SECOND * 5).await;
    assert_eq!(third.summary.routes[0].earlier.seen, 0, "nothing is left to settle");
}

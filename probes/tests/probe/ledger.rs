//! The ledger after ends of every kind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use probes::{EpochLedger, Frame, Ledger, LedgerError, ProbeError, WriteFate, Written, replay};
use stores::memory::{Delay, Pair, Settings};
use stores::{Canary, CanaryWriter, Result, WriteOutcome};

use crate::rig::{Left, Rig, pair, until};

const SECOND: Duration = Duration::from_secs(1);

fn quick() -> Pair {
    pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    })
}

async fn ran() -> Left {
    Rig::new(&quick(), "10/s").run_for(SECOND * 10).await
}

/// What a rig writes to the primary, in the order of the calls.
#[derive(Debug)]
struct Watched(Arc<dyn CanaryWriter>, std::sync::Mutex<Vec<Canary>>);

#[async_trait]
impl CanaryWriter for Watched {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        self.1.lock().unwrap().push(canary.clone());
        self.0.write(canary).await
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        self.0.highest_sequence(stream).await
    }

    fn ring_slots(&self) -> u64 {
        self.0.ring_slots()
    }
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_leaves_a_closed_ledger_that_knows_every_canary() {
    let left = ran().await;
    let mut acked = 0;
    let replayed = replay(&left.ledgers()[0], |written| {
        acked += u64::from(matches!(written.outcome, WriteFate::Acked(_)))
    })
    .unwrap();
    assert!(replayed.is_closed && !replayed.is_torn);
    assert_eq!(acked, left.accounting().seen);
    let newest = left
        .samples
        .iter()
        .map(|sample| sample.acked_at_us.unwrap())
        .max()
        .unwrap();
    assert!(replayed.origin.anchor.wall(replayed.complete_until_us) >= newest);
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_the_ledger_knows_every_canary_that_reached_the_primary() {
    let pair = quick();
    let mut watched = None;
    let rig = Rig::new(&pair, "20/s").writer(|inner| {
        let writer = Arc::new(Watched(inner, std::sync::Mutex::default()));
        watched = Some(writer.clone());
        writer
    });
    let running = rig.start();
    tokio::time::sleep(SECOND * 7).await;
    let folder = running.kill().await;
    let sent: BTreeSet<u64> = watched
        .unwrap()
        .1
        .lock()
        .unwrap()
        .iter()
        .map(|canary| canary.sequence)
        .collect();
    let files = probes::ledgers(folder.path(), |_| true).unwrap();
    let mut known = BTreeSet::new();
    let replayed = replay(&files[0], |written| known.extend([written.sequence])).unwrap();
    assert!(sent.len() > 100);
    assert!(!replayed.is_closed);
    assert!(
        sent.is_subset(&known),
        "{:?} are not in the ledger",
        sent.difference(&known)
    );
    assert!(
        known.len() <= sent.len() + 3,
        "only the slots planned ahead may be unknown"
    );

    let again = Rig::new(&pair, "20/s").folder(folder).run_for(SECOND * 2).await;
    let first = again.samples.iter().map(|sample| sample.sequence).min().unwrap();
    assert!(first > *sent.last().unwrap(), "sequences are never used again");
    assert_eq!(
        again.ledgers().len(),
        2,
        "each start is an epoch with a ledger of its own"
    );
    assert_ne!(again.samples[0].epoch, replayed.origin.epoch);
}

#[tokio::test(start_paused = true)]
async fn any_prefix_of_a_ledger_replays_to_a_prefix_of_its_canaries() {
    let left = ran().await;
    let ledger = &left.ledgers()[0];
    let whole = std::fs::read(&ledger.segments[0]).unwrap();
    let collect = |ledger: &EpochLedger| {
        let mut all: Vec<Written> = Vec::new();
        replay(ledger, |written| all.push(*written)).map(|replayed| (replayed, all))
    };
    let (_, all) = collect(ledger).unwrap();
    let cut = left.folder.path().join("cut.ledger");
    let cut_ledger = EpochLedger {
        segments: vec![cut.clone()],
        ..ledger.clone()
    };
    for end in (0..whole.len()).step_by(whole.len() / 60) {
        std::fs::write(&cut, &whole[..end]).unwrap();
        match collect(&cut_ledger) {
            Ok((_, part)) => {
                for written in part.iter().filter(|written| written.fate.is_some()) {
                    assert!(all.contains(written), "{written:?}");
                }
                assert!(part.len() <= all.len() + 2);
            }
            Err(LedgerError::NoEpoch { .. }) => assert!(end < 1_000, "only a cut in the first frame leaves nothing"),
            Err(error) => panic!("cut at {end}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sequences_are_reserved_on_disk_before_they_are_used() {
    let pair = quick();
    let rig = Rig::new(&pair, "100/s");
    let left = rig.run_for(SECOND * 15).await;
    let highest = left.samples.iter().map(|sample| sample.sequence).max().unwrap();
    assert!(highest > probes::RESERVE, "more than one reservation was needed");
    let next = probes::first_unreserved(left.folder.path(), "orders/use1").unwrap();
    assert!(next > highest && next <= highest + 2 * probes::RESERVE);
    let mut reserved = 0;
    for frame in journal::Reader::open(&left.ledgers()[0].segments[0])
        .unwrap()
        .records::<Frame>()
    {
        match frame.unwrap() {
            Frame::Reserved { until } => reserved = until,
            Frame::Planned { sequence, .. } => {
                assert!(sequence < reserved, "{sequence} was used before its reservation")
            }
            _ => {}
        }
    }
    assert_eq!(probes::first_unreserved(left.folder.path(), "another").unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_cannot_be_written_stops_the_probe_and_says_so() {
    let pair = quick();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("occupied");
    std::fs::write(&file, "a file and not a folder").unwrap();
    let mut rig = Rig::new(&pair, "5/s");
    rig.setting.ledger_folder = file.clone();
    let error = rig.start().end().await.err().unwrap();
    assert!(matches!(error, ProbeError::Ledger(_)));
    let words = error.to_string();
    assert!(words.contains("occupied") && words.contains("ledger folder"), "{words}");
}

#[test]
fn a_full_disk_is_named() {
    let left = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(ran());
    let origin = probes::ledgers(left.folder.path(), |_| true).unwrap()[0].origin.clone();
    let error = Ledger::start_at(std::path::Path::new("/dev/full"), &origin, 1)
        .err()
        .unwrap();
    assert!(error.to_string().contains("disk full"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn evidence_that_nobody_takes_stops_the_sending_and_loses_nothing() {
    let pair = quick();
    let mut rig = Rig::new(&pair, "1000/s");
    let (sender, mut output) = tokio::sync::mpsc::channel(1);
    rig.setting.output = sender;
    let shutdown = rig.setting.shutdown.clone();
    let metrics = rig.setting.metrics.clone();
    let probe = tokio::spawn(probes::run(vec![rig.spec.clone()], rig.setting.clone()));
    rig.setting.output = tokio::sync::mpsc::channel(1).0;
    until("slots are skipped", || {
        metrics.render().contains("driftline_skipped_total{") && skipped(&metrics.render()) > 100
    })
    .await;
    shutdown.cancel();
    let mut samples = 0;
    while let Some(row) = output.recv().await {
        samples += u64::from(matches!(row, probes::Output::Sample(_)));
    }
    let summary = probe.await.unwrap().unwrap();
    let accounting = summary.routes[0].accounting;
    assert!(accounting.skipped > 100 && accounting.holds());
    assert_eq!(
        samples,
        accounting.planned - accounting.skipped,
        "every canary came out in the end"
    );
}

fn skipped(text: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with("driftline_skipped_total{"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_goes_away_stops_the_probe() {
    let pair = quick();
    let mut rig = Rig::new(&pair, "5/s");
    rig.setting.output = tokio::sync::mpsc::channel(1).0;
    let error = rig.start().end().await.err().unwrap();
    assert!(matches!(error, ProbeError::OutputClosed), "{error}");
}

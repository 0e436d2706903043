//! Segments of a ledger: what is open is carried on, and what is old goes.

use std::path::Path;
use std::time::{Duration, SystemTime};

use probes::{
    Anchor, EpochLedger, FinalState, Frame, KEEP_UNSETTLED_FACTOR, Ledger, Origin, SEGMENT_BYTES_MAX, Settled, Written,
    first_unreserved, ledgers, remove_old, replay,
};
use stores::memory::{Delay, Settings};

use crate::rig::{Rig, WALL, pair, route};

const KEEP: Duration = Duration::from_secs(3_600);

fn origin(epoch: &str, wall_us: i64) -> Origin {
    Origin {
        route: route(),
        stream: "s".to_owned(),
        epoch: epoch.to_owned(),
        anchor: Anchor::at(0, wall_us),
    }
}

fn settled(sequence: u64, state: FinalState) -> Frame {
    Frame::Settled(Settled {
        sequence,
        planned_us: sequence,
        sent_us: sequence,
        acked_us: (state != FinalState::WriteFailed).then_some(sequence + 1),
        seen_us: None,
        low_us: None,
        high_us: None,
        low_known: false,
        state,
    })
}

/// Overlapping lives of eight canaries: seen, failed, lost, skipped, unknown, and some that stay open.
fn lives() -> Vec<Frame> {
    let planned = |sequence| Frame::Planned {
        sequence,
        planned_us: sequence,
    };
    let sent = |sequence| Frame::Sent {
        sequence,
        planned_us: sequence,
        sent_us: sequence,
    };
    let acked = |sequence| Frame::Acked {
        sequence,
        acked_us: sequence + 1,
    };
    vec![
        planned(1),
        sent(1),
        planned(2),
        acked(1),
        sent(2),
        planned(3),
        Frame::Skipped {
            sequence: 3,
            planned_us: 3,
        },
        settled(2, FinalState::WriteFailed),
        planned(4),
        sent(4),
        settled(1, FinalState::Seen),
        planned(5),
        sent(5),
        settled(4, FinalState::Seen), // before its acknowledgement: two tasks hand in frames
        acked(4),
        Frame::Unknown { sequence: 5, at_us: 9 },
        Frame::Reserved { until: 2_001 },
        planned(6),
        sent(6),
        acked(6),
        Frame::Complete { until_us: 9 },
        settled(6, FinalState::Lost),
        planned(7),
        sent(7),
        acked(7),
        planned(8),
    ]
}

fn next(ledger: &mut Ledger) {
    let segment = ledger.next_segment().unwrap().write().unwrap();
    ledger.go_on_in(segment, 0);
}

fn told(ledger: &EpochLedger) -> Vec<Written> {
    let mut all = Vec::new();
    replay(ledger, |canary| all.push(*canary)).unwrap();
    all.sort_unstable_by_key(|canary| canary.sequence);
    all
}

fn only(folder: &Path) -> EpochLedger {
    let mut found = ledgers(folder, |_| true).unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn age(path: &Path, by: Duration) {
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

#[test]
fn a_ledger_tells_the_same_wherever_it_is_cut_and_its_newest_segment_knows_all_that_is_open() {
    let whole = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::start(whole.path(), &origin("e", WALL), 1).unwrap();
    lives().iter().for_each(|frame| ledger.append(frame).unwrap());
    let wanted = told(&only(whole.path()));
    assert_eq!(
        wanted.iter().map(|canary| canary.sequence).collect::<Vec<_>>(),
        [1, 2, 4, 5, 6, 7, 8]
    );
    for cut in 0..=lives().len() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::start(folder.path(), &origin("e", WALL), 1).unwrap();
        lives()[..cut].iter().for_each(|frame| ledger.append(frame).unwrap());
        let settled_before: Vec<u64> = told(&only(folder.path()))
            .iter()
            .filter(|canary| canary.fate.is_some())
            .map(|one| one.sequence)
            .collect();
        next(&mut ledger);
        next(&mut ledger);
        lives()[cut..].iter().for_each(|frame| ledger.append(frame).unwrap());
        let found = only(folder.path());
        assert_eq!(found.segments.len(), 3);
        assert_eq!(told(&found), wanted, "cut at {cut}");
        assert_eq!(first_unreserved(folder.path(), "s").unwrap(), 2_001, "cut at {cut}");
        for old in &found.segments[..2] {
            std::fs::remove_file(old).unwrap();
        }
        let left: Vec<Written> = wanted
            .iter()
            .filter(|canary| !settled_before.contains(&canary.sequence))
            .copied()
            .collect();
        assert_eq!(told(&only(folder.path())), left, "cut at {cut}");
    }
}

#[test]
fn what_is_before_a_missing_or_shortened_segment_is_not_used() {
    for is_missing in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::start(folder.path(), &origin("e", WALL), 1).unwrap();
        for frame in lives() {
            ledger.append(&frame).unwrap();
            if matches!(frame, Frame::Acked { .. }) {
                next(&mut ledger);
            }
        }
        let found = only(folder.path());
        assert_eq!(found.segments.len(), 5);
        if is_missing {
            std::fs::remove_file(&found.segments[2]).unwrap();
        } else {
            let file = std::fs::File::options().write(true).open(&found.segments[2]).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }
        assert_eq!(
            only(folder.path()).segments,
            found.segments[3..],
            "missing: {is_missing}"
        );
    }
}

#[test]
fn old_segments_go_and_what_is_open_or_reserved_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Ledger::start(folder.path(), &origin("e1", WALL), 1).unwrap();
    lives().iter().for_each(|frame| first.append(frame).unwrap());
    next(&mut first);
    drop(first); // killed: 5, 7 and 8 never got a last word
    let mut second = Ledger::start(folder.path(), &origin("e2", WALL + 1), 2_001).unwrap();
    next(&mut second);
    let now = SystemTime::now();
    let remove = || remove_old(folder.path(), "s", KEEP, now).unwrap();
    let count = || {
        ledgers(folder.path(), |_| true)
            .unwrap()
            .iter()
            .map(|epoch| epoch.segments.len())
            .collect::<Vec<_>>()
    };
    assert_eq!((remove().segments, count()), (0, vec![2, 2]), "all are young");
    for epoch in ledgers(folder.path(), |_| true).unwrap() {
        epoch.segments.iter().for_each(|path| age(path, KEEP * 2));
    }
    assert_eq!(
        (remove().segments, count()),
        (1, vec![1, 2]),
        "one goes on in the other"
    );
    assert_eq!(
        told(&ledgers(folder.path(), |_| true).unwrap()[0]).len(),
        3,
        "and keeps what was open"
    );
    for epoch in ledgers(folder.path(), |_| true).unwrap() {
        epoch
            .segments
            .iter()
            .for_each(|path| age(path, KEEP * (KEEP_UNSETTLED_FACTOR + 1)));
    }
    let removed = remove();
    assert_eq!(
        (removed.segments, removed.unsettled),
        (2, 3),
        "the disk has a bound all the same, and it is said"
    );
    assert_eq!(count(), [1], "the newest always stays");
    assert_eq!(first_unreserved(folder.path(), "s").unwrap(), 3_001);
    assert_eq!(remove_old(folder.path(), "another", KEEP, now).unwrap().segments, 0);
}

#[test]
fn a_segment_ends_by_size_and_one_that_cannot_follow_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::start(folder.path(), &origin("e", WALL), 1).unwrap();
    assert!(!ledger.is_due(3_599_999_999) && ledger.is_due(3_600_000_000));
    let mut count = 0_u64;
    while !ledger.is_due(0) {
        ledger.append(&Frame::Complete { until_us: count }).unwrap();
        count += 1;
        assert!(count < SEGMENT_BYTES_MAX, "never");
    }
    let path = only(folder.path()).segments.remove(0);
    assert!(std::fs::metadata(&path).unwrap().len() < SEGMENT_BYTES_MAX + 1_000);
    let following = ledger.next_segment().unwrap();
    let moved = folder.path().with_extension("moved");
    std::fs::rename(folder.path(), &moved).unwrap();
    let words = following.write().unwrap_err().to_string();
    std::fs::rename(&moved, folder.path()).unwrap();
    assert!(words.contains("000001.ledger"), "{words}");
    ledger.append(&Frame::Complete { until_us: count }).unwrap();
    assert_eq!(only(folder.path()).segments, [path], "the one before is as it was");
    next(&mut ledger);
    assert!(!ledger.is_due(0), "what is carried on does not count");
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_hours_goes_on_from_segment_to_segment_without_losing_a_canary() {
    let pair = pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    });
    let left = Rig::new(&pair, "2/min").run_for(Duration::from_secs(9_000)).await;
    let accounting = left.accounting();
    let ledger = &left.ledgers()[0];
    assert_eq!(ledger.segments.len(), 3);
    let all = told(ledger);
    let seen = all
        .iter()
        .filter(|canary| canary.fate == Some(FinalState::Seen))
        .count();
    assert_eq!(u64::try_from(seen).unwrap(), accounting.seen);
    assert!(accounting.seen > 200);
    assert!(replay(ledger, |_| {}).unwrap().is_closed);
}

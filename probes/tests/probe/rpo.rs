//! What an event cost, by the ledger.

use std::path::Path;
use std::time::Duration;

use probes::{
    Anchor, CutOver, FinalState, Frame, Ledger, LossShape, Origin, Rpo, RpoQuestion, Settled, judge_rpo, ledgers,
    merge_rpos, ring_frames,
};
use stores::memory::{Delay, Settings};
use stores::{Canary, Covers, Oddities, Sighting};

use crate::rig::{Rig, pair, route};

const SECOND: Duration = Duration::from_secs(1);
const WALL: i64 = 1_795_251_600_000_000;
const RING: u64 = 8;

fn origin(epoch: &str, wall_us: i64) -> Origin {
    Origin {
        route: route(),
        stream: "s".to_owned(),
        epoch: epoch.to_owned(),
        anchor: Anchor::at(0, wall_us),
    }
}

/// Canary n is planned and sent at n seconds and acknowledged 10 ms later.
struct Script {
    folder: tempfile::TempDir,
    ledger: Ledger,
}

impl Script {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::start(folder.path(), &origin("e1", WALL), 1).unwrap();
        Self { folder, ledger }
    }

    fn next_epoch(&mut self, epoch: &str, first: u64) {
        self.ledger = Ledger::start(self.folder.path(), &origin(epoch, WALL), first).unwrap();
    }

    fn append(&mut self, frame: Frame) -> &mut Self {
        self.ledger.append(&frame).unwrap();
        self
    }

    fn sent(&mut self, sequence: u64) -> &mut Self {
        let at = sequence * 1_000_000;
        self.append(Frame::Planned {
            sequence,
            planned_us: at - 1_000,
        });
        self.append(Frame::Sent {
            sequence,
            planned_us: at - 1_000,
            sent_us: at,
        })
    }

    fn acked(&mut self, sequences: impl IntoIterator<Item = u64>) -> &mut Self {
        for sequence in sequences {
            self.sent(sequence).append(Frame::Acked {
                sequence,
                acked_us: sequence * 1_000_000 + 10_000,
            });
        }
        self
    }

    fn settled(&mut self, sequences: impl IntoIterator<Item = u64>, state: FinalState) -> &mut Self {
        for sequence in sequences {
            let at = sequence * 1_000_000;
            self.append(Frame::Settled(Settled {
                sequence,
                planned_us: at - 1_000,
                sent_us: at,
                acked_us: Some(at + 10_000),
                seen_us: None,
                low_us: None,
                high_us: None,
                low_known: false,
                state,
            }));
        }
        self
    }

    fn judge(&mut self, survivors: &[(&str, u64)], is_ordered: bool, cut_over_s: i64) -> Rpo {
        self.judge_by(&sighting(survivors), is_ordered, cut_over_s)
    }

    fn judge_by(&mut self, survivors: &Sighting, is_ordered: bool, cut_over_s: i64) -> Rpo {
        self.append(Frame::Complete { until_us: 30_000_000 });
        judge(
            self.folder.path(),
            "s",
            survivors,
            is_ordered,
            WALL + cut_over_s * 1_000_000,
        )
    }
}

fn sighting(canaries: &[(&str, u64)]) -> Sighting {
    Sighting {
        canaries: canaries
            .iter()
            .map(|(epoch, sequence)| Canary {
                stream: "s".to_owned(),
                epoch: (*epoch).to_owned(),
                sequence: *sequence,
                stamp: None,
            })
            .collect(),
        instance: "promoted".to_owned(),
        strong: true,
        covers: Covers::Ring,
        oddities: Oddities::default(),
    }
}

fn judge(folder: &Path, stream: &str, survivors: &Sighting, is_ordered: bool, cut_over_us: i64) -> Rpo {
    let files = ledgers(folder, |origin| origin.stream == stream).unwrap();
    let question = RpoQuestion {
        route: &route(),
        event_id: "event",
        ledgers: &files,
        survivors,
        ring_slots: RING,
        is_ordered,
        cut_over: CutOver {
            promoted_at_us: Some(cut_over_us),
            traffic_shifted_at_us: None,
        },
    };
    judge_rpo(&question).unwrap().unwrap()
}

/// The slots of the ring after these sequences were written in order.
fn ring(epoch: &str, upto: u64) -> Vec<(&str, u64)> {
    (upto.saturating_sub(RING - 1).max(1)..=upto)
        .map(|sequence| (epoch, sequence))
        .collect()
}

#[test]
fn the_newest_are_lost_as_a_suffix_and_the_loss_lies_between_two_bounds() {
    let rpo = Script::new().acked(1..=20).judge(&ring("e1", 15), true, 22);
    assert_eq!((rpo.acked, rpo.survived, rpo.lost, rpo.unknown), (20, 15, 5, 0));
    assert_eq!(rpo.shape, LossShape::Suffix);
    assert_eq!(rpo.first_lost_at_us, Some(WALL + 16_010_000));
    assert_eq!(rpo.last_lost_at_us, Some(WALL + 20_010_000));
    assert_eq!(
        rpo.rpo_low_us, 4_000_000,
        "from the first lost acknowledgement to the last"
    );
    assert_eq!(
        rpo.rpo_high_us,
        Some(7_000_000),
        "from the newest survivor's w0 to the cut-over"
    );
    assert_eq!(rpo.ledger_complete_until_us, WALL + 30_000_000);
    assert!(rpo.canaries.iter().all(|one| one.state == FinalState::Lost) && rpo.canaries.len() == 5);
}

#[test]
fn writes_at_the_old_primary_after_the_cut_over_are_lost_too() {
    let rpo = Script::new().acked(1..=20).judge(&ring("e1", 15), true, 18);
    assert_eq!(rpo.lost, 5);
    assert_eq!(
        rpo.rpo_high_us,
        Some(5_010_000),
        "the last lost acknowledgement is later than the promotion"
    );
}

#[test]
fn nothing_lost_still_has_an_upper_bound() {
    let rpo = Script::new().acked(1..=20).judge(&ring("e1", 20), true, 23);
    assert_eq!((rpo.lost, rpo.survived, rpo.shape), (0, 20, LossShape::None));
    assert_eq!((rpo.rpo_low_us, rpo.rpo_high_us), (0, Some(3_000_000)));
    assert_eq!((rpo.first_lost_at_us, rpo.last_lost_at_us), (None, None));
}

#[test]
fn a_lost_canary_before_a_survivor_is_a_hole() {
    let mut survivors = ring("e1", 20);
    survivors.retain(|(_, sequence)| *sequence != 17);
    survivors.push(("e1", 9)); // the slot of 17 still holds the one before
    let rpo = Script::new().acked(1..=20).judge(&survivors, true, 21);
    assert_eq!((rpo.lost, rpo.shape), (1, LossShape::Holes));
    assert_eq!(rpo.canaries[0].sequence, 17);
}

#[test]
fn in_an_unordered_store_losses_are_scattered_and_overwritten_slots_prove_nothing() {
    let mut survivors = ring("e1", 20);
    survivors.retain(|(_, sequence)| *sequence != 17);
    survivors.push(("e1", 9)); // the slot of 17 still holds the one before
    let rpo = Script::new().acked(1..=20).judge(&survivors, false, 21);
    assert_eq!((rpo.survived, rpo.lost, rpo.unknown), (8, 1, 11));
    assert_eq!(rpo.shape, LossShape::Scattered);
}

#[test]
fn among_holes_a_survivor_bounds_only_what_came_after_it() {
    let mut survivors = ring("e1", 20);
    survivors.retain(|(_, sequence)| *sequence != 17);
    survivors.push(("e1", 9));
    for is_ordered in [true, false] {
        let mut script = Script::new();
        let rpo = script
            .acked(1..=20)
            .settled(1..=12, FinalState::Seen)
            .judge(&survivors, is_ordered, 21);
        assert_eq!(rpo.lost, 1);
        assert_eq!(rpo.rpo_high_us, Some(5_000_000), "from 16 on, ordered: {is_ordered}");
    }
}

#[test]
fn what_had_arrived_in_an_unordered_store_before_its_slot_was_taken_survived() {
    let mut script = Script::new();
    script.acked(1..=20).settled(1..=10, FinalState::Seen);
    let rpo = script.judge(&ring("e1", 20), false, 21);
    assert_eq!(
        (rpo.survived, rpo.lost, rpo.unknown),
        (18, 0, 2),
        "11 and 12 were overwritten unseen"
    );
    assert_eq!(rpo.rpo_high_us, Some(11_000_000), "11 may be lost, 10 is not");
    let gone = script
        .settled([11, 12], FinalState::Seen)
        .judge(&[("e1", 20)], false, 21);
    assert_eq!(
        (gone.survived, gone.lost),
        (3, 17),
        "what was there and is gone with an empty slot is lost, whatever was seen before"
    );
}

#[test]
fn what_a_look_did_not_cover_is_neither_lost_nor_survived() {
    let mut script = Script::new();
    script.acked(1..=8).settled(1..=8, FinalState::Seen);
    let part = Sighting {
        covers: Covers::Slots(vec![5, 7, 8]),
        ..sighting(&[("e1", 5), ("e1", 8)])
    };
    let rpo = script.judge_by(&part, false, 10);
    assert_eq!((rpo.survived, rpo.lost, rpo.unknown), (2, 1, 5));
    assert_eq!(rpo.rpo_high_us, None, "the first may be lost");
    assert_eq!(rpo.shape, LossShape::Scattered);
}

#[test]
fn a_kept_ring_covers_an_ordered_store_and_only_adds_presence_to_an_unordered_one() {
    let nothing_read = Sighting {
        covers: Covers::Slots(vec![]),
        ..sighting(&[])
    };
    for (is_ordered, expected) in [(true, (5, 3, 0)), (false, (5, 0, 3))] {
        let mut script = Script::new();
        script.acked(1..=8);
        for frame in ring_frames(&sighting(&ring("e1", 5)), 9_000_000) {
            script.append(frame);
        }
        let rpo = script.judge_by(&nothing_read, is_ordered, 10);
        assert_eq!((rpo.survived, rpo.lost, rpo.unknown), expected, "ordered: {is_ordered}");
    }
}

#[test]
fn a_large_ring_goes_through_the_ledger_whole() {
    let all: Vec<(&str, u64)> = (1..=25_000).map(|sequence| ("e1", sequence)).collect();
    for covers in [Covers::Ring, Covers::Slots((1..=30_000).collect())] {
        let wanted = Sighting {
            covers,
            ..sighting(&all)
        };
        let mut script = Script::new();
        for frame in ring_frames(&wanted, 7) {
            script.append(frame);
        }
        let found = ledgers(script.folder.path(), |_| true).unwrap();
        let kept = probes::replay(&found[0], |_| {}).unwrap().ring.unwrap();
        assert_eq!((kept.canaries, kept.covers), (wanted.canaries, wanted.covers));
    }
}

#[test]
fn what_was_proved_lost_stays_lost_although_its_slot_was_taken_since() {
    let mut script = Script::new();
    script.acked(1..=20).settled([11], FinalState::Lost);
    let rpo = script.judge(&ring("e1", 20), true, 21);
    assert_eq!((rpo.survived, rpo.lost, rpo.shape), (19, 1, LossShape::Holes));
}

#[test]
fn every_epoch_of_an_unordered_store_is_judged() {
    let mut script = Script::new();
    script.acked(1..=3);
    script.next_epoch("e2", 1_001);
    script.acked(1_005..=1_007);
    let survivors = [("e1", 1), ("e1", 3), ("e2", 1_005), ("e2", 1_006), ("e2", 1_007)];
    let rpo = script.judge(&survivors, false, 1_010);
    assert_eq!((rpo.acked, rpo.lost, rpo.shape), (6, 1, LossShape::Scattered));
    assert_eq!(
        rpo.rpo_high_us,
        Some(1_009_000_000),
        "only the first came before the lost one"
    );
}

#[test]
fn partitions_are_merged_into_the_worst_of_them() {
    let a = Script::new().acked(1..=20).judge(&ring("e1", 15), true, 22);
    let b = Script::new().acked(1..=10).judge(&ring("e1", 9), true, 22);
    let merged = merge_rpos(vec![a.clone(), b.clone()], &[]).remove(0);
    let rpo = merged.rpo;
    assert_eq!((rpo.acked, rpo.survived, rpo.lost), (30, 24, 6));
    assert_eq!(
        (rpo.first_lost_at_us, rpo.last_lost_at_us),
        (b.first_lost_at_us, a.last_lost_at_us)
    );
    assert_eq!((rpo.rpo_low_us, rpo.rpo_high_us), (a.rpo_low_us, b.rpo_high_us));
    assert_eq!(
        (rpo.shape, rpo.canaries.len()),
        (LossShape::Suffix, 6),
        "a suffix in each partition"
    );
    let missing = merge_rpos(vec![a.clone(), b], &[(route(), "s/2".to_owned())]).remove(0);
    assert_eq!(missing.without_ledger, ["s/2"]);
    assert_eq!(missing.rpo.rpo_high_us, None, "what it lost is not known");
    let mut elsewhere = a.clone();
    elsewhere.route.observer = "use1/other".to_owned();
    assert_eq!(merge_rpos(vec![a, elsewhere], &[]).len(), 2, "routes are not mixed");
}

#[test]
fn absent_canaries_of_unknown_outcome_may_or_may_not_be_lost() {
    let mut script = Script::new();
    script.acked(1..=15);
    script.sent(16).append(Frame::Unknown {
        sequence: 16,
        at_us: 21_000_000,
    });
    script.acked(17..=17);
    script.sent(18); // the ledger ends before it tells
    let rpo = script.judge(&ring("e1", 15), true, 22);
    assert_eq!((rpo.acked, rpo.lost, rpo.unknown), (16, 1, 2));
    let states: Vec<_> = rpo.canaries.iter().map(|one| (one.sequence, one.state)).collect();
    assert_eq!(
        states,
        [
            (16, FinalState::WriteUnknown),
            (17, FinalState::Lost),
            (18, FinalState::WriteUnknown)
        ]
    );
}

#[test]
fn a_slot_that_was_planned_may_have_been_sent_unless_the_probe_ended_in_order() {
    for (is_closed, unknown) in [(false, 1), (true, 0)] {
        let mut script = Script::new();
        script.acked(1..=5).append(Frame::Planned {
            sequence: 6,
            planned_us: 6_000_000,
        });
        if is_closed {
            script.append(Frame::Closed {
                at_us: 5_500_000,
                pending: 0,
            });
        }
        let rpo = script.judge(&ring("e1", 5), true, 7);
        assert_eq!((rpo.lost, rpo.unknown), (0, unknown), "closed: {is_closed}");
    }
}

#[test]
fn a_failed_write_is_no_loss_and_no_survivor_is_no_upper_bound() {
    let mut script = Script::new();
    script.acked(1..=3).sent(4).append(Frame::Settled(Settled {
        sequence: 4,
        planned_us: 4_000_000,
        sent_us: 4_000_000,
        acked_us: None,
        seen_us: None,
        low_us: None,
        high_us: None,
        low_known: false,
        state: FinalState::WriteFailed,
    }));
    let rpo = script.judge(&[], true, 9);
    assert_eq!((rpo.acked, rpo.lost, rpo.unknown), (3, 3, 0));
    assert_eq!((rpo.rpo_low_us, rpo.rpo_high_us), (2_000_000, None));
}

#[test]
fn a_ring_that_the_probe_kept_counts_although_it_was_overwritten_since() {
    let mut script = Script::new();
    let kept = sighting(&ring("e1", 15));
    script.acked(1..=20).append(Frame::Ring {
        at_us: 25_000_000,
        instance: "promoted".to_owned(),
        canaries: kept.canaries,
        covers: Covers::Ring,
    });
    let strangers: Vec<(&str, u64)> = (100..100 + RING).map(|sequence| ("stranger", sequence)).collect();
    let rpo = script.judge(&strangers, true, 22);
    assert_eq!(rpo.survived, 15);
    assert_eq!(
        (rpo.lost, rpo.unknown),
        (0, 5),
        "a stranger took the slots: nobody knows"
    );
    assert_eq!(rpo.rpo_high_us, Some(7_000_000));
}

#[test]
fn epochs_are_judged_from_the_newest_back_to_one_with_a_survivor() {
    let mut script = Script::new();
    script.acked(1..=10);
    script.next_epoch("e2", 1_001);
    script.acked(1_001..=1_003);
    let lost = script.judge(&ring("e1", 8), true, 1_010);
    assert_eq!(
        (lost.epoch.as_str(), lost.acked, lost.lost),
        ("e2", 13, 5),
        "both epochs"
    );
    let kept = script.judge(&[("e2", 1_001)], true, 1_010);
    assert_eq!(
        (kept.acked, kept.survived, kept.lost),
        (3, 1, 2),
        "what is before a survivor's epoch is not judged"
    );
}

#[tokio::test(start_paused = true)]
async fn a_promotion_behind_a_stall_costs_what_was_written_in_it() {
    let pair = pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        round_trip: Duration::from_millis(2),
        ring_slots: RING,
        ..Settings::default()
    });
    let running = Rig::new(&pair, "5/s").drain(SECOND).start();
    tokio::time::sleep(SECOND * 20).await;
    pair.stall();
    tokio::time::sleep(SECOND * 10).await;
    pair.promote();
    let left = running.stop().await.unwrap();
    let survivors = pair
        .secondary()
        .canary_reader
        .unwrap()
        .poll("orders/use1", stores::Sought::All)
        .await
        .unwrap();
    let cut_over = left.intervals.iter().map(|row| row.interval_start_us).min().unwrap() + 3_600_000_000;
    let rpo = judge(left.folder.path(), "orders/use1", &survivors, true, cut_over);
    let accounting = left.accounting();
    assert_eq!((rpo.survived, rpo.lost), (accounting.seen, accounting.pending));
    assert_eq!(rpo.shape, LossShape::Suffix);
    assert!((8_000_000..10_100_000).contains(&rpo.rpo_low_us), "{rpo:?}");
    assert!(rpo.rpo_high_us.unwrap() >= rpo.rpo_low_us);
}

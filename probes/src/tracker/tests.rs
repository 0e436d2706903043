use proptest::prelude::*;
use stores::{Canary, Covers, Oddities};

use super::*;

const RING: u64 = 8;

fn tracker(is_ordered: bool) -> Tracker {
    Tracker::new("e", is_ordered, RING)
}

fn ring(instance: &str, sequences: &[u64]) -> Sighting {
    ring_of("e", instance, sequences)
}

fn ring_of(epoch: &str, instance: &str, sequences: &[u64]) -> Sighting {
    Sighting {
        canaries: sequences
            .iter()
            .map(|sequence| Canary {
                stream: "s".to_owned(),
                epoch: epoch.to_owned(),
                sequence: *sequence,
                stamp: None,
            })
            .collect(),
        instance: instance.to_owned(),
        strong: true,
        covers: Covers::Ring,
        oddities: Oddities::default(),
    }
}

/// Sent at 1,000, acknowledged at 1,100.
fn acked(tracker: &mut Tracker, sequence: u64) {
    tracker.sent(sequence, 990, 1_000);
    assert_eq!(tracker.acked(sequence, 1_100), None);
}

fn only(settled: &[Settled]) -> Settled {
    assert_eq!(settled.len(), 1, "{settled:?}");
    settled[0]
}

#[test]
fn lag_lies_between_the_last_miss_sent_and_the_first_hit_received() {
    let mut tracker = tracker(true);
    acked(&mut tracker, 1);
    assert!(tracker.polled(&ring("i", &[]), 1_200, 1_300).is_empty());
    assert!(tracker.polled(&ring("i", &[]), 1_500, 1_600).is_empty());
    let seen = only(&tracker.polled(&ring("i", &[1]), 2_000, 2_200));
    assert_eq!(
        (seen.low_us, seen.high_us, seen.low_known),
        (Some(400), Some(1_200), true)
    );
    assert_eq!(seen.state, FinalState::Seen);
}

#[test]
fn only_a_strong_miss_of_the_instance_that_hits_sent_after_the_canary_counts() {
    let cases: [(&str, Sighting, u64); 3] = [
        ("another instance", ring("other", &[]), 1_500),
        (
            "a weak read",
            Sighting {
                strong: false,
                ..ring("i", &[])
            },
            1_500,
        ),
        ("sent before the canary", ring("i", &[]), 900),
    ];
    for (why, miss, sent_us) in cases {
        let mut tracker = tracker(true);
        acked(&mut tracker, 1);
        tracker.polled(&miss, sent_us, sent_us + 50);
        let seen = only(&tracker.polled(&ring("i", &[1]), 2_000, 2_200));
        assert_eq!((seen.low_us, seen.low_known), (Some(0), false), "{why}");
    }
}

#[test]
fn a_canary_that_is_seen_before_its_acknowledgement_waits_for_it() {
    let mut tracker = tracker(true);
    tracker.sent(1, 990, 1_000);
    assert!(tracker.polled(&ring("i", &[]), 1_010, 1_020).is_empty());
    assert!(tracker.polled(&ring("i", &[1]), 1_030, 1_040).is_empty());
    assert_eq!(tracker.accounting().pending, 1);
    let seen = tracker.acked(1, 5_000).unwrap();
    assert_eq!((seen.low_us, seen.high_us, seen.low_known), (Some(0), Some(40), true));
}

#[test]
fn a_later_sequence_proves_an_overwritten_one_in_an_ordered_stream_only() {
    for (is_ordered, state) in [(true, FinalState::Seen), (false, FinalState::Superseded)] {
        let mut tracker = tracker(is_ordered);
        acked(&mut tracker, 1);
        tracker.sent(1 + RING, 1_990, 2_000);
        tracker.acked(1 + RING, 2_100);
        let settled = tracker.polled(&ring("i", &[1 + RING]), 3_000, 3_100);
        assert_eq!(settled.len(), 2);
        assert_eq!((settled[0].sequence, settled[0].state), (1, state));
    }
}

#[test]
fn a_hole_below_a_visible_sequence_is_lost_only_if_it_was_acknowledged_before_that_one_was_sent() {
    let mut tracker = tracker(true);
    acked(&mut tracker, 1);
    tracker.sent(2, 1_990, 2_000);
    tracker.sent(3, 1_990, 2_000);
    tracker.acked(2, 2_100); // 3 was under way by then: it may be visible first
    tracker.acked(3, 2_100);
    let settled = tracker.polled(&ring("i", &[3]), 3_000, 3_100);
    let states: Vec<_> = settled.iter().map(|one| (one.sequence, one.state)).collect();
    assert_eq!(states, [(1, FinalState::Lost), (3, FinalState::Seen)]);
    assert_eq!(settled[0].high_us, None);
    assert_eq!(
        only(&tracker.polled(&ring("i", &[2, 3]), 3_200, 3_300)).state,
        FinalState::Seen
    );
}

#[test]
fn an_unordered_store_proves_no_loss_by_a_later_sequence() {
    let mut tracker = tracker(false);
    acked(&mut tracker, 1);
    tracker.sent(2, 1_990, 2_000);
    tracker.acked(2, 2_100);
    assert_eq!(only(&tracker.polled(&ring("i", &[2]), 3_000, 3_100)).sequence, 2);
    assert_eq!(tracker.accounting().pending, 1);
}

#[test]
fn a_write_of_unknown_outcome_that_appears_is_seen_and_one_that_is_overwritten_stays_unknown() {
    let mut tracker = tracker(true);
    for sequence in [1, 2] {
        tracker.sent(sequence, 990, 1_000);
        assert_eq!(tracker.unknown(sequence, 1_100), None);
    }
    assert_eq!(tracker.accounting().write_unknown, 2);
    assert!(tracker.watches_unknown());
    let seen = only(&tracker.polled(&ring("i", &[1]), 9_000, 9_100));
    assert_eq!(
        (seen.state, seen.acked_us, seen.low_known),
        (FinalState::Seen, None, false)
    );
    tracker.sent(2 + RING, 9_900, 10_000);
    tracker.acked(2 + RING, 10_100);
    let settled = tracker.polled(&ring("i", &[1, 2 + RING]), 11_000, 11_100);
    assert_eq!((settled[0].sequence, settled[0].state), (2, FinalState::WriteUnknown));
    let accounting = tracker.accounting();
    assert_eq!(
        (accounting.seen, accounting.write_unknown, accounting.pending),
        (2, 1, 0)
    );
    assert!(accounting.holds());
}

#[test]
fn a_promotion_loses_what_is_not_in_the_surviving_ring() {
    let mut tracker = tracker(false);
    for sequence in 1..=3 {
        acked(&mut tracker, sequence);
    }
    tracker.sent(4, 990, 1_000);
    tracker.unknown(4, 1_100);
    tracker.sent(5, 990, 1_000);
    let settled = tracker.promoted(&ring("i", &[1, 2]), 5_000, 5_100);
    let states: Vec<_> = settled.iter().map(|one| (one.sequence, one.state)).collect();
    assert_eq!(
        states,
        [
            (1, FinalState::Seen),
            (2, FinalState::Seen),
            (3, FinalState::Lost),
            (4, FinalState::WriteUnknown)
        ]
    );
    assert_eq!(tracker.accounting().pending, 1, "the one under way is not judged");
}

#[test]
fn canaries_of_another_epoch_are_not_ours() {
    let mut tracker = tracker(true);
    acked(&mut tracker, 1);
    assert!(tracker.polled(&ring_of("other", "i", &[1]), 2_000, 2_100).is_empty());
    let settled = only(&tracker.polled(&ring_of("other", "i", &[1 + RING]), 3_000, 3_100));
    assert_eq!(
        settled.state,
        FinalState::Superseded,
        "a stranger took its slot: order proves nothing"
    );
}

#[test]
fn a_poll_that_shows_less_than_an_earlier_one_is_a_stale_read() {
    let mut tracker = tracker(true);
    acked(&mut tracker, 1);
    tracker.polled(&ring("i", &[1]), 2_000, 2_100);
    tracker.polled(&ring("j", &[]), 2_050, 2_150);
    assert_eq!(tracker.stale_reads(), 0, "sent before the hit was known");
    tracker.polled(&ring("j", &[]), 2_200, 2_300);
    tracker.polled(&ring("i", &[1]), 2_400, 2_500);
    tracker.polled(&ring("i", &[1 + RING]), 2_600, 2_700);
    assert_eq!(tracker.stale_reads(), 1);
}

#[test]
fn the_oldest_unseen_canary_ages_while_nothing_happens() {
    let mut tracker = tracker(true);
    assert_eq!(tracker.oldest_unseen_us(9_000), None);
    acked(&mut tracker, 1);
    assert_eq!(tracker.oldest_unseen_us(9_100), Some(8_000));
    assert_eq!(tracker.oldest_unseen_us(99_100), Some(98_000));
}

#[test]
fn an_unordered_ring_bounds_what_is_pending() {
    let mut tracker = tracker(false);
    let mut superseded = 0;
    for sequence in 1..=3 * RING {
        superseded += u64::from(tracker.sent(sequence, 0, 1).is_some());
        tracker.acked(sequence, 2);
    }
    assert_eq!((superseded, tracker.accounting().superseded), (2 * RING, 2 * RING));
    assert!(tracker.accounting().holds());
}

/// What may happen to a tracker, in any order.
#[derive(Debug, Clone)]
enum Happening {
    Skip,
    Send,
    Ack(u64),
    Fail(u64),
    Unknown(u64),
    Poll {
        shown: Vec<u64>,
        instance: u8,
        strong: bool,
    },
    Promote(Vec<u64>),
    Close,
}

fn happening() -> impl Strategy<Value = Happening> {
    let sequence = 1u64..40;
    let shown = proptest::collection::vec(1u64..40, 0..8);
    prop_oneof![
        1 => Just(Happening::Skip),
        6 => Just(Happening::Send),
        6 => sequence.clone().prop_map(Happening::Ack),
        1 => sequence.clone().prop_map(Happening::Fail),
        2 => sequence.prop_map(Happening::Unknown),
        6 => (shown.clone(), 0u8..3, any::<bool>())
            .prop_map(|(shown, instance, strong)| Happening::Poll { shown, instance, strong }),
        1 => shown.prop_map(Happening::Promote),
        1 => Just(Happening::Close),
    ]
}

proptest! {
    /// Whatever happens in whatever order, every planned slot is accounted for once, no canary is settled twice, and low <= high.
    #[test]
    fn every_slot_is_accounted_for_once(
        is_ordered in any::<bool>(), happenings in proptest::collection::vec(happening(), 0..200)
    ) {
        let mut tracker = tracker(is_ordered);
        let (mut now, mut next, mut planned) = (0, 1, 0);
        let mut settled: Vec<Settled> = Vec::new();
        for happening in happenings {
            now += 100;
            match happening {
                Happening::Skip => { tracker.skipped(); planned += 1; }
                Happening::Send => { settled.extend(tracker.sent(next, now - 5, now)); next += 1; planned += 1; }
                Happening::Ack(sequence) => settled.extend(tracker.acked(sequence, now)),
                Happening::Fail(sequence) => settled.extend(tracker.failed(sequence)),
                Happening::Unknown(sequence) => settled.extend(tracker.unknown(sequence, now)),
                Happening::Poll { shown, instance, strong } => {
                    let sighting = Sighting { strong, ..ring(&instance.to_string(), &shown) };
                    settled.extend(tracker.polled(&sighting, now, now + 50));
                }
                Happening::Promote(shown) => settled.extend(tracker.promoted(&ring("0", &shown), now, now + 50)),
                Happening::Close => settled.extend(tracker.close()),
            }
            let accounting = tracker.accounting();
            prop_assert!(accounting.holds(), "{accounting:?}");
            prop_assert_eq!(accounting.planned, planned);
        }
        let accounting = tracker.accounting();
        let count = |state| settled.iter().filter(|one| one.state == state).count() as u64;
        prop_assert_eq!(count(FinalState::Seen), accounting.seen);
        prop_assert_eq!(count(FinalState::Lost), accounting.lost);
        prop_assert_eq!(count(FinalState::Superseded), accounting.superseded);
        prop_assert_eq!(count(FinalState::WriteFailed), accounting.write_failed);
        let mut sequences: Vec<u64> = settled.iter().map(|one| one.sequence).collect();
        sequences.sort_unstable();
        sequences.dedup();
        prop_assert_eq!(sequences.len(), settled.len(), "settled once");
        for one in &settled {
            if let (Some(low), Some(high)) = (one.low_us, one.high_us) {
                prop_assert!(low <= high, "{:?}", one);
            }
        }
    }
}

/// As [`ring`], of which only these slots were read.
fn part(instance: &str, read: &[u64], sequences: &[u64]) -> Sighting {
    Sighting {
        covers: Covers::Slots(read.to_vec()),
        ..ring(instance, sequences)
    }
}

#[test]
fn a_slot_that_was_not_read_is_no_miss_no_loss_and_no_stale_read() {
    let mut tracker = tracker(false);
    acked(&mut tracker, 1);
    acked(&mut tracker, 2);
    assert!(tracker.polled(&part("i", &[1], &[]), 1_200, 1_300).is_empty());
    let settled = tracker.polled(&part("i", &[1, 2], &[1, 2]), 2_000, 2_200);
    let lows: Vec<_> = settled.iter().map(|one| (one.low_us, one.low_known)).collect();
    assert_eq!(
        lows,
        [(Some(100), true), (Some(0), false)],
        "2 was not looked for before"
    );
    tracker.polled(&part("i", &[1], &[]), 3_000, 3_100);
    assert_eq!(tracker.stale_reads(), 0, "the newest, 2, was not looked for");
    tracker.polled(&part("i", &[2], &[]), 3_200, 3_300);
    assert_eq!(tracker.stale_reads(), 1);

    let mut tracker = Tracker::new("e", false, RING);
    acked(&mut tracker, 1);
    acked(&mut tracker, 2);
    let settled = tracker.promoted(&part("i", &[2], &[]), 5_000, 5_100);
    assert_eq!(only(&settled).sequence, 2, "nothing is known of the other");
    assert_eq!(tracker.accounting().pending, 1);
}

#[test]
fn answers_that_come_out_of_order_are_judged_by_when_they_were_asked_for() {
    for is_ordered in [true, false] {
        let mut tracker = tracker(is_ordered);
        acked(&mut tracker, 1);
        // Asked for at 1,200, 1,300, 1,400 and 1,500; the third one is the first that shows it and is answered late.
        assert!(tracker.polled(&ring("i", &[]), 1_300, 1_350).is_empty());
        assert!(tracker.polled(&ring("i", &[]), 1_500, 1_550).is_empty());
        assert!(tracker.polled(&ring("i", &[]), 1_200, 1_560).is_empty());
        let seen = only(&tracker.polled(&ring("i", &[1]), 1_400, 1_600));
        assert_eq!(
            (seen.low_us, seen.high_us),
            (Some(200), Some(600)),
            "the miss before the hit, not the one after"
        );
        tracker.polled(&ring("i", &[]), 1_450, 1_700);
        assert_eq!(tracker.stale_reads(), 0, "sent before anybody knew of the hit");
    }
}

#[test]
fn an_unordered_store_is_asked_for_what_is_due_and_no_more_for_what_is_settled() {
    let mut tracker = tracker(false);
    let polling = Polling::DYNAMODB;
    assert_eq!(tracker.due_us(&polling, None), None);
    acked(&mut tracker, 1);
    tracker.sent(2, 990, 1_000);
    tracker.unknown(2, 1_100);
    assert_eq!(tracker.due_us(&polling, None), Some(1_100), "at once");
    assert_eq!(tracker.due_us(&polling, Some(1_090)), Some(21_090), "but for the floor");
    assert_eq!(tracker.wanted(&polling, 1_100), Wanted::Only(vec![1, 2]));
    assert_eq!(tracker.wanted(&polling, 1_101), Wanted::Only(Vec::new()));
    tracker.polled(&part("i", &[1, 2], &[1]), 2_000, 2_200);
    assert_eq!(tracker.wanted(&polling, 100_000), Wanted::Only(vec![2]));
    tracker.close();
    assert_eq!(tracker.due_us(&polling, None), None);
}

#[test]
fn a_later_epoch_of_ours_proves_what_an_earlier_one_wrote_in_an_ordered_stream() {
    let open = |sequence, acked_us| InFlight {
        sequence,
        planned_us: 990,
        sent_us: 1_000,
        acked_us,
        was_sent: true,
    };
    let canaries = [open(1, Some(1_100)), open(2, Some(1_100)), open(3, None)];
    let carried = |follower: &str| Tracker::new("e", true, RING).carried(&canaries, [follower.to_owned()]);
    let mut sighting = ring_of("later", "i", &[1 + RING]);
    sighting.canaries.extend(ring("i", &[]).canaries);
    let states = |tracker: &mut Tracker| -> Vec<_> {
        let settled = tracker.polled(&sighting, 9_000, 9_100);
        settled.iter().map(|one| (one.sequence, one.state)).collect()
    };
    let mut followed = carried("later");
    assert_eq!(
        states(&mut followed),
        [(1, FinalState::Seen), (2, FinalState::Lost)],
        "1 was overwritten by its successor, 2 is not where it was"
    );
    assert!(followed.watches_unknown() && followed.accounting().holds());
    let mut stranger = carried("another");
    assert_eq!(
        states(&mut stranger),
        [(1, FinalState::Superseded)],
        "order proves nothing of strangers"
    );
}

/// Polls of an unordered store as they happen: asked for in order, evaluated and answered in any.
#[derive(Debug, Clone)]
struct Look {
    /// After the one before.
    gap_us: u64,
    to_store_us: u64,
    back_us: u64,
    /// Which of the canaries are sought, by bits, and how many of them are read.
    sought: u16,
    read: usize,
}

proptest! {
    /// Whatever a poll reads, and in whatever order the answers come in, a reading contains the truth.
    #[test]
    fn readings_of_partial_and_disordered_answers_contain_the_truth(
        is_ordered in any::<bool>(),
        lags in proptest::collection::vec(1u64..4_000, 1..10),
        looks in proptest::collection::vec(
            (1u64..400, 0u64..900, 0u64..900, any::<u16>(), 0usize..8).prop_map(|(gap_us, to_store_us, back_us, sought, read)| Look {
                gap_us, to_store_us, back_us, sought, read
            }),
            1..60
        )
    ) {
        let mut tracker = Tracker::new("e", is_ordered, 64);
        // Committed in the middle of a write of 100 us; in an ordered store none arrives before an earlier one.
        let mut arrivals: Vec<u64> = Vec::new();
        for (index, lag) in lags.iter().enumerate() {
            let sequence = index as u64 + 1;
            let sent = 1_000 + 150 * index as u64;
            tracker.sent(sequence, sent, sent);
            let arrival = sent + 50 + lag;
            arrivals.push(if is_ordered { arrivals.last().map_or(arrival, |last| arrival.max(*last)) } else { arrival });
            tracker.acked(sequence, sent + 100);
        }
        let mut answers = Vec::new();
        let mut sent_us = 3_000;
        for look in looks {
            sent_us += look.gap_us;
            let at = sent_us + look.to_store_us;
            let shown = |sequence: &u64| arrivals[usize::try_from(sequence - 1).unwrap()] <= at;
            let all: Vec<u64> = (1..=lags.len() as u64).collect();
            let sighting = if is_ordered {
                ring("i", &all.into_iter().filter(|sequence| shown(sequence)).collect::<Vec<_>>())
            } else {
                let read: Vec<u64> = all.into_iter().filter(|sequence| look.sought >> sequence & 1 == 1).take(look.read).collect();
                let held: Vec<u64> = read.iter().copied().filter(|sequence| shown(sequence)).collect();
                part("i", &read, &held)
            };
            answers.push((at + look.back_us, sent_us, sighting));
        }
        answers.sort_by_key(|(received, ..)| *received);
        for (received, sent, sighting) in answers {
            for one in tracker.polled(&sighting, sent, received) {
                let index = usize::try_from(one.sequence - 1).unwrap();
                let truth = arrivals[index] - (1_000 + 150 * index as u64 + 50);
                prop_assert_eq!(one.state, FinalState::Seen);
                prop_assert!(one.low_us.unwrap() <= truth && truth <= one.high_us.unwrap(), "{} {:?}", truth, one);
            }
            prop_assert!(tracker.accounting().holds());
        }
        prop_assert_eq!(tracker.stale_reads(), 0, "nothing ever disappeared");
    }
}

/// A week with replication dead, in a store that is asked canary by canary, and a day in an ordered one.
#[test]
fn a_week_of_dead_replication_takes_no_more_memory_than_a_ring() {
    const SECOND: u64 = 1_000_000;
    let slots = 2_000;
    let polling = Polling::S3;
    let mut tracker = Tracker::new("e", false, slots);
    let (mut looks, mut last_poll, mut superseded) = (0u64, None, 0u64);
    for sequence in 1..=7 * 24 * 60 {
        let now = sequence * 60 * SECOND;
        superseded += u64::from(tracker.sent(sequence, now, now).is_some());
        tracker.acked(sequence, now + 1_000);
        while let Some(due) = tracker
            .due_us(&polling, last_poll)
            .filter(|due| *due < now + 60 * SECOND)
        {
            let Wanted::Only(read) = tracker.wanted(&polling, due) else {
                unreachable!()
            };
            assert!(read.len() <= SOUGHT_MAX);
            tracker.polled(&part("i", &read, &[]), due, due + 60_000);
            last_poll = Some(due);
            looks += 1;
        }
        assert!(tracker.pending.len() as u64 <= slots && tracker.lookout.len() as u64 <= slots);
    }
    let accounting = tracker.accounting();
    assert!(accounting.holds() && accounting.pending == slots && accounting.superseded == superseded);
    assert!(
        looks < 7 * 24 * 3_600 * 2,
        "{looks} polls in a week, never closer than the floor"
    );

    let mut tracker = Tracker::new("e", true, 64);
    for sequence in 1..=24 * 3_600 * 5 {
        let now = sequence * SECOND / 5;
        tracker.sent(sequence, now, now);
        tracker.acked(sequence, now + 1_000);
        if sequence.is_multiple_of(50_000) {
            tracker.polled(&ring("i", &[]), now + 2_000, now + 3_000);
        }
        assert!(tracker.pending.len() <= PENDING_MAX);
    }
    assert!(tracker.accounting().holds() && tracker.lookout.len() == 0);
}

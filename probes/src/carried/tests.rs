use stores::{Canary, Covers, Oddities};
use uuid::Uuid;

use super::*;
use crate::Route;
use crate::clock::Boot;

const BOOT: u128 = 7;

fn anchor(now_us: u64, wall_us: i64, boot: u128, booted_us: u64, wall_error_us: Option<u64>) -> Anchor {
    Anchor {
        boot: Some(Boot {
            id: Uuid::from_u128(boot),
            at_us: booted_us,
        }),
        wall_error_us,
        ..Anchor::at(now_us, wall_us)
    }
}

fn left_open(anchor: Anchor) -> Unsettled {
    Unsettled {
        origin: Origin {
            route: Route {
                dataset: "orders".to_owned(),
                store: "aurora".to_owned(),
                primary_site: "use1".to_owned(),
                secondary_site: "usw2".to_owned(),
                observer: "o".to_owned(),
            },
            stream: "s".to_owned(),
            epoch: "old".to_owned(),
            anchor,
        },
        canaries: vec![InFlight {
            sequence: 1,
            planned_us: 5_000_000,
            sent_us: 5_000_000,
            acked_us: Some(5_001_000),
            was_sent: true,
        }],
        followers: Vec::new(),
    }
}

fn sighting(shown: &[u64]) -> Sighting {
    let canary = |sequence: &u64| Canary {
        stream: "s".to_owned(),
        epoch: "old".to_owned(),
        sequence: *sequence,
        stamp: None,
    };
    Sighting {
        canaries: shown.iter().map(canary).collect(),
        instance: "i".to_owned(),
        strong: true,
        covers: Covers::Ring,
        oddities: Oddities::default(),
    }
}

/// Looked for at 2 s and 3 s of the new epoch, which began at 1 s, and seen in an answer at 3.5 s.
fn seen(old: Anchor, new: Anchor) -> LaterWord {
    let mut carried = Carried::new(&left_open(old), &left_open(new).origin, true, 64);
    assert!(carried.polled(&sighting(&[]), 2_000_000, 2_100_000).is_empty());
    let words = carried.polled(&sighting(&[1]), 3_000_000, 3_500_000);
    assert!(carried.is_over() && carried.accounting().holds());
    words.into_iter().next().unwrap()
}

#[test]
fn within_one_boot_a_reading_crosses_a_restart_on_one_clock() {
    // The old epoch began at 1 s of its clock, 100 s after the boot; the new one 160 s after. The wall clock was set back an hour.
    let word = seen(
        anchor(1_000_000, 10_000_000_000, BOOT, 100_000_000, None),
        anchor(1_000_000, 6_400_000_000, BOOT, 160_000_000, None),
    );
    // Sent 104 s after the boot, acknowledged 1 ms later; missed at 161 s, seen at 162.5 s.
    let Settled {
        low_us,
        high_us,
        low_known,
        ..
    } = word.settled;
    assert_eq!((low_us, high_us, low_known), (Some(56_999_000), Some(58_500_000), true));
    assert!(!word.is_violated);
}

#[test]
fn over_a_reboot_a_reading_is_as_wide_as_the_error_of_both_clocks_or_there_is_none() {
    let old = |error| anchor(1_000_000, 1_000_000_000, BOOT, 100_000_000, error);
    let new = |wall, error| anchor(1_000_000, wall, BOOT + 1, 5_000_000, error);
    let word = seen(old(Some(2_000)), new(1_060_000_000, Some(3_000)));
    let Settled { low_us, high_us, .. } = word.settled;
    assert_eq!((low_us, high_us), (Some(56_994_000), Some(58_505_000)));

    let word = seen(old(Some(2_000)), new(1_060_000_000, None));
    let Settled {
        low_us,
        high_us,
        low_known,
        ..
    } = word.settled;
    assert_eq!(
        (low_us, high_us, low_known, word.is_violated),
        (Some(0), None, false, false)
    );

    // By the new clock it arrived before it had left, and the bound of 5 ms does not explain it.
    let word = seen(old(Some(2_000)), new(1_000_000_000, Some(3_000)));
    assert!(word.is_violated);
    assert_eq!((word.settled.low_us, word.settled.high_us), (None, None));
    assert_eq!(word.settled.state, FinalState::Seen, "seen it was");
}

#[test]
fn a_wall_clock_that_was_set_back_by_an_hour_puts_off_no_look() {
    let old = anchor(1_000_000, 10_000_000_000, BOOT, 100_000_000, None);
    let new = anchor(1_000_000, 6_400_000_000, BOOT + 1, 5_000_000, None);
    for is_ordered in [true, false] {
        let mut carried = Carried::new(&left_open(old), &left_open(new).origin, is_ordered, 64);
        let polling = Polling::DYNAMODB;
        let due = carried.due_us(&polling, None).unwrap();
        assert!(due <= 1_000_000, "ordered: {is_ordered}: due at {due}");
        if !is_ordered {
            assert_eq!(carried.wanted(&polling, 1_000_000, 100), Wanted::Only(vec![1]));
            assert!(carried.due_us(&polling, Some(1_000_000)).unwrap() < 1_100_000);
        }
    }
}

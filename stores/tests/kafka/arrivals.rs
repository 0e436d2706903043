//! What arrives late, twice, in another order, from somebody else, or never.

use stores::{Covers, Oddities, Sought};

use super::setup::{PATIENCE, STREAM, TOPIC, canary, ends, pair, poll, reader, sequences, until, write, writer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restarted_mirror_sends_again_is_counted_and_shown_once() {
    let pair = pair(1).await;
    let [primary, secondary] = ends(&pair, 0);
    assert!(poll(&secondary).await.canaries.is_empty());
    for sequence in 1..=10 {
        write(&primary, &canary('a', sequence)).await;
    }
    pair.settle(PATIENCE).await.unwrap();
    assert_eq!(sequences(&poll(&secondary).await), (1..=10).collect::<Vec<_>>());
    pair.mirror().rewind(4);
    let (sighting, oddities) = until(&secondary, |_, all| all.duplicates >= 4).await;
    assert_eq!(sequences(&sighting), (1..=10).collect::<Vec<_>>());
    let expected = Oddities {
        duplicates: 4,
        foreign: 0,
    };
    assert_eq!(oddities, expected);
    assert_eq!(
        poll(&secondary).await.oddities,
        Oddities::default(),
        "each is counted once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_others_are_left_out_and_those_that_are_no_canaries_counted() {
    let pair = pair(1).await;
    let [primary, secondary] = ends(&pair, 0);
    poll(&secondary).await;
    let epoch = "a".repeat(32);
    for (key, value) in [
        (None, Some("driftline-canary 1".to_owned())),
        (Some(STREAM), Some("hello".to_owned())),
        (Some(STREAM), None),
        (Some(STREAM), Some(format!("driftline-canary 2 {epoch} 5"))),
        (Some("another/stream"), Some(format!("driftline-canary 1 {epoch} 5"))),
    ] {
        let key = key.map(str::as_bytes);
        pair.produce(TOPIC, 0, key, value.as_deref().map(str::as_bytes))
            .await
            .unwrap();
    }
    write(&primary, &canary('a', 7)).await;
    let (sighting, oddities) = until(&secondary, |sighting, _| !sighting.canaries.is_empty()).await;
    assert_eq!(sighting.canaries, [canary('a', 7)]);
    let expected = Oddities {
        duplicates: 0,
        foreign: 4,
    };
    assert_eq!(oddities, expected, "another probe's stream is nothing odd");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_overtook_another_and_one_that_never_came_are_told_apart() {
    let pair = pair(1).await;
    let [primary, secondary] = ends(&pair, 0);
    pair.mirror().stall();
    for sequence in 1..=2 {
        write(&primary, &canary('a', sequence)).await;
    }
    pair.mirror().swap_next();
    pair.mirror().delay(std::time::Duration::from_millis(300));
    pair.mirror().resume();
    let (sighting, oddities) = until(&secondary, |sighting, _| sighting.canaries.len() == 2).await;
    assert_eq!((sequences(&sighting), oddities), (vec![1, 2], Oddities::default()));
    pair.mirror().delay(std::time::Duration::ZERO);
    pair.mirror().drop_next(1);
    for sequence in 3..=4 {
        write(&primary, &canary('a', sequence)).await;
    }
    let (sighting, _) = until(&secondary, |sighting, _| sequences(sighting).contains(&4)).await;
    assert_eq!(sequences(&sighting), [1, 2, 4], "3 was dropped on the way");
    assert!(sighting.strong, "and the poll proves it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_reader_sees_what_was_there_and_says_how_much_it_looked_at() {
    let pair = pair(1).await;
    let [primary, secondary] = ends(&pair, 2);
    for sequence in 1..=5 {
        write(&primary, &canary('a', sequence)).await;
    }
    pair.settle(PATIENCE).await.unwrap();
    pair.mirror().rewind(2);
    until(&secondary, |sighting, _| sighting.canaries.len() == 5).await;
    pair.settle(PATIENCE).await.unwrap();
    let [again, later] = ends(&pair, 2);
    let sighting = poll(&later).await;
    assert_eq!(
        (sequences(&sighting), &sighting.covers),
        (vec![1, 2, 3, 4, 5], &Covers::Ring)
    );
    assert_eq!(
        sighting.oddities,
        Oddities::default(),
        "what was odd before it is not its to count"
    );
    assert_eq!(writer(&again).highest_sequence(STREAM).await.unwrap(), 5);
    let sought = reader(&later).poll(STREAM, Sought::Only(&[2, 9])).await.unwrap();
    assert_eq!(
        (sequences(&sought), sought.covers),
        (vec![2, 5], Covers::Slots(vec![2, 9]))
    );
    let another = reader(&later).poll("later/stream", Sought::All).await.unwrap();
    assert!(another.canaries.is_empty() && another.strong);
    assert_eq!(
        sequences(&poll(&later).await),
        [1, 2, 3, 4, 5],
        "a second stream does not cost the first"
    );
}

//! Canaries over a pair in this process: contracts, slots, arrival in any order, and what the store says of it.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use lab::{S3Delay, S3Options};
use stores::{Covers, Sought, StoreError, WriteOutcome, faulty};

use super::setup::{Rig, STREAM, assert_holds, canary, sequences, until};

#[tokio::test]
async fn a_pair_in_this_process_holds_every_contract() {
    assert_holds(&Rig::start().await).await;
}

#[tokio::test]
async fn so_it_does_within_the_wrapper() {
    let mut rig = Rig::start().await;
    rig.ends = rig.ends.each_ref().map(|end| faulty::wrap(end).0);
    assert_holds(&rig).await;
}

#[tokio::test]
async fn canaries_that_overtake_each_other_and_come_twice_are_all_seen_once() {
    let options = S3Options {
        delay: S3Delay::Between(Duration::ZERO, Duration::from_millis(300)),
        ..S3Options::default()
    };
    let rig = Rig::with(options, None).await;
    rig.pair.link().duplicate_next(5);
    rig.write(1..=20).await;
    let all: Vec<u64> = (1..=20).collect();
    until("all arrive", async || sequences(&rig.look(&all).await.unwrap()) == all).await;
    let whole = rig.watcher().poll(STREAM, Sought::All).await.unwrap();
    assert_eq!((sequences(&whole), whole.covers), (all, Covers::Ring));
    assert_eq!(whole.oddities, stores::Oddities::default());
}

#[tokio::test]
async fn a_poll_reads_only_what_is_sought() {
    let rig = Rig::start().await;
    rig.write([1, 2, 3]).await;
    rig.arrived(3).await;
    rig.arrived(2).await;
    let heads = || rig.ends[1].meter.as_ref().unwrap().usage()["HeadObject"].requests;
    let before = heads();
    let sighting = rig.look(&[2, 9]).await.unwrap();
    assert_eq!(sequences(&sighting), [2]);
    assert_eq!(sighting.covers, Covers::Slots(vec![2, 9]));
    assert!(sighting.strong);
    assert_eq!(heads() - before, 2);
}

/// The ring is read again only where its ETags have changed: one LIST, and a HEAD for each new canary.
#[tokio::test]
async fn a_ring_is_read_once_and_then_only_what_is_new() {
    let rig = Rig::start().await;
    rig.write(1..=5).await;
    until("five arrive", async || {
        rig.watcher().poll(STREAM, Sought::All).await.unwrap().canaries.len() == 5
    })
    .await;
    let usage = || rig.ends[1].meter.as_ref().unwrap().usage();
    let before = usage();
    rig.write([6, 3 + 256]).await;
    until("two more", async || {
        let ring = rig.watcher().poll(STREAM, Sought::All).await.unwrap();
        sequences(&ring) == [1, 2, 4, 5, 6, 3 + 256]
    })
    .await;
    assert_eq!(usage()["HeadObject"].requests - before["HeadObject"].requests, 2);
    assert!(usage()["ListObjectsV2"].requests > before["ListObjectsV2"].requests);
    assert_eq!(rig.ends[0].meter.as_ref().unwrap().usage()["PutObject"].requests, 7);
}

#[tokio::test]
async fn a_slot_never_goes_back_and_two_writers_of_one_stream_do_not_pass_unseen() {
    let rig = Rig::start().await;
    rig.write([1, 257]).await;
    let late = rig.writer().write(&canary(1)).await;
    assert!(
        matches!(&late, WriteOutcome::Failed(StoreError::Config(t)) if t.cause.contains("a later canary")),
        "{late:?}"
    );
    // Another life of the writer takes the slot; the first one still believes in its ETag.
    let other = rig.map.end(&rig.keys, 0).await;
    let other = other.canary_writer.unwrap();
    assert_eq!(other.highest_sequence(STREAM).await.unwrap(), 257);
    let outcome = other.write(&canary(513)).await;
    assert!(matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
    let deceived = rig.writer().write(&canary(769)).await;
    assert!(
        matches!(&deceived, WriteOutcome::Failed(StoreError::Config(t)) if t.cause.contains("changed by somebody else")),
        "{deceived:?}"
    );
    // It has looked again and knows better.
    rig.write([1025]).await;
}

#[tokio::test]
async fn foreign_objects_are_counted_once_and_never_overwritten() {
    let rig = Rig::start().await;
    rig.write([1]).await;
    rig.arrived(1).await;
    let client = rig.pair.secondary().client();
    let bucket = "media-usw2";
    let listed = client.list_objects_v2().bucket(bucket).send().await.unwrap();
    let ring = listed.contents()[0]
        .key()
        .unwrap()
        .strip_suffix("001")
        .unwrap()
        .to_owned();
    for (place, name) in [(bucket, "002"), (bucket, "notes.txt"), ("media-use1", "003")] {
        let client = match place {
            "media-use1" => rig.pair.primary().client(),
            _ => client.clone(),
        };
        let body = ByteStream::from_static(b"somebody's");
        client
            .put_object()
            .bucket(place)
            .key(format!("{ring}{name}"))
            .body(body)
            .send()
            .await
            .unwrap();
    }
    until("the third arrives too", async || rig.pair.link().waiting() == 0).await;
    let whole = rig.watcher().poll(STREAM, Sought::All).await.unwrap();
    assert_eq!((sequences(&whole), whole.oddities.foreign), (vec![1], 3));
    let again = rig.watcher().poll(STREAM, Sought::All).await.unwrap();
    assert_eq!((sequences(&again), again.oddities.foreign), (vec![1], 0));
    let alone = rig.look(&[2]).await.unwrap();
    assert_eq!((sequences(&alone), alone.oddities.foreign), (vec![], 0));
    let refused = rig.writer().write(&canary(3)).await;
    assert!(
        matches!(&refused, WriteOutcome::Failed(StoreError::Config(t)) if t.cause.contains("no canary of ours")),
        "{refused:?}"
    );
    assert_eq!(rig.writer().highest_sequence(STREAM).await.unwrap(), 1);
    assert!(matches!(rig.writer().write(&canary(3)).await, WriteOutcome::Failed(_)));
}

#[tokio::test]
async fn what_the_store_says_of_the_newest_canary_is_told_beside_our_own_reading() {
    let rig = Rig::start().await;
    assert_eq!(rig.link(0).await, None, "nothing was written: not collected");
    rig.pair.link().stall();
    rig.write([1]).await;
    assert_eq!(rig.link(0).await.as_deref(), Some("PENDING"));
    assert_eq!(rig.link(1).await, None);
    rig.pair.link().resume();
    rig.arrived(1).await;
    until("the source says so", async || {
        rig.link(0).await.as_deref() == Some("COMPLETED")
    })
    .await;
    assert_eq!(rig.link(1).await.as_deref(), Some("REPLICA"));
    rig.pair.link().cut();
    rig.write([2]).await;
    until("it fails", async || rig.link(0).await.as_deref() == Some("FAILED")).await;
    // Another process, which has written nothing, finds the newest one by itself.
    let other = rig.map.end(&rig.keys, 0).await;
    let status = other.status.unwrap().status().await.unwrap();
    assert_eq!(status.link.as_deref(), Some("FAILED"));
    assert!(
        status.lag_us.is_none() && status.as_of_us > 1_700_000_000_000_000,
        "{status:?}"
    );
}

/// The store's word is not ours: a copy that was lost reads COMPLETED for ever.
#[tokio::test]
async fn a_lost_copy_is_never_seen_though_the_source_says_completed() {
    let rig = Rig::start().await;
    rig.pair.link().drop_next(1);
    rig.write([1, 2]).await;
    rig.arrived(2).await;
    let sighting = rig.look(&[1, 2]).await.unwrap();
    assert_eq!(sequences(&sighting), [2]);
    assert!(sighting.covers.has(1), "a miss, and a proved one");
    assert_eq!(rig.link(0).await.as_deref(), Some("COMPLETED"));
}

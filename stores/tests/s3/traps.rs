//! Answers that look like something that they are not.

use stores::{Covers, Sought, StoreError, WriteOutcome};

use super::setup::{Rig, STREAM, canary, sequences, until};

/// Without `s3:ListBucket` a key that has not arrived answers 403, as one that may not be read.
#[tokio::test]
async fn a_403_is_never_a_miss() {
    let rig = Rig::start().await;
    rig.write([1]).await;
    rig.arrived(1).await;
    rig.pair.secondary().deny_listing(true);
    let error = rig.look(&[2]).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Denied(t) if t.hint.contains("s3:ListBucket")),
        "{error:?}"
    );
    // What can be read still counts, and covers nothing else.
    let sighting = rig.look(&[1, 2]).await.unwrap();
    assert_eq!(
        (sequences(&sighting), sighting.covers),
        (vec![1], Covers::Slots(vec![1]))
    );
    let error = rig.watcher().poll(STREAM, Sought::All).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
    rig.pair.secondary().deny_listing(false);
    let sighting = rig.look(&[2]).await.unwrap();
    assert_eq!(
        (sequences(&sighting), sighting.covers),
        (vec![], Covers::Slots(vec![2]))
    );
}

/// A bucket that is gone answers a HEAD as a missing key does: with 404 and no words.
#[tokio::test]
async fn a_bucket_that_is_removed_in_mid_run_shows_no_misses() {
    let rig = Rig::start().await;
    rig.write([1]).await;
    rig.arrived(1).await;
    rig.pair.secondary().remove_bucket("media-usw2");
    for sought in [Sought::Only(&[1]), Sought::Only(&[2, 3]), Sought::All] {
        let error = rig.watcher().poll(STREAM, sought).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::NotFound(t) if t.cause.contains("NoSuchBucket")),
            "{error:?}"
        );
    }
    let identity = rig.ends[1].identify.identity().await.unwrap_err();
    assert!(matches!(identity, StoreError::NotFound(_)), "{identity:?}");
    rig.pair.primary().remove_bucket("media-use1");
    let outcome = rig.writer().write(&canary(2)).await;
    assert!(
        matches!(outcome, WriteOutcome::Failed(StoreError::NotFound(_))),
        "{outcome:?}"
    );
    let highest = rig.writer().highest_sequence(STREAM).await.unwrap_err();
    assert!(matches!(highest, StoreError::NotFound(_)), "{highest:?}");
}

/// Read proxying: the watched site answers a HEAD with the other site's object. Believed, it would read as a lag of nothing.
#[tokio::test]
async fn a_canary_that_only_a_proxied_head_shows_has_not_arrived() {
    let rig = Rig::start().await;
    rig.pair.secondary().proxy_reads(true);
    rig.pair.link().stall();
    rig.write([1, 2]).await;
    let listed = rig
        .pair
        .secondary()
        .client()
        .list_objects_v2()
        .bucket("media-usw2")
        .send()
        .await;
    let listed = listed.unwrap().contents().to_vec();
    assert!(listed.is_empty(), "{listed:?}");
    let primary = rig
        .pair
        .primary()
        .client()
        .list_objects_v2()
        .bucket("media-use1")
        .send()
        .await;
    let key = primary.unwrap().contents()[0].key().unwrap().to_owned();
    let head = rig
        .pair
        .secondary()
        .client()
        .head_object()
        .bucket("media-usw2")
        .key(key)
        .send()
        .await;
    assert!(head.is_ok(), "the trap itself: {head:?}");

    let sighting = rig.look(&[1, 2]).await.unwrap();
    assert_eq!(
        (sequences(&sighting), sighting.covers),
        (vec![], Covers::Slots(vec![1, 2]))
    );
    let whole = rig.watcher().poll(STREAM, Sought::All).await.unwrap();
    assert_eq!((sequences(&whole), whole.covers), (vec![], Covers::Ring));
    rig.pair.link().resume();
    rig.arrived(1).await;
    rig.arrived(2).await;
}

/// A HEAD that heals: on MinIO a failed object is tried again when it is looked at. Recorded here: to watch at the other site and to list heal nothing; the
/// status of the newest canary heals that one; a restart heals what its ring still holds.
#[tokio::test]
async fn who_looks_at_a_failed_object_at_the_source_has_it_sent_again() {
    let rig = Rig::start().await;
    rig.pair.primary().heal_on_head(true);
    rig.write([1]).await;
    rig.arrived(1).await;
    rig.pair.link().cut();
    rig.write([2, 3, 4]).await;
    until("all have failed", async || rig.pair.link().waiting() == 0).await;
    rig.pair.link().restore();

    let whole = rig.watcher().poll(STREAM, Sought::All).await.unwrap();
    assert_eq!(sequences(&whole), [1]);
    assert_eq!(sequences(&rig.look(&[2, 3, 4]).await.unwrap()), [0; 0]);
    let list = rig
        .pair
        .primary()
        .client()
        .list_objects_v2()
        .bucket("media-use1")
        .send()
        .await;
    assert_eq!(list.unwrap().contents().len(), 4);
    assert_eq!(rig.pair.link().waiting(), 0, "none of that sent anything again");

    assert_eq!(rig.link(0).await.as_deref(), Some("FAILED"));
    rig.arrived(4).await;
    assert_eq!(sequences(&rig.look(&[2, 3, 4]).await.unwrap()), [4]);
    assert_eq!(rig.writer().highest_sequence(STREAM).await.unwrap(), 4);
    rig.arrived(2).await;
    rig.arrived(3).await;
}

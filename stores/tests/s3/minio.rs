//! The same against two real MinIO servers: their replication, and their two traps.

use async_trait::async_trait;
use lab::{MinioOptions, MinioPair};
use stores::conformance::Fixture;
use stores::s3::{CheckedPair, KeySet, check_canary};
use stores::{Covers, End, Sought, WriteOutcome};

use super::setup::{Map, STREAM, Wait, assert_holds, canary, sequences, until};

struct Minio {
    pair: MinioPair,
    map: Map,
    keys: KeySet,
    ends: [End; 2],
}

impl Minio {
    async fn start(options: MinioOptions) -> Self {
        let buckets = options.buckets.clone();
        let pair = MinioPair::start(options).await.unwrap();
        let endpoints = [pair.primary().endpoint(), pair.secondary().endpoint()];
        let mut map = Map::new(endpoints, &buckets, None);
        map.sites[1].region = Some(pair.secondary().region().to_owned());
        let keys = map.rules().await.key_sets.remove(0);
        let ends = [map.end(&keys, 0).await, map.end(&keys, 1).await];
        Self { pair, map, keys, ends }
    }

    async fn link(&self, side: usize) -> Option<String> {
        self.ends[side].status.as_ref().unwrap().status().await.unwrap().link
    }

    async fn write(&self, sequence: u64) {
        let outcome = self.ends[0]
            .canary_writer
            .as_ref()
            .unwrap()
            .write(&canary(sequence))
            .await;
        assert!(matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
    }

    /// Keys and ETags of one bucket.
    async fn listed(&self, side: usize) -> Vec<(Option<String>, Option<String>)> {
        let (server, bucket) = match side {
            0 => (self.pair.primary(), "media-use1"),
            _ => (self.pair.secondary(), "media-usw2"),
        };
        let page = server.client().list_objects_v2().bucket(bucket).send().await.unwrap();
        let objects = page.contents.unwrap_or_default().into_iter();
        objects.map(|object| (object.key, object.e_tag)).collect()
    }

    async fn seen(&self, sought: &[u64]) -> Vec<u64> {
        let reader = self.ends[1].canary_reader.as_ref().unwrap();
        sequences(&reader.poll(STREAM, Sought::Only(sought)).await.unwrap())
    }
}

#[async_trait]
impl Fixture for Minio {
    fn primary(&self) -> End {
        self.ends[0].clone()
    }

    fn secondary(&self) -> End {
        self.ends[1].clone()
    }

    fn collection(&self) -> String {
        "media".to_owned()
    }

    /// The suite fills a collection also where no ability reads rows.
    async fn put(&self, _rows: &[(i64, Option<&str>)]) {}

    async fn delete(&self, _numbers: &[i64]) {}

    async fn settle(&self) {
        let wait = Wait::for_what("both buckets list the same");
        while self.listed(0).await != self.listed(1).await {
            wait.again().await;
        }
    }

    async fn stall(&self) {
        self.pair.link().silence();
    }

    async fn resume(&self) {
        self.pair.link().restore();
    }
}

#[tokio::test]
async fn two_minio_servers_hold_every_contract() {
    let minio = Minio::start(MinioOptions::default()).await;
    assert_eq!(minio.keys.rule.as_deref(), Some("everything"));
    assert!(minio.keys.reaches("media-usw2"), "{:?}", minio.keys);
    assert_holds(&minio).await;
    assert_eq!(minio.link(1).await.as_deref(), Some("REPLICA"));
    let identity = minio.ends[0].identify.identity().await.unwrap();
    assert_eq!(identity.version, "MinIO");

    let [writer, watched] = &minio.map.sites;
    let pair = CheckedPair {
        writer: ("use1", writer),
        watched: ("usw2", watched),
    };
    let keys = std::slice::from_ref(&minio.keys);
    let found = check_canary(&minio.map.config, minio.map.bucket(), keys, pair)
        .await
        .unwrap();
    assert_eq!((found.problems.len(), found.suggestions.len()), (0, 2), "{found:?}");
    assert!(
        found.suggestions.iter().all(|one| one.contains("no lifecycle rule")),
        "{found:?}"
    );
}

/// The other way round: the site that is watched has a rule towards the writer, and MinIO's default is to read through it.
#[tokio::test]
async fn what_minio_reads_through_has_not_arrived() {
    let options = MinioOptions {
        proxies_reads: true,
        ..MinioOptions::default()
    };
    let minio = Minio::start(options).await;
    // Written at the site without rules, so that nothing ever brings it to the one that is watched.
    let writer = minio.ends[1].canary_writer.as_ref().unwrap();
    let outcome = writer.write(&canary(1)).await;
    assert!(matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
    let listed = minio
        .pair
        .secondary()
        .client()
        .list_objects_v2()
        .bucket("media-usw2")
        .send()
        .await
        .unwrap();
    let key = listed.contents()[0].key().unwrap().to_owned();
    let watched = minio.pair.primary().client();
    until("the trap itself: MinIO answers HEAD from the other site", async || {
        watched
            .head_object()
            .bucket("media-use1")
            .key(&key)
            .send()
            .await
            .is_ok()
    })
    .await;
    let reader = minio.ends[0].canary_reader.as_ref().unwrap();
    let sighting = reader.poll(STREAM, Sought::Only(&[1])).await.unwrap();
    assert_eq!(
        (sequences(&sighting), sighting.covers),
        (vec![], Covers::Slots(vec![1]))
    );

    let [site_a, site_b] = &minio.map.sites;
    let pair = CheckedPair {
        writer: ("usw2", site_b),
        watched: ("use1", site_a),
    };
    let keys = KeySet {
        destination: None,
        ..minio.keys.clone()
    };
    let keys = std::slice::from_ref(&keys);
    let problems = check_canary(&minio.map.config, minio.map.bucket(), keys, pair)
        .await
        .unwrap()
        .problems;
    assert!(
        problems.iter().any(|problem| problem.contains("reads are proxied")),
        "{problems:?}"
    );
}

/// A cut link: FAILED at the source, and nothing at the other site until it is restored. The HEAD of the status has the newest one sent again.
#[tokio::test]
async fn a_cut_is_seen_in_both_readings_and_a_head_at_the_source_heals() {
    let minio = Minio::start(MinioOptions::default()).await;
    minio.write(1).await;
    until("the first arrives", async || minio.seen(&[1]).await == [1]).await;
    minio.pair.link().cut();
    minio.write(2).await;
    until("the source says so", async || {
        minio.link(0).await.as_deref() == Some("FAILED")
    })
    .await;
    assert_eq!(minio.seen(&[1, 2]).await, [1]);
    minio.pair.link().restore();
    until("asking for its status heals it", async || {
        minio.link(0).await;
        minio.seen(&[1, 2]).await == [1, 2]
    })
    .await;
}

#[tokio::test]
async fn a_frozen_server_is_no_answer_and_a_killed_one_is_unreachable() {
    let mut minio = Minio::start(MinioOptions::default()).await;
    minio.write(1).await;
    until("it arrives", async || minio.seen(&[1]).await == [1]).await;
    let reader = minio.ends[1].canary_reader.clone().unwrap();
    minio.pair.secondary().freeze();
    let polled = reader.poll(STREAM, Sought::Only(&[1])).await;
    assert!(polled.as_ref().is_err_and(stores::StoreError::is_passing), "{polled:?}");
    minio.pair.secondary().thaw();
    until("it answers again", async || {
        let polled = reader.poll(STREAM, Sought::Only(&[1])).await;
        polled.is_ok_and(|sighting| sequences(&sighting) == [1])
    })
    .await;
    minio.pair.kill_secondary();
    let polled = reader.poll(STREAM, Sought::Only(&[1])).await;
    assert!(polled.as_ref().is_err_and(stores::StoreError::is_passing), "{polled:?}");
}

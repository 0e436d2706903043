//! A replicating pair of buckets with an end at each, and what tests ask of it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use lab::{S3_ACCESS_KEY, S3_SECRET_KEY, S3Options, S3Pair};
use stores::aws::{AccessKey, Service, Site};
use stores::conformance::Fixture;
use stores::s3::{Bucket, CanaryPlace, Config, KeySet, open, rules};
use stores::secret::Secret;
use stores::{Canary, CanaryReader, CanaryWriter, End, Sighting, Sought, WriteOutcome};

/// What has not happened after this long does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

pub(crate) const STREAM: &str = "media use1->usw2";

/// How the sites are reached, and by which names.
pub(crate) struct Map {
    pub(crate) config: Config,
    pub(crate) sites: [Site; 2],
    _secrets: tempfile::TempDir,
}

impl Map {
    pub(crate) fn new(endpoints: [String; 2], buckets: &[String; 2], prefix: Option<&str>) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        let secret = secrets.path().join("secret");
        std::fs::write(&secret, S3_SECRET_KEY).unwrap();
        let sites = endpoints.map(|endpoint| Site {
            region: Some("us-east-1".to_owned()),
            credentials: Some(AccessKey {
                access_key_id: S3_ACCESS_KEY.to_owned(),
                secret_access_key: Secret::File(secret.clone()),
            }),
            endpoint_url: BTreeMap::from([(Service::S3, endpoint)]),
            ..Site::default()
        });
        let names = ["use1", "usw2"]
            .into_iter()
            .map(str::to_owned)
            .zip(buckets.iter().cloned());
        let config = Config {
            buckets: vec![Bucket {
                names: names.collect(),
                prefix: prefix.map(str::to_owned),
            }],
            writers: None,
            native: None,
            labels: BTreeMap::new(),
            canary: CanaryPlace::default(),
        };
        Self {
            config,
            sites,
            _secrets: secrets,
        }
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.config.buckets[0]
    }

    pub(crate) async fn end(&self, keys: &KeySet, side: usize) -> End {
        let site = ["use1", "usw2"][side];
        open(&self.config, self.bucket(), keys, site, &self.sites[side])
            .await
            .unwrap()
    }

    pub(crate) async fn rules(&self) -> stores::s3::Rules {
        rules(&self.config, self.bucket(), "use1", &self.sites[0])
            .await
            .unwrap()
    }
}

/// A pair in this process with an end at each site, through its first rule.
pub(crate) struct Rig {
    pub(crate) pair: S3Pair,
    pub(crate) map: Map,
    pub(crate) keys: KeySet,
    pub(crate) ends: [End; 2],
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(S3Options::default(), None).await
    }

    pub(crate) async fn with(options: S3Options, prefix: Option<&str>) -> Self {
        let buckets = options.buckets.clone();
        let pair = S3Pair::start(options).await.unwrap();
        let endpoints = [pair.primary().endpoint(), pair.secondary().endpoint()];
        let map = Map::new(endpoints, &buckets, prefix);
        let keys = map.rules().await.key_sets.remove(0);
        let ends = [map.end(&keys, 0).await, map.end(&keys, 1).await];
        Self { pair, map, keys, ends }
    }

    pub(crate) fn writer(&self) -> &dyn CanaryWriter {
        self.ends[0].canary_writer.as_deref().unwrap()
    }

    pub(crate) fn watcher(&self) -> &dyn CanaryReader {
        self.ends[1].canary_reader.as_deref().unwrap()
    }

    /// Writes canaries that must be acknowledged.
    pub(crate) async fn write(&self, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            let outcome = self.writer().write(&canary(sequence)).await;
            assert!(matches!(outcome, WriteOutcome::Acknowledged), "{sequence}: {outcome:?}");
        }
    }

    /// Looks for these alone.
    pub(crate) async fn look(&self, sequences: &[u64]) -> stores::Result<Sighting> {
        self.watcher().poll(STREAM, Sought::Only(sequences)).await
    }

    pub(crate) async fn arrived(&self, sequence: u64) {
        until("the canary arrives", async || {
            self.look(&[sequence])
                .await
                .unwrap()
                .canaries
                .contains(&canary(sequence))
        })
        .await;
    }

    /// What the store says of the newest canary at one end.
    pub(crate) async fn link(&self, side: usize) -> Option<String> {
        self.ends[side].status.as_ref().unwrap().status().await.unwrap().link
    }
}

pub(crate) fn canary(sequence: u64) -> Canary {
    Canary {
        stream: STREAM.to_owned(),
        epoch: "0123456789abcdef".repeat(2),
        sequence,
        stamp: None,
    }
}

/// Sequences of a sighting, in order.
pub(crate) fn sequences(sighting: &Sighting) -> Vec<u64> {
    let mut sequences: Vec<u64> = sighting.canaries.iter().map(|canary| canary.sequence).collect();
    sequences.sort_unstable();
    sequences
}

/// Looks again and again; fails when it does not come true in time.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = Wait::for_what(what);
    while !holds().await {
        wait.again().await;
    }
}

/// Waits between two looks, and fails when there were enough of them.
pub(crate) struct Wait<'a> {
    what: &'a str,
    deadline: tokio::time::Instant,
}

impl<'a> Wait<'a> {
    pub(crate) fn for_what(what: &'a str) -> Self {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        Self { what, deadline }
    }

    pub(crate) async fn again(&self) {
        let is_late = tokio::time::Instant::now() >= self.deadline;
        assert!(!is_late, "{}: not within {PATIENCE:?}", self.what);
        tokio::time::sleep(POLL).await;
    }
}

#[async_trait]
impl Fixture for Rig {
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
        let wait = Wait::for_what("all is copied");
        while self.pair.link().waiting() > 0 {
            wait.again().await;
        }
    }

    async fn stall(&self) {
        self.pair.link().stall();
    }

    async fn resume(&self) {
        self.pair.link().resume();
    }
}

/// Fails with every contract that does not hold.
pub(crate) async fn assert_holds(fixture: &dyn Fixture) {
    let breaches = stores::conformance::check(fixture).await;
    let seen: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "\n{}", seen.join("\n"));
}

//! Watchers by a second clock against the stores that keep no order: the stamp travels with the canary, and what it tells agrees with the
//! probe that writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lab::{DynamoPair, S3_ACCESS_KEY, S3_SECRET_KEY, S3Delay, S3Options, S3Pair, TableSpec};
use probes::{ClockBound, FinalState, KeptBound, LagSample, Part, Polling, SystemClock};
use stores::aws::{AccessKey, Service, Site};
use stores::secret::Secret;
use stores::{End, SiteNames, dynamodb, s3};

use crate::rig::{Left, Rig, Running};

const SITES: [&str; 2] = ["use1", "usw2"];
/// How long a copy takes at least.
const DELAY: Duration = Duration::from_millis(300);
/// What is vouched for of both clocks, which here are one.
const BOUND_US: u64 = 200;
/// What has not happened after this long does not happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Canaries that the watcher is to see.
const ARRIVALS: f64 = 25.0;

/// Somebody who vouches for the clock.
#[derive(Debug)]
struct Voucher;

#[async_trait]
impl ClockBound for Voucher {
    async fn bound_us(&self) -> Option<u64> {
        Some(BOUND_US)
    }
}

fn site(service: Service, endpoint: String, key: (&str, &Path)) -> Site {
    Site {
        region: Some("us-east-1".to_owned()),
        credentials: Some(AccessKey {
            access_key_id: key.0.to_owned(),
            secret_access_key: Secret::File(key.1.to_owned()),
        }),
        endpoint_url: BTreeMap::from([(service, endpoint)]),
        ..Site::default()
    }
}

async fn rig(primary: &End, secondary: &End, part: Part) -> Rig {
    let writer = Arc::clone(primary.canary_writer.as_ref().unwrap());
    let reader = Arc::clone(secondary.canary_reader.as_ref().unwrap());
    let mut rig = Rig::over(writer, reader, Polling::DYNAMODB, "5/s").clock(Arc::new(SystemClock::new()));
    rig.setting.wall_bound = Some(Arc::new(KeptBound::of(Arc::new(Voucher)).await));
    rig.spec.part = part;
    rig
}

async fn arrived(running: &Running) {
    let seen = |line: &&str| line.starts_with("driftline_canaries_total{") && line.contains("state=\"seen\"");
    let by = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = running.metrics.render();
        let count = text
            .lines()
            .find(seen)
            .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        if count.is_some_and(|count| count >= ARRIVALS) {
            return;
        }
        assert!(tokio::time::Instant::now() < by, "never arrived:\n{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A probe and a watcher over ends of their own, as two processes have them.
async fn agree(of_writer: [End; 2], of_watcher: [End; 2]) {
    let watcher = rig(&of_watcher[0], &of_watcher[1], Part::Watch).await.start();
    let writer = rig(&of_writer[0], &of_writer[1], Part::Both).await.start();
    arrived(&watcher).await;
    let writer = writer.stop().await.unwrap();
    let watcher = watcher.stop().await.unwrap();
    judge(&writer, &watcher);
}

/// Both readings of a canary hold the same truth, so that they overlap; and neither is shorter than the copy took.
fn judge(writer: &Left, watcher: &Left) {
    let key = |sample: &LagSample| (sample.stream.clone(), sample.epoch.clone(), sample.sequence);
    let delay_us = u64::try_from(DELAY.as_micros()).unwrap();
    let written: BTreeMap<_, _> = writer
        .samples
        .iter()
        .filter(|sample| sample.state == FinalState::Seen)
        .map(|sample| (key(sample), sample))
        .collect();
    assert!(watcher.samples.len() >= 25, "{}", watcher.samples.len());
    let mut known = 0;
    for sample in &watcher.samples {
        assert_eq!(
            (sample.clock.as_str(), sample.late_us),
            ("two_clock", None),
            "{sample:?}"
        );
        let (low, high) = (sample.lag_low_us.unwrap(), sample.lag_high_us.unwrap());
        assert!(high >= delay_us, "shorter than the copy took: {sample:?}");
        // Somebody who looks later sees no canary that the writer's own reader has not seen when it ends.
        let own = written[&key(sample)];
        let (own_low, own_high) = (own.lag_low_us.unwrap(), own.lag_high_us.unwrap());
        assert!(
            low <= own_high && own_low <= high,
            "[{own_low}, {own_high}] by one clock: {sample:?}"
        );
        assert_eq!(sample.sent_at_us, Some(sample.planned_at_us), "{sample:?}");
        assert!(sample.clock_error_us >= 2 * BOUND_US, "{sample:?}");
        known += usize::from(sample.low_known && low > 0);
    }
    assert!(known * 2 > watcher.samples.len(), "{known} low ends are known");
    assert_eq!(watcher.summary.routes[0].accounting.pending, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_of_a_dynamodb_table_agrees_with_the_probe_that_writes() {
    let pair = DynamoPair::embedded(&[TableSpec::keyed_by_text("profiles", "id")])
        .await
        .unwrap();
    pair.set_delay(DELAY);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let (name, key) = pair.access_key();
    std::fs::write(&file, key).unwrap();
    let config = dynamodb::Config {
        tables: vec![SiteNames::Everywhere("profiles".to_owned())],
        writers: None,
        labels: BTreeMap::new(),
        canary: dynamodb::CanaryPlace { table: None },
        native: None,
    };
    let open = async |side: usize| {
        let site = site(Service::Dynamodb, pair.endpoint(side), (name, &file));
        dynamodb::open(&config, &config.tables[0], SITES[side], &site)
            .await
            .unwrap()
    };
    agree([open(0).await, open(1).await], [open(0).await, open(1).await]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_of_a_bucket_agrees_with_the_probe_that_writes() {
    let options = S3Options {
        delay: S3Delay::Fixed(DELAY),
        ..S3Options::default()
    };
    let names = SITES.into_iter().map(str::to_owned).zip(options.buckets.clone());
    let config = s3::Config {
        buckets: vec![s3::Bucket {
            names: names.collect(),
            prefix: None,
        }],
        writers: None,
        labels: BTreeMap::new(),
        canary: s3::CanaryPlace::default(),
        native: None,
    };
    let pair = S3Pair::start(options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, S3_SECRET_KEY).unwrap();
    let endpoints = [pair.primary().endpoint(), pair.secondary().endpoint()];
    let bucket = &config.buckets[0];
    let at = |side: usize| site(Service::S3, endpoints[side].clone(), (S3_ACCESS_KEY, &file));
    let keys = s3::rules(&config, bucket, SITES[0], &at(0))
        .await
        .unwrap()
        .key_sets
        .remove(0);
    let open = async |side: usize| s3::open(&config, bucket, &keys, SITES[side], &at(side)).await.unwrap();
    agree([open(0).await, open(1).await], [open(0).await, open(1).await]).await;
}

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lab::{KafkaOptions, KafkaPair};
use stores::kafka::{CanaryPlace, Cluster, Config, Tls, open};
use stores::{Canary, CanaryReader, CanaryWriter, End, Oddities, Sighting, Sought, WriteOutcome};

/// Far more than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const TOPIC: &str = "driftline-canary";
pub(crate) const STREAM: &str = "events/use1";

/// A simulated pair with the canary topic in three partitions, and one topic of an application.
pub(crate) async fn pair(brokers: i32) -> KafkaPair {
    KafkaPair::start(KafkaOptions {
        brokers,
        topics: vec![(TOPIC.to_owned(), 3), ("orders".to_owned(), 2)],
        ..KafkaOptions::default()
    })
    .await
    .unwrap()
}

pub(crate) fn config(primary: Vec<String>, secondary: Vec<String>) -> Config {
    let sites = [("use1", primary), ("usw2", secondary)];
    Config {
        auth: None,
        tls: Tls::Disable,
        canary: CanaryPlace::default(),
        mapping: BTreeMap::from([("use1->usw2".to_owned(), "use1.{topic}".to_owned())]),
        writers: None,
        native: None,
        replicators: BTreeMap::new(),
        sites: sites
            .map(|(site, bootstrap)| (site.to_owned(), Cluster { bootstrap }))
            .into(),
    }
}

pub(crate) fn ends(pair: &KafkaPair, partition: i32) -> [End; 2] {
    let config = config(pair.primary().bootstrap(), pair.secondary().bootstrap());
    open(&config, "use1", "usw2", partition).unwrap()
}

pub(crate) fn canary(epoch: char, sequence: u64) -> Canary {
    Canary {
        stream: STREAM.to_owned(),
        epoch: epoch.to_string().repeat(32),
        sequence,
        stamp: None,
    }
}

pub(crate) fn writer(end: &End) -> &dyn CanaryWriter {
    end.canary_writer.as_deref().unwrap()
}

pub(crate) fn reader(end: &End) -> &dyn CanaryReader {
    end.canary_reader.as_deref().unwrap()
}

pub(crate) async fn write(end: &End, canary: &Canary) {
    let outcome = writer(end).write(canary).await;
    assert!(matches!(outcome, WriteOutcome::Acknowledged), "{canary:?}: {outcome:?}");
}

pub(crate) async fn poll(end: &End) -> Sighting {
    reader(end).poll(STREAM, Sought::All).await.unwrap()
}

pub(crate) fn sequences(sighting: &Sighting) -> Vec<u64> {
    let mut all: Vec<u64> = sighting.canaries.iter().map(|canary| canary.sequence).collect();
    all.sort_unstable();
    all
}

/// Polls until `done` says so; the oddities of all polls are added up.
pub(crate) async fn until(end: &End, done: impl Fn(&Sighting, &Oddities) -> bool) -> (Sighting, Oddities) {
    let deadline = Instant::now() + PATIENCE;
    let mut all = Oddities::default();
    loop {
        if let Ok(sighting) = reader(end).poll(STREAM, Sought::All).await {
            all.duplicates += sighting.oddities.duplicates;
            all.foreign += sighting.oddities.foreign;
            if done(&sighting, &all) {
                return (sighting, all);
            }
        }
        assert!(Instant::now() < deadline, "never came; so far {all:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

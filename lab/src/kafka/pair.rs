//! Two clusters in this process and a mirror between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::LabError;
use crate::kafka::clients;
use crate::kafka::mirror::{Link, Mirror};
use crate::kafka::mock::MockKafka;

/// Between two looks at how far the mirror is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a pair is made of.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Brokers of each cluster.
    pub brokers: i32,
    /// Topics and their partitions, at the primary; the secondary has them by its own name.
    pub topics: Vec<(String, i32)>,
    /// Put before a topic's name at the secondary; empty: the same name.
    pub prefix: String,
    /// What the mirror calls the secondary.
    pub secondary_alias: String,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: 1,
            topics: Vec::new(),
            prefix: "use1.".to_owned(),
            secondary_alias: "usw2".to_owned(),
        }
    }
}

/// A primary, a secondary and a mirror. Dropping it ends all three.
pub struct KafkaPair {
    // These two before the clusters: they end while those still answer.
    mirror: Mirror,
    writes: rdkafka::producer::FutureProducer,
    primary: MockKafka,
    secondary: MockKafka,
}

impl std::fmt::Debug for KafkaPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaPair")
            .field("mirror", &self.mirror)
            .field("primary", &self.primary)
            .field("secondary", &self.secondary)
            .finish_non_exhaustive()
    }
}

impl KafkaPair {
    /// Starts both clusters and the mirror.
    ///
    /// # Errors
    /// The library could not.
    pub async fn start(options: KafkaOptions) -> Result<Self, LabError> {
        let started = tokio::task::spawn_blocking(move || Self::start_now(&options)).await;
        started.map_err(|error| clients::failed("pair", "start", error))?
    }

    fn start_now(options: &KafkaOptions) -> Result<Self, LabError> {
        let primary = MockKafka::start("primary", options.brokers)?;
        let secondary = MockKafka::start("secondary", options.brokers)?;
        let syncs = format!("mm2-offset-syncs.{}.internal", options.secondary_alias);
        primary.create_topic(&syncs, 1)?;
        let mut partitions = Vec::new();
        for (topic, count) in &options.topics {
            primary.create_topic(topic, *count)?;
            secondary.create_topic(&format!("{}{topic}", options.prefix), *count)?;
            partitions.extend((0..*count).map(|partition| (topic.clone(), partition)));
        }
        let link = Link {
            primary: primary.bootstrap(),
            secondary: secondary.bootstrap(),
            prefix: options.prefix.clone(),
            syncs,
        };
        Ok(Self {
            mirror: Mirror::start(link, &partitions)?,
            writes: clients::producer("primary", &primary.bootstrap())?,
            primary,
            secondary,
        })
    }

    /// The cluster that is written.
    pub fn primary(&self) -> &MockKafka {
        &self.primary
    }

    /// The cluster that is mirrored to.
    pub fn secondary(&self) -> &MockKafka {
        &self.secondary
    }

    /// What lies between them.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Writes one record at the primary.
    ///
    /// # Errors
    /// It was not acknowledged.
    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<i64, LabError> {
        clients::produce(self.primary.name(), &self.writes, topic, partition, key, value).await
    }

    /// Waits until everything that is at the primary now has been mirrored.
    ///
    /// # Errors
    /// It was not within `patience`.
    pub async fn settle(&self, patience: Duration) -> Result<(), LabError> {
        let (bootstrap, places) = (self.primary.bootstrap(), self.mirror.next());
        let asked = tokio::task::spawn_blocking(move || {
            let client = clients::consumer("primary", &bootstrap, &BTreeMap::new())?;
            clients::ends("primary", &client, places.into_keys())
        });
        let ends = asked
            .await
            .map_err(|error| clients::failed("primary", "ask for the ends", error))??;
        let deadline = Instant::now() + patience;
        loop {
            let next = self.mirror.next();
            let is_there = |(place, end): (&(String, i32), &i64)| next.get(place).is_some_and(|next| next >= end);
            if ends.iter().all(is_there) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(clients::failed(
                    "mirror",
                    "mirror everything",
                    format!("not within {patience:?}"),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

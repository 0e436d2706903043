//! DynamoDB, S3 and Kafka of the lab: pairs in this process, so that a demo can probe all four stores.

use std::path::Path;

use anyhow::{Context as _, Result};
use lab::{DynamoPair, KafkaOptions, KafkaPair, S3_ACCESS_KEY, S3_SECRET_KEY, S3Options, S3Pair, TableSpec};

use super::{NEW_SITE, OLD_SITE};

/// The table of the lab.
const TABLE: &str = "profiles";
/// The topic of the canaries.
const CANARY_TOPIC: &str = "driftline-canary";
/// A topic of the application.
const TOPIC: &str = "orders";
/// Partitions of both topics.
const PARTITIONS: i32 = 2;

/// The pairs. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Embedded {
    dynamodb: DynamoPair,
    s3: S3Pair,
    kafka: KafkaPair,
}

impl Embedded {
    /// Starts all three, and writes the key that their configuration refers to into `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        super::secret(&folder.join("object-store-key"), S3_SECRET_KEY)?;
        Ok(Self {
            dynamodb: DynamoPair::embedded(&[TableSpec::keyed_by_text(TABLE, "id")])
                .await
                .context("start a DynamoDB pair")?,
            s3: S3Pair::start(S3Options::default()).await.context("start an S3 pair")?,
            kafka: KafkaPair::start(KafkaOptions {
                topics: [CANARY_TOPIC, TOPIC]
                    .map(|topic| (topic.to_owned(), PARTITIONS))
                    .to_vec(),
                ..KafkaOptions::default()
            })
            .await
            .context("start a Kafka pair")?,
        })
    }

    /// The body of `[site.NAME]`.
    pub(crate) fn site(&self, folder: &Path, site: &str) -> String {
        let (side, s3) = match site {
            OLD_SITE => (0, self.s3.primary().endpoint()),
            _ => (1, self.s3.secondary().endpoint()),
        };
        format!(
            "endpoint_url = {{ dynamodb = {:?}, s3 = {s3:?} }}\n\
             credentials = {{ access_key_id = {S3_ACCESS_KEY:?}, secret_access_key = {{ file = {:?} }} }}\n",
            self.dynamodb.endpoint(side),
            folder.join("object-store-key")
        )
    }

    /// The connection and the datasets.
    pub(crate) fn datasets(&self) -> String {
        let [old, new] = [self.kafka.primary().bootstrap(), self.kafka.secondary().bootstrap()];
        let [bucket, copy] = S3Options::default().buckets;
        format!(
            "\n[dataset.profiles.dynamodb]\ntables = [{TABLE:?}]\n\
             \n[dataset.media.s3]\nbuckets = [{{ {OLD_SITE} = {bucket:?}, {NEW_SITE} = {copy:?} }}]\n\
             \n[connection.events-mirror.kafka]\ntls = \"disable\"\n\
             mapping = {{ \"{OLD_SITE}->{NEW_SITE}\" = \"{OLD_SITE}.{{topic}}\" }}\n\
             sites.{OLD_SITE} = {{ bootstrap = {old:?} }}\nsites.{NEW_SITE} = {{ bootstrap = {new:?} }}\n\
             \n[dataset.events.kafka]\nconnection = \"events-mirror\"\ntopics = [{TOPIC:?}]\n"
        )
    }
}

//! Clients of the lab's own, of any cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::LabError;

/// Time for one question.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What a client said when it failed.
pub(super) fn failed(server: &str, tried: &str, message: impl ToString) -> LabError {
    LabError::Service {
        server: server.to_owned(),
        tried: tried.to_owned(),
        message: message.to_string(),
    }
}

/// A consumer of `partitions` from the offsets given, in no group.
pub(super) fn consumer(
    server: &str,
    bootstrap: &[String],
    from: &BTreeMap<(String, i32), i64>,
) -> Result<BaseConsumer, LabError> {
    const TRIED: &str = "read";
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap.join(","))
        .set("group.id", "lab-joins-no-group")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "20")
        .create()
        .map_err(|error| failed(server, TRIED, error))?;
    let mut assigned = TopicPartitionList::new();
    for ((topic, partition), offset) in from {
        assigned
            .add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .map_err(|error| failed(server, TRIED, error))?;
    }
    consumer
        .assign(&assigned)
        .map_err(|error| failed(server, TRIED, error))?;
    Ok(consumer)
}

/// A producer that sends at once, each record once.
pub(super) fn producer(server: &str, bootstrap: &[String]) -> Result<FutureProducer, LabError> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap.join(","))
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("message.timeout.ms", "20000")
        .create()
        .map_err(|error| failed(server, "write", error))
}

/// Offsets behind the last records. Blocks.
pub(super) fn ends(
    server: &str,
    client: &BaseConsumer,
    partitions: impl Iterator<Item = (String, i32)>,
) -> Result<BTreeMap<(String, i32), i64>, LabError> {
    partitions
        .map(|(topic, partition)| {
            let (_, end) = client
                .fetch_watermarks(&topic, partition, PATIENCE)
                .map_err(|error| failed(server, "ask for the ends", error))?;
            Ok(((topic, partition), end))
        })
        .collect()
}

/// Writes one record and returns its offset.
pub(super) async fn produce(
    server: &str,
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<i64, LabError> {
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(partition);
    record.key = key;
    record.payload = value;
    let sent = producer.send(record, PATIENCE).await;
    sent.map(|delivery| delivery.offset)
        .map_err(|(error, _)| failed(server, &format!("write to {topic}-{partition}"), error))
}

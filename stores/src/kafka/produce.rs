//! Sends records, and hears what became of each.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use tokio::sync::oneshot;

use super::client::{Notes, Reach};
use crate::{Result, StoreError, Trouble};

/// Whether a record was written.
pub(crate) type Report = std::result::Result<(), KafkaError>;

/// How long one wait for reports lasts; it ends when one comes. The library spends the last millisecond of each wait running in circles,
/// so that its own producer, which waits for a tenth of a second at a time, takes most of a percent of a core to do nothing.
const LISTEN: Duration = Duration::from_secs(1);

impl ProducerContext for Notes {
    type DeliveryOpaque = Box<oneshot::Sender<Report>>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let report = delivered.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // Nobody waits any more when the probe has ended.
        let _unheard = waiting.send(report);
    }
}

/// A client that writes, and a thread that listens for what became of its records. Clones are one client; it ends, within [`LISTEN`], when
/// the last of them is gone.
#[derive(Clone)]
pub(crate) struct RecordSender {
    client: Arc<BaseProducer<Notes>>,
    _lives: Arc<()>,
}

impl RecordSender {
    /// Makes the client. Blocks.
    pub(crate) fn start(reach: &Reach, tried: &str, settings: &[(&str, &str)], notes: &Notes) -> Result<Self> {
        let client: Arc<BaseProducer<Notes>> = Arc::new(reach.client(tried, settings, notes)?);
        let lives = Arc::new(());
        let (listening, life) = (Arc::clone(&client), Arc::downgrade(&lives));
        std::thread::Builder::new()
            .name("kafka-reports".to_owned())
            .spawn(move || listen(&listening, &life))
            .map_err(|error| StoreError::Retryable {
                after: None,
                trouble: Trouble::new(reach.site(), tried, error.to_string()),
            })?;
        Ok(Self { client, _lives: lives })
    }

    /// Queues a record; its report comes when the cluster has answered, or the client has given it up.
    pub(crate) fn send(
        &self,
        (topic, partition): (&str, i32),
        key: &str,
        value: &[u8],
    ) -> std::result::Result<oneshot::Receiver<Report>, KafkaError> {
        let (waiting, report) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(topic, Box::new(waiting))
            .partition(partition)
            .key(key)
            .payload(value);
        self.client.send(record).map_err(|(error, _)| error)?;
        Ok(report)
    }

    /// Whether the client can write nothing any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.client.client().fatal_error().is_some()
    }
}

fn listen(client: &BaseProducer<Notes>, life: &Weak<()>) {
    while life.strong_count() > 0 {
        client.poll(LISTEN);
    }
}

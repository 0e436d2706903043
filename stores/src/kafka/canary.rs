//! Writes canaries into one partition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::client::{Asks, Notes, off_runtime};
use super::produce::RecordSender;
use super::ring::RING_SLOTS;
use super::watch::LogReader;
use super::{fault, form};
use crate::{Canary, CanaryReader as _, CanaryWriter, Result, Sought, StoreError, Trouble, WriteOutcome};

/// Writes that were sent and not answered. More are refused, unsent.
const WRITES_UNANSWERED_MAX: usize = 64;
/// Streams whose highest sequence is remembered.
const STREAMS_MAX: usize = 8;

/// Every acknowledged canary is on all replicas that are in sync, once. `message.timeout.ms` is how long a partition without a leader
/// is waited for; then nobody knows, and the engine, which waits a little longer, hears it from here.
const SETTINGS: [(&str, &str); 9] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("linger.ms", "0"),
    ("message.timeout.ms", "4000"),
    ("request.timeout.ms", "4000"),
    ("queue.buffering.max.messages", "128"),
    ("queue.buffering.max.kbytes", "1024"),
    ("topic.metadata.propagation.max.ms", "2000"),
    ("topic.metadata.refresh.fast.interval.ms", "50"),
];

/// Writes into one partition by a client of its own, so that a partition without a leader delays no other.
pub(crate) struct LogWriter {
    asks: Arc<Asks>,
    topic: String,
    partition: i32,
    held: tokio::sync::Mutex<Option<RecordSender>>,
    notes: Notes,
    /// The highest sequence of each stream that was written or read.
    highest: Mutex<BTreeMap<String, u64>>,
    unanswered: Arc<Semaphore>,
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    pub(crate) fn new(asks: Arc<Asks>, topic: String, partition: i32) -> Self {
        Self {
            asks,
            topic,
            partition,
            held: tokio::sync::Mutex::new(None),
            notes: Notes::default(),
            highest: Mutex::new(BTreeMap::new()),
            unanswered: Arc::new(Semaphore::new(WRITES_UNANSWERED_MAX)),
        }
    }

    async fn sender(&self, tried: &str) -> Result<RecordSender> {
        let mut held = self.held.lock().await;
        if let Some(sender) = held.as_ref() {
            return Ok(sender.clone());
        }
        let (reach, notes) = (self.asks.reach().clone(), self.notes.clone());
        let what = tried.to_owned();
        let sender = off_runtime(self.asks.site(), tried, move || {
            RecordSender::start(&reach, &what, &SETTINGS, &notes)
        })
        .await?;
        *held = Some(sender.clone());
        Ok(sender)
    }

    /// Has the next write make another client.
    async fn give_up(&self) {
        *self.held.lock().await = None;
        self.notes.forget();
    }

    /// Whether the slot of `canary` was given to none later; notes the sequence then.
    fn takes_slot(&self, canary: &Canary) -> bool {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if highest.len() >= STREAMS_MAX && !highest.contains_key(&canary.stream) {
            highest.pop_first();
        }
        let known = highest.entry(canary.stream.clone()).or_default();
        if canary.sequence.saturating_add(RING_SLOTS) <= *known {
            return false;
        }
        *known = (*known).max(canary.sequence);
        true
    }

    fn trouble(&self, tried: &str, cause: impl Into<String>) -> Trouble {
        Trouble::new(self.asks.site(), tried, cause)
    }
}

#[async_trait]
impl CanaryWriter for LogWriter {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let tried = format!("write canary {} of stream {}", canary.sequence, canary.stream);
        let Ok(permit) = Arc::clone(&self.unanswered).try_acquire_owned() else {
            return WriteOutcome::Failed(StoreError::Retryable {
                after: None,
                trouble: self
                    .trouble(
                        &tried,
                        format!("{WRITES_UNANSWERED_MAX} earlier writes are not answered yet"),
                    )
                    .hint("the partition may have no leader, or too few replicas in sync"),
            });
        };
        let sender = match self.sender(&tried).await {
            Ok(sender) => sender,
            Err(error) => return WriteOutcome::Failed(error),
        };
        if !self.takes_slot(canary) {
            return WriteOutcome::Failed(StoreError::Config(
                self.trouble(&tried, "the slot holds a later canary of this stream")
                    .hint("another probe writes this stream, or the ledger was lost"),
            ));
        }
        let value = form::value(canary);
        let report = match sender.send((&self.topic, self.partition), &canary.stream, value.as_bytes()) {
            Ok(report) => report,
            Err(error) => return WriteOutcome::Failed(fault::of(self.asks.site(), &tried, &error, None)),
        };
        // A task of its own, so that the permit is held until the client has answered, however long nobody waits.
        let delivered = tokio::spawn(async move {
            let delivered = report.await;
            drop(permit);
            delivered
        });
        let error = match delivered.await {
            Ok(Ok(Ok(()))) => {
                self.notes.forget();
                return WriteOutcome::Acknowledged;
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) | Err(_) => {
                let trouble = self.trouble(&tried, "the client ended before it had an answer");
                return WriteOutcome::Unknown(StoreError::Retryable { after: None, trouble });
            }
        };
        let told = fault::of(self.asks.site(), &tried, &error, self.notes.last());
        if sender.is_dead() || !told.is_passing() {
            self.give_up().await;
        }
        if error.rdkafka_error_code().is_some_and(fault::is_refused_write) {
            WriteOutcome::Failed(told)
        } else {
            WriteOutcome::Unknown(told)
        }
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        // The client gets its identity from the cluster now and not before the first canary, which would wait for it.
        drop(self.sender("prepare to write canaries").await?);
        // A reader of its own, gone afterwards: nothing else is read at the primary.
        let reader = LogReader::new(Arc::clone(&self.asks), self.topic.clone(), self.partition);
        let sighting = reader.poll(stream, Sought::All).await?;
        if !sighting.strong {
            return Err(StoreError::Retryable {
                after: None,
                trouble: self.trouble(
                    &format!("find the highest canary of stream {stream}"),
                    "the log was not read to its end",
                ),
            });
        }
        let found = sighting
            .canaries
            .iter()
            .map(|canary| canary.sequence)
            .max()
            .unwrap_or(0);
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = highest.entry(stream.to_owned()).or_default();
        *known = (*known).max(found);
        Ok(found)
    }

    fn ring_slots(&self) -> u64 {
        RING_SLOTS
    }
}

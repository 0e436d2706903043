//! Watches the canaries of one partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use rdkafka::message::Message as _;
use tokio::sync::Mutex;

use super::client::{Asks, PATIENCE, off_runtime};
use super::form;
use super::ring::{Arrival, Ring};
use super::tail::{Between, Ended, Tail};
use crate::{CanaryReader, Covers, Oddities, Result, Sighting, Sought, StoreError, Trouble};

/// Records before the end with which the first poll starts, so that a restart and an RPO see what was there before. Canaries of
/// several streams share it.
const LOOK_BACK_RECORDS: i64 = 65_536;
/// Streams that one reader keeps apart. A probe has one in each partition.
const STREAMS_MAX: usize = 8;
/// Tries to find a place to read from while the log moves.
const PLACES_MAX: usize = 3;

/// Watches one partition of a topic. Every poll asks the leader for the end of the log and reads up to there: what is not shown then
/// was not there when the poll was sent.
#[derive(Debug)]
pub(crate) struct LogReader {
    site: String,
    watch: Arc<Mutex<Watch>>,
}

impl LogReader {
    pub(crate) fn new(asks: Arc<Asks>, topic: String, partition: i32) -> Self {
        Self {
            site: asks.site().to_owned(),
            watch: Arc::new(Mutex::new(Watch {
                asks,
                topic,
                partition,
                reading: None,
                life: 0,
            })),
        }
    }
}

#[async_trait]
impl CanaryReader for LogReader {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        let mut watch = Arc::clone(&self.watch).lock_owned().await;
        let stream = stream.to_owned();
        let only = match sought {
            Sought::All => None,
            Sought::Only(sequences) => Some(sequences.to_vec()),
        };
        off_runtime(&self.site, "poll canaries", move || {
            watch.poll(&stream, only.as_deref())
        })
        .await
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

/// What a reader knows. Its methods block.
struct Watch {
    asks: Arc<Asks>,
    topic: String,
    partition: i32,
    reading: Option<ReadingOn>,
    /// Counts the times that the log was found to be another one than before: what was missed there says nothing here.
    life: u64,
}

struct ReadingOn {
    tail: Tail,
    cluster: String,
    rings: BTreeMap<String, Ring>,
    /// Where the log ended when the reading began: oddities before it were there before us.
    counts_from: i64,
    oddities: Oddities,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Watch {
    fn poll(&mut self, stream: &str, only: Option<&[u64]>) -> Result<Sighting> {
        let result = self.read(stream, only);
        if result.as_ref().is_err_and(|error| !error.is_passing()) {
            // The topic is gone, or we may not read it: what comes after is another log.
            self.forget("it cannot be read");
        }
        result
    }

    fn read(&mut self, stream: &str, only: Option<&[u64]>) -> Result<Sighting> {
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..PLACES_MAX {
            let (low, high) = self.asks.watermarks(&self.topic, self.partition, PATIENCE)?;
            if self.reading.as_ref().is_some_and(|reading| high < reading.tail.next()) {
                self.forget("it ends before what was read of it; the topic was made anew, or a leader lost records");
            }
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => self.open(low, high)?,
            };
            if !reading.rings.contains_key(stream) {
                if reading.rings.len() >= STREAMS_MAX {
                    self.reading = Some(reading);
                    return Err(self.too_many(stream));
                }
                let streams: Vec<String> = reading.rings.into_keys().collect();
                // From the beginning again: the new stream's canaries were passed over.
                reading = self.open(low, high)?;
                for known in streams.into_iter().chain([stream.to_owned()]) {
                    reading.rings.insert(known, Ring::new());
                }
            }
            let ended = reading.read_to(high, deadline);
            match ended {
                Ok(Ended::Overtaken) => {
                    let streams = reading.rings.into_keys();
                    let rings = streams.map(|known| (known, Ring::new())).collect();
                    let mut again = self.open(low, high)?;
                    again.rings = rings;
                    self.reading = Some(again);
                }
                Ok(ended) => {
                    let sighting = self.sighting(&mut reading, stream, only, ended == Ended::Reached);
                    self.reading = Some(reading);
                    return Ok(sighting);
                }
                Err(error) => {
                    self.reading = Some(reading);
                    return Err(error);
                }
            }
        }
        Err(StoreError::Retryable {
            after: None,
            trouble: self.trouble("the log is cut off faster than it can be read"),
        })
    }

    fn open(&self, low: i64, high: i64) -> Result<ReadingOn> {
        let (cluster, _) = self.asks.cluster(&self.topic, PATIENCE)?;
        let from = low.max(high.saturating_sub(LOOK_BACK_RECORDS));
        Ok(ReadingOn {
            tail: Tail::open(
                self.asks.reach(),
                &cluster,
                (&self.topic, self.partition),
                from,
                Between::Fetches,
            )?,
            cluster,
            rings: BTreeMap::new(),
            counts_from: high,
            oddities: Oddities::default(),
        })
    }

    fn forget(&mut self, why: &str) {
        if self.reading.take().is_some() {
            self.life += 1;
            tracing::warn!(
                site = self.asks.site(),
                topic = self.topic,
                partition = self.partition,
                why,
                "the canaries' log is read anew"
            );
        }
    }

    fn sighting(&self, reading: &mut ReadingOn, stream: &str, only: Option<&[u64]>, strong: bool) -> Sighting {
        let sought = only.map_or(Sought::All, Sought::Only);
        let ring = reading.rings.get(stream);
        Sighting {
            canaries: ring.map(|ring| ring.shown(stream, sought)).unwrap_or_default(),
            instance: format!("{}/{}-{}/{}", reading.cluster, self.topic, self.partition, self.life),
            strong,
            covers: only.map_or(Covers::Ring, |sequences| Covers::Slots(sequences.to_vec())),
            oddities: std::mem::take(&mut reading.oddities),
        }
    }

    fn too_many(&self, stream: &str) -> StoreError {
        StoreError::Unsupported(self.trouble(&format!(
            "stream {stream} would be the {}th of this reader, which keeps {STREAMS_MAX} apart",
            STREAMS_MAX + 1
        )))
    }

    fn trouble(&self, cause: &str) -> Trouble {
        Trouble::new(
            self.asks.site(),
            format!("poll canaries in {}-{}", self.topic, self.partition),
            cause,
        )
    }
}

impl ReadingOn {
    fn read_to(&mut self, high: i64, deadline: Instant) -> Result<Ended> {
        let Self {
            tail,
            rings,
            counts_from,
            oddities,
            ..
        } = self;
        tail.read_to(high, deadline, |message| {
            let counts = u64::from(message.offset() >= *counts_from);
            let Some(canary) = form::parse(message.key(), message.payload()) else {
                oddities.foreign += counts;
                return;
            };
            // Another probe's stream is nothing odd.
            if let Some(ring) = rings.get_mut(&canary.stream)
                && ring.take(&canary) == Arrival::Again
            {
                oddities.duplicates += counts;
            }
        })
    }
}

//! Writing canaries: guarded by the ETag that this writer knows, for it is alone in its stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use super::ends::Place;
use super::fault::Fault;
use super::remote::{Condition, Head, Put};
use super::ring::{self, RING_SLOTS, Ring};
use crate::{Canary, CanaryWriter, Result, StoreError, WriteOutcome};

/// Looks at a ring that are under way together.
const HEADS_AT_ONCE: usize = 8;
/// Tries of a look at the ring before a stream begins, when nothing repeats it.
const TRIES: usize = 3;
/// Streams whose slots are remembered; with more, they are looked at again.
const STREAMS_MAX: usize = 16;
/// Keys of a ring with what else may lie there.
pub(crate) const RING_KEYS_MAX: usize = 1_024;

/// What this writer knows to be in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    Nothing,
    Canary { etag: String, sequence: u64 },
    Foreign,
}

/// Slots by number, by stream. What is absent has to be looked at first.
type Known = BTreeMap<String, BTreeMap<u64, Held>>;

/// Writes the canaries of one key set.
#[derive(Debug)]
pub(crate) struct RingWriter {
    place: Arc<Place>,
    known: Mutex<Known>,
}

impl RingWriter {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a slot, forgotten meanwhile: a write that is given up leaves a slot that has to be looked at again.
    fn take(&self, stream: &str, slot: u64) -> Option<Held> {
        self.known().get_mut(stream)?.remove(&slot)
    }

    fn keep(&self, stream: &str, slot: u64, held: Held) {
        let mut known = self.known();
        if known.len() >= STREAMS_MAX && !known.contains_key(stream) {
            known.clear();
        }
        known.entry(stream.to_owned()).or_default().insert(slot, held);
    }

    async fn look(&self, stream: &str, slot: u64, key: &str) -> std::result::Result<Held, Fault> {
        let head = self.place.remote.head(key).await?;
        Ok(held(stream, slot, head))
    }

    async fn look_patiently(&self, stream: &str, slot: u64, key: &str) -> Result<Held> {
        let mut tries = 1;
        loop {
            match self.look(stream, slot, key).await {
                Ok(held) => return Ok(held),
                Err(fault) => {
                    let error = self.place.remote.error(&format!("look at canary {key}"), fault);
                    if tries == TRIES || !error.is_passing() {
                        return Err(error);
                    }
                    tries += 1;
                }
            }
        }
    }

    async fn put(&self, canary: &Canary, key: &str, condition: Condition<'_>) -> std::result::Result<String, Fault> {
        let put = Put {
            key,
            body: ring::body(canary),
            metadata: &ring::metadata(canary),
            tagging: &self.place.tagging,
            condition: Some(condition),
        };
        self.place.remote.put(put).await
    }
}

fn held(stream: &str, slot: u64, head: Option<Head>) -> Held {
    let Some(head) = head else {
        return Held::Nothing;
    };
    match ring::canary(stream, slot, &head.metadata) {
        Some(canary) => Held::Canary {
            etag: head.etag,
            sequence: canary.sequence,
        },
        None => Held::Foreign,
    }
}

#[async_trait]
impl CanaryWriter for RingWriter {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let remote = &self.place.remote;
        let tried = format!("write canary {} of stream {}", canary.sequence, canary.stream);
        let slot = ring::slot_of(canary.sequence);
        let key = self.place.ring(&canary.stream).key(slot);
        let held = match self.take(&canary.stream, slot) {
            Some(held) => held,
            None => match self.look(&canary.stream, slot, &key).await {
                Ok(held) => held,
                Err(fault) => return WriteOutcome::Failed(remote.error(&tried, fault)),
            },
        };
        let condition = match &held {
            Held::Nothing => Condition::Absent,
            Held::Canary { etag, sequence } if *sequence < canary.sequence => Condition::Etag(etag),
            Held::Canary { .. } => {
                self.keep(&canary.stream, slot, held);
                return WriteOutcome::Failed(StoreError::Config(
                    remote
                        .trouble(&tried, "the slot holds a later canary of this stream")
                        .hint("another probe writes this stream, or the ledger was lost"),
                ));
            }
            // Not remembered: somebody may remove it.
            Held::Foreign => {
                return WriteOutcome::Failed(StoreError::Config(
                    remote
                        .trouble(&tried, format!("{key} is there and is no canary of ours"))
                        .hint("driftline overwrites nothing; remove the object, or choose another `canary.prefix`"),
                ));
            }
        };
        let fault = match self.put(canary, &key, condition).await {
            Ok(etag) => {
                let sequence = canary.sequence;
                // A store that tells no ETag is looked at again before the slot's next turn.
                if !etag.is_empty() {
                    self.keep(&canary.stream, slot, Held::Canary { etag, sequence });
                }
                self.place.note_newest(&key);
                return WriteOutcome::Acknowledged;
            }
            Err(fault) => fault,
        };
        if fault.status == Some(412) {
            return WriteOutcome::Failed(StoreError::Config(
                remote
                    .trouble(&tried, "the slot was changed by somebody else meanwhile")
                    .hint("another probe writes this stream, or a write whose answer was lost has arrived late"),
            ));
        }
        match fault.is_refusal() {
            true => WriteOutcome::Failed(remote.error(&tried, fault)),
            false => WriteOutcome::Unknown(remote.error(&tried, fault)),
        }
    }

    /// Reads the whole ring once, so that no later write has to look first. On stores that retry what failed to replicate when it is read
    /// (MinIO), this does so.
    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let ring = self.place.ring(stream);
        let listed = self.place.remote.list(&ring.prefix, RING_KEYS_MAX).await?;
        let there: Vec<(u64, String)> = listed
            .into_iter()
            .filter_map(|object| Some((ring.slot(&object.key)?, object.key)))
            .collect();
        let looks = stream::iter(there).map(|(slot, key)| async move {
            let held = self.look_patiently(stream, slot, &key).await?;
            Ok::<_, StoreError>((slot, held))
        });
        let seen: BTreeMap<u64, Held> = looks.buffer_unordered(HEADS_AT_ONCE).try_collect().await?;
        let sequences = seen.values().map(|held| match held {
            Held::Canary { sequence, .. } => *sequence,
            Held::Nothing | Held::Foreign => 0,
        });
        let highest = sequences.max().unwrap_or(0);
        for slot in 0..RING_SLOTS {
            match seen.get(&slot) {
                Some(Held::Foreign) => {}
                Some(held) => self.keep(stream, slot, held.clone()),
                None => self.keep(stream, slot, Held::Nothing),
            }
        }
        Ok(highest)
    }

    fn ring_slots(&self) -> u64 {
        RING_SLOTS
    }
}

impl Place {
    /// The ring of one stream.
    pub(crate) fn ring(&self, stream: &str) -> Ring {
        Ring::new(&self.reserved, stream)
    }
}

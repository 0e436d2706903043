//! Seeing canaries: HEAD of what is sought, LIST of the ring where a HEAD alone proves nothing.
//!
//! Three answers look like something that they are not:
//! - 404 to a HEAD has no words, and is also said by a bucket that is gone and by anything else that answers on that port. So one GET, whose answer
//!   names what is missing, confirms the misses of a poll.
//! - 403 is also said for a key that is not there, to a role without `s3:ListBucket`. That is never a miss.
//! - 200 is also said by a store that fetches what it lacks from the other site (MinIO's read proxying). So a slot counts as there only once
//!   a listing, which is never proxied, has shown it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::ends::Place;
use super::fault::Fault;
use super::remote::{Head, Listed};
use super::ring;
use super::writer::RING_KEYS_MAX;
use crate::{Canary, CanaryReader, Covers, Oddities, Result, Sighting, Sought, StoreError};

/// Requests of one poll that are under way together.
const HEADS_AT_ONCE: usize = 8;
/// Streams whose rings are remembered; with more, they are listed again.
const STREAMS_MAX: usize = 16;
/// Foreign objects that are remembered, so that each is counted once.
const FOREIGN_MAX: usize = 1_024;

/// What a slot held when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    etag: String,
    /// `None`: foreign.
    canary: Option<Canary>,
}

/// What is remembered of one stream's ring.
#[derive(Debug, Default)]
struct Seen {
    /// Slots that a listing has shown: the store itself holds them, and a HEAD is not answered from elsewhere.
    listed: BTreeSet<u64>,
    /// By slot. An ETag that has not changed needs no second look.
    slots: BTreeMap<u64, Slot>,
    /// What lay beside the slots.
    foreign: BTreeSet<String>,
}

impl Seen {
    /// Takes note of an object in a slot; true when it is a foreign one that was not counted yet.
    fn note(&mut self, slot: u64, etag: String, canary: Option<Canary>) -> bool {
        let now = Slot { etag, canary };
        let before = self.slots.insert(slot, now.clone());
        now.canary.is_none() && before.as_ref() != Some(&now)
    }

    fn note_absent(&mut self, slot: u64) {
        self.slots.remove(&slot);
        self.listed.remove(&slot);
    }

    fn note_foreign(&mut self, key: String) -> bool {
        self.foreign.len() < FOREIGN_MAX && self.foreign.insert(key)
    }
}

/// Watches the canaries of one key set.
#[derive(Debug)]
pub(crate) struct RingReader {
    place: Arc<Place>,
    instance: String,
    rings: Mutex<BTreeMap<String, Seen>>,
    told_denied: AtomicBool,
    told_proxied: AtomicBool,
}

/// The answer to one HEAD.
type Looked = (u64, std::result::Result<Option<Head>, Fault>);

impl RingReader {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self {
            instance: place.instance(),
            place,
            rings: Mutex::default(),
            told_denied: AtomicBool::new(false),
            told_proxied: AtomicBool::new(false),
        }
    }

    fn rings(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, stream: &str, look: impl FnOnce(&mut Seen) -> T) -> T {
        let mut rings = self.rings();
        if rings.len() >= STREAMS_MAX && !rings.contains_key(stream) {
            rings.clear();
        }
        look(rings.entry(stream.to_owned()).or_default())
    }

    async fn look(&self, stream: &str, slots: BTreeSet<u64>) -> Vec<Looked> {
        let ring = &self.place.ring(stream);
        let looks =
            stream::iter(slots).map(|slot| async move { (slot, self.place.remote.head(&ring.key(slot)).await) });
        looks.buffer_unordered(HEADS_AT_ONCE).collect().await
    }

    fn sighting(&self, canaries: Vec<Canary>, covers: Covers, foreign: u64) -> Sighting {
        Sighting {
            canaries,
            instance: self.instance.clone(),
            strong: true, // reads of a region follow its writes
            covers,
            oddities: Oddities { duplicates: 0, foreign },
        }
    }

    /// What lies in the ring by LIST: slots with their ETags, and how much else that was not counted before.
    async fn list(&self, stream: &str) -> Result<(BTreeMap<u64, Listed>, u64)> {
        let ring = self.place.ring(stream);
        let listed = self.place.remote.list(&ring.prefix, RING_KEYS_MAX).await?;
        let mut slots = BTreeMap::new();
        let mut foreign = 0;
        self.with(stream, |seen| {
            for object in listed {
                match ring.slot(&object.key) {
                    Some(slot) => drop(slots.insert(slot, object)),
                    None => foreign += u64::from(seen.note_foreign(object.key)),
                }
            }
            seen.listed = slots.keys().copied().collect();
        });
        Ok((slots, foreign))
    }

    /// LIST, then HEAD of what changed since: a listing changes nothing in the store, and a HEAD may (MinIO retries what failed).
    async fn poll_all(&self, stream: &str) -> Result<Sighting> {
        let (listed, mut foreign) = self.list(stream).await?;
        let changed = self.with(stream, |seen| {
            seen.slots.retain(|slot, _| listed.contains_key(slot));
            let is_new = |(slot, object): &(&u64, &Listed)| {
                object.etag.is_empty() || seen.slots.get(slot).is_none_or(|known| known.etag != object.etag)
            };
            listed.iter().filter(is_new).map(|(slot, _)| *slot).collect()
        });
        for (slot, looked) in self.look(stream, changed).await {
            match looked {
                Ok(Some(head)) => foreign += u64::from(self.note(stream, slot, head)),
                Ok(None) => self.with(stream, |seen| seen.note_absent(slot)), // removed since it was listed
                Err(fault) => return Err(self.error(stream, fault)),
            }
        }
        let canaries: Vec<Canary> = self.with(stream, |seen| {
            let slots = seen.slots.values();
            slots.filter_map(|slot| slot.canary.clone()).collect()
        });
        self.place.note_newest_of(stream, &canaries);
        Ok(self.sighting(canaries, Covers::Ring, foreign))
    }

    fn note(&self, stream: &str, slot: u64, head: Head) -> bool {
        let canary = ring::canary(stream, slot, &head.metadata);
        self.with(stream, |seen| seen.note(slot, head.etag, canary))
    }

    async fn poll_only(&self, stream: &str, sequences: &[u64]) -> Result<Sighting> {
        let slots: BTreeSet<u64> = sequences.iter().map(|sequence| ring::slot_of(*sequence)).collect();
        if slots.is_empty() {
            return Ok(self.sighting(Vec::new(), Covers::Slots(Vec::new()), 0));
        }
        let (mut hits, mut missed, mut first_fault) = (Vec::new(), BTreeSet::new(), None);
        for (slot, looked) in self.look(stream, slots).await {
            match looked {
                Ok(Some(head)) => hits.push((slot, head)),
                Ok(None) => drop(missed.insert(slot)),
                Err(fault) => drop(first_fault.get_or_insert(fault)),
            }
        }
        if let Some(slot) = missed.first()
            && let Err(fault) = self.place.remote.is_missing(&self.place.ring(stream).key(*slot)).await
        {
            missed.clear();
            first_fault = Some(fault);
        }
        let mut foreign = self.drop_proxied(stream, &mut hits, &mut missed).await?;
        if let Some(fault) = first_fault {
            let error = self.error(stream, fault);
            // A bucket that is gone holds nothing: what was answered for it before counts no more.
            if (hits.is_empty() && missed.is_empty()) || matches!(error, StoreError::NotFound(_)) {
                return Err(error);
            }
            self.tell_partial(&error);
        }
        let answered: BTreeSet<u64> = hits
            .iter()
            .map(|(slot, _)| *slot)
            .chain(missed.iter().copied())
            .collect();
        self.with(stream, |seen| missed.iter().for_each(|slot| seen.note_absent(*slot)));
        let mut canaries = Vec::new();
        for (slot, head) in hits {
            canaries.extend(ring::canary(stream, slot, &head.metadata));
            foreign += u64::from(self.note(stream, slot, head));
        }
        self.place.note_newest_of(stream, &canaries);
        let covered = sequences.iter().copied();
        let covered = covered
            .filter(|sequence| answered.contains(&ring::slot_of(*sequence)))
            .collect();
        Ok(self.sighting(canaries, Covers::Slots(covered), foreign))
    }

    /// Turns hits that no listing shows into misses. The listing is sent after the HEADs, so what it does not show was not there before. Costs one LIST
    /// each time that a slot is hit for the first time; how much was foreign beside the slots.
    async fn drop_proxied(&self, stream: &str, hits: &mut Vec<(u64, Head)>, missed: &mut BTreeSet<u64>) -> Result<u64> {
        let is_proved = self.with(stream, |seen| hits.iter().all(|(slot, _)| seen.listed.contains(slot)));
        if is_proved {
            return Ok(0);
        }
        let (listed, foreign) = self.list(stream).await?;
        let (held, proxied): (Vec<_>, Vec<_>) = hits.drain(..).partition(|(slot, _)| listed.contains_key(slot));
        *hits = held;
        if !proxied.is_empty() && !self.told_proxied.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                site = self.place.remote.site,
                bucket = self.place.remote.bucket,
                "this store answers HEAD for keys that it does not list: it reads through to another site; only what is listed counts here"
            );
        }
        missed.extend(proxied.into_iter().map(|(slot, _)| slot));
        Ok(foreign)
    }

    fn tell_partial(&self, error: &StoreError) {
        if matches!(error, StoreError::Denied(_)) && !self.told_denied.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "some canaries cannot be looked for");
        } else {
            tracing::debug!(%error, "some canaries were not looked for");
        }
    }

    fn error(&self, stream: &str, fault: Fault) -> StoreError {
        let tried = format!("look for canaries of stream {stream}");
        self.place.remote.error(&tried, fault)
    }
}

#[async_trait]
impl CanaryReader for RingReader {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        match sought {
            Sought::All => self.poll_all(stream).await,
            Sought::Only(sequences) => self.poll_only(stream, sequences).await,
        }
    }

    fn is_ordered(&self) -> bool {
        false
    }
}

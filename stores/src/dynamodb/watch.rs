//! Seeing canaries: batches of slots, strongly read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity};
use futures::StreamExt;
use futures::stream;

use super::canary::RING_SLOTS;
use super::fault;
use super::item::{self, Item};
use super::shape::{Shape, is_same};
use super::table::{Ring, Table};
use crate::{Canary, CanaryReader, Covers, Oddities, Result, Sighting, Sought, StoreError, Trouble};

/// Keys of one request: DynamoDB's limit.
const BATCH_KEYS_MAX: usize = 100;
/// Requests of one poll under way at once.
const BATCHES_AT_ONCE: usize = 4;
/// Tries of slots that were left unread, where the whole ring is wanted.
const RING_TRIES: u32 = 5;
/// The wait before the second try; it doubles.
const RING_WAIT: Duration = Duration::from_millis(50);
/// Keys of foreign items that are remembered, so that each is counted once.
const FOREIGN_MAX: usize = 4_096;

/// Which slots are read.
#[derive(Debug, Clone)]
pub(crate) enum Slots {
    /// All, or an error.
    All,
    /// These, as far as they can be read now.
    These(BTreeSet<u64>),
}

/// What a read of slots has shown.
#[derive(Debug, Default)]
pub(crate) struct SlotsRead {
    pub(crate) canaries: Vec<Canary>,
    pub(crate) instance: String,
    read: BTreeSet<u64>,
    /// Slots that hold something else.
    foreign: BTreeSet<u64>,
}

/// Reads `slots` of the ring of `stream`.
pub(crate) async fn read_slots(table: &Table, stream: &str, slots: Slots) -> Result<SlotsRead> {
    let ring = table.ring().await?;
    let (mut left, mut tries) = match slots {
        Slots::All => ((0..RING_SLOTS).collect(), RING_TRIES),
        Slots::These(slots) => (slots, 1),
    };
    let is_whole = tries > 1;
    let mut shown = SlotsRead {
        instance: ring.instance.clone(),
        ..SlotsRead::default()
    };
    let mut wait = RING_WAIT;
    loop {
        let trouble = read_once(table, &ring, stream, &left, &mut shown).await?;
        left.retain(|slot| !shown.read.contains(slot));
        tries -= 1;
        // Nothing read at all is an error, so that the caller waits before it asks again.
        let is_enough = left.is_empty() || (!is_whole && !shown.read.is_empty());
        if is_enough {
            return Ok(shown);
        }
        if tries == 0 {
            return Err(trouble.unwrap_or_else(|| unread(table, stream, left.len())));
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

fn unread(table: &Table, stream: &str, slots: usize) -> StoreError {
    StoreError::Retryable {
        after: None,
        trouble: Trouble::new(
            &table.site,
            format!("read canaries of stream {stream} in table {}", table.name),
            format!("{slots} of the slots were not read: throttled"),
        )
        .hint("the table or the account is at its limit of throughput"),
    }
}

/// One round over `slots`. A passing error of a batch leaves its slots unread and is handed back; any other ends the read.
async fn read_once(
    table: &Table,
    ring: &Ring,
    stream: &str,
    slots: &BTreeSet<u64>,
    shown: &mut SlotsRead,
) -> Result<Option<StoreError>> {
    let all: Vec<u64> = slots.iter().copied().collect();
    let batches = all.chunks(BATCH_KEYS_MAX).map(<[u64]>::to_vec);
    let mut answers =
        stream::iter(batches.map(|batch| read_batch(table, ring, stream, batch))).buffer_unordered(BATCHES_AT_ONCE);
    let mut trouble = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(batch) => {
                shown.canaries.extend(batch.canaries);
                shown.read.extend(batch.read);
                shown.foreign.extend(batch.foreign);
            }
            Err(error) if error.is_passing() => trouble = Some(error),
            Err(error) => {
                table.forget(&error);
                return Err(error);
            }
        }
    }
    Ok(trouble)
}

async fn read_batch(table: &Table, ring: &Ring, stream: &str, slots: Vec<u64>) -> Result<SlotsRead> {
    let tried = format!(
        "read {} canaries of stream {stream} in table {}",
        slots.len(),
        table.name
    );
    let keys: BTreeMap<u64, HashMap<String, AttributeValue>> = slots
        .iter()
        .map(|slot| (*slot, ring.shape.slot_key(stream, *slot).into_iter().collect()))
        .collect();
    let wanted = KeysAndAttributes::builder()
        .set_keys(Some(keys.values().cloned().collect()))
        .consistent_read(true)
        .build()
        .map_err(|error| StoreError::Corrupt(Trouble::new(&table.site, &tried, error.to_string())))?;
    table.count_request("BatchGetItem");
    let answer = table
        .client
        .batch_get_item()
        .request_items(&table.name, wanted)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .map_err(|error| fault::of(&table.site, &tried, &error))?;
    for capacity in answer.consumed_capacity() {
        table.count_units("BatchGetItem", capacity.capacity_units().unwrap_or_default());
    }
    let items: Vec<&Item> = answer
        .responses()
        .into_iter()
        .flat_map(HashMap::values)
        .flatten()
        .collect();
    let unprocessed: Vec<&Item> = answer
        .unprocessed_keys()
        .into_iter()
        .flat_map(HashMap::values)
        .flat_map(KeysAndAttributes::keys)
        .collect();
    Ok(sorted_out(&items, &unprocessed, &keys, stream, &ring.shape))
}

/// What a batch has shown of which slots. An unprocessed key that belongs to no slot leaves the whole batch unread: a slot that was not
/// read must never pass for an empty one.
fn sorted_out(
    items: &[&Item],
    unprocessed: &[&Item],
    keys: &BTreeMap<u64, Item>,
    stream: &str,
    shape: &Shape,
) -> SlotsRead {
    let slot_of = |found: &Item| {
        keys.iter()
            .find(|(_, key)| {
                key.iter()
                    .all(|(name, value)| found.get(name).is_some_and(|part| is_same(part, value)))
            })
            .map(|(slot, _)| *slot)
    };
    let mut shown = SlotsRead::default();
    let unread: Option<BTreeSet<u64>> = unprocessed.iter().map(|key| slot_of(key)).collect();
    if let Some(unread) = unread {
        shown.read = keys.keys().copied().filter(|slot| !unread.contains(slot)).collect();
    }
    for found in items {
        let Some(slot) = slot_of(found) else { continue };
        match item::read(found, stream, shape) {
            Some(canary) if canary.sequence % RING_SLOTS == slot => shown.canaries.push(canary),
            _ => drop(shown.foreign.insert(slot)),
        }
    }
    shown
}

/// Watches canaries at one copy of a table.
#[derive(Debug)]
pub(crate) struct SlotReader {
    table: Arc<Table>,
    /// Foreign items that were counted: stream and slot.
    counted: Mutex<BTreeSet<(String, u64)>>,
}

impl SlotReader {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self {
            table,
            counted: Mutex::default(),
        }
    }

    /// How many foreign items are new since the last look at their slots.
    fn newly_foreign(&self, stream: &str, read: &SlotsRead) -> u64 {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in read.read.difference(&read.foreign) {
            counted.remove(&(stream.to_owned(), *slot));
        }
        if counted.len() >= FOREIGN_MAX {
            counted.clear();
        }
        let new = read
            .foreign
            .iter()
            .filter(|slot| counted.insert((stream.to_owned(), **slot)));
        new.fold(0, |count, _| count + 1)
    }
}

#[async_trait]
impl CanaryReader for SlotReader {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        let slots = match sought {
            Sought::All => Slots::All,
            Sought::Only([]) => Slots::These(BTreeSet::from([0])),
            Sought::Only(sequences) => Slots::These(sequences.iter().map(|sequence| sequence % RING_SLOTS).collect()),
        };
        let read = read_slots(&self.table, stream, slots).await?;
        let covers = match sought {
            Sought::All => Covers::Ring,
            Sought::Only(sequences) => Covers::Slots(
                sequences
                    .iter()
                    .copied()
                    .filter(|sequence| read.read.contains(&(sequence % RING_SLOTS)))
                    .collect(),
            ),
        };
        let oddities = Oddities {
            duplicates: 0,
            foreign: self.newly_foreign(stream, &read),
        };
        Ok(Sighting {
            canaries: read.canaries,
            instance: read.instance,
            strong: true,
            covers,
            oddities,
        })
    }

    /// Copies of a table arrive item by item, in no order.
    fn is_ordered(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{KeyKind, NamedKey};
    use super::*;

    fn shape() -> Shape {
        Shape {
            partition: NamedKey {
                name: "id".to_owned(),
                kind: KeyKind::Number,
            },
            sort: None,
        }
    }

    fn keys(slots: &[u64]) -> BTreeMap<u64, Item> {
        let key = |slot: &u64| (*slot, shape().slot_key("s", *slot).into_iter().collect());
        slots.iter().map(key).collect()
    }

    #[test]
    fn what_was_not_processed_was_not_read() {
        let keys = keys(&[1, 2, 3]);
        let read = sorted_out(&[], &[&keys[&2]], &keys, "s", &shape());
        assert_eq!(read.read, BTreeSet::from([1, 3]));
        assert_eq!(
            sorted_out(&[], &[], &keys, "s", &shape()).read,
            BTreeSet::from([1, 2, 3])
        );
        let stranger = Item::from([("id".to_owned(), AttributeValue::N("1".to_owned()))]);
        let read = sorted_out(&[], &[&stranger], &keys, "s", &shape());
        assert!(read.read.is_empty(), "{read:?}");
    }

    #[test]
    fn an_item_that_is_no_canary_is_foreign_in_its_slot() {
        let keys = keys(&[1, 2]);
        let canary = Canary {
            stream: "s".to_owned(),
            epoch: "a".repeat(32),
            sequence: 1,
            stamp: None,
        };
        let (ours, theirs) = (item::of(&canary, &shape(), None), keys[&2].clone());
        let read = sorted_out(&[&ours, &theirs], &[], &keys, "s", &shape());
        assert_eq!((read.canaries, read.foreign), (vec![canary], BTreeSet::from([2])));
    }
}

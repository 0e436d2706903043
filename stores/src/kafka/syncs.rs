//! MirrorMaker 2's own record of which offset above is which below.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::message::Message as _;
use rdkafka::metadata::Metadata;

use super::client::Asks;
use super::tail::{Between, Ended, Tail};
use crate::{Result, StoreError, Trouble};

/// Partitions whose syncs are kept. Those beyond have none.
const SYNCS_MAX: usize = 20_000;

/// One record of the primary and the same record at the secondary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) above: i64,
    pub(crate) below: i64,
}

/// The newest sync of each partition of the primary.
pub(crate) struct Syncs {
    primary: String,
    secondary: String,
    /// The topic that holds them, and whether it is at the primary.
    place: Option<(String, bool)>,
    tail: Option<Tail>,
    newest: BTreeMap<(String, i32), Sync>,
}

impl std::fmt::Debug for Syncs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syncs")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Syncs {
    pub(crate) fn new(primary: &str, secondary: &str) -> Self {
        Self {
            primary: primary.to_owned(),
            secondary: secondary.to_owned(),
            place: None,
            tail: None,
            newest: BTreeMap::new(),
        }
    }

    /// Finds the topic, at the primary by the name that the mirror gives the secondary, or the other way round. Mirrors name clusters as
    /// they like: a topic that is the only one of its kind is taken, whatever its name.
    pub(crate) fn look(&mut self, above: &Metadata, below: &Metadata) {
        let at_primary = only(above, &self.secondary).map(|topic| (topic, true));
        let place = at_primary.or_else(|| only(below, &self.primary).map(|topic| (topic, false)));
        if place != self.place {
            self.place = place;
            self.forget();
        }
    }

    /// Where they are, in words; `None`: nowhere.
    pub(crate) fn found(&self) -> Option<String> {
        let (topic, at_primary) = self.place.as_ref()?;
        let site = if *at_primary { &self.primary } else { &self.secondary };
        Some(format!("mirrored; offset syncs in {topic} at {site}"))
    }

    pub(crate) fn of(&self, partition: &(String, i32)) -> Option<Sync> {
        self.newest.get(partition).copied()
    }

    /// Reads what is new. Blocks.
    pub(crate) fn read(&mut self, above: &Asks, below: &Asks, deadline: Instant) -> Result<()> {
        let result = self.read_on(above, below, deadline);
        if result.is_err() {
            self.forget();
        }
        result
    }

    fn read_on(&mut self, above: &Asks, below: &Asks, deadline: Instant) -> Result<()> {
        let Some((topic, at_primary)) = &self.place else {
            return Ok(());
        };
        let asks = if *at_primary { above } else { below };
        let (low, high) = asks.watermarks(topic, 0, deadline.saturating_duration_since(Instant::now()))?;
        if self.tail.as_ref().is_some_and(|tail| high < tail.next()) {
            self.tail = None;
            self.newest.clear();
        }
        let tail = match &mut self.tail {
            Some(tail) => tail,
            None => {
                let (cluster, _) = asks.cluster(topic, deadline.saturating_duration_since(Instant::now()))?;
                self.tail
                    .insert(Tail::open(asks.reach(), &cluster, (topic, 0), low, Between::Rests)?)
            }
        };
        let newest = &mut self.newest;
        let ended = tail.read_to(high, deadline, |message| {
            let read = message.key().and_then(key).zip(message.payload().and_then(value));
            if let Some((partition, sync)) = read
                && (newest.len() < SYNCS_MAX || newest.contains_key(&partition))
            {
                newest.insert(partition, sync);
            }
        })?;
        if ended == Ended::Reached {
            return Ok(());
        }
        Err(StoreError::Retryable {
            after: None,
            trouble: Trouble::new(
                asks.site(),
                format!("read {topic}"),
                "it was not read to its end in time",
            ),
        })
    }

    fn forget(&mut self) {
        self.tail = None;
        self.newest.clear();
    }
}

fn only(metadata: &Metadata, alias: &str) -> Option<String> {
    let is_theirs = |name: &&str| name.starts_with("mm2-offset-syncs.") && name.ends_with(".internal");
    let all: Vec<&str> = metadata
        .topics()
        .iter()
        .map(rdkafka::metadata::MetadataTopic::name)
        .filter(is_theirs)
        .collect();
    let named = format!("mm2-offset-syncs.{alias}.internal");
    match all.as_slice() {
        [only] => Some((*only).to_owned()),
        several => several.contains(&named.as_str()).then_some(named),
    }
}

/// `string topic` (16-bit length and bytes), `int32 partition`; big-endian.
fn key(bytes: &[u8]) -> Option<(String, i32)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let partition = i32::from_be_bytes(rest.try_into().ok()?);
    Some((String::from_utf8(topic.to_vec()).ok()?, partition))
}

/// `int64 upstream`, `int64 downstream`; big-endian.
fn value(bytes: &[u8]) -> Option<Sync> {
    let (above, rest) = bytes.split_first_chunk::<8>()?;
    Some(Sync {
        above: i64::from_be_bytes(*above),
        below: i64::from_be_bytes(rest.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_mirror_maker_is_read_and_a_torn_one_is_not() {
        let bytes = b"\0\x06orders\0\0\0\x03";
        assert_eq!(key(bytes), Some(("orders".to_owned(), 3)));
        assert_eq!(key(&bytes[..11]), None);
        assert_eq!(key(b"\0\x09orders\0\0\0\x03"), None);
        let offsets = [7_i64.to_be_bytes(), 2_i64.to_be_bytes()].concat();
        assert_eq!(value(&offsets), Some(Sync { above: 7, below: 2 }));
        assert_eq!(value(&offsets[..15]), None);
    }
}

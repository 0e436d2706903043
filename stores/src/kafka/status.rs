//! What a mirror leaves behind of its own account: how many records of each topic are not at the other end yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rdkafka::Offset;
use tokio::sync::Mutex;

use super::client::{Asks, off_runtime};
use super::config::Config;
use super::identity;
use super::syncs::{Sync, Syncs};
use crate::{CollectionLag, Fork, NativeStatus, Result, Status, StoreError, Trouble};

const TRIED: &str = "ask for the mirror's lag";
/// For each question. A cluster that does not answer ends the asking, and the engine waits four seconds for all of it.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Between two looks at which topics there are.
const TOPICS_EVERY: Duration = Duration::from_secs(15);
/// Partitions whose offsets are asked for at once. Topics beyond are not collected.
const PARTITIONS_MAX: usize = 10_000;

/// The status of one end. Only the secondary of a route knows a lag.
#[derive(Debug)]
pub(crate) struct MirrorStatus {
    here: Arc<Asks>,
    canary_topic: String,
    upstream: Option<Arc<Mutex<Upstream>>>,
}

/// The primary of the route, and what was learnt there.
#[derive(Debug)]
struct Upstream {
    asks: Arc<Asks>,
    names: Names,
    mirrored: Option<(Instant, Mirrored)>,
    syncs: Syncs,
}

/// How a route calls topics.
#[derive(Debug, Clone)]
struct Names {
    config: Config,
    primary: String,
    secondary: String,
}

/// Topics that are at both ends: (name at the primary, name at the secondary, partitions).
type Mirrored = Vec<(String, String, Vec<i32>)>;

impl MirrorStatus {
    /// Of an end that mirrors nobody.
    pub(crate) fn of_primary(here: Arc<Asks>, canary_topic: String) -> Self {
        Self {
            here,
            canary_topic,
            upstream: None,
        }
    }

    /// Of the secondary of a route, with a client of its primary.
    pub(crate) fn of_secondary(here: Arc<Asks>, there: Arc<Asks>, config: &Config) -> Self {
        let names = Names {
            config: config.clone(),
            primary: there.site().to_owned(),
            secondary: here.site().to_owned(),
        };
        let upstream = Upstream {
            syncs: Syncs::new(&names.primary, &names.secondary),
            asks: there,
            names,
            mirrored: None,
        };
        Self {
            here,
            canary_topic: config.canary.topic.clone(),
            upstream: Some(Arc::new(Mutex::new(upstream))),
        }
    }
}

#[async_trait]
impl Status for MirrorStatus {
    async fn status(&self) -> Result<NativeStatus> {
        let upstream = match &self.upstream {
            Some(upstream) => Some(Arc::clone(upstream).lock_owned().await),
            None => None,
        };
        let (here, topic) = (Arc::clone(&self.here), self.canary_topic.clone());
        off_runtime(self.here.site(), TRIED, move || {
            let identity = identity::identity(&here, &topic, PATIENCE)?;
            let (collections, link) = match upstream {
                None => (BTreeMap::new(), None),
                // A primary that does not answer is how a disaster begins: then nothing is collected, and this end still is.
                Some(mut upstream) => match upstream.lags(&here) {
                    Ok(lags) => (lags, upstream.syncs.found()),
                    Err(error) => {
                        tracing::debug!(%error, "the mirror's lag was not collected");
                        (BTreeMap::new(), None)
                    }
                },
            };
            Ok(NativeStatus {
                identity,
                as_of_us: now_us(),
                lag_us: None,
                lag_as_of_us: None,
                pending_operations: None,
                not_collected: None,
                lag_bytes: None,
                position: None,
                link,
                longest_transaction_us: None,
                is_logical: false,
                collections,
            })
        })
        .await
    }

    async fn fork(&self) -> Result<Fork> {
        Err(StoreError::Unsupported(
            Trouble::new(
                self.here.site(),
                "read the fork",
                "a Kafka cluster is never promoted and keeps no fork",
            )
            .hint("it is taken from the canaries: the newest that survived and the first that was lost"),
        ))
    }
}

impl Upstream {
    /// Lag in records by the name at the primary. A topic that cannot be judged has an entry without a figure.
    fn lags(&mut self, here: &Asks) -> Result<BTreeMap<String, CollectionLag>> {
        let deadline = Instant::now() + PATIENCE;
        let mirrored = self.mirrored(here)?;
        let above: Vec<(String, i32)> = spread(&mirrored, |(above, _, _)| above);
        let below: Vec<(String, i32)> = spread(&mirrored, |(_, below, _)| below);
        // What is read first can only make the lag look longer: here, the syncs, and at last the ends at the primary.
        let ends_below = here.offsets(TRIED, &below, Offset::End, PATIENCE)?;
        self.syncs.read(&self.asks, here, deadline)?;
        let starts_above = self.asks.offsets(TRIED, &above, Offset::Beginning, PATIENCE)?;
        let ends_above = self.asks.offsets(TRIED, &above, Offset::End, PATIENCE)?;
        let mut lags = BTreeMap::new();
        for (above, below, partitions) in &mirrored {
            let of = |partition: &i32| {
                let (up, down) = ((above.clone(), *partition), (below.clone(), *partition));
                records(Partition {
                    start_above: *starts_above.get(&up)?,
                    end_above: *ends_above.get(&up)?,
                    end_below: *ends_below.get(&down)?,
                    sync: self.syncs.of(&up),
                })
            };
            let lag_records = partitions.iter().map(of).sum();
            let lag = CollectionLag {
                lag_records,
                lag_us: None,
            };
            lags.insert(above.clone(), lag);
        }
        Ok(lags)
    }

    fn mirrored(&mut self, here: &Asks) -> Result<Mirrored> {
        if let Some((at, mirrored)) = &self.mirrored
            && at.elapsed() < TOPICS_EVERY
        {
            return Ok(mirrored.clone());
        }
        let there = self.asks.metadata(TRIED, None, PATIENCE)?;
        let below = here.metadata(TRIED, None, PATIENCE)?;
        self.syncs.look(&there, &below);
        let mut mirrored = Vec::new();
        let mut count = 0;
        for topic in there.topics() {
            let mapped = self
                .names
                .config
                .mapped(&self.names.primary, &self.names.secondary, topic.name());
            let is_ours = topic.name() == self.names.config.canary.topic;
            let is_below = below
                .topics()
                .iter()
                .any(|found| found.name() == mapped && found.error().is_none());
            count += topic.partitions().len();
            if is_ours || is_internal(topic.name()) || !is_below || count > PARTITIONS_MAX {
                continue;
            }
            let partitions = topic
                .partitions()
                .iter()
                .map(rdkafka::metadata::MetadataPartition::id)
                .collect();
            mirrored.push((topic.name().to_owned(), mapped, partitions));
        }
        self.mirrored = Some((Instant::now(), mirrored.clone()));
        Ok(mirrored)
    }
}

fn spread(mirrored: &Mirrored, name: impl Fn(&(String, String, Vec<i32>)) -> &String) -> Vec<(String, i32)> {
    let pairs = mirrored
        .iter()
        .flat_map(|topic| topic.2.iter().map(|partition| (name(topic).clone(), *partition)));
    pairs.collect()
}

/// Kafka's own topics and those of mirrors, which no mirror copies.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__") || topic.ends_with(".internal") || topic == "heartbeats" || topic.ends_with(".heartbeats")
}

/// Offsets of one partition.
#[derive(Debug, Clone, Copy)]
struct Partition {
    start_above: i64,
    end_above: i64,
    end_below: i64,
    sync: Option<Sync>,
}

/// Records of a partition that are not below yet. Exact up to what the mirror lets its syncs be behind (`offset.lag.max`), and too long
/// by markers of transactions, which take offsets above and are not mirrored. `None`: nobody can tell.
fn records(partition: Partition) -> Option<u64> {
    let Partition {
        start_above,
        end_above,
        end_below,
        sync,
    } = partition;
    let kept = u64::try_from(end_above.checked_sub(start_above)?).ok()?;
    if end_below == 0 || end_above == 0 {
        // Nothing was ever mirrored.
        return Some(kept);
    }
    let sync = sync?;
    if sync.above >= end_above || sync.below >= end_below {
        // A sync beyond an end is of a topic that was made anew since.
        return None;
    }
    // From the record of the sync on, both sides count alike.
    let mirrored_to = sync.above.checked_add(end_below.checked_sub(sync.below)?)?;
    u64::try_from(end_above.checked_sub(mirrored_to)?.max(0)).ok()
}

/// Kafka tells no time of its own: ours, and only to say when this was asked.
fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(end_above: i64, end_below: i64, sync: Option<(i64, i64)>) -> Option<u64> {
        records(Partition {
            start_above: 10,
            end_above,
            end_below,
            sync: sync.map(|(above, below)| Sync { above, below }),
        })
    }

    #[test]
    fn a_sync_tells_how_far_the_copy_is_and_nothing_else_is_guessed() {
        assert_eq!(
            lag(100, 40, Some((90, 30))),
            Some(0),
            "ten records since the sync at both ends"
        );
        assert_eq!(lag(100, 31, Some((90, 30))), Some(9));
        assert_eq!(lag(100, 31, None), None, "records below, and nobody says which");
        assert_eq!(lag(100, 0, None), Some(90), "nothing was mirrored of what is kept");
        assert_eq!(
            lag(100, 50, Some((90, 30))),
            Some(0),
            "repeated records are no negative lag"
        );
        assert_eq!(lag(50, 40, Some((90, 30))), None, "the topic was made anew above");
        assert_eq!(lag(100, 20, Some((90, 30))), None, "or below");
    }

    #[test]
    fn internal_topics_are_no_collections() {
        for (topic, internal) in [
            ("__consumer_offsets", true),
            ("mm2-offset-syncs.usw2.internal", true),
            ("heartbeats", true),
            ("orders", false),
            ("orders.heartbeats.v2", false),
        ] {
            assert_eq!(is_internal(topic), internal, "{topic}");
        }
    }
}

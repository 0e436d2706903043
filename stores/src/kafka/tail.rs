//! Reads one partition from an offset to its end, as no member of any group.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Notes, Reach, why};
use super::fault;
use crate::{Result, StoreError, Trouble};

/// How long the consumer sleeps before it looks again whether markers of transactions, which are not handed out, were passed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a broker holds back a fetch of a log that was read to its end. It answers at once when a record comes.
const WAIT_MS: &str = "500";

/// The same for librdkafka's own simulated cluster, which answers at the end of the wait though a record has come: such a log is fetched
/// from only while something is known to be there.
const WAIT_SIMULATED_MS: &str = "5";

/// How the library calls simulated clusters.
const SIMULATED: &str = "mockCluster";

/// Measured settings: without the first the consumer sleeps a second whenever its queue is full. The queue is small, since nothing
/// is kept but the newest canaries. A group is named because the library wants one; it is neither joined nor written to.
const SETTINGS: [(&str, &str); 11] = [
    ("fetch.queue.backoff.ms", "5"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "4096"),
    ("fetch.message.max.bytes", "1048576"),
    ("fetch.error.backoff.ms", "50"),
    ("enable.partition.eof", "true"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("group.id", "driftline-joins-no-group"),
];

/// How a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything below the end has been read.
    Reached,
    /// Time was up, and something was read.
    Short,
    /// What was to be read next is no longer kept.
    Overtaken,
}

/// What a consumer does once it has read to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// It goes on fetching, so that what comes next is there before it is asked for.
    Fetches,
    /// It lets go of the partition until it is asked again: nothing is asked of the broker, and nothing wakes up here.
    Rests,
}

/// A log that is read again sooner than this is not let go of: to take it up again costs more than it saves.
const REST_AFTER: Duration = Duration::from_millis(50);

/// A consumer of one partition and where it is.
pub(crate) struct Tail {
    consumer: BaseConsumer<Notes>,
    site: String,
    topic: String,
    partition: i32,
    next: i64,
    between: Between,
    is_assigned: bool,
    read_at: Option<Instant>,
}

impl Tail {
    /// Starts at `from`, in a topic of `cluster`. A simulated cluster ends no wait when a record comes, so that one is never waited for there.
    pub(crate) fn open(
        reach: &Reach,
        cluster: &str,
        (topic, partition): (&str, i32),
        from: i64,
        between: Between,
    ) -> Result<Self> {
        let is_simulated = cluster.starts_with(SIMULATED);
        let wait_ms = if is_simulated { WAIT_SIMULATED_MS } else { WAIT_MS };
        let settings: Vec<(&str, &str)> = SETTINGS.into_iter().chain([("fetch.wait.max.ms", wait_ms)]).collect();
        let tried = format!("read {topic}-{partition}");
        let mut tail = Self {
            consumer: reach.client(&tried, &settings, &Notes::default())?,
            site: reach.site().to_owned(),
            topic: topic.to_owned(),
            partition,
            next: from,
            between: if is_simulated { Between::Rests } else { between },
            is_assigned: false,
            read_at: None,
        };
        // Connected before the first record comes.
        tail.take_up(&tried)?;
        Ok(tail)
    }

    /// The offset that is read next.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Hands out every record below `end`, and some behind it that are there already. Blocks until `deadline` at most.
    pub(crate) fn read_to(
        &mut self,
        end: i64,
        deadline: Instant,
        take: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<Ended> {
        if self.next >= end {
            return Ok(Ended::Reached);
        }
        let tried = format!("read {}-{} up to {end}", self.topic, self.partition);
        self.take_up(&tried)?;
        let ended = self.read_on(&tried, end, deadline, take)?;
        if ended == Ended::Reached {
            self.rest(&tried)?;
        }
        Ok(ended)
    }

    fn read_on(
        &mut self,
        tried: &str,
        end: i64,
        deadline: Instant,
        mut take: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<Ended> {
        let started_at = self.next;
        while self.next < end {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return if self.next > started_at {
                    Ok(Ended::Short)
                } else {
                    Err(self.silent(tried))
                };
            }
            match self.consumer.poll(left.min(LOOK_EVERY)) {
                Some(Ok(message)) => {
                    take(&message);
                    self.next = message.offset() + 1;
                }
                None | Some(Err(KafkaError::PartitionEOF(_))) => self.pass_markers(),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                        return Ok(Ended::Overtaken);
                    }
                    // Nothing is done with the group, so whether it may be used is all the same.
                    Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                    Some(code) if fault::is_worth_noting(code) => {}
                    _ => return Err(fault::of(&self.site, tried, &error, None)),
                },
            }
        }
        Ok(Ended::Reached)
    }

    /// Has it fetch from where it is.
    fn take_up(&mut self, tried: &str) -> Result<()> {
        if self.is_assigned {
            return Ok(());
        }
        let mut assigned = TopicPartitionList::new();
        let added = assigned.add_partition_offset(&self.topic, self.partition, Offset::Offset(self.next));
        added
            .and_then(|()| self.consumer.assign(&assigned))
            .map_err(|error| fault::of(&self.site, tried, &error, None))?;
        self.is_assigned = true;
        Ok(())
    }

    /// Everything has been read. What was fetched beyond is fetched again.
    fn rest(&mut self, tried: &str) -> Result<()> {
        let is_busy = self
            .read_at
            .replace(Instant::now())
            .is_some_and(|at| at.elapsed() < REST_AFTER);
        if self.between == Between::Fetches || is_busy {
            return Ok(());
        }
        self.consumer
            .unassign()
            .map_err(|error| fault::of(&self.site, tried, &error, None))?;
        self.is_assigned = false;
        Ok(())
    }

    /// Markers of transactions take offsets and are passed by the library itself.
    fn pass_markers(&mut self) {
        let Ok(position) = self.consumer.position() else {
            return;
        };
        if let Some(Offset::Offset(offset)) = position
            .find_partition(&self.topic, self.partition)
            .map(|at| at.offset())
        {
            self.next = self.next.max(offset);
        }
    }

    fn silent(&self, tried: &str) -> StoreError {
        match why(&self.consumer) {
            Some(note) => fault::of(
                &self.site,
                tried,
                &KafkaError::MessageConsumption(note.code),
                Some(note),
            ),
            None => StoreError::Retryable {
                after: None,
                trouble: Trouble::new(&self.site, tried, "the records that are there did not come in time"),
            },
        }
    }
}

//! A mirror of our own between two clusters, which errs on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage, Timestamp};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};

use crate::LabError;
use crate::kafka::clients;

/// Records that wait for their delay. More are left where they are.
const WAITING_MAX: usize = 100_000;
/// How long the mirror sleeps while nothing comes.
const IDLE: Duration = Duration::from_millis(2);

/// One mirror from a primary to a secondary. Key, value, headers and time of each record stay as they are; its offset does not. It leaves
/// offset syncs at the primary as MirrorMaker 2 does.
#[derive(Debug)]
pub struct Mirror {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_stalled: bool,
    is_ended: bool,
    delay: Duration,
    drops: u64,
    repeats: u64,
    swaps: bool,
    rewind: i64,
    /// The offset at the primary that is mirrored next.
    next: BTreeMap<(String, i32), i64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a mirror reads and writes.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) primary: Vec<String>,
    pub(super) secondary: Vec<String>,
    /// Put before a topic's name at the secondary.
    pub(super) prefix: String,
    /// The topic at the primary that keeps the offset syncs.
    pub(super) syncs: String,
}

impl Mirror {
    /// Mirrors `partitions` from their beginning.
    pub(super) fn start(link: Link, partitions: &[(String, i32)]) -> Result<Self, LabError> {
        let shared = Arc::new(Shared::default());
        shared.state().next = partitions.iter().map(|one| (one.clone(), 0)).collect();
        let running = Running::new(link, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new()
            .name("mirror".to_owned())
            .spawn(move || running.run())
            .map_err(|error| clients::failed("mirror", "start", error))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Mirrors nothing until [`Self::resume`].
    pub fn stall(&self) {
        self.shared.state().is_stalled = true;
    }

    /// Goes on where it stopped.
    pub fn resume(&self) {
        self.shared.state().is_stalled = false;
        self.shared.changed.notify_all();
    }

    /// Each record arrives so much later than it could.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// The next `records` never arrive.
    pub fn drop_next(&self, records: u64) {
        self.shared.state().drops = records;
    }

    /// The next `records` arrive twice.
    pub fn repeat_next(&self, records: u64) {
        self.shared.state().repeats = records;
    }

    /// The next two records that are mirrored together arrive in the other order.
    pub fn swap_next(&self) {
        self.shared.state().swaps = true;
    }

    /// Goes back by `records` in each partition and mirrors them again, as a mirror does that was killed before it noted how far it was.
    pub fn rewind(&self, records: u32) {
        self.shared.state().rewind = i64::from(records);
    }

    /// Ends the link for good.
    pub fn cut(&self) {
        self.shared.state().is_ended = true;
        self.shared.changed.notify_all();
    }

    /// The offset at the primary that is mirrored next, by partition.
    pub fn next(&self) -> BTreeMap<(String, i32), i64> {
        self.shared.state().next.clone()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.cut();
        if let Some(thread) = self.thread.take() {
            // A panic of the mirror's has been printed, and a test that relied on it has failed.
            let _ended = thread.join();
        }
    }
}

struct Running {
    link: Link,
    shared: Arc<Shared>,
    reads: BaseConsumer,
    writes: FutureProducer,
    syncs: FutureProducer,
    runtime: tokio::runtime::Runtime,
    waiting: VecDeque<(Instant, OwnedMessage)>,
    /// Upstream less downstream offset, as last told.
    told: BTreeMap<(String, i32), i64>,
}

impl Running {
    fn new(link: Link, shared: Arc<Shared>) -> Result<Self, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| clients::failed("mirror", "start", error))?;
        let reads = clients::consumer("mirror", &link.primary, &shared.state().next)?;
        Ok(Self {
            reads,
            writes: clients::producer("mirror", &link.secondary)?,
            syncs: clients::producer("mirror", &link.primary)?,
            runtime,
            waiting: VecDeque::new(),
            told: BTreeMap::new(),
            link,
            shared,
        })
    }

    fn run(mut self) {
        while self.may_go_on() {
            if self.waiting.len() < WAITING_MAX {
                self.take();
            }
            let (due, reached) = self.due();
            if let Err(error) = self.mirror(due) {
                tracing::error!(%error, "the lab's mirror has ended");
                return;
            }
            self.shared.state().next.extend(reached);
        }
    }

    /// Waits while stalled; goes back where it was told to. False at the end.
    fn may_go_on(&mut self) -> bool {
        let state = self.shared.state();
        let stalled = |state: &mut State| state.is_stalled && !state.is_ended;
        let mut state = self
            .shared
            .changed
            .wait_while(state, stalled)
            .unwrap_or_else(PoisonError::into_inner);
        if state.rewind > 0 {
            let back = std::mem::take(&mut state.rewind);
            state.next.values_mut().for_each(|next| *next = (*next - back).max(0));
            self.waiting.clear();
            match clients::consumer("mirror", &self.link.primary, &state.next) {
                Ok(reads) => self.reads = reads,
                Err(error) => {
                    tracing::error!(%error, "the lab's mirror has ended");
                    return false;
                }
            }
        }
        !state.is_ended
    }

    /// Takes over what has come.
    fn take(&mut self) {
        let delay = self.shared.state().delay;
        let mut wait = if self.waiting.is_empty() {
            IDLE
        } else {
            Duration::from_micros(200)
        };
        while let Some(came) = self.reads.poll(wait) {
            match came {
                Ok(message) => self.waiting.push_back((Instant::now() + delay, message.detach())),
                Err(error) => tracing::debug!(%error, "the lab's mirror reads on"),
            }
            wait = Duration::ZERO;
        }
    }

    /// What is to arrive now, with the faults that were asked for, and where the mirror is then.
    fn due(&mut self) -> (Vec<OwnedMessage>, BTreeMap<(String, i32), i64>) {
        let mut state = self.shared.state();
        if state.is_stalled || state.is_ended {
            return (Vec::new(), BTreeMap::new());
        }
        let now = Instant::now();
        let (mut due, mut reached) = (Vec::new(), BTreeMap::new());
        while let Some((_, message)) = self.waiting.pop_front_if(|(at, _)| *at <= now) {
            let place = (message.topic().to_owned(), message.partition());
            reached.insert(place, message.offset() + 1);
            if state.drops > 0 {
                state.drops -= 1;
                continue;
            }
            if state.repeats > 0 {
                state.repeats -= 1;
                due.push(message.clone());
            }
            due.push(message);
        }
        if state.swaps && due.len() > 1 {
            state.swaps = false;
            due.swap(0, 1);
        }
        (due, reached)
    }

    /// Writes at the secondary and waits until it is there; then says at the primary where.
    fn mirror(&mut self, due: Vec<OwnedMessage>) -> Result<(), LabError> {
        let mut sent: Vec<(OwnedMessage, DeliveryFuture)> = Vec::with_capacity(due.len());
        for message in due {
            let topic = format!("{}{}", self.link.prefix, message.topic());
            let delivery = self.writes.send_result(copy(&topic, &message));
            let delivery =
                delivery.map_err(|(error, _)| clients::failed("mirror", &format!("write to {topic}"), error))?;
            sent.push((message, delivery));
        }
        for (message, delivery) in sent {
            let written = self.runtime.block_on(delivery);
            let below = written
                .map_err(|error| clients::failed("mirror", "write", error))?
                .map_err(|(error, _)| clients::failed("mirror", "write", error))?
                .offset;
            self.tell(&message, below)?;
        }
        Ok(())
    }

    fn tell(&mut self, message: &OwnedMessage, below: i64) -> Result<(), LabError> {
        let place = (message.topic().to_owned(), message.partition());
        let distance = message.offset() - below;
        if self.told.insert(place, distance) == Some(distance) {
            return Ok(());
        }
        let length = u16::try_from(message.topic().len()).unwrap_or_default();
        let key = [
            &length.to_be_bytes(),
            message.topic().as_bytes(),
            &message.partition().to_be_bytes(),
        ]
        .concat();
        let value = [message.offset().to_be_bytes(), below.to_be_bytes()].concat();
        let told = clients::produce("mirror", &self.syncs, &self.link.syncs, 0, Some(&key), Some(&value));
        self.runtime.block_on(told).map(|_| ())
    }
}

fn copy<'a>(topic: &'a str, message: &'a OwnedMessage) -> FutureRecord<'a, [u8], [u8]> {
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic).partition(message.partition());
    record.key = message.key();
    record.payload = message.payload();
    if let Timestamp::CreateTime(at) = message.timestamp() {
        record.timestamp = Some(at);
    }
    record.headers = message.headers().filter(|headers| headers.count() > 0).cloned();
    record
}

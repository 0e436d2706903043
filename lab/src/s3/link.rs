//! What copies objects from one site to the other, and what it may be made to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use s3s::dto::ReplicationStatus;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::site::Site;

/// Copies that wait; what is written beyond fails to replicate.
const WAITING_MAX: usize = 100_000;
/// Failed copies that are remembered to be tried again.
const FAILED_MAX: usize = 10_000;

/// How long a copy is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Delay {
    /// As long each time.
    Fixed(Duration),
    /// Any time between the two, so that copies overtake each other.
    Between(Duration, Duration),
}

impl S3Delay {
    fn draw(self) -> Duration {
        match self {
            Self::Fixed(delay) => delay,
            Self::Between(low, high) => {
                let share = f64::from(rand::random::<u16>()) / f64::from(u16::MAX);
                low + high.saturating_sub(low).mul_f64(share)
            }
        }
    }
}

/// One version to be copied.
#[derive(Debug, Clone)]
struct Copy {
    from: Weak<Site>,
    to: Weak<Site>,
    bucket: String,
    key: String,
    version: String,
    destination: String,
}

#[derive(Debug)]
struct State {
    delay: S3Delay,
    /// By the instant at which it arrives; the number tells those of one instant apart.
    waiting: BTreeMap<(Instant, u64), Copy>,
    failed: Vec<Copy>,
    number: u64,
    is_stalled: bool,
    is_cut: bool,
    drop_next: usize,
    duplicate_next: usize,
    copied: u64,
}

/// The replication between the sites of a pair.
#[derive(Debug)]
pub struct S3Link {
    state: Mutex<State>,
    changed: Notify,
}

impl S3Link {
    pub(crate) fn new(delay: S3Delay) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                delay,
                waiting: BTreeMap::new(),
                failed: Vec::new(),
                number: 0,
                is_stalled: false,
                is_cut: false,
                drop_next: 0,
                duplicate_next: 0,
                copied: 0,
            }),
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_one();
    }

    /// How long copies take that are sent from now on.
    pub fn delay(&self, delay: S3Delay) {
        self.set(|state| state.delay = delay);
    }

    /// Nothing arrives until [`resume`](Self::resume); at the source it stays `PENDING`.
    pub fn stall(&self) {
        self.set(|state| state.is_stalled = true);
    }

    /// What waited arrives now.
    pub fn resume(&self) {
        self.set(|state| state.is_stalled = false);
    }

    /// The other site cannot be reached: copies fail and are `FAILED` at the source, until [`restore`](Self::restore).
    pub fn cut(&self) {
        self.set(|state| state.is_cut = true);
    }

    /// The other site can be reached again. What failed meanwhile stays so, as at AWS.
    pub fn restore(&self) {
        self.set(|state| state.is_cut = false);
    }

    /// The next copies are lost, and the source says `COMPLETED`: the worst that a store can do.
    pub fn drop_next(&self, copies: usize) {
        self.set(|state| state.drop_next = copies);
    }

    /// The next copies arrive twice.
    pub fn duplicate_next(&self, copies: usize) {
        self.set(|state| state.duplicate_next = copies);
    }

    /// Everything that failed is sent again.
    pub fn retry_failed(&self) {
        self.set(|state| {
            for copy in std::mem::take(&mut state.failed) {
                state.push(copy);
            }
        });
    }

    /// Copies under way, also when stalled.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Copies that arrived.
    pub fn copied(&self) -> u64 {
        self.state().copied
    }

    /// A new version at `from`.
    pub(crate) fn send(&self, from: &Site, bucket: &str, key: &str, version: &str, destination: String) {
        let Some(to) = from.other.get() else { return };
        let Some(from) = to.upgrade().and_then(|to| to.other.get().cloned()) else {
            return;
        };
        let copy = Copy {
            from,
            to: to.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: version.to_owned(),
            destination,
        };
        self.set(|state| state.push(copy));
    }

    /// Sends one failed version again, as MinIO does when it is looked at.
    pub(crate) fn heal(&self, from: &Site, bucket: &str, key: &str, version: &str) {
        let is_it = |copy: &mut Copy| {
            std::ptr::eq(copy.from.as_ptr(), from)
                && copy.bucket == bucket
                && copy.key == key
                && copy.version == version
        };
        self.set(|state| {
            let found: Vec<Copy> = state.failed.extract_if(.., is_it).collect();
            for copy in found {
                state.push(copy);
            }
        });
    }

    /// Copies until it is told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let next = {
                let state = self.state();
                let first = state.waiting.keys().next();
                first.filter(|_| !state.is_stalled).map(|(due, _)| *due)
            };
            let due = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                () = due => self.deliver(),
            }
        }
    }

    fn deliver(&self) {
        loop {
            // In a statement of its own, so that the lock is free while the copy is made.
            let next = self.state().next_due();
            let Some((copy, arrival)) = next else { return };
            let arrived = match arrival {
                Arrival::Lost => true,
                Arrival::Refused => false,
                Arrival::Once => copy.apply(),
                Arrival::Twice => copy.apply() && copy.apply(),
            };
            copy.note(if arrived {
                ReplicationStatus::COMPLETED
            } else {
                ReplicationStatus::FAILED
            });
            let mut state = self.state();
            if arrived {
                state.copied += 1;
            } else if state.failed.len() < FAILED_MAX {
                state.failed.push(copy);
            }
        }
    }
}

/// What becomes of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    Once,
    Twice,
    Lost,
    Refused,
}

impl State {
    fn push(&mut self, copy: Copy) {
        if self.waiting.len() >= WAITING_MAX {
            copy.note(ReplicationStatus::FAILED);
            return;
        }
        self.number += 1;
        let due = Instant::now() + self.delay.draw();
        self.waiting.insert((due, self.number), copy);
    }

    fn next_due(&mut self) -> Option<(Copy, Arrival)> {
        let first = self.waiting.first_entry()?;
        if self.is_stalled || first.key().0 > Instant::now() {
            return None;
        }
        let copy = first.remove();
        let arrival = if self.is_cut {
            Arrival::Refused
        } else if self.drop_next > 0 {
            self.drop_next -= 1;
            Arrival::Lost
        } else if self.duplicate_next > 0 {
            self.duplicate_next -= 1;
            Arrival::Twice
        } else {
            Arrival::Once
        };
        Some((copy, arrival))
    }
}

impl Copy {
    /// Puts the version into the other site's bucket; false when that is not there.
    fn apply(&self) -> bool {
        let (Some(from), Some(to)) = (self.from.upgrade(), self.to.upgrade()) else {
            return false;
        };
        let found = {
            let mut buckets = from.buckets();
            let bucket = buckets.get_mut(&self.bucket);
            bucket.and_then(|bucket| bucket.version_mut(&self.key, &self.version).cloned())
        };
        // Removed at the source meanwhile: there is nothing to copy.
        let Some(mut version) = found else { return true };
        version.replication = Some(ReplicationStatus::REPLICA);
        let mut buckets = to.buckets();
        let Some(destination) = buckets.get_mut(&self.destination) else {
            return false;
        };
        destination.put(&self.key, version);
        true
    }

    fn note(&self, status: &'static str) {
        let Some(from) = self.from.upgrade() else { return };
        let mut buckets = from.buckets();
        let bucket = buckets.get_mut(&self.bucket);
        if let Some(version) = bucket.and_then(|bucket| bucket.version_mut(&self.key, &self.version)) {
            version.replication = Some(status);
        }
    }
}

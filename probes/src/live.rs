//! What the tasks of one route share while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stores::Oddities;
use tokio::sync::Notify;

use crate::tracker::Tracker;

/// The state of one running route. Locks are held for the time of a few map operations, never across I/O.
#[derive(Debug)]
pub(crate) struct Live {
    tracker: Mutex<Tracker>,
    native: Mutex<Native>,
    /// Rung whenever the tracker learned something that may change when to poll.
    pub(crate) changed: Notify,
    /// No further canary leaves; the reader ends when nothing is unseen.
    pub(crate) is_finishing: AtomicBool,
    /// Evidence is not being taken off our hands: slots are skipped until it is.
    pub(crate) is_backed_up: AtomicBool,
    pub(crate) writes: AtomicU64,
    pub(crate) polls: AtomicU64,
    pub(crate) status_queries: AtomicU64,
    /// Canaries that arrived again, as the secondary's reader counted them.
    pub(crate) duplicates: AtomicU64,
    /// Objects in the place of canaries that are none of ours.
    pub(crate) foreign: AtomicU64,
    /// When a poll was last answered, on the monotonic clock; 0: never. Without an answer, nothing seen means nothing.
    pub(crate) answered_us: AtomicU64,
}

/// The stores' own word, as of the last time that they answered. `None`: not collected, which is never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Native {
    pub(crate) lag_us: Option<u64>,
    pub(crate) lag_bytes: Option<u64>,
    /// Both ends take writes.
    pub(crate) role_conflict: Option<bool>,
}

impl Live {
    pub(crate) fn new(tracker: Tracker) -> Self {
        Self {
            tracker: Mutex::new(tracker),
            native: Mutex::default(),
            changed: Notify::new(),
            is_finishing: AtomicBool::new(false),
            is_backed_up: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            status_queries: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            answered_us: AtomicU64::new(0),
        }
    }

    /// A panic elsewhere ends the engine with an error; until then the state is still the best there is.
    pub(crate) fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn native(&self) -> Native {
        *self.native.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_native(&self, native: Native) {
        *self.native.lock().unwrap_or_else(PoisonError::into_inner) = native;
    }

    /// A poll was answered at `received_us`.
    pub(crate) fn answered(&self, received_us: u64, oddities: Oddities) {
        self.answered_us.fetch_max(received_us, Ordering::Relaxed);
        self.duplicates.fetch_add(oddities.duplicates, Ordering::Relaxed);
        self.foreign.fetch_add(oddities.foreign, Ordering::Relaxed);
    }

    /// No further canary leaves.
    pub(crate) fn finish(&self) {
        self.is_finishing.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

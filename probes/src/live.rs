//! What the tasks of one stream share while it is probed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use stores::{AckedBefore, CollectionLag, Oddities, Sighting};
use tokio::sync::Notify;

use crate::accounting::Accounting;
use crate::carried::{Carried, LaterWord};
use crate::tracker::Tracker;
use crate::troubles::Troubles;

/// The state of one stream over all of its epochs in this process. Locks are held for the time of a few map operations, never
/// across I/O.
#[derive(Debug)]
pub(crate) struct Live {
    tracker: Mutex<Tracker>,
    /// Earlier epochs whose canaries are still looked for.
    carried: Mutex<Earlier>,
    native: Mutex<Native>,
    /// Lag of single collections by the store's own account, as of the last time that it answered.
    by_collection: Mutex<BTreeMap<String, CollectionLag>>,
    /// Rung whenever the tracker learned something that may change when to poll.
    pub(crate) changed: Notify,
    /// An epoch runs: figures of a stream that is dormant are not figures.
    pub(crate) is_active: AtomicBool,
    /// No further canary leaves; the reader ends when nothing is unseen.
    pub(crate) is_finishing: AtomicBool,
    /// Evidence is not being taken off our hands: slots are skipped until it is.
    pub(crate) is_backed_up: AtomicBool,
    /// Stated and observed roles disagree: slots are skipped until a new statement.
    pub(crate) is_conflicting: AtomicBool,
    /// The statement under which they do.
    conflicting_statement: AtomicU64,
    /// Stale reads of the epochs before this one.
    stale_reads_before: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) polls: AtomicU64,
    pub(crate) status_queries: AtomicU64,
    /// When a poll was last answered, on the monotonic clock; 0: never. Without an answer, nothing seen means nothing.
    pub(crate) answered_us: AtomicU64,
    /// Canaries that arrived again, as the secondary's reader counted them.
    pub(crate) duplicates: AtomicU64,
    /// Requests that ended in an error.
    pub(crate) troubles: Troubles,
    /// Objects in the place of canaries that are none of ours.
    pub(crate) foreign: AtomicU64,
    /// Other probes that were found on this stream.
    pub(crate) rivals: AtomicU64,
    /// Readings across two clocks that even the bound of their error cannot explain: excluded.
    pub(crate) bounds_violated: AtomicU64,
    /// When the newest canary that a watcher has seen left, by its writer's wall clock; `i64::MIN`: none was seen.
    pub(crate) newest_sent_at_us: AtomicI64,
    /// The newest acknowledged canary of the epoch, for stamps.
    acked_before: Mutex<Option<AckedBefore>>,
}

/// The stores' own word, as of the last time that they answered. `None`: not collected, which is never zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Native {
    pub(crate) lag_us: Option<u64>,
    /// The instant that this lag is of, microseconds since 1970 UTC.
    pub(crate) lag_as_of_us: Option<i64>,
    pub(crate) pending_operations: Option<u64>,
    pub(crate) lag_bytes: Option<u64>,
    /// Roles disagree with the statement, or both ends take writes where one alone may.
    pub(crate) role_conflict: Option<bool>,
}

/// What earlier epochs left open.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) watched: Vec<Carried>,
    /// Of those that have nothing open any more.
    over: Accounting,
}

impl Earlier {
    /// Lets each of them judge an answer, with its instants.
    pub(crate) fn polled(&mut self, sighting: &Sighting, sent_us: u64, received_us: u64) -> Vec<LaterWord> {
        self.judge(|one| one.polled(sighting, sent_us, received_us))
    }

    /// As [`polled`](Self::polled), when the secondary was promoted.
    pub(crate) fn promoted(&mut self, survivors: &Sighting, sent_us: u64, received_us: u64) -> Vec<LaterWord> {
        self.judge(|one| one.promoted(survivors, sent_us, received_us))
    }

    fn judge(&mut self, judge: impl FnMut(&mut Carried) -> Vec<LaterWord>) -> Vec<LaterWord> {
        let words = self.watched.iter_mut().flat_map(judge).collect();
        for over in self.watched.extract_if(.., |one| one.is_over()) {
            self.over = self.over.plus(over.accounting());
        }
        words
    }
}

impl Live {
    pub(crate) fn new(tracker: Tracker) -> Self {
        Self {
            tracker: Mutex::new(tracker),
            carried: Mutex::default(),
            native: Mutex::default(),
            by_collection: Mutex::default(),
            changed: Notify::new(),
            is_active: AtomicBool::new(false),
            is_finishing: AtomicBool::new(false),
            is_backed_up: AtomicBool::new(false),
            is_conflicting: AtomicBool::new(false),
            conflicting_statement: AtomicU64::new(0),
            stale_reads_before: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            status_queries: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            troubles: Troubles::default(),
            answered_us: AtomicU64::new(0),
            rivals: AtomicU64::new(0),
            bounds_violated: AtomicU64::new(0),
            newest_sent_at_us: AtomicI64::new(i64::MIN),
            acked_before: Mutex::default(),
        }
    }

    /// A new epoch begins.
    pub(crate) fn begin(&self, tracker: Tracker, carried: Vec<Carried>) {
        let ended = std::mem::replace(&mut *self.tracker(), tracker);
        self.stale_reads_before
            .fetch_add(ended.stale_reads(), Ordering::Relaxed);
        *self.carried() = Earlier {
            watched: carried,
            over: Accounting::default(),
        };
        *self.acked_before.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_finishing.store(false, Ordering::Release);
        self.is_backed_up.store(false, Ordering::Release);
        self.is_conflicting.store(false, Ordering::Release);
        self.is_active.store(true, Ordering::Release);
    }

    /// The epoch is over. What it left open is taken up by the next one, from the ledger.
    pub(crate) fn end(&self) {
        self.is_active.store(false, Ordering::Release);
    }

    /// A panic elsewhere ends the engine with an error; until then the state is still the best there is.
    pub(crate) fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn carried(&self) -> MutexGuard<'_, Earlier> {
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest canary that was acknowledged, for the stamp of the next one.
    pub(crate) fn acked_before(&self) -> Option<AckedBefore> {
        *self.acked_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A canary was acknowledged; writes may overlap.
    pub(crate) fn note_acked(&self, acked: AckedBefore) {
        let mut newest = self.acked_before.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|known| known.sequence < acked.sequence) {
            *newest = Some(acked);
        }
    }

    /// The fate of canaries of earlier epochs: all of them, and without those that are open.
    pub(crate) fn earlier(&self) -> (Accounting, Accounting) {
        let carried = self.carried();
        let sum = |of: fn(&Carried) -> Accounting| carried.watched.iter().map(of).fold(carried.over, Accounting::plus);
        (sum(Carried::accounting), sum(Carried::concluded))
    }

    /// Roles disagree. `true`: they did not before.
    pub(crate) fn conflict(&self, statement: u64) -> bool {
        let is_new = !self.is_conflicting.swap(true, Ordering::AcqRel);
        if is_new {
            self.conflicting_statement.store(statement, Ordering::Release);
        }
        is_new
    }

    /// Whether a statement was made after the roles were found to disagree.
    pub(crate) fn is_resolved_by(&self, statement: u64) -> bool {
        self.is_conflicting.load(Ordering::Acquire) && statement > self.conflicting_statement.load(Ordering::Acquire)
    }

    pub(crate) fn native(&self) -> Native {
        *self.native.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn by_collection(&self) -> MutexGuard<'_, BTreeMap<String, CollectionLag>> {
        self.by_collection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_native(&self, native: Native) {
        *self.native.lock().unwrap_or_else(PoisonError::into_inner) = native;
    }

    /// Acknowledged canaries that are unseen, of this epoch and of those before it.
    pub(crate) fn pending(&self) -> u64 {
        let earlier = self.earlier().0.pending;
        self.tracker().accounting().pending + earlier
    }

    /// Canaries that left, are unseen, and of which nobody knows whether they were written; of this epoch and of those before it.
    pub(crate) fn unanswered(&self) -> u64 {
        let (all, concluded) = self.earlier();
        let earlier = all.write_unknown - concluded.write_unknown;
        self.tracker().unanswered() + earlier
    }

    /// Age of the oldest acknowledged canary that is unseen, of this epoch and of those before it.
    pub(crate) fn oldest_unseen_us(&self, now_us: u64) -> Option<u64> {
        let carried = self.carried();
        let earlier = carried
            .watched
            .iter()
            .filter_map(|one| one.oldest_unseen_us(now_us))
            .max();
        drop(carried);
        earlier.max(self.tracker().oldest_unseen_us(now_us))
    }

    /// Polls that showed less than an earlier one had, over all epochs.
    pub(crate) fn stale_reads(&self) -> u64 {
        self.stale_reads_before.load(Ordering::Relaxed) + self.tracker().stale_reads()
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

//! A simulated pair: one log, a primary on which its entries become visible, a secondary that applies them, and a clock that moves one
//! step with each call to either end. So every run is the same run, however fast the machine is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stores::{Canary, Collection, Column, DigestMode, Key, KeyShape, KeyValue, Part, RowDigest, StoreError, Trouble};

/// The first transaction of the log.
const FIRST_XID: u32 = 100;

/// What one log entry does.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put(i64, i64),
    /// Adds to what this side has: keeps a planted difference alive under updates.
    Add(i64, i64),
    Delete(i64),
    Canary(Canary),
}

impl Change {
    fn key(&self) -> Option<i64> {
        match self {
            Self::Put(key, _) | Self::Add(key, _) | Self::Delete(key) => Some(*key),
            Self::Canary(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) value: i64,
    pub(crate) xid: u32,
    pub(crate) version: u64,
    pub(crate) changed_at_us: Option<i64>,
    pub(crate) copies: u64,
}

/// One end's rows and canaries.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    pub(crate) rows: BTreeMap<i64, Cell>,
    pub(crate) canaries: Vec<Canary>,
    /// Log entries that are visible here.
    pub(crate) applied: usize,
}

impl Copy {
    fn apply(&mut self, change: &Change, xid: u32, version: u64) {
        match change {
            Change::Put(key, value) => self.put(*key, *value, xid, version),
            Change::Add(key, by) => {
                let value = self.rows.get(key).map_or(0, |cell| cell.value) + by;
                self.put(*key, value, xid, version);
            }
            Change::Delete(key) => {
                self.rows.remove(key);
            }
            Change::Canary(canary) => self.canaries.push(canary.clone()),
        }
    }

    pub(crate) fn put(&mut self, key: i64, value: i64, xid: u32, version: u64) {
        let cell = Cell {
            value,
            xid,
            version,
            changed_at_us: None,
            copies: 1,
        };
        self.rows.insert(key, cell);
    }
}

/// What goes wrong, and when.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The secondary's listings end with an error behind so many rows of a part; `usize::MAX`: in the place of the end.
    pub(crate) secondary_list_fails_after: Option<usize>,
    /// So many next digests at the secondary fail, and then succeed.
    pub(crate) secondary_digests_fail: u32,
    /// So many next digests at the secondary are never answered.
    pub(crate) secondary_digests_silent: u32,
    /// Reads at the secondary of parts with more rows are cancelled.
    pub(crate) secondary_cancels_above: Option<usize>,
    /// The secondary's listings say nothing more behind so many rows of a part.
    pub(crate) secondary_list_silent_after: Option<usize>,
    /// Every read of keys at the secondary fails.
    pub(crate) secondary_reads_denied: bool,
    /// Readings of the secondary claim a position so far behind what they show.
    pub(crate) position_behind: u64,
    /// The secondary's wait for a fence says yes at once.
    pub(crate) wait_lies: bool,
    /// From this step on both ends are one and the same.
    pub(crate) same_data_from: Option<u64>,
    /// From this step on the secondary takes writes.
    pub(crate) promoted_from: Option<u64>,
    /// From this step on the secondary is another instance.
    pub(crate) instance_changes_at: Option<u64>,
    /// Listings leave out this key.
    pub(crate) unlisted: Option<i64>,
    /// The secondary hashes otherwise.
    pub(crate) known_answer_differs: bool,
    /// The secondary would read all of itself for each range.
    pub(crate) no_index_serves: bool,
    pub(crate) is_logical: bool,
    /// Both ends can say what moment they show.
    pub(crate) tells_moments: bool,
    /// Canaries are written and never acknowledged.
    pub(crate) canaries_hang: bool,
    /// So many next canaries are refused.
    pub(crate) canaries_refused: u32,
}

type Workload = Box<dyn FnMut(u64) -> Vec<Change> + Send>;

pub(crate) struct World {
    pub(crate) step: u64,
    pub(crate) log: Vec<Change>,
    lengths: VecDeque<usize>,
    pub(crate) primary: Copy,
    pub(crate) secondary: Copy,
    /// Steps until an entry is visible at the primary: a commit that waits for another standby.
    pub(crate) primary_delay: usize,
    /// Steps until an entry is visible at the secondary; `None`: never.
    pub(crate) secondary_delay: Option<usize>,
    /// Steps that a wait for a fence may take.
    pub(crate) wait_steps: usize,
    pub(crate) workload: Workload,
    pub(crate) faults: Faults,
    pub(crate) primary_collection: Option<Collection>,
    pub(crate) secondary_collection: Option<Collection>,
    /// Replaces the secondary's catalog at the next look.
    pub(crate) secondary_collection_later: Option<Collection>,
    /// Replaces the primary's catalog behind the next look.
    pub(crate) primary_collection_later: Option<Collection>,
    pub(crate) links_proved: u32,
    /// Listings that were asked for.
    pub(crate) lists: u64,
    /// Rows that they held.
    pub(crate) rows_listed: usize,
    /// The secondary's lag by its own account.
    pub(crate) lag_us: Option<u64>,
    /// Active sessions, by side and by how often they were asked for.
    pub(crate) active_sessions: Option<fn(&'static str, u64) -> u64>,
    pub(crate) load_asked: u64,
    /// Both ends keep the rows that they read, and can hash elsewhere.
    pub(crate) keeps: bool,
    /// What a row takes to be hashed, by side and by who hashes it.
    pub(crate) takes: Option<fn(&'static str, DigestMode) -> Duration>,
    /// What the first look at a side takes on top, which fetches its rows into memory.
    pub(crate) cold_takes: Duration,
    /// Parts that are being digested or read now at the primary and at the secondary.
    pub(crate) reads_now: [usize; 2],
    /// The most that there ever were.
    pub(crate) reads_at_once: [usize; 2],
    /// Parts that were digested or read, by side.
    pub(crate) looks: Vec<(&'static str, Part)>,
    /// Readings of keys and fences, in their order.
    pub(crate) calls: Vec<&'static str>,
    pub(crate) seeds: BTreeSet<u64>,
    /// Cells written, for versions that never repeat.
    versions: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Both copies hold `rows`; nothing is in flight.
    pub(crate) fn new(rows: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut world = Self {
            step: 0,
            log: Vec::new(),
            lengths: VecDeque::new(),
            primary: Copy::default(),
            secondary: Copy::default(),
            primary_delay: 0,
            secondary_delay: Some(0),
            wait_steps: 200,
            workload: Box::new(|_| Vec::new()),
            faults: Faults::default(),
            primary_collection: Some(collection()),
            secondary_collection: Some(collection()),
            secondary_collection_later: None,
            primary_collection_later: None,
            links_proved: 0,
            lists: 0,
            rows_listed: 0,
            lag_us: None,
            active_sessions: None,
            load_asked: 0,
            keeps: false,
            takes: None,
            cold_takes: Duration::ZERO,
            reads_now: [0; 2],
            reads_at_once: [0; 2],
            looks: Vec::new(),
            calls: Vec::new(),
            seeds: BTreeSet::new(),
            versions: 0,
        };
        for (key, value) in rows {
            world.primary.put(key, value, 3, 0);
            world.secondary.put(key, value, 3, 0);
        }
        world
    }

    pub(crate) fn share(self) -> Shared {
        Arc::new(Mutex::new(self))
    }

    /// Moves the clock one step: the workload writes, and entries become visible.
    pub(crate) fn tick(&mut self) {
        self.step += 1;
        let written = (self.workload)(self.step);
        self.log.extend(written);
        self.lengths.push_back(self.log.len());
        let visible = |lengths: &VecDeque<usize>, delay: usize| {
            let at = lengths.len().checked_sub(delay + 1);
            at.and_then(|at| lengths.get(at)).copied().unwrap_or(0)
        };
        let at_primary = visible(&self.lengths, self.primary_delay);
        let at_secondary = self.secondary_delay.map_or(0, |delay| visible(&self.lengths, delay));
        Self::catch_up(&mut self.primary, &self.log, at_primary, &mut self.versions);
        Self::catch_up(&mut self.secondary, &self.log, at_secondary, &mut self.versions);
    }

    fn catch_up(copy: &mut Copy, log: &[Change], until: usize, versions: &mut u64) {
        while copy.applied < until {
            *versions += 1;
            copy.apply(&log[copy.applied], xid(copy.applied), *versions);
            copy.applied += 1;
        }
    }

    /// The transaction that has begun to change this key and is not visible at the primary yet.
    pub(crate) fn ending(&self, key: i64) -> Option<u32> {
        let ahead = self.log.iter().enumerate().skip(self.primary.applied);
        ahead
            .filter(|(_, change)| change.key() == Some(key))
            .map(|(at, _)| xid(at))
            .next()
    }

    pub(crate) fn next_xid(&self) -> u64 {
        u64::from(xid(self.primary.applied))
    }
}

fn xid(at: usize) -> u32 {
    FIRST_XID + u32::try_from(at).unwrap_or(u32::MAX - FIRST_XID)
}

/// The one collection of the world.
pub(crate) fn collection() -> Collection {
    Collection {
        name: "public.t".to_owned(),
        kind: "table".to_owned(),
        columns: vec![column("id", "bigint"), column("value", "bigint")],
        key: KeyShape::Usable {
            columns: vec!["id".to_owned()],
            order_identity: Some("int".to_owned()),
        },
        rows_estimate: Some(100),
        bytes: Some(8_192),
        unreadable: None,
        is_canary: false,
        ..Collection::default()
    }
}

pub(crate) fn column(name: &str, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        nullable: false,
        not_comparable: None,
    }
}

pub(crate) fn hash(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn row_digest(seed: u64, key: i64, cell: &Cell) -> RowDigest {
    RowDigest(u128::from(hash((seed, key, cell.value))))
}

pub(crate) fn int(key: &Key) -> i64 {
    match key.0[..] {
        [KeyValue::Int(key)] => key,
        _ => panic!("a key of this world is one whole number, not {key:?}"),
    }
}

pub(crate) fn holds(part: &Part, key: i64) -> bool {
    match part {
        Part::Range(range) => {
            range.lower.as_ref().is_none_or(|lower| int(lower) <= key)
                && range.upper.as_ref().is_none_or(|upper| key < int(upper))
        }
        Part::Bucket { index, of } => hash(key) % u64::from(*of) == u64::from(*index),
    }
}

pub(crate) fn trouble(site: &str, tried: &str, cause: &str) -> Trouble {
    Trouble::new(site, tried, cause)
}

pub(crate) fn passing(site: &str, tried: &str) -> StoreError {
    StoreError::Retryable {
        after: None,
        trouble: trouble(site, tried, "connection cut"),
    }
}

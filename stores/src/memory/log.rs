//! The log that both sides apply, each at its own time.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::Place;
use super::rows::{Fields, StoredRow, Table, with_key};
use crate::{Canary, Role, Snapshot};

/// Transactions of the bootstrap come before it, as in PostgreSQL; so that no position is taken for a frozen one.
pub(crate) const FIRST_POSITION: u64 = 1_000;

/// Bound of the remembered truths about canaries; the oldest is forgotten first.
pub(crate) const TRUTHS_MAX: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put(Place, Fields),
    Delete(Place),
    Canary(Canary),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) change: Change,
    /// When the primary shows it.
    pub(crate) committed_at: Instant,
    /// When the secondary shows it, unless replication stalls.
    pub(crate) due_at: Instant,
    /// A lost one is passed by the secondary without effect.
    pub(crate) is_lost: bool,
}

/// One side: what it has applied, and how it answers.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) site: String,
    pub(crate) role: Role,
    pub(crate) is_reachable: bool,
    /// Its known answer is another.
    pub(crate) hashes_otherwise: bool,
    /// Counts restarts.
    pub(crate) life: u64,
    /// Everything up to here is visible.
    pub(crate) applied: u64,
    /// When the newest applied change was committed.
    pub(crate) applied_commit_at: Option<Instant>,
    /// The fork, once promoted and until restarted.
    pub(crate) fork: Option<(u64, Option<Instant>)>,
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) rings: BTreeMap<String, BTreeMap<u64, Canary>>,
    versions: u64,
}

impl End {
    pub(crate) fn new(site: String, role: Role) -> Self {
        Self {
            site,
            role,
            is_reachable: true,
            hashes_otherwise: false,
            life: 1,
            applied: FIRST_POSITION - 1,
            applied_commit_at: None,
            fork: None,
            tables: BTreeMap::new(),
            rings: BTreeMap::new(),
            versions: 0,
        }
    }

    /// Makes a change visible. `by` is the transaction that did it.
    pub(crate) fn apply(&mut self, change: &Change, by: u32, ring_slots: u64) {
        match change {
            Change::Put((table, key), fields) => {
                self.versions += 1;
                let version = self.versions;
                if let Some(table) = self.tables.get_mut(table) {
                    let fields = with_key(fields.clone(), table.key_columns(), key);
                    let copies = table.rows.get(key).map_or(1, |row| row.copies);
                    let row = StoredRow {
                        fields,
                        version,
                        created_by: by,
                        copies,
                    };
                    table.rows.insert(key.clone(), row);
                }
            }
            Change::Delete((table, key)) => {
                if let Some(table) = self.tables.get_mut(table) {
                    table.rows.remove(key);
                }
            }
            Change::Canary(canary) => {
                if !self.slot_holds(canary, ring_slots) {
                    let ring = self.rings.entry(canary.stream.clone()).or_default();
                    ring.insert(canary.sequence % ring_slots, canary.clone());
                }
            }
        }
    }

    /// Whether the slot of `canary` holds its sequence or a later one.
    pub(crate) fn slot_holds(&self, canary: &Canary, ring_slots: u64) -> bool {
        let ring = self.rings.get(&canary.stream);
        let held = ring.and_then(|ring| ring.get(&(canary.sequence % ring_slots)));
        held.is_some_and(|held| held.sequence >= canary.sequence)
    }

    pub(crate) fn highest_sequence(&self, stream: &str) -> u64 {
        let ring = self.rings.get(stream);
        ring.and_then(|ring| ring.values().map(|canary| canary.sequence).max())
            .unwrap_or(0)
    }
}

/// The true story of one canary.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Truth {
    pub(crate) committed_at: Option<Instant>,
    pub(crate) visible_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) primary: End,
    pub(crate) secondary: End,
    pub(crate) ring_slots: u64,
    pub(crate) is_stalled: bool,
    pub(crate) is_promoted: bool,
    pub(crate) truths: BTreeMap<(String, u64), Truth>,
    entries: VecDeque<Entry>,
    /// Position of the first of `entries`.
    first: u64,
}

impl Log {
    pub(crate) fn new(primary: End, secondary: End, ring_slots: u64) -> Self {
        Self {
            primary,
            secondary,
            ring_slots,
            is_stalled: false,
            is_promoted: false,
            truths: BTreeMap::new(),
            entries: VecDeque::new(),
            first: FIRST_POSITION,
        }
    }

    /// Position of the newest change, visible or not.
    pub(crate) fn newest(&self) -> u64 {
        self.first + count(self.entries.len()) - 1
    }

    /// Appends a change; its instants are moved behind those of the change before it. Returns its position.
    pub(crate) fn append(&mut self, mut entry: Entry) -> u64 {
        if let Some(before) = self.entries.back() {
            entry.committed_at = entry.committed_at.max(before.committed_at);
            entry.due_at = entry.due_at.max(before.due_at);
        }
        self.entries.push_back(entry);
        self.newest()
    }

    pub(crate) fn committed_at(&self, position: u64) -> Option<Instant> {
        self.entry(position).map(|entry| entry.committed_at)
    }

    /// Applies at each side what is due there by `now`, each change at its own instant.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(entry) = self
            .entry(self.primary.applied + 1)
            .filter(|entry| entry.committed_at <= now)
        {
            let entry = entry.clone();
            self.primary.applied += 1;
            let by = transaction(self.primary.applied);
            self.primary.apply(&entry.change, by, self.ring_slots);
            self.primary.applied_commit_at = Some(entry.committed_at);
            if let Change::Canary(canary) = &entry.change {
                self.truth(canary).committed_at = Some(entry.committed_at);
            }
        }
        while let Some(entry) = self.next_at_secondary().filter(|entry| entry.due_at <= now) {
            let entry = entry.clone();
            self.secondary.applied += 1;
            self.secondary.applied_commit_at = Some(entry.committed_at);
            if entry.is_lost {
                continue;
            }
            let by = transaction(self.secondary.applied);
            self.secondary.apply(&entry.change, by, self.ring_slots);
            if let Change::Canary(canary) = &entry.change {
                self.truth(canary).visible_at = Some(entry.due_at);
            }
        }
        while self.first <= self.primary.applied && (self.is_promoted || self.first <= self.secondary.applied) {
            if self.entries.pop_front().is_none() {
                break;
            }
            self.first += 1;
        }
    }

    /// Lets the secondary apply again; nothing that waited is visible before `now`.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.is_stalled = false;
        let from = self.secondary.applied + 1;
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        for entry in self.entries.iter_mut().skip(skipped) {
            entry.due_at = entry.due_at.max(now);
        }
    }

    /// When the secondary will have applied its next change, if nothing else happens.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.next_at_secondary().map(|entry| entry.due_at)
    }

    /// The oldest change that the secondary has not applied, committed or not.
    pub(crate) fn oldest_unapplied(&self) -> Option<&Entry> {
        self.entry(self.secondary.applied + 1)
    }

    /// The transaction that is about to change this row at the primary: begun, and not yet visible.
    pub(crate) fn pending_on(&self, place: &Place) -> Option<u32> {
        let first_hidden = self.primary.applied + 1;
        (first_hidden..=self.newest())
            .find(|position| match self.entry(*position).map(|entry| &entry.change) {
                Some(Change::Put(other, _) | Change::Delete(other)) => other == place,
                Some(Change::Canary(_)) | None => false,
            })
            .map(transaction)
    }

    /// What the primary's transactions look like from within: one for each change, running until it is visible.
    pub(crate) fn primary_snapshot(&self) -> Snapshot {
        let xmin = self.primary.applied + 1;
        let xmax = self.newest() + 1;
        Snapshot {
            xmin,
            xmax,
            running: (xmin..xmax).collect(),
        }
    }

    fn next_at_secondary(&self) -> Option<&Entry> {
        if self.is_stalled || self.is_promoted {
            return None;
        }
        self.entry(self.secondary.applied + 1)
    }

    fn entry(&self, position: u64) -> Option<&Entry> {
        let index = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get(index)
    }

    fn truth(&mut self, canary: &Canary) -> &mut Truth {
        while self.truths.len() >= TRUTHS_MAX {
            self.truths.pop_first();
        }
        self.truths.entry((canary.stream.clone(), canary.sequence)).or_default()
    }
}

/// The 32-bit transaction that made the change at `position`.
pub(crate) fn transaction(position: u64) -> u32 {
    u32::try_from(position & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

//! The pair and its knobs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::abilities::Handle;
use super::log::{Change, End, Entry, Log};
use super::rows::{Fields, StoredRow, Table, with_key};
use super::unordered::{Tolerance, ToleranceCompare, Unordered};
use crate::{Canary, Collection, Column, Key, KeyShape, Role, StoreError, Trouble};

/// One of the two ends, named by the role in which it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Takes writes from the start.
    Primary,
    /// Applies them, until it is promoted.
    Secondary,
}

/// How long a change takes from its write to its visibility at the secondary. Order is kept whatever it says: a change is never visible
/// before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// Always this long.
    Fixed(Duration),
    /// Evenly spread, drawn from the pair's seed.
    Between(Duration, Duration),
}

/// What the secondary says of its own lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativeLag {
    /// The age of the oldest change that it has not applied.
    True,
    /// Zero whatever happens, as a metric reads when its sender is gone.
    Zero,
    /// Nothing.
    NotCollected,
}

/// How a pair starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From write to visibility at the secondary.
    pub delay: Delay,
    /// Time of one request and its answer, half of it each way. With zero, nothing can happen between two requests.
    pub round_trip: Duration,
    /// Slots of a stream's ring.
    pub ring_slots: u64,
    /// Seed of random delays.
    pub seed: u64,
    /// Name of the primary's site.
    pub primary_site: String,
    /// Name of the secondary's site.
    pub secondary_site: String,
    /// The wall clock of both ends when the pair is made, microseconds since 1970 UTC.
    pub wall_start_us: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            delay: Delay::Fixed(Duration::ZERO),
            round_trip: Duration::ZERO,
            ring_slots: 64,
            seed: 1,
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
            wall_start_us: 1_800_000_000_000_000,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Knobs {
    pub(crate) delay: Delay,
    pub(crate) round_trip: Duration,
    pub(crate) primary_hold: Duration,
    pub(crate) native_lag: NativeLag,
    lose_next: u64,
    random: StdRng,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) knobs: Knobs,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Told when something happened that may end a wait.
    pub(crate) changed: Notify,
    pub(crate) number: u64,
    started_at: Instant,
    wall_start_us: i64,
}

impl Shared {
    /// The state with everything applied that is due now.
    pub(crate) fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.log.settle(Instant::now());
        state
    }

    pub(crate) fn wall_us(&self, instant: Instant) -> i64 {
        let elapsed = instant.saturating_duration_since(self.started_at).as_micros();
        self.wall_start_us
            .saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }
}

/// Pairs of one process are told apart by number.
static PAIRS: AtomicU64 = AtomicU64::new(1);

/// Two ends in memory and the knobs of what happens between them. Clones are handles on the same pair.
#[derive(Debug, Clone)]
pub struct Pair {
    shared: Arc<Shared>,
}

impl Pair {
    /// A replicating pair without any collection.
    pub fn new(settings: Settings) -> Self {
        let primary = End::new(settings.primary_site, Role::Writable);
        let secondary = End::new(settings.secondary_site, Role::ReadOnly);
        let state = State {
            log: Log::new(primary, secondary, settings.ring_slots.max(1)),
            knobs: Knobs {
                delay: settings.delay,
                round_trip: settings.round_trip,
                primary_hold: Duration::ZERO,
                native_lag: NativeLag::True,
                lose_next: 0,
                random: StdRng::seed_from_u64(settings.seed),
            },
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Notify::new(),
                number: PAIRS.fetch_add(1, Ordering::Relaxed),
                started_at: Instant::now(),
                wall_start_us: settings.wall_start_us,
            }),
        }
    }

    /// The abilities of one side. It has all of them.
    pub fn end(&self, side: Side) -> crate::End {
        let handle = Arc::new(Handle::new(Arc::clone(&self.shared), side));
        let site = self.shared.now().log.side(side).site.clone();
        crate::End {
            catalog: Some(Arc::clone(&handle) as _),
            status: Some(Arc::clone(&handle) as _),
            canary_writer: Some(Arc::clone(&handle) as _),
            canary_reader: Some(Arc::clone(&handle) as _),
            ranged: Some(Arc::clone(&handle) as _),
            scanned: Some(Arc::clone(&handle) as _),
            reread: Some(Arc::clone(&handle) as _),
            fence: Some(Arc::clone(&handle) as _),
            compare: Some(Arc::new(super::compare::PhysicalCompare)),
            ..crate::End::new(site, handle)
        }
    }

    /// One side as a store without order has it: to be identified, listed, scanned and read again. A column may differ by a tolerance.
    pub fn unordered(&self, side: Side, tolerance: Option<Tolerance>) -> crate::End {
        let handle = || Handle::new(Arc::clone(&self.shared), side);
        let unordered = Arc::new(Unordered::new(handle(), tolerance.clone()));
        crate::End {
            catalog: Some(Arc::clone(&unordered) as _),
            status: None,
            canary_writer: None,
            canary_reader: None,
            ranged: None,
            reread: Some(unordered),
            fence: None,
            compare: Some(Arc::new(ToleranceCompare(tolerance))),
            ..self.end(side)
        }
    }

    /// [`Self::end`] of the primary.
    pub fn primary(&self) -> crate::End {
        self.end(Side::Primary)
    }

    /// [`Self::end`] of the secondary.
    pub fn secondary(&self) -> crate::End {
        self.end(Side::Secondary)
    }

    /// Makes an empty table at both sides at once. `key` columns must be among `columns`.
    pub fn create_table(&self, name: &str, key: &[&str], columns: &[&str]) {
        self.create_table_at(Side::Primary, name, key, columns);
        self.create_table_at(Side::Secondary, name, key, columns);
    }

    /// Makes an empty table at one side.
    pub fn create_table_at(&self, side: Side, name: &str, key: &[&str], columns: &[&str]) {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            type_name: "any".to_owned(),
            nullable: !key.contains(name),
            not_comparable: None,
        };
        let collection = Collection {
            name: name.to_owned(),
            kind: "table".to_owned(),
            columns: columns.iter().map(column).collect(),
            key: KeyShape::Usable {
                columns: key.iter().map(|name| (*name).to_owned()).collect(),
                order_identity: Some("memory".to_owned()),
            },
            rows_estimate: None,
            bytes: None,
            unreadable: None,
            is_canary: false,
            ..Collection::default()
        };
        let rows = std::collections::BTreeMap::new();
        let table = Table { collection, rows };
        self.shared
            .now()
            .log
            .side_mut(side)
            .tables
            .insert(name.to_owned(), table);
    }

    /// Removes a table at one side.
    pub fn drop_table_at(&self, side: Side, name: &str) {
        self.shared.now().log.side_mut(side).tables.remove(name);
    }

    /// Changes what the catalog of one side says of a table: its key, columns, readability. `false`: there is no such table.
    /// A table with `unreadable` set refuses digests, listings and readings with `Denied`.
    pub fn edit_catalog(&self, side: Side, table: &str, edit: impl FnOnce(&mut Collection)) -> bool {
        let mut state = self.shared.now();
        let table = state.log.side_mut(side).tables.get_mut(table);
        table.map(|table| edit(&mut table.collection)).is_some()
    }

    /// Writes a row at the original primary. Returns its position.
    pub fn put(&self, table: &str, key: Key, fields: Fields) -> u64 {
        self.append(Change::Put((table.to_owned(), key), fields)).0
    }

    /// Deletes a row at the original primary. Returns the position of the deletion.
    pub fn delete(&self, table: &str, key: Key) -> u64 {
        self.append(Change::Delete((table.to_owned(), key))).0
    }

    /// Writes (`Some`) or deletes (`None`) a row at one side. At the secondary only after a promotion, and then at once.
    ///
    /// # Errors
    /// `Config` when the side refuses writes.
    pub fn write_at(&self, side: Side, table: &str, key: Key, fields: Option<Fields>) -> crate::Result<u64> {
        let place = (table.to_owned(), key);
        let change = fields.map_or(Change::Delete(place.clone()), |fields| Change::Put(place, fields));
        self.write(side, change).map(|(position, _)| position)
    }

    /// Alters one side behind the log: `Some` sets the row, `None` removes it. The other side never hears of it.
    /// `false`: there is no such table.
    pub fn plant(&self, side: Side, table: &str, key: Key, fields: Option<Fields>) -> bool {
        const FROZEN: u32 = 2; // by a transaction that everybody has always seen
        let mut state = self.shared.now();
        let ring_slots = state.log.ring_slots;
        let end = state.log.side_mut(side);
        let place = (table.to_owned(), key);
        let change = fields.map_or(Change::Delete(place.clone()), |fields| Change::Put(place, fields));
        end.apply(&change, FROZEN, ring_slots);
        end.tables.contains_key(table)
    }

    /// Makes one side hold a row `copies` times, as without a unique key. `false`: there is no such row.
    pub fn plant_copies(&self, side: Side, table: &str, key: &Key, copies: u64) -> bool {
        let mut state = self.shared.now();
        let table = state.log.side_mut(side).tables.get_mut(table);
        let row = table.and_then(|table| table.rows.get_mut(key));
        row.map(|row| row.copies = copies.max(1)).is_some()
    }

    /// Makes one side hash a known row otherwise than the other, as after an upgrade that changes what a type's binary form is.
    pub fn hash_otherwise(&self, side: Side, otherwise: bool) {
        self.shared.now().log.side_mut(side).hashes_otherwise = otherwise;
    }

    /// Loads rows at both sides as if they had been replicated long ago.
    pub fn load(&self, table: &str, rows: impl IntoIterator<Item = (Key, Fields)>) {
        const FROZEN: u32 = 2;
        let mut state = self.shared.now();
        let State { log, .. } = &mut *state;
        for (key, fields) in rows {
            for end in [&mut log.primary, &mut log.secondary] {
                if let Some(table) = end.tables.get_mut(table) {
                    let row = StoredRow {
                        fields: with_key(fields.clone(), table.key_columns(), &key),
                        version: 0,
                        created_by: FROZEN,
                        copies: 1,
                    };
                    table.rows.insert(key.clone(), row);
                }
            }
        }
    }

    /// The columns of a row as one side shows it now.
    pub fn row(&self, side: Side, table: &str, key: &Key) -> Option<Fields> {
        let state = self.shared.now();
        let table = state.log.side(side).tables.get(table)?;
        table.rows.get(key).map(|row| row.fields.clone())
    }

    /// Sets the delay of changes from now on.
    pub fn set_delay(&self, delay: Delay) {
        self.shared.now().knobs.delay = delay;
    }

    /// Sets the time of a request and its answer.
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.shared.now().knobs.round_trip = round_trip;
    }

    /// From now on a change is visible (and acknowledged) at the primary only this long after it was written, and is shipped at once: the
    /// secondary then shows it first, as while another synchronous standby stalls.
    pub fn set_primary_hold(&self, hold: Duration) {
        self.shared.now().knobs.primary_hold = hold;
    }

    /// What the secondary says of its own lag.
    pub fn set_native_lag(&self, native_lag: NativeLag) {
        self.shared.now().knobs.native_lag = native_lag;
    }

    /// The next `count` changes of the primary never arrive at the secondary, which passes their positions all the same.
    pub fn lose_next(&self, count: u64) {
        self.shared.now().knobs.lose_next = count;
    }

    /// The secondary applies nothing until [`Self::resume`].
    pub fn stall(&self) {
        self.shared.now().log.is_stalled = true;
    }

    /// The secondary applies again; what waited is visible now at the earliest.
    pub fn resume(&self) {
        let mut state = self.shared.now();
        state.log.resume(Instant::now());
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Whether one side answers; `false`: `Unreachable`.
    pub fn set_reachable(&self, side: Side, is_reachable: bool) {
        self.shared.now().log.side_mut(side).is_reachable = is_reachable;
    }

    /// One side restarts: its instance changes, and a promoted one forgets its fork.
    pub fn restart(&self, side: Side) {
        let mut state = self.shared.now();
        let end = state.log.side_mut(side);
        end.life += 1;
        end.fork = None;
    }

    /// The secondary takes writes from now on; what it has not applied by now never arrives. The old primary lives on, independent.
    pub fn promote(&self) {
        let mut state = self.shared.now();
        state.log.is_promoted = true;
        let end = &mut state.log.secondary;
        end.role = Role::Writable;
        end.fork = Some((end.applied, end.applied_commit_at));
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// When the canary became visible at the secondary, exactly. `None`: it has not (yet).
    pub fn visible_at(&self, canary: &Canary) -> Option<Instant> {
        let key = (canary.stream.clone(), canary.sequence);
        self.shared.now().log.truths.get(&key)?.visible_at
    }

    /// When the canary was committed at the primary, exactly.
    pub fn committed_at(&self, canary: &Canary) -> Option<Instant> {
        let key = (canary.stream.clone(), canary.sequence);
        self.shared.now().log.truths.get(&key)?.committed_at
    }

    /// The wall clock of both ends at an instant, microseconds since 1970 UTC.
    pub fn wall_us(&self, instant: Instant) -> i64 {
        self.shared.wall_us(instant)
    }

    fn append(&self, change: Change) -> (u64, Instant) {
        self.shared.now().append(change, Instant::now())
    }

    fn write(&self, side: Side, change: Change) -> crate::Result<(u64, Instant)> {
        self.shared.now().write(side, change, Instant::now())
    }
}

impl State {
    /// Appends a change to the log. Returns its position and when it is acknowledged.
    pub(crate) fn append(&mut self, change: Change, now: Instant) -> (u64, Instant) {
        let delay = match self.knobs.delay {
            Delay::Fixed(delay) => delay,
            Delay::Between(low, high) if low < high => self.knobs.random.random_range(low..=high),
            Delay::Between(low, _) => low,
        };
        let is_lost = self.knobs.lose_next > 0;
        self.knobs.lose_next = self.knobs.lose_next.saturating_sub(1);
        let position = self.log.append(Entry {
            change,
            committed_at: now + self.knobs.primary_hold,
            due_at: now + delay,
            is_lost,
        });
        let committed_at = self.log.committed_at(position).unwrap_or(now);
        self.log.settle(now);
        (position, committed_at)
    }

    /// Writes at a side, if it takes writes.
    pub(crate) fn write(&mut self, side: Side, change: Change, now: Instant) -> crate::Result<(u64, Instant)> {
        let ring_slots = self.log.ring_slots;
        let end = self.log.side_mut(side);
        if end.role == Role::ReadOnly {
            let trouble = Trouble::new(&end.site, "write", "this end is read-only");
            return Err(StoreError::Config(
                trouble.hint("write at the primary, or promote this end"),
            ));
        }
        if side == Side::Primary {
            return Ok(self.append(change, now));
        }
        end.applied += 1;
        let by = super::log::transaction(end.applied);
        end.apply(&change, by, ring_slots);
        Ok((end.applied, now))
    }
}

impl Log {
    pub(crate) fn side(&self, side: Side) -> &End {
        match side {
            Side::Primary => &self.primary,
            Side::Secondary => &self.secondary,
        }
    }

    pub(crate) fn side_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        }
    }
}

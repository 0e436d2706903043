//! Replication between two servers that know none: what one side's tables have become is carried over to the other.
//!
//! The source is read whole, again and again, and compared with what it held before, so that any server will do. What changed between
//! two readings is one change: intermediate versions are not carried, as they need not be between copies of a global table.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::types::AttributeValue;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::LabError;

/// The least time between two readings of the source.
const READ_EVERY: Duration = Duration::from_millis(4);
/// A reading may take this part of the time at most: waiting is so many times longer than reading.
const REST_FACTOR: u32 = 3;
/// Changes under way; the source is not read while there are more.
const UNDER_WAY_MAX: usize = 50_000;
/// Items of one table that a lab can carry.
const ITEMS_MAX: usize = 200_000;

type Item = HashMap<String, AttributeValue>;
/// The key of an item, as text that sorts and compares.
type KeyText = String;

/// What is done to changes under way. Counts are used up, change by change.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) delay: Duration,
    pub(crate) drop_next: usize,
    pub(crate) twice_next: usize,
    pub(crate) reverse_next: usize,
    pub(crate) is_stalled: bool,
    pub(crate) is_cut: bool,
}

/// One table's key attributes.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) name: String,
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Clone)]
struct Change {
    table: usize,
    key: Item,
    /// `None`: deleted.
    item: Option<Item>,
    due: Instant,
}

/// How far the link is: readings of the source that were begun, and the last one of which everything was applied.
#[derive(Debug, Clone, Copy, Default)]
struct Passes {
    begun: u64,
    applied: u64,
}

/// Shared between the task and the lab's handle.
#[derive(Debug)]
pub(crate) struct Link {
    orders: Mutex<Orders>,
    /// Index of the side that is read.
    source: watch::Sender<usize>,
    /// The side that the task reads: the one above, a moment later.
    reading: watch::Sender<usize>,
    passes: watch::Sender<Passes>,
    trouble: Mutex<Option<String>>,
    dropped: Mutex<usize>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            orders: Mutex::default(),
            source: watch::Sender::new(0),
            reading: watch::Sender::new(0),
            passes: watch::Sender::new(Passes::default()),
            trouble: Mutex::default(),
            dropped: Mutex::default(),
        }
    }

    pub(crate) fn order<T>(&self, give: impl FnOnce(&mut Orders) -> T) -> T {
        give(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn source(&self) -> usize {
        *self.source.borrow()
    }

    /// Turns the direction round; what was under way is lost. Returns when the other side is read: what is written there from then on is
    /// carried.
    pub(crate) async fn turn(&self, patience: Duration) -> Result<(), LabError> {
        let side = 1 - self.source();
        self.source.send_replace(side);
        let mut reading = self.reading.subscribe();
        let turned = tokio::time::timeout(patience, reading.wait_for(|reading| *reading == side)).await;
        match turned {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.late("the turn of the direction", patience)),
        }
    }

    /// Changes that were lost: dropped by order, or under way when the direction was turned.
    pub(crate) fn dropped(&self) -> usize {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, count: usize) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) += count;
    }

    /// Returns when all that the source holds now was applied.
    pub(crate) async fn settled(&self, patience: Duration) -> Result<(), LabError> {
        let mut passes = self.passes.subscribe();
        let wanted = passes.borrow_and_update().begun + 1;
        let waited = tokio::time::timeout(patience, passes.wait_for(|passes| passes.applied >= wanted)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(self.late("the arrival of every change", patience)),
        }
    }

    fn late(&self, what: &str, waited: Duration) -> LabError {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LabError::Late {
            server: "the link between the tables".to_owned(),
            what: what.to_owned(),
            waited,
            log_tail: trouble.unwrap_or_else(|| "no error; is it stalled, or cut?".to_owned()),
        }
    }
}

/// The task that carries changes.
pub(crate) struct Carrier {
    pub(crate) link: Arc<Link>,
    pub(crate) clients: [Client; 2],
    pub(crate) tables: Vec<Carried>,
}

/// What is known of one direction.
struct Direction {
    source: usize,
    known: Vec<HashMap<KeyText, Item>>,
    under_way: VecDeque<Change>,
    /// Held back to be applied in reverse order.
    held: Vec<Change>,
    pass: u64,
}

impl Carrier {
    /// Until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            let mut direction = self.direction();
            loop {
                let began = Instant::now();
                if let Err(trouble) = self.step(&mut direction).await {
                    *self.link.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                }
                tokio::time::sleep(READ_EVERY.max(began.elapsed() * REST_FACTOR)).await;
            }
        })
        .await;
    }

    fn direction(&self) -> Direction {
        Direction {
            source: self.link.source(),
            known: self.tables.iter().map(|_| HashMap::new()).collect(),
            under_way: VecDeque::new(),
            held: Vec::new(),
            pass: 0,
        }
    }

    async fn step(&self, direction: &mut Direction) -> Result<(), String> {
        if direction.source != self.link.source() {
            self.turn(direction).await?;
        }
        if !self.link.order(|orders| orders.is_cut) && direction.under_way.len() < UNDER_WAY_MAX {
            self.link.passes.send_modify(|passes| passes.begun += 1);
            let pass = self.link.passes.borrow().begun;
            for index in 0..self.tables.len() {
                self.take_up(direction, index).await?;
            }
            direction.pass = pass;
        }
        self.apply_due(direction).await?;
        if direction.under_way.is_empty() && direction.held.is_empty() {
            let pass = direction.pass;
            self.link
                .passes
                .send_modify(|passes| passes.applied = passes.applied.max(pass));
        }
        Ok(())
    }

    async fn turn(&self, direction: &mut Direction) -> Result<(), String> {
        let mut turned = self.direction();
        // What the new source holds at the turn is where its copies start from.
        for (index, table) in self.tables.iter().enumerate() {
            turned.known[index] = self.read(turned.source, table).await?;
        }
        self.link.lose(direction.under_way.len() + direction.held.len());
        self.link.reading.send_replace(turned.source);
        *direction = turned;
        Ok(())
    }

    /// Finds what changed in one table, and orders what happens to it.
    async fn take_up(&self, direction: &mut Direction, index: usize) -> Result<(), String> {
        let table = &self.tables[index];
        let now = self.read(direction.source, table).await?;
        let known = &direction.known[index];
        let written = now.iter().filter(|(key, item)| known.get(*key) != Some(*item));
        let mut changes: Vec<(Item, Option<Item>)> = written
            .map(|(_, item)| (key_of(item, &table.key), Some(item.clone())))
            .collect();
        let deleted = known.iter().filter(|(key, _)| !now.contains_key(*key));
        changes.extend(deleted.map(|(_, item)| (key_of(item, &table.key), None)));
        for (key, item) in changes {
            let (is_dropped, is_twice, is_held, delay) = self.link.order(|orders| {
                (
                    used(&mut orders.drop_next),
                    used(&mut orders.twice_next),
                    used(&mut orders.reverse_next),
                    orders.delay,
                )
            });
            let change = Change {
                table: index,
                key,
                item,
                due: Instant::now() + delay,
            };
            if is_dropped {
                self.link.lose(1);
                continue;
            }
            if is_twice {
                direction.under_way.push_back(change.clone());
            }
            if is_held {
                direction.held.push(change);
            } else {
                direction.under_way.push_back(change);
            }
        }
        if self.link.order(|orders| orders.reverse_next) == 0 {
            direction.under_way.extend(direction.held.drain(..).rev());
        }
        direction.known[index] = now;
        Ok(())
    }

    async fn apply_due(&self, direction: &mut Direction) -> Result<(), String> {
        let target = &self.clients[1 - direction.source];
        while let Some(change) = direction
            .under_way
            .front()
            .filter(|change| change.due <= Instant::now())
        {
            // Asked for each change: the link may have been stalled while the source was read.
            let is_halted = self.link.order(|orders| orders.is_stalled || orders.is_cut);
            if is_halted || direction.source != self.link.source() {
                return Ok(());
            }
            let table = &self.tables[change.table].name;
            let done = match &change.item {
                Some(item) => {
                    let put = target.put_item().table_name(table).set_item(Some(item.clone()));
                    put.send()
                        .await
                        .map(drop)
                        .map_err(|error| DisplayErrorContext(&error).to_string())
                }
                None => {
                    let delete = target.delete_item().table_name(table).set_key(Some(change.key.clone()));
                    delete
                        .send()
                        .await
                        .map(drop)
                        .map_err(|error| DisplayErrorContext(&error).to_string())
                }
            };
            done?;
            direction.under_way.pop_front();
        }
        Ok(())
    }

    async fn read(&self, side: usize, table: &Carried) -> Result<HashMap<KeyText, Item>, String> {
        let mut all = HashMap::new();
        let mut from: Option<Item> = None;
        loop {
            let scan = self.clients[side].scan().table_name(&table.name).consistent_read(true);
            let page = scan.set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| DisplayErrorContext(&error).to_string())?;
            from = page.last_evaluated_key().cloned();
            for item in page.items.unwrap_or_default() {
                all.insert(key_text(&item, &table.key), item);
            }
            if all.len() > ITEMS_MAX {
                return Err(format!("table {} holds more than {ITEMS_MAX} items", table.name));
            }
            if from.is_none() {
                return Ok(all);
            }
        }
    }
}

/// Takes one off a count.
fn used(count: &mut usize) -> bool {
    let is_left = *count > 0;
    *count = count.saturating_sub(1);
    is_left
}

fn key_of(item: &Item, key: &[String]) -> Item {
    key.iter()
        .filter_map(|name| Some((name.clone(), item.get(name)?.clone())))
        .collect()
}

fn key_text(item: &Item, key: &[String]) -> KeyText {
    key.iter().map(|name| format!("{:?}\n", item.get(name))).collect()
}

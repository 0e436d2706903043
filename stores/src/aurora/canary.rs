//! The canary ring: one small table, one dedicated connection to write it and one to watch it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_postgres::Statement;

use super::fault;
use super::pins::{self, CANARY_STATEMENT_MS};
use super::session::{Address, Session};
use crate::{
    Canary, CanaryReader, CanaryWriter, Covers, Oddities, Result, Sighting, Sought, Stamp, StoreError, Trouble,
    WriteOutcome,
};

/// Slots of a stream's ring. A visible canary proves all earlier ones of its stream (one WAL), so the ring only has to outlast the
/// look back at a promotion: 12 s at 5 canaries a second.
const RING_SLOTS: u64 = 64;
/// Writes that were sent and not answered. More are refused, unsent: a primary that waits for a stalled synchronous standby
/// answers nothing for hours, and must not be given a queue to work off.
const WRITES_UNANSWERED_MAX: usize = 64;
/// The server ends a statement first, if it can; then nobody knows.
const ANSWER_PATIENCE: Duration = Duration::from_millis(CANARY_STATEMENT_MS as u64 + 2_000);

const WRITE: &str = "\
insert into driftline.canary as kept (stream, slot, epoch, seq, written_at)
values ($1, $2, $3, $4, pg_catalog.clock_timestamp())
on conflict (stream, slot) do update
set epoch = excluded.epoch, seq = excluded.seq, written_at = excluded.written_at
where kept.seq operator(pg_catalog.<) excluded.seq";

/// A canary counts in its own slot alone: what somebody else put elsewhere must not push sequences up.
const HIGHEST: &str = "\
select coalesce(pg_catalog.max(seq), 0) from driftline.canary
where stream = $1 and slot operator(pg_catalog.=) (seq operator(pg_catalog.%) 64)";

/// One row even when the ring is empty, so that the server process always shows; and no more than the ring has slots, whatever somebody else
/// put into the table.
const POLL: &str = "\
select pg_catalog.pg_backend_pid()::pg_catalog.text, ring.epoch, ring.seq, ring.slot
from (values (1)) as one left join driftline.canary as ring
on ring.stream = $1 and ring.slot operator(pg_catalog.>=) 0 and ring.slot operator(pg_catalog.<) 64";

/// Slots that hold a row that is no canary, and are remembered so that each is counted once.
const FOREIGN_MAX: usize = 4_096;

/// A row of the ring as a canary; `None`: it is none of ours, or malformed.
fn canary_in(slot: i32, stream: &str, told: &str, sequence: i64) -> Option<Canary> {
    let (epoch, stamp) = heard(told);
    let sequence = u64::try_from(sequence).ok().filter(|sequence| *sequence > 0)?;
    let is_its_slot = u64::try_from(slot).is_ok_and(|slot| sequence % RING_SLOTS == slot);
    let is_epoch = epoch.len() == 32 && epoch.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_its_slot && is_epoch).then(|| Canary {
        stream: stream.to_owned(),
        epoch: epoch.to_owned(),
        sequence,
        stamp,
    })
}

/// A session of its own with its statements prepared, opened when needed and again after a fault.
#[derive(Debug)]
struct Held {
    address: Address,
    statements: &'static [&'static str],
    ready: Mutex<Option<Arc<Ready>>>,
}

#[derive(Debug)]
struct Ready {
    session: Session,
    statements: Vec<Statement>,
}

impl Held {
    fn new(address: Address, statements: &'static [&'static str]) -> Self {
        Self {
            address,
            statements,
            ready: Mutex::new(None),
        }
    }

    /// The open session, or a new one.
    async fn ready(&self) -> Result<Arc<Ready>> {
        let mut held = self.ready.lock().await;
        if let Some(ready) = held.as_ref().filter(|ready| !ready.session.client().is_closed()) {
            return Ok(Arc::clone(ready));
        }
        *held = None;
        let session = self.address.open().await?;
        let mut statements = Vec::with_capacity(self.statements.len());
        for sql in self.statements {
            let prepared = timeout(ANSWER_PATIENCE, session.client().prepare(sql)).await;
            let statement = prepared
                .map_err(|_| self.unanswered("prepare the canary statements"))?
                .map_err(|error| self.trouble("prepare the canary statements", &error))?;
            statements.push(statement);
        }
        let ready = Arc::new(Ready { session, statements });
        *held = Some(Arc::clone(&ready));
        Ok(ready)
    }

    /// Has the next caller open another session: after a failover the endpoint may lead to another server.
    async fn give_up(&self, ready: &Arc<Ready>) {
        let mut held = self.ready.lock().await;
        if held.as_ref().is_some_and(|current| Arc::ptr_eq(current, ready)) {
            *held = None;
        }
    }

    fn trouble(&self, tried: &str, error: &tokio_postgres::Error) -> StoreError {
        match fault::in_session(&self.address.site, tried, error) {
            StoreError::NotFound(trouble) => StoreError::NotFound(
                trouble.hint("`driftline init` makes the canary table; on a copy it arrives by replication"),
            ),
            other => other,
        }
    }

    fn unanswered(&self, tried: &str) -> StoreError {
        StoreError::Retryable {
            after: None,
            trouble: Trouble::new(
                &self.address.site,
                tried,
                format!("no answer within {} ms", ANSWER_PATIENCE.as_millis()),
            ),
        }
    }
}

/// Writes canaries over one dedicated connection.
#[derive(Debug)]
pub(crate) struct RingWriter {
    held: Arc<Held>,
    unanswered: Arc<Semaphore>,
}

impl RingWriter {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            held: Arc::new(Held::new(address, &[WRITE, HIGHEST])),
            unanswered: Arc::new(Semaphore::new(WRITES_UNANSWERED_MAX)),
        }
    }
}

#[async_trait]
impl CanaryWriter for RingWriter {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let tried = format!("write canary {} of stream {}", canary.sequence, canary.stream);
        let site = &self.held.address.site;
        let (Ok(sequence), Ok(slot)) = (
            i64::try_from(canary.sequence),
            i32::try_from(canary.sequence % RING_SLOTS),
        ) else {
            return WriteOutcome::Failed(StoreError::Unsupported(Trouble::new(
                site,
                tried,
                "the sequence does not fit a bigint",
            )));
        };
        let Ok(permit) = Arc::clone(&self.unanswered).try_acquire_owned() else {
            return WriteOutcome::Failed(StoreError::Retryable {
                after: None,
                trouble: Trouble::new(
                    site,
                    tried,
                    format!("{WRITES_UNANSWERED_MAX} earlier writes are not answered yet"),
                )
                .hint("the primary may be waiting for a synchronous standby"),
            });
        };
        let ready = match self.held.ready().await {
            Ok(ready) => ready,
            Err(error) => return WriteOutcome::Failed(error),
        };
        // A task of its own, so that the permit is held until the server has answered, however long nobody waits.
        let sent = tokio::spawn({
            let (ready, stream, epoch) = (Arc::clone(&ready), canary.stream.clone(), told(canary));
            async move {
                let _permit = permit;
                let client = ready.session.client();
                client
                    .execute(&ready.statements[0], &[&stream, &slot, &epoch, &sequence])
                    .await
            }
        });
        match timeout(ANSWER_PATIENCE, sent).await {
            Err(_) => WriteOutcome::Unknown(self.held.unanswered(&tried)),
            Ok(Err(_)) => WriteOutcome::Unknown(self.held.unanswered(&tried)),
            Ok(Ok(Ok(1))) => WriteOutcome::Acknowledged,
            Ok(Ok(Ok(_))) => WriteOutcome::Failed(StoreError::Config(
                Trouble::new(site, tried, "the slot holds a later canary of this stream")
                    .hint("another probe writes this stream, or the ledger was lost"),
            )),
            Ok(Ok(Err(error))) => self.failed(&ready, &tried, &error).await,
        }
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let tried = format!("find the highest canary of stream {stream}");
        let ready = self.held.ready().await?;
        let answer = timeout(
            ANSWER_PATIENCE,
            ready.session.client().query_one(&ready.statements[1], &[&stream]),
        )
        .await;
        let row = match answer {
            Err(_) => {
                self.held.give_up(&ready).await;
                return Err(self.held.unanswered(&tried));
            }
            Ok(row) => row.map_err(|error| self.held.trouble(&tried, &error))?,
        };
        let highest: i64 = row.try_get(0).map_err(|error| self.held.trouble(&tried, &error))?;
        u64::try_from(highest).map_err(|_| negative(&self.held.address.site, &tried))
    }

    fn ring_slots(&self) -> u64 {
        RING_SLOTS
    }
}

impl RingWriter {
    /// An error that the server answered a write with. It is certain that nothing was written only when the server ended the statement
    /// and lives on: one that shuts down while a commit waits for a synchronous standby has committed. A statement that was
    /// cancelled is left open too: whoever stands between may have answered for the server.
    async fn failed(&self, ready: &Arc<Ready>, tried: &str, error: &tokio_postgres::Error) -> WriteOutcome {
        let trouble = self.held.trouble(tried, error);
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        if fault::ends_session(error) {
            self.held.give_up(ready).await;
            return WriteOutcome::Unknown(trouble);
        }
        match code {
            Some("57014") => WriteOutcome::Unknown(trouble),
            Some("25006" | "26000") => {
                self.held.give_up(ready).await;
                WriteOutcome::Failed(trouble)
            }
            _ => WriteOutcome::Failed(trouble),
        }
    }
}

/// The text of the ring's `epoch` column: the epoch, and behind it the stamp where there is one.
fn told(canary: &Canary) -> String {
    match canary.stamp {
        Some(stamp) => format!("{} {stamp}", canary.epoch),
        None => canary.epoch.clone(),
    }
}

fn heard(text: &str) -> (&str, Option<Stamp>) {
    match text.split_once(' ') {
        Some((epoch, stamp)) => (epoch, stamp.parse().ok()),
        None => (text, None),
    }
}

fn negative(site: &str, tried: &str) -> StoreError {
    StoreError::Corrupt(Trouble::new(site, tried, "the ring holds a negative sequence"))
}

/// Watches canaries over one dedicated connection.
#[derive(Debug)]
pub(crate) struct RingReader {
    held: Held,
    /// Foreign rows that were counted: stream and slot.
    foreign: std::sync::Mutex<BTreeSet<(String, i32)>>,
}

impl RingReader {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            held: Held::new(address, &[POLL]),
            foreign: std::sync::Mutex::default(),
        }
    }

    /// How many foreign rows are new since the last look at the ring of `stream`.
    fn newly_foreign(&self, stream: &str, slots: &[i32]) -> u64 {
        let mut counted = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        counted.retain(|(of, slot)| of != stream || slots.contains(slot));
        if counted.len() >= FOREIGN_MAX {
            counted.clear();
        }
        let new = slots.iter().filter(|slot| counted.insert((stream.to_owned(), **slot)));
        new.fold(0, |count, _| count + 1)
    }

    fn sighting(&self, ready: &Ready, tried: &str, rows: &[tokio_postgres::Row], stream: &str) -> Result<Sighting> {
        let site = &self.held.address.site;
        let column = |error: tokio_postgres::Error| self.held.trouble(tried, &error);
        let mut canaries = Vec::with_capacity(rows.len());
        let mut foreign = Vec::new();
        for row in rows {
            let process: &str = row.try_get(0).map_err(column)?;
            if process != ready.session.backend_pid() {
                return Err(pins::pooler(
                    site,
                    tried,
                    "another server session answered than the one that was opened",
                ));
            }
            let (Some(epoch), Some(sequence), Some(slot)) = (
                row.try_get::<_, Option<String>>(1).map_err(column)?,
                row.try_get::<_, Option<i64>>(2).map_err(column)?,
                row.try_get::<_, Option<i32>>(3).map_err(column)?,
            ) else {
                continue; // the ring is empty
            };
            match canary_in(slot, stream, &epoch, sequence) {
                Some(canary) => canaries.push(canary),
                None => foreign.push(slot),
            }
        }
        Ok(Sighting {
            canaries,
            instance: ready.session.who().instance(),
            strong: true, // a plain read on a standby shows all that it has applied
            covers: Covers::Ring,
            oddities: Oddities {
                duplicates: 0,
                foreign: self.newly_foreign(stream, &foreign),
            },
        })
    }
}

#[async_trait]
impl CanaryReader for RingReader {
    async fn poll(&self, stream: &str, _sought: Sought<'_>) -> Result<Sighting> {
        let tried = format!("look for canaries of stream {stream}");
        let ready = self.held.ready().await?;
        let answer = timeout(
            ANSWER_PATIENCE,
            ready.session.client().query(&ready.statements[0], &[&stream]),
        )
        .await;
        match answer {
            Err(_) => {
                self.held.give_up(&ready).await;
                Err(self.held.unanswered(&tried))
            }
            Ok(Err(error)) => {
                let trouble = self.held.trouble(&tried, &error);
                // Any fault of a poll is rare enough to begin anew.
                self.held.give_up(&ready).await;
                Err(trouble)
            }
            Ok(Ok(rows)) => self.sighting(&ready, &tried, &rows, stream),
        }
    }

    fn is_ordered(&self) -> bool {
        true
    }
}

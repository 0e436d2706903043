//! Writes that go on while something else is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;

use super::plant::key;
use super::server::{PgServer, quote};
use crate::LabError;
use crate::touches::Touches;

/// Sessions of one workload.
const SESSIONS_MAX: u16 = 32;
/// Keys whose fate is remembered, by all sessions together; a workload ends when it has written so many.
const KEYS_MAX: usize = 200_000;
/// Between two tries to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Time for the statement under way to end after a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a workload writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Five inserts, four updates and one delete of ten writes, over rows that were there and its own.
    Mixed,
    /// Keys behind the last are inserted and deleted, again and again: so many keys for each session.
    Churn {
        /// Number of keys.
        keys: u16,
    },
    /// Updates of the first rows, so many for each session: each write adds one to `quantity`.
    Hot {
        /// Number of rows.
        rows: u16,
    },
}

/// Settings of a workload.
#[derive(Debug, Clone)]
pub struct WorkloadOptions {
    /// The database.
    pub database: String,
    /// Schema of the table.
    pub schema: String,
    /// A table with `id bigint` as its key, `quantity integer` and `note text`, whose other columns have defaults; the
    /// shop's are.
    pub table: String,
    /// What is written.
    pub pattern: Pattern,
    /// Writes a second, all sessions together.
    pub per_second: u32,
    /// Connections that write; each has keys of its own, so that one that waits does not stop the others. At most 32.
    pub sessions: u16,
    /// `synchronous_commit = off` for its sessions.
    pub asynchronous_commit: bool,
    /// It ends by itself after so many writes.
    pub writes_max: u64,
    /// First key that it inserts; `None` = the one behind the last. Give two sides keys of their own with it.
    pub first_new_id: Option<i64>,
    /// The same seed draws the same writes.
    pub seed: u64,
}

impl WorkloadOptions {
    /// Fifty mixed writes a second over `public.TABLE`, at most 100,000, by one session.
    pub fn new(database: &str, table: &str) -> Self {
        Self {
            database: database.to_owned(),
            schema: "public".to_owned(),
            table: table.to_owned(),
            pattern: Pattern::Mixed,
            per_second: 50,
            sessions: 1,
            asynchronous_commit: false,
            writes_max: 100_000,
            first_new_id: None,
            seed: 1,
        }
    }
}

/// What a workload did. A statement that failed is in none of the first three.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows inserted.
    pub inserts: u64,
    /// Rows updated.
    pub updates: u64,
    /// Rows deleted.
    pub deletes: u64,
    /// Statements that met no row.
    pub misses: u64,
    /// Statements that failed; whether they took place is not known.
    pub failures: u64,
    /// Keys of failed statements: no truth can be told about them.
    pub uncertain: Vec<String>,
    /// What became of each key.
    pub touches: Touches,
}

impl Written {
    /// Rows written.
    pub fn writes(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    fn add(&mut self, other: &Self) {
        self.inserts += other.inserts;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.misses += other.misses;
        self.failures += other.failures;
        self.uncertain.extend_from_slice(&other.uncertain);
        self.touches.extend(&other.touches);
    }
}

/// A workload under way. It survives restarts of its server; dropping it ends it.
#[derive(Debug)]
pub struct Workload {
    sessions: JoinSet<Written>,
    stop: CancellationToken,
    committed: Arc<AtomicU64>,
    server: String,
}

impl Workload {
    /// Starts to write; [`committed`](Self::committed) tells when it is under way.
    ///
    /// # Errors
    /// The server's: no such table, no connection.
    pub async fn start(server: &PgServer, options: WorkloadOptions) -> Result<Self, LabError> {
        let table = format!("{}.{}", quote(&options.schema), quote(&options.table));
        let client = server.client(&options.database).await?;
        let sql = format!("select coalesce(max(id), 0)::bigint from {table}");
        let last: i64 = client
            .query_one(sql.as_str(), &[])
            .await
            .map_err(|error| server.sql_error(&sql, error))?
            .get(0);
        let count = options.sessions.clamp(1, SESSIONS_MAX);
        let stop = CancellationToken::new();
        let committed = Arc::new(AtomicU64::new(0));
        let mut sessions = JoinSet::new();
        for index in 0..count {
            let session = Session {
                config: server.session(&options.database, false),
                collection: format!("{}.{}", options.schema, options.table),
                statements: Statements::new(&table, options.asynchronous_commit),
                pattern: options.pattern,
                keys: Keys {
                    last,
                    first_new: options.first_new_id.unwrap_or(last + 1),
                    inserted: 0,
                    index: i64::from(index),
                    of: i64::from(count),
                },
                period: Duration::from_secs(1) * u32::from(count) / options.per_second.max(1),
                writes_max: options.writes_max / u64::from(count),
                keys_max: KEYS_MAX / usize::from(count),
                draw: StdRng::seed_from_u64(options.seed.wrapping_add(u64::from(index))),
                committed: Arc::clone(&committed),
                written: Written::default(),
            };
            sessions.spawn(session.run(stop.clone()));
        }
        Ok(Self {
            sessions,
            stop,
            committed,
            server: server.name().to_owned(),
        })
    }

    /// Writes committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::SeqCst)
    }

    /// Ends it after the statements under way, and tells what it did.
    ///
    /// # Errors
    /// [`LabError::State`] when a statement did not end within 10 s, as on a server that waits for a standby.
    pub async fn stop(mut self) -> Result<Written, LabError> {
        self.stop.cancel();
        let mut written = Written::default();
        loop {
            match timeout(STOP_PATIENCE, self.sessions.join_next()).await {
                Ok(None) => return Ok(written),
                Ok(Some(Ok(more))) => written.add(&more),
                Ok(Some(Err(failed))) => return Err(self.failed(&failed.to_string())),
                Err(_) => return Err(self.failed("a statement does not end")),
            }
        }
    }

    fn failed(&self, problem: &str) -> LabError {
        LabError::State {
            server: self.server.clone(),
            problem: format!("the workload could not be stopped in order: {problem}"),
        }
    }
}

struct Statements {
    set_up: &'static str,
    insert: String,
    update: String,
    delete: String,
}

impl Statements {
    fn new(table: &str, asynchronous_commit: bool) -> Self {
        Self {
            set_up: if asynchronous_commit {
                "set synchronous_commit = off"
            } else {
                "set synchronous_commit = on"
            },
            insert: format!("insert into {table} (id, note) values ($1, $2) on conflict do nothing"),
            update: format!("update {table} set quantity = quantity + 1, note = $2 where id = $1"),
            delete: format!("delete from {table} where id = $1"),
        }
    }
}

/// The keys of one session: those that leave its index when divided by the number of sessions.
struct Keys {
    last: i64,
    first_new: i64,
    inserted: i64,
    index: i64,
    of: i64,
}

impl Keys {
    fn new_key(&self, number: i64) -> i64 {
        self.first_new + number * self.of + self.index
    }

    /// The `number`-th row that was there at the start, counted from 0, when the rows are numbered from 1.
    fn old_key(&self, number: i64) -> i64 {
        1 + number * self.of + self.index
    }

    /// A row that was there at the start or was inserted since; it may be gone.
    fn any(&self, draw: &mut StdRng) -> i64 {
        let old = self.last / self.of;
        let number = draw.random_range(0..(old + self.inserted).max(1));
        if number < old {
            self.old_key(number)
        } else {
            self.new_key(number - old)
        }
    }
}

enum Write {
    Insert(i64),
    Update(i64),
    Delete(i64),
}

struct Session {
    config: Config,
    collection: String,
    statements: Statements,
    pattern: Pattern,
    keys: Keys,
    period: Duration,
    writes_max: u64,
    keys_max: usize,
    draw: StdRng,
    committed: Arc<AtomicU64>,
    written: Written,
}

impl Session {
    async fn run(mut self, stop: CancellationToken) -> Written {
        let mut ticks = interval(self.period.max(Duration::from_micros(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut client: Option<Client> = None;
        let mut turn = 0;
        while self.written.writes() < self.writes_max && self.written.touches.len() < self.keys_max {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let connected = match client.take().filter(|client| !client.is_closed()) {
                Some(connected) => connected,
                None => match self.connect().await {
                    Some(connected) => connected,
                    None => {
                        tokio::select! {
                            () = stop.cancelled() => break,
                            () = tokio::time::sleep(RECONNECT_PAUSE) => continue,
                        }
                    }
                },
            };
            let write = self.next_write(turn);
            turn += 1;
            self.write(&connected, &write).await;
            client = Some(connected);
        }
        self.written
    }

    async fn connect(&self) -> Option<Client> {
        let (client, connection) = self.config.connect(NoTls).await.ok()?;
        tokio::spawn(async move {
            // The statement under way is told what ended it.
            let _ended = connection.await;
        });
        client.batch_execute(self.statements.set_up).await.ok()?;
        Some(client)
    }

    fn next_write(&mut self, turn: i64) -> Write {
        match self.pattern {
            Pattern::Churn { keys } => {
                let key = self.keys.new_key((turn / 2) % i64::from(keys.max(1)));
                if turn % 2 == 0 {
                    Write::Insert(key)
                } else {
                    Write::Delete(key)
                }
            }
            Pattern::Hot { rows } => Write::Update(self.keys.old_key(turn % i64::from(rows.max(1)))),
            Pattern::Mixed => match self.draw.random_range(0..10) {
                0..5 => {
                    self.keys.inserted += 1;
                    Write::Insert(self.keys.new_key(self.keys.inserted - 1))
                }
                5..9 => Write::Update(self.keys.any(&mut self.draw)),
                _ => Write::Delete(self.keys.any(&mut self.draw)),
            },
        }
    }

    async fn write(&mut self, client: &Client, write: &Write) {
        let note = format!("w{:016x}", self.draw.random::<u64>());
        let (result, id, existed, exists) = match write {
            Write::Insert(id) => {
                let result = client.execute(&self.statements.insert, &[id, &note]).await;
                (result, *id, false, true)
            }
            Write::Update(id) => {
                let result = client.execute(&self.statements.update, &[id, &note]).await;
                (result, *id, true, true)
            }
            Write::Delete(id) => {
                let result = client.execute(&self.statements.delete, &[id]).await;
                (result, *id, true, false)
            }
        };
        match result {
            Ok(0) => self.written.misses += 1,
            Ok(_) => {
                self.committed.fetch_add(1, Ordering::SeqCst);
                self.written.touches.note(&self.collection, &key(id), existed, exists);
                match write {
                    Write::Insert(_) => self.written.inserts += 1,
                    Write::Update(_) => self.written.updates += 1,
                    Write::Delete(_) => self.written.deletes += 1,
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a write of the workload failed");
                self.written.failures += 1;
                if self.written.uncertain.len() < self.keys_max {
                    self.written.uncertain.push(key(id));
                }
            }
        }
    }
}

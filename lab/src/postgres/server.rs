//! One PostgreSQL server of a lab.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::distr::{Alphanumeric, SampleString as _};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::options::PgOptions;
use super::postmaster::{Launch, Postmaster, Stop};
use super::programs::{self, Programs};
use crate::LabError;
use crate::account::Account;
use crate::certificates;
use crate::folder::LabFolder;
use crate::ports::free_port;
use crate::process::ProcessId;
use crate::server_log::log_tail;

/// The superuser of every server.
pub(crate) const SUPERUSER: &str = "postgres";
/// Time for one connection to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Time for one statement of [`PgServer::execute`].
const STATEMENT_PATIENCE: Duration = Duration::from_secs(60);
/// Starts with another port each, when somebody else took the one that was drawn.
const FIRST_STARTS: usize = 5;
/// The first version of `initdb` that can keep quiet about what to do next.
const NO_INSTRUCTIONS_SINCE: u16 = 14;
/// Between two looks at something that a server will reach.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// What the servers of one lab share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) programs: Programs,
    pub(crate) folder: LabFolder,
    pub(crate) password: String,
    pub(crate) options: PgOptions,
}

impl Site {
    /// Makes the folder and finds the programs. Blocks.
    pub(crate) fn prepare(options: PgOptions) -> Result<Self, LabError> {
        let folder = LabFolder::create(options.root.as_deref(), Account::find()?)?;
        let programs = Programs::of(options.version, &folder)?;
        Ok(Self {
            programs,
            folder,
            password: Alphanumeric.sample_string(&mut rand::rng(), 32),
            options,
        })
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub(crate) fn program(&self, name: &str) -> std::process::Command {
        self.folder
            .account()
            .command(&self.programs.path(name), self.folder.path())
    }
}

#[derive(Debug)]
struct State {
    port: u16,
    postmaster: Option<Postmaster>,
}

#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    state: Mutex<State>,
    // Behind the postmaster: the folder goes after the processes.
    pub(crate) site: Arc<Site>,
}

/// A PostgreSQL server of a lab. Dropping it stops it; its folder goes with the last server of its lab.
#[derive(Debug)]
pub struct PgServer {
    inner: Arc<Server>,
}

impl PgServer {
    /// Starts a server that has nothing to do with any other: its own lab, its own system identifier.
    ///
    /// # Errors
    /// Programs or account missing, folder not usable, or the server did not start.
    pub async fn start(options: PgOptions) -> Result<Self, LabError> {
        Self::start_named("server", options).await
    }

    pub(crate) async fn start_named(name: &'static str, options: PgOptions) -> Result<Self, LabError> {
        let server = blocking(move || {
            let site = Arc::new(Site::prepare(options)?);
            let server = Self::in_site(name, site);
            server.inner.make_cluster()?;
            server.inner.first_start()?;
            Ok(server)
        })
        .await?;
        for database in &server.inner.site.options.databases {
            server
                .execute("postgres", &format!("create database {}", quote(database)))
                .await?;
        }
        Ok(server)
    }

    pub(crate) fn in_site(name: &str, site: Arc<Site>) -> Self {
        Self {
            inner: Arc::new(Server {
                name: name.to_owned(),
                state: Mutex::new(State {
                    port: 0,
                    postmaster: None,
                }),
                site,
            }),
        }
    }

    pub(crate) fn inner(&self) -> Arc<Server> {
        Arc::clone(&self.inner)
    }

    /// Its name in errors and in `cluster_name`: `primary`, `standby`, `second`, or `server`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The port on 127.0.0.1. It stays the same over stops and starts.
    pub fn port(&self) -> u16 {
        self.inner.state().port
    }

    /// Where `user` finds `database`, without a password.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgresql://{}@127.0.0.1:{}/{}",
            percent_encoded(user),
            self.port(),
            percent_encoded(database)
        )
    }

    /// The password of the superuser, `postgres`; drawn for each lab.
    pub fn password(&self) -> &str {
        &self.inner.site.password
    }

    /// The certificate authority (PEM) that vouches for the server as `127.0.0.1` and `localhost`.
    pub fn ca_file(&self) -> PathBuf {
        self.inner.site.ca_file()
    }

    /// The folder of its data.
    pub fn data_dir(&self) -> PathBuf {
        self.inner.data_dir()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.inner.log())
    }

    /// Whether its processes run.
    pub fn is_running(&self) -> bool {
        self.inner.state().postmaster.as_ref().is_some_and(Postmaster::is_alive)
    }

    /// Runs statements as superuser, each for at most 60 s.
    ///
    /// # Errors
    /// The server's, with the end of its log.
    pub async fn execute(&self, database: &str, sql: &str) -> Result<(), LabError> {
        let client = self.connect(database, true).await?;
        client
            .batch_execute(sql)
            .await
            .map_err(|error| self.sql_error(sql, error))
    }

    /// Changes a setting of the whole server, as in `set ssl = off` or `reset ssl`, and has it read its settings anew: it does that in its own
    /// time.
    ///
    /// # Errors
    /// The server's, with the end of its log.
    pub async fn alter_system(&self, change: &str) -> Result<(), LabError> {
        self.execute("postgres", &format!("alter system {change}")).await?;
        self.execute("postgres", "select pg_reload_conf()").await
    }

    /// The first column of the first row, as text; `None` when it is NULL or there is no row.
    ///
    /// # Errors
    /// The server's, with the end of its log.
    pub async fn value(&self, database: &str, sql: &str) -> Result<Option<String>, LabError> {
        let client = self.connect(database, true).await?;
        let messages = client
            .simple_query(sql)
            .await
            .map_err(|error| self.sql_error(sql, error))?;
        let first = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        });
        Ok(first.flatten())
    }

    /// A superuser's session over the server's Unix socket. It ends when the client is dropped.
    ///
    /// # Errors
    /// The server does not run or does not let us in.
    pub async fn client(&self, database: &str) -> Result<Client, LabError> {
        self.connect(database, false).await
    }

    async fn connect(&self, database: &str, bounded: bool) -> Result<Client, LabError> {
        let config = self.session(database, bounded);
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(|error| self.sql_error(&format!("connect to {database}"), error))?;
        tokio::spawn(async move {
            // What ends a connection is told to whoever waits for a statement on it.
            let _ended = connection.await;
        });
        Ok(client)
    }

    /// How the superuser connects to `database` now.
    pub(crate) fn session(&self, database: &str, bounded: bool) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.inner.site.folder.sockets())
            .port(self.port())
            .user(SUPERUSER)
            .password(&self.inner.site.password)
            .dbname(database)
            .application_name("driftline lab")
            .connect_timeout(CONNECT_PATIENCE);
        if bounded {
            config.options(format!("-c statement_timeout={}", STATEMENT_PATIENCE.as_millis()));
        }
        config
    }

    /// Looks at `sql`, whose value is a boolean, until it is true. `what` is what is waited for, in words.
    ///
    /// # Errors
    /// The server's, or it takes longer than `patience`.
    pub async fn wait_for(&self, database: &str, sql: &str, what: &str, patience: Duration) -> Result<(), LabError> {
        let client = self.connect(database, true).await?;
        let deadline = Instant::now() + patience;
        loop {
            let row = client
                .query_opt(sql, &[])
                .await
                .map_err(|error| self.sql_error(sql, error))?;
            if row.is_some_and(|row| row.get(0)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LabError::Late {
                    server: self.inner.name.clone(),
                    what: what.to_owned(),
                    waited: patience,
                    log_tail: self.log_tail(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn sql_error(&self, statement: &str, error: tokio_postgres::Error) -> LabError {
        LabError::sql(&self.inner.name, statement, error, self.log_tail())
    }

    pub(crate) fn state_error(&self, problem: &str) -> LabError {
        LabError::State {
            server: self.inner.name.clone(),
            problem: problem.to_owned(),
        }
    }

    /// Stops it: clients are disconnected, the WAL is flushed and shipped to standbys that are connected. Nothing happens
    /// when it does not run.
    ///
    /// # Errors
    /// None today; the signature leaves room.
    pub async fn stop(&self) -> Result<(), LabError> {
        self.stop_as(Stop::Fast).await
    }

    /// Ends all its processes with SIGKILL, as a crash does.
    ///
    /// # Errors
    /// None today; the signature leaves room.
    pub async fn kill9(&self) -> Result<(), LabError> {
        self.stop_as(Stop::Kill).await
    }

    async fn stop_as(&self, how: Stop) -> Result<(), LabError> {
        let server = self.inner();
        blocking(move || {
            server.stop(how);
            Ok(())
        })
        .await
    }

    /// Starts it again on the same port and waits until it takes connections. Nothing happens when it runs.
    ///
    /// # Errors
    /// It does not start, or somebody took its port meanwhile.
    pub async fn start_again(&self) -> Result<(), LabError> {
        let server = self.inner();
        blocking(move || server.start_again()).await
    }

    /// [`stop`](Self::stop), then [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(&self) -> Result<(), LabError> {
        self.stop().await?;
        self.start_again().await
    }

    /// Stops the server and removes its folder, without blocking the runtime. Dropping does the same, blocking.
    pub async fn shutdown(self) {
        // It cannot fail: what could not be removed is logged and left to the next start.
        let _removed = blocking(move || {
            drop(self);
            Ok(())
        })
        .await;
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        self.inner.stop(Stop::Immediate);
    }
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves a postmaster or none, and both are states that we can go on from.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.site.folder.path().join(&self.name)
    }

    fn log(&self) -> PathBuf {
        self.site.folder.path().join(format!("{}.log", self.name))
    }

    /// Processes right below its postmaster.
    pub(crate) fn children(&self) -> Vec<ProcessId> {
        let state = self.state();
        state.postmaster.as_ref().map(Postmaster::children).unwrap_or_default()
    }

    /// `initdb`, configuration, access rules and certificates. Blocks.
    fn make_cluster(&self) -> Result<(), LabError> {
        let site = &self.site;
        let password_file = site.folder.path().join("superuser");
        site.folder.write_file(&password_file, site.password.as_bytes())?;
        let mut command = site.program("initdb");
        command
            .arg("-D")
            .arg(self.data_dir())
            .args(["--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8"])
            .args(["--locale", "C.UTF-8", "--no-sync", "--pwfile"])
            .arg(&password_file);
        if site.programs.version() >= NO_INSTRUCTIONS_SINCE {
            command.arg("--no-instructions");
        }
        programs::run(command, site.folder.path())?;
        let data_dir = self.data_dir();
        let configuration = data_dir.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&configuration).map_err(LabError::folder("read", &configuration))?;
        text.push_str(&site.options.configuration());
        let certificates = certificates::issue()?;
        let files: [(&Path, &str); 5] = [
            (&configuration, &text),
            (&data_dir.join("pg_hba.conf"), &site.options.access()),
            (&data_dir.join("server.crt"), &certificates.server),
            (&data_dir.join("server.key"), &certificates.server_key),
            (&site.ca_file(), &certificates.authority),
        ];
        for (path, contents) in files {
            site.folder.write_file(path, contents.as_bytes())?;
        }
        Ok(())
    }

    /// Starts it on a port that is free. Blocks.
    pub(crate) fn first_start(&self) -> Result<(), LabError> {
        let mut state = self.state();
        for attempt in 1..=FIRST_STARTS {
            state.port = free_port()?;
            match Postmaster::start(&self.launch(state.port), &self.site.folder) {
                Ok(postmaster) => {
                    state.postmaster = Some(postmaster);
                    return Ok(());
                }
                Err(error) if attempt < FIRST_STARTS && error.is_port_taken() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn start_again(&self) -> Result<(), LabError> {
        let mut state = self.state();
        if state.postmaster.as_ref().is_some_and(Postmaster::is_alive) {
            return Ok(());
        }
        // One that ended by itself is reaped first.
        state.postmaster = None;
        state.postmaster = Some(Postmaster::start(&self.launch(state.port), &self.site.folder)?);
        Ok(())
    }

    pub(crate) fn stop(&self, how: Stop) {
        if let Some(postmaster) = self.state().postmaster.take() {
            postmaster.stop(how);
        }
    }

    fn launch(&self, port: u16) -> Launch {
        Launch {
            name: self.name.clone(),
            program: self.site.programs.path("postgres"),
            data_dir: self.data_dir(),
            log: self.log(),
            port,
        }
    }
}

/// Runs code that blocks on tokio's threads for that. A panic there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LabError> + Send + 'static,
) -> Result<T, LabError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(LabError::State {
                server: "lab".to_owned(),
                problem: "the runtime is shutting down".to_owned(),
            }),
        },
    }
}

/// An SQL identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_urls_and_in_sql() {
        assert_eq!(percent_encoded("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}

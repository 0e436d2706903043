//! A lab with the roles that `init --print` prints, a configuration for it, and the binary.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lab::{PgOptions, PgPair, PgServer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The application's database in every test.
pub(crate) const DATABASE: &str = "shop";

/// A running pair, and a folder with `driftline.toml`.
pub(crate) struct Story {
    pub(crate) pair: PgPair,
    pub(crate) folder: tempfile::TempDir,
    // Behind the servers: the place is free when they are gone.
    _place: SemaphorePermit<'static>,
}

/// Stories at a time; each has two servers or more.
static STORIES: Semaphore = Semaphore::const_new(3);

/// What no command takes; one that does hangs.
const COMMAND_PATIENCE: Duration = Duration::from_secs(180);

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The same, after checking the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// The binary of this test run, or the one that a benchmark names: it measures what is shipped.
pub(crate) fn driftline() -> Command {
    let named = std::env::var_os("DRIFTLINE_BENCH_BINARY");
    let mut command = Command::new(named.unwrap_or_else(|| env!("CARGO_BIN_EXE_driftline").into()));
    for name in ["RUST_LOG", "DRIFTLINE_CONFIG", "DRIFTLINE_SITE"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs a command to its end, which must come.
pub(crate) fn finish(command: &mut Command) -> Finished {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the command");
    let pid = child.id();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(COMMAND_PATIENCE) else {
        send(pid, Signal::SIGKILL);
        panic!(
            "{command:?} did not end within {COMMAND_PATIENCE:?}; then it had said: {:?}",
            ended.recv()
        );
    };
    let output = output.expect("wait for the command");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process ID"));
    kill(pid, signal).expect("signal the process");
}

/// A driftline that runs; it is killed when a test fails before its end.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command`. What it says goes to files beside `name`.
    pub(crate) fn spawn(mut command: Command, name: &Path) -> Self {
        let log = name.with_extension("log");
        let file = |path: &Path| std::fs::File::create(path).expect("make a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file(&name.with_extension("out")))
            .stderr(file(&log))
            .spawn()
            .expect("start driftline");
        Self { child, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its end, which must come.
    pub(crate) fn end(mut self) -> ExitStatus {
        let mut ended = None;
        wait_for("driftline ends", COMMAND_PATIENCE, || {
            ended = self.child.try_wait().expect("wait for driftline");
            ended.is_some()
        });
        ended.expect("it ended")
    }

    /// The same, after checking the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) {
        let log = self.log.clone();
        let status = self.end();
        let log = std::fs::read_to_string(log).unwrap_or_default();
        assert_eq!(status.code(), Some(code), "{status}: {log}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it ended already, as it should have.
        let _ended = (self.child.kill(), self.child.wait());
    }
}

impl Story {
    /// A pair with `tables` (SQL), the canary table and the least-privilege role, and a configuration that selects `public.*`.
    pub(crate) async fn start(tables: &str) -> Self {
        Self::start_with(PgOptions::with_database(DATABASE), tables).await
    }

    /// The same on servers with other options.
    pub(crate) async fn start_with(options: PgOptions, tables: &str) -> Self {
        let place = STORIES.acquire().await.expect("the semaphore is never closed");
        let pair = PgPair::start(options).await.expect("start a pair");
        pair.primary()
            .execute(DATABASE, tables)
            .await
            .expect("create the tables");
        let folder = tempfile::tempdir().expect("make a folder");
        let story = Self {
            pair,
            folder,
            _place: place,
        };
        story.write_config(&story.config());
        story.grant().await;
        story
            .pair
            .wait_replayed(Duration::from_secs(30))
            .await
            .expect("the standby catches up");
        story
    }

    /// Runs what `init --print` prints, as the superuser, and gives the role its password.
    pub(crate) async fn grant(&self) {
        let printed = self.run(&["init", "--print"]).expect(0).stdout;
        let primary = self.pair.primary();
        let script = self.path("init.sql");
        std::fs::write(&script, printed).expect("write the script");
        let psql = finish(
            Command::new("psql")
                .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file"])
                .arg(&script)
                .arg(primary.url("postgres", DATABASE))
                .env("PGPASSWORD", primary.password())
                .env("PGSSLMODE", "require"),
        );
        assert_eq!(psql.code, 0, "the printed SQL runs: {psql:?}");
        let password = self.role_password();
        primary
            .execute("postgres", &format!("alter role driftline password '{password}'"))
            .await
            .expect("set the password");
        std::fs::write(self.path("password"), password).expect("write the password file");
    }

    fn role_password(&self) -> String {
        // Not a secret worth keeping: it dies with the servers.
        format!("of-port-{}", self.pair.primary().port())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.path("driftline.toml"), text).expect("write the configuration");
    }

    /// The configuration of this pair: site `a` is the primary, `b` the standby.
    pub(crate) fn config(&self) -> String {
        self.config_of(
            self.pair.primary(),
            self.pair.primary().port(),
            self.pair.standby().port(),
        )
    }

    /// The same with other ports, e.g. those of proxies.
    pub(crate) fn config_of(&self, authority: &PgServer, a: u16, b: u16) -> String {
        format!(
            "here = \"b\"\nwriters = [\"a\"]\noutput = \"{out}\"\nstate = \"{state}\"\nledger = {{ path = \"{ledger}\" }}\n\
             listen = \"127.0.0.1:0\"\n[site.a]\n[site.b]\n[connection.db.aurora]\n\
             auth = {{ password = {{ file = \"{password}\" }} }}\ntls = {{ ca_file = \"{ca}\" }}\n\
             [connection.db.aurora.sites.a]\nwriter = \"postgresql://driftline@127.0.0.1:{a}/{DATABASE}\"\n\
             [connection.db.aurora.sites.b]\nwriter = \"postgresql://driftline@127.0.0.1:{b}/{DATABASE}\"\n\
             [dataset.shop.aurora]\nconnection = \"db\"\ntables = [\"public.*\"]\n",
            out = self.path("out").display(),
            state = self.path("state").display(),
            ledger = self.path("ledger").display(),
            password = self.path("password").display(),
            ca = authority.ca_file().display(),
        )
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = driftline();
        command.arg("--config").arg(self.path("driftline.toml")).args(args);
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        finish(&mut self.command(args))
    }

    /// Starts the binary and leaves it running. Its output goes to files, so that nothing it says can block it.
    pub(crate) fn spawn(&self, name: &str, args: &[&str]) -> Running {
        Running::spawn(self.command(args), &self.path(name))
    }
}

/// Waits until `condition` holds, at most 60 s; `what` is told when it does not.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_for(what, Duration::from_secs(60), condition);
}

#[track_caller]
fn wait_for(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    let (_sender, nothing) = std::sync::mpsc::channel::<()>();
    while !condition() {
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        // A bounded pause without a sleep: nothing is ever sent.
        let _nothing_sent = nothing.recv_timeout(Duration::from_millis(20));
    }
}

/// Writes a configuration alone, for tests that need no servers.
pub(crate) fn config_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("driftline.toml");
    let mut file = std::fs::File::create(&path).expect("make the file");
    file.write_all(text.as_bytes()).expect("write the file");
    (folder, path)
}

/// The Parquet files of a table below an output folder that a run wrote.
pub(crate) fn parquet_files(output: &Path, table: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for date in std::fs::read_dir(output.join(table)).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(date.path()).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            // Each table also has a file without rows, for engines that do not like a table without files.
            if name.ends_with(".parquet") && name != "no-rows.parquet" {
                files.push(file.path());
            }
        }
    }
    files.sort();
    files
}

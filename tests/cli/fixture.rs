//! A lab with the roles that `init --print` prints, a configuration for it, and the binary.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lab::{PgOptions, PgPair, PgServer};

/// The application's database in every test.
pub const DATABASE: &str = "shop";

/// A running pair, and a folder with `driftline.toml`.
pub struct Story {
    pub pair: PgPair,
    pub folder: tempfile::TempDir,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The same, after checking the exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }
}

/// Where the binary of this test run is.
pub fn driftline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_driftline"));
    for name in ["RUST_LOG", "DRIFTLINE_CONFIG", "DRIFTLINE_SITE"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().expect("start the command");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Story {
    /// A pair with `tables` (SQL), the canary table and the least-privilege role, and a configuration that selects `public.*`.
    pub async fn start(tables: &str) -> Self {
        Self::start_with(PgOptions::with_database(DATABASE), tables).await
    }

    /// The same on servers with other options.
    pub async fn start_with(options: PgOptions, tables: &str) -> Self {
        let pair = PgPair::start(options).await.expect("start a pair");
        pair.primary()
            .execute(DATABASE, tables)
            .await
            .expect("create the tables");
        let folder = tempfile::tempdir().expect("make a folder");
        let story = Self { pair, folder };
        story.write_config(&story.config());
        story.grant().await;
        story
            .pair
            .wait_replayed(std::time::Duration::from_secs(30))
            .await
            .expect("the standby catches up");
        story
    }

    /// Runs what `init --print` prints, as the superuser, and gives the role its password.
    pub async fn grant(&self) {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write_config(&self, text: &str) {
        std::fs::write(self.path("driftline.toml"), text).expect("write the configuration");
    }

    /// The configuration of this pair: site `a` is the primary, `b` the standby.
    pub fn config(&self) -> String {
        self.config_of(
            self.pair.primary(),
            self.pair.primary().port(),
            self.pair.standby().port(),
        )
    }

    /// The same with other ports, e.g. those of proxies.
    pub fn config_of(&self, authority: &PgServer, a: u16, b: u16) -> String {
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

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = driftline();
        command.arg("--config").arg(self.path("driftline.toml")).args(args);
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &[&str]) -> Finished {
        finish(&mut self.command(args))
    }

    /// Starts the binary and leaves it running; standard error goes to a file that [`log_of`] reads.
    pub fn spawn(&self, name: &str, args: &[&str]) -> Child {
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).expect("make a log file");
        self.command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("start driftline")
    }

    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }
}

/// Waits until `condition` holds, at most 30 s; `what` is told when it does not.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited 30 s in vain: {what}");
        // A bounded pause without a sleep: nothing is ever sent.
        let _nothing_sent = receiver.recv_timeout(std::time::Duration::from_millis(20));
    }
    drop(sender);
}

/// Writes a configuration alone, for tests that need no servers.
pub fn config_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("driftline.toml");
    let mut file = std::fs::File::create(&path).expect("make the file");
    file.write_all(text.as_bytes()).expect("write the file");
    (folder, path)
}

/// The Parquet files of a table below an output folder.
pub fn parquet_files(output: &Path, table: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for date in std::fs::read_dir(output.join(table)).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(date.path()).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|extension| extension == "parquet") {
                files.push(file.path());
            }
        }
    }
    files.sort();
    files
}

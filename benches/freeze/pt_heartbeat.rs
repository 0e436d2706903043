//! Percona's pt-heartbeat, unmodified, on PostgreSQL: one that writes a time each 0.01 s, two that read it. `MysqlWords.pm` answers
//! what it asks in MySQL's own words.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lab::{PgPair, PgServer};
use tokio::process::{Child, Command};

/// The shortest that it takes.
const INTERVAL: &str = "0.01";
/// Its database, and the schema in it: it names its table `DATABASE.TABLE`.
const HEARTBEAT: &str = "heartbeat";
/// From its start to its first line: it waits for a whole second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether it has begun.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How to start it.
#[derive(Debug)]
pub(crate) struct PtHeartbeat {
    program: String,
    servers: [Server; 2],
}

#[derive(Debug)]
struct Server {
    port: u16,
    password: String,
}

impl From<&PgServer> for Server {
    fn from(server: &PgServer) -> Self {
        Self {
            port: server.port(),
            password: server.password().to_owned(),
        }
    }
}

/// It runs. Killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Beating {
    children: Vec<Child>,
    /// What its readers say: without and with the shift by half a second.
    lines: [PathBuf; 2],
    /// Where the run began in them.
    begun_at: Vec<usize>,
}

impl PtHeartbeat {
    /// Makes its database and its row; the version comes beside it.
    pub(crate) async fn prepare(pair: &PgPair, program: &str) -> anyhow::Result<(Self, String)> {
        let version = Command::new(program).arg("--version").output().await;
        let version = version.with_context(|| format!("run {program}: scripts/install.sh bench installs it"))?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let primary = pair.primary();
        primary
            .execute("postgres", &format!("create database {HEARTBEAT}"))
            .await?;
        let table = format!(
            "create schema {HEARTBEAT}; create table {HEARTBEAT}.heartbeat (ts varchar(26) not null, server_id int primary key); \
             insert into {HEARTBEAT}.heartbeat values ('2026-01-01T00:00:00.000000', 1)"
        );
        primary.execute(HEARTBEAT, &table).await.context("make its table")?;
        pair.wait_replayed(PATIENCE).await.context("wait for its table")?;
        let heartbeat = Self {
            program: which(program)?,
            servers: [Server::from(primary), Server::from(pair.standby())],
        };
        Ok((heartbeat, version))
    }

    /// Starts one that writes at the primary and two that read at the standby, and waits until all run.
    pub(crate) async fn start(&self, folder: &Path) -> anyhow::Result<Beating> {
        let [primary, standby] = &self.servers;
        let read = ["--monitor", "--master-server-id", "1", "--frames", "1s"];
        let without_shift = [&read[..], &["--skew", "0"]].concat();
        let lines = ["unshifted", "shifted"].map(|name| folder.join(format!("pt-heartbeat.{name}")));
        let children = vec![
            self.spawn(primary, &["--update"], &folder.join("pt-heartbeat.update"))?,
            self.spawn(standby, &without_shift, &lines[0])?,
            self.spawn(standby, &read, &lines[1])?,
        ];
        let mut beating = Beating {
            children,
            lines,
            begun_at: Vec::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while beating.offsets()?.contains(&0) {
            for child in &mut beating.children {
                let ended = child.try_wait()?;
                anyhow::ensure!(
                    ended.is_none() && Instant::now() < deadline,
                    "pt-heartbeat does not run ({ended:?})"
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        beating.begun_at = beating.offsets()?;
        Ok(beating)
    }

    fn spawn(&self, server: &Server, mode: &[&str], lines: &Path) -> anyhow::Result<Child> {
        let words = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/freeze");
        let out = std::fs::File::create(lines);
        Command::new("perl")
            .arg("-I")
            .arg(words)
            .arg("-MMysqlWords")
            .arg(&self.program)
            .args(mode)
            .args(["--dbi-driver", "Pg", "--no-version-check", "--interval", INTERVAL])
            .args(["-h", "127.0.0.1", "-u", "postgres", "-D", HEARTBEAT, "-P"])
            .arg(server.port.to_string())
            .env("PGPASSWORD", &server.password)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(out.with_context(|| format!("make {}", lines.display()))?)
            .kill_on_drop(true)
            .spawn()
            .context("start pt-heartbeat")
    }
}

impl Beating {
    fn offsets(&self) -> anyhow::Result<Vec<usize>> {
        let length = |path: &PathBuf| Ok(usize::try_from(std::fs::metadata(path)?.len())?);
        self.lines.iter().map(length).collect()
    }

    /// Ends it. What its readers said, microseconds: without and with the shift.
    pub(crate) async fn stop(mut self) -> anyhow::Result<[Vec<u64>; 2]> {
        for child in &mut self.children {
            anyhow::ensure!(child.try_wait()?.is_none(), "pt-heartbeat ended by itself");
            child.kill().await.context("end pt-heartbeat")?;
        }
        let [unshifted, shifted] = &self.lines;
        let begun_at = |reader: usize| self.begun_at.get(reader).copied().unwrap_or_default();
        Ok([delays(unshifted, begun_at(0))?, delays(shifted, begun_at(1))?])
    }
}

/// `0.12s [  0.10s ]`: the delay now, in hundredths of a second. What was said before the run is left out.
fn delays(path: &Path, begun_at: usize) -> anyhow::Result<Vec<u64>> {
    let text = std::fs::read_to_string(path).context("what pt-heartbeat said")?;
    // The first line and the last may be cut.
    let whole = text.get(begun_at..).unwrap_or_default();
    let whole = whole.split_once('\n').map_or("", |(_, whole)| whole);
    let whole = whole.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let delay = |line: &str| {
        let (seconds, hundredths) = line.split_once('s')?.0.trim().split_once('.')?;
        Some(seconds.parse::<u64>().ok()? * 1_000_000 + hundredths.parse::<u64>().ok()? * 10_000)
    };
    let read = |line| delay(line).with_context(|| format!("pt-heartbeat said {line:?}"));
    whole.lines().map(read).collect()
}

/// Where a program is: perl does not look for it.
fn which(program: &str) -> anyhow::Result<String> {
    if program.contains('/') {
        return Ok(program.to_owned());
    }
    let path = std::env::var("PATH").context("PATH")?;
    let found = path.split(':').map(|folder| format!("{folder}/{program}"));
    found
        .into_iter()
        .find(|file| Path::new(file).is_file())
        .with_context(|| format!("{program} is not on the PATH: scripts/install.sh bench installs it"))
}

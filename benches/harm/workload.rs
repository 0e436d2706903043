//! pgbench at the primary, and how far the standby is behind meanwhile.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::fixture::{DATABASE, Story};

/// Of 100,000 accounts each.
const SCALE: &str = "10";
const CLIENTS: &str = "4";
/// Transactions that are due in a second, whether or not the ones before have ended.
const RATE: &str = "200";
/// Between two looks at the standby.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the logs of the transactions are called.
const LOG: &str = "transactions";
/// Server versions bring a pgbench each; this is the one of the lab's.
const PGBENCH: &str = "/usr/lib/postgresql/15/bin/pgbench";

/// What runs beside the comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Workload {
    program: &'static str,
    arguments: Vec<&'static str>,
    scale: &'static str,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "pgbench {} at scale {}, fsync on",
            self.arguments.join(" "),
            self.scale
        )
    }
}

/// What was seen of it.
pub(crate) struct Seen {
    pub(crate) transactions_us: Vec<u64>,
    pub(crate) lags_us: Vec<u64>,
}

/// Makes its tables. The history has no key and only grows: it is not compared.
pub(crate) async fn prepare(story: &Story) -> anyhow::Result<Workload> {
    let made = command(story, &["--initialize", "--quiet", "--scale", SCALE])
        .output()
        .context("start pgbench")?;
    anyhow::ensure!(
        made.status.success(),
        "pgbench: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    for sql in [
        "create schema history; alter table public.pgbench_history set schema history",
        "alter database shop set search_path = public, history",
        "grant select on all tables in schema public to driftline",
    ] {
        story.pair.primary().execute(DATABASE, sql).await.context(sql)?;
    }
    story.pair.wait_replayed(Duration::from_secs(120)).await?;
    Ok(Workload {
        program: PGBENCH,
        arguments: arguments(),
        scale: SCALE,
    })
}

fn arguments() -> Vec<&'static str> {
    vec!["--no-vacuum", "--client", CLIENTS, "--rate", RATE, "--log"]
}

fn command(story: &Story, arguments: &[&str]) -> Command {
    let primary = story.pair.primary();
    let mut command = Command::new(PGBENCH);
    command
        .args(arguments)
        .arg(primary.url("postgres", DATABASE))
        .env("PGPASSWORD", primary.password())
        .env("PGSSLMODE", "require")
        .current_dir(story.folder.path())
        .stdin(Stdio::null());
    command
}

/// Runs it for so many seconds.
pub(crate) async fn run(story: &Story, seconds: u32) -> anyhow::Result<Seen> {
    let (prefix, length) = (format!("--log-prefix={LOG}"), format!("--time={seconds}"));
    let mut all = arguments();
    all.extend([prefix.as_str(), length.as_str()]);
    let mut command = tokio::process::Command::from(command(story, &all));
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("start pgbench")?;
    let client = story.pair.primary().client(DATABASE).await?;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lags_us = Vec::new();
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("wait for pgbench")?,
            _ = looks.tick() => {
                let lag = "select (extract(epoch from replay_lag) * 1000000)::bigint from pg_stat_replication";
                let row = client.query_opt(lag, &[]).await?.context("no standby is connected")?;
                // None: nothing was to be replayed lately.
                if let Some(lag_us) = row.get::<_, Option<i64>>(0) {
                    lags_us.push(u64::try_from(lag_us)?);
                }
            }
        }
    };
    anyhow::ensure!(status.success(), "pgbench ended with {status}");
    Ok(Seen {
        transactions_us: logged(story)?,
        lags_us,
    })
}

/// Takes the log of each thread: `client transaction time_us script seconds us lag_us`; the time begins when the transaction was due.
fn logged(story: &Story) -> anyhow::Result<Vec<u64>> {
    let mut times_us = Vec::new();
    for file in std::fs::read_dir(story.folder.path())? {
        let path = file?.path();
        let is_log = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(LOG));
        if is_log {
            let text = std::fs::read_to_string(&path).context("read the log of pgbench")?;
            for line in text.lines() {
                let time_us = line.split(' ').nth(2).and_then(|field| field.parse().ok());
                times_us.push(time_us.with_context(|| format!("pgbench logged {line:?}"))?);
            }
            std::fs::remove_file(&path).context("remove the log of pgbench")?;
        }
    }
    anyhow::ensure!(!times_us.is_empty(), "pgbench logged no transaction");
    Ok(times_us)
}

//! What `reconcile run` does to others: commit latency of pgbench at the primary and lag of the standby, without it, beside it as it is set
//! by default, beside a paced one, and without it again.
//!
//! `DRIFTLINE_BENCH_SECONDS` is the length of each of the four (60), `DRIFTLINE_BENCH_ROWS` the size of the table that is compared (5,000,000).

#[path = "../stage/mod.rs"]
mod stage;
mod workload;

#[expect(dead_code, reason = "the fixture of the end-to-end tests, which need more of it")]
#[path = "../../tests/cli/fixture.rs"]
mod fixture;
#[path = "../reconcile/rows.rs"]
mod rows;

use std::time::Instant;

use anyhow::Context as _;
use serde::Serialize;

use fixture::Story;
use stage::machine::Machine;
use stage::quantiles::{Quantiles, ms};
use stage::record::say;
use stage::versions::Versions;
use stage::watch::{Cost, watch};

/// What an operator writes who wants it to disturb nobody.
const PACED: &str = "parallel = 1\nrows_per_second = 100000\nmax_lag = \"1s\"\n";

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    versions: Versions,
    data: rows::Data,
    workload: workload::Workload,
    phases: Vec<Phase>,
}

/// One length of pgbench.
#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    settings: &'static str,
    /// From the instant that a transaction was due until it had committed.
    transactions: Quantiles,
    /// `replay_lag` of `pg_stat_replication`, looked at ten times a second.
    standby_lag: Quantiles,
    /// Runs of `reconcile run` that ended in that time; the last one may have gone on behind it.
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    cost: Cost,
    exit_code: i32,
    rows: u64,
    /// Rows that were in flight, and settled.
    transient: u64,
    /// Rows that never rested, or could not be read again.
    undecided: u64,
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let seconds: u32 = stage::asked("DRIFTLINE_BENCH_SECONDS", 60)?;
    let extent: u64 = stage::asked("DRIFTLINE_BENCH_ROWS", 5_000_000)?;
    say(format!("machine: {machine}"))?;
    let mut options = stage::servers::without_background(fixture::DATABASE);
    // A commit waits for the disk, as in production.
    options.settings.push(("fsync".to_owned(), "on".to_owned()));
    let story = Story::start_with(options, rows::TABLE).await;
    let versions = Versions::of(story.pair.primary()).await?;
    say(format!("versions: {versions}"))?;
    let data = rows::load(&story.pair, extent).await?;
    say(format!("data: {data}"))?;
    let workload = workload::prepare(&story).await?;
    say(format!("beside it: {workload}\n"))?;

    let mut phases = Vec::new();
    for (name, settings) in [
        ("without", None),
        ("default", Some("")),
        ("paced", Some(PACED)),
        ("without, again", None),
    ] {
        let phase = phase(&story, (name, settings), seconds).await?;
        say(&phase)?;
        phases.push(phase);
    }
    let results = Results {
        machine,
        versions,
        data,
        workload,
        phases,
    };
    results.versions.keep("harm", &results)?;
    story.pair.shutdown().await;
    Ok(())
}

async fn phase(
    story: &Story,
    (name, settings): (&'static str, Option<&'static str>),
    seconds: u32,
) -> anyhow::Result<Phase> {
    if let Some(settings) = settings {
        story.write_config(&format!("{}[defaults.reconcile]\n{settings}", story.config()));
    }
    let work = workload::run(story, seconds);
    let compared = async {
        let (begun, mut runs) = (Instant::now(), Vec::new());
        while settings.is_some() && begun.elapsed().as_secs() < u64::from(seconds) {
            runs.push(reconcile(story).await?);
        }
        anyhow::Ok(runs)
    };
    let (seen, runs) = tokio::try_join!(work, compared)?;
    Ok(Phase {
        name,
        settings: settings.unwrap_or_default(),
        transactions: Quantiles::of(seen.transactions_us, 0),
        standby_lag: Quantiles::of(seen.lags_us, 0),
        runs,
    })
}

/// One run of the binary. Rows in flight may stay undecided on a pair that is written to; a confirmed difference would be a false one.
async fn reconcile(story: &Story) -> anyhow::Result<Run> {
    let command = story.command(&["reconcile", "run", "--format", "json"]);
    let ended = watch(command, story.folder.path()).await?;
    let exit_code = ended.code.unwrap_or(-1);
    anyhow::ensure!(
        [0, 3].contains(&exit_code),
        "driftline ended with {exit_code}: {}",
        ended.stderr
    );
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).context("what driftline printed")?;
    let collections = told["results"][0]["collections"].as_array();
    let collections = collections.context("driftline named no table")?;
    let sum = |field: &str| -> u64 { collections.iter().filter_map(|one| one[field].as_u64()).sum() };
    anyhow::ensure!(sum("confirmed") == 0, "equal sides were said to differ: {told}");
    Ok(Run {
        cost: ended.cost,
        exit_code,
        rows: sum("primary_rows"),
        transient: sum("transient"),
        undecided: sum("volatile") + sum("unverified"),
    })
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<16} {} transactions: p50 {}, p99 {}, max {}; standby behind by p50 {}, p99 {}, max {}; {} runs",
            self.name,
            self.transactions.samples,
            ms(self.transactions.p50_us),
            ms(self.transactions.p99_us),
            ms(self.transactions.max_us),
            ms(self.standby_lag.p50_us),
            ms(self.standby_lag.p99_us),
            ms(self.standby_lag.max_us),
            self.runs.len(),
        )?;
        for run in &self.runs {
            write!(
                f,
                "\n  {} rows in {:.1} s, exit {}, {} in flight, {} undecided",
                run.rows, run.cost.wall_seconds, run.exit_code, run.transient, run.undecided
            )?;
        }
        Ok(())
    }
}

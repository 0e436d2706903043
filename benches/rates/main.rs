//! What a probe costs, and how late its canaries are, at 100 canaries a second on PostgreSQL and at 1,000 on Kafka.
//!
//! Kafka is two brokers of Apache Kafka and MirrorMaker 2; with `DRIFTLINE_BENCH_KAFKA=mock` librdkafka's mock clusters in this
//! process and the lab's mirror. `DRIFTLINE_BENCH_SECONDS` changes how long each of them runs.

#[path = "../stage/idle_pair.rs"]
mod idle_pair;
#[path = "../stage/mod.rs"]
mod stage;

#[expect(dead_code, reason = "the fixture of the end-to-end tests, which need more of it")]
#[path = "../../tests/cli/fixture.rs"]
mod fixture;

mod kafka;

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;

use kafka::Kafka;
use stage::machine::Machine;
use stage::quantiles::{Quantiles, ms};
use stage::record::{say, verdict};
use stage::samples::column;
use stage::versions::Versions;
use stage::watch::{Cost, watch};

/// Canaries a second on PostgreSQL.
const AURORA_RATE: u32 = 100;
/// Canaries a second on Kafka, over all partitions.
const KAFKA_RATE: u32 = 1_000;
/// How late a canary may leave at p99, skipped ones included.
const LATE_US_GOAL: u64 = 10_000;

/// The whole record of one store.
#[derive(Debug, Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    versions: &'a Versions,
    /// What the canaries were written to.
    against: String,
    canaries_per_second: u32,
    seconds: u32,
    cost: Cost,
    /// CPU time of the process over its wall time, start and drain included.
    cpu_percent_of_a_core: f64,
    /// From the planned instant of a canary to the start of its write; a skipped slot is later than all others.
    late: Quantiles,
    late_p99_us_goal: u64,
    lag_high: Quantiles,
    planned: u64,
    seen: u64,
    skipped: u64,
    /// What it printed: fates of canaries, and lag.
    printed: serde_json::Value,
}

/// A store that is ready to be probed.
struct Target<'a> {
    name: &'static str,
    against: String,
    rate: u32,
    /// `driftline probe`, less its arguments.
    command: Command,
    /// Its Parquet files.
    output: &'a Path,
    folder: &'a Path,
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let seconds: u32 = stage::asked("DRIFTLINE_BENCH_SECONDS", 60)?;
    say(format!("machine: {machine}"))?;
    let story = idle_pair::start(AURORA_RATE).await;
    let versions = Versions::of(story.pair.primary()).await?;
    say(format!("versions: {versions}"))?;
    let target = Target {
        name: "aurora",
        against: "PostgreSQL, a primary and a streaming standby".to_owned(),
        rate: AURORA_RATE,
        command: story.command(&[]),
        output: &story.path("out"),
        folder: story.folder.path(),
    };
    probe(target, seconds, &machine, &versions).await?;
    story.pair.shutdown().await;

    let kafka = Kafka::start(&stage::asked("DRIFTLINE_BENCH_KAFKA", "servers".to_owned())?).await?;
    let target = Target {
        name: "kafka",
        against: kafka.against(),
        rate: KAFKA_RATE,
        command: kafka.command(KAFKA_RATE)?,
        output: &kafka.folder().join("out"),
        folder: kafka.folder(),
    };
    probe(target, seconds, &machine, &versions).await
}

/// Probes one store and tells what came of it.
async fn probe(target: Target<'_>, seconds: u32, machine: &Machine, versions: &Versions) -> anyhow::Result<()> {
    let mut command = target.command;
    command.args(["probe", "--for", &format!("{seconds}s"), "--format", "json"]);
    let ended = watch(command, target.folder)
        .await?
        .expect(0)
        .context("driftline probe")?;
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).context("what driftline printed")?;
    let routes = printed["routes"].as_array().context("no route was probed")?;
    let sum = |figure: &str| routes.iter().filter_map(|route| route[figure].as_u64()).sum::<u64>();
    let (planned, seen, skipped) = (sum("planned"), sum("seen"), sum("skipped"));
    // The figures count only if the canaries were written and seen: at least three quarters of those that the mean of the schedule wants.
    anyhow::ensure!(
        planned >= u64::from(target.rate * seconds * 3 / 4) && seen + skipped == planned,
        "the probe did not run as it should: {printed}"
    );
    let results = Results {
        machine,
        versions,
        against: target.against,
        canaries_per_second: target.rate,
        seconds,
        cpu_percent_of_a_core: 100.0 * ended.cost.cpu_seconds / ended.cost.wall_seconds,
        cost: ended.cost,
        late: Quantiles::of(column(target.output, "late_us")?, usize::try_from(skipped)?),
        late_p99_us_goal: LATE_US_GOAL,
        lag_high: Quantiles::of(column(target.output, "lag_high_us")?, 0),
        planned,
        seen,
        skipped,
        printed,
    };
    tell(&results)?;
    versions.keep(&format!("rates-{}-{}-per-second", target.name, target.rate), &results)
}

fn tell(results: &Results<'_>) -> anyhow::Result<()> {
    let quantiles = |of: &Quantiles| format!("p50 {}, p99 {}, max {}", ms(of.p50_us), ms(of.p99_us), ms(of.max_us));
    say(format!(
        "\n{} canaries/s for {} s on {}",
        results.canaries_per_second, results.seconds, results.against
    ))?;
    say(format!(
        "CPU {:.2} % of a core; peak resident memory {:.1} MB",
        results.cpu_percent_of_a_core, results.cost.resident_peak_mb
    ))?;
    say(format!(
        "canaries planned {}, seen {}, skipped {}; lag, high end: {}",
        results.planned,
        results.seen,
        results.skipped,
        quantiles(&results.lag_high)
    ))?;
    say(format!(
        "late: {}; p99 not above {}: {}",
        quantiles(&results.late),
        ms(Some(LATE_US_GOAL)),
        verdict(results.late.p99_us.is_some_and(|p99| p99 <= LATE_US_GOAL))
    ))
}

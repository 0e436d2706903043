//! What a probe costs at 10 canaries a second on a pair that does nothing else.
//!
//! `DRIFTLINE_BENCH_SECONDS` changes how long it runs.

#[path = "../stage/idle_pair.rs"]
mod idle_pair;
#[path = "../stage/mod.rs"]
mod stage;

#[expect(dead_code, reason = "the fixture of the end-to-end tests, which need more of it")]
#[path = "../../tests/cli/fixture.rs"]
mod fixture;

use anyhow::Context as _;
use serde::Serialize;

use stage::machine::Machine;
use stage::record::{say, verdict};
use stage::versions::Versions;
use stage::watch::{Cost, watch};

/// Canaries a second.
const RATE: u32 = 10;
/// Most of one core that a probe may take, in percent.
const CPU_PERCENT_GOAL: f64 = 5.0;
/// Most resident memory, in units of 1,000,000 bytes.
const RESIDENT_MB_GOAL: f64 = 60.0;

/// The whole record.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    versions: Versions,
    canaries_per_second: u32,
    seconds: u32,
    cost: Cost,
    /// CPU time of the process over its wall time, start and drain included.
    cpu_percent_of_a_core: f64,
    cpu_percent_goal: f64,
    resident_peak_mb_goal: f64,
    /// What it printed: fates of canaries, and lag.
    printed: serde_json::Value,
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let seconds: u32 = stage::asked("DRIFTLINE_BENCH_SECONDS", 60)?;
    say(format!("machine: {machine}"))?;
    let story = idle_pair::start(RATE).await;
    let versions = Versions::of(story.pair.primary()).await?;
    say(format!("versions: {versions}"))?;

    let command = story.command(&["probe", "--for", &format!("{seconds}s"), "--format", "json"]);
    let ended = watch(command, story.folder.path())
        .await?
        .expect(0)
        .context("driftline probe")?;
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).context("what driftline printed")?;
    check(&printed, seconds)?;
    let results = Results {
        machine,
        versions,
        canaries_per_second: RATE,
        seconds,
        cpu_percent_of_a_core: 100.0 * ended.cost.cpu_seconds / ended.cost.wall_seconds,
        cpu_percent_goal: CPU_PERCENT_GOAL,
        resident_peak_mb_goal: RESIDENT_MB_GOAL,
        cost: ended.cost,
        printed,
    };
    tell(&results)?;
    results.versions.keep(&format!("probe-{RATE}-per-second"), &results)?;
    story.pair.shutdown().await;
    Ok(())
}

/// The cost counts only if the canaries were written and seen: at least half of those that the mean of the schedule wants.
fn check(printed: &serde_json::Value, seconds: u32) -> anyhow::Result<()> {
    let route = stage::awake_route(printed)?;
    let seen = route["seen"].as_u64().context("no route was probed")?;
    anyhow::ensure!(
        seen >= u64::from(RATE * seconds / 2) && route["write_failed"] == 0,
        "the probe did not run as it should: {route}"
    );
    Ok(())
}

fn tell(results: &Results) -> anyhow::Result<()> {
    let (cpu, resident) = (results.cpu_percent_of_a_core, results.cost.resident_peak_mb);
    say(format!(
        "\n{RATE} canaries/s for {} s, an idle primary and a streaming standby on this machine",
        results.seconds
    ))?;
    say(format!(
        "CPU {cpu:.2} % of a core; below {CPU_PERCENT_GOAL} %: {}",
        verdict(cpu < CPU_PERCENT_GOAL)
    ))?;
    say(format!(
        "peak resident memory {resident:.1} MB; below {RESIDENT_MB_GOAL} MB: {}",
        verdict(resident < RESIDENT_MB_GOAL)
    ))?;
    let route = stage::awake_route(&results.printed)?;
    say(format!(
        "canaries planned {}, seen {}; lag {}",
        route["planned"], route["seen"], route["lag"]
    ))
}

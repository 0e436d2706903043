//! A freeze of replication for 500 ms, again and again: what an open-loop probe says of it, what closed-loop probes say, and what
//! pt-heartbeat says, all in the same run on the same pair.
//!
//! `DRIFTLINE_BENCH_SECONDS` changes how long it runs, `DRIFTLINE_BENCH_PT_HEARTBEAT` names pt-heartbeat's program.

#[path = "../stage/idle_pair.rs"]
mod idle_pair;
#[path = "../stage/mod.rs"]
mod stage;

#[expect(dead_code, reason = "the fixture of the end-to-end tests, which need more of it")]
#[path = "../../tests/cli/fixture.rs"]
mod fixture;

mod closed_loop;
mod freezer;
mod pt_heartbeat;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use closed_loop::ClosedLoop;
use freezer::Freezes;
use pt_heartbeat::PtHeartbeat;
use stage::machine::Machine;
use stage::quantiles::{Quantiles, ms};
use stage::record::{say, verdict};
use stage::versions::Versions;
use stage::watch::watch;

/// Canaries a second, and the most that the second closed-loop probe writes.
const RATE: u32 = 10;
/// How long replay stands still each time.
const FREEZE: Duration = Duration::from_millis(500);
/// From one freeze to the next.
const FREEZE_EVERY: Duration = Duration::from_secs(5);
/// The least part of the true 99th percentile that shows it.
const SHOWN_PERCENT_GOAL: u64 = 80;

/// The whole record.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    versions: Versions,
    pt_heartbeat: String,
    seconds: u32,
    canaries_per_second: u32,
    /// What was done to the pair, by the clock of the benchmark.
    freezes: Freezes,
    /// The lag of a commit at an instant that has nothing to do with the freezes, if it takes no time beside them.
    truth: Quantiles,
    said: Vec<Said>,
    /// The median of the freezes was within a tenth of what was asked for, and both ends of the open loop show the true p99.
    goal_percent_of_true_p99: u64,
    goal_is_met: bool,
}

/// What one observer says of the lag.
#[derive(Debug, Serialize)]
struct Said {
    observer: &'static str,
    lag: Quantiles,
    /// Its p99 over the true one.
    percent_of_true_p99: Option<u64>,
}

impl Said {
    fn by(observer: &'static str, lag: Quantiles, truth: &Quantiles) -> Self {
        let share = |p99: u64| Some(p99 * 100 / truth.p99_us.filter(|p99| *p99 > 0)?);
        Self {
            observer,
            percent_of_true_p99: lag.p99_us.and_then(share),
            lag,
        }
    }
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let seconds: u32 = stage::asked("DRIFTLINE_BENCH_SECONDS", 60)?;
    let program = stage::asked("DRIFTLINE_BENCH_PT_HEARTBEAT", "pt-heartbeat".to_owned())?;
    say(format!("machine: {machine}"))?;
    let story = idle_pair::start(RATE).await;
    let versions = Versions::of(story.pair.primary()).await?;
    let (heartbeat, heartbeat_version) = PtHeartbeat::prepare(&story.pair, &program).await?;
    say(format!("versions: {versions}; {heartbeat_version}"))?;

    let length = Duration::from_secs(u64::from(seconds));
    let heartbeat = heartbeat.start(story.folder.path()).await?;
    let until = Instant::now() + length;
    let command = story.command(&["probe", "--for", &format!("{seconds}s"), "--format", "json"]);
    let (at_once, spaced) = (
        ClosedLoop::prepare(&story.pair, "at_once").await?,
        ClosedLoop::prepare(&story.pair, "spaced").await?,
    );
    let ended = tokio::try_join!(
        watch(command, story.folder.path()),
        freezer::freeze(&story.pair, FREEZE, FREEZE_EVERY, until),
        at_once.run(None, until),
        spaced.run(Some(Duration::from_secs(1) / RATE), until),
    );
    let (ended, freezes, at_once, spaced) = ended?;
    let [unshifted, shifted] = heartbeat.stop().await?;
    let printed: serde_json::Value =
        serde_json::from_str(&ended.expect(0)?.stdout).context("what driftline printed")?;
    let route = stage::awake_route(&printed)?;

    let truth = freezes.truth(length);
    let by = |observer, lag| Said::by(observer, lag, &truth);
    let said = vec![
        by("driftline probe, low end", of_driftline(route, "low")?),
        by("driftline probe, high end", of_driftline(route, "high")?),
        by("closed loop, the next at once", Quantiles::of(at_once, 0)),
        by("closed loop, at most 10/s", Quantiles::of(spaced, 0)),
        by("pt-heartbeat --interval 0.01 --skew 0", Quantiles::of(unshifted, 0)),
        by("pt-heartbeat --interval 0.01 (skew 0.5)", Quantiles::of(shifted, 0)),
    ];
    let shows = |one: &Said| one.percent_of_true_p99.is_some_and(|share| share >= SHOWN_PERCENT_GOAL);
    let results = Results {
        machine,
        versions,
        pt_heartbeat: heartbeat_version,
        seconds,
        canaries_per_second: RATE,
        goal_is_met: freezes.are_about(FREEZE) && said.iter().take(2).all(shows),
        freezes,
        truth,
        said,
        goal_percent_of_true_p99: SHOWN_PERCENT_GOAL,
    };
    tell(&results)?;
    results.versions.keep("freeze-500-ms", &results)?;
    story.pair.shutdown().await;
    Ok(())
}

/// One end of the lag that driftline printed.
fn of_driftline(route: &serde_json::Value, end: &str) -> anyhow::Result<Quantiles> {
    let lag = &route["lag"][end];
    let seen = route["seen"].as_u64().context("no route was probed")?;
    anyhow::ensure!(
        seen > 0 && route["pending"] == 0,
        "the probe did not run as it should: {route}"
    );
    Ok(Quantiles {
        samples: usize::try_from(seen)?,
        p50_us: lag["p50_us"].as_u64(),
        p99_us: lag["p99_us"].as_u64(),
        max_us: lag["max_us"].as_u64(),
    })
}

fn tell(results: &Results) -> anyhow::Result<()> {
    let freezes = &results.freezes;
    say(format!(
        "\nreplay stood still {} times for {} (median; {} .. {}) within {} s",
        freezes.count,
        ms(Some(freezes.median_us)),
        ms(Some(freezes.min_us)),
        ms(Some(freezes.max_us)),
        results.seconds
    ))?;
    let line = |who: &str, lag: &Quantiles, share: String| {
        let (p50, p99, max) = (ms(lag.p50_us), ms(lag.p99_us), ms(lag.max_us));
        say(format!(
            "{who:<40} {:>7} samples  p50 {p50:>12}  p99 {p99:>12}  max {max:>12}  {share}",
            lag.samples
        ))
    };
    line("the truth (commits at any instant)", &results.truth, String::new())?;
    for said in &results.said {
        let share = said
            .percent_of_true_p99
            .map_or("unbounded".to_owned(), |share| format!("{share} % of the true p99"));
        line(said.observer, &said.lag, share)?;
    }
    say(format!(
        "both ends of the open loop's p99 at least {SHOWN_PERCENT_GOAL} % of the true one: {}",
        verdict(results.goal_is_met)
    ))
}

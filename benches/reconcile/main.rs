//! `reconcile run` of one large table of equal rows, beside the two bare digest queries run side by side and beside reladiff.
//!
//! The bare queries are the floor: they do the hashing and nothing else, with the very expression that driftline uses.
//! `DRIFTLINE_BENCH_ROWS`, `_ROUNDS` and `_RELADIFF_RUNS` change the extent, `DRIFTLINE_BENCH_RELADIFF` names reladiff's program.

mod bare;
mod reladiff;
mod rows;
#[path = "../stage/mod.rs"]
mod stage;

#[expect(dead_code, reason = "the fixture of the end-to-end tests, which need more of it")]
#[path = "../../tests/cli/fixture.rs"]
mod fixture;

use anyhow::Context as _;
use serde::Serialize;

use fixture::Story;
use stage::machine::Machine;
use stage::record::say;
use stage::versions::Versions;
use stage::watch::{Cost, watch};

/// Most resident memory that driftline may take, in units of 1,000,000 bytes.
const RESIDENT_MB_GOAL: f64 = 100.0;

/// The whole record.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    versions: Versions,
    data: rows::Data,
    /// The expression with which one row is hashed, in all of `bare` and `driftline`.
    row_digest: String,
    bare: Vec<bare::Times>,
    driftline: Vec<Cost>,
    reladiff: Option<reladiff::Runs>,
    summary: Summary,
}

#[derive(Debug, Serialize)]
struct Summary {
    bare_wall_seconds: Spread,
    driftline_wall_seconds: Spread,
    driftline_cpu_seconds: Spread,
    driftline_resident_peak_mb: Spread,
    resident_peak_mb_goal: f64,
    reladiff_wall_seconds: Option<Spread>,
    /// Medians of wall time.
    driftline_over_bare: f64,
    /// Medians of wall time.
    reladiff_over_driftline: Option<f64>,
}

/// Of several figures.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// `None` of no figures.
    fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (
            sorted.get((sorted.len().checked_sub(1)?) / 2)?,
            sorted.get(sorted.len() / 2)?,
        );
        Some(Self {
            median: f64::midpoint(*low, *high),
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:8.2} {:8.2} {:8.2}", self.median, self.min, self.max)
    }
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let rounds: u32 = stage::asked("DRIFTLINE_BENCH_ROUNDS", 5)?;
    let reladiff_runs: u32 = stage::asked("DRIFTLINE_BENCH_RELADIFF_RUNS", 2)?;
    let extent: u64 = stage::asked("DRIFTLINE_BENCH_ROWS", 5_000_000)?;
    say(format!("machine: {machine}"))?;

    let story = Story::start_with(rows::servers(), rows::TABLE).await;
    let versions = Versions::of(story.pair.primary()).await?;
    say(format!("versions: {versions}"))?;
    let data = rows::load(&story.pair, extent).await?;
    say(format!("data: {data}"))?;
    let row_digest = bare::row_digest(&story).await?;

    // Nothing is counted of the first time: both sides read their files into memory in it.
    bare::run(&story.pair, &row_digest, data.rows).await?;
    reconcile(&story, data.rows).await?;
    let (mut bare, mut driftline) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let times = bare::run(&story.pair, &row_digest, data.rows).await?;
        let cost = reconcile(&story, data.rows).await?;
        say(format!(
            "round {round} of {rounds}: bare {:.2} s, driftline {:.2} s, {:.1} MB",
            times.wall_seconds, cost.wall_seconds, cost.resident_peak_mb
        ))?;
        bare.push(times);
        driftline.push(cost);
    }
    let reladiff = reladiff::run(&story, &data, reladiff_runs).await?;

    let summary = summarise(&bare, &driftline, reladiff.as_ref()).context("nothing was measured")?;
    tell(&summary, &data)?;
    let results = Results {
        machine,
        versions,
        row_digest,
        bare,
        driftline,
        reladiff,
        summary,
        data,
    };
    results
        .versions
        .keep(&format!("reconcile-{}", results.data.rows), &results)?;
    story.pair.shutdown().await;
    Ok(())
}

/// One run of the binary as a person runs it. Anything but "all rows counted and equal" is an error: its time would mean nothing.
async fn reconcile(story: &Story, rows: u64) -> anyhow::Result<Cost> {
    let command = story.command(&["reconcile", "run", "--format", "json"]);
    let ended = watch(command, story.folder.path())
        .await?
        .expect(0)
        .context("driftline reconcile run")?;
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).context("what driftline printed")?;
    let collections = told["results"][0]["collections"].as_array();
    let ours = collections.and_then(|all| all.iter().find(|one| one["collection"] == rows::NAME));
    let ours = ours.context("driftline did not name the table")?;
    let is_whole = ours["state"] == "verified" && ours["primary_rows"] == rows && ours["secondary_rows"] == rows;
    anyhow::ensure!(is_whole, "driftline did not verify {rows} rows: {ours}");
    Ok(ended.cost)
}

fn summarise(bare: &[bare::Times], driftline: &[Cost], reladiff: Option<&reladiff::Runs>) -> Option<Summary> {
    let of = |figure: fn(&Cost) -> f64| Spread::of(driftline.iter().map(figure));
    let bare_wall_seconds = Spread::of(bare.iter().map(|times| times.wall_seconds))?;
    let driftline_wall_seconds = of(|cost| cost.wall_seconds)?;
    let reladiff_wall_seconds = reladiff.and_then(|runs| Spread::of(runs.costs.iter().map(|cost| cost.wall_seconds)));
    Some(Summary {
        driftline_over_bare: driftline_wall_seconds.median / bare_wall_seconds.median,
        reladiff_over_driftline: reladiff_wall_seconds.map(|other| other.median / driftline_wall_seconds.median),
        bare_wall_seconds,
        driftline_wall_seconds,
        driftline_cpu_seconds: of(|cost| cost.cpu_seconds)?,
        driftline_resident_peak_mb: of(|cost| cost.resident_peak_mb)?,
        resident_peak_mb_goal: RESIDENT_MB_GOAL,
        reladiff_wall_seconds,
    })
}

fn tell(summary: &Summary, data: &rows::Data) -> anyhow::Result<()> {
    let line = |what: &str, spread: Spread| say(format!("{what:<40}{spread}"));
    say(format!("\n{data}\n{:<40}{:>8} {:>8} {:>8}", "", "median", "min", "max"))?;
    line("bare digests side by side, wall s", summary.bare_wall_seconds)?;
    line("driftline reconcile run, wall s", summary.driftline_wall_seconds)?;
    line("driftline reconcile run, CPU s", summary.driftline_cpu_seconds)?;
    line("driftline, peak resident MB", summary.driftline_resident_peak_mb)?;
    match summary.reladiff_wall_seconds {
        Some(spread) => line("reladiff, 2 threads a database, wall s", spread)?,
        None => say("reladiff was not measured: DRIFTLINE_BENCH_RELADIFF does not name it; `make bench` does")?,
    }
    say(format!(
        "driftline takes {:.2} times the bare digests",
        summary.driftline_over_bare
    ))?;
    if let Some(times) = summary.reladiff_over_driftline {
        say(format!("reladiff takes {times:.2} times driftline"))?;
    }
    let is_met = summary.driftline_resident_peak_mb.max < RESIDENT_MB_GOAL;
    say(format!(
        "memory below {RESIDENT_MB_GOAL} MB: {}",
        if is_met { "met" } else { "MISSED" }
    ))
}

//! `reconcile run` of one large table of equal rows, beside the two bare digest queries run side by side and beside reladiff.
//!
//! The bare queries are the floor: they do the hashing and nothing else, with the very expression that driftline uses.
//! `DRIFTLINE_BENCH_ROWS`, `_ROUNDS` and `_RELADIFF_RUNS` change the extent, `DRIFTLINE_BENCH_RELADIFF` names reladiff's program.

mod bare;
mod copies;
mod pg_comparator;
mod reladiff;
mod rows;
mod scattered;
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
use stage::spread::Spread;
use stage::told;
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
    /// Both ends copied out by psql at the same time, wall seconds.
    copies: Vec<f64>,
    /// As `digest = "auto"` chooses.
    driftline: Vec<Cost>,
    pushdown: Vec<Cost>,
    client: Vec<Cost>,
    /// After a failover, the old primary back: equal, then rows that differ all over the table.
    scattered: Vec<scattered::Step>,
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
    pushdown_wall_seconds: Spread,
    client_wall_seconds: Spread,
    copies_wall_seconds: Spread,
    /// Medians of wall time.
    driftline_over_bare: f64,
    /// Medians of wall time.
    pushdown_over_bare: f64,
    /// Medians of wall time.
    client_over_copies: f64,
    /// Of each step of `scattered`: rows that differ, and the median of wall time over that of the equal step.
    scattered_over_equal: Vec<(u64, f64)>,
    /// Medians of wall time.
    reladiff_over_driftline: Option<f64>,
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

    let story = Story::start_with(stage::servers::without_background(fixture::DATABASE), rows::TABLE).await;
    let versions = Versions::of(story.pair.primary()).await?;
    say(format!("versions: {versions}"))?;
    let data = rows::load(&story.pair, extent).await?;
    say(format!("data: {data}"))?;
    let row_digest = bare::row_digest(&story, rows::NAME).await?;

    // Nothing is counted of the first time: both sides read their files into memory in it.
    bare::run(&story.pair, &row_digest, rows::NAME, data.rows).await?;
    reconcile(&story, data.rows, "auto").await?;
    let (mut bare, mut copies) = (Vec::new(), Vec::new());
    let (mut driftline, mut pushdown, mut client) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        bare.push(bare::run(&story.pair, &row_digest, rows::NAME, data.rows).await?);
        pushdown.push(reconcile(&story, data.rows, "pushdown").await?);
        copies.push(copies::run(&story)?);
        client.push(reconcile(&story, data.rows, "client").await?);
        driftline.push(reconcile(&story, data.rows, "auto").await?);
        say(format!(
            "round {round} of {rounds}: bare {:.2} s, pushdown {:.2} s; copies {:.2} s, client {:.2} s; auto {:.2} s",
            bare.last().map_or(0.0, |times| times.wall_seconds),
            last(&pushdown),
            copies.last().copied().unwrap_or_default(),
            last(&client),
            last(&driftline),
        ))?;
    }
    let reladiff = reladiff::run(&story, &data, reladiff_runs).await?;
    let with_many: u8 = stage::asked("DRIFTLINE_BENCH_MANY", 1)?;
    let scattered = scattered::run(&story, rounds.min(3), data.rows, with_many > 0).await?;

    let measured = Measured {
        bare: &bare,
        copies: &copies,
        driftline: &driftline,
        pushdown: &pushdown,
        client: &client,
        scattered: &scattered,
        reladiff: reladiff.as_ref(),
    };
    let summary = summarise(&measured).context("nothing was measured")?;
    tell(&summary, &data)?;
    let results = Results {
        machine,
        versions,
        row_digest,
        bare,
        copies,
        driftline,
        pushdown,
        client,
        scattered,
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
async fn reconcile(story: &Story, rows: u64, digest: &str) -> anyhow::Result<Cost> {
    let config = format!("{}[defaults.reconcile]\ndigest = \"{digest}\"\n", story.config());
    story.write_config(&config);
    let command = story.command(&["reconcile", "run", "--format", "json"]);
    let ended = watch(command, story.folder.path())
        .await?
        .expect(0)
        .context("driftline reconcile run")?;
    told::whole_and_equal(&ended.stdout, rows::NAME, rows)?;
    Ok(ended.cost)
}

fn last(costs: &[Cost]) -> f64 {
    costs.last().map_or(0.0, |cost| cost.wall_seconds)
}

/// What was measured, before anything is computed of it.
struct Measured<'a> {
    bare: &'a [bare::Times],
    copies: &'a [f64],
    driftline: &'a [Cost],
    pushdown: &'a [Cost],
    client: &'a [Cost],
    scattered: &'a [scattered::Step],
    reladiff: Option<&'a reladiff::Runs>,
}

fn wall(costs: &[Cost]) -> Option<Spread> {
    Spread::of(costs.iter().map(|cost| cost.wall_seconds))
}

fn summarise(measured: &Measured<'_>) -> Option<Summary> {
    let of = |figure: fn(&Cost) -> f64| Spread::of(measured.driftline.iter().map(figure));
    let bare_wall_seconds = Spread::of(measured.bare.iter().map(|times| times.wall_seconds))?;
    let copies_wall_seconds = Spread::of(measured.copies.iter().copied())?;
    let (pushdown_wall_seconds, client_wall_seconds) = (wall(measured.pushdown)?, wall(measured.client)?);
    let driftline_wall_seconds = wall(measured.driftline)?;
    let reladiff_wall_seconds = measured.reladiff.and_then(|runs| wall(&runs.costs));
    let steps: Vec<(u64, f64)> = measured
        .scattered
        .iter()
        .filter_map(|step| Some((step.differing, wall(&step.driftline)?.median)))
        .collect();
    let equal = steps.iter().find(|(differing, _)| *differing == 0)?.1;
    Some(Summary {
        driftline_over_bare: driftline_wall_seconds.median / bare_wall_seconds.median,
        pushdown_over_bare: pushdown_wall_seconds.median / bare_wall_seconds.median,
        client_over_copies: client_wall_seconds.median / copies_wall_seconds.median,
        scattered_over_equal: steps
            .iter()
            .map(|(differing, median)| (*differing, median / equal))
            .collect(),
        reladiff_over_driftline: reladiff_wall_seconds.map(|other| other.median / driftline_wall_seconds.median),
        bare_wall_seconds,
        copies_wall_seconds,
        pushdown_wall_seconds,
        client_wall_seconds,
        driftline_wall_seconds,
        driftline_cpu_seconds: of(|cost| cost.cpu_seconds)?,
        driftline_resident_peak_mb: Spread::of(
            [measured.driftline, measured.pushdown, measured.client]
                .into_iter()
                .flatten()
                .chain(measured.scattered.iter().flat_map(|step| &step.driftline))
                .map(|cost| cost.resident_peak_mb),
        )?,
        resident_peak_mb_goal: RESIDENT_MB_GOAL,
        reladiff_wall_seconds,
    })
}

fn tell(summary: &Summary, data: &rows::Data) -> anyhow::Result<()> {
    let line = |what: &str, spread: Spread| say(format!("{what:<40}{spread}"));
    say(format!("\n{data}\n{:<40}{:>8} {:>8} {:>8}", "", "median", "min", "max"))?;
    line("bare digests side by side, wall s", summary.bare_wall_seconds)?;
    line("driftline, pushdown, wall s", summary.pushdown_wall_seconds)?;
    line("bare copies side by side, wall s", summary.copies_wall_seconds)?;
    line("driftline, client, wall s", summary.client_wall_seconds)?;
    line("driftline, auto, wall s", summary.driftline_wall_seconds)?;
    line("driftline reconcile run, CPU s", summary.driftline_cpu_seconds)?;
    line("driftline, peak resident MB", summary.driftline_resident_peak_mb)?;
    match summary.reladiff_wall_seconds {
        Some(spread) => line("reladiff, 4 threads a database, wall s", spread)?,
        None => say("reladiff was not measured: DRIFTLINE_BENCH_RELADIFF does not name it; `make bench` does")?,
    }
    say(format!(
        "driftline takes {:.2} times the bare digests",
        summary.driftline_over_bare
    ))?;
    say(format!(
        "pushdown takes {:.2} times the bare digests, client {:.2} times the bare copies",
        summary.pushdown_over_bare, summary.client_over_copies
    ))?;
    for (differing, times) in &summary.scattered_over_equal {
        say(format!(
            "with {differing} rows that differ it takes {times:.2} times what equal sides take"
        ))?;
    }
    if let Some(times) = summary.reladiff_over_driftline {
        say(format!("reladiff takes {times:.2} times driftline"))?;
    }
    let is_met = summary.driftline_resident_peak_mb.max < RESIDENT_MB_GOAL;
    say(format!(
        "memory below {RESIDENT_MB_GOAL} MB: {}",
        if is_met { "met" } else { "MISSED" }
    ))
}

//! How the time of `reconcile run` grows with rows, and what wide and long rows cost, each beside the two bare digest queries.
//!
//! `DRIFTLINE_BENCH_ROWS` is the longest table (20,000,000), the others are a half, a quarter, a tenth and a twentieth of it; `_ROUNDS` are runs of each.

mod fit;
mod shapes;
#[path = "../stage/mod.rs"]
mod stage;

#[path = "../reconcile/bare.rs"]
mod bare;
#[expect(dead_code, reason = "the fixture of the end-to-end tests, which need more of it")]
#[path = "../../tests/cli/fixture.rs"]
mod fixture;

use anyhow::Context as _;
use serde::Serialize;

use fit::Line;
use fixture::Story;
use shapes::{Data, Shape};
use stage::machine::Machine;
use stage::record::say;
use stage::spread::Spread;
use stage::told;
use stage::versions::Versions;
use stage::watch::{Cost, watch};

/// The longest table is so many times each of the others.
const PARTS: [u64; 5] = [20, 10, 4, 2, 1];
/// The longest table is so many times those of wide and of long rows.
const WIDE_PART: u64 = 40;
const LONG_PART: u64 = 100;

#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    versions: Versions,
    tables: Vec<Measured>,
    /// Median wall time by rows, of the tables of six columns.
    fit: Line,
}

#[derive(Debug, Serialize)]
struct Measured {
    data: Data,
    bare: Vec<bare::Times>,
    driftline: Vec<Cost>,
    bare_wall_seconds: Spread,
    driftline_wall_seconds: Spread,
    resident_peak_mb: Spread,
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let rounds: u32 = stage::asked("DRIFTLINE_BENCH_ROUNDS", 3)?;
    let longest: u64 = stage::asked("DRIFTLINE_BENCH_ROWS", 20_000_000)?;
    say(format!("machine: {machine}"))?;
    let story = Story::start_with(stage::servers::without_background(fixture::DATABASE), "").await;
    let versions = Versions::of(story.pair.primary()).await?;
    say(format!("versions: {versions}"))?;

    let mut tables = Vec::new();
    for (shape, rows) in PARTS
        .map(|part| (Shape::Narrow, longest / part))
        .into_iter()
        .chain([(Shape::Wide, longest / WIDE_PART), (Shape::Long, longest / LONG_PART)])
    {
        let data = shapes::load(&story.pair, shape, rows).await?;
        say(format!("\n{data}"))?;
        tables.push(of_table(&story, data, rounds).await?);
        // What is not compared any more need not lie on the disk.
        shapes::drop_table(&story.pair, shape, rows).await?;
    }
    let narrow: Vec<(f64, f64)> = tables
        .iter()
        .filter(|table| table.data.shape == Shape::Narrow)
        .map(|table| (table.data.rows_in_millions(), table.driftline_wall_seconds.median))
        .collect();
    let fit = Line::through(&narrow).context("too few tables for a line")?;
    say(format!("\n{fit}"))?;
    let results = Results {
        machine,
        versions,
        tables,
        fit,
    };
    results.versions.keep(&format!("extent-{longest}"), &results)?;
    story.pair.shutdown().await;
    Ok(())
}

async fn of_table(story: &Story, data: Data, rounds: u32) -> anyhow::Result<Measured> {
    let row_digest = bare::row_digest(story, &data.name).await?;
    let (mut bare, mut driftline) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let floor = bare::run(&story.pair, &row_digest, &data.name, data.rows).await?;
        let cost = reconcile(story, &data).await?;
        if round == 0 {
            continue; // both sides read their files into memory in it
        }
        say(format!(
            "round {round} of {rounds}: bare {:.2} s, driftline {:.2} s, {:.1} MB",
            floor.wall_seconds, cost.wall_seconds, cost.resident_peak_mb
        ))?;
        bare.push(floor);
        driftline.push(cost);
    }
    let of = |figures: Vec<f64>| Spread::of(figures.into_iter()).context("no round was measured");
    let measured = Measured {
        bare_wall_seconds: of(bare.iter().map(|times| times.wall_seconds).collect())?,
        driftline_wall_seconds: of(driftline.iter().map(|cost| cost.wall_seconds).collect())?,
        resident_peak_mb: of(driftline.iter().map(|cost| cost.resident_peak_mb).collect())?,
        data,
        bare,
        driftline,
    };
    say(format!(
        "driftline takes {:.2} times the bare digests",
        measured.driftline_wall_seconds.median / measured.bare_wall_seconds.median
    ))?;
    Ok(measured)
}

/// Anything but "all rows counted and equal" is an error: its time would mean nothing.
async fn reconcile(story: &Story, data: &Data) -> anyhow::Result<Cost> {
    let ended = watch(
        story.command(&["reconcile", "run", "--format", "json"]),
        story.folder.path(),
    )
    .await?;
    let ended = ended.expect(0).context("driftline reconcile run")?;
    told::whole_and_equal(&ended.stdout, &data.name, data.rows)?;
    Ok(ended.cost)
}

//! Differences all over the table, between an old primary that came back and the side that took over.

use anyhow::Context as _;
use serde::Serialize;

use crate::fixture::{DATABASE, Story};
use crate::rows;
use crate::stage::record::say;
use crate::stage::told::of_table;
use crate::stage::watch::{Cost, watch};

/// One row of so many is changed, from one step to the next: what differs only grows.
const STEPS: [u64; 2] = [1_000, 100];
/// Memory is looked at with about so many divergences, where the table has as many rows.
const MANY: u64 = 2_000_000;

/// Runs with as many rows that differ.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Rows that differ, all of them listed.
    pub(crate) differing: u64,
    pub(crate) driftline: Vec<Cost>,
    /// Once each. Neither is asked for the two million: reladiff had not ended after half an hour.
    pub(crate) reladiff: Option<Vec<Cost>>,
    pub(crate) pg_comparator: Option<Vec<Cost>>,
}

/// Promotes the standby, takes the old primary back, and compares: equal, then with ever more rows that differ.
pub(crate) async fn run(story: &Story, rounds: u32, rows: u64, with_many: bool) -> anyhow::Result<Vec<Step>> {
    crate::pg_comparator::prepare(story).await?;
    story.pair.promote().await?;
    story.pair.return_old_primary().await?;
    let mut steps = vec![beside_others(story, rounds, rows, 0).await?];
    for one_of in STEPS {
        plant(story, &format!("id % {one_of} = 0")).await?;
        steps.push(beside_others(story, rounds, rows, rows / one_of).await?);
    }
    if with_many && rows > MANY {
        plant(story, &format!("id <= {MANY}")).await?;
        let beyond = (MANY + 1..=rows).filter(|id| id % 100 == 0).count();
        steps.push(step(story, 1, rows, MANY + u64::try_from(beyond)?).await?);
    }
    Ok(steps)
}

async fn plant(story: &Story, which: &str) -> anyhow::Result<()> {
    let client = story.pair.standby().client(DATABASE).await?;
    for statement in [
        format!("update {} set amount = -1 where {which}", rows::NAME),
        format!("vacuum (freeze, analyze) {}", rows::NAME),
    ] {
        client
            .batch_execute(&statement)
            .await
            .with_context(|| statement.clone())?;
    }
    Ok(())
}

async fn beside_others(story: &Story, rounds: u32, rows: u64, differing: u64) -> anyhow::Result<Step> {
    Ok(Step {
        pg_comparator: crate::pg_comparator::differing(story, rows, differing).await?,
        reladiff: crate::reladiff::differing(story, rows, differing).await?,
        ..step(story, rounds, rows, differing).await?
    })
}

async fn step(story: &Story, rounds: u32, rows: u64, differing: u64) -> anyhow::Result<Step> {
    let mut driftline = Vec::new();
    for round in 0..=rounds {
        let cost = reconcile(story, rows, differing).await?;
        if round == 0 && differing == 0 {
            continue; // both sides read their files into memory in it
        }
        say(format!(
            "{differing} rows differ: driftline {:.2} s, {:.1} MB",
            cost.wall_seconds, cost.resident_peak_mb
        ))?;
        driftline.push(cost);
    }
    Ok(Step {
        differing,
        driftline,
        reladiff: None,
        pg_comparator: None,
    })
}

/// A time counts only if every row was counted, and exactly what was planted was found.
async fn reconcile(story: &Story, rows: u64, differing: u64) -> anyhow::Result<Cost> {
    let args = ["reconcile", "run", "--relation", "independent", "--format", "json"];
    let ended = watch(story.command(&args), story.folder.path()).await?;
    let ended = ended.expect(i32::from(differing > 0))?;
    let ours = of_table(&ended.stdout, rows::NAME)?;
    let is_whole = ours["primary_rows"] == rows && ours["secondary_rows"] == rows && ours["confirmed"] == differing;
    anyhow::ensure!(is_whole, "driftline did not find {differing} of {rows} rows: {ours}");
    Ok(ended.cost)
}

//! reladiff over the same pair.

use std::process::Command;

use anyhow::Context as _;
use lab::PgServer;
use serde::Serialize;

use crate::fixture::{DATABASE, Story};
use crate::rows::{self, Data};
use crate::stage::record::say;
use crate::stage::watch::{Cost, Ended, watch};

/// Worker threads for each database.
const THREADS: &str = "4";

/// All runs of it.
#[derive(Debug, Serialize)]
pub(crate) struct Runs {
    version: String,
    arguments: Vec<String>,
    pub(crate) costs: Vec<Cost>,
}

/// Compares the same table with reladiff, `runs` times; `None` when `DRIFTLINE_BENCH_RELADIFF` does not name its program.
pub(crate) async fn run(story: &Story, data: &Data, runs: u32) -> anyhow::Result<Option<Runs>> {
    let Some(program) = Program::named(story)? else {
        return Ok(None);
    };
    let command = |args: &[&str]| program.command(args);
    let said = watch(command(&["--version"]), story.folder.path()).await?.expect(0)?;
    let arguments = arguments();
    let mut costs = Vec::new();
    for round in 1..=runs {
        let ended = program.compare(story, &arguments).await?;
        check(&ended.stdout, data.rows, 0)?;
        let cost = ended.cost;
        say(format!(
            "reladiff {round} of {runs}: {:.2} s, {:.1} MB",
            cost.wall_seconds, cost.resident_peak_mb
        ))?;
        costs.push(cost);
    }
    Ok(Some(Runs {
        version: said.stdout.trim().to_owned(),
        arguments,
        costs,
    }))
}

/// Compares tables of which so many rows differ, once; `None` when the program is not named.
pub(crate) async fn differing(story: &Story, rows: u64, differing: u64) -> anyhow::Result<Option<Vec<Cost>>> {
    let Some(program) = Program::named(story)? else {
        return Ok(None);
    };
    let ended = program.compare(story, &arguments()).await?;
    check(&ended.stdout, rows, differing)?;
    let cost = ended.cost;
    say(format!("{differing} rows differ: reladiff {:.2} s", cost.wall_seconds))?;
    Ok(Some(vec![cost]))
}

/// The program, and what it logs in with.
struct Program {
    path: std::ffi::OsString,
    password: String,
}

impl Program {
    fn named(story: &Story) -> anyhow::Result<Option<Self>> {
        let Some(path) = std::env::var_os("DRIFTLINE_BENCH_RELADIFF") else {
            return Ok(None);
        };
        let password = std::fs::read_to_string(story.path("password")).context("read the password of the role")?;
        Ok(Some(Self { path, password }))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        // The password is no argument: anybody can read those.
        command
            .args(args)
            .env("PGPASSWORD", &self.password)
            .env("PGSSLMODE", "require");
        command
    }

    async fn compare(&self, story: &Story, arguments: &[String]) -> anyhow::Result<Ended> {
        let url = |server: &PgServer| server.url("driftline", DATABASE);
        let (a, b) = (url(story.pair.primary()), url(story.pair.standby()));
        let mut args = vec![a.as_str(), rows::NAME, b.as_str(), rows::NAME];
        args.extend(arguments.iter().map(String::as_str));
        watch(self.command(&args), story.folder.path())
            .await?
            .expect(0)
            .context("reladiff")
    }
}

/// Behind the two databases and tables: all columns, as driftline compares them.
fn arguments() -> Vec<String> {
    let mut arguments = vec!["--key-columns", "id"];
    for column in rows::BODY {
        arguments.extend(["--columns", column]);
    }
    arguments.extend(["--threads", THREADS, "--stats", "--json"]);
    arguments.into_iter().map(str::to_owned).collect()
}

/// A time counts only if it saw all rows, and as many that differ.
fn check(stdout: &str, rows: u64, differing: u64) -> anyhow::Result<()> {
    let told: serde_json::Value =
        serde_json::from_str(stdout.trim()).with_context(|| format!("reladiff said {stdout}"))?;
    let is_whole = told["rows_A"] == rows && told["rows_B"] == rows && told["total"] == differing;
    anyhow::ensure!(is_whole, "reladiff did not find {differing} of {rows} rows: {told}");
    Ok(())
}

//! pg_comparator over the pair after its failover. It writes tables of checksums of its own, so that it cannot compare a standby.

use std::process::Command;

use anyhow::Context as _;
use lab::PgServer;

use crate::fixture::{DATABASE, Story};
use crate::rows;
use crate::stage::record::say;
use crate::stage::watch::{Cost, watch};

/// The variables of its two passwords begin with it.
const PASSWORDS: &str = "PG_COMPARATOR_PASSWORD";
/// It folds checksums to a tree, and gives up where more rows differ than this share of all.
const MAX_RATIO: &str = "2";

/// Loads the functions that it hashes with; before the failover, so that both ends have them.
pub(crate) async fn prepare(story: &Story) -> anyhow::Result<()> {
    if program().is_none() {
        return Ok(());
    }
    let sql = "create extension pgcmp";
    story.pair.primary().execute(DATABASE, sql).await.context(sql)
}

/// Compares tables of which so many rows differ, once; `None` when `DRIFTLINE_BENCH_PG_COMPARATOR` does not name its program.
pub(crate) async fn differing(story: &Story, rows: u64, differing: u64) -> anyhow::Result<Option<Vec<Cost>>> {
    let Some(program) = program() else {
        return Ok(None);
    };
    let (a, b) = (story.pair.primary(), story.pair.standby());
    let mut command = Command::new(program);
    command
        .args(["--stats=txt", "--pg-text-cast", "--max-ratio", MAX_RATIO])
        .arg(format!("--env-pass={PASSWORDS}"))
        .args([url(a), url(b)])
        .env(format!("{PASSWORDS}1"), a.password())
        .env(format!("{PASSWORDS}2"), b.password())
        .env("PGSSLMODE", "require");
    let ended = watch(command, story.folder.path()).await?.expect(0);
    let ended = ended.context("pg_comparator")?;
    let told = |name: &str| stated(&ended.stdout, name).or_else(|| stated(&ended.stderr, name));
    anyhow::ensure!(
        told("table size:") == Some(rows) && told("diffs found:") == Some(differing),
        "pg_comparator did not find {differing} of {rows} rows: {}",
        ended.stderr
    );
    say(format!(
        "{differing} rows differ: pg_comparator {:.2} s",
        ended.cost.wall_seconds
    ))?;
    Ok(Some(vec![ended.cost]))
}

fn program() -> Option<std::ffi::OsString> {
    std::env::var_os("DRIFTLINE_BENCH_PG_COMPARATOR")
}

/// All columns, as driftline compares them.
fn url(server: &PgServer) -> String {
    format!(
        "pgsql://postgres@127.0.0.1:{}/{DATABASE}/{}?id:{}",
        server.port(),
        rows::NAME,
        rows::BODY.join(",")
    )
}

/// A figure of its statistics.
fn stated(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
    line.trim().parse().ok()
}

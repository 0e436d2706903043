//! The floor of hashing here: all rows copied out of both ends at the same time, by psql, and thrown away.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use lab::PgServer;

use crate::fixture::{DATABASE, Story};
use crate::rows;

/// Copies the whole table out of both ends at the same time; wall time in seconds.
pub(crate) fn run(story: &Story) -> anyhow::Result<f64> {
    let password = std::fs::read_to_string(story.path("password")).context("read the password of the role")?;
    let sql = format!("copy (select * from only {}) to stdout (format binary)", rows::NAME);
    let copy = |server: &PgServer| {
        Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", &sql])
            .arg(server.url("driftline", DATABASE))
            .env("PGPASSWORD", &password)
            .env("PGSSLMODE", "require")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start psql")
    };
    let begun = Instant::now();
    let mut both = [copy(story.pair.primary())?, copy(story.pair.standby())?];
    for one in &mut both {
        let status = one.wait().context("wait for psql")?;
        anyhow::ensure!(status.success(), "psql ended with {status}");
    }
    Ok(begun.elapsed().as_secs_f64())
}

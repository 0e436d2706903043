//! What `driftline reconcile run --format json` says of one table.

use anyhow::Context as _;
use serde_json::Value;

/// The entry of the table `name` in what was printed.
pub(crate) fn of_table(stdout: &str, name: &str) -> anyhow::Result<Value> {
    let told: Value = serde_json::from_str(stdout).context("what driftline printed")?;
    let collections = told["results"][0]["collections"].as_array();
    let ours = collections.and_then(|all| all.iter().find(|one| one["collection"] == name));
    ours.cloned().context("driftline did not name the table")
}

/// An error unless all rows were counted at both ends and are equal: a time would mean nothing.
pub(crate) fn whole_and_equal(stdout: &str, name: &str, rows: u64) -> anyhow::Result<()> {
    let ours = of_table(stdout, name)?;
    let is_whole = ours["state"] == "verified" && ours["primary_rows"] == rows && ours["secondary_rows"] == rows;
    anyhow::ensure!(is_whole, "driftline did not verify {rows} rows: {ours}");
    Ok(())
}

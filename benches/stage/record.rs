//! The record of a run: lines for a person, raw results as JSON.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::machine::Versions;

/// Says one line to whoever runs the benchmark.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("write to standard output")
}

/// Keeps the raw results as `benches/results/NAME.json`. Only what is shipped is recorded: a debug build never replaces its figures.
pub(crate) fn keep(name: &str, versions: &Versions, results: &impl Serialize) -> anyhow::Result<()> {
    if !versions.is_dist() {
        return say("not recorded: only `--profile dist` is, which is what `make bench` runs");
    }
    let path = Path::new("benches/results").join(name).with_extension("json");
    let mut text = serde_json::to_string_pretty(results).context("results as JSON")?;
    text.push('\n');
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(&path), text)
        .with_context(|| format!("write {}", path.display()))?;
    say(format!("recorded in {}", path.display()))
}

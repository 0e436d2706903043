//! The record of a run: lines for a person, raw results as JSON.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// Says one line to whoever runs the benchmark.
pub(crate) fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("write to standard output")
}

/// Keeps the raw results as `benches/results/NAME.json`.
pub(crate) fn write(name: &str, results: &impl Serialize) -> anyhow::Result<()> {
    // Some benchmarks belong to a member of the workspace.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here
        .ancestors()
        .map(|folder| folder.join("benches/results"))
        .find(|folder| folder.is_dir())
        .context("find benches/results")?;
    let path = folder.join(name).with_extension("json");
    let mut text = serde_json::to_string_pretty(results).context("results as JSON")?;
    text.push('\n');
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    say(format!("recorded in benches/results/{name}.json"))
}

/// Whether a goal is met, in words.
pub(crate) fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

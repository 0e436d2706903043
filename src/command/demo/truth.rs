//! What was planted, against what was found.

use std::path::Path;

use anyhow::{Context as _, Result};
use lab::{Mismatches, Planted, Truth};
use reconcile::State;
use reports::render::Findings;
use reports::tables::{DivergenceRow, Span, read};

/// Every confirmed divergence of one result, as its Parquet tells.
pub(super) fn found(output: &Path, findings: &Findings) -> Result<Vec<Planted>> {
    let mut found = Vec::new();
    for row in read::<DivergenceRow>(output, Span::ALL).context("read the divergences table")? {
        let row = row.context("read the divergences table")?;
        if row.run_id != findings.run_id || row.dataset != findings.dataset || row.state != State::Confirmed {
            continue;
        }
        found.push(Planted {
            collection: row.collection,
            key: row.key.unwrap_or_default(),
            class: row.class.word().to_owned(),
            origin: row.origin.map(|origin| origin.word().to_owned()),
        });
    }
    Ok(found)
}

/// A table of planted against found, by class and origin, and the mismatches.
pub(super) fn against(truth: &Truth, found: &[Planted]) -> (String, Mismatches) {
    let mut kinds: Vec<(String, String)> = truth.divergences.iter().chain(found).map(kind).collect();
    kinds.sort();
    kinds.dedup();
    let count = |all: &[Planted], wanted: &(String, String)| all.iter().filter(|one| kind(one) == *wanted).count();
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["origin", "class", "planted", "found"]);
    for wanted in &kinds {
        table.add_row([
            wanted.0.clone(),
            wanted.1.clone(),
            count(&truth.divergences, wanted).to_string(),
            count(found, wanted).to_string(),
        ]);
    }
    (table.to_string(), truth.compare(found))
}

fn kind(one: &Planted) -> (String, String) {
    (one.origin.clone().unwrap_or_default(), one.class.clone())
}

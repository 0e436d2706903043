//! Writes what the checks in `tests/parquet` read: `FOLDER/contract.json`, specimens of every table under `FOLDER/output`, and under
//! `FOLDER/story` some runs whose views have known answers.

use std::error::Error;
use std::path::{Path, PathBuf};

use reconcile::{CoverageState, State};
use reports::tables::{
    AtMicros, CoverageRow, DivergenceRow, FileName, LagIntervalRow, RunKind, RunRow, RunStatus, TableError,
    replace_rows, specimen, write_specimens,
};
use reports::views::write_views;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or("usage: parquet_contract FOLDER")?;
    let output = folder.join("output");
    std::fs::create_dir_all(&output)?;
    std::fs::write(folder.join("contract.json"), reports::tables::contract_json())?;
    write_specimens(&output)?;
    write_views(&output)?;

    let story = folder.join("story");
    std::fs::create_dir_all(&story)?;
    tell_runs(&story)?;
    tell_lag(&story)?;
    write_views(&story)?;
    Ok(())
}

/// One reconciliation of `public.orders`.
struct Told {
    /// Last digit of the run; later runs have greater ones.
    nth: u8,
    /// The stated writer; the other site is the secondary.
    primary_site: &'static str,
    /// The result, and why it is not whole.
    state: CoverageState,
    reason: Option<&'static str>,
    /// Keys listed as different.
    keys: &'static [u8],
    /// Whether the run came to its commit mark.
    is_committed: bool,
}

/// Keys 1, 2 and 9 differ; the sites swap roles; a part of the collection is compared again and shows 2 and 3; a run that died lists 4.
/// `public.notes` differed once and was equal afterwards.
fn tell_runs(output: &Path) -> Result<(), TableError> {
    let diverged = CoverageState::Diverged;
    let cut = Some("cut_short: it ended early");
    let orders = [
        told(1, "use1", diverged, None, &[1, 8], true),
        told(2, "use1", diverged, None, &[1, 2, 9], true),
        told(3, "usw2", diverged, cut, &[2, 3], true),
        told(4, "usw2", CoverageState::Verified, None, &[4], false),
    ];
    let notes = [
        told(1, "use1", diverged, None, &[5], true),
        told(2, "use1", CoverageState::Verified, None, &[], true),
        told(3, "usw2", CoverageState::Skipped, None, &[], true),
    ];
    for told in &orders {
        tell_collection(output, "public.orders", told)?;
        if told.is_committed {
            tell_run(output, told)?;
        }
    }
    notes
        .iter()
        .try_for_each(|told| tell_collection(output, "public.notes", told))
}

fn told(
    nth: u8,
    primary_site: &'static str,
    state: CoverageState,
    reason: Option<&'static str>,
    keys: &'static [u8],
    is_committed: bool,
) -> Told {
    Told {
        nth,
        primary_site,
        state,
        reason,
        keys,
        is_committed,
    }
}

impl Told {
    fn run_id(&self) -> String {
        format!("01a1fb67-1800-7000-8000-00000000000{}", self.nth)
    }

    fn sites(&self) -> [String; 2] {
        let other = if self.primary_site == "use1" { "usw2" } else { "use1" };
        [self.primary_site.to_owned(), other.to_owned()]
    }
}

fn tell_collection(output: &Path, collection: &str, told: &Told) -> Result<(), TableError> {
    let [primary_site, secondary_site] = told.sites();
    let coverage = CoverageRow {
        run_id: told.run_id(),
        dataset: "payments".to_owned(),
        primary_site: primary_site.clone(),
        secondary_site: secondary_site.clone(),
        collection: collection.to_owned(),
        state: told.state,
        reason: told.reason.map(str::to_owned),
        ..specimen()?
    };
    let template: DivergenceRow = specimen()?;
    let divergences = told.keys.iter().map(|key| DivergenceRow {
        run_id: told.run_id(),
        dataset: "payments".to_owned(),
        primary_site: primary_site.clone(),
        secondary_site: secondary_site.clone(),
        collection: collection.to_owned(),
        chunk_id: Some(0),
        key: Some(format!("{{\"id\":{key}}}")),
        state: State::Confirmed,
        ..template.clone()
    });
    let name = || FileName::of_part(&told.run_id(), collection);
    replace_rows(output, name(), [coverage])?;
    replace_rows(output, name(), divergences).map(|_| ())
}

fn tell_run(output: &Path, told: &Told) -> Result<(), TableError> {
    let [primary_site, secondary_site] = told.sites();
    let template: RunRow = specimen()?;
    let run = RunRow {
        run_id: told.run_id(),
        dataset: Some("payments".to_owned()),
        primary_site: Some(primary_site),
        secondary_site: Some(secondary_site),
        kind: RunKind::Reconcile,
        started_at: AtMicros(template.started_at.0 + i64::from(told.nth)),
        status: RunStatus::Succeeded,
        ..template
    };
    reports::runs::write_run(output, run).map(|_| ())
}

/// Two minutes, the newer one in two revisions.
fn tell_lag(output: &Path) -> Result<(), TableError> {
    let template: LagIntervalRow = specimen()?;
    let start_us = template.interval_start.0;
    let rows = [(0, 0, 10), (1, 0, 20), (1, 1, 21)].map(|(minute, revision, seen)| LagIntervalRow {
        interval_start: AtMicros(start_us - 120_000_000 + minute * 60_000_000),
        revision,
        seen,
        ..template.clone()
    });
    let name = FileName::of_part(&template.run_id, "000000");
    replace_rows(output, name, rows).map(|_| ())
}

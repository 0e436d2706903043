//! The `runs` table: which runs there were, how they ended, and which of them count.
//!
//! For `reconcile`, `rpo` and `gate` the row is written once, last: it is the commit mark, and rows of other tables whose run has none do
//! not count. A probe writes its row when it starts (`running`) and again when it ends (revision + 1); a row found open by the next start on
//! the same host belongs to a process that died, and is marked `killed`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::tables::{AtMicros, FileName, RunKind, RunRow, RunStatus, Span, TableError, read, replace_rows};

/// A new run ID: UUIDv7 text, so that runs sort by time.
pub fn new_run_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl RunRow {
    /// A run that begins: revision 0, `running`, nothing known yet but what is given here.
    pub fn begin(kind: RunKind, run_id: String, started_at_us: i64, executed_by: String, host: String) -> Self {
        Self {
            run_id,
            dataset: None,
            store: None,
            primary_site: None,
            secondary_site: None,
            kind,
            revision: 0,
            parent_run_id: None,
            event_id: None,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            config_sha256: None,
            dataset_fingerprints: "{}".to_owned(),
            sites: "{}".to_owned(),
            relation: None,
            key_hash_id: None,
            miss_probability: None,
            executed_by,
            host,
            started_at: AtMicros(started_at_us),
            finished_at: None,
            status: RunStatus::Running,
            complete: false,
            exit_code: None,
        }
    }

    /// The same run at its end. A row that was written before (a probe's) gets the next revision by [`RunRow::next_revision`].
    #[must_use]
    pub fn end(mut self, status: RunStatus, complete: bool, exit_code: u8, finished_at_us: i64) -> Self {
        self.status = status;
        self.complete = complete;
        self.exit_code = Some(exit_code.into());
        self.finished_at = Some(AtMicros(finished_at_us));
        self
    }

    /// The same row as the next revision.
    #[must_use]
    pub fn next_revision(mut self) -> Self {
        self.revision += 1;
        self
    }

    /// Whether it is a reconciliation that looked at less than its datasets: at the keys of an earlier run, or at one side alone. No gate and
    /// no gauge takes it for a comparison of both copies.
    pub fn is_narrow(&self) -> bool {
        self.kind == RunKind::Reconcile && self.parent_run_id.is_some()
    }

    /// Whether rows of other tables with this run ID count.
    pub fn commits(&self) -> bool {
        match self.kind {
            // Files of a probe count one by one.
            RunKind::Probe => true,
            RunKind::Reconcile | RunKind::Rpo | RunKind::Event | RunKind::Gate => self.status != RunStatus::Running,
        }
    }
}

/// Writes one revision of a run into a file of its own. The same revision again replaces it.
///
/// # Errors
/// Unwritable output.
pub fn write_run(output: &Path, run: RunRow) -> Result<Vec<PathBuf>, TableError> {
    let name = FileName::of_part(&run.run_id, &format!("r{}", run.revision));
    replace_rows(output, name, [run])
}

/// Every run that started in `span`, at its highest revision, oldest first. One run is one row in memory.
///
/// # Errors
/// Unreadable output.
pub fn latest_runs(output: &Path, span: Span) -> Result<Vec<RunRow>, TableError> {
    let mut runs: BTreeMap<String, RunRow> = BTreeMap::new();
    for run in read::<RunRow>(output, span)? {
        let run = run?;
        if runs.get(&run.run_id).is_none_or(|known| known.revision < run.revision) {
            runs.insert(run.run_id.clone(), run);
        }
    }
    let mut runs: Vec<RunRow> = runs.into_values().collect();
    runs.sort_by(|a, b| (a.started_at, &a.run_id).cmp(&(b.started_at, &b.run_id)));
    Ok(runs)
}

/// Probes of `host` whose last word is `running`. The caller, who holds the ledger's lock, knows that none of them lives.
///
/// # Errors
/// Unreadable output.
pub fn open_probes(output: &Path, host: &str) -> Result<Vec<RunRow>, TableError> {
    let mut open = latest_runs(output, Span::ALL)?;
    open.retain(|run| run.kind == RunKind::Probe && run.status == RunStatus::Running && run.host == host);
    Ok(open)
}

/// Marks the open probes of `host` as `killed`: no exit code and no end, since nobody saw them. Returns the rows as marked.
///
/// # Errors
/// Unreadable or unwritable output.
pub fn mark_killed(output: &Path, host: &str) -> Result<Vec<RunRow>, TableError> {
    let mut marked = Vec::new();
    for run in open_probes(output, host)? {
        let mut run = run.next_revision();
        run.status = RunStatus::Killed;
        write_run(output, run.clone())?;
        marked.push(run);
    }
    Ok(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED_US: i64 = 1_795_219_200_000_000;

    fn probe(host: &str) -> RunRow {
        RunRow::begin(
            RunKind::Probe,
            new_run_id(),
            STARTED_US,
            "ops".to_owned(),
            host.to_owned(),
        )
    }

    #[test]
    fn the_highest_revision_of_a_run_is_the_truth() {
        let output = tempfile::tempdir().unwrap();
        let start = probe("a");
        write_run(output.path(), start.clone()).unwrap();
        let end = start
            .clone()
            .next_revision()
            .end(RunStatus::Succeeded, true, 0, STARTED_US + 60_000_000);
        write_run(output.path(), end.clone()).unwrap();
        assert_eq!(latest_runs(output.path(), Span::ALL).unwrap(), [end]);
        assert_eq!(open_probes(output.path(), "a").unwrap(), []);
        // Both revisions stay as files: nothing was overwritten.
        assert_eq!(read::<RunRow>(output.path(), Span::ALL).unwrap().count(), 2);
    }

    #[test]
    fn the_next_start_marks_what_died_on_its_own_host_alone() {
        let output = tempfile::tempdir().unwrap();
        let (mine, other) = (probe("a"), probe("b"));
        write_run(output.path(), mine.clone()).unwrap();
        write_run(output.path(), other.clone()).unwrap();
        let marked = mark_killed(output.path(), "a").unwrap();
        assert_eq!(marked.len(), 1);
        assert_eq!(
            (marked[0].run_id.as_str(), marked[0].revision),
            (mine.run_id.as_str(), 1)
        );
        let runs = latest_runs(output.path(), Span::ALL).unwrap();
        let status = |id: &str| runs.iter().find(|run| run.run_id == id).map(|run| run.status);
        assert_eq!(status(&mine.run_id), Some(RunStatus::Killed));
        assert_eq!(status(&other.run_id), Some(RunStatus::Running));
        assert_eq!(mark_killed(output.path(), "a").unwrap(), []);
    }
}

//! The newest reconciliation of each dataset and pair, as a running probe tells it.
//!
//! A look walks back from the newest date to the newest complete comparison of every pair that is asked about, so it costs what has been
//! written since then, not what the folder holds.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reconcile::CoverageState;

use crate::runs::latest_runs;
use crate::tables::{CoverageRow, Row, RunKind, RunRow, RunStatus, Span, TableError, dates, read};

/// Dates that one look reads at most: a complete comparison further back is older than any bound that is of use.
pub const DATES_MAX: usize = 400;

/// Rows of `coverage` whose run has not been met yet that are held at once.
pub const ROWS_HELD_MAX: usize = 100_000;

/// A dataset over two sites. Comparisons belong to pairs, so the order of the sites says nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Compared {
    /// The dataset.
    pub dataset: String,
    /// The kind of store.
    pub store: String,
    sites: [String; 2],
}

impl Compared {
    /// A dataset over these two sites.
    pub fn new(dataset: &str, store: &str, one_site: &str, other_site: &str) -> Self {
        let mut sites = [one_site.to_owned(), other_site.to_owned()];
        sites.sort();
        Self {
            dataset: dataset.to_owned(),
            store: store.to_owned(),
            sites,
        }
    }

    /// The two sites in the order of their names.
    pub fn sites(&self) -> &[String; 2] {
        &self.sites
    }
}

/// What the newest comparisons of a pair tell. `None`: nothing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// The stated writer in the newest comparison, and the other site.
    pub sites: [String; 2],
    /// When the newest complete comparison ended, microseconds since 1970 UTC.
    pub last_success_at_us: Option<i64>,
    /// Confirmed divergences, each collection's by the newest comparison that decided it: one that could not look again takes none back.
    pub divergences_confirmed: Option<u64>,
    /// Collections that the newest comparison was to verify and could not.
    pub collections_unverified: u64,
}

/// Reads what the newest comparisons of the wanted pairs tell. A pair that was never compared is absent.
///
/// # Errors
/// A file cannot be read. Nothing is told then: what the file holds may be the newest.
pub fn newest(output: &Path, wanted: &BTreeSet<Compared>) -> Result<BTreeMap<Compared, Newest>, TableError> {
    let mut pairs: BTreeMap<Compared, Pair> = BTreeMap::new();
    let mut held: BTreeMap<String, Vec<CoverageRow>> = BTreeMap::new();
    let mut held_count = 0;
    let mut waiting: Vec<RunRow> = Vec::new();
    let mut all: BTreeSet<_> = dates(output, RunRow::table().name)?.into_iter().collect();
    all.extend(dates(output, CoverageRow::table().name)?);
    for date in all.into_iter().rev().take(DATES_MAX) {
        let span = Span {
            from: Some(date),
            to: Some(date),
        };
        for row in read::<CoverageRow>(output, span)? {
            let row = row?;
            if !wanted.contains(&compared(&row)) {
                continue;
            }
            if held_count >= ROWS_HELD_MAX {
                let problem =
                    format!("more than {ROWS_HELD_MAX} rows of runs that are under way or died; move old ones away");
                return Err(TableError::unreadable(&output.join(CoverageRow::table().name), problem));
            }
            held_count += 1;
            held.entry(row.run_id.clone()).or_default().push(row);
        }
        // A collection is begun after its run, by a clock that may be behind that of the run's host: so a run waits for one date more.
        for run in std::mem::replace(&mut waiting, latest_runs(output, span)?)
            .into_iter()
            .rev()
        {
            let Some(rows) = held.remove(&run.run_id) else { continue };
            held_count -= rows.len();
            take(&mut pairs, &run, rows);
        }
        let is_known = |one: &Compared| pairs.get(one).is_some_and(|pair| pair.last_success_at_us.is_some());
        if wanted.iter().all(is_known) {
            break;
        }
    }
    // No date is left for these to wait for, or what they tell is older than what is known.
    for run in waiting.into_iter().rev() {
        if let Some(rows) = held.remove(&run.run_id) {
            take(&mut pairs, &run, rows);
        }
    }
    Ok(pairs
        .into_iter()
        .map(|(compared, pair)| (compared, pair.tell()))
        .collect())
}

fn compared(row: &CoverageRow) -> Compared {
    Compared::new(&row.dataset, &row.store, &row.primary_site, &row.secondary_site)
}

/// Takes up a run that is older than those before.
fn take(pairs: &mut BTreeMap<Compared, Pair>, run: &RunRow, rows: Vec<CoverageRow>) {
    if run.kind != RunKind::Reconcile || !run.commits() || run.is_narrow() {
        return;
    }
    let mut by_pair: BTreeMap<Compared, Vec<CoverageRow>> = BTreeMap::new();
    for row in rows {
        by_pair.entry(compared(&row)).or_default().push(row);
    }
    for (compared, rows) in by_pair {
        let pair = pairs.entry(compared).or_insert_with(|| Pair::begin(&rows));
        pair.take(run, &rows);
    }
}

/// One pair, from its newest comparison back.
struct Pair {
    sites: [String; 2],
    last_success_at_us: Option<i64>,
    collections: BTreeMap<String, Collection>,
    /// Whether a run that came to its end has told what there is: what only older ones name is gone.
    is_listed: bool,
    is_begun: bool,
}

/// What is known of a collection.
struct Collection {
    confirmed: Option<u64>,
    /// Older comparisons do not count any more.
    is_decided: bool,
    is_unverified: bool,
}

impl Pair {
    fn begin(rows: &[CoverageRow]) -> Self {
        let site = |of: fn(&CoverageRow) -> &String| rows.first().map(of).cloned().unwrap_or_default();
        Self {
            sites: [site(|row| &row.primary_site), site(|row| &row.secondary_site)],
            last_success_at_us: None,
            collections: BTreeMap::new(),
            is_listed: false,
            is_begun: false,
        }
    }

    fn take(&mut self, run: &RunRow, rows: &[CoverageRow]) {
        if self.last_success_at_us.is_some() {
            return;
        }
        for row in rows.iter().filter(|row| row.state != CoverageState::Skipped) {
            let is_decided = is_decided(row);
            let collection = match self.collections.entry(row.collection.clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if self.is_listed => continue,
                // What the newest comparison did not come to is as unverified as what it could not read.
                Entry::Vacant(new) => new.insert(Collection {
                    confirmed: None,
                    is_decided: false,
                    is_unverified: self.is_begun || !is_decided,
                }),
            };
            if !collection.is_decided && (is_decided || row.confirmed > 0) {
                collection.confirmed = collection.confirmed.max(Some(row.confirmed));
            }
            collection.is_decided |= is_decided;
        }
        self.is_begun = true;
        let has_ended = run.status == RunStatus::Succeeded;
        self.is_listed |= has_ended;
        if has_ended && is_whole(rows) {
            self.last_success_at_us = run.finished_at.map(|at| at.0);
        }
    }

    fn tell(self) -> Newest {
        let of = |collection: &Collection| collection.confirmed;
        Newest {
            sites: self.sites,
            last_success_at_us: self.last_success_at_us,
            divergences_confirmed: self.collections.values().filter_map(of).reduce(u64::saturating_add),
            collections_unverified: self
                .collections
                .values()
                .map(|collection| u64::from(collection.is_unverified))
                .sum(),
        }
    }
}

fn is_decided(row: &CoverageRow) -> bool {
    matches!(row.state, CoverageState::Verified | CoverageState::Diverged)
        && row.chunks_failed == 0
        && row.volatile == 0
        && row.unverified == 0
}

/// Whether everything that was selected was verified or shown to differ, and there was something.
fn is_whole(rows: &[CoverageRow]) -> bool {
    let mut looked_at = rows.iter().filter(|row| row.state != CoverageState::Skipped).peekable();
    looked_at.peek().is_some() && looked_at.all(is_decided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::MIDNIGHT_US;
    use crate::tables::{AtMicros, FileName, replace_rows};

    const DAY_US: i64 = 86_400_000_000;

    fn row(run_id: &str, at_us: i64, collection: &str, state: CoverageState, confirmed: u64) -> CoverageRow {
        CoverageRow {
            run_id: run_id.to_owned(),
            dataset: "shop".to_owned(),
            store: "aurora".to_owned(),
            primary_site: "a".to_owned(),
            secondary_site: "b".to_owned(),
            collection: collection.to_owned(),
            primary_collection: None,
            secondary_collection: None,
            labels: "{}".to_owned(),
            scope: None,
            fence: None,
            state,
            reason: (state != CoverageState::Verified).then(|| "why".to_owned()),
            primary_rows: None,
            secondary_rows: None,
            primary_bytes: None,
            secondary_bytes: None,
            canaries_excluded: 0,
            chunks_total: 1,
            chunks_equal: 0,
            chunks_different: 0,
            chunks_failed: 0,
            confirmed,
            volatile: 0,
            unverified: 0,
            transient: 0,
            started_at: AtMicros(at_us),
            finished_at: AtMicros(at_us + 1),
        }
    }

    /// Writes a run of `day` that ended an hour after it began, and what it covered. Returns when it ended.
    fn reconcile(output: &Path, day: i64, status: RunStatus, rows: &[(&str, CoverageState, u64)]) -> i64 {
        let at_us = MIDNIGHT_US + day * DAY_US;
        let id = format!("run-{day}");
        let rows = rows
            .iter()
            .map(|(collection, state, confirmed)| row(&id, at_us, collection, *state, *confirmed));
        replace_rows(output, FileName::of_run(&id), rows).unwrap();
        let ended_us = at_us + DAY_US / 24;
        let run = RunRow::begin(RunKind::Reconcile, id, at_us, "ops".to_owned(), "h".to_owned());
        // Other datasets of the same run may be incomplete.
        crate::runs::write_run(output, run.end(status, false, 0, ended_us)).unwrap();
        ended_us
    }

    fn look(output: &Path) -> Option<Newest> {
        let wanted = Compared::new("shop", "aurora", "b", "a");
        let mut found = newest(output, &BTreeSet::from([wanted.clone()])).unwrap();
        found.remove(&wanted)
    }

    use CoverageState::{Diverged, Failed, Partial, Skipped, Verified};
    use RunStatus::{Interrupted, Succeeded};

    #[test]
    fn a_pair_that_was_never_compared_is_absent() {
        let output = tempfile::tempdir().unwrap();
        assert_eq!(look(output.path()), None);
        reconcile(output.path(), 0, RunStatus::Running, &[("t", Verified, 0)]);
        assert_eq!(look(output.path()), None, "a run without an end does not count");
    }

    #[test]
    fn a_look_that_failed_takes_no_divergence_and_no_success_back() {
        let output = tempfile::tempdir().unwrap();
        let output = output.path();
        let first = reconcile(
            output,
            0,
            Succeeded,
            &[("t", Diverged, 3), ("u", Verified, 0), ("tmp", Skipped, 0)],
        );
        let told = look(output).unwrap();
        assert_eq!(
            (
                told.last_success_at_us,
                told.divergences_confirmed,
                told.collections_unverified
            ),
            (Some(first), Some(3), 0)
        );
        reconcile(output, 1, Succeeded, &[("t", Failed, 0), ("u", Partial, 1)]);
        let told = look(output).unwrap();
        assert_eq!(
            (
                told.last_success_at_us,
                told.divergences_confirmed,
                told.collections_unverified
            ),
            (Some(first), Some(4), 2)
        );
        // It was stopped before it came to `u`.
        reconcile(output, 2, Interrupted, &[("t", Verified, 0)]);
        let told = look(output).unwrap();
        assert_eq!(
            (
                told.last_success_at_us,
                told.divergences_confirmed,
                told.collections_unverified
            ),
            (Some(first), Some(1), 1)
        );
        let last = reconcile(output, 3, Succeeded, &[("t", Verified, 0)]);
        let told = look(output).unwrap();
        assert_eq!(
            (
                told.last_success_at_us,
                told.divergences_confirmed,
                told.collections_unverified
            ),
            (Some(last), Some(0), 0),
            "`u` is not selected any more"
        );
    }

    #[test]
    fn a_look_at_less_than_everything_is_no_comparison() {
        let output = tempfile::tempdir().unwrap();
        let output = output.path();
        reconcile(output, 0, Succeeded, &[("t", Diverged, 3)]);
        let whole = look(output);
        let ended_us = reconcile(output, 1, Succeeded, &[("t", Verified, 0)]);
        let mut narrow = RunRow::begin(
            RunKind::Reconcile,
            "run-1".to_owned(),
            MIDNIGHT_US + DAY_US,
            "ops".to_owned(),
            "h".to_owned(),
        );
        narrow.parent_run_id = Some("run-0".to_owned());
        crate::runs::write_run(output, narrow.end(Succeeded, true, 0, ended_us)).unwrap();
        assert_eq!(look(output), whole, "it takes no divergence back");
    }

    #[test]
    fn what_was_never_verified_has_neither_success_nor_a_zero() {
        let output = tempfile::tempdir().unwrap();
        reconcile(output.path(), 0, Succeeded, &[("t", Failed, 0)]);
        let told = look(output.path()).unwrap();
        assert_eq!(
            (
                told.last_success_at_us,
                told.divergences_confirmed,
                told.collections_unverified
            ),
            (None, None, 1)
        );
    }

    /// The clock of the host that read it was behind that of the run's, over midnight.
    #[test]
    fn what_was_begun_before_its_run_by_another_clock_belongs_to_it() {
        let output = tempfile::tempdir().unwrap();
        let output = output.path();
        reconcile(output, 1, Succeeded, &[("t", Verified, 0)]);
        let early = row("run-1", MIDNIGHT_US + DAY_US - 1, "u", Failed, 0);
        replace_rows(output, FileName::of_part("run-1", "early"), [early]).unwrap();
        let told = look(output).unwrap();
        assert_eq!((told.last_success_at_us, told.collections_unverified), (None, 1));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_an_older_answer() {
        let output = tempfile::tempdir().unwrap();
        let output = output.path();
        reconcile(output, 0, Succeeded, &[("t", Verified, 0)]);
        reconcile(output, 1, Succeeded, &[("t", Diverged, 1)]);
        let wanted = BTreeSet::from([Compared::new("shop", "aurora", "a", "b")]);
        for table in ["runs", "coverage"] {
            let day = output.join(table).join("run_date=2026-11-22");
            let file = std::fs::read_dir(day).unwrap().next().unwrap().unwrap().path();
            let whole = std::fs::read(&file).unwrap();
            std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
            let error = newest(output, &wanted).unwrap_err().to_string();
            assert!(error.contains(table), "{error}");
            std::fs::write(&file, whole).unwrap();
        }
        assert_eq!(newest(output, &wanted).unwrap().len(), 1);
    }
}

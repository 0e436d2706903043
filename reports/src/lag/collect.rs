//! Reads files day by day, takes each interval once, and merges.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use probes::{LagInterval, Route};

use super::gaps::Gaps;
use super::hlog_file::{Logged, read_hlog};
use super::report::{LagReport, Observed, Spectrum};
use super::sources::{self, Day};
use super::unmeasured::read_unmeasured;
use crate::render::visible;
use crate::spread::Spread;
use crate::tables::{LagIntervalRow, TableError, read_files, utc_date};

/// Intervals of one UTC day that are held at once: 100 routes with their epochs. More are refused: choose a route or a shorter span.
pub const INTERVALS_PER_DAY_MAX: usize = 300_000;

/// Which intervals count.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those that start at or after this instant, microseconds since 1970 UTC.
    pub from_us: Option<i64>,
    /// Those that start before this instant.
    pub to_us: Option<i64>,
    /// Those of these routes; empty = all.
    pub routes: Vec<RouteFilter>,
}

/// A route as a person names it: `use1->usw2`, `payments`, or `payments:use1->usw2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFilter {
    dataset: Option<String>,
    sites: Option<(String, String)>,
}

impl std::str::FromStr for RouteFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("`{text}` names no route; write DATASET, PRIMARY->SECONDARY or DATASET:PRIMARY->SECONDARY");
        let Some((before, secondary)) = text.rsplit_once("->") else {
            let dataset = Some(text.to_owned()).filter(|text| !text.is_empty());
            return Ok(Self {
                dataset: Some(dataset.ok_or_else(refused)?),
                sites: None,
            });
        };
        let (dataset, primary) = match before.rsplit_once(':') {
            Some((dataset, primary)) => (Some(dataset), primary),
            None => (None, before),
        };
        if primary.is_empty() || secondary.is_empty() || dataset.is_some_and(str::is_empty) {
            return Err(refused());
        }
        Ok(Self {
            dataset: dataset.map(str::to_owned),
            sites: Some((primary.to_owned(), secondary.to_owned())),
        })
    }
}

impl RouteFilter {
    fn holds(&self, route: &Route) -> bool {
        let has_sites = |(primary, secondary): &(String, String)| {
            *primary == route.primary_site && *secondary == route.secondary_site
        };
        self.dataset.as_ref().is_none_or(|dataset| *dataset == route.dataset)
            && self.sites.as_ref().is_none_or(has_sites)
    }
}

impl Filter {
    fn holds(&self, route: &Route, start_us: i64) -> bool {
        self.from_us.is_none_or(|from| from <= start_us)
            && self.to_us.is_none_or(|to| start_us < to)
            && (self.routes.is_empty() || self.routes.iter().any(|one| one.holds(route)))
    }

    fn can_hold(&self, date: Date) -> bool {
        let from = self.from_us.and_then(utc_date);
        let to = self.to_us.and_then(utc_date);
        from.is_none_or(|from| from <= date) && to.is_none_or(|to| date <= to)
    }
}

/// Reads everything below `paths` (folders, `.parquet` files of `lag_intervals`, `.hlog` files) and merges what the filter holds. Memory holds
/// one day of intervals, and one histogram a route. A report without routes: nothing matched.
///
/// # Errors
/// A file that cannot be read or contradicts another; it is named, and nothing may be concluded from the rest.
pub fn collect(paths: &[PathBuf], filter: &Filter) -> Result<LagReport, TableError> {
    let mut collector = Collector {
        filter,
        sums: BTreeMap::new(),
        by_interval: BTreeSet::new(),
        files: 0,
        torn: BTreeSet::new(),
        left_out: BTreeSet::new(),
    };
    for (date, day) in sources::days(paths)? {
        if filter.can_hold(date) {
            collector.day(date, day)?;
        }
    }
    let runs = collector.by_interval.iter().map(|(run, _)| run.clone()).collect();
    let unmeasured = read_unmeasured(paths, &runs)?;
    Ok(LagReport {
        unmeasured,
        ..collector.finish()
    })
}

/// Whose rows a file holds.
type Measured = (String, Route);

struct Collector<'a> {
    filter: &'a Filter,
    sums: BTreeMap<Route, Sum>,
    /// Runs and routes that have rows in `lag_intervals`: these know more than the `.hlog` of the same run.
    by_interval: BTreeSet<Measured>,
    files: u64,
    torn: BTreeSet<PathBuf>,
    left_out: BTreeSet<PathBuf>,
}

/// The last word on each interval of one day, with the file that says it.
type Intervals = BTreeMap<(Route, i64, String), Found>;

/// A row and where it comes from.
struct Found {
    path: Arc<Path>,
    run_id: String,
    interval: LagInterval,
}

impl Found {
    /// Who has the last word: the highest revision, and among equal ones the newest run, as `latest_lag` has it.
    fn word(&self) -> (u64, &str) {
        (self.interval.revision, &self.run_id)
    }
}

/// The intervals of logs, by route, start and run.
type Logs = BTreeMap<(Route, i64, String), Logged>;

/// One interval from either kind of file, in the order of time.
enum Slot {
    Interval(Arc<Path>, Box<LagInterval>),
    Logged(Logged),
}

impl Collector<'_> {
    fn day(&mut self, date: Date, day: Day) -> Result<(), TableError> {
        self.files += u64::try_from(day.parquet.len() + day.hlog.len()).unwrap_or(u64::MAX);
        let intervals = self.intervals(date, day.parquet)?;
        let logs = self.logs(day.hlog)?;
        let mut slots: Vec<((Route, i64), Slot)> = Vec::new();
        for ((route, start, _), found) in intervals {
            slots.push(((route, start), Slot::Interval(found.path, Box::new(found.interval))));
        }
        for ((route, start, _), logged) in logs {
            slots.push(((route, start), Slot::Logged(logged)));
        }
        slots.sort_by(|(a, _), (b, _)| a.cmp(b));
        for ((route, _), slot) in slots {
            let from_us = self.filter.from_us;
            self.sums.entry(route).or_insert_with(|| Sum::new(from_us)).add(slot)?;
        }
        for sum in self.sums.values_mut() {
            sum.flush_slot();
        }
        Ok(())
    }

    fn intervals(&mut self, date: Date, files: Vec<PathBuf>) -> Result<Intervals, TableError> {
        let mut last = Intervals::new();
        for row in read_files::<LagIntervalRow>(files) {
            let (path, row) = row?;
            if utc_date(row.interval_start.0) != Some(date) {
                return Err(foreign(
                    &path,
                    "interval_start",
                    format!("not on {date}, the day of its file"),
                ));
            }
            let run_id = row.run_id.clone();
            let interval = row.into_record();
            if !self.filter.routes.is_empty() && !self.filter.routes.iter().any(|one| one.holds(&interval.route)) {
                continue;
            }
            self.by_interval.insert((run_id.clone(), interval.route.clone()));
            if !self.filter.holds(&interval.route, interval.interval_start_us) {
                continue;
            }
            let key = (
                interval.route.clone(),
                interval.interval_start_us,
                interval.epoch.clone(),
            );
            let found = Found { path, run_id, interval };
            match last.get(&key) {
                Some(known) if known.word() > found.word() => continue,
                Some(known) if known.word() == found.word() && known.interval != found.interval => {
                    let problem = format!(
                        "revision {} contradicts {}",
                        known.interval.revision,
                        known.path.display()
                    );
                    return Err(foreign(&found.path, "revision", problem));
                }
                None if last.len() == INTERVALS_PER_DAY_MAX => return Err(too_many(&found.path, date)),
                _ => drop(last.insert(key, found)),
            }
        }
        Ok(last)
    }

    fn logs(&mut self, files: Vec<PathBuf>) -> Result<Logs, TableError> {
        let mut logs = Logs::new();
        for path in files {
            let file = read_hlog(&path)?;
            if file.is_torn {
                self.torn.insert(path.clone());
            }
            for logged in file.intervals {
                if !self.filter.holds(&logged.route, logged.start_us) {
                    continue;
                }
                if self.by_interval.contains(&(file.run_id.clone(), logged.route.clone())) {
                    self.left_out.insert(path.clone());
                    continue;
                }
                let key = (logged.route.clone(), logged.start_us, file.run_id.clone());
                match logs.get(&key) {
                    Some(known) if *known != logged => {
                        let problem = "it contradicts another log of the same run";
                        return Err(TableError::unreadable(&path, problem));
                    }
                    None if logs.len() == INTERVALS_PER_DAY_MAX => {
                        return Err(TableError::unreadable(
                            &path,
                            "more intervals than one day can hold; choose a --route",
                        ));
                    }
                    _ => drop(logs.insert(key, logged)),
                }
            }
        }
        Ok(logs)
    }

    fn finish(self) -> LagReport {
        let to_us = self.filter.to_us;
        let routes = self
            .sums
            .into_iter()
            .map(|(route, sum)| sum.finish(&route, to_us))
            .collect();
        let name = |path: &PathBuf| visible(&path.display().to_string());
        let torn = self.torn.iter().map(|path| {
            format!(
                "{}: the last line was cut off when the probe died; what it held is not counted",
                name(path)
            )
        });
        let left_out = self.left_out.iter().map(|path| {
            format!(
                "{}: left out, lag_intervals of the same run know more (pending canaries among it)",
                name(path)
            )
        });
        LagReport {
            from_us: self.filter.from_us,
            to_us,
            files: self.files,
            routes,
            unmeasured: Vec::new(),
            notes: torn.chain(left_out).collect(),
        }
    }
}

fn foreign(path: &Path, column: &str, problem: String) -> TableError {
    TableError::Foreign {
        path: path.to_owned(),
        column: column.to_owned(),
        problem,
    }
}

fn too_many(path: &Path, date: Date) -> TableError {
    let problem = format!("{date} has more than {INTERVALS_PER_DAY_MAX} intervals; choose a --route or a shorter span");
    TableError::unreadable(path, problem)
}

/// What one route and observer adds up to.
#[derive(Debug, Default)]
struct Sum {
    told: Counts,
    seen: u64,
    canaries: u64,
    has_logs: bool,
    intervals: u64,
    intervals_open: u64,
    intervals_without_histogram: u64,
    low: Spread,
    high: Spread,
    gaps: Gaps,
    /// The interval of the clock that is under way: start, end and the least that one of its epochs missed.
    slot: Option<(i64, i64, u64)>,
}

/// What only `lag_intervals` tell.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    planned: u64,
    pending: u64,
    lost: u64,
    superseded: u64,
    write_failed: u64,
    write_unknown: u64,
    skipped: u64,
    oldest_unseen_us: Option<u64>,
}

impl Sum {
    fn new(from_us: Option<i64>) -> Self {
        Self {
            gaps: Gaps::from(from_us),
            ..Self::default()
        }
    }

    fn add(&mut self, slot: Slot) -> Result<(), TableError> {
        self.intervals += 1;
        match slot {
            Slot::Interval(path, interval) => {
                self.interval(&interval)
                    .map_err(|problem| foreign(&path, "hdr_low, hdr_high", problem))?;
                self.cover(interval.interval_start_us, interval.interval_end_us, interval.gap_us);
            }
            Slot::Logged(logged) => {
                self.has_logs = true;
                self.seen += logged.high.count();
                self.canaries += logged.low.count();
                self.low.merge(&logged.low);
                self.high.merge(&logged.high);
                self.cover(logged.start_us, logged.end_us, 0);
            }
        }
        Ok(())
    }

    fn interval(&mut self, interval: &LagInterval) -> Result<(), String> {
        let canaries = interval.seen + interval.pending + interval.lost + interval.superseded;
        let low = self.low.add(&interval.hdr_low)?;
        let high = self.high.add(&interval.hdr_high)?;
        if low > canaries || high > interval.seen {
            return Err(format!(
                "histograms of {low} and {high} canaries where {canaries} were acknowledged and {} seen",
                interval.seen
            ));
        }
        self.canaries += canaries;
        self.seen += interval.seen;
        self.intervals_open += u64::from(!interval.is_final);
        self.intervals_without_histogram += u64::from(canaries > 0 && interval.hdr_low.is_empty());
        let told = &mut self.told;
        told.planned += interval.planned;
        told.pending += interval.pending;
        told.lost += interval.lost;
        told.superseded += interval.superseded;
        told.write_failed += interval.write_failed;
        told.write_unknown += interval.write_unknown;
        told.skipped += interval.skipped;
        told.oldest_unseen_us = told.oldest_unseen_us.max(interval.oldest_unseen_us);
        Ok(())
    }

    /// Several epochs, and several streams, share an interval of the clock: it was observed as long as the best of them says.
    fn cover(&mut self, start_us: i64, end_us: i64, gap_us: u64) {
        match &mut self.slot {
            Some((start, end, least)) if (*start, *end) == (start_us, end_us) => *least = (*least).min(gap_us),
            _ => {
                self.flush_slot();
                self.slot = Some((start_us, end_us, gap_us));
            }
        }
    }

    fn flush_slot(&mut self) {
        if let Some((start_us, end_us, gap_us)) = self.slot.take() {
            self.gaps.cover(start_us, end_us, gap_us);
        }
    }

    fn finish(self, route: &Route, to_us: Option<i64>) -> Spectrum {
        let told = |count: u64| (!self.has_logs).then_some(count);
        let mut observed = Observed {
            seen: self.seen,
            planned: told(self.told.planned),
            pending: told(self.told.pending),
            lost: told(self.told.lost),
            superseded: told(self.told.superseded),
            write_failed: told(self.told.write_failed),
            write_unknown: told(self.told.write_unknown),
            skipped: told(self.told.skipped),
            oldest_unseen_us: self.told.oldest_unseen_us,
            intervals: self.intervals,
            intervals_open: self.intervals_open,
            intervals_without_histogram: self.intervals_without_histogram,
            ..Observed::of(route)
        };
        observed.close(self.gaps, to_us);
        Spectrum::new(observed, self.low, self.high, self.canaries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::route;

    #[test]
    fn a_route_is_named_by_its_dataset_its_sites_or_both() {
        for (text, holds) in [
            ("payments", true),
            ("use1->usw2", true),
            ("payments:use1->usw2", true),
            ("orders", false),
            ("usw2->use1", false),
            ("orders:use1->usw2", false),
        ] {
            let filter: RouteFilter = text.parse().unwrap();
            assert_eq!(filter.holds(&route()), holds, "{text}");
        }
        for text in ["", "->usw2", "use1->", ":use1->usw2"] {
            assert!(text.parse::<RouteFilter>().is_err(), "{text}");
        }
    }
}

//! What the newest reconciliations in the output folder found, for the figures of a running probe.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use probes::{Metrics, Reconciled, Route};
use reports::{Compared, DATES_MAX, Newest, newest};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::topology::{self, Unit};

/// Between two looks at whether the `runs` table has changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Until a folder that could not be read is tried again, though nothing in it has changed.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What tells one state of the `runs` table from another: how many files there are, and a sum over their names, sizes and instants of
/// change. Its rows are the commit marks, so nothing counts before one of these files has changed.
type Marks = (u64, u64);

/// One dataset over one pair, and the name that lag of it goes by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    compared: Compared,
    lag_name: String,
}

/// Follows the output folder and tells its figures.
pub(super) struct Following {
    output: PathBuf,
    observer: String,
    wanted: BTreeSet<Wanted>,
    metrics: Arc<Metrics>,
    marks: Option<Marks>,
    failed_at: Option<Instant>,
}

impl Following {
    /// Of the pairs that the configuration could have compared.
    pub(super) fn new(config: &Config, output: &Path, observer: String, metrics: Arc<Metrics>) -> Self {
        Self {
            output: output.to_owned(),
            observer,
            wanted: topology::units(config).iter().flat_map(pairs).collect(),
            metrics,
            marks: None,
            failed_at: None,
        }
    }

    /// Until `stop`. Files are read on threads of their own, never on those that time canaries.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(back) => self = back,
                Err(error) => {
                    tracing::error!("reconciliations are not followed any more: {error}");
                    return;
                }
            }
        }
    }

    fn look(&mut self) {
        let marks = match marks(&self.output) {
            Ok(marks) => marks,
            Err(error) => return self.failed(None, &format!("{}: {error}", self.output.join("runs").display())),
        };
        let is_due = match self.failed_at {
            Some(at) => at.elapsed() >= TRY_AGAIN_AFTER,
            None => false,
        };
        if self.marks.as_ref() == Some(&marks) && !is_due {
            return;
        }
        let wanted = self.wanted.iter().map(|wanted| wanted.compared.clone()).collect();
        match newest(&self.output, &wanted) {
            Ok(found) => {
                if self.failed_at.take().is_some() {
                    tracing::info!("the reconciliations in the output folder can be read again");
                }
                self.marks = Some(marks);
                self.metrics.set_reconciled(self.figures(&found));
            }
            Err(error) => self.failed(Some(marks), &error.to_string()),
        }
    }

    /// What was told before stays.
    fn failed(&mut self, marks: Option<Marks>, problem: &str) {
        if self.failed_at.is_none() {
            tracing::error!(
                "the reconciliations in the output folder cannot be read, so their figures stay as they were: {problem}"
            );
        }
        let is_due = self.failed_at.is_none_or(|at| at.elapsed() >= TRY_AGAIN_AFTER);
        if is_due || self.marks != marks {
            self.metrics.reconciled_unreadable();
            self.failed_at = Some(Instant::now());
        }
        self.marks = marks;
    }

    /// One figure for each dataset and pair, and one by the name of the lag where one canary stands for several datasets: that is as old as
    /// its oldest dataset, and absent while one of them was never compared.
    fn figures(&self, found: &BTreeMap<Compared, Newest>) -> Vec<Reconciled> {
        let mut figures = Vec::new();
        let mut shared: BTreeMap<Route, Option<i64>> = BTreeMap::new();
        for wanted in &self.wanted {
            let one = found.get(&wanted.compared);
            if let Some(one) = one {
                figures.push(Reconciled {
                    route: self.route(&wanted.compared.dataset, &wanted.compared.store, &one.sites),
                    last_success_at_us: one.last_success_at_us,
                    divergences_confirmed: one.divergences_confirmed,
                    collections_unverified: Some(one.collections_unverified),
                });
            }
            if wanted.lag_name != wanted.compared.dataset {
                let route = self.route(&wanted.lag_name, &wanted.compared.store, wanted.compared.sites());
                let at_us = one.and_then(|one| one.last_success_at_us);
                shared
                    .entry(route)
                    .and_modify(|held| *held = held.zip(at_us).map(|(held, at_us)| held.min(at_us)))
                    .or_insert(at_us);
            }
        }
        figures.extend(shared.into_iter().map(|(route, last_success_at_us)| Reconciled {
            route,
            last_success_at_us,
            divergences_confirmed: None,
            collections_unverified: None,
        }));
        figures
    }

    fn route(&self, dataset: &str, store: &str, sites: &[String; 2]) -> Route {
        let [primary_site, secondary_site] = sites.clone();
        Route {
            dataset: dataset.to_owned(),
            store: store.to_owned(),
            primary_site,
            secondary_site,
            observer: self.observer.clone(),
        }
    }
}

/// Every dataset of a unit that can be compared, over every two of its sites.
fn pairs(unit: &Unit<'_>) -> Vec<Wanted> {
    let mut pairs = Vec::new();
    for (dataset, _) in unit.tables() {
        for (at, one) in unit.sites.iter().enumerate() {
            pairs.extend(unit.sites.iter().skip(at + 1).map(|other| Wanted {
                compared: Compared::new(dataset, unit.store(), one, other),
                lag_name: unit.lag_name().to_owned(),
            }));
        }
    }
    pairs
}

/// Of the newest [`DATES_MAX`] dates, which are all that a look reads.
fn marks(output: &Path) -> std::io::Result<Marks> {
    let mut dates = Vec::new();
    match std::fs::read_dir(output.join("runs")) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    dates.push(entry.path());
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    dates.sort();
    let (mut count, mut sum) = (0, 0_u64);
    for date in dates.into_iter().rev().take(DATES_MAX) {
        for file in std::fs::read_dir(date)? {
            let file = file?;
            // A draft that became a file meanwhile is met again by its name.
            if let Ok(about) = file.metadata() {
                let mut hasher = DefaultHasher::new();
                (file.path(), about.len(), about.modified().ok()).hash(&mut hasher);
                count += 1;
                sum = sum.wrapping_add(hasher.finish());
            }
        }
    }
    Ok((count, sum))
}

//! Figures that the probe does not measure itself: the program tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stores::Meter;

use super::Metrics;
use super::capped::OTHER;
use crate::Route;

/// Kinds of events that are told apart.
pub const EVENT_KINDS_MAX: usize = 16;

/// Collections without a measurement that are kept by name; the others are counted.
pub const UNMEASURED_MAX: usize = 1_024;

/// Meters whose requests are shown: one for each end of a store that is paid for by the request.
pub const METERS_MAX: usize = 1_024;

/// A collection that no canary represents and no figure of the store covers. Its lag is not known, which is not zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unmeasured {
    /// The dataset.
    pub dataset: String,
    /// The kind of store.
    pub store: String,
    /// The collection.
    pub collection: String,
    /// Why, in words for the person who could change it.
    pub reason: String,
}

/// What the newest reconciliation of a pair found. `None`: nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// The dataset, the sites that were compared, and who tells it.
    pub route: Route,
    /// When the newest complete one ended, microseconds since 1970 UTC.
    pub last_success_at_us: Option<i64>,
    /// Divergences that it confirmed.
    pub divergences_confirmed: Option<u64>,
    /// Collections that it could not verify.
    pub collections_unverified: Option<u64>,
}

/// The ledgers of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerFigures {
    /// Their size; `None`: not looked at.
    pub bytes: Option<u64>,
    /// Syncs that failed.
    pub sync_failures: u64,
    /// Where they are copied to.
    pub places: Vec<PlaceFigures>,
}

/// One place that ledgers are copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFigures {
    /// Its name, without secrets.
    pub place: String,
    /// Until when the copy is complete, microseconds since 1970 UTC; `None`: nothing is there.
    pub complete_until_us: Option<i64>,
    /// Tries that failed.
    pub failures: u64,
}

/// How a budget holds the probe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetFigures {
    /// The share of their rate at which routes run whose requests are paid for.
    pub pace: f64,
    /// Dollars that the probe may spend in an hour.
    pub budget_usd_per_hour: f64,
    /// Dollars that it spends in an hour at this pace, about; `None`: nothing that has a price was spent.
    pub usd_per_hour: Option<f64>,
    /// The same in words.
    pub words: String,
}

/// The requests of one end.
#[derive(Debug)]
pub(crate) struct Metered {
    pub(crate) dataset: String,
    pub(crate) store: String,
    pub(crate) site: String,
    pub(crate) meter: Arc<Meter>,
}

/// What was told last.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) events: BTreeMap<String, bool>,
    pub(crate) unmeasured: Vec<Unmeasured>,
    pub(crate) unmeasured_beyond: usize,
    pub(crate) mirror_lag: BTreeMap<Route, BTreeMap<String, u64>>,
    pub(crate) reconciled: Vec<Reconciled>,
    pub(crate) reconcile_failures: u64,
    pub(crate) ledger: Option<LedgerFigures>,
    pub(crate) metered: Vec<Metered>,
    pub(crate) budget: Option<BudgetFigures>,
}

impl Metrics {
    /// Whether an event of this kind is going on.
    pub fn set_event_active(&self, kind: &str, is_active: bool) {
        let events = &mut self.board.told().events;
        let is_new = !events.contains_key(kind);
        let kind = if is_new && events.len() >= EVENT_KINDS_MAX {
            OTHER
        } else {
            kind
        };
        events.insert(kind.to_owned(), is_active);
    }

    /// The collections whose lag nobody measures, in place of those told before.
    pub fn set_unmeasured(&self, mut unmeasured: Vec<Unmeasured>) {
        unmeasured.sort();
        unmeasured.dedup();
        let mut told = self.board.told();
        told.unmeasured_beyond = unmeasured.len().saturating_sub(UNMEASURED_MAX);
        unmeasured.truncate(UNMEASURED_MAX);
        told.unmeasured = unmeasured;
    }

    /// Records that each mirrored collection of a route is behind, in place of those told before. A collection whose figure was not
    /// collected is left out.
    pub fn set_mirror_lag(&self, route: &Route, lag_records: BTreeMap<String, u64>) {
        self.board.told().mirror_lag.insert(route.clone(), lag_records);
    }

    /// What the newest reconciliations found, in place of what was told before.
    pub fn set_reconciled(&self, reconciled: Vec<Reconciled>) {
        self.board.told().reconciled = reconciled;
    }

    /// How the budget holds the probe now.
    pub fn set_budget(&self, figures: BudgetFigures) {
        self.board.told().budget = Some(figures);
    }

    /// What reconciliations found could not be read. What was told before stays: it is older, and its age shows.
    pub fn reconciled_unreadable(&self) {
        let failures = &mut self.board.told().reconcile_failures;
        *failures = failures.saturating_add(1);
    }

    /// The state of the ledgers.
    pub fn set_ledger(&self, figures: LedgerFigures) {
        self.board.told().ledger = Some(figures);
    }

    /// Shows the requests of an end that is paid for by the request. They are shown in the words of the store's price list, in place of
    /// the engine's own count of writes and polls.
    pub fn add_meter(&self, dataset: &str, store: &str, site: &str, meter: Arc<Meter>) {
        let metered = &mut self.board.told().metered;
        let is_known = metered.iter().any(|known| Arc::ptr_eq(&known.meter, &meter));
        if !is_known && metered.len() < METERS_MAX {
            metered.push(Metered {
                dataset: dataset.to_owned(),
                store: store.to_owned(),
                site: site.to_owned(),
                meter,
            });
        }
    }
}

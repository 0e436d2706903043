//! What a policy is applied to.

use std::collections::BTreeMap;

use probes::Rpo;
use reconcile::{CoverageState, Origin, State};
use serde::Serialize;

use super::blocks::{MeasuredRoute, RouteLag};
use crate::Event;

/// Everything that was found in the output and the state folder, ready to be judged. Rows of lag are already blocks.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Lag by route.
    pub lag: Vec<RouteLag>,
    /// What the configuration says exists: a dataset whose unit has no route here is unmeasured.
    pub inventory: Vec<InventoryItem>,
    /// Losses that ledgers prove.
    pub rpo: Vec<SourcedRpo>,
    /// Comparisons.
    pub reconciliations: Vec<Reconciliation>,
    /// Events, oldest first.
    pub events: Vec<Event>,
    /// Runs that left evidence, oldest first.
    pub runs: Vec<RunFacts>,
    /// Evidence that exists and could not be used, in words. A gate with any of it is never GO.
    pub problems: Vec<String>,
    /// Evidence that was left out by a rule, in words.
    pub notes: Vec<String>,
}

/// One dataset on one route, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryItem {
    /// The dataset.
    pub dataset: String,
    /// The unit whose canary represents it: the name that lag evidence carries.
    pub unit: String,
    /// The store.
    pub store: String,
    /// The site that writes.
    pub primary_site: String,
    /// The other one.
    pub secondary_site: String,
}

impl InventoryItem {
    /// The route on which its canary is expected.
    pub(super) fn route(&self) -> MeasuredRoute {
        MeasuredRoute {
            dataset: self.unit.clone(),
            store: self.store.clone(),
            primary_site: self.primary_site.clone(),
            secondary_site: self.secondary_site.clone(),
        }
    }
}

/// A loss with the run that proved it.
#[derive(Debug, Clone)]
pub struct SourcedRpo {
    /// The run.
    pub run_id: String,
    /// What it proved.
    pub rpo: Rpo,
}

/// One run that left evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFacts {
    /// The run.
    pub run_id: String,
    /// `probe`, `reconcile`, `rpo`, ...
    pub kind: String,
    /// Which tool.
    pub tool_version: String,
    /// Which host.
    pub host: String,
    /// Who.
    pub executed_by: String,
    /// Hash of the configuration.
    pub config_sha256: Option<String>,
    /// Microseconds since 1970 UTC.
    pub started_at_us: i64,
    /// `None` = still running, or nobody knows.
    pub finished_at_us: Option<i64>,
    /// `succeeded`, ...
    pub status: String,
}

/// One committed comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Reconciliation {
    /// The run.
    pub run_id: String,
    /// The event that it was told.
    pub event_id: Option<String>,
    /// `independent`, `replicating`, `frozen`; `None` = not recorded.
    pub relation: Option<String>,
    /// Everything selected was verified or shown to differ.
    pub complete: bool,
    /// Microseconds since 1970 UTC.
    pub started_at_us: i64,
    /// Microseconds since 1970 UTC.
    pub finished_at_us: Option<i64>,
    /// By collection.
    pub collections: Vec<CollectionCoverage>,
    /// Keys by state and origin. `None` = no event was given.
    pub keys: Vec<KeyTally>,
}

/// Keys of one state and one origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyTally {
    /// The dataset.
    pub dataset: String,
    /// The state.
    pub state: State,
    /// The origin.
    pub origin: Option<Origin>,
    /// How many.
    pub count: u64,
}

/// What was verified of one collection.
#[derive(Debug, Clone, Serialize)]
pub struct CollectionCoverage {
    /// The dataset.
    pub dataset: String,
    /// The store.
    pub store: String,
    /// One site.
    pub primary_site: String,
    /// The other.
    pub secondary_site: String,
    /// The collection.
    pub collection: String,
    /// The result.
    pub state: CoverageState,
    /// Why it is not `verified`.
    pub reason: String,
    /// Rows at the primary.
    pub primary_rows: Option<u64>,
    /// Rows at the secondary.
    pub secondary_rows: Option<u64>,
    /// Keys that differ.
    pub confirmed: u64,
    /// Keys that kept changing.
    pub volatile: u64,
    /// Keys that could not be read again.
    pub unverified: u64,
}

impl CollectionCoverage {
    /// Left out on purpose: by the selection, not by a fault.
    pub(super) fn is_not_selected(&self) -> bool {
        self.state == CoverageState::Skipped && self.reason.starts_with("not_selected")
    }

    /// Every key of it was compared.
    pub(super) fn is_compared(&self) -> bool {
        matches!(self.state, CoverageState::Verified | CoverageState::Diverged)
            && self.volatile == 0
            && self.unverified == 0
    }
}

/// Confirmed keys by origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Origins {
    pub(super) lost_write: u64,
    pub(super) conflict: u64,
    pub(super) new_write: u64,
    /// Origin unknown, or no event given.
    pub(super) unknown: u64,
}

impl Reconciliation {
    /// Confirmed keys of each dataset by origin.
    pub(super) fn origins_by_dataset(&self) -> BTreeMap<&str, Origins> {
        let mut by_dataset: BTreeMap<&str, Origins> = BTreeMap::new();
        for tally in self.keys.iter().filter(|tally| tally.state == State::Confirmed) {
            let origins = by_dataset.entry(tally.dataset.as_str()).or_default();
            match tally.origin {
                Some(Origin::LostWrite) => origins.lost_write += tally.count,
                Some(Origin::Conflict) => origins.conflict += tally.count,
                Some(Origin::NewWrite) => origins.new_write += tally.count,
                Some(Origin::Unknown) | None => origins.unknown += tally.count,
            }
        }
        let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
        for collection in &self.collections {
            *counted.entry(collection.dataset.as_str()).or_default() += collection.confirmed;
        }
        for (dataset, count) in counted {
            // Where more was counted than listed (a cap, a file that is gone), the rest has no known origin.
            let origins = by_dataset.entry(dataset).or_default();
            let listed = origins.lost_write + origins.conflict + origins.new_write + origins.unknown;
            origins.unknown += count.saturating_sub(listed);
        }
        by_dataset
    }

    /// The datasets of which every selected collection was compared.
    pub(super) fn compared_datasets(&self) -> impl Iterator<Item = &str> {
        let mut by_dataset: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
        for collection in self
            .collections
            .iter()
            .filter(|collection| !collection.is_not_selected())
        {
            let entry = by_dataset.entry(collection.dataset.as_str()).or_insert((false, true));
            entry.0 = true;
            entry.1 &= collection.is_compared();
        }
        by_dataset
            .into_iter()
            .filter(|(_, (any, all))| *any && *all)
            .map(|(dataset, _)| dataset)
    }
}

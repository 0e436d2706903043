//! What the requests of a probe cost, as far as the price list knows.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use probes::{Metrics, Route};
use reports::cost::{Charge, Prices, Spent, spent, write_costs};
use reports::tables::TableError;
use stores::Meter;

use crate::command::{Context, prices};
use crate::exit::Failure;
use crate::run::Run;

/// One end that is paid for by the request.
#[derive(Debug, Clone)]
pub(super) struct Metered {
    pub(super) route: Route,
    pub(super) site: String,
    pub(super) collection: Option<String>,
    pub(super) meter: Arc<Meter>,
}

/// Writes the `costs` table of one run.
#[derive(Debug)]
pub(super) struct Costs {
    output: PathBuf,
    run_id: String,
    prices: Prices,
    metered: Mutex<Vec<Metered>>,
}

impl Metered {
    /// Shows its requests.
    pub(super) fn show(&self, metrics: &Metrics) {
        metrics.add_meter(&self.route.dataset, &self.route.store, &self.site, self.meter.clone());
    }
}

impl Costs {
    /// The costs of what `metered` counts, by the configured price list or the one that driftline comes with.
    pub(super) fn of(context: &Context, run: &Run, metered: Vec<Metered>) -> Result<Self, Failure> {
        Ok(Self {
            output: context.output.clone(),
            run_id: run.id.clone(),
            prices: prices::load(context)?,
            metered: Mutex::new(metered),
        })
    }

    fn metered(&self) -> MutexGuard<'_, Vec<Metered>> {
        self.metered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what another end is asked for.
    pub(super) fn add(&self, metered: Metered) {
        self.metered().push(metered);
    }

    /// Whether any route is paid for by the request.
    pub(super) fn is_empty(&self) -> bool {
        self.metered().is_empty()
    }

    /// What was spent so far.
    pub(super) fn spent(&self) -> Spent {
        let charges: Vec<Charge> = self.metered().iter().map(charge).collect();
        spent(&charges, &self.prices)
    }

    /// Writes everything so far; a later call replaces it.
    pub(super) fn write(&self) -> Result<(), TableError> {
        let charges: Vec<Charge> = self.metered().iter().map(charge).collect();
        if charges.is_empty() {
            return Ok(());
        }
        write_costs(&self.output, &self.run_id, &charges, &self.prices).map(drop)
    }
}

fn charge(of: &Metered) -> Charge {
    Charge {
        dataset: of.route.dataset.clone(),
        store: of.route.store.clone(),
        site: of.site.clone(),
        collection: of.collection.clone(),
        usage: of.meter.usage(),
    }
}

#[cfg(test)]
impl Costs {
    /// The costs of one end of a bucket, by the list that driftline comes with.
    pub(super) fn for_test(meter: Arc<Meter>) -> Self {
        let route = Route {
            dataset: "media".to_owned(),
            store: "s3".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
            observer: "usw2/test".to_owned(),
        };
        Self {
            output: PathBuf::new(),
            run_id: String::new(),
            prices: Prices::parse("prices-2026-11.toml", reports::cost::PRICES_2026_11).unwrap(),
            metered: Mutex::new(vec![Metered {
                route,
                site: "use1".to_owned(),
                collection: None,
                meter,
            }]),
        }
    }
}

//! Stores that could not be asked when the probe started: they are tried again and again, and probed from then on.

use std::sync::Arc;
use std::time::Duration;

use probes::{Metrics, RouteSpec};
use reports::lag::write_unmeasured;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::costs::Costs;
use super::routes::{Missing, Plan};
use crate::command::Context;
use crate::run::Run;
use crate::topology;

/// The wait before the first try; it doubles up to [`TRY_EVERY_MAX`].
const TRY_AFTER: Duration = Duration::from_secs(2);

/// The longest wait between two tries.
const TRY_EVERY_MAX: Duration = Duration::from_secs(60);

/// How long one store may take to say what there is.
const TRY_PATIENCE: Duration = Duration::from_secs(30);

/// Routes on their way to the engine; it takes each at once.
pub(super) const LATE_ROUTES_MAX: usize = 16;

/// What is missing, and whom to tell when it is there.
pub(super) struct Latecomers {
    pub(super) context: Context,
    pub(super) run: Run,
    /// What was planned at the start, less the routes that the engine has: notes what is missing and what nobody measures.
    pub(super) plan: Plan,
    pub(super) metrics: Arc<Metrics>,
    pub(super) costs: Arc<Costs>,
    pub(super) routes: mpsc::Sender<RouteSpec>,
}

impl Latecomers {
    /// Until nothing is missing, or `stop`. Returns what is still missing, and what nobody measures.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Plan {
        self.keep_unmeasured();
        let mut wait = TRY_AFTER;
        while !self.plan.missing.is_empty() {
            let waited = stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            if waited.is_none() || stop.run_until_cancelled(self.try_again()).await.is_none() {
                break;
            }
            wait = (wait * 2).min(TRY_EVERY_MAX);
        }
        self.plan
    }

    fn keep_unmeasured(&self) {
        if let Err(error) = write_unmeasured(&self.context.output, &self.run.id, &self.plan.unmeasured) {
            tracing::error!(%error, "what is not measured cannot be written");
        }
    }

    async fn try_again(&mut self) {
        for missing in std::mem::take(&mut self.plan.missing) {
            let mut found = self.plan.empty();
            let tried = self.prepare(&missing, &mut found);
            let is_prepared = tokio::time::timeout(TRY_PATIENCE, tried).await.unwrap_or(false);
            if is_prepared {
                self.take(missing, found).await;
            } else {
                // As it was told first: what is said at each try is in the log.
                self.plan.missing.push(missing);
            }
        }
    }

    /// `false`: it is still missing.
    async fn prepare(&self, missing: &Missing, found: &mut Plan) -> bool {
        let units = topology::units(&self.context.config);
        let Some(unit) = units.iter().find(|unit| missing.is_of(unit)) else {
            return false;
        };
        let sites = (missing.primary.as_str(), missing.secondary.as_str());
        match found.prepare(&self.context, unit, sites, &self.run).await {
            Ok(()) => found.missing.is_empty(),
            Err(failure) => {
                tracing::error!(error = %format!("{:#}", failure.error), "a store answers and cannot be probed");
                false
            }
        }
    }

    async fn take(&mut self, missing: Missing, mut found: Plan) {
        tracing::info!(
            unit = missing.unit,
            primary_site = missing.primary,
            secondary_site = missing.secondary,
            "answers now, and is probed from here on"
        );
        self.plan
            .unmeasured
            .retain(|one| Some(one) != missing.unmeasured.as_ref());
        self.plan.unmeasured.append(&mut found.unmeasured);
        self.metrics.set_unmeasured(self.plan.unmeasured.clone());
        self.keep_unmeasured();
        for metered in std::mem::take(&mut found.metered) {
            metered.show(&self.metrics);
            self.costs.add(metered);
        }
        for spec in found.specs {
            // A closed channel: the probe ends.
            let _ended = self.routes.send(spec).await;
        }
    }
}

//! Prometheus figures. Histograms hold canaries that were seen, each once; what is unseen shows in gauges that are computed at
//! the scrape, so that they rise while nothing happens.

mod capped;
mod names;
mod own;
mod recent;
mod scrape;
mod told;
mod totals;
mod watched;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{prometheus_protobuf, text};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Route;
use crate::clock::Clock;
use crate::engine::RouteSpec;
use crate::live::Live;

pub use capped::{OTHER, SERIES_MAX};
pub use names::{metric_labels, metric_names};
pub use recent::Lately;
pub(crate) use recent::{SPAN_US, SPANS_MAX};
pub(crate) use told::Told;
pub use told::{
    BudgetFigures, EVENT_KINDS_MAX, LedgerFigures, METERS_MAX, PlaceFigures, Reconciled, UNMEASURED_MAX, Unmeasured,
};
pub(crate) use totals::RouteFigures;
use totals::{RouteTotals, StreamTotals};
pub(crate) use watched::{Glance, Watched};

/// Streams whose figures one process shows; a configuration has one for each route and collection. What is beyond it is probed, and
/// not shown.
pub const STREAMS_MAX: usize = 4_096;

/// The figures of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    board: Arc<Board>,
}

/// What a scrape and the status page are made from.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) version: String,
    shown: Mutex<Shown>,
    told: Mutex<Told>,
    runtime_lateness: Histogram,
}

/// The routes and streams that are shown.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) routes: BTreeMap<Route, Arc<RouteTotals>>,
    pub(crate) streams: BTreeMap<(Route, String), Watched>,
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

impl Metrics {
    /// The figures of a process of this version.
    pub fn new(version: &str) -> Self {
        let board = Arc::new(Board {
            version: version.to_owned(),
            shown: Mutex::default(),
            told: Mutex::default(),
            runtime_lateness: totals::histogram(),
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(board.clone()));
        Self { registry, board }
    }

    /// Shows a running stream. One that starts again goes on counting where it stopped.
    pub(crate) fn watch(&self, spec: &RouteSpec, live: Arc<Live>, clock: Arc<dyn Clock>) -> RouteFigures {
        let mut shown = self.board.shown();
        let key = (spec.route.clone(), spec.stream.clone());
        let totals = Arc::new(StreamTotals::default());
        if shown.streams.len() >= STREAMS_MAX && !shown.streams.contains_key(&key) {
            tracing::warn!(
                stream = spec.stream,
                "more than {STREAMS_MAX} streams: the figures of this one are not shown"
            );
            return RouteFigures::new(Arc::default(), totals);
        }
        let route = shown.routes.entry(spec.route.clone()).or_default().clone();
        if let Some(before) = shown.streams.remove(&key) {
            before.count(&route);
        }
        shown
            .streams
            .insert(key, Watched::new(spec, live, clock, totals.clone()));
        RouteFigures::new(route, totals)
    }

    /// A timer of the probe's runtime fired late.
    pub(crate) fn runtime_was_late(&self, late: Duration) {
        self.board.runtime_lateness.observe(late.as_secs_f64());
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// Everything in the OpenMetrics text format, with gauges as of now. Native histograms have no text form.
    pub fn render(&self) -> String {
        let mut body = String::new();
        // Writing to a String cannot fail.
        if text::encode(&mut body, &self.registry).is_err() {
            body.clear();
        }
        body
    }

    /// Everything as length-delimited `io.prometheus.client.MetricFamily` messages, native histograms included.
    pub fn render_protobuf(&self) -> Vec<u8> {
        // Writing to a Vec cannot fail.
        prometheus_protobuf::encode_to_vec(&self.registry).unwrap_or_default()
    }
}

impl Board {
    pub(crate) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

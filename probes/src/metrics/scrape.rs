//! One scrape: everything is read at this instant, and every pair of name and labels is written once.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;

use super::capped::{Valued, capped};
use super::names::{self, Name};
use super::own::Own;
use super::totals::RouteTotals;
use super::watched::Glance;
use super::{Board, Shown, Told, seconds};
use crate::Route;

/// Labels in the order in which they are shown.
type Labels = Vec<(&'static str, String)>;

fn route_labels(route: &Route) -> Labels {
    vec![
        ("dataset", route.dataset.clone()),
        ("store", route.store.clone()),
        ("primary_site", route.primary_site.clone()),
        ("secondary_site", route.secondary_site.clone()),
        ("observer", route.observer.clone()),
    ]
}

fn with(mut labels: Labels, name: &'static str, value: &str) -> Labels {
    labels.push((name, value.to_owned()));
    labels
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Writes the metrics of one scrape, and counts what a bound folded.
struct Writing<'e> {
    encoder: DescriptorEncoder<'e>,
    folded: Vec<(&'static str, usize)>,
}

impl Writing<'_> {
    /// One metric. Its description is written also when it has no series, so that a scrape tells what there might be.
    fn family(&mut self, name: &Name, body: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result) -> fmt::Result {
        let mut encoder = self.encoder.encode_descriptor(name.base, name.help, None, name.kind)?;
        body(&mut encoder)
    }

    fn series<M: EncodeMetric>(&mut self, name: &Name, all: impl IntoIterator<Item = (Labels, M)>) -> fmt::Result {
        self.family(name, |encoder| {
            all.into_iter()
                .try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(&labels)?))
        })
    }

    /// A gauge that may have a series for each collection.
    fn by_collection<V: Copy, M: EncodeMetric>(
        &mut self,
        name: &Name,
        values: Vec<Valued<&Route, V>>,
        fold: impl Fn(V, V) -> V,
        metric: impl Fn(V) -> M,
    ) -> fmt::Result {
        let (values, folded) = capped(values, fold);
        self.folded.push((name.base, folded));
        let labelled = values.into_iter().map(|(collection, route, value)| {
            let labels = route_labels(route);
            let labels = match collection {
                Some(collection) => with(labels, "collection", &collection),
                None => labels,
            };
            (labels, metric(value))
        });
        self.series(name, labelled)
    }
}

impl Collector for Board {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.shown();
        let told = self.told();
        let mut writing = Writing {
            encoder,
            folded: Vec::new(),
        };
        for ((route, _), stream) in &shown.streams {
            if let Some(totals) = shown.routes.get(route) {
                stream.count(totals);
            }
        }
        routes(&mut writing, &shown)?;
        requests(&mut writing, &shown, &told)?;
        streams(&mut writing, &shown, &told)?;
        told_figures(&mut writing, &told)?;
        own_figures(&mut writing, self, &told)?;
        let folded = std::mem::take(&mut writing.folded);
        let folded = folded
            .into_iter()
            .map(|(metric, folded)| (vec![("metric", metric.to_owned())], gauge_of(folded)));
        writing.series(&names::SERIES_DROPPED, folded)
    }
}

fn gauge_of(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// What is counted by route.
fn routes(writing: &mut Writing<'_>, shown: &Shown) -> fmt::Result {
    type Of<M> = fn(&RouteTotals) -> &M;
    let histograms: [(Name, Of<_>); 4] = [
        (names::LAG_LOW, |totals| &totals.lag_low),
        (names::LAG_HIGH, |totals| &totals.lag_high),
        (names::WRITE, |totals| &totals.write),
        (names::LATENESS, |totals| &totals.lateness),
    ];
    for (name, of) in histograms {
        let all = shown.routes.iter();
        writing.series(
            &name,
            all.map(|(route, totals)| (route_labels(route), of(totals).clone())),
        )?;
    }
    writing.series(
        &names::CANARIES,
        shown.routes.iter().flat_map(|(route, totals)| {
            let states = totals.states.iter();
            states.map(|(state, counter)| (with(route_labels(route), "state", state.word()), counter.clone()))
        }),
    )?;
    let counters: [(Name, Of<_>); 6] = [
        (names::DUPLICATES, |totals| &totals.duplicates),
        (names::FOREIGN, |totals| &totals.foreign),
        (names::SKIPPED, |totals| &totals.skipped),
        (names::STALE_READS, |totals| &totals.stale_reads),
        (names::RIVALS, |totals| &totals.rivals),
        (names::BOUNDS_VIOLATED, |totals| &totals.bounds_violated),
    ];
    for (name, of) in counters {
        let all = shown.routes.iter();
        let of = |(route, totals): (&Route, _)| (route_labels(route), of(totals).clone());
        writing.series(&name, all.map(|(route, totals)| of((route, totals.as_ref()))))?;
    }
    Ok(())
}

/// Requests by the store's meters where these count all of them, else by the engine's own count: never both.
fn requests(writing: &mut Writing<'_>, shown: &Shown, told: &Told) -> fmt::Result {
    let is_metered = |route: &Route| {
        let mut meters = told.metered.iter();
        meters.any(|meter| meter.dataset == route.dataset && meter.store == route.store && meter.meter.is_whole())
    };
    let mut sums: BTreeMap<(&str, &str, &str, &str), (u64, f64)> = BTreeMap::new();
    for metered in &told.metered {
        for (operation, usage) in metered.meter.usage() {
            let key = (
                metered.dataset.as_str(),
                metered.store.as_str(),
                metered.site.as_str(),
                operation,
            );
            let sum = sums.entry(key).or_default();
            sum.0 += usage.requests;
            sum.1 += usage.units;
        }
    }
    let labels = |(dataset, store, site, operation): &(&str, &str, &str, &str)| -> Labels {
        vec![
            ("dataset", (*dataset).to_owned()),
            ("store", (*store).to_owned()),
            ("site", (*site).to_owned()),
            ("operation", (*operation).to_owned()),
        ]
    };
    let unmetered = shown.routes.iter().filter(|(route, _)| !is_metered(route));
    let by_engine = unmetered.flat_map(|(route, totals)| {
        let all = totals.requests.iter();
        all.map(|(operation, counter)| (with(route_labels(route), "operation", operation), counter.get()))
    });
    let by_meter = sums.iter().map(|(key, (requests, _))| (labels(key), *requests));
    let all = by_engine.chain(by_meter);
    writing.series(
        &names::REQUESTS,
        all.map(|(labels, requests)| (labels, ConstCounter::new(requests))),
    )?;
    let errors = shown.routes.iter().flat_map(|(route, totals)| {
        let errors = totals.errors().clone().into_iter();
        errors.map(|((operation, kind), times)| {
            let labels = with(route_labels(route), "operation", operation);
            (with(labels, "kind", kind), ConstCounter::new(times))
        })
    });
    writing.series(&names::ERRORS, errors)?;
    let units = sums.iter().filter(|(_, (_, units))| *units > 0.0);
    writing.series(
        &names::REQUEST_UNITS,
        units.map(|(key, (_, units))| (labels(key), ConstCounter::new(*units))),
    )
}

/// Gauges of streams. What was not collected is absent, never zero.
fn streams(writing: &mut Writing<'_>, shown: &Shown, told: &Told) -> fmt::Result {
    let glances: Vec<(&Route, Option<String>, Glance)> = shown
        .streams
        .iter()
        .map(|((route, _), stream)| (route, stream.collection.clone(), stream.glance()))
        .collect();
    // An ended stream is watched by nobody: how old its unseen canaries would be is not known.
    let running = || glances.iter().filter(|(_, _, glance)| !glance.has_ended);
    let writing_too = || running().filter(|(_, _, glance)| !glance.is_watcher);
    let oldest = writing_too().map(|(route, collection, glance)| {
        let oldest = seconds(glance.oldest_us.unwrap_or(0));
        (collection.clone(), *route, oldest)
    });
    writing.by_collection(&names::OLDEST_UNSEEN, oldest.collect(), f64::max, ConstGauge::new)?;
    let newest = running().filter_map(|(route, collection, glance)| {
        let age = seconds(glance.newest_age_us?);
        Some((collection.clone(), *route, age))
    });
    writing.by_collection(&names::NEWEST_SEEN, newest.collect(), f64::max, ConstGauge::new)?;
    let pending = writing_too().map(|(route, collection, glance)| {
        let pending = count(glance.accounting.pending);
        (collection.clone(), *route, pending)
    });
    writing.by_collection(&names::PENDING, pending.collect(), i64::saturating_add, ConstGauge::new)?;
    let mut unanswered: BTreeMap<&Route, u64> = BTreeMap::new();
    for (route, _, glance) in writing_too() {
        *unanswered.entry(route).or_default() += glance.unanswered;
    }
    let unanswered = unanswered.into_iter();
    writing.series(
        &names::UNANSWERED,
        unanswered.map(|(route, canaries)| (route_labels(route), ConstGauge::new(count(canaries)))),
    )?;
    let mut native: Vec<Valued<&Route, f64>> = running()
        .filter_map(|(route, collection, glance)| {
            let lag_us = glance.native.lag_us?;
            Some((collection.clone(), *route, seconds(lag_us)))
        })
        .collect();
    let mut mirrored = Vec::new();
    for (route, topics) in &told.mirror_lag {
        let of = |(topic, records): (&String, &u64)| (Some(topic.clone()), route, count(*records));
        mirrored.extend(topics.iter().map(of));
    }
    for ((route, _), stream) in &shown.streams {
        for (name, lag) in stream.by_collection().iter() {
            native.extend(lag.lag_us.map(|us| (Some(name.clone()), route, seconds(us))));
            mirrored.extend(
                lag.lag_records
                    .map(|records| (Some(name.clone()), route, count(records))),
            );
        }
    }
    writing.by_collection(&names::NATIVE_LAG, native, f64::max, ConstGauge::new)?;
    writing.by_collection(&names::MIRROR_LAG, mirrored, i64::max, ConstGauge::new)?;
    let as_of = running().filter_map(|(route, collection, glance)| {
        let as_of_us = glance.native.lag_as_of_us?;
        Some((collection.clone(), *route, instant(as_of_us)))
    });
    writing.by_collection(&names::NATIVE_AS_OF, as_of.collect(), f64::min, ConstGauge::new)?;
    let waiting = running().filter_map(|(route, collection, glance)| {
        let operations = glance.native.pending_operations?;
        Some((collection.clone(), *route, count(operations)))
    });
    writing.by_collection(&names::NATIVE_PENDING, waiting.collect(), i64::max, ConstGauge::new)?;

    let by_route = |value: &dyn Fn(&Glance) -> Option<i64>| -> Vec<(Labels, ConstGauge<i64>)> {
        let mut worst: BTreeMap<&Route, i64> = BTreeMap::new();
        for (route, _, glance) in running() {
            if let Some(value) = value(glance) {
                worst
                    .entry(route)
                    .and_modify(|held| *held = value.max(*held))
                    .or_insert(value);
            }
        }
        let labelled = worst.into_iter();
        labelled
            .map(|(route, value)| (route_labels(route), ConstGauge::new(value)))
            .collect()
    };
    writing.series(
        &names::ROLE_CONFLICT,
        by_route(&|glance| glance.native.role_conflict.map(i64::from)),
    )?;
    postgres(writing, &glances)
}

/// The names that operators of PostgreSQL alert on already.
fn postgres(writing: &mut Writing<'_>, glances: &[(&Route, Option<String>, Glance)]) -> fmt::Result {
    let clusters = || {
        let all = glances.iter();
        all.filter(|(route, _, glance)| route.store == "aurora" && !glance.has_ended)
    };
    let lag = clusters().filter_map(|(route, _, glance)| Some((None, *route, seconds(glance.native.lag_us?))));
    writing.by_collection(&names::POSTGRES_LAG, lag.collect(), f64::max, ConstGauge::new)?;
    let bytes = clusters().filter_map(|(route, _, glance)| Some((None, *route, count(glance.native.lag_bytes?))));
    writing.by_collection(&names::POSTGRES_LAG_BYTES, bytes.collect(), i64::max, ConstGauge::new)
}

/// Figures that the program told.
fn told_figures(writing: &mut Writing<'_>, told: &Told) -> fmt::Result {
    let named = told.unmeasured.iter().map(|one| {
        let owner = (one.dataset.as_str(), one.store.as_str());
        (Some(one.collection.clone()), owner, 1)
    });
    let (unmeasured, folded) = capped(named, i64::saturating_add);
    writing
        .folded
        .push((names::UNMEASURED.base, folded + told.unmeasured_beyond));
    writing.series(
        &names::UNMEASURED,
        unmeasured.into_iter().map(|(collection, (dataset, store), value)| {
            let labels = vec![
                ("dataset", dataset.to_owned()),
                ("store", store.to_owned()),
                ("collection", collection.unwrap_or_default()),
            ];
            (labels, ConstGauge::new(value))
        }),
    )?;
    let budget = told.budget.as_ref();
    let alone = |value: Option<f64>| value.map(|value| (Labels::new(), ConstGauge::new(value)));
    writing.series(&names::PACE, alone(budget.map(|budget| budget.pace)))?;
    writing.series(&names::SPENDING, alone(budget.and_then(|budget| budget.usd_per_hour)))?;
    writing.series(&names::BUDGET, alone(budget.map(|budget| budget.budget_usd_per_hour)))?;
    let events = told.events.iter();
    writing.series(
        &names::EVENT_ACTIVE,
        events.map(|(kind, is_active)| (vec![("kind", kind.clone())], ConstGauge::new(i64::from(*is_active)))),
    )?;
    let reconciled = || told.reconciled.iter().map(|one| (route_labels(&one.route), one));
    writing.series(
        &names::RECONCILE_SUCCESS,
        reconciled().filter_map(|(labels, one)| Some((labels, ConstGauge::new(instant(one.last_success_at_us?))))),
    )?;
    writing.series(
        &names::DIVERGENCES,
        reconciled().filter_map(|(labels, one)| Some((labels, ConstGauge::new(count(one.divergences_confirmed?))))),
    )?;
    writing.series(
        &names::UNVERIFIED,
        reconciled().filter_map(|(labels, one)| Some((labels, ConstGauge::new(count(one.collections_unverified?))))),
    )?;
    writing.series(
        &names::RECONCILE_UNREADABLE,
        [(Labels::new(), ConstCounter::new(told.reconcile_failures))],
    )
}

/// Seconds since 1970 of an instant in microseconds; one before 1970 is 1970.
fn instant(at_us: i64) -> f64 {
    seconds(u64::try_from(at_us).unwrap_or(0))
}

/// The health of the probe itself.
fn own_figures(writing: &mut Writing<'_>, board: &Board, told: &Told) -> fmt::Result {
    let own = Own::now();
    let alone = |value: Option<i64>| value.map(|value| (Labels::new(), ConstGauge::new(value)));
    let ledger = told.ledger.as_ref();
    let places = || ledger.into_iter().flat_map(|ledger| &ledger.places);
    writing.series(
        &names::LEDGER_BYTES,
        alone(ledger.and_then(|ledger| ledger.bytes).map(count)),
    )?;
    writing.series(
        &names::LEDGER_SYNC_FAILURES,
        ledger.map(|ledger| (Labels::new(), ConstCounter::new(ledger.sync_failures))),
    )?;
    let at = |place: &str| vec![("place", place.to_owned())];
    writing.series(
        &names::LEDGER_UPLOADED,
        places().filter_map(|one| Some((at(&one.place), ConstGauge::new(instant(one.complete_until_us?))))),
    )?;
    writing.series(
        &names::LEDGER_UPLOAD_FAILURES,
        places().map(|one| (at(&one.place), ConstCounter::new(one.failures))),
    )?;
    let lateness = [(Labels::new(), board.runtime_lateness.clone())];
    writing.series(&names::RUNTIME_LATENESS, lateness)?;
    writing.series(&names::MEMORY, alone(own.resident_bytes))?;
    writing.series(
        &names::CPU,
        own.cpu_seconds.map(|used| (Labels::new(), ConstCounter::new(used))),
    )?;
    writing.series(&names::OPEN_FILES, alone(own.open_files))?;
    writing.family(&names::BUILD, |encoder| {
        let info = Info::new(vec![("version", board.version.clone())]);
        // An info is no family of its own; its labels are those that it carries.
        info.encode(encoder.encode_family(&Labels::new())?)
    })
}

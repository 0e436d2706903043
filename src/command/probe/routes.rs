//! What there is to probe: every ordered pair of sites of every unit, awake where the first is stated to take writes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use probes::{Metrics, Pace, Polling, Rate, Route, RouteSpec, StatedWriters, Unmeasured};
use stores::{StoreError, kafka};
use tokio::sync::watch;

use super::costs::Metered;
use crate::command::Context;
use crate::config::{Config, Dataset};
use crate::exit::Failure;
use crate::lanes::{self, Lane, stream};
use crate::run::Run;
use crate::selection;
use crate::topology::{self, Source, Unit};

/// How long a mirror may take to tell its lag when the probe starts.
const STATUS_PATIENCE: Duration = Duration::from_secs(10);

/// Everything to probe, and what is not.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) specs: Vec<RouteSpec>,
    /// What could not be prepared: the probe goes on without it, says so, and tries again.
    pub(super) missing: Vec<Missing>,
    /// Collections whose lag nobody measures.
    pub(super) unmeasured: Vec<Unmeasured>,
    pub(super) metered: Vec<Metered>,
    /// How fast routes go that are paid for by the request.
    pub(super) pace: watch::Sender<Pace>,
}

/// A direction whose store did not say what there is.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) unit: String,
    collection: Option<String>,
    pub(super) primary: String,
    pub(super) secondary: String,
    /// Why, where a writer is stated for it; `None`: nobody waits for it now.
    reason: Option<String>,
    /// What is said to be unmeasured until it is there.
    pub(super) unmeasured: Option<Unmeasured>,
}

impl Missing {
    /// Whether it is a direction of `unit`.
    pub(super) fn is_of(&self, unit: &Unit<'_>) -> bool {
        self.unit == unit.name && self.collection.as_deref() == unit.collection()
    }
}

impl Plan {
    fn new(pace: watch::Sender<Pace>) -> Self {
        Self {
            specs: Vec::new(),
            missing: Vec::new(),
            unmeasured: Vec::new(),
            metered: Vec::new(),
            pace,
        }
    }

    /// A plan of the same probe with nothing in it.
    pub(super) fn empty(&self) -> Self {
        Self::new(self.pace.clone())
    }

    /// Why routes that a writer is stated for are not probed.
    pub(super) fn not_probed(&self) -> Vec<String> {
        self.missing.iter().filter_map(|one| one.reason.clone()).collect()
    }

    /// Tells the figures of what is not measured, and of the requests that are paid for.
    pub(super) fn show(&self, metrics: &Metrics) {
        metrics.set_unmeasured(self.unmeasured.clone());
        self.metered.iter().for_each(|one| one.show(metrics));
    }

    fn unmeasured(&mut self, unit: &Unit<'_>, collection: &str, reason: &str) {
        self.unmeasured.push(Unmeasured {
            dataset: unit.lag_name().to_owned(),
            store: unit.store().to_owned(),
            collection: collection.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

/// Plans the probe. A store that has to be asked what there is and does not answer takes nothing away from the others.
///
/// # Errors
/// What the configuration has to change first.
pub(super) async fn plan(context: &Context, run: &Run) -> Result<Plan, Failure> {
    let mut plan = Plan::new(watch::Sender::new(Pace::FULL));
    for unit in topology::units(&context.config) {
        for primary in unit.sites.iter().copied() {
            for secondary in unit.sites.iter().copied().filter(|site| *site != primary) {
                plan.prepare(context, &unit, (primary, secondary), run).await?;
            }
        }
        if let Source::Dynamodb(config, names) = unit.source
            && config.canary.table.is_some()
        {
            plan.unmeasured(
                &unit,
                names.shown(unit.primary()),
                "its canaries have a table of their own, which represents only itself",
            );
        }
    }
    Ok(plan)
}

impl Plan {
    /// Adds what there is to probe from `primary` to `secondary`; a store that does not say is missing.
    ///
    /// # Errors
    /// What the configuration has to change first.
    pub(super) async fn prepare(
        &mut self,
        context: &Context,
        unit: &Unit<'_>,
        (primary, secondary): (&str, &str),
        run: &Run,
    ) -> Result<(), Failure> {
        let is_awake = unit.writers.contains(&primary);
        let found = match lanes::lanes(unit, primary, secondary).await {
            Ok(found) => found,
            Err(error @ StoreError::Config(_)) if is_awake => return Err(error.into()),
            Err(error) => {
                self.left_out(unit, (primary, secondary), is_awake, &error);
                return Ok(());
            }
        };
        if is_awake {
            for note in &found.notes {
                tracing::warn!(
                    unit = unit.name,
                    primary_site = primary,
                    secondary_site = secondary,
                    "{note}"
                );
            }
            self.topics_without_figure(unit, found.lanes.first()).await;
            if found.lanes.is_empty() {
                self.unmeasured(unit, shown(unit), "no replication rule takes it to the other site");
            }
        }
        for lane in found.lanes {
            self.add(context, unit, (primary, secondary), run, lane)?;
        }
        Ok(())
    }

    /// Canaries stand for their own topic alone. The topics of a dataset are measured where the mirror's record of offsets tells their lag.
    async fn topics_without_figure(&mut self, unit: &Unit<'_>, lane: Option<&Lane>) {
        let topics: Vec<&kafka::Topics> = unit
            .datasets
            .values()
            .filter_map(|dataset| match dataset {
                Dataset::Kafka(topics) => Some(topics),
                _ => None,
            })
            .collect();
        let Some(status) = lane
            .and_then(|lane| lane.secondary.status.as_ref())
            .filter(|_| !topics.is_empty())
        else {
            return;
        };
        let told = tokio::time::timeout(STATUS_PATIENCE, status.status()).await;
        let told = told
            .ok()
            .and_then(Result::ok)
            .map(|told| told.collections)
            .unwrap_or_default();
        for pattern in topics.iter().flat_map(|topics| &topics.topics) {
            let glob = selection::pattern(pattern);
            let is_told = |name: &String| glob.as_ref().is_ok_and(|glob| glob.is_match(name.replace('.', "/")));
            if !told
                .iter()
                .any(|(name, lag)| lag.lag_records.is_some() && is_told(name))
            {
                self.unmeasured(
                    unit,
                    pattern,
                    "the mirror's record of offsets tells no lag of such a topic",
                );
            }
        }
    }

    fn left_out(&mut self, unit: &Unit<'_>, (primary, secondary): (&str, &str), is_awake: bool, error: &StoreError) {
        let mut missing = Missing {
            unit: unit.name.to_owned(),
            collection: unit.collection().map(str::to_owned),
            primary: primary.to_owned(),
            secondary: secondary.to_owned(),
            reason: None,
            unmeasured: None,
        };
        if is_awake {
            tracing::error!(unit = unit.name, primary_site = primary, secondary_site = secondary, %error, "not probed; it is tried again");
            self.unmeasured(unit, shown(unit), "it could not be prepared yet; the probe tries again");
            missing.unmeasured = self.unmeasured.last().cloned();
            missing.reason = Some(format!("{} ({primary} to {secondary}): {error}", unit.name));
        } else {
            tracing::debug!(unit = unit.name, primary_site = primary, %error, "not ready to be probed in this direction");
        }
        self.missing.push(missing);
    }

    fn add(
        &mut self,
        context: &Context,
        unit: &Unit<'_>,
        (primary, secondary): (&str, &str),
        run: &Run,
        lane: Lane,
    ) -> Result<(), Failure> {
        let route = route(unit, primary, secondary, &observer(&context.config, run));
        let named = context.config.probe.name.as_deref().unwrap_or(&run.host);
        // What is asked of CloudWatch beside a route does not go by its rate: slowing it would save nothing.
        let mut meters = [&lane.primary.meter, &lane.secondary.meter].into_iter().flatten();
        let is_paid_for = meters.any(|meter| meter.is_whole());
        let ends = [(primary, &lane.primary.meter), (secondary, &lane.secondary.meter)];
        for (site, meter) in ends
            .into_iter()
            .filter_map(|(site, meter)| Some((site, meter.as_ref()?)))
        {
            self.metered.push(Metered {
                route: route.clone(),
                site: site.to_owned(),
                collection: lane.collection.clone(),
                meter: meter.clone(),
            });
        }
        let mut settings = context.config.defaults.probe.clone();
        settings.rate = Some(settings.rate(unit.store()));
        self.specs.push(RouteSpec {
            route,
            collection: lane.collection,
            stream: stream(&lane.name, named),
            writer: wanted(lane.primary.canary_writer, primary, "write canaries")?,
            reader: wanted(lane.secondary.canary_reader, secondary, "watch canaries")?,
            primary_status: lane.primary.status,
            secondary_status: lane.secondary.status,
            single_writer: unit.aurora().is_some(),
            settings,
            polling: polling(unit.store()),
            part: context.config.probe.part,
            pace: is_paid_for.then(|| self.pace.subscribe()),
        });
        Ok(())
    }
}

/// How this process is called in evidence.
pub(super) fn observer(config: &Config, run: &Run) -> String {
    let here = config.here.clone().or_else(|| std::env::var("DRIFTLINE_SITE").ok());
    match here {
        Some(site) => format!("{site}/{}", run.host),
        None => run.host.clone(),
    }
}

fn shown<'u>(unit: &Unit<'u>) -> &'u str {
    unit.collection().unwrap_or(unit.name)
}

fn polling(store: &str) -> Polling {
    match store {
        "kafka" => Polling::KAFKA,
        "dynamodb" => Polling::DYNAMODB,
        "s3" => Polling::S3,
        _ => Polling::AURORA,
    }
}

fn wanted<T: ?Sized>(ability: Option<Arc<T>>, site: &str, what: &str) -> Result<Arc<T>, Failure> {
    ability.ok_or_else(|| Failure::refused(anyhow!("site {site}: this store cannot {what}")))
}

/// The writers that are stated in `config`, as the engine asks for them.
pub(super) fn stated(config: &Config, statement: u64) -> StatedWriters {
    let units = topology::units(config);
    let writers = units.iter().flat_map(|unit| {
        let name = unit.lag_name();
        unit.writers
            .iter()
            .map(move |site| (name.to_owned(), (*site).to_owned()))
    });
    StatedWriters::new(statement, writers)
}

/// The route as evidence names it: by its dataset, or by its connection where one canary stands for several datasets.
pub(crate) fn route(unit: &Unit<'_>, primary: &str, secondary: &str, observer: &str) -> Route {
    Route {
        dataset: unit.lag_name().to_owned(),
        store: unit.store().to_owned(),
        primary_site: primary.to_owned(),
        secondary_site: secondary.to_owned(),
        observer: observer.to_owned(),
    }
}

/// The rates that are stated or usual, one word a store: for logs.
pub(super) fn rates(config: &Config) -> String {
    let of = |store: &str| -> (String, Rate) { (store.to_owned(), config.defaults.probe.rate(store)) };
    let stores = ["aurora", "dynamodb", "s3", "kafka"].map(of);
    stores.map(|(store, rate)| format!("{store} {rate}")).join(", ")
}

//! What is to be compared: each dataset over each pair of sites, and the ends of each pair.

use std::time::Duration;

use anyhow::anyhow;
use reconcile::{FenceKind, Limits, NotSelected, Pair, ReadsInFlight, Selected, Settings, Stop, Workplace};
use stores::aurora::FenceChoice;
use stores::{Collection, End, Identity, Relation, Role};

use super::planning::check_settings;
use super::progress::Progress;
use super::sharding::of_plan;
use super::{Compared, Context};
use crate::config::{self, Tables};
use crate::exit::{Exit, Failure};
use crate::selection::Selection;
use crate::topology::{self, Unit};

/// Tries of each question before the run begins. One that fails may be the fault of a standby that goes on replaying.
const OPENING_TRIES: u32 = 2;

/// One dataset over one pair.
pub(super) struct Job<'a> {
    pub(super) unit: &'a Unit<'a>,
    pub(super) dataset: &'a str,
    pub(super) tables: &'a Tables,
    pub(super) secondary: &'a str,
}

impl Job<'_> {
    pub(super) fn about(&self) -> String {
        let primary = self.unit.primary();
        format!("dataset {}, {primary} against {}", self.dataset, self.secondary)
    }

    /// How long a fence by time waits, where one is stated.
    fn time_fence(&self) -> Option<Duration> {
        let FenceChoice::Time(wait) = self.unit.aurora()?.fence?;
        Duration::try_from(wait).ok()
    }

    /// The bounds of this job, by those of its run and by what its sites bear.
    pub(super) fn limits(&self, settings: &config::Reconcile, of_run: &Limits) -> Limits {
        let reads_at = |site: &str| {
            let parallel = settings.parallel_at.get(site).map(|parallel| parallel.get());
            parallel.map_or(of_run.chunks_in_flight, |parallel| {
                parallel.min(of_run.chunks_in_flight)
            })
        };
        Limits {
            time_fence: self.time_fence().unwrap_or(of_run.time_fence),
            reads_in_flight: ReadsInFlight {
                primary: reads_at(self.unit.primary()),
                secondary: reads_at(self.secondary),
            },
            ..of_run.clone()
        }
    }
}

/// One job whose ends are open.
pub(super) struct Opened<'a> {
    /// Its number in the plan of a run that goes on.
    pub(super) at: usize,
    pub(super) job: Job<'a>,
    pub(super) ends: Ends,
    pub(super) progress: Progress,
}

impl Opened<'_> {
    /// Tells people what happens to it.
    pub(super) fn listener(&self) -> impl Fn(reconcile::Event) + Send + Sync {
        |event| self.progress.tell(&event)
    }
}

/// Opens the ends of every job of a plan that was made before.
///
/// # Errors
/// The configuration is another one now, or an end does not answer and there is no other job.
pub(super) async fn reopen<'a>(
    context: &Context,
    units: &'a [Unit<'a>],
    workplace: &Workplace,
    stop: &Stop,
    compared: &mut Compared,
) -> Result<Vec<Opened<'a>>, Failure> {
    let plan = workplace.plan();
    for reason in &plan.not_compared {
        compared.missing(reason.clone());
    }
    let mut opened = Vec::new();
    for (at, planned) in plan.jobs.iter().enumerate() {
        check_settings(context, plan, planned)?;
        let (jobs, _) = jobs(units, std::slice::from_ref(&planned.dataset))?;
        let job = of_plan(jobs, planned)?;
        let ends = tokio::select! {
            biased;
            () = stop.now.cancelled() => Err(Failure::from(reconcile::ReconcileError::Stopped)),
            ends = open(Some(planned.plan.relation), &job) => ends,
        };
        match ends.map_err(|failure| failure.context(job.about())) {
            Ok(ends) => opened.push(Opened {
                at,
                progress: Progress::new(job.dataset),
                job,
                ends,
            }),
            Err(failure) if failure.exit == Exit::Refused || plan.jobs.len() == 1 => return Err(failure),
            Err(failure) => compared.missed(&failure),
        }
    }
    Ok(opened)
}

/// Both ends of one job, and what is there.
pub(super) struct Ends {
    pub(super) pair: Pair,
    pub(super) reached: [(String, Identity); 2],
    pub(super) selected: Vec<Selected>,
    pub(super) not_selected: Vec<NotSelected>,
}

/// The comparisons that are wanted; an empty list of datasets means all. The second list says why a dataset that is wanted is not
/// compared: leaving it out in silence would pass for "equal".
///
/// # Errors
/// An unknown dataset, or none at all.
pub(super) fn jobs<'a>(units: &'a [Unit<'a>], wanted: &[String]) -> Result<(Vec<Job<'a>>, Vec<String>), Failure> {
    let known: Vec<&str> = units.iter().flat_map(|unit| unit.datasets.keys().copied()).collect();
    if let Some(name) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::refused(anyhow!(
            "unknown dataset `{name}`; known: {}",
            known.join(", ")
        )));
    }
    let is_wanted = |dataset: &str| wanted.is_empty() || wanted.iter().any(|name| name == dataset);
    let (mut jobs, mut not_compared) = (Vec::new(), Vec::new());
    for unit in units {
        for (dataset, tables) in unit.tables() {
            if is_wanted(dataset) {
                jobs.extend(unit.secondaries().map(|secondary| Job {
                    unit,
                    dataset,
                    tables,
                    secondary,
                }));
            }
        }
    }
    let others = units.iter().filter(|unit| unit.aurora().is_none());
    let mut others: Vec<(&str, &str)> = others
        .flat_map(|unit| unit.datasets.keys().map(|dataset| (*dataset, unit.store())))
        .filter(|(dataset, _)| is_wanted(dataset))
        .collect();
    others.dedup();
    not_compared.extend(others.into_iter().map(|(dataset, store)| {
        format!("dataset {dataset}: this version compares PostgreSQL only, not {store}; its lag and loss are probed")
    }));
    if jobs.is_empty() && not_compared.is_empty() {
        return Err(Failure::refused(anyhow!("the configuration has no dataset to compare")));
    }
    Ok((jobs, not_compared))
}

/// `stated`: the relation, where it is not detected.
pub(super) async fn open(stated: Option<Relation>, job: &Job<'_>) -> Result<Ends, Failure> {
    let unit = job.unit;
    let primary = unit.writer_end(unit.primary()).await?;
    let stated = stated.or_else(|| unit.aurora().and_then(|aurora| aurora.relation));
    // A replicating secondary is read where readers read; an independent one is a writer of its own.
    let reader = unit.reader_end(job.secondary).await?;
    let (a, b) = (identity(&primary).await?, identity(&reader).await?);
    if a.same_data(&b) {
        return Err(Failure::from(reconcile::ReconcileError::SameData {
            primary_site: unit.primary().to_owned(),
            secondary_site: job.secondary.to_owned(),
            instance: b.instance,
        }));
    }
    let relation = topology::relation(stated, &a, &b).map_err(|problem| Failure::refused(anyhow!(problem)))?;
    let is_timed = job.time_fence().is_some();
    let applies_a_log = a.lineage.is_some() && a.lineage == b.lineage;
    if is_timed && relation == Relation::Replicating && b.role == Role::ReadOnly && !applies_a_log {
        return Err(Failure::refused(anyhow!(
            "fence = {{ time = ... }}: site {} takes no writes and does not follow site {}, so nothing tells how far it is; name the server that applies",
            job.secondary,
            unit.primary()
        )));
    }
    // A copy that replicates and takes writes applies transactions, and no log.
    let logical = match (relation, b.role, is_timed) {
        (Relation::Replicating, Role::Writable, false) => {
            Some((unit.logical_ends(unit.primary(), job.secondary), FenceKind::Canary))
        }
        (Relation::Replicating, Role::Writable, true) => {
            Some((unit.subscribed_ends(unit.primary(), job.secondary), FenceKind::Time))
        }
        _ => None,
    };
    let logical = logical.and_then(|(ends, fence)| Some((ends?, fence)));
    let (primary, secondary, fence) = match (logical, relation) {
        (Some((ends, fence)), _) => {
            let [primary, secondary] = ends?;
            (primary, secondary, fence)
        }
        (None, Relation::Replicating) if is_timed => (primary, reader, FenceKind::Time),
        (None, Relation::Replicating) => (primary, reader, FenceKind::Lsn),
        (None, Relation::Independent | Relation::Frozen) => {
            (primary, unit.writer_end(job.secondary).await?, FenceKind::None)
        }
    };
    let reached = [(unit.primary().to_owned(), a), (job.secondary.to_owned(), b)];
    let pair = Pair {
        primary,
        secondary,
        relation,
        fence,
    };
    Ok(Ends {
        pair,
        reached,
        selected: Vec::new(),
        not_selected: Vec::new(),
    })
}

/// Every collection of both ends, by name, told apart by the dataset's patterns.
pub(super) async fn select(pair: &Pair, job: &Job<'_>) -> Result<(Vec<Selected>, Vec<NotSelected>), Failure> {
    let selection = Selection::of(job.tables).map_err(Failure::refused)?;
    let (primary, secondary) = (collections(&pair.primary).await?, collections(&pair.secondary).await?);
    let everything: Vec<Collection> = primary.iter().chain(&secondary).cloned().collect();
    let unmatched = selection.unmatched(&everything);
    if !unmatched.is_empty() {
        return Err(Failure::cannot_tell(anyhow!(
            "pattern {} matches no table at either site; correct `tables`, or look at the tables with `driftline check`",
            unmatched
                .iter()
                .map(|pattern| format!("`{pattern}`"))
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    if let Some(name) = job
        .tables
        .table
        .keys()
        .find(|name| !everything.iter().any(|one| one.name == **name))
    {
        return Err(Failure::cannot_tell(anyhow!(
            "settings are given for table {name}, which neither site has"
        )));
    }
    let mut names: Vec<&str> = everything.iter().map(|collection| collection.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let (mut selected, mut not_selected) = (Vec::new(), Vec::new());
    for name in names {
        let find = |side: &[Collection]| side.iter().find(|collection| collection.name == name).cloned();
        let (primary, secondary) = (find(&primary), find(&secondary));
        let is_canary = [&primary, &secondary]
            .into_iter()
            .flatten()
            .any(|collection| collection.is_canary);
        if selection.selects(name) && !is_canary {
            let table = job.tables.table.get(name).cloned().unwrap_or_default();
            let settings = Settings {
                scope: table.scope(),
                changed_at: table.changed_at,
                exclude_columns: table.exclude_columns,
            };
            selected.push(Selected {
                primary,
                secondary,
                settings,
            });
        } else {
            not_selected.push(NotSelected { primary, secondary });
        }
    }
    // By name among equals: the sort keeps their order.
    selected.sort_by_key(|one| std::cmp::Reverse(priority(job.tables, one)));
    Ok((selected, not_selected))
}

fn priority(tables: &Tables, selected: &Selected) -> i32 {
    let side = selected.primary.as_ref().or(selected.secondary.as_ref());
    let table = side.and_then(|side| tables.table.get(&side.name));
    table.and_then(|table| table.priority).unwrap_or_default()
}

pub(super) async fn collections(end: &End) -> Result<Vec<Collection>, Failure> {
    let catalog = end
        .catalog
        .as_ref()
        .ok_or_else(|| Failure::refused(anyhow!("site {}: this store has no catalog to compare", end.site)))?;
    // A standby may cancel what is asked of its catalog, too.
    Ok(reconcile::asked(&opening(), &end.site, || catalog.collections())
        .await
        .0?)
}

/// Bounds of the first look at both ends: an address where nobody answers is told soon.
fn opening() -> Limits {
    Limits {
        attempts_max: OPENING_TRIES,
        ..Limits::default()
    }
}

pub(super) async fn identity(end: &End) -> Result<Identity, Failure> {
    Ok(reconcile::asked(&opening(), &end.site, || end.identify.identity())
        .await
        .0?)
}

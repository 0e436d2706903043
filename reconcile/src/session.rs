//! What one process does for one pair: it plans, and it compares shards.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use stores::{Collection, Identity, Relation, Role};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::attempt::Attempt;
use crate::compare::{Comparison, Rechecking, identities};
use crate::disclose::Disclosure;
use crate::gates::Gates;
use crate::link::Link;
use crate::look::{Earlier, Look};
use crate::one_side::Streak;
use crate::pace::Pacer;
use crate::plan::{self, Cut, Facts, Plan, PlannedCollection, RowPlan, Work};
use crate::progress::{Event, Listener};
use crate::recheck::{FenceMood, Recheck};
use crate::recorded::Recorded;
use crate::retry::asked;
use crate::run_plan::Shard;
use crate::scan_digest::Reading;
use crate::scan_plan::{self, Scan};
use crate::scan_resolve::Resolved;
use crate::shard::{Piece, Stage};
use crate::workplace::Workplace;
use crate::{FenceKind, KeySecret, Pair, ReconcileError, Request, Side, schema};

/// Chunks that are open for each one that may read: the others wait for their rechecks, most of which is time that has to pass.
const CHUNKS_FOR_ONE_THAT_READS: usize = 16;

/// How a run is asked to end before it is complete.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// At once: what is being compared is cut off and does not count.
    pub now: CancellationToken,
    /// In order: no chunk is begun, those that are being compared come to their end.
    pub soon: CancellationToken,
}

impl Stop {
    /// Whether it is asked to end.
    pub fn is_asked(&self) -> bool {
        self.now.is_cancelled() || self.soon.is_cancelled()
    }
}

/// What became of one shard in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// Its result is durable: of this process, or of another one that was first.
    Durable,
    /// The run was asked to end before it was whole. What is committed of it stays, on this machine.
    Unfinished,
}

/// One pair in one process: what was proved of its link, and whether its fences are passed.
pub struct Session<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) key_hash: Option<KeySecret>,
    pub(crate) listener: Listener<'a>,
    pub(crate) stop: Stop,
    pub(crate) link: Link,
    pub(crate) fences: FenceMood,
    pacer: Pacer,
    gates: Gates,
    /// By job, what an earlier run recorded: read once.
    recorded: tokio::sync::Mutex<HashMap<usize, Arc<Recorded>>>,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("pair", self.pair)
            .finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// A session over `pair`. `key_hash` is needed where keys appear hashed.
    pub fn new(
        pair: &'a Pair,
        key_hash: Option<KeySecret>,
        listener: &'a (dyn Fn(Event) + Send + Sync),
        stop: Stop,
    ) -> Self {
        Self {
            pair,
            key_hash,
            listener,
            stop,
            link: Link::default(),
            fences: FenceMood::default(),
            pacer: Pacer::default(),
            gates: Gates::default(),
            recorded: tokio::sync::Mutex::default(),
        }
    }

    /// Pins everything that the comparison depends on.
    ///
    /// # Errors
    /// `SameData`, `Request`, `Store`, `Stopped`.
    pub async fn plan(&self, request: &Request) -> Result<Plan, ReconcileError> {
        let disclosure = Disclosure::new(request.disclosure, self.key_hash.clone())?;
        tokio::select! {
            biased;
            () = self.stop.now.cancelled() => Err(ReconcileError::Stopped),
            plan = self.plan_all(request, disclosure.id()) => plan,
        }
    }

    async fn plan_all(&self, request: &Request, key_hash_id: Option<String>) -> Result<Plan, ReconcileError> {
        let limits = &request.limits;
        let (primary, secondary) = self.identities(limits).await?;
        // A standby in recovery applies the whole log: a publication beside it changes nothing about that.
        let is_physical =
            primary.lineage.is_some() && primary.lineage == secondary.lineage && secondary.role == Role::ReadOnly;
        let mut is_logical = false;
        for end in [&self.pair.primary, &self.pair.secondary] {
            if let Some(status) = &end.status {
                is_logical |= asked(limits, &end.site, || status.status()).await.0?.is_logical;
            }
        }
        let instances = (primary.instance.as_str(), secondary.instance.as_str());
        let selected = schema::settle(self.pair, request, &self.link, instances, self.listener).await;
        let needs_link = selected
            .iter()
            .any(|(one, _)| one.primary.as_ref().is_some_and(|side| side.is_counter))
            && self.pair.relation == Relation::Replicating
            && self.pair.fence != FenceKind::None;
        let link = match needs_link {
            true => self.link.prove(self.pair, limits, instances, self.listener).await,
            false => Ok(()),
        };
        let facts = Facts {
            link,
            primary,
            secondary,
            is_logical: is_logical && !is_physical,
            selected,
        };
        let plan = plan::plan(self.pair, request, key_hash_id, facts).await;
        let compared = || plan.collections.iter().filter_map(PlannedCollection::rows);
        (self.listener)(Event::Planned {
            collections: u64::try_from(compared().count()).unwrap_or(u64::MAX),
            chunks: compared().map(|rows| rows.cut.len()).sum(),
        });
        Ok(plan)
    }

    /// Both ends, which must not be one and the same.
    pub(crate) async fn identities(&self, limits: &crate::Limits) -> Result<(Identity, Identity), ReconcileError> {
        let (primary, secondary) = identities(self.pair, limits).await?;
        if primary.same_data(&secondary) {
            return Err(ReconcileError::SameData {
                primary_site: self.pair.primary.site.clone(),
                secondary_site: self.pair.secondary.site.clone(),
                instance: secondary.instance,
            });
        }
        Ok((primary, secondary))
    }

    /// Refuses a plan that was made for other ends than those that this session reaches, or with another secret.
    ///
    /// # Errors
    /// `OtherPlan`, `SameData`, `Request`, `Store`.
    pub async fn admit(&self, plan: &Plan) -> Result<(), ReconcileError> {
        let (primary, secondary) = self.identities(&plan.limits).await?;
        for (end, site, found, planned) in [
            (&self.pair.primary, &plan.primary_site, &primary, &plan.primary),
            (&self.pair.secondary, &plan.secondary_site, &secondary, &plan.secondary),
        ] {
            let is_same = end.site == *site && found.lineage == planned.lineage && found.role == planned.role;
            if !is_same {
                return Err(ReconcileError::OtherPlan(format!(
                    "the plan was made for site {site} as {:?} of lineage {}, and site {} now is {:?} of lineage {}; plan again",
                    planned.role,
                    planned.lineage.as_deref().unwrap_or("unknown"),
                    end.site,
                    found.role,
                    found.lineage.as_deref().unwrap_or("unknown")
                )));
            }
        }
        if self.pair.relation != plan.relation || self.pair.fence != plan.fence {
            return Err(ReconcileError::OtherPlan(
                "the plan was made for another relation of the two sites; plan again".to_owned(),
            ));
        }
        if Disclosure::new(plan.disclosure, self.key_hash.clone())?.id() != plan.key_hash_id {
            return Err(ReconcileError::OtherPlan(
                "the plan was made with another key_hash secret, so that hashes of keys would not fit together; use the same one".to_owned(),
            ));
        }
        Ok(())
    }

    /// Compares a shard, going on where an earlier attempt of this machine ended, and makes its result durable.
    ///
    /// # Errors
    /// `Journal`, `Place`, `Corrupt`, `Request`.
    pub async fn shard(&self, work: &Workplace, shard: &Shard) -> Result<Staged, ReconcileError> {
        if work.is_won(shard).await? {
            return Ok(Staged::Durable);
        }
        let job = work.plan().jobs.get(shard.job);
        let plan = &job
            .ok_or_else(|| ReconcileError::OtherPlan("the shard is of no job of the plan".to_owned()))?
            .plan;
        let early = work.early(shard).await?;
        if !early.is_empty() {
            return Err(ReconcileError::Early {
                shard: shard.number,
                on: early,
            });
        }
        let attempt = work.attempt(shard, plan.limits.listed_max)?;
        if !attempt.committed.is_ended {
            let is_done = match &shard.stage {
                Stage::Digest(scan) => self.scan(plan, scan, &attempt).await?,
                Stage::Compare | Stage::Resolve => self.pieces(plan, work, shard, &attempt).await?,
            };
            if !is_done {
                attempt.recorder.sync()?;
                return Ok(Staged::Unfinished);
            }
        }
        attempt.end()?;
        if !work.publish(shard, &attempt).await? {
            tracing::info!(shard = shard.number, "another worker was first; its result counts");
        }
        Ok(Staged::Durable)
    }

    /// Carries out shards in their order, all of one job: the parts of one pass side by side, everything else one after the other.
    ///
    /// # Errors
    /// As [`shard`](Self::shard), of the first that has one.
    pub async fn shards(&self, work: &Workplace, shards: &[Shard]) -> Result<Staged, ReconcileError> {
        let pass = |shard: &Shard| match &shard.stage {
            Stage::Digest(scan) => Some((scan.collection, scan.pass)),
            Stage::Compare | Stage::Resolve => None,
        };
        for group in shards.chunk_by(|one, next| pass(one).is_some() && pass(one) == pass(next)) {
            let in_flight = group
                .first()
                .and_then(|shard| work.plan().jobs.get(shard.job))
                .map_or(1, |job| job.plan.limits.chunks_in_flight.max(1));
            let mut staged = futures::stream::iter(group.to_vec())
                .map(async |shard| self.shard(work, &shard).await)
                .buffer_unordered(in_flight);
            let mut is_durable = true;
            while let Some(one) = staged.try_next().await? {
                is_durable &= one == Staged::Durable;
            }
            if !is_durable {
                return Ok(Staged::Unfinished);
            }
        }
        Ok(Staged::Durable)
    }

    /// Reads one part of one side; `false`: the run was asked to end before.
    async fn scan(&self, plan: &Plan, scan: &Scan, attempt: &Attempt) -> Result<bool, ReconcileError> {
        if attempt.committed.scanned.is_some() {
            return Ok(true);
        }
        let (planned, rows, primary, secondary) = compared(plan, scan.collection)?;
        let (end, collection) = match scan.side {
            Side::Primary => (&self.pair.primary, primary),
            Side::Secondary => (&self.pair.secondary, secondary),
        };
        let scans = match &rows.cut {
            Cut::Scans(scans) => scans,
            _ => {
                return Err(ReconcileError::OtherPlan(format!(
                    "the plan does not scan {}",
                    planned.name
                )));
            }
        };
        let part = scans.parts(scan.side).get(scan.part);
        let part = part.ok_or_else(|| ReconcileError::OtherPlan(format!("{} has no such part", planned.name)))?;
        if self.stop.is_asked() {
            return Ok(false);
        }
        let reading = Reading {
            end,
            collection,
            rows,
            scans,
            scan,
            part,
            limits: &plan.limits,
            keeps_rows: plan.look == Look::All,
        };
        let read = async {
            let _entered = self.gates.enter(scan.side, &plan.limits).await;
            reading.record(attempt).await
        };
        let read = tokio::select! {
            biased;
            () = self.stop.now.cancelled() => return Ok(false),
            read = read => read?,
        };
        (self.listener)(Event::Scanned {
            collection: planned.name.clone(),
            site: end.site.clone(),
            rows: read,
        });
        Ok(true)
    }

    /// Compares every chunk of a shard; `false`: the run was asked to end before.
    async fn pieces(
        &self,
        plan: &Plan,
        work: &Workplace,
        shard: &Shard,
        attempt: &Attempt,
    ) -> Result<bool, ReconcileError> {
        let disclosure = Disclosure::new(plan.disclosure, self.key_hash.clone())?;
        for piece in &shard.pieces {
            let is_done = match &plan.look {
                Look::All => {
                    let scanned = scanned(plan, work, shard, piece).await?;
                    let all = self.piece(plan, &disclosure, piece, attempt, scanned.as_ref());
                    all.await?
                }
                Look::Keys { .. } => {
                    let earlier = Earlier::kept(work.local(), shard.job)?;
                    let keys = self.keys(plan, &disclosure, piece.collection, attempt, &earlier);
                    keys.await?
                }
                Look::Against { .. } => {
                    let recorded = self.recorded(plan, work, shard.job).await?;
                    let scanned = scanned(plan, work, shard, piece).await?;
                    let against = self.against(plan, piece, attempt, &recorded, scanned.as_ref());
                    against.await?
                }
            };
            if !is_done {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the earlier run that a plan rests on recorded of the side that is not asked.
    async fn recorded(&self, plan: &Plan, work: &Workplace, job: usize) -> Result<Arc<Recorded>, ReconcileError> {
        let mut known = self.recorded.lock().await;
        if let Some(known) = known.get(&job) {
            return Ok(Arc::clone(known));
        }
        let (plan, local) = (plan.clone(), work.local().to_owned());
        // It reads a file for as long as seconds.
        let read =
            tokio::task::spawn_blocking(move || Recorded::read(&Earlier::kept(&local, job)?, &plan, &local)).await;
        let read = read.map_err(|error| ReconcileError::Corrupt(format!("the record was not read: {error}")))??;
        let read = Arc::new(read);
        known.insert(job, Arc::clone(&read));
        Ok(read)
    }

    /// Compares the chunks of one piece that are not committed; `false`: the run was asked to end before.
    async fn piece(
        &self,
        plan: &Plan,
        disclosure: &Disclosure,
        piece: &Piece,
        attempt: &Attempt,
        scanned: Option<&Resolved>,
    ) -> Result<bool, ReconcileError> {
        let (planned, rows, primary, secondary) = compared(plan, piece.collection)?;
        let open: Vec<_> = (0u64..)
            .zip(rows.cut.parts())
            .filter(|(id, _)| piece.chunks.contains(id) && !attempt.has(&planned.name, *id))
            .collect();
        let count = u64::try_from(open.len()).unwrap_or(u64::MAX);
        if open.is_empty() {
            return Ok(true);
        }
        if self.stop.is_asked() {
            return Ok(false);
        }
        (self.listener)(Event::Begun {
            collection: planned.name.clone(),
            chunks: count,
        });
        let unfit = tokio::select! {
            biased;
            () = self.stop.now.cancelled() => return Ok(false),
            unfit = self.unfit(plan, rows, primary, secondary) => unfit,
        };
        let unfit = unfit.or_else(|| scanned?.unfit(plan));
        let recheck = self.recheck(plan, rows, (primary, secondary));
        let streak = Streak::default();
        let in_flight = plan.limits.chunks_in_flight.max(1);
        let (reading, rechecking) = (
            Semaphore::new(in_flight),
            Rechecking::new(plan.limits.rechecked_keys_max),
        );
        let comparison = Comparison {
            pair: self.pair,
            limits: &plan.limits,
            name: &planned.name,
            primary,
            secondary,
            rows,
            roles: (plan.primary.role, plan.secondary.role),
            recheck: &recheck,
            fork: plan.fork.as_ref(),
            disclosure,
            recorder: &attempt.recorder,
            listener: self.listener,
            stop: &self.stop,
            reading: &reading,
            rechecking: &rechecking,
            pacer: &self.pacer,
            gates: &self.gates,
            streak: &streak,
            unfit: unfit.as_deref(),
            scanned,
        };
        let mut done = 0;
        let mut chunks = futures::stream::iter(open)
            .take_while(|_| futures::future::ready(!self.stop.is_asked()))
            .map(|(chunk_id, part)| comparison.chunk(chunk_id, part))
            .buffer_unordered(in_flight * CHUNKS_FOR_ONE_THAT_READS);
        while let Some(is_committed) = chunks.try_next().await? {
            done += u64::from(is_committed);
        }
        attempt.recorder.sync()?;
        Ok(done == count)
    }

    /// How keys of a collection are looked at again.
    pub(crate) fn recheck<'s>(
        &'s self,
        plan: &'s Plan,
        rows: &'s RowPlan,
        (primary, secondary): (&'s Collection, &'s Collection),
    ) -> Recheck<'s> {
        Recheck {
            pair: self.pair,
            primary,
            secondary,
            recipe: &rows.recipe,
            changed_at: rows.changed_at.as_deref(),
            values: plan.include_values,
            limits: &plan.limits,
            link: &self.link,
            fences: &self.fences,
        }
    }

    /// Why the plan does not fit to what the ends are now: they must give the known answer that it was made with.
    pub(crate) async fn unfit(
        &self,
        plan: &Plan,
        rows: &RowPlan,
        primary: &Collection,
        secondary: &Collection,
    ) -> Option<String> {
        for (end, collection) in [(&self.pair.primary, primary), (&self.pair.secondary, secondary)] {
            let known = scan_plan::known_answer(end, &plan.limits, collection, rows).await;
            match known {
                Ok(known) if known == rows.known_answer => {}
                Ok(_) => {
                    return Some(format!(
                        "digest_differs: site {} no longer hashes the fixed row as it did when this was planned",
                        end.site
                    ));
                }
                // Each chunk tells for itself what it meets.
                Err(error) if error.is_passing() => {}
                Err(error) => return Some(format!("{}: {error}", error.kind())),
            }
        }
        None
    }
}

/// What was read of the collection of a piece, if it is scanned, with those of its files that the piece needs.
async fn scanned(
    plan: &Plan,
    work: &Workplace,
    shard: &Shard,
    piece: &Piece,
) -> Result<Option<Resolved>, ReconcileError> {
    let (_, rows, ..) = compared(plan, piece.collection)?;
    let Cut::Scans(scans) = &rows.cut else {
        return Ok(None);
    };
    let bucket = |chunk: u64| u32::try_from(chunk).unwrap_or(u32::MAX);
    let first = scans.file_of(bucket(piece.chunks.start));
    let last = scans.file_of(bucket(piece.chunks.end.saturating_sub(1)));
    let parts = work.scanned(shard, |number| (first..=last).contains(&number)).await?;
    Ok(Some(Resolved::new(rows, scans, parts)))
}

/// A collection of the plan whose rows are compared, with what there is of it on both sides.
///
/// # Errors
/// `OtherPlan`: there is none, or why its rows are not compared.
pub(crate) fn compared(
    plan: &Plan,
    at: usize,
) -> Result<(&PlannedCollection, &RowPlan, &Collection, &Collection), ReconcileError> {
    let planned = plan
        .collections
        .get(at)
        .ok_or_else(|| ReconcileError::OtherPlan("the plan has no such collection".to_owned()))?;
    match (planned.rows(), &planned.primary, &planned.secondary) {
        (Some(rows), Some(primary), Some(secondary)) => Ok((planned, rows, primary, secondary)),
        _ => {
            let name = &planned.name;
            let why = match &planned.work {
                Work::NotVerified(reason) | Work::Skipped(reason) => reason.clone(),
                Work::OnOneSide => "it is on one side only".to_owned(),
                Work::Counted => "it is a counter and has no rows".to_owned(),
                Work::Compare(_) => "a side of it is missing in the plan".to_owned(),
            };
            Err(ReconcileError::OtherPlan(format!("{name} cannot be looked at: {why}")))
        }
    }
}

//! One run from the plan to the last frame.

use std::sync::Mutex;

use futures::{StreamExt, TryStreamExt};
use stores::{Class, Collection, Identity, Role};
use tokio_util::sync::CancellationToken;

use crate::compare::Comparison;
use crate::disclose::Disclosure;
use crate::link::Link;
use crate::plan::{self, Facts, Plan, PlannedCollection, RowPlan, Work};
use crate::progress::{Event, Listener};
use crate::recheck::{FenceMood, Recheck};
use crate::record::{Counts, Recorder};
use crate::retry::asked;
use crate::{
    Chunk, ChunkState, Coverage, CoverageState, Divergence, FenceKind, Frame, NotSelected, Origin, Pair,
    ReconcileError, Request, State, schema,
};

/// What a run amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Everything selected was verified or shown to differ: something was selected, and nothing failed, was volatile, unverified or
    /// cut short.
    pub complete: bool,
    /// The run was asked to end early.
    pub cancelled: bool,
    /// What was found.
    pub counts: Counts,
    /// Chunks compared, equal or not.
    pub chunks: u64,
    /// Upper bound of the probability that a difference was missed because two digests were equal by chance.
    pub miss_probability: f64,
    /// One for each collection on either side.
    pub coverage: Vec<Coverage>,
}

impl Summary {
    /// 1: a confirmed divergence. 3: none, but something could not be told. 0: everything selected is equal.
    pub fn exit_code(&self) -> u8 {
        match (self.counts.confirmed, self.complete) {
            (1.., _) => 1,
            (0, false) => 3,
            (0, true) => 0,
        }
    }
}

/// Runs one reconciliation and writes its journal.
///
/// A failed chunk or collection is recorded and the run goes on; a cancelled run ends with what was committed, its open chunks failed.
///
/// # Errors
/// Before any comparison: `SameData`, `Request`, `Store`, `Stopped`. At any time: `Journal`; then the journal has no `End`.
pub async fn run(
    pair: &Pair,
    request: &Request,
    journal: journal::Writer,
    progress: impl Fn(Event) + Send + Sync,
    shutdown: CancellationToken,
) -> Result<Summary, ReconcileError> {
    let disclosure = Disclosure::new(request.disclosure, request.key_hash.clone())?;
    let recorder = Recorder::new(journal, request.limits.listed_max);
    let run = Run {
        pair,
        request,
        disclosure,
        recorder,
        listener: &progress,
        shutdown,
        link: Link::default(),
        fences: FenceMood::default(),
    };
    let plan = tokio::select! {
        biased;
        () = run.shutdown.cancelled() => return Err(ReconcileError::Stopped),
        plan = run.plan() => plan?,
    };
    run.recorder.append(&Frame::Plan {
        run_id: request.run_id.clone(),
        plan: serde_json::to_string(&plan)
            .map_err(|error| ReconcileError::Request(format!("the plan has no JSON form: {error}")))?,
    })?;
    Ok(run.execute(&plan).await?)
}

struct Run<'a> {
    pair: &'a Pair,
    request: &'a Request,
    disclosure: Disclosure,
    recorder: Recorder,
    listener: Listener<'a>,
    shutdown: CancellationToken,
    link: Link,
    fences: FenceMood,
}

impl Run<'_> {
    async fn plan(&self) -> Result<Plan, ReconcileError> {
        let limits = &self.request.limits;
        let primary = asked(limits, &self.pair.primary.site, || {
            self.pair.primary.identify.identity()
        })
        .await
        .0?;
        let secondary = asked(limits, &self.pair.secondary.site, || {
            self.pair.secondary.identify.identity()
        })
        .await
        .0?;
        self.refuse_same_data(&primary, &secondary)?;
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
        let selected = schema::settle(self.pair, self.request, &self.link, instances, self.listener).await;
        let facts = Facts {
            primary,
            secondary,
            is_logical: is_logical && !is_physical,
            selected,
        };
        Ok(plan::plan(self.pair, self.request, facts).await)
    }

    fn refuse_same_data(&self, primary: &Identity, secondary: &Identity) -> Result<(), ReconcileError> {
        if !primary.same_data(secondary) {
            return Ok(());
        }
        Err(ReconcileError::SameData {
            primary_site: self.pair.primary.site.clone(),
            secondary_site: self.pair.secondary.site.clone(),
            instance: secondary.instance.clone(),
        })
    }

    async fn execute(&self, plan: &Plan) -> journal::Result<Summary> {
        let compared = || plan.collections.iter().filter_map(PlannedCollection::rows);
        (self.listener)(Event::Planned {
            collections: u64::try_from(compared().count()).unwrap_or(u64::MAX),
            chunks: compared().map(|rows| rows.cut.len()).sum(),
        });
        let mut summary = Summary {
            complete: !plan.collections.is_empty(),
            cancelled: false,
            counts: Counts::default(),
            chunks: 0,
            miss_probability: 0.0,
            coverage: Vec::new(),
        };
        for planned in &plan.collections {
            let (coverage, counts, is_complete) = self.collection(plan, planned).await?;
            summary.complete &= is_complete;
            summary.counts += &counts;
            let chunks = coverage.chunks_total - coverage.chunks_failed;
            summary.chunks += chunks;
            if let Some(rows) = planned.rows() {
                let chunks = u32::try_from(chunks).map_or(f64::INFINITY, f64::from);
                summary.miss_probability += chunks * rows.recipe.mode.miss_probability();
            }
            self.finish(coverage, &mut summary)?;
        }
        let canaries_only = plan
            .collections
            .iter()
            .all(|planned| matches!(planned.work, Work::Skipped(_)));
        summary.complete &= !canaries_only;
        for not_selected in &self.request.not_selected {
            self.finish(self.skipped(not_selected), &mut summary)?;
        }
        summary.cancelled = self.shutdown.is_cancelled();
        summary.complete &= !summary.cancelled;
        summary.miss_probability = summary.miss_probability.min(1.0);
        self.recorder.append(&Frame::End {
            complete: summary.complete,
            finished_at_us: crate::now_us(),
        })?;
        self.recorder.sync()?;
        Ok(summary)
    }

    fn finish(&self, coverage: Coverage, summary: &mut Summary) -> journal::Result<()> {
        self.recorder.append(&Frame::Coverage(Box::new(coverage.clone())))?;
        self.recorder.sync()?;
        (self.listener)(Event::Done(Box::new(coverage.clone())));
        summary.coverage.push(coverage);
        Ok(())
    }

    /// Compares one collection; also tells whether everything of it was verified or shown to differ.
    async fn collection(&self, plan: &Plan, planned: &PlannedCollection) -> journal::Result<(Coverage, Counts, bool)> {
        let mut coverage = self.coverage(&planned.name, planned.primary.as_ref(), planned.secondary.as_ref());
        coverage.scope.clone_from(&planned.scope);
        let mut counts = self.schema(planned)?;
        let mut gaps = Vec::new();
        match &planned.work {
            Work::Skipped(reason) => {
                coverage.state = CoverageState::Skipped;
                coverage.reason.clone_from(reason);
                coverage.canaries_excluded = canaries(planned.primary.as_ref(), planned.secondary.as_ref());
                return Ok((coverage, counts, true));
            }
            Work::NotVerified(reason) => gaps.push(reason.clone()),
            Work::OnOneSide => {}
            Work::Compare(rows) => counts += &self.rows(plan, planned, rows, &mut coverage, &mut gaps).await?,
        }
        if !planned.schema_undecided.is_empty() {
            gaps.push(format!("schema_undecided: {}", planned.schema_undecided));
        }
        if !planned.not_comparable.is_empty() {
            gaps.push(format!("columns_not_comparable: {}", planned.not_comparable.join(", ")));
        }
        if counts.undecided() > 0 {
            gaps.push(format!(
                "undecided: {} volatile and {} unverified",
                counts.volatile, counts.unverified
            ));
        }
        coverage.state = if counts.confirmed > 0 {
            CoverageState::Diverged
        } else if gaps.is_empty() {
            CoverageState::Verified
        } else if coverage.chunks_equal > 0 {
            CoverageState::Partial
        } else {
            CoverageState::Failed
        };
        coverage.reason = gaps.join("; ");
        coverage.confirmed = counts.confirmed;
        coverage.volatile = counts.volatile;
        coverage.unverified = counts.unverified;
        coverage.transient = counts.transient;
        coverage.finished_at_us = crate::now_us();
        Ok((coverage, counts, gaps.is_empty()))
    }

    /// Records what the catalogs show differently.
    fn schema(&self, planned: &PlannedCollection) -> journal::Result<Counts> {
        let counts = Mutex::new(Counts::default());
        if planned.schema.is_empty() {
            return Ok(Counts::default());
        }
        let is_confirmed = planned.schema_undecided.is_empty();
        for difference in &planned.schema {
            let seen_at_us = crate::now_us();
            let divergence = Divergence {
                collection: planned.name.clone(),
                chunk_id: None,
                key: None,
                key_hash: None,
                class: Class::Schema,
                detail: difference.detail.clone(),
                state: if is_confirmed {
                    State::Confirmed
                } else {
                    State::Unverified
                },
                origin: self.request.fork.as_ref().map(|_| Origin::Unknown),
                origin_evidence: match self.request.fork {
                    Some(_) => "a catalog does not tell when it changed".to_owned(),
                    None => String::new(),
                },
                columns: difference.columns.clone(),
                primary_digest: None,
                secondary_digest: None,
                primary_value: None,
                secondary_value: None,
                primary_changed_at_us: None,
                secondary_changed_at_us: None,
                first_seen_at_us: seen_at_us,
                last_rechecked_at_us: is_confirmed.then_some(seen_at_us),
                rechecks: u64::from(is_confirmed),
                explanation: match is_confirmed {
                    true => format!("The schema differs: {}.", difference.detail),
                    false => format!(
                        "The schema seems to differ: {}; not verified: {}.",
                        difference.detail, planned.schema_undecided
                    ),
                },
            };
            self.recorder.divergence(divergence, &counts)?;
        }
        self.recorder.append(&Frame::Commit {
            collection: planned.name.clone(),
            chunk_id: None,
            transient: 0,
        })?;
        Ok(counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Compares the rows of one collection, chunk by chunk.
    async fn rows(
        &self,
        plan: &Plan,
        planned: &PlannedCollection,
        rows: &RowPlan,
        coverage: &mut Coverage,
        gaps: &mut Vec<String>,
    ) -> journal::Result<Counts> {
        let (Some(primary), Some(secondary)) = (&planned.primary, &planned.secondary) else {
            gaps.push("unsupported: the plan compares a collection that is on one side only".to_owned());
            return Ok(Counts::default());
        };
        (self.listener)(Event::Begun {
            collection: planned.name.clone(),
            chunks: rows.cut.len(),
        });
        let recheck = Recheck {
            pair: self.pair,
            primary,
            secondary,
            recipe: &rows.recipe,
            changed_at: rows.changed_at.as_deref(),
            values: self.request.include_values,
            limits: &self.request.limits,
            link: &self.link,
            fences: &self.fences,
        };
        let comparison = Comparison {
            pair: self.pair,
            limits: &self.request.limits,
            name: &planned.name,
            primary,
            secondary,
            rows,
            roles: (plan.primary.role, plan.secondary.role),
            recheck: &recheck,
            fork: self.request.fork.as_ref(),
            disclosure: &self.disclosure,
            recorder: &self.recorder,
            listener: self.listener,
            shutdown: &self.shutdown,
        };
        let mut chunks = futures::stream::iter((0u64..).zip(rows.cut.parts()))
            .map(|(chunk_id, part)| comparison.chunk(chunk_id, part))
            .buffer_unordered(self.request.limits.chunks_in_flight.max(1));
        let mut counts = Counts::default();
        (coverage.primary_rows, coverage.secondary_rows) = (Some(0), Some(0));
        let mut first_failure: Option<(u64, String)> = None;
        while let Some((chunk, found)) = chunks.try_next().await? {
            counts += &found;
            take(&chunk, coverage);
            let is_earlier = first_failure
                .as_ref()
                .is_none_or(|(earliest, _)| chunk.chunk_id < *earliest);
            if chunk.state == ChunkState::Failed && is_earlier {
                first_failure = Some((chunk.chunk_id, chunk.error));
            }
        }
        if let Some((chunk_id, error)) = first_failure {
            let (failed, total) = (coverage.chunks_failed, coverage.chunks_total);
            gaps.push(format!(
                "chunks_failed: {failed} of {total}, first chunk {chunk_id}: {error}"
            ));
        }
        Ok(counts)
    }

    fn skipped(&self, not_selected: &NotSelected) -> Coverage {
        let (primary, secondary) = (not_selected.primary.as_ref(), not_selected.secondary.as_ref());
        let name = plan::name(primary, secondary);
        let canaries = canaries(primary, secondary);
        let is_canary = [primary, secondary].into_iter().flatten().any(|side| side.is_canary);
        Coverage {
            reason: if is_canary { "canaries" } else { "not_selected" }.to_owned(),
            canaries_excluded: canaries,
            ..self.coverage(&name, primary, secondary)
        }
    }

    /// Coverage of a collection before anything was looked at.
    fn coverage(&self, name: &str, primary: Option<&Collection>, secondary: Option<&Collection>) -> Coverage {
        let now_us = crate::now_us();
        Coverage {
            collection: name.to_owned(),
            primary_collection: primary.map(|side| side.name.clone()),
            secondary_collection: secondary.map(|side| side.name.clone()),
            scope: String::new(),
            fence: self.fence().word().to_owned(),
            state: CoverageState::Skipped,
            reason: String::new(),
            primary_rows: None,
            secondary_rows: None,
            primary_bytes: primary.and_then(|side| side.bytes),
            secondary_bytes: secondary.and_then(|side| side.bytes),
            canaries_excluded: 0,
            chunks_total: 0,
            chunks_equal: 0,
            chunks_different: 0,
            chunks_failed: 0,
            confirmed: 0,
            volatile: 0,
            unverified: 0,
            transient: 0,
            started_at_us: now_us,
            finished_at_us: now_us,
        }
    }

    fn fence(&self) -> FenceKind {
        match self.pair.relation {
            stores::Relation::Replicating => self.pair.fence,
            stores::Relation::Independent | stores::Relation::Frozen => FenceKind::None,
        }
    }
}

/// Adds one chunk to the coverage of its collection. Rows are known only if every chunk could be counted.
fn take(chunk: &Chunk, coverage: &mut Coverage) {
    coverage.chunks_total += 1;
    match chunk.state {
        ChunkState::Equal => coverage.chunks_equal += 1,
        ChunkState::Different => coverage.chunks_different += 1,
        ChunkState::Failed => coverage.chunks_failed += 1,
    }
    let add = |rows: Option<u64>, digest: Option<stores::ChunkDigest>| Some(rows? + digest?.count);
    coverage.primary_rows = add(coverage.primary_rows, chunk.primary);
    coverage.secondary_rows = add(coverage.secondary_rows, chunk.secondary);
}

fn canaries(primary: Option<&Collection>, secondary: Option<&Collection>) -> u64 {
    let rows = [primary, secondary]
        .into_iter()
        .flatten()
        .filter(|side| side.is_canary)
        .filter_map(|side| side.rows_estimate);
    rows.max().unwrap_or(0)
}

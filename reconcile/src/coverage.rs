//! What the frames of a collection amount to.

use std::collections::BTreeSet;

use stores::{ChunkDigest, Collection, Part, Relation};

use crate::again::ONLY_KEYS;
use crate::plan::{self, Plan, PlannedCollection, Work};
use crate::{Chunk, ChunkState, Counts, Coverage, CoverageState, FenceKind, Look, NotSelected, ReconcileError};

/// Why a chunk has no result.
const NOT_LOOKED_AT: &str = "not_looked_at: the run was ended before this chunk was compared";

/// Adds up one planned collection, from frames alone.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    planned: &'a PlannedCollection,
    parts: Vec<Part>,
    seen: BTreeSet<u64>,
    coverage: Coverage,
    counts: Counts,
    not_looked_at: u64,
    first_failure: Option<(u64, String)>,
    /// The run whose keys alone were looked at.
    only_keys_of: Option<&'a str>,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(plan: &'a Plan, planned: &'a PlannedCollection) -> Self {
        let mut coverage = begin(
            plan,
            &planned.name,
            planned.primary.as_ref(),
            planned.secondary.as_ref(),
        );
        coverage.scope.clone_from(&planned.scope);
        let parts = planned.rows().map(|rows| rows.cut.parts()).unwrap_or_default();
        if planned.rows().is_some() {
            (coverage.primary_rows, coverage.secondary_rows) = (Some(0), Some(0));
        }
        Self {
            planned,
            parts,
            seen: BTreeSet::new(),
            coverage,
            counts: Counts::default(),
            not_looked_at: 0,
            first_failure: None,
            only_keys_of: match &plan.look {
                Look::Keys { run_id } => Some(run_id),
                Look::All | Look::Against { .. } => None,
            },
        }
    }

    /// Takes the result of a chunk. Rows are known only if every chunk could be counted.
    ///
    /// # Errors
    /// `Corrupt`: the plan has no such chunk, or it has a result already.
    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Result<(), ReconcileError> {
        let is_planned = self.planned.rows().is_some_and(|rows| {
            let part = usize::try_from(chunk.chunk_id).ok().and_then(|at| self.parts.get(at));
            part == Some(&chunk.part) && chunk.seed == rows.recipe.seed && chunk.mode == rows.recipe.mode
        });
        if !is_planned || !self.seen.insert(chunk.chunk_id) {
            let (name, id) = (&self.planned.name, chunk.chunk_id);
            let wrong = if is_planned {
                "has two results"
            } else {
                "is not the one of the plan"
            };
            return Err(ReconcileError::Corrupt(format!("chunk {id} of {name} {wrong}")));
        }
        let coverage = &mut self.coverage;
        if coverage.chunks_total == 0 {
            coverage.started_at_us = chunk.read_at_us;
        }
        coverage.started_at_us = coverage.started_at_us.min(chunk.read_at_us);
        coverage.chunks_total += 1;
        match chunk.state {
            ChunkState::Equal => coverage.chunks_equal += 1,
            ChunkState::Different => coverage.chunks_different += 1,
            ChunkState::Failed => coverage.chunks_failed += 1,
        }
        let add = |rows: Option<u64>, digest: Option<ChunkDigest>| Some(rows? + digest?.count);
        coverage.primary_rows = add(coverage.primary_rows, chunk.primary);
        coverage.secondary_rows = add(coverage.secondary_rows, chunk.secondary);
        let is_earlier = self
            .first_failure
            .as_ref()
            .is_none_or(|(earliest, _)| chunk.chunk_id < *earliest);
        if chunk.state == ChunkState::Failed && is_earlier {
            self.first_failure = Some((chunk.chunk_id, chunk.error.clone()));
        }
        Ok(())
    }

    /// Takes what became of the keys of a chunk, or of the collection as a whole.
    pub(crate) fn commit(&mut self, counts: &Counts, finished_at_us: i64) {
        self.counts += counts;
        self.coverage.finished_at_us = self.coverage.finished_at_us.max(finished_at_us);
    }

    /// The result of a chunk that no frame tells of: failed, since it is not known to be equal.
    pub(crate) fn missing(&self, plan: &Plan) -> Vec<Chunk> {
        let Some(rows) = self.planned.rows() else {
            return Vec::new();
        };
        let missing = (0u64..).zip(&self.parts).filter(|(id, _)| !self.seen.contains(id));
        missing
            .map(|(chunk_id, part)| Chunk {
                error: NOT_LOOKED_AT.to_owned(),
                ..Chunk::unread(
                    &self.planned.name,
                    chunk_id,
                    part.clone(),
                    &rows.recipe,
                    plan.planned_at_us,
                )
            })
            .collect()
    }

    /// Takes a chunk of [`missing`](Self::missing).
    pub(crate) fn not_looked_at(&mut self, chunk: &Chunk) {
        self.seen.insert(chunk.chunk_id);
        self.not_looked_at += 1;
        self.coverage.chunks_total += 1;
        self.coverage.chunks_failed += 1;
        (self.coverage.primary_rows, self.coverage.secondary_rows) = (None, None);
    }

    /// Chunks compared, equal or not.
    fn compared(&self) -> u64 {
        self.coverage.chunks_total - self.coverage.chunks_failed
    }

    /// Upper bound of the probability that a difference was missed because two digests were equal by chance.
    fn miss_probability(&self) -> f64 {
        let chunks = u32::try_from(self.compared()).map_or(f64::INFINITY, f64::from);
        self.planned
            .rows()
            .map_or(0.0, |rows| chunks * rows.recipe.mode.miss_probability())
    }

    /// The coverage of the collection, and whether everything of it was verified or shown to differ.
    pub(crate) fn finish(mut self) -> Settled {
        let (compared, miss_probability) = (self.compared(), self.miss_probability());
        let gaps = self.gaps();
        let (coverage, counts) = (&mut self.coverage, &self.counts);
        let is_whole = gaps.is_empty();
        if let Work::Skipped(reason) = &self.planned.work {
            coverage.state = CoverageState::Skipped;
            coverage.reason.clone_from(reason);
            coverage.canaries_excluded = canaries(self.planned.primary.as_ref(), self.planned.secondary.as_ref());
        } else {
            coverage.state = if counts.confirmed > 0 {
                CoverageState::Diverged
            } else if is_whole {
                CoverageState::Verified
            } else if coverage.chunks_equal > 0 || self.only_keys_of.is_some() {
                CoverageState::Partial
            } else {
                CoverageState::Failed
            };
            coverage.reason = gaps.join("; ");
        }
        coverage.confirmed = counts.confirmed;
        coverage.volatile = counts.volatile;
        coverage.unverified = counts.unverified;
        coverage.transient = counts.transient;
        Settled {
            coverage: self.coverage,
            counts: self.counts,
            is_whole,
            compared,
            miss_probability,
        }
    }

    fn gaps(&self) -> Vec<String> {
        let (planned, coverage) = (self.planned, &self.coverage);
        let mut gaps = Vec::new();
        match &planned.work {
            Work::Skipped(_) => return gaps,
            Work::NotVerified(reason) => gaps.push(reason.clone()),
            Work::OnOneSide | Work::Compare(_) | Work::Counted => {}
        }
        let total = coverage.chunks_total;
        if let Some(run_id) = self.only_keys_of {
            gaps.push(format!(
                "{ONLY_KEYS}: only the keys that run {run_id} found were looked at again, and nothing else"
            ));
        }
        let failure = self.first_failure.as_ref();
        if let Some((chunk_id, error)) = failure.filter(|(_, error)| !error.starts_with(ONLY_KEYS)) {
            let failed = coverage.chunks_failed - self.not_looked_at;
            gaps.push(format!(
                "chunks_failed: {failed} of {total}, first chunk {chunk_id}: {error}"
            ));
        }
        if self.not_looked_at > 0 {
            let missing = self.not_looked_at;
            gaps.push(format!(
                "not_looked_at: {missing} of {total} chunks, because the run was ended before"
            ));
        }
        if !planned.schema_undecided.is_empty() {
            gaps.push(format!("schema_undecided: {}", planned.schema_undecided));
        }
        if !planned.not_comparable.is_empty() {
            gaps.push(format!("columns_not_comparable: {}", planned.not_comparable.join(", ")));
        }
        if self.counts.undecided() > 0 {
            let (volatile, unverified) = (self.counts.volatile, self.counts.unverified);
            gaps.push(format!("undecided: {volatile} volatile and {unverified} unverified"));
        }
        gaps
    }
}

/// A collection added up.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) coverage: Coverage,
    pub(crate) counts: Counts,
    pub(crate) is_whole: bool,
    pub(crate) compared: u64,
    pub(crate) miss_probability: f64,
}

/// The coverage of what was found and not to be compared.
pub(crate) fn skipped(plan: &Plan, not_selected: &NotSelected) -> Coverage {
    let (primary, secondary) = (not_selected.primary.as_ref(), not_selected.secondary.as_ref());
    let name = plan::name(primary, secondary);
    let is_canary = [primary, secondary].into_iter().flatten().any(|side| side.is_canary);
    Coverage {
        reason: if is_canary { "canaries" } else { "not_selected" }.to_owned(),
        canaries_excluded: canaries(primary, secondary),
        ..begin(plan, &name, primary, secondary)
    }
}

/// Coverage of a collection before anything was looked at.
fn begin(plan: &Plan, name: &str, primary: Option<&Collection>, secondary: Option<&Collection>) -> Coverage {
    let fence = match plan.relation {
        Relation::Replicating => plan.fence,
        Relation::Independent | Relation::Frozen => FenceKind::None,
    };
    Coverage {
        collection: name.to_owned(),
        primary_collection: primary.map(|side| side.name.clone()),
        secondary_collection: secondary.map(|side| side.name.clone()),
        scope: String::new(),
        fence: fence.word().to_owned(),
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
        started_at_us: plan.planned_at_us,
        finished_at_us: plan.planned_at_us,
    }
}

fn canaries(primary: Option<&Collection>, secondary: Option<&Collection>) -> u64 {
    let rows = [primary, secondary]
        .into_iter()
        .flatten()
        .filter(|side| side.is_canary)
        .filter_map(|side| side.rows_estimate);
    rows.max().unwrap_or(0)
}

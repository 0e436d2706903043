//! From the journals of shards to the journal of a run.
//!
//! Everything is computed from frames: not from what this process remembers, which may not have compared anything. The same journals give the
//! same merged journal, byte by byte.

use std::collections::HashMap;
use std::path::PathBuf;

use journal::{Reader, Writer};
use stores::Class;

use crate::attempt::{ChunkName, Committed, Head};
use crate::coverage::{Tally, skipped};
use crate::plan::{Plan, PlannedCollection, Work};
use crate::progress::{Event, Listener};
use crate::shard::Piece;
use crate::{Counts, Coverage, Divergence, Frame, Origin, ReconcileError, State};

/// What a reconciliation amounts to.
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
    /// When the last of it was compared, microseconds since 1970 UTC.
    pub finished_at_us: i64,
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

/// What there is of one shard.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) head: Head,
    pub(crate) pieces: Vec<Piece>,
    /// Its journal; `None`: nothing of it was compared.
    pub(crate) journal: Option<PathBuf>,
    /// Whether the journal is the one that counts; else the shard is unfinished, and so is the run.
    pub(crate) is_won: bool,
}

/// Puts the shards of one plan together.
///
/// # Errors
/// `Corrupt`: a journal is not what its worker wrote, or not of this plan. `Journal`.
pub(crate) fn merge(
    plan: &Plan,
    sources: &[Source],
    writer: &mut Writer,
    listener: Listener<'_>,
) -> Result<Summary, ReconcileError> {
    writer.append_record(&Frame::Plan {
        run_id: plan.run_id.clone(),
        plan: serde_json::to_string(plan)
            .map_err(|error| ReconcileError::Request(format!("the plan has no JSON form: {error}")))?,
    })?;
    let mut merge = Merge {
        plan,
        writer,
        listed: 0,
        tallies: plan
            .collections
            .iter()
            .map(|planned| Tally::new(plan, planned))
            .collect(),
        numbers: (0..)
            .zip(&plan.collections)
            .map(|(at, planned)| (planned.name.as_str(), at))
            .collect(),
    };
    for (at, planned) in plan.collections.iter().enumerate() {
        merge.schema(at, planned)?;
    }
    for source in sources {
        merge.source(source)?;
    }
    let is_ended = sources.iter().any(|source| !source.is_won);
    merge.finish(is_ended, listener)
}

struct Merge<'a> {
    plan: &'a Plan,
    writer: &'a mut Writer,
    listed: u64,
    tallies: Vec<Tally<'a>>,
    /// Which of the plan's collections has which name.
    numbers: HashMap<&'a str, usize>,
}

impl Merge<'_> {
    /// Lists a divergence, unless as many are listed as may be.
    fn list(&mut self, divergence: Divergence) -> Result<bool, ReconcileError> {
        if self.plan.limits.listed_max.is_some_and(|max| self.listed >= max) {
            return Ok(false);
        }
        self.writer.append_record(&Frame::Divergence(Box::new(divergence)))?;
        self.listed += 1;
        Ok(true)
    }

    fn commit(
        &mut self,
        at: usize,
        chunk_id: Option<u64>,
        counts: Counts,
        finished_at_us: i64,
    ) -> Result<(), ReconcileError> {
        self.tallies[at].commit(&counts, finished_at_us);
        let collection = self.plan.collections[at].name.clone();
        self.writer.append_record(&Frame::Commit {
            collection,
            chunk_id,
            counts,
            finished_at_us,
        })?;
        Ok(())
    }

    /// Records what the catalogs show differently.
    fn schema(&mut self, at: usize, planned: &PlannedCollection) -> Result<(), ReconcileError> {
        if planned.schema.is_empty() {
            return Ok(());
        }
        let mut counts = Counts::default();
        for divergence in schema_divergences(self.plan, planned) {
            let (state, class, origin) = (divergence.state, divergence.class, divergence.origin);
            if !self.list(divergence)? && state == State::Confirmed {
                counts.not_listed += 1;
            }
            counts.count(state, class, origin);
        }
        self.commit(at, None, counts, self.plan.planned_at_us)
    }

    fn source(&mut self, source: &Source) -> Result<(), ReconcileError> {
        let Some(path) = &source.journal else { return Ok(()) };
        let corrupt = |why: String| ReconcileError::Corrupt(format!("{}: {why}", path.display()));
        let committed = Committed::read(path, &source.head)?;
        if source.is_won && !committed.is_ended {
            return Err(corrupt("it was published and does not end".to_owned()));
        }
        for (collection, chunk_id) in committed.chunks.keys() {
            let at = self.numbers.get(collection.as_str());
            let is_of = |piece: &Piece| Some(&piece.collection) == at && piece.chunks.contains(chunk_id);
            if !source.pieces.iter().any(is_of) {
                return Err(corrupt(format!(
                    "chunk {chunk_id} of {collection} is not of this shard"
                )));
            }
        }
        let wanted: u64 = source
            .pieces
            .iter()
            .map(|piece| piece.chunks.end - piece.chunks.start)
            .sum();
        if source.is_won && u64::try_from(committed.chunks.len()).ok() != Some(wanted) {
            return Err(corrupt(format!("it has {} of {wanted} chunks", committed.chunks.len())));
        }
        let mut reader = Reader::open(path)?;
        let mut process = 0;
        let mut dropped: HashMap<ChunkName, u64> = HashMap::new();
        for frame in reader.records::<Frame>() {
            match frame? {
                Frame::Shard { .. } => process += 1,
                Frame::Divergence(divergence) => {
                    let Some(chunk_id) = divergence.chunk_id else { continue };
                    let chunk = (divergence.collection.clone(), chunk_id);
                    let is_confirmed = divergence.state == State::Confirmed;
                    if committed.counts(&chunk, process) && !self.list(*divergence)? && is_confirmed {
                        *dropped.entry(chunk).or_default() += 1;
                    }
                }
                Frame::Chunk(chunk) => {
                    let name = (chunk.collection.clone(), chunk.chunk_id);
                    if committed.counts(&name, process) {
                        self.tallies[self.numbers[chunk.collection.as_str()]].chunk(&chunk)?;
                        self.writer.append_record(&Frame::Chunk(chunk))?;
                    }
                }
                Frame::Commit {
                    collection,
                    chunk_id: Some(chunk_id),
                    mut counts,
                    finished_at_us,
                } => {
                    let at = self.numbers[collection.as_str()];
                    counts.not_listed += dropped.remove(&(collection, chunk_id)).unwrap_or(0);
                    self.commit(at, Some(chunk_id), counts, finished_at_us)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self, is_ended: bool, listener: Listener<'_>) -> Result<Summary, ReconcileError> {
        for at in 0..self.tallies.len() {
            for chunk in self.tallies[at].missing(self.plan) {
                self.tallies[at].not_looked_at(&chunk);
                let chunk_id = Some(chunk.chunk_id);
                self.writer.append_record(&Frame::Chunk(Box::new(chunk)))?;
                self.commit(at, chunk_id, Counts::default(), self.plan.planned_at_us)?;
            }
        }
        let is_selected = |planned: &PlannedCollection| !matches!(planned.work, Work::Skipped(_));
        let mut summary = Summary {
            complete: self.plan.collections.iter().any(is_selected) && !is_ended,
            cancelled: is_ended,
            counts: Counts::default(),
            chunks: 0,
            miss_probability: 0.0,
            finished_at_us: self.plan.planned_at_us,
            coverage: Vec::new(),
        };
        for tally in self.tallies {
            let settled = tally.finish();
            summary.complete &= settled.is_whole;
            summary.counts += &settled.counts;
            summary.chunks += settled.compared;
            summary.miss_probability += settled.miss_probability;
            summary.coverage.push(settled.coverage);
        }
        summary.miss_probability = summary.miss_probability.min(1.0);
        let not_selected = self.plan.not_selected.iter().map(|one| skipped(self.plan, one));
        summary.coverage.extend(not_selected);
        for coverage in &summary.coverage {
            summary.finished_at_us = summary.finished_at_us.max(coverage.finished_at_us);
            self.writer
                .append_record(&Frame::Coverage(Box::new(coverage.clone())))?;
            listener(Event::Done(Box::new(coverage.clone())));
        }
        self.writer.append_record(&Frame::End {
            complete: summary.complete,
            finished_at_us: summary.finished_at_us,
        })?;
        self.writer.sync()?;
        Ok(summary)
    }
}

fn schema_divergences<'a>(plan: &'a Plan, planned: &'a PlannedCollection) -> impl Iterator<Item = Divergence> + 'a {
    let is_confirmed = planned.schema_undecided.is_empty();
    planned.schema.iter().map(move |difference| Divergence {
        collection: planned.name.clone(),
        chunk_id: None,
        key: None,
        key_hash: None,
        class: difference.class,
        detail: difference.detail.clone(),
        state: if is_confirmed {
            State::Confirmed
        } else {
            State::Unverified
        },
        origin: plan.fork.as_ref().map(|_| Origin::Unknown),
        origin_evidence: match plan.fork {
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
        first_seen_at_us: plan.planned_at_us,
        last_rechecked_at_us: is_confirmed.then_some(plan.planned_at_us),
        rechecks: u64::from(is_confirmed),
        explanation: match is_confirmed {
            true if difference.class == Class::Position => {
                format!("The counter stands elsewhere: {}.", difference.detail)
            }
            true => format!("The schema differs: {}.", difference.detail),
            false => format!(
                "The schema seems to differ: {}; not verified: {}.",
                difference.detail, planned.schema_undecided
            ),
        },
        work_key: None,
    })
}

//! The journal of a reconciliation to `coverage`, `chunks` and `divergences`.
//!
//! Two passes over the journal: the first learns what was committed, the second streams it out. So memory grows with collections and
//! chunks, never with rows or differences.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use journal::{Reader, Tail};
use reconcile::{Chunk, ChunkState, Coverage, CoverageState, Divergence, Frame, KeyDisclosure, Plan, State};
use stores::{ChunkDigest, Key, KeyValue, Part};

use super::found::{Findings, Found};
use super::said;
use crate::tables::{AtMicros, ChunkRow, CoverageRow, DivergenceRow, Fence, FileName, Hex, TableError, TableWriter};

/// The kind of journal that a reconciliation writes.
pub const JOURNAL_KIND: &str = "reconcile";

/// What the journal does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcileContext {
    /// The dataset.
    pub dataset: String,
    /// Its store.
    pub store: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When the run started, microseconds since 1970 UTC: the time of a collection that it never reached.
    pub started_at_us: i64,
    /// How many divergences [`Findings`] lists for people.
    pub keys_shown_max: usize,
}

/// Renders one journal. Files appear at the end, all whole; the run's own row is the caller's, and must be written after this.
///
/// Only what was committed counts. A journal that ends early (a torn tail, no last frame) is rendered as far as it goes: collections without
/// a result get `partial` or `failed` with the reason `cut_short`, and `complete` is false.
///
/// # Errors
/// A journal that cannot be read or contradicts itself; unwritable output.
pub fn render_reconcile(
    journal: &Path,
    output: &Path,
    context: &ReconcileContext,
) -> Result<(Findings, Vec<PathBuf>), TableError> {
    let ledger = Committed::read(journal)?;
    let scope = Scope::new(&ledger.plan, context)?;
    let mut found = Found::new(context.keys_shown_max);
    let mut files = Vec::new();

    let mut chunks = TableWriter::create(output, scope.file());
    let mut divergences = TableWriter::create(output, scope.file());
    let mut attempt = 0;
    for frame in open(journal)?.records::<Frame>() {
        match frame.map_err(unreadable)? {
            Frame::Plan { .. } => attempt += 1,
            Frame::Chunk(chunk) if ledger.counts(&chunk.collection, Some(chunk.chunk_id), attempt) => {
                found.chunk(&chunk);
                chunks.push(scope.chunk_row(*chunk))?;
            }
            Frame::Divergence(divergence) if ledger.counts(&divergence.collection, divergence.chunk_id, attempt) => {
                let row = scope.divergence_row(*divergence);
                found.divergence(&row);
                divergences.push(row)?;
            }
            _ => {}
        }
    }

    let coverage = settle(&ledger, &found, context.started_at_us)?;
    let mut rows = TableWriter::create(output, scope.file());
    for one in &coverage {
        rows.push(scope.coverage_row(one)?)?;
    }
    files.extend(chunks.finish()?);
    files.extend(divergences.finish()?);
    files.extend(rows.finish()?);
    let findings = found.into_findings(&scope, coverage, ledger.is_complete());
    Ok((findings, files))
}

fn open(journal: &Path) -> Result<Reader, TableError> {
    let reader = Reader::open(journal).map_err(unreadable)?;
    reader.expect_kind(JOURNAL_KIND).map_err(unreadable)?;
    Ok(reader)
}

fn unreadable(error: journal::Error) -> TableError {
    TableError::Journal(error.to_string())
}

/// What the first pass learns.
#[derive(Debug)]
struct Committed {
    plan: Plan,
    /// In which attempt each chunk (or the collection as a whole) was committed. A resumed run writes its plan again, which begins an
    /// attempt; what an earlier one left uncommitted does not count.
    parts: HashMap<String, HashMap<Option<u64>, u64>>,
    coverage: BTreeMap<String, Coverage>,
    end: Option<bool>,
    tail: Option<Tail>,
}

impl Committed {
    fn read(journal: &Path) -> Result<Self, TableError> {
        let mut reader = open(journal)?;
        let mut plan = None;
        let mut parts: HashMap<String, HashMap<Option<u64>, u64>> = HashMap::new();
        let mut coverage = BTreeMap::new();
        let mut end = None;
        let mut attempt = 0;
        for frame in reader.records::<Frame>() {
            match frame.map_err(unreadable)? {
                Frame::Plan { plan: text, .. } => {
                    attempt += 1;
                    end = None;
                    plan = Some(text);
                }
                Frame::Commit {
                    collection, chunk_id, ..
                } => {
                    parts.entry(collection).or_default().insert(chunk_id, attempt);
                }
                Frame::Coverage(one) => {
                    coverage.insert(one.collection.clone(), *one);
                }
                Frame::End { complete, .. } => end = Some(complete),
                Frame::Chunk(_) | Frame::Divergence(_) | Frame::Shard { .. } | Frame::Scanned(_) | Frame::ShardEnd => {}
            }
        }
        let plan = plan
            .ok_or_else(|| TableError::Journal(format!("{} holds no plan: nothing was compared", journal.display())))?;
        let plan = serde_json::from_str(&plan)
            .map_err(|error| TableError::Journal(format!("{}: the plan: {error}", journal.display())))?;
        Ok(Self {
            plan,
            parts,
            coverage,
            end,
            tail: reader.tail(),
        })
    }

    fn counts(&self, collection: &str, chunk_id: Option<u64>, attempt: u64) -> bool {
        let parts = self.parts.get(collection);
        parts.and_then(|parts| parts.get(&chunk_id)) == Some(&attempt)
    }

    fn is_complete(&self) -> bool {
        self.end == Some(true) && self.tail == Some(Tail::Clean)
    }
}

/// The result of each collection, with one for those that the run never finished. Refuses a result that the frames contradict.
fn settle(ledger: &Committed, found: &Found, started_at_us: i64) -> Result<Vec<Coverage>, TableError> {
    let mut settled = ledger.coverage.clone();
    for planned in &ledger.plan.collections {
        settled
            .entry(planned.name.clone())
            .or_insert_with(|| found.cut_short(planned, started_at_us));
    }
    for coverage in settled.values() {
        found.check(coverage)?;
    }
    Ok(settled.into_values().collect())
}

/// What all rows of one journal share.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) run_id: String,
    pub(crate) dataset: String,
    pub(crate) store: String,
    pub(crate) primary_site: String,
    pub(crate) secondary_site: String,
    labels: String,
    disclosure: KeyDisclosure,
}

impl Scope {
    fn new(plan: &Plan, context: &ReconcileContext) -> Result<Self, TableError> {
        let labels = serde_json::to_string(&context.labels);
        Ok(Self {
            run_id: plan.run_id.clone(),
            dataset: context.dataset.clone(),
            store: context.store.clone(),
            primary_site: plan.primary_site.clone(),
            secondary_site: plan.secondary_site.clone(),
            labels: labels.map_err(|error| TableError::Journal(format!("labels: {error}")))?,
            disclosure: plan.disclosure,
        })
    }

    fn file(&self) -> FileName {
        let part = format!("{}.{}.{}", self.dataset, self.primary_site, self.secondary_site);
        FileName::of_part(&self.run_id, &part)
    }

    fn is_plain(&self) -> bool {
        self.disclosure == KeyDisclosure::Plain
    }

    fn chunk_row(&self, chunk: Chunk) -> ChunkRow {
        let (start, end) = self.bounds(&chunk.part);
        let digest = |side: Option<ChunkDigest>| side.map(|digest| Hex(digest.hex()));
        ChunkRow {
            run_id: self.run_id.clone(),
            dataset: self.dataset.clone(),
            store: self.store.clone(),
            primary_site: self.primary_site.clone(),
            secondary_site: self.secondary_site.clone(),
            collection: chunk.collection,
            chunk_id: chunk.chunk_id,
            range_start: start,
            range_end: end,
            primary_count: chunk.primary.map(|digest| digest.count),
            secondary_count: chunk.secondary.map(|digest| digest.count),
            primary_digest: digest(chunk.primary),
            secondary_digest: digest(chunk.secondary),
            digest_mode: chunk.mode,
            seeds: vec![format!("{:016x}", chunk.seed)],
            state: chunk.state,
            attempts: chunk.attempts,
            primary_us: chunk.primary_us,
            secondary_us: chunk.secondary_us,
            read_at: AtMicros(chunk.read_at_us),
            error: said(chunk.error),
        }
    }

    /// Boundaries are keys: they appear only where keys may. A bucket tells nothing about keys.
    fn bounds(&self, part: &Part) -> (Option<String>, Option<String>) {
        match part {
            Part::Bucket { index, of } => (Some(serde_json::json!({ "bucket": index, "of": of }).to_string()), None),
            Part::Range(range) if self.is_plain() => {
                (range.lower.as_ref().map(key_json), range.upper.as_ref().map(key_json))
            }
            Part::Range(_) => (None, None),
        }
    }

    fn divergence_row(&self, divergence: Divergence) -> DivergenceRow {
        // The run already leaves out what must not appear. Here it cannot slip through even if it forgot: a row's values hold its key.
        let plain = |text: Option<String>| text.filter(|_| self.is_plain());
        let is_hashed = self.disclosure == KeyDisclosure::Hashed;
        DivergenceRow {
            run_id: self.run_id.clone(),
            dataset: self.dataset.clone(),
            store: self.store.clone(),
            primary_site: self.primary_site.clone(),
            secondary_site: self.secondary_site.clone(),
            collection: divergence.collection,
            chunk_id: divergence.chunk_id,
            key: plain(divergence.key),
            key_hash: divergence.key_hash.filter(|_| is_hashed).map(Hex),
            class: divergence.class,
            detail: said(divergence.detail),
            state: divergence.state,
            origin: divergence.origin,
            origin_evidence: said(divergence.origin_evidence),
            columns: divergence.columns,
            primary_digest: divergence.primary_digest.map(Hex),
            secondary_digest: divergence.secondary_digest.map(Hex),
            primary_value: plain(divergence.primary_value),
            secondary_value: plain(divergence.secondary_value),
            primary_changed_at: divergence.primary_changed_at_us.map(AtMicros),
            secondary_changed_at: divergence.secondary_changed_at_us.map(AtMicros),
            first_seen_at: AtMicros(divergence.first_seen_at_us),
            last_rechecked_at: divergence.last_rechecked_at_us.map(AtMicros),
            rechecks: divergence.rechecks,
            explanation: said(divergence.explanation),
        }
    }

    fn coverage_row(&self, coverage: &Coverage) -> Result<CoverageRow, TableError> {
        Ok(CoverageRow {
            run_id: self.run_id.clone(),
            dataset: self.dataset.clone(),
            store: self.store.clone(),
            primary_site: self.primary_site.clone(),
            secondary_site: self.secondary_site.clone(),
            collection: coverage.collection.clone(),
            primary_collection: coverage.primary_collection.clone(),
            secondary_collection: coverage.secondary_collection.clone(),
            labels: self.labels.clone(),
            scope: said(coverage.scope.as_str()),
            fence: fence(&coverage.fence)?,
            state: coverage.state,
            reason: said(coverage.reason.as_str()),
            primary_rows: coverage.primary_rows,
            secondary_rows: coverage.secondary_rows,
            primary_bytes: coverage.primary_bytes,
            secondary_bytes: coverage.secondary_bytes,
            canaries_excluded: coverage.canaries_excluded,
            chunks_total: coverage.chunks_total,
            chunks_equal: coverage.chunks_equal,
            chunks_different: coverage.chunks_different,
            chunks_failed: coverage.chunks_failed,
            confirmed: coverage.confirmed,
            volatile: coverage.volatile,
            unverified: coverage.unverified,
            transient: coverage.transient,
            started_at: AtMicros(coverage.started_at_us),
            finished_at: AtMicros(coverage.finished_at_us),
        })
    }
}

impl CoverageRow {
    /// The result of a row, as the run recorded it.
    pub fn into_record(self) -> Coverage {
        Coverage {
            collection: self.collection,
            primary_collection: self.primary_collection,
            secondary_collection: self.secondary_collection,
            scope: self.scope.unwrap_or_default(),
            fence: self.fence.map_or_else(String::new, |fence| fence.word().to_owned()),
            state: self.state,
            reason: self.reason.unwrap_or_default(),
            primary_rows: self.primary_rows,
            secondary_rows: self.secondary_rows,
            primary_bytes: self.primary_bytes,
            secondary_bytes: self.secondary_bytes,
            canaries_excluded: self.canaries_excluded,
            chunks_total: self.chunks_total,
            chunks_equal: self.chunks_equal,
            chunks_different: self.chunks_different,
            chunks_failed: self.chunks_failed,
            confirmed: self.confirmed,
            volatile: self.volatile,
            unverified: self.unverified,
            transient: self.transient,
            started_at_us: self.started_at.0,
            finished_at_us: self.finished_at.0,
        }
    }
}

fn fence(word: &str) -> Result<Option<Fence>, TableError> {
    if word.is_empty() {
        return Ok(None);
    }
    let known = Fence::ALL.iter().copied().find(|fence| fence.word() == word);
    known.map(Some).ok_or_else(|| TableError::Contract {
        table: "coverage",
        column: "fence".to_owned(),
        problem: format!("`{word}` is not a known fence"),
    })
}

/// A key without the names of its columns: a JSON array.
fn key_json(key: &Key) -> String {
    let values = key.0.iter().map(|value| match value {
        KeyValue::Int(value) => serde_json::Value::from(*value),
        KeyValue::Text(value) => value.clone().into(),
        KeyValue::Bytes(value) => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\\x{hex}").into()
        }
    });
    serde_json::Value::Array(values.collect()).to_string()
}

/// A collection that the run never finished, from what was committed of it. Never `verified`.
pub(crate) fn unfinished(
    planned: &reconcile::PlannedCollection,
    started_at_us: i64,
    chunks: [u64; 3],
    keys: &BTreeMap<&'static str, u64>,
) -> Coverage {
    let [equal, different, failed] = chunks;
    let count = |state: State| keys.get(state.word()).copied().unwrap_or(0);
    let confirmed = count(State::Confirmed);
    let planned_chunks = planned.rows().map_or(0, |rows| rows.cut.len());
    Coverage {
        collection: planned.name.clone(),
        primary_collection: planned.primary.as_ref().map(|side| side.name.clone()),
        secondary_collection: planned.secondary.as_ref().map(|side| side.name.clone()),
        scope: planned.scope.clone(),
        fence: String::new(),
        state: match (confirmed, equal) {
            (1.., _) => CoverageState::Diverged,
            (0, 1..) => CoverageState::Partial,
            (0, 0) => CoverageState::Failed,
        },
        reason: format!("cut_short: the run ended before this collection did; {equal} chunks of it were found equal"),
        primary_rows: None,
        secondary_rows: None,
        primary_bytes: planned.primary.as_ref().and_then(|side| side.bytes),
        secondary_bytes: planned.secondary.as_ref().and_then(|side| side.bytes),
        canaries_excluded: 0,
        chunks_total: planned_chunks.max(equal + different + failed),
        chunks_equal: equal,
        chunks_different: different,
        chunks_failed: failed,
        confirmed,
        volatile: count(State::Volatile),
        unverified: count(State::Unverified),
        transient: count(State::Transient),
        started_at_us,
        finished_at_us: started_at_us,
    }
}

/// Index of a chunk's state in counts by state.
pub(crate) fn slot(state: ChunkState) -> usize {
    match state {
        ChunkState::Equal => 0,
        ChunkState::Different => 1,
        ChunkState::Failed => 2,
    }
}

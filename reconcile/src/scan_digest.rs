//! Stage `digest` of a collection that is scanned: one part of one side, read once, its rows added up by buckets and spilled.

use std::time::Instant;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use stores::{ChunkDigest, Collection, End, Identity, ScanPart, Scanned, StoreError, key_bucket};

use crate::attempt::Attempt;
use crate::plan::RowPlan;
use crate::retry::{answered, asked, rest};
use crate::scan_plan::{Scan, Scans};
use crate::spill::Spill;
use crate::workplace::hash_file;
use crate::{Frame, Limits, ReconcileError};

/// What one pass over one part found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannedPart {
    /// What was read.
    pub scan: Scan,
    /// It, in the terms of the store.
    pub part: ScanPart,
    /// Who answered, asked when all was read; `None`: it was not read.
    pub identity: Option<Identity>,
    /// When the reading began, microseconds since 1970 UTC.
    pub read_at_us: i64,
    /// How long it took, microseconds.
    pub took_us: u64,
    /// Tries.
    pub attempts: u64,
    /// Digests of the buckets that have rows.
    pub buckets: Vec<(u32, ChunkDigest)>,
    /// The files that hold the rows.
    pub spills: Vec<Spilled>,
    /// Why it was not read as a whole; empty otherwise. Nothing that this part could hold is equal then.
    pub error: String,
}

/// A file with rows of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spilled {
    /// Which one of the part's files.
    pub number: u32,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, 64 hex digits.
    pub sha256: String,
}

/// How one part is read.
pub(crate) struct Reading<'a> {
    pub(crate) end: &'a End,
    pub(crate) collection: &'a Collection,
    pub(crate) rows: &'a RowPlan,
    pub(crate) scans: &'a Scans,
    pub(crate) scan: &'a Scan,
    pub(crate) part: &'a ScanPart,
    pub(crate) limits: &'a Limits,
    /// Whether rows are kept, to be joined with those of the other side.
    pub(crate) keeps_rows: bool,
}

/// What a whole pass gives.
struct Whole {
    identity: Identity,
    buckets: Vec<(u32, ChunkDigest)>,
    files: Vec<u32>,
}

/// Why a pass was not brought to its end.
enum Broken {
    /// Recorded; the run goes on.
    Store(StoreError),
    /// The run cannot go on.
    Work(ReconcileError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ReconcileError> for Broken {
    fn from(error: ReconcileError) -> Self {
        Self::Work(error)
    }
}

impl Reading<'_> {
    /// Reads the part, whatever it takes within the limits, and records what came of it.
    ///
    /// # Errors
    /// `Journal`: the work cannot be written. That the part could not be read is no error: it is recorded.
    pub(crate) async fn record(&self, attempt: &Attempt) -> Result<u64, ReconcileError> {
        let begun = Instant::now();
        let mut scanned = ScannedPart {
            scan: self.scan.clone(),
            part: self.part.clone(),
            identity: None,
            read_at_us: crate::now_us(),
            took_us: 0,
            attempts: 0,
            buckets: Vec::new(),
            spills: Vec::new(),
            error: String::new(),
        };
        let whole = loop {
            scanned.attempts += 1;
            let error = match self.pass(attempt).await {
                Ok(whole) => break Ok(whole),
                Err(Broken::Work(error)) => return Err(error),
                Err(Broken::Store(error)) => error,
            };
            if let Err(error) = rest(self.limits, scanned.attempts, error).await {
                break Err(error);
            }
        };
        match whole {
            Ok(whole) => {
                scanned.identity = Some(whole.identity);
                scanned.buckets = whole.buckets;
                for number in whole.files {
                    let (bytes, sha256) = hash_file(&attempt.spill(number))?;
                    scanned.spills.push(Spilled { number, bytes, sha256 });
                }
            }
            Err(error) => {
                // Nothing of it counts, so nothing of it stays.
                Spill::begin(attempt.folder(), &attempt.name, self.scans.files())?;
                scanned.error = format!("{}: {error}", error.kind());
            }
        }
        scanned.took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let rows = scanned.buckets.iter().map(|(_, digest)| digest.count).sum();
        attempt.recorder.append(&Frame::Scanned(Box::new(scanned)))?;
        Ok(rows)
    }

    /// One pass from the first row to the last. What an earlier one left is thrown away.
    async fn pass(&self, attempt: &Attempt) -> Result<Whole, Broken> {
        let (limits, site) = (self.limits, &self.end.site);
        let scanned = self.scanned()?;
        let mut spill = Spill::begin(attempt.folder(), &attempt.name, self.scans.files())?;
        let of = self.scans.buckets;
        let mut sums = vec![ChunkDigest::default(); usize::try_from(of).unwrap_or(1)];
        let mode = self.rows.recipe.mode;
        let scan = scanned.scan(self.collection, &self.rows.recipe, self.part);
        let mut rows = answered(limits, site, scan).await?;
        loop {
            let next = async { rows.next().await.transpose() };
            let Some((key, digest)) = answered(limits, site, next).await? else {
                break;
            };
            let bucket = key_bucket(&key, of);
            if let Some(sum) = usize::try_from(bucket).ok().and_then(|at| sums.get_mut(at)) {
                let row = ChunkDigest {
                    count: 1,
                    sum: digest.0,
                };
                *sum = sum.merge(row, mode);
            }
            if self.keeps_rows {
                spill.take(self.scans.file_of(bucket), &key, digest)?;
            }
        }
        let files = spill.end()?;
        // When all is read: what began to lead elsewhere meanwhile is noticed before anything counts.
        let identity = asked(limits, site, || self.end.identify.identity()).await.0?;
        let buckets = (0..of).zip(sums).filter(|(_, sum)| sum.count > 0).collect();
        Ok(Whole {
            identity,
            buckets,
            files,
        })
    }

    fn scanned(&self) -> stores::Result<&dyn Scanned> {
        self.end.scanned.as_deref().ok_or_else(|| {
            let tried = format!("scan {}", self.collection.name);
            let trouble = stores::Trouble::new(&self.end.site, tried, "this store gives no scans");
            StoreError::Unsupported(trouble)
        })
    }
}

//! Stage `resolve` of a collection that is scanned: what the parts of both sides say together of each bucket.

use std::path::PathBuf;
use std::sync::Mutex;

use stores::{ChunkDigest, Part};

use crate::compare::{Comparison, Stop};
use crate::plan::{Plan, RowPlan};
use crate::record::Counts;
use crate::scan_digest::ScannedPart;
use crate::scan_join::{Bucket, Column, Joins};
use crate::scan_plan::Scans;
use crate::{Chunk, Side};

/// Everything that was scanned of one collection.
#[derive(Debug)]
pub(crate) struct Resolved {
    scans: Scans,
    mode: stores::DigestMode,
    parts: Vec<(ScannedPart, Vec<(u32, PathBuf)>)>,
}

impl Resolved {
    /// `parts`: what each scan found, and where those of its files are that are needed here.
    pub(crate) fn new(rows: &RowPlan, scans: &Scans, parts: Vec<(ScannedPart, Vec<(u32, PathBuf)>)>) -> Self {
        Self {
            scans: scans.clone(),
            mode: rows.recipe.mode,
            parts,
        }
    }

    /// Why nothing can be said of any bucket: rows of a part that was not read may be in each of them.
    pub(crate) fn unfit(&self, plan: &Plan) -> Option<String> {
        for (part, _) in &self.parts {
            let (site, role) = match part.scan.side {
                Side::Primary => (&plan.primary_site, plan.primary.role),
                Side::Secondary => (&plan.secondary_site, plan.secondary.role),
            };
            if !part.error.is_empty() {
                return Some(format!("scan_incomplete: site {site}, {}: {}", part.part, part.error));
            }
            let Some(identity) = &part.identity else {
                return Some(format!("scan_incomplete: site {site}, {}: it was not read", part.part));
            };
            if identity.role != role {
                return Some(format!(
                    "role_changed: site {site} was {role:?} when this was planned and {:?} when it was scanned; run the reconciliation again",
                    identity.role
                ));
            }
            let others = self.parts.iter().filter(|(other, _)| other.scan.side != part.scan.side);
            let mut others = others.filter_map(|(other, _)| other.identity.as_ref());
            if others.any(|other| other.same_data(identity)) {
                return Some(format!(
                    "same_data: both sites reached instance {} when they were scanned",
                    identity.instance
                ));
            }
        }
        let wanted = [Side::Primary, Side::Secondary].map(|side| self.scans.parts(side).len());
        let wanted = usize::try_from(self.scans.passes).unwrap_or(usize::MAX) * wanted.iter().sum::<usize>();
        (self.parts.len() != wanted).then(|| {
            let read = self.parts.len();
            format!("scan_incomplete: {read} of {wanted} parts were read")
        })
    }

    /// What each pass over the primary gave for a bucket.
    pub(crate) fn primary(&self, index: u32) -> Vec<ChunkDigest> {
        let bucket = self.bucket(index);
        bucket.passes.iter().map(|[primary, _]| primary.digest).collect()
    }

    /// The most tries that a part took, and when the first of them was read; `now_us` where there is none.
    pub(crate) fn read(&self, now_us: i64) -> (u64, i64) {
        let parts = || self.parts.iter().map(|(part, _)| part);
        let attempts = parts().map(|part| part.attempts).max().unwrap_or(0);
        (attempts, parts().map(|part| part.read_at_us).min().unwrap_or(now_us))
    }

    /// One bucket: its digests and files, in each pass.
    fn bucket(&self, index: u32) -> Bucket {
        let column = |pass: u32, side: Side| {
            let mut column = Column::default();
            let of_side = |part: &&(ScannedPart, _)| part.0.scan.side == side && part.0.scan.pass == pass;
            for (part, files) in self.parts.iter().filter(of_side) {
                let found = part.buckets.iter().find(|(bucket, _)| *bucket == index);
                let Some((_, digest)) = found else { continue };
                column.digest = column.digest.merge(*digest, self.mode);
                let file = self.scans.file_of(index);
                let files = files.iter().filter(|(number, _)| *number == file);
                column.files.extend(files.map(|(_, path)| path.clone()));
            }
            column
        };
        let passes = 0..self.scans.passes;
        Bucket {
            index,
            of: self.scans.buckets,
            mode: self.mode,
            passes: passes
                .map(|pass| [column(pass, Side::Primary), column(pass, Side::Secondary)])
                .collect(),
        }
    }
}

impl Comparison<'_> {
    /// Compares one bucket by what was scanned: equal digests in every pass, or keys that explain why they are not.
    pub(crate) async fn compare_scanned(
        &self,
        resolved: &Resolved,
        chunk: &mut Chunk,
        counts: &Mutex<Counts>,
    ) -> Result<(), Stop> {
        let Part::Bucket { index, .. } = chunk.part else {
            return Err(Stop::Failed("unsupported: only buckets are scanned".to_owned()));
        };
        let bucket = resolved.bucket(index);
        (chunk.attempts, chunk.read_at_us) = resolved.read(chunk.read_at_us);
        let Some(last) = bucket.passes.last() else {
            return Err(Stop::Failed("scan_incomplete: nothing was read".to_owned()));
        };
        (chunk.primary, chunk.secondary) = (Some(last[0].digest), Some(last[1].digest));
        let digests: Vec<ChunkDigest> = bucket.passes.iter().flatten().map(|column| column.digest).collect();
        if digests.windows(2).all(|two| two[0] == two[1]) {
            return Ok(());
        }
        self.tell_narrowing(chunk.chunk_id);
        // Before and behind the recheck: two readings of one and the same end agree always.
        self.still_apart().await?;
        let found = self.decide_bucket(bucket, chunk.chunk_id, counts).await?;
        self.still_apart().await?;
        if found == 0 {
            return Err(Stop::Failed(
                "corrupt: the digests of a bucket differ and its rows do not".to_owned(),
            ));
        }
        Ok(())
    }

    /// Looks again at every key that the scans do not show alike; gives how many there are.
    async fn decide_bucket(&self, bucket: Bucket, chunk_id: u64, counts: &Mutex<Counts>) -> Result<usize, Stop> {
        let mut joins = Joins::new(bucket, self.limits.narrow_bytes_max);
        let mut found = 0;
        loop {
            // It reads files for as long as seconds.
            let joined = tokio::task::spawn_blocking(move || {
                let next = joins.next();
                (joins, next)
            });
            let candidates = match joined.await {
                Ok((back, next)) => {
                    joins = back;
                    next
                }
                Err(error) => return Err(Stop::Failed(format!("the join of a bucket was not ended: {error}"))),
            };
            let candidates = match candidates {
                Ok(Some(candidates)) => candidates,
                Ok(None) => return Ok(found),
                Err(error) => return Err(Stop::Failed(format!("corrupt: {error}"))),
            };
            found += candidates.len();
            self.decide(candidates, chunk_id, counts).await?;
        }
    }
}

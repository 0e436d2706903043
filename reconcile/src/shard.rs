//! How a plan is cut into shards: by the plan alone, so that every worker cuts it alike.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::Look;
use crate::plan::{Cut, Plan, PlannedCollection, RowPlan};
use crate::scan_plan::Scan;

/// Chunks of one collection that follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which of the plan's collections.
    pub collection: usize,
    /// Numbers of the chunks.
    pub chunks: Range<u64>,
}

/// What a shard does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Compares its chunks, each read at both sides: collections that are cut into ranges or buckets need no other stage.
    Compare,
    /// Reads one part of one side.
    Digest(Scan),
    /// Compares its chunks by what shards of stage `digest` have read.
    Resolve,
}

/// A shard as it is cut: what it does, and to which chunks.
pub(crate) type Cutting = (Stage, Vec<Piece>);

/// The shards of a plan, each about `rows_per_shard` rows: several pieces of one large collection, or several small collections whole.
/// Together they hold every chunk of the plan once. A collection that is scanned has shards of its own: one for each part of each side, and
/// behind them those of its buckets.
pub(crate) fn shards(plan: &Plan) -> Vec<Cutting> {
    let rows_per_shard = plan.limits.rows_per_shard.max(1);
    let mut shards = Vec::new();
    let mut shared: Vec<Piece> = Vec::new();
    let mut shared_rows = 0u64;
    for (collection, planned) in plan.collections.iter().enumerate() {
        let Some(rows) = planned.rows() else { continue };
        if let (Cut::Scans(scans), Look::All | Look::Against { .. }) = (&rows.cut, &plan.look) {
            let parts = scans.scans(collection);
            shards.extend(parts.map(|scan| (Stage::Digest(scan), Vec::new())));
            shards.extend(pieces(
                collection,
                rows.cut.len(),
                rows_per_shard,
                estimate(plan, planned, rows),
            ));
            continue;
        }
        let chunks = rows.cut.len();
        let estimate = estimate(plan, planned, rows);
        if shared_rows.saturating_add(estimate) > rows_per_shard && !shared.is_empty() {
            shards.push((Stage::Compare, std::mem::take(&mut shared)));
            shared_rows = 0;
        }
        let wanted = estimate.div_ceil(rows_per_shard).clamp(1, chunks);
        if wanted == 1 {
            shared_rows = shared_rows.saturating_add(estimate);
            shared.push(Piece {
                collection,
                chunks: 0..chunks,
            });
            continue;
        }
        let of_one = pieces(collection, chunks, rows_per_shard, estimate);
        shards.extend(of_one.map(|(_, pieces)| (Stage::Compare, pieces)));
    }
    if !shared.is_empty() {
        shards.push((Stage::Compare, shared));
    }
    shards
}

/// All chunks of one collection, in as many shards as it takes.
fn pieces(collection: usize, chunks: u64, rows_per_shard: u64, estimate: u64) -> impl Iterator<Item = Cutting> {
    let wanted = estimate.div_ceil(rows_per_shard).clamp(1, chunks.max(1));
    let per_shard = chunks.div_ceil(wanted).max(1);
    (0..chunks.div_ceil(per_shard)).map(move |at| {
        let first = at * per_shard;
        let chunks = first..first.saturating_add(per_shard).min(chunks);
        (Stage::Resolve, vec![Piece { collection, chunks }])
    })
}

/// Rows of a collection, at least one for each chunk; where no side has an estimate, as many as its chunks were cut for.
fn estimate(plan: &Plan, planned: &PlannedCollection, rows: &RowPlan) -> u64 {
    let chunks = rows.cut.len();
    let of = |side: &Option<stores::Collection>| side.as_ref().and_then(|side| side.rows_estimate);
    let known = of(&planned.primary).max(of(&planned.secondary));
    let supposed = || chunks.saturating_mul(plan.limits.rows_per_chunk);
    known.unwrap_or_else(supposed).max(chunks)
}

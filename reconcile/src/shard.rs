//! How a plan is cut into shards: by the plan alone, so that every worker cuts it alike.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlannedCollection, RowPlan};

/// Chunks of one collection that follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Which of the plan's collections.
    pub collection: usize,
    /// Numbers of the chunks.
    pub chunks: Range<u64>,
}

/// The shards of a plan, each about `rows_per_shard` rows: several pieces of one large collection, or several small collections whole.
/// Together they hold every chunk of the plan once.
pub fn shards(plan: &Plan) -> Vec<Vec<Piece>> {
    let rows_per_shard = plan.limits.rows_per_shard.max(1);
    let mut shards = Vec::new();
    let mut shared: Vec<Piece> = Vec::new();
    let mut shared_rows = 0u64;
    for (collection, planned) in plan.collections.iter().enumerate() {
        let Some(rows) = planned.rows() else { continue };
        let chunks = rows.cut.len();
        let estimate = estimate(plan, planned, rows);
        if shared_rows.saturating_add(estimate) > rows_per_shard && !shared.is_empty() {
            shards.push(std::mem::take(&mut shared));
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
        let per_shard = chunks.div_ceil(wanted);
        let mut first = 0;
        while first < chunks {
            let end = first.saturating_add(per_shard).min(chunks);
            shards.push(vec![Piece {
                collection,
                chunks: first..end,
            }]);
            first = end;
        }
    }
    if !shared.is_empty() {
        shards.push(shared);
    }
    shards
}

/// Rows of a collection, at least one for each chunk; where no side has an estimate, as many as its chunks were cut for.
fn estimate(plan: &Plan, planned: &PlannedCollection, rows: &RowPlan) -> u64 {
    let chunks = rows.cut.len();
    let of = |side: &Option<stores::Collection>| side.as_ref().and_then(|side| side.rows_estimate);
    let known = of(&planned.primary).max(of(&planned.secondary));
    let supposed = || chunks.saturating_mul(plan.limits.rows_per_chunk);
    known.unwrap_or_else(supposed).max(chunks)
}

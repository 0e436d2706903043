//! Several streams of one route (partitions of a topic, tables of a dataset) as one result.

use std::collections::BTreeMap;

use super::LOST_LISTED_MAX;
use crate::{LossShape, Route, Rpo};

/// The streams of one route together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedRpo {
    /// Counts are sums; the loss in time, at either end, is that of the worst stream; the ledger is complete until the earliest instant of
    /// any; holes in one stream are holes. The epoch is that of the stream whose loss reaches back furthest. Unbounded above when a stream
    /// is, or has no ledger.
    pub rpo: Rpo,
    /// Streams of the route that no ledger tells of: what they lost is not known.
    pub without_ledger: Vec<String>,
}

/// Merges what was judged stream by stream into one result for each route. `without_ledger` names the streams that should have been judged,
/// with their routes, and have no ledger; a route of which no stream has one is left to the caller, who has nothing to show of it.
pub fn merge_rpos(judged: Vec<Rpo>, without_ledger: &[(Route, String)]) -> Vec<MergedRpo> {
    let mut routes: BTreeMap<(Route, String), Rpo> = BTreeMap::new();
    for rpo in judged {
        let of = (rpo.route.clone(), rpo.event_id.clone());
        match routes.remove(&of) {
            None => routes.insert(of, rpo),
            Some(sum) => routes.insert(of, both(sum, rpo)),
        };
    }
    let merged = routes.into_values().map(|mut rpo| {
        let missing = without_ledger.iter().filter(|(route, _)| *route == rpo.route);
        let missing: Vec<String> = missing.map(|(_, stream)| stream.clone()).collect();
        if !missing.is_empty() {
            rpo.rpo_high_us = None;
        }
        MergedRpo {
            rpo,
            without_ledger: missing,
        }
    });
    merged.collect()
}

fn both(a: Rpo, b: Rpo) -> Rpo {
    let earliest = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
    let mut canaries = a.canaries;
    canaries.extend(b.canaries);
    canaries.truncate(LOST_LISTED_MAX);
    Rpo {
        acked: a.acked + b.acked,
        survived: a.survived + b.survived,
        lost: a.lost + b.lost,
        unknown: a.unknown + b.unknown,
        first_lost_at_us: earliest(a.first_lost_at_us, b.first_lost_at_us),
        last_lost_at_us: a.last_lost_at_us.max(b.last_lost_at_us),
        rpo_low_us: a.rpo_low_us.max(b.rpo_low_us),
        rpo_high_us: a.rpo_high_us.zip(b.rpo_high_us).map(|(a, b)| a.max(b)),
        ledger_complete_until_us: a.ledger_complete_until_us.min(b.ledger_complete_until_us),
        shape: worse(a.shape, b.shape),
        epoch: if b.rpo_high_us.unwrap_or(u64::MAX) > a.rpo_high_us.unwrap_or(u64::MAX) {
            b.epoch
        } else {
            a.epoch
        },
        route: a.route,
        event_id: a.event_id,
        canaries,
    }
}

fn worse(a: LossShape, b: LossShape) -> LossShape {
    let rank = |shape: LossShape| match shape {
        LossShape::None => 0,
        LossShape::Suffix => 1,
        LossShape::Holes => 2,
        LossShape::Scattered => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

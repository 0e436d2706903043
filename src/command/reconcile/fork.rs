//! What an event proves about the fork of a pair.

use anyhow::anyhow;
use reconcile::{ForkEvidence, Pair, Side};
use reports::Event;

use super::job::Job;
use crate::exit::Failure;

/// A transaction is taken to have lasted at least as long as this around a fork, unless the old primary shows a longer one: how long they
/// really were is not on record anywhere. A change that is dated so shortly before the fork has an unknown origin.
const LONGEST_TRANSACTION_MIN_US: u64 = 60_000_000;

/// What the event proves about the fork of this pair. An event that does not touch the dataset, or whose sites are others, is refused.
pub(super) async fn fork(event: &Event, job: &Job<'_>, pair: &Pair) -> Result<Option<ForkEvidence>, Failure> {
    if !event.datasets.is_empty() && !event.datasets.iter().any(|dataset| dataset == job.dataset) {
        return Ok(None);
    }
    let old_side = if event.from_site == pair.primary.site {
        Side::Primary
    } else if event.from_site == pair.secondary.site {
        Side::Secondary
    } else {
        return Err(Failure::refused(anyhow!(
            "event {} left site {}, which is not one of this pair",
            event.event_id,
            event.from_site
        )));
    };
    let Some(fork) = event.forks.get(job.unit.name) else {
        return Err(Failure::cannot_tell(anyhow!(
            "event {} has no fork for connection {}: run `driftline event mark promoted` while the promoted server has not restarted",
            event.event_id,
            job.unit.name
        )));
    };
    let old_end = match old_side {
        Side::Primary => &pair.primary,
        Side::Secondary => &pair.secondary,
    };
    let seen = match &old_end.status {
        Some(status) => status.status().await?.longest_transaction_us,
        None => None,
    };
    Ok(Some(ForkEvidence {
        fork: fork.clone(),
        old_side,
        longest_transaction_us: seen.unwrap_or(0).max(LONGEST_TRANSACTION_MIN_US),
    }))
}

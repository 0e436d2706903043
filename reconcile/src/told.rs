//! What became of a key, as the journal tells it.

use stores::Reading;

use crate::disclose::{self, Disclosure};
use crate::origin::origin;
use crate::plan::RowPlan;
use crate::recheck::Decided;
use crate::{Divergence, ForkEvidence, Origin, Pair, explain};

/// What the divergences of one collection share.
#[derive(Clone, Copy)]
pub(crate) struct Teller<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) name: &'a str,
    pub(crate) rows: &'a RowPlan,
    pub(crate) fork: Option<&'a ForkEvidence>,
    pub(crate) disclosure: &'a Disclosure,
}

impl Teller<'_> {
    /// One key of chunk `chunk_id`, whatever its state. Keys and values appear as the disclosure allows; the key itself stays in the work of
    /// the run, so that it can be looked at again.
    pub(crate) fn divergence(&self, chunk_id: u64, decided: Decided, first_seen_at_us: i64) -> Divergence {
        let recipe = &self.rows.recipe;
        let (primary, secondary) = match &decided.readings {
            Some((primary, secondary)) => (Some(primary), Some(secondary)),
            None => (None, None),
        };
        let judged = self.fork.map(|fork| match (primary, secondary) {
            (Some(primary), Some(secondary)) => origin(fork, self.rows.changed_at.as_deref(), primary, secondary),
            _ => (Origin::Unknown, "its rows could not be read again".to_owned()),
        });
        let listed = |digest: Option<stores::RowDigest>| digest.map(|digest| format!("{:032x}", digest.0));
        Divergence {
            collection: self.name.to_owned(),
            chunk_id: Some(chunk_id),
            key: self.disclosure.key(&decided.key, &recipe.key_names()),
            key_hash: self.disclosure.key_hash(self.name, &decided.key),
            class: decided.difference.class,
            state: decided.state,
            origin: judged.as_ref().map(|(origin, _)| *origin),
            explanation: explain::key(self.pair, &decided, judged.as_ref().map(|(origin, _)| *origin)),
            origin_evidence: judged.map(|(_, evidence)| evidence).unwrap_or_default(),
            columns: decided.difference.columns,
            detail: decided.difference.detail,
            primary_digest: primary.map_or_else(|| listed(decided.candidate.primary), digest),
            secondary_digest: secondary.map_or_else(|| listed(decided.candidate.secondary), digest),
            primary_value: primary.and_then(|reading| disclose::value(reading, &recipe.columns)),
            secondary_value: secondary.and_then(|reading| disclose::value(reading, &recipe.columns)),
            primary_changed_at_us: primary.and_then(changed_at_us),
            secondary_changed_at_us: secondary.and_then(changed_at_us),
            first_seen_at_us,
            last_rechecked_at_us: decided.rechecked_at_us,
            rechecks: decided.rechecks,
            work_key: Some(decided.key),
        }
    }
}

fn digest(reading: &Reading) -> Option<String> {
    match reading {
        Reading::Absent => None,
        Reading::Present(row) => Some(format!("{:032x}", row.digest.0)),
    }
}

fn changed_at_us(reading: &Reading) -> Option<i64> {
    match reading {
        Reading::Absent => None,
        Reading::Present(row) => row.changed_at_us,
    }
}

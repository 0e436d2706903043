//! What a reconciliation found, for a person and as JSON.

use std::collections::BTreeMap;

use reconcile::{Chunk, Coverage, CoverageState, PlannedCollection, State};
use serde::Serialize;

use super::reconcile::{Scope, slot, unfinished};
use crate::tables::{DivergenceRow, TableError};

/// What a reconciliation of one dataset and pair found. Its JSON form is a contract: scripts read `complete` and `exit_code`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// The run.
    pub run_id: String,
    /// The dataset.
    pub dataset: String,
    /// Its store.
    pub store: String,
    /// The stated writer.
    pub primary_site: String,
    /// The other site.
    pub secondary_site: String,
    /// Whether everything selected was verified or shown to differ.
    pub complete: bool,
    /// 0: everything selected is equal. 1: something differs. 3: could not tell.
    pub exit_code: u8,
    /// Keys and collections that differ, confirmed.
    pub confirmed: u64,
    /// Keys that kept changing.
    pub volatile: u64,
    /// Keys that could not be read again.
    pub unverified: u64,
    /// Keys that were only in flight.
    pub transient: u64,
    /// Listed keys by class, state and origin.
    pub divergences: Vec<Tally>,
    /// Confirmed keys that are counted and not listed, because the listing was capped.
    pub not_listed: u64,
    /// The first listed keys by collection, confirmed ones first.
    pub keys: Vec<ShownKey>,
    /// What was verified, what was not, and why.
    pub collections: Vec<Coverage>,
}

/// How many listed keys share class, state and origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The collection.
    pub collection: String,
    /// The class.
    pub class: &'static str,
    /// The state.
    pub state: &'static str,
    /// The origin; `null` without an event.
    pub origin: Option<&'static str>,
    /// How many.
    pub count: u64,
}

/// One key for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ShownKey {
    /// The collection.
    pub collection: String,
    /// The key as JSON, its hash, or `null` where neither may appear.
    pub key: Option<String>,
    /// The class.
    pub class: &'static str,
    /// The state.
    pub state: &'static str,
    /// The origin.
    pub origin: Option<&'static str>,
    /// The columns that differ.
    pub columns: Vec<String>,
    /// One sentence.
    pub explanation: Option<String>,
}

/// Collects while the journal streams by. Bounded by collections, closed lists and `shown_max`.
#[derive(Debug)]
pub(crate) struct Found {
    tallies: BTreeMap<(String, &'static str, &'static str, Option<&'static str>), u64>,
    chunks: BTreeMap<String, [u64; 3]>,
    confirmed: Vec<ShownKey>,
    undecided: Vec<ShownKey>,
    shown_max: usize,
}

impl Found {
    pub(crate) fn new(shown_max: usize) -> Self {
        Self {
            tallies: BTreeMap::new(),
            chunks: BTreeMap::new(),
            confirmed: Vec::new(),
            undecided: Vec::new(),
            shown_max,
        }
    }

    pub(crate) fn chunk(&mut self, chunk: &Chunk) {
        self.chunks.entry(chunk.collection.clone()).or_default()[slot(chunk.state)] += 1;
    }

    pub(crate) fn divergence(&mut self, row: &DivergenceRow) {
        let origin = row.origin.map(reconcile::Origin::word);
        let tally = (row.collection.clone(), row.class.word(), row.state.word(), origin);
        *self.tallies.entry(tally).or_default() += 1;
        let shown = match row.state {
            State::Confirmed => &mut self.confirmed,
            State::Volatile | State::Unverified | State::Pending => &mut self.undecided,
            State::Transient | State::OutOfScope => return,
        };
        if shown.len() < self.shown_max {
            shown.push(ShownKey {
                collection: row.collection.clone(),
                key: row.key.clone().or_else(|| row.key_hash.clone().map(|hash| hash.0)),
                class: row.class.word(),
                state: row.state.word(),
                origin,
                columns: row.columns.clone(),
                explanation: row.explanation.clone(),
            });
        }
    }

    fn keys_by_state(&self, collection: &str) -> BTreeMap<&'static str, u64> {
        let mut states = BTreeMap::new();
        for ((of, _, state, _), count) in &self.tallies {
            if of == collection {
                *states.entry(*state).or_default() += count;
            }
        }
        states
    }

    pub(crate) fn cut_short(&self, planned: &PlannedCollection, started_at_us: i64) -> Coverage {
        let chunks = self.chunks.get(&planned.name).copied().unwrap_or_default();
        unfinished(planned, started_at_us, chunks, &self.keys_by_state(&planned.name))
    }

    /// A result may never be better than the frames behind it.
    pub(crate) fn check(&self, coverage: &Coverage) -> Result<(), TableError> {
        let name = &coverage.collection;
        let listed = self
            .keys_by_state(name)
            .get(State::Confirmed.word())
            .copied()
            .unwrap_or(0);
        if listed > coverage.confirmed {
            return Err(TableError::Contradiction(format!(
                "{name}: {listed} confirmed divergences are listed and {} counted",
                coverage.confirmed
            )));
        }
        let [equal, different, failed] = self.chunks.get(name).copied().unwrap_or_default();
        let is_verified = coverage.state == CoverageState::Verified;
        if is_verified && (coverage.confirmed > 0 || different > 0 || failed > 0 || coverage.chunks_total != equal) {
            return Err(TableError::Contradiction(format!(
                "{name} is called verified; of its {} chunks {equal} were found equal, {different} different, {failed} failed",
                coverage.chunks_total
            )));
        }
        Ok(())
    }

    pub(crate) fn into_findings(mut self, scope: &Scope, collections: Vec<Coverage>, is_complete: bool) -> Findings {
        let sum = |of: fn(&Coverage) -> u64| collections.iter().map(of).sum::<u64>();
        let confirmed = sum(|one| one.confirmed);
        let listed: u64 = self
            .tallies
            .iter()
            .filter(|((_, _, state, _), _)| *state == State::Confirmed.word())
            .map(|(_, count)| count)
            .sum();
        let complete = is_complete && is_whole(&collections);
        let tallies = self.tallies.into_iter();
        self.confirmed.sort();
        self.undecided.sort();
        self.confirmed.append(&mut self.undecided);
        self.confirmed.truncate(self.shown_max);
        Findings {
            run_id: scope.run_id.clone(),
            dataset: scope.dataset.clone(),
            store: scope.store.clone(),
            primary_site: scope.primary_site.clone(),
            secondary_site: scope.secondary_site.clone(),
            complete,
            exit_code: match (confirmed, complete) {
                (1.., _) => 1,
                (0, false) => 3,
                (0, true) => 0,
            },
            confirmed,
            volatile: sum(|one| one.volatile),
            unverified: sum(|one| one.unverified),
            transient: sum(|one| one.transient),
            divergences: tallies
                .map(|((collection, class, state, origin), count)| Tally {
                    collection,
                    class,
                    state,
                    origin,
                    count,
                })
                .collect(),
            not_listed: confirmed - listed,
            keys: self.confirmed,
            collections,
        }
    }
}

/// Something was looked at, and nothing of it stayed open.
fn is_whole(collections: &[Coverage]) -> bool {
    let looked_at = |one: &&Coverage| one.state != CoverageState::Skipped;
    collections.iter().any(|one| looked_at(&one))
        && collections.iter().filter(looked_at).all(|one| {
            let is_decided = matches!(one.state, CoverageState::Verified | CoverageState::Diverged);
            is_decided && one.chunks_failed == 0 && one.volatile == 0 && one.unverified == 0
        })
}

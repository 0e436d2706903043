//! Another look at keys that an earlier run found, each bracketed and fenced as in any recheck.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::StreamExt as _;
use stores::{Class, Collection, Key, Part};

use crate::attempt::Attempt;
use crate::disclose::Disclosure;
use crate::look::Earlier;
use crate::narrow::Candidate;
use crate::plan::{Cut, Plan, PlannedCollection, RowPlan, Work};
use crate::progress::Event;
use crate::recheck::{Decided, Recheck};
use crate::session::{Session, compared};
use crate::told::Teller;
use crate::{Chunk, ChunkState, Counts, Divergence, Frame, Look, ReconcileError, State};

/// The word that says why no collection is verified by a look at keys.
pub(crate) const ONLY_KEYS: &str = "only_keys";

/// A key that an earlier run found, and the class that it gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key.
    pub key: Key,
    /// The class.
    pub class: Class,
}

impl Divergence {
    /// The key to look at again; `None` for what is settled, and for a whole collection.
    pub fn known_key(&self) -> Option<KnownKey> {
        let is_open = matches!(self.state, State::Confirmed | State::Volatile | State::Unverified);
        let key = self.work_key.clone().filter(|_| is_open)?;
        Some(KnownKey { key, class: self.class })
    }
}

impl Plan {
    /// Makes this plan one that looks at the keys of an earlier run alone. Rows are hashed as they were then, because the key of a row without
    /// one is its digest; a collection whose key or columns are others now cannot be looked at so.
    #[must_use]
    pub fn of_keys(mut self, earlier: &Self) -> Self {
        for planned in &mut self.collections {
            let then = earlier.collections.iter().find(|one| one.name == planned.name);
            let then = then.and_then(PlannedCollection::rows);
            let Work::Compare(rows) = &mut planned.work else {
                continue;
            };
            rows.cut = Cut::Ranges(Vec::new());
            let Some(then) = then else { continue };
            let is_alike =
                rows.recipe.columns == then.recipe.columns && rows.recipe.key_columns == then.recipe.key_columns;
            if is_alike {
                rows.recipe = then.recipe.clone();
                rows.known_answer = then.known_answer;
            } else {
                let was = earlier.run_id.clone();
                planned.work = Work::NotVerified(format!(
                    "schema_changed: the key or the columns are others than when run {was} found its keys; run the reconciliation again"
                ));
            }
        }
        self.look = Look::Keys {
            run_id: earlier.run_id.clone(),
        };
        self
    }
}

/// One collection whose keys are looked at.
struct Looking<'a> {
    recheck: Recheck<'a>,
    teller: Teller<'a>,
    plan: &'a Plan,
}

impl Session<'_> {
    /// Looks at keys of collection `at` of the plan, at most [`stores::KEYS_PER_READ_MAX`] of them; gives what became of each, also of one
    /// that is equal now. Nothing is written.
    ///
    /// # Errors
    /// `SameData`, `OtherPlan`, `Request`, `Store`, `Stopped`.
    pub async fn look(&self, plan: &Plan, at: usize, keys: Vec<KnownKey>) -> Result<Vec<Divergence>, ReconcileError> {
        let disclosure = Disclosure::new(plan.disclosure, self.key_hash.clone())?;
        let (planned, rows, primary, secondary) = compared(plan, at)?;
        let first_seen_at_us = crate::now_us();
        let looking = self.looking(plan, &disclosure, planned, rows, (primary, secondary));
        let decided = tokio::select! {
            biased;
            () = self.stop.now.cancelled() => return Err(ReconcileError::Stopped),
            decided = async {
                match self.unfit(plan, rows, primary, secondary).await {
                    Some(reason) => Err(ReconcileError::OtherPlan(reason)),
                    None => self.settled(&looking, keys).await,
                }
            } => decided?,
        };
        let told = decided.into_iter();
        Ok(told
            .map(|one| looking.teller.divergence(0, one, first_seen_at_us))
            .collect())
    }

    /// Looks at every key that the earlier run found in one collection; `false`: the run was asked to end before.
    pub(crate) async fn keys(
        &self,
        plan: &Plan,
        disclosure: &Disclosure,
        at: usize,
        attempt: &Attempt,
        earlier: &Earlier,
    ) -> Result<bool, ReconcileError> {
        let (planned, rows, primary, secondary) = compared(plan, at)?;
        if attempt.has(&planned.name, 0) {
            return Ok(true);
        }
        (self.listener)(Event::Begun {
            collection: planned.name.clone(),
            chunks: 1,
        });
        let looking = self.looking(plan, disclosure, planned, rows, (primary, secondary));
        let unfit = tokio::select! {
            biased;
            () = self.stop.now.cancelled() => return Ok(false),
            unfit = self.unfit(plan, rows, primary, secondary) => unfit,
        };
        if let Some(reason) = unfit {
            let failure = ReconcileError::OtherPlan(reason).to_string();
            self.commit(planned, rows, attempt, Counts::default(), Some(failure))?;
            return Ok(true);
        }
        let counts = Mutex::new(Counts::default());
        let first_seen_at_us = crate::now_us();
        let mut failure = None;
        let mut looks = futures::stream::iter(batches(earlier, &planned.name, looking.recheck.keys_at_once())?)
            .map(|keys| async { self.settled(&looking, keys?).await })
            .buffer_unordered(plan.limits.recheck_batches_in_flight.max(1));
        loop {
            let next = tokio::select! {
                biased;
                () = self.stop.now.cancelled() => return Ok(false),
                () = self.stop.soon.cancelled() => return Ok(false),
                next = looks.next() => next,
            };
            match next {
                None => break,
                Some(Err(error @ (ReconcileError::Journal(_) | ReconcileError::Corrupt(_)))) => return Err(error),
                // What was found before counts, and the collection is not verified in any case.
                Some(Err(error)) => failure = Some(error.to_string()),
                Some(Ok(decided)) => {
                    for one in decided {
                        if one.state == State::Transient {
                            counts.lock().unwrap_or_else(PoisonError::into_inner).transient += 1;
                        } else {
                            let divergence = looking.teller.divergence(0, one, first_seen_at_us);
                            attempt.recorder.divergence(divergence, &counts)?;
                        }
                    }
                }
            }
        }
        drop(looks);
        let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.commit(planned, rows, attempt, counts, failure)?;
        Ok(true)
    }

    fn commit(
        &self,
        planned: &PlannedCollection,
        rows: &RowPlan,
        attempt: &Attempt,
        counts: Counts,
        failure: Option<String>,
    ) -> Result<(), ReconcileError> {
        let state = match (&failure, counts.confirmed) {
            (None, 1..) => ChunkState::Different,
            _ => ChunkState::Failed,
        };
        let now_us = crate::now_us();
        let chunk = Chunk {
            state,
            attempts: 1,
            error: match (failure, state) {
                (Some(failure), _) => failure,
                (None, ChunkState::Failed) => format!("{ONLY_KEYS}: no more than keys was looked at"),
                (None, _) => String::new(),
            },
            ..Chunk::unread(&planned.name, 0, Part::ALL, &rows.recipe, now_us)
        };
        attempt.recorder.append(&Frame::Chunk(Box::new(chunk)))?;
        attempt.recorder.append(&Frame::Commit {
            collection: planned.name.clone(),
            chunk_id: Some(0),
            counts,
            finished_at_us: now_us,
        })?;
        (self.listener)(Event::ChunkDone {
            collection: planned.name.clone(),
            chunk_id: 0,
            state,
            rows: None,
        });
        Ok(())
    }

    fn looking<'a>(
        &'a self,
        plan: &'a Plan,
        disclosure: &'a Disclosure,
        planned: &'a PlannedCollection,
        rows: &'a RowPlan,
        (primary, secondary): (&'a Collection, &'a Collection),
    ) -> Looking<'a> {
        Looking {
            recheck: self.recheck(plan, rows, (primary, secondary)),
            teller: Teller {
                pair: self.pair,
                name: &planned.name,
                rows,
                fork: plan.fork.as_ref(),
                disclosure,
            },
            plan,
        }
    }

    /// What became of one batch. The ends are asked who they are behind the look: what was promoted meanwhile, or became one with the other,
    /// does not count.
    async fn settled(&self, looking: &Looking<'_>, keys: Vec<KnownKey>) -> Result<Vec<Decided>, ReconcileError> {
        let plan = looking.plan;
        let classes: HashMap<Key, Class> = keys.iter().map(|one| (one.key.clone(), one.class)).collect();
        let candidates = keys.into_iter().map(|one| Candidate {
            key: one.key,
            primary: None,
            secondary: None,
        });
        let mut decided = looking.recheck.decide(candidates.collect(), self.listener).await;
        let (now, then) = (
            self.identities(&plan.limits).await?,
            (plan.primary.role, plan.secondary.role),
        );
        if (now.0.role, now.1.role) != then {
            return Err(ReconcileError::OtherPlan(
                "role_changed: a site took another role while its keys were looked at; look again".to_owned(),
            ));
        }
        for one in &mut decided {
            // No look came to a conclusion: then the class is the one that it had.
            if one.is_as_listed
                && let Some(class) = classes.get(&one.key)
            {
                one.difference.class = *class;
                one.difference.detail = "as it was found".to_owned();
            }
        }
        Ok(decided)
    }
}

/// The keys of one collection in batches. One batch is in memory at a time.
fn batches(
    earlier: &Earlier,
    collection: &str,
    size: usize,
) -> Result<impl Iterator<Item = Result<Vec<KnownKey>, ReconcileError>>, ReconcileError> {
    let mut divergences = earlier.divergences()?;
    let collection = collection.to_owned();
    Ok(std::iter::from_fn(move || {
        let mut batch = Vec::new();
        while batch.len() < size {
            match divergences.next() {
                Some(Ok(one)) if one.collection == collection => batch.extend(one.known_key()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }))
}

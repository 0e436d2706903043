//! One chunk: digests of both sides, and if they differ its keys.

use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use stores::{Collection, DigestMode, End, Identity, KeptRows, Part, Relation, Role, StoreError};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::disclose::Disclosure;
use crate::gates::Gates;
use crate::narrow::{Candidate, Passes, Sides};
use crate::one_side::{self, Streak};
use crate::pace::Pacer;
use crate::plan::RowPlan;
use crate::progress::{Event, Listener};
use crate::recheck::{Decided, Recheck};
use crate::record::{Counts, Recorder};
use crate::retry::{answered, asked, rest};
use crate::scan_resolve::Resolved;
use crate::told::Teller;
use crate::{Chunk, ChunkState, ForkEvidence, Frame, Limits, Pair, Side, State};

/// Looks at a chunk whose digests differ while its listings agree. In-flight rows explain that once or twice, not for ever.
const LOOKS_MAX: u32 = 5;

/// What all chunks of one collection share.
#[derive(Clone, Copy)]
pub(crate) struct Comparison<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) limits: &'a Limits,
    pub(crate) name: &'a str,
    pub(crate) primary: &'a Collection,
    pub(crate) secondary: &'a Collection,
    pub(crate) rows: &'a RowPlan,
    /// The roles of both ends by the plan.
    pub(crate) roles: (Role, Role),
    pub(crate) recheck: &'a Recheck<'a>,
    pub(crate) fork: Option<&'a ForkEvidence>,
    pub(crate) disclosure: &'a Disclosure,
    pub(crate) recorder: &'a Recorder,
    pub(crate) listener: Listener<'a>,
    pub(crate) stop: &'a crate::session::Stop,
    /// Chunks that may read at the same time. Others wait for it, or for their rechecks, which are waiting for the most part.
    pub(crate) reading: &'a Semaphore,
    /// What lets chunks that wait for their rechecks give their place to others.
    pub(crate) rechecking: &'a Rechecking,
    pub(crate) pacer: &'a Pacer,
    pub(crate) gates: &'a Gates,
    /// Whether chunks of this collection keep differing.
    pub(crate) streak: &'a Streak,
    /// Why no chunk can be compared by this plan any more.
    pub(crate) unfit: Option<&'a str>,
    /// What was scanned, where the collection is not cut into ranges.
    pub(crate) scanned: Option<&'a Resolved>,
}

/// What one look at both sides shows.
enum Seen {
    Equal,
    /// Equal, and both moved in between.
    Moving,
    /// The rows of both sides, if they were kept.
    Different(Option<(KeptRows, KeptRows)>),
}

/// The leave to read rows, until a chunk needs none any more.
struct Reads<'a>(Option<SemaphorePermit<'a>>);

impl Reads<'_> {
    /// Lets another chunk begin.
    fn end(&mut self) {
        self.0 = None;
    }
}

/// Bounds the keys of chunks that are rechecked and read nothing any more.
#[derive(Debug)]
pub(crate) struct Rechecking {
    keys: Semaphore,
    keys_max: u32,
}

impl Rechecking {
    pub(crate) fn new(keys_max: u32) -> Self {
        let keys_max = keys_max.max(1);
        let keys = Semaphore::new(usize::try_from(keys_max).unwrap_or(Semaphore::MAX_PERMITS));
        Self { keys, keys_max }
    }

    /// Waits until there is room for so many keys; for more than there ever is, until it has all of it. It is never closed.
    async fn enter(&self, keys: usize) -> Option<SemaphorePermit<'_>> {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX).min(self.keys_max);
        self.keys.acquire_many(keys).await.ok()
    }
}

/// Why a chunk was not brought to its end.
pub(crate) enum Stop {
    /// Recorded; the run goes on.
    Failed(String),
    /// The run cannot go on.
    Journal(journal::Error),
}

impl From<journal::Error> for Stop {
    fn from(error: journal::Error) -> Self {
        Self::Journal(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(format!("{}: {error}", error.kind()))
    }
}

impl Comparison<'_> {
    /// Compares one chunk and commits it; `false`: it was cut off, or not begun, and nothing of it counts.
    ///
    /// # Errors
    /// Only when the journal cannot be written.
    pub(crate) async fn chunk(&self, chunk_id: u64, part: Part) -> journal::Result<bool> {
        // It is never closed.
        let reads = tokio::select! {
            biased;
            () = self.stop.now.cancelled() => return Ok(false),
            reads = self.reading.acquire() => Reads(reads.ok()),
        };
        if self.stop.is_asked() {
            return Ok(false);
        }
        let counts = Mutex::new(Counts::default());
        let mut chunk = Chunk::unread(self.name, chunk_id, part, &self.rows.recipe, crate::now_us());
        let ended = match self.unfit {
            Some(reason) => Err(Stop::Failed(reason.to_owned())),
            None => tokio::select! {
                biased;
                () = self.stop.now.cancelled() => return Ok(false),
                ended = self.paced(&mut chunk, &counts, reads) => ended,
            },
        };
        let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        chunk.state = match ended {
            Err(Stop::Journal(error)) => return Err(error),
            Err(Stop::Failed(reason)) => {
                chunk.error = reason;
                ChunkState::Failed
            }
            Ok(()) if counts.confirmed > 0 => ChunkState::Different,
            Ok(()) if counts.undecided() > 0 => {
                chunk.error = format!(
                    "undecided: {} volatile and {} unverified keys",
                    counts.volatile, counts.unverified
                );
                ChunkState::Failed
            }
            Ok(()) => ChunkState::Equal,
        };
        self.recorder.append(&Frame::Chunk(Box::new(chunk.clone())))?;
        self.recorder.append(&Frame::Commit {
            collection: self.name.to_owned(),
            chunk_id: Some(chunk_id),
            counts,
            finished_at_us: crate::now_us(),
        })?;
        (self.listener)(Event::ChunkDone {
            collection: self.name.to_owned(),
            chunk_id,
            state: chunk.state,
            rows: chunk.primary.map(|digest| digest.count),
        });
        Ok(true)
    }

    async fn paced(&self, chunk: &mut Chunk, counts: &Mutex<Counts>, reads: Reads<'_>) -> Result<(), Stop> {
        self.pacer.admit(self.pair, self.limits).await.map_err(Stop::Failed)?;
        let ended = self.compare(chunk, counts, reads).await;
        let rows = chunk.primary.map_or(0, |digest| digest.count);
        self.pacer.took(rows, self.limits).await;
        ended
    }

    /// Looks until the digests are equal or keys were found that explain why they are not. That listings agree is no proof alone:
    /// what a listing leaves out would be equal by silence.
    async fn compare(&self, chunk: &mut Chunk, counts: &Mutex<Counts>, mut reads: Reads<'_>) -> Result<(), Stop> {
        if let Some(scanned) = self.scanned {
            return self.compare_scanned(scanned, chunk, counts).await;
        }
        for look in 0..LOOKS_MAX {
            let rows = match self.look(chunk).await? {
                Seen::Equal => {
                    if look == 0 {
                        self.streak.saw(false);
                    }
                    return Ok(());
                }
                Seen::Moving => continue,
                Seen::Different(rows) => rows,
            };
            if look == 0 {
                self.streak.saw(true);
            }
            self.tell_narrowing(chunk.chunk_id);
            let parts = match &rows {
                Some(_) => vec![chunk.part.clone()],
                None => self.parts_that_differ(chunk).await?,
            };
            if self.narrow(chunk, &parts, rows, counts, &mut reads).await? > 0 {
                return Ok(());
            }
        }
        Err(Stop::Failed(format!(
            "kept_changing: no key was seen to differ, and the digests did not settle in {LOOKS_MAX} looks"
        )))
    }

    /// Digests both sides, and on equal digests of copies without a link once more: the two digests are not of one instant, and two
    /// counters that differ always can be read as equal when both move in between. Only if nothing moved was there an instant at
    /// which both sides were equal; where one side can say that it stood still all the while, its word takes the place of the second
    /// digests. Behind a link the reading of the secondary is one of the primary's past, whatever the instant.
    async fn look(&self, chunk: &mut Chunk) -> Result<Seen, Stop> {
        // Rows that were read are kept: where they differ, nothing is read a second time.
        let keep = self.rows.recipe.mode == DigestMode::Client || self.streak.goes_on();
        let before = self.moments_without_link().await;
        let rows = self.digest(chunk, keep).await?;
        let first = (chunk.primary, chunk.secondary);
        if first.0 != first.1 {
            return Ok(Seen::Different(rows));
        }
        if self.is_linked() || self.one_stood_still(before).await {
            return Ok(Seen::Equal);
        }
        let rows = self.digest(chunk, false).await?;
        Ok(match (chunk.primary, chunk.secondary) {
            again if again == first => Seen::Equal,
            (primary, secondary) if primary == secondary => Seen::Moving,
            _ => Seen::Different(rows),
        })
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.pair.relation == Relation::Replicating
    }

    /// The moments of both ends, for [`Self::one_stood_still`]; none behind a link, where they are not needed.
    pub(crate) async fn moments_without_link(&self) -> [Option<String>; 2] {
        if self.is_linked() {
            return [None, None];
        }
        self.moments().await
    }

    /// Whether nothing changed at one of the two ends since `before`: what the other showed in that time was equal to it at that instant.
    pub(crate) async fn one_stood_still(&self, before: [Option<String>; 2]) -> bool {
        if before.iter().all(Option::is_none) {
            return false;
        }
        let after = self.moments().await;
        before
            .iter()
            .zip(&after)
            .any(|(before, after)| before.is_some() && before == after)
    }

    /// The moments of both ends. An end that cannot say, for whatever reason, is looked at twice.
    async fn moments(&self) -> [Option<String>; 2] {
        let of = async |end: &End| {
            let moment = end.ranged.as_ref()?.moment();
            answered(self.limits, &end.site, moment).await.ok().flatten()
        };
        let (primary, secondary) = futures::join!(of(&self.pair.primary), of(&self.pair.secondary));
        [primary, secondary]
    }

    async fn digest(&self, chunk: &mut Chunk, keep: bool) -> Result<Option<(KeptRows, KeptRows)>, Stop> {
        let (part, recipe) = (&chunk.part, &self.rows.recipe);
        let look = async |side, of| {
            let _entered = self.gates.enter(side, self.limits).await;
            one_side::look(of, recipe, part, keep, self.limits).await
        };
        let read_at_us = crate::now_us();
        let (primary, secondary) = futures::join!(
            look(Side::Primary, (&self.pair.primary, self.primary)),
            look(Side::Secondary, (&self.pair.secondary, self.secondary))
        );
        chunk.attempts += primary.1.max(secondary.1);
        let (primary, secondary) = (primary.0?, secondary.0?);
        // After the digests: what began to lead elsewhere, or was promoted meanwhile, is noticed before they count.
        self.still_apart().await?;
        // Only now are they digests of these two sites: a later run may be compared with what is recorded here.
        (chunk.primary, chunk.primary_us) = (Some(primary.digest), Some(primary.took_us));
        (chunk.secondary, chunk.secondary_us) = (Some(secondary.digest), Some(secondary.took_us));
        chunk.read_at_us = read_at_us;
        Ok(primary.rows.zip(secondary.rows))
    }

    pub(crate) fn tell_narrowing(&self, chunk_id: u64) {
        (self.listener)(Event::Narrowing {
            collection: self.name.to_owned(),
            chunk_id,
        });
    }

    /// Both ends are still two, in the roles that they were planned in.
    pub(crate) async fn still_apart(&self) -> Result<(), Stop> {
        let (primary, secondary) = identities(self.pair, self.limits).await?;
        if primary.same_data(&secondary) {
            let instance = secondary.instance;
            return Err(Stop::Failed(format!(
                "same_data: both sites now reach instance {instance}"
            )));
        }
        self.roles_hold(&primary, &secondary)
    }

    /// A site that took another role since the plan was made is not what it is compared as. Above all a secondary that was promoted
    /// applies nothing more: equal digests of two counters that both go on are no proof there, and one pair of digests is taken for one.
    fn roles_hold(&self, primary: &Identity, secondary: &Identity) -> Result<(), Stop> {
        for (end, now, planned) in [
            (&self.pair.primary, primary.role, self.roles.0),
            (&self.pair.secondary, secondary.role, self.roles.1),
        ] {
            if now != planned {
                return Err(Stop::Failed(format!(
                    "role_changed: site {} was {planned:?} when this was planned and is {now:?} now; run the reconciliation again",
                    end.site
                )));
            }
        }
        Ok(())
    }

    /// Finds and decides the keys of these parts of a different chunk, pass by pass, from its kept rows if there are; gives how many were
    /// looked at.
    async fn narrow(
        &self,
        chunk: &Chunk,
        parts: &[Part],
        mut rows: Option<(KeptRows, KeptRows)>,
        counts: &Mutex<Counts>,
        reads: &mut Reads<'_>,
    ) -> Result<usize, Stop> {
        let mut passes = Passes::new();
        let mut found = 0;
        let mut attempts = 1;
        loop {
            let sides = Sides {
                primary: (&self.pair.primary, self.primary),
                secondary: (&self.pair.secondary, self.secondary),
                recipe: &self.rows.recipe,
                parts,
                kept: rows.as_ref(),
            };
            let found_here = {
                // Rows that were kept are joined here, and neither side is asked for anything.
                let _entered = match &rows {
                    Some(_) => None,
                    None => Some((
                        self.gates.enter(Side::Primary, self.limits).await,
                        self.gates.enter(Side::Secondary, self.limits).await,
                    )),
                };
                passes.next(sides, self.limits).await
            };
            let candidates = match found_here {
                Ok(None) => return Ok(found),
                Ok(Some(candidates)) => candidates,
                Err(error) => {
                    rest(self.limits, attempts, error).await?;
                    attempts += 1;
                    continue;
                }
            };
            attempts = 1;
            found += candidates.len();
            let _entered = if passes.is_over() && found > 0 {
                // Nothing more is read of it, and nothing is kept, but for what is decided now.
                rows = None;
                let entered = self.rechecking.enter(candidates.len()).await;
                reads.end();
                entered
            } else {
                None
            };
            self.decide(candidates, chunk.chunk_id, counts).await?;
        }
    }

    /// Looks again at these keys, batch by batch, and records what became of each.
    pub(crate) async fn decide(
        &self,
        candidates: Vec<Candidate>,
        chunk_id: u64,
        counts: &Mutex<Counts>,
    ) -> Result<(), Stop> {
        let first_seen_at_us = crate::now_us();
        let at_once = self.recheck.keys_at_once();
        let mut rest = candidates.into_iter();
        let batches = std::iter::from_fn(move || {
            let batch: Vec<Candidate> = rest.by_ref().take(at_once).collect();
            (!batch.is_empty()).then_some(batch)
        });
        let mut decided = futures::stream::iter(batches)
            .map(|batch| self.recheck.decide(batch, self.listener))
            .buffer_unordered(self.limits.recheck_batches_in_flight.max(1));
        while let Some(decided) = decided.next().await {
            for one in decided {
                self.record(chunk_id, one, first_seen_at_us, counts)?;
            }
        }
        Ok(())
    }

    fn record(
        &self,
        chunk_id: u64,
        decided: Decided,
        first_seen_at_us: i64,
        counts: &Mutex<Counts>,
    ) -> journal::Result<()> {
        if decided.state == State::Transient {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.transient += 1;
            return Ok(());
        }
        let teller = Teller {
            pair: self.pair,
            name: self.name,
            rows: self.rows,
            fork: self.fork,
            disclosure: self.disclosure,
        };
        let divergence = teller.divergence(chunk_id, decided, first_seen_at_us);
        self.recorder.divergence(divergence, counts)
    }
}

/// Who answers at both ends now.
pub(crate) async fn identities(pair: &Pair, limits: &Limits) -> stores::Result<(Identity, Identity)> {
    let (primary, secondary) = futures::join!(
        asked(limits, &pair.primary.site, || pair.primary.identify.identity()),
        asked(limits, &pair.secondary.site, || pair.secondary.identify.identity())
    );
    Ok((primary.0?, secondary.0?))
}

//! The recheck: whether a key that was listed differently really differs, or was only in flight.
//!
//! With a fence, one recheck reads the primary with the version of each row, *then* takes a point, waits until the secondary has passed
//! it, reads the secondary, and reads the primary again. Reading the same difference twice behind one fence is not enough: rows
//! in flight pass that test. Without a fence both sides are read twice, apart in time. The last readings of one recheck are the first of the
//! next one: each still has its own point, or its own stretch of time, between the readings that it compares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stores::{
    Class, Collection, Compare, DIGESTS_PER_READ_MAX, End, KEYS_PER_READ_MAX, Key, Position, ReadRequest, Reading,
    Readings, Recipe, Relation, Reread, Role, StoreError, Trouble,
};

use crate::link::Link;
use crate::narrow::Candidate;
use crate::progress::Listener;
use crate::retry::{asked, passed};
use crate::vote::{Begun, Bracket, Decision, Difference, Streak, Vote, judge};
use crate::{FenceKind, Limits, Pair, State};

/// After a fence has timed out, the following ones of the run wait for this part of the patience only, until one is passed: a dead
/// link must not cost its patience once for each batch of keys.
const HURRIED: u32 = 10;

/// A fence by time waits so many times the lag.
const TIME_OVER_LAG: u32 = 10;

/// Looks at the primary while a fence by time is waited for.
const LOOKS_BETWEEN: usize = 6;

/// What became of one candidate.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) key: Key,
    pub(crate) state: State,
    pub(crate) difference: Difference,
    /// Whether the difference is that of the listings, because no look came to a conclusion.
    pub(crate) is_as_listed: bool,
    /// Last readings; `None` = it could not be read again.
    pub(crate) readings: Option<(Reading, Reading)>,
    pub(crate) candidate: Candidate,
    pub(crate) rechecks: u64,
    pub(crate) rechecked_at_us: Option<i64>,
    /// Why it is neither confirmed nor transient; empty otherwise.
    pub(crate) reason: String,
}

/// How keys of one collection are looked at again.
#[derive(Debug)]
pub(crate) struct Recheck<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) primary: &'a Collection,
    pub(crate) secondary: &'a Collection,
    pub(crate) recipe: &'a Recipe,
    pub(crate) changed_at: Option<&'a str>,
    pub(crate) values: bool,
    pub(crate) limits: &'a Limits,
    pub(crate) link: &'a Link,
    pub(crate) fences: &'a FenceMood,
}

/// Whether fences are being passed in this run.
#[derive(Debug, Default)]
pub(crate) struct FenceMood(AtomicBool);

/// Why a bracket gave no readings.
enum Broken {
    /// Nothing was proved this time; another try may.
    Again(String),
    /// No try will do better.
    GiveUp(String),
}

struct Open {
    candidate: Candidate,
    streak: Streak,
    rechecks: u64,
    difference: Option<Difference>,
    readings: Option<(Reading, Reading)>,
    rechecked_at_us: Option<i64>,
    /// The last reason why there was no conclusion, and whether the key was read at all then.
    undecided: String,
    was_read: bool,
}

/// Keys of one look when their values are wanted: rows may be wide.
const KEYS_WITH_VALUES: usize = 16;

impl Recheck<'_> {
    /// How many keys are looked at together.
    pub(crate) fn keys_at_once(&self) -> usize {
        match (self.values, self.recipe.is_keyless()) {
            (true, _) => KEYS_WITH_VALUES,
            // Each look reads everything.
            (false, true) => DIGESTS_PER_READ_MAX,
            (false, false) => KEYS_PER_READ_MAX,
        }
    }

    /// Decides every candidate; at most [`keys_at_once`](Self::keys_at_once) of them.
    pub(crate) async fn decide(&self, candidates: Vec<Candidate>, listener: Listener<'_>) -> Vec<Decided> {
        let mut open: Vec<Open> = candidates.into_iter().map(Open::new).collect();
        let mut decided = Vec::with_capacity(open.len());
        let Some(compare) = self.pair.primary.compare.clone() else {
            open.iter_mut()
                .for_each(|key| key.missed("this store cannot compare two readings"));
            return open.into_iter().map(Open::undecided).collect();
        };
        // What ends one bracket begins the next one, unless there is a pause between them.
        let mut begun = None;
        for round in 0..self.limits.rounds_max {
            if open.is_empty() {
                break;
            }
            if round > 0 && open.iter().any(|key| !key.undecided.is_empty()) {
                tokio::time::sleep(self.limits.round_pause.mul_f64(rand::random_range(0.0..=1.0))).await;
                begun = None;
            }
            let keys: Vec<Key> = open.iter().map(|key| key.candidate.key.clone()).collect();
            match self.bracket(&keys, begun.take(), listener).await {
                Ok(bracket) => {
                    let is_open;
                    (open, is_open) = self.settle(compare.as_ref(), open, &bracket, &mut decided);
                    begun = Some(bracket.next(&is_open));
                }
                Err(Broken::Again(reason)) => open.iter_mut().for_each(|key| key.missed(&reason)),
                Err(Broken::GiveUp(reason)) => {
                    open.iter_mut().for_each(|key| key.missed(&reason));
                    break;
                }
            }
        }
        decided.extend(open.into_iter().map(Open::undecided));
        decided
    }

    /// Takes the votes of one bracket; gives back the keys that are still open, and for each key of the bracket whether it is.
    fn settle(
        &self,
        compare: &dyn Compare,
        open: Vec<Open>,
        bracket: &Bracket,
        decided: &mut Vec<Decided>,
    ) -> (Vec<Open>, Vec<bool>) {
        let now_us = crate::now_us();
        let is_fenced = bracket.secondary_before.is_none();
        let (mut still_open, mut is_open) = (Vec::new(), Vec::with_capacity(open.len()));
        for (index, mut key) in open.into_iter().enumerate() {
            let vote = judge(compare, &self.recipe.columns, bracket, index);
            let state = key.take(
                vote,
                &bracket.again.rows[index],
                &bracket.secondary.rows[index],
                is_fenced,
                now_us,
            );
            is_open.push(state.is_none());
            match state {
                Some(state) => decided.push(key.decided(state)),
                None => still_open.push(key),
            }
        }
        (still_open, is_open)
    }

    async fn bracket(&self, keys: &[Key], begun: Option<Begun>, listener: Listener<'_>) -> Result<Bracket, Broken> {
        match (self.pair.fence, self.pair.relation) {
            (FenceKind::Lsn | FenceKind::Canary, Relation::Replicating) => self.fenced(keys, begun, listener).await,
            (FenceKind::Time, Relation::Replicating) => self.timed(keys, begun).await,
            (FenceKind::None, Relation::Replicating) => Err(Broken::GiveUp(
                "no fence is available for this replicating pair: a difference could be in flight only".to_owned(),
            )),
            (_, Relation::Independent) => self.unfenced(keys, begun).await,
            (_, Relation::Frozen) => Err(Broken::GiveUp("a frozen copy cannot be read again".to_owned())),
        }
    }

    async fn fenced(&self, keys: &[Key], begun: Option<Begun>, listener: Listener<'_>) -> Result<Bracket, Broken> {
        let first = self.first(keys, begun).await?;
        let point = self.point().await?;
        self.pass(point).await?;
        let secondary = self.read(&self.pair.secondary, self.secondary, keys).await?;
        // The reading is trusted and not the wait: it may have been answered by another instance than the one that waited.
        if secondary.position.is_none_or(|position| position < point) {
            return Err(Broken::Again(format!(
                "the reading at site {} is not proved to have passed the fence",
                self.pair.secondary.site
            )));
        }
        let again = self.read(&self.pair.primary, self.primary, keys).await?;
        if first.instance != again.instance {
            return Err(Broken::Again(format!(
                "site {} changed its instance",
                self.pair.primary.site
            )));
        }
        let instances = (again.instance.as_str(), secondary.instance.as_str());
        if !self.link.is_proved(instances.0, instances.1).await {
            self.link
                .prove(self.pair, self.limits, instances, listener)
                .await
                .map_err(Broken::GiveUp)?;
            return Err(Broken::Again(
                "an instance changed; the link was proved again".to_owned(),
            ));
        }
        Ok(Bracket {
            first,
            between: Vec::new(),
            secondary_before: None,
            secondary,
            again,
        })
    }

    /// The secondary is read so long after the primary that it shows what the primary held.
    ///
    /// A store that needs this fence may keep no versions: a row that comes and goes, or a value that swings, would be the same before and
    /// behind the wait. So the primary is looked at in between too, at instants that nobody can keep in step with.
    async fn timed(&self, keys: &[Key], begun: Option<Begun>) -> Result<Bracket, Broken> {
        let first = self.first(keys, begun).await?;
        let point = self.told_point().await;
        let mut between = Vec::with_capacity(LOOKS_BETWEEN);
        let mut left = self.limits.time_fence;
        for look in (1..=LOOKS_BETWEEN).rev() {
            let share = left / u32::try_from(look).unwrap_or(u32::MAX);
            let pause = share.mul_f64(rand::random_range(0.0..=1.0));
            left = left.saturating_sub(pause);
            tokio::time::sleep(pause).await;
            between.push(self.read(&self.pair.primary, self.primary, keys).await?);
        }
        tokio::time::sleep(left).await;
        let needed = self.time_was_enough(point).await?;
        let secondary = self.read(&self.pair.secondary, self.secondary, keys).await?;
        if needed.is_some_and(|point| secondary.position.is_none_or(|position| position < point)) {
            return Err(Broken::Again(format!(
                "the reading at site {} is not proved to be of so late a time",
                self.pair.secondary.site
            )));
        }
        let again = self.read(&self.pair.primary, self.primary, keys).await?;
        let is_same = first.instance == again.instance
            && between
                .iter()
                .all(|readings: &Readings| readings.instance == again.instance);
        if !is_same {
            return Err(Broken::Again(format!(
                "site {} changed its instance",
                self.pair.primary.site
            )));
        }
        Ok(Bracket {
            first,
            between,
            secondary_before: None,
            secondary,
            again,
        })
    }

    /// A point of the primary, where both ends have such; where the primary gives none after all, time has to be vouched for otherwise.
    async fn told_point(&self) -> Option<Position> {
        let (primary, secondary) = (&self.pair.primary, &self.pair.secondary);
        let fence = primary.fence.as_ref().filter(|_| secondary.fence.is_some())?;
        asked(self.limits, &primary.site, || fence.point()).await.0.ok()
    }

    /// Whether the time that was waited is more than the secondary is behind: time alone proves nothing of a copy that stands still. Gives the
    /// position that its reading has to show, where positions tell; elsewhere the store's own lag does. A store that has neither is
    /// taken at the word of whoever stated the time.
    async fn time_was_enough(&self, point: Option<Position>) -> Result<Option<Position>, Broken> {
        let end = &self.pair.secondary;
        if let (Some(fence), Some(point)) = (&end.fence, point) {
            let patience = self.fences.patience(self.limits.fence_patience);
            if let Ok(is_passed) = passed(self.limits, &end.site, fence.as_ref(), point, patience).await {
                self.fences.0.store(!is_passed, Ordering::Relaxed);
                if is_passed {
                    return Ok(Some(point));
                }
                let (wait, site) = (self.limits.time_fence, &end.site);
                return Err(Broken::GiveUp(format!(
                    "the fence timed out: site {site} is further behind than the {wait:?} of its fence by time, and {patience:?} more"
                )));
            }
        }
        let lag_max = self.limits.time_fence / TIME_OVER_LAG;
        let lag = match &end.status {
            None => None,
            Some(status) => {
                let status = asked(self.limits, &end.site, || status.status())
                    .await
                    .0
                    .map_err(broken)?;
                // What an end that takes writes tells is the lag of those that follow it. A figure of earlier says nothing of the time since.
                let age_us = status
                    .as_of_us
                    .saturating_sub(status.lag_as_of_us.unwrap_or(status.as_of_us));
                let age_us = u64::try_from(age_us).unwrap_or(0);
                let lag_us = status.lag_us.map(|lag_us| lag_us.saturating_add(age_us));
                lag_us.filter(|_| status.identity.role == Role::ReadOnly)
            }
        };
        match lag.map(Duration::from_micros) {
            Some(lag) if lag <= lag_max => Ok(None),
            Some(lag) => Err(Broken::GiveUp(format!(
                "site {} is {lag:?} behind by its own account, and its fence by time waits {:?}, which has to be {TIME_OVER_LAG} times as much",
                end.site, self.limits.time_fence
            ))),
            None if end.fence.is_none() => Ok(None),
            None => Err(Broken::GiveUp(format!(
                "nothing tells how far site {} is behind, and time alone proves nothing of a copy that may stand still; GRANT pg_monitor lets \
                 driftline see its lag",
                end.site
            ))),
        }
    }

    async fn unfenced(&self, keys: &[Key], begun: Option<Begun>) -> Result<Bracket, Broken> {
        let (first, before) = match begun {
            Some(Begun {
                primary,
                secondary: Some(secondary),
            }) => (primary, secondary),
            _ => (
                self.read(&self.pair.primary, self.primary, keys).await?,
                self.read(&self.pair.secondary, self.secondary, keys).await?,
            ),
        };
        tokio::time::sleep(self.limits.unfenced_gap).await;
        let again = self.read(&self.pair.primary, self.primary, keys).await?;
        let secondary = self.read(&self.pair.secondary, self.secondary, keys).await?;
        for (site, before, after) in [
            (&self.pair.primary.site, &first, &again),
            (&self.pair.secondary.site, &before, &secondary),
        ] {
            if before.instance != after.instance {
                return Err(Broken::Again(format!("site {site} changed its instance")));
            }
        }
        Ok(Bracket {
            first,
            between: Vec::new(),
            secondary_before: Some(before),
            secondary,
            again,
        })
    }

    async fn first(&self, keys: &[Key], begun: Option<Begun>) -> Result<Readings, Broken> {
        match begun {
            Some(begun) => Ok(begun.primary),
            None => self.read(&self.pair.primary, self.primary, keys).await,
        }
    }

    async fn point(&self) -> Result<Position, Broken> {
        let Some(fence) = &self.pair.primary.fence else {
            return Err(Broken::GiveUp(format!(
                "site {} gives no fence point",
                self.pair.primary.site
            )));
        };
        asked(self.limits, &self.pair.primary.site, || fence.point())
            .await
            .0
            .map_err(broken)
    }

    async fn pass(&self, point: Position) -> Result<(), Broken> {
        let Some(fence) = &self.pair.secondary.fence else {
            return Err(Broken::GiveUp(format!(
                "site {} cannot wait for a fence",
                self.pair.secondary.site
            )));
        };
        let patience = self.fences.patience(self.limits.fence_patience);
        let is_passed = passed(self.limits, &self.pair.secondary.site, fence.as_ref(), point, patience)
            .await
            .map_err(broken)?;
        self.fences.0.store(!is_passed, Ordering::Relaxed);
        if is_passed {
            return Ok(());
        }
        Err(Broken::GiveUp(format!(
            "the fence timed out: site {} had not passed the point of site {} after {patience:?}",
            self.pair.secondary.site, self.pair.primary.site
        )))
    }

    async fn read(&self, end: &End, collection: &Collection, keys: &[Key]) -> Result<Readings, Broken> {
        let Some(reread) = &end.reread else {
            return Err(Broken::GiveUp(format!("site {} cannot read keys again", end.site)));
        };
        let request = ReadRequest {
            collection,
            recipe: self.recipe,
            keys,
            values: self.values,
            changed_at: self.changed_at,
        };
        let readings = asked(self.limits, &end.site, || read_all(end, reread.as_ref(), &request))
            .await
            .0;
        readings.map_err(broken)
    }
}

/// Reads, and holds the store to its promise of one reading for each key.
async fn read_all(end: &End, reread: &dyn Reread, request: &ReadRequest<'_>) -> stores::Result<Readings> {
    let readings = reread.read(request).await?;
    if readings.rows.len() == request.keys.len() {
        return Ok(readings);
    }
    let tried = format!("read {} keys of {}", request.keys.len(), request.collection.name);
    let cause = format!("{} readings came back", readings.rows.len());
    Err(StoreError::Corrupt(Trouble::new(&end.site, tried, cause)))
}

fn broken(error: StoreError) -> Broken {
    Broken::GiveUp(format!("it could not be read again: {error}"))
}

impl FenceMood {
    fn patience(&self, full: Duration) -> Duration {
        if self.0.load(Ordering::Relaxed) {
            full / HURRIED
        } else {
            full
        }
    }
}

impl Open {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            streak: Streak::default(),
            rechecks: 0,
            difference: None,
            readings: None,
            rechecked_at_us: None,
            undecided: String::new(),
            was_read: false,
        }
    }

    /// Takes a vote. `Some`: the key is decided.
    fn take(
        &mut self,
        vote: Vote,
        primary: &Reading,
        secondary: &Reading,
        is_fenced: bool,
        now_us: i64,
    ) -> Option<State> {
        self.rechecks += 1;
        self.rechecked_at_us = Some(now_us);
        self.was_read = true;
        self.undecided.clear();
        let decision = self.streak.take(&vote, primary, secondary, is_fenced);
        self.readings = Some((primary.clone(), secondary.clone()));
        match vote {
            Vote::Equal => {}
            Vote::Differs(difference) => self.difference = Some(difference),
            Vote::Inconclusive(reason) => self.undecided = reason,
            Vote::NotComparable(reason) => {
                self.undecided.clone_from(&reason);
                self.difference = Some(Difference {
                    class: Class::NotComparable,
                    detail: reason,
                    columns: Vec::new(),
                });
                return Some(State::Unverified);
            }
        }
        match decision {
            Decision::Confirmed => Some(State::Confirmed),
            Decision::Transient => Some(State::Transient),
            Decision::Open => None,
        }
    }

    fn missed(&mut self, reason: &str) {
        self.rechecks += 1;
        self.streak.interrupt();
        self.was_read = false;
        reason.clone_into(&mut self.undecided);
    }

    /// The end of a key without a decision: it kept changing, or it could not be read.
    fn undecided(self) -> Decided {
        let state = if self.was_read {
            State::Volatile
        } else {
            State::Unverified
        };
        self.decided(state)
    }

    fn decided(self, state: State) -> Decided {
        let listed = listed(&self.candidate);
        Decided {
            key: self.candidate.key.clone(),
            state,
            is_as_listed: self.difference.is_none(),
            difference: self.difference.unwrap_or(listed),
            readings: self.readings,
            candidate: self.candidate,
            rechecks: self.rechecks,
            rechecked_at_us: self.rechecked_at_us,
            reason: self.undecided,
        }
    }
}

/// The difference by the listings alone.
fn listed(candidate: &Candidate) -> Difference {
    let class = match (candidate.primary, candidate.secondary) {
        (Some(_), Some(_)) => Class::Different,
        (Some(_), None) => Class::MissingOnSecondary,
        (None, Some(_)) => Class::MissingOnPrimary,
        (None, None) => Class::Duplicate,
    };
    Difference {
        class,
        detail: "as listed".to_owned(),
        columns: Vec::new(),
    }
}

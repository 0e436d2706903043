//! One side against what an earlier run recorded of the other: what can still be verified when the other one is gone.
//!
//! A chunk whose digest is the recorded one holds what the other side held then. Of one that differs no more can be told: the keys behind a
//! digest cannot be listed at a side that is gone, so nothing is confirmed by it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use stores::{
    ChunkDigest, Collection, End, Identify, Identity, KEYS_PER_READ_MAX, Key, Part, ReadRequest, Reading, Relation,
    StoreError, Trouble,
};

use crate::attempt::Attempt;
use crate::look::Earlier;
use crate::plan::{self, Cut, Plan, PlannedCollection, RowPlan, Work};
use crate::progress::Event;
use crate::recorded::{Record, Recorded};
use crate::retry::{answered, asked, patiently};
use crate::scan_plan::{self, Scans};
use crate::scan_resolve::Resolved;
use crate::session::Session;
use crate::shard::Piece;
use crate::{
    Chunk, ChunkState, Counts, FenceKind, Frame, KeyDisclosure, Limits, Look, NotSelected, Pair, ReconcileError, Side,
};

/// Passes over a collection that is scanned.
const PASSES: u32 = 2;

/// A side that is not asked anything: it is who it was when it was recorded.
#[derive(Debug)]
struct AsItWas(Identity);

#[async_trait]
impl Identify for AsItWas {
    async fn identity(&self) -> stores::Result<Identity> {
        Ok(self.0.clone())
    }
}

impl Earlier {
    /// Which side of this run is not `live_site`.
    pub(crate) fn recorded(&self, live_site: &str) -> Result<Side, ReconcileError> {
        let plan = self.plan();
        if let Some(parent) = plan.look.parent() {
            let run = &plan.run_id;
            return Err(ReconcileError::Request(format!(
                "run {run} looked at less than everything, so it is no record of a side; name the run that it rests on, {parent}"
            )));
        }
        if plan.secondary_site == live_site {
            Ok(Side::Primary)
        } else if plan.primary_site == live_site {
            Ok(Side::Secondary)
        } else {
            Err(ReconcileError::Request(format!(
                "run {} compared site {} with site {}, and not site {live_site}",
                plan.run_id, plan.primary_site, plan.secondary_site
            )))
        }
    }

    /// The pair of the live end and of what was recorded of the other one.
    ///
    /// # Errors
    /// `Request`: the live site is none of that run.
    pub fn pair(&self, live: End) -> Result<Pair, ReconcileError> {
        let plan = self.plan();
        let (site, identity) = match self.recorded(&live.site)? {
            Side::Primary => (&plan.primary_site, &plan.primary),
            Side::Secondary => (&plan.secondary_site, &plan.secondary),
        };
        Ok(Pair {
            primary: live,
            secondary: End::new(site.clone(), Arc::new(AsItWas(identity.clone()))),
            relation: Relation::Frozen,
            fence: FenceKind::None,
        })
    }

    /// When the recorded side of each collection was read, first and last, microseconds since 1970 UTC.
    fn read_at(&self, side: Side) -> Result<HashMap<String, (i64, i64)>, ReconcileError> {
        let mut read_at: HashMap<String, (i64, i64)> = HashMap::new();
        for frame in self.frames()? {
            if let Frame::Chunk(chunk) = frame?
                && chunk.digest_of(side).is_some()
            {
                let at = chunk.read_at_us;
                let span = read_at.entry(chunk.collection).or_insert((at, at));
                *span = (span.0.min(at), span.1.max(at));
            }
        }
        Ok(read_at)
    }
}

/// What is at the live site now.
#[derive(Debug, Clone)]
pub struct LiveSide {
    /// What is selected there.
    pub selected: Vec<Collection>,
    /// What is found there besides.
    pub not_selected: Vec<Collection>,
}

impl Session<'_> {
    /// Plans to compare the live side, which is this session's primary, with what `earlier` recorded of the other one: by its seeds, its
    /// boundaries and its expressions.
    ///
    /// # Errors
    /// `SameData`, `Request`, `Store`, `Journal`, `Stopped`.
    pub async fn plan_against(&self, earlier: &Earlier, run_id: &str, live: LiveSide) -> Result<Plan, ReconcileError> {
        let then = earlier.plan();
        let site = &self.pair.primary.site;
        let side = earlier.recorded(site)?;
        let (primary, secondary) = tokio::select! {
            biased;
            () = self.stop.now.cancelled() => return Err(ReconcileError::Stopped),
            ends = self.identities(&then.limits) => ends?,
        };
        let read_at = earlier.read_at(side)?;
        let mut found: HashMap<String, Collection> =
            live.selected.into_iter().map(|one| (one.name.clone(), one)).collect();
        let mut collections = Vec::new();
        for planned in &then.collections {
            let recorded = match side {
                Side::Primary => &planned.primary,
                Side::Secondary => &planned.secondary,
            };
            let name = recorded.as_ref().map_or(&planned.name, |side| &side.name);
            let live = found.remove(name);
            let span = read_at.get(&planned.name).copied();
            let mut planned = against(then, planned, live, recorded.clone(), span, &self.pair.secondary.site);
            rescan(&self.pair.primary, &then.limits, &mut planned).await;
            collections.push(planned);
        }
        let mut unrecorded: Vec<Collection> = found.into_values().collect();
        unrecorded.sort_by(|a, b| a.name.cmp(&b.name));
        collections.extend(unrecorded.into_iter().map(|one| unrecorded_of(then, one)));
        let plan = Plan {
            run_id: run_id.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            encoding_version: plan::ENCODING_VERSION,
            planned_at_us: crate::now_us(),
            primary_site: site.clone(),
            secondary_site: self.pair.secondary.site.clone(),
            primary,
            secondary,
            relation: self.pair.relation,
            fence: self.pair.fence,
            // No key is listed. What a chunk covers may show one, so it appears only if it did then.
            disclosure: match then.disclosure {
                KeyDisclosure::Plain => KeyDisclosure::Plain,
                KeyDisclosure::Hashed | KeyDisclosure::None => KeyDisclosure::None,
            },
            key_hash_id: None,
            include_values: false,
            fork: None,
            look: Look::Against {
                run_id: then.run_id.clone(),
            },
            collections,
            not_selected: live
                .not_selected
                .into_iter()
                .map(|one| NotSelected {
                    primary: Some(one),
                    secondary: None,
                })
                .collect(),
            ..then.clone()
        };
        let compared = || plan.collections.iter().filter_map(PlannedCollection::rows);
        (self.listener)(Event::Planned {
            collections: u64::try_from(compared().count()).unwrap_or(u64::MAX),
            chunks: compared().map(|rows| rows.cut.len()).sum(),
        });
        Ok(plan)
    }

    /// Compares the chunks of one piece with their recorded digests; `false`: the run was asked to end before. `scanned`: what was read of a
    /// collection that is scanned.
    pub(crate) async fn against(
        &self,
        plan: &Plan,
        piece: &Piece,
        attempt: &Attempt,
        recorded: &Recorded,
        scanned: Option<&Resolved>,
    ) -> Result<bool, ReconcileError> {
        let planned = plan.collections.get(piece.collection);
        let found = planned.and_then(|planned| Some((planned, planned.rows()?, planned.primary.as_ref()?)));
        let Some((planned, rows, live)) = found else {
            let why = "the shard is of no collection of the plan".to_owned();
            return Err(ReconcileError::OtherPlan(why));
        };
        let open: Vec<_> = (0u64..)
            .zip(rows.cut.parts())
            .filter(|(id, _)| piece.chunks.contains(id) && !attempt.has(&planned.name, *id))
            .collect();
        let count = open.len();
        (self.listener)(Event::Begun {
            collection: planned.name.clone(),
            chunks: u64::try_from(count).unwrap_or(u64::MAX),
        });
        let beside = Beside {
            session: self,
            plan,
            name: &planned.name,
            rows,
            live,
            scanned,
            unfit: match scanned.and_then(|scanned| scanned.unfit(plan)) {
                Some(reason) => Some(reason),
                None => self.unfit_alone(plan, rows, live).await,
            },
        };
        let beside = &beside;
        let mut chunks = futures::stream::iter(open)
            .take_while(|_| futures::future::ready(!self.stop.is_asked()))
            .map(|(id, part)| async move {
                let record = recorded.find(piece.collection, id)?;
                beside.chunk(id, part, record, attempt).await
            })
            .buffer_unordered(plan.limits.chunks_in_flight.max(1));
        let mut done = 0;
        while let Some(is_committed) = chunks.try_next().await? {
            done += usize::from(is_committed);
        }
        attempt.recorder.sync()?;
        Ok(done == count)
    }

    /// Why the live side cannot be compared with what was recorded: it must hash the fixed row as it was hashed then.
    async fn unfit_alone(&self, plan: &Plan, rows: &RowPlan, live: &Collection) -> Option<String> {
        let site = &self.pair.primary.site;
        match scan_plan::known_answer(&self.pair.primary, &plan.limits, live, rows).await {
            Ok(known) if known == rows.known_answer => None,
            Ok(_) => Some(format!(
                "digest_differs: site {site} no longer hashes the fixed row as it did when it was recorded"
            )),
            Err(error) => Some(format!("{}: {error}", error.kind())),
        }
    }
}

/// One collection of the live side beside its record.
struct Beside<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    name: &'a str,
    rows: &'a RowPlan,
    live: &'a Collection,
    scanned: Option<&'a Resolved>,
    unfit: Option<String>,
}

impl Beside<'_> {
    /// Compares one chunk and commits it; `false`: it was cut off.
    async fn chunk(
        &self,
        chunk_id: u64,
        part: Part,
        record: Option<Record>,
        attempt: &Attempt,
    ) -> Result<bool, ReconcileError> {
        let mut chunk = Chunk {
            secondary: record.map(|record| record.digest),
            ..Chunk::unread(self.name, chunk_id, part, &self.rows.recipe, crate::now_us())
        };
        let stop = &self.session.stop.now;
        let told = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(false),
            told = self.compare(&mut chunk, record) => told,
        };
        match told {
            Ok(()) => chunk.state = ChunkState::Equal,
            Err(reason) => chunk.error = reason,
        }
        let state = chunk.state;
        let rows = chunk.primary.map(|digest| digest.count);
        attempt.recorder.append(&Frame::Chunk(Box::new(chunk)))?;
        attempt.recorder.append(&Frame::Commit {
            collection: self.name.to_owned(),
            chunk_id: Some(chunk_id),
            counts: Counts::default(),
            finished_at_us: crate::now_us(),
        })?;
        (self.session.listener)(Event::ChunkDone {
            collection: self.name.to_owned(),
            chunk_id,
            state,
            rows,
        });
        Ok(true)
    }

    /// `Ok`: it holds what was recorded. `Err`: why that is not proved.
    async fn compare(&self, chunk: &mut Chunk, record: Option<Record>) -> Result<(), String> {
        let in_words = |error: StoreError| format!("{}: {error}", error.kind());
        if let Some(reason) = &self.unfit {
            return Err(reason.clone());
        }
        let parent = self.plan.look.parent().unwrap_or_default();
        let Record {
            digest: recorded,
            read_at_us: at_us,
        } = record.ok_or_else(|| format!("not_recorded: run {parent} has no digest of this chunk"))?;
        let end = &self.session.pair.primary;
        let limits = &self.plan.limits;
        let digest = match self.scanned {
            Some(scanned) => self.settled(scanned, chunk)?,
            None => self.digest(chunk).await?,
        };
        let now = asked(limits, &end.site, || end.identify.identity())
            .await
            .0
            .map_err(in_words)?;
        if now.role != self.plan.primary.role || now.lineage != self.plan.primary.lineage {
            return Err(format!(
                "role_changed: site {} took another role meanwhile; run this again",
                end.site
            ));
        }
        if digest == recorded {
            return Ok(());
        }
        let changed = match self.changed_since(&chunk.part, at_us).await {
            Ok(words) => words,
            Err(error) => format!("its change times could not be read: {error}"),
        };
        let at = jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| at_us.to_string(), |at| at.to_string());
        Err(format!(
            "differs_from_record: site {} holds {} rows, and site {} held {} when run {parent} read it at {at}; which rows differ cannot be told \
             of a side that is not there; {changed}",
            end.site, digest.count, self.plan.secondary_site, recorded.count
        ))
    }

    /// What the live side gives for a chunk now.
    async fn digest(&self, chunk: &mut Chunk) -> Result<ChunkDigest, String> {
        let end = &self.session.pair.primary;
        let Some(ranged) = &end.ranged else {
            return Err(format!("unsupported: site {} gives no digests", end.site));
        };
        let begun = Instant::now();
        let limits = &self.plan.limits;
        let ask = || {
            answered(
                limits,
                &end.site,
                ranged.digest(self.live, &self.rows.recipe, &chunk.part),
            )
        };
        let (digest, attempts) = patiently(limits, ask).await;
        chunk.attempts = attempts;
        chunk.primary_us = u64::try_from(begun.elapsed().as_micros()).ok();
        let digest = digest.map_err(|error| format!("{}: {error}", error.kind()))?;
        chunk.primary = Some(digest);
        Ok(digest)
    }

    /// What the passes over the live side say together of a bucket.
    fn settled(&self, scanned: &Resolved, chunk: &mut Chunk) -> Result<ChunkDigest, String> {
        let Part::Bucket { index, .. } = chunk.part else {
            return Err("unsupported: only buckets are scanned".to_owned());
        };
        (chunk.attempts, chunk.read_at_us) = scanned.read(chunk.read_at_us);
        let passes = scanned.primary(index);
        let Some(last) = passes.last().copied() else {
            return Err("scan_incomplete: nothing was read".to_owned());
        };
        chunk.primary = Some(last);
        if passes.iter().all(|digest| *digest == last) {
            return Ok(last);
        }
        Err(format!(
            "moving: rows of this bucket were written at site {} while it was read, so what it held at one instant is not known; run this again \
             when less is written",
            self.session.pair.primary.site
        ))
    }

    /// How many rows of the live side say that they changed behind an instant: those explain a difference, though they do not prove that
    /// they are all of it.
    async fn changed_since(&self, part: &Part, at_us: i64) -> stores::Result<String> {
        let Some(column) = &self.rows.changed_at else {
            return Ok("no column is named that tells when a row changed".to_owned());
        };
        if self.scanned.is_some() {
            return Ok("change times are not read of what is scanned".to_owned());
        }
        let end = &self.session.pair.primary;
        let (Some(ranged), Some(reread)) = (&end.ranged, &end.reread) else {
            let tried = format!("read change times of {}", self.name);
            return Err(StoreError::Unsupported(Trouble::new(
                &end.site,
                tried,
                "keys cannot be read",
            )));
        };
        let limits = &self.plan.limits;
        let (mut changed, mut untold) = (0u64, 0u64);
        let listing = answered(limits, &end.site, ranged.list(self.live, &self.rows.recipe, part)).await?;
        let mut batches = listing.try_chunks(KEYS_PER_READ_MAX);
        while let Some(batch) = batches.next().await {
            let keys: Vec<Key> = batch
                .map_err(|error| error.1)?
                .into_iter()
                .map(|(key, _)| key)
                .collect();
            let request = ReadRequest {
                collection: self.live,
                recipe: &self.rows.recipe,
                keys: &keys,
                values: false,
                changed_at: Some(column),
            };
            let readings = asked(limits, &end.site, || reread.read(&request)).await.0?;
            for reading in readings.rows {
                match reading {
                    Reading::Present(row) if row.changed_at_us.is_some_and(|at| at > at_us) => changed += 1,
                    Reading::Present(row) if row.changed_at_us.is_none() => untold += 1,
                    _ => {}
                }
            }
        }
        Ok(match (changed, untold) {
            (0, 0) => format!("no row of it changed since, by {column}: rows were deleted here, or never were here"),
            (changed, 0) => format!("{changed} of its rows changed since, by {column}"),
            (changed, untold) => format!("{changed} of its rows changed since, by {column}, and {untold} do not tell"),
        })
    }
}

/// What is done with a collection that the earlier run planned.
fn against(
    then: &Plan,
    planned: &PlannedCollection,
    live: Option<Collection>,
    recorded: Option<Collection>,
    span: Option<(i64, i64)>,
    recorded_site: &str,
) -> PlannedCollection {
    let run = &then.run_id;
    let work = match (&planned.work, &live, &recorded) {
        (Work::Skipped(reason), ..) => Work::Skipped(reason.clone()),
        (Work::Compare(rows), Some(now), Some(then)) => match fits(rows, now, then) {
            Ok(()) => Work::Compare(rows.clone()),
            Err(reason) => Work::NotVerified(reason),
        },
        (Work::Compare(_), None, _) => Work::NotVerified(format!(
            "gone: run {run} recorded it, and it is not there now, or not selected"
        )),
        _ => Work::NotVerified(format!("not_recorded: run {run} did not compare it")),
    };
    let instant = |at_us| jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| String::new(), |at| at.to_string());
    let mut scope = match span {
        Some((first, last)) => {
            format!(
                "against run {run}: site {recorded_site} as it was read between {} and {}",
                instant(first),
                instant(last)
            )
        }
        None => format!("against run {run}, which has no digest of it"),
    };
    if !planned.scope.is_empty() {
        scope = format!("{scope}; {}", planned.scope);
    }
    PlannedCollection {
        name: live.as_ref().map_or(&planned.name, |side| &side.name).clone(),
        primary: live,
        secondary: recorded,
        settings: planned.settings.clone(),
        scope,
        schema: Vec::new(),
        schema_undecided: match planned.schema.first() {
            Some(difference) => format!("run {run} found that it differs: {}", difference.detail),
            None => String::new(),
        },
        not_comparable: planned.not_comparable.clone(),
        work,
    }
}

/// Cuts a collection that is scanned as it is at the live side now. Its buckets stay: they are what was recorded.
async fn rescan(live: &End, limits: &Limits, planned: &mut PlannedCollection) {
    let side = planned.primary.clone();
    let Work::Compare(rows) = &mut planned.work else { return };
    let (Cut::Scans(scans), Some(side)) = (&mut rows.cut, side) else {
        return;
    };
    match scan_plan::parts(live, limits, &side).await {
        Ok(parts) => {
            *scans = Scans {
                buckets: scans.buckets,
                passes: PASSES,
                primary: parts,
                secondary: Vec::new(),
            };
        }
        Err(reason) => planned.work = Work::NotVerified(reason),
    }
}

/// Whether a collection still has the columns and the key that it was recorded with.
fn fits(rows: &RowPlan, now: &Collection, then: &Collection) -> Result<(), String> {
    if let Some(reason) = &now.unreadable {
        return Err(format!("unreadable: {reason}"));
    }
    if now.key != then.key {
        return Err("schema_changed: its key, or the order of its key, is another one than was recorded".to_owned());
    }
    let shape = |side: &Collection, name: &String| {
        let column = side.columns.iter().find(|column| column.name == *name);
        column.map(|column| column.type_name.clone())
    };
    let mut names: Vec<&String> = rows.recipe.columns.iter().collect();
    let of_now = now.columns.iter().map(|column| &column.name);
    names.extend(of_now.filter(|name| then.columns.iter().all(|column| column.name != **name)));
    match names.into_iter().find(|name| shape(now, name) != shape(then, name)) {
        Some(name) => Err(format!("schema_changed: column {name} is not as it was recorded")),
        None => Ok(()),
    }
}

/// A collection that the earlier run did not know.
fn unrecorded_of(then: &Plan, one: Collection) -> PlannedCollection {
    PlannedCollection {
        name: one.name.clone(),
        primary: Some(one),
        secondary: None,
        settings: crate::Settings::default(),
        scope: String::new(),
        schema: Vec::new(),
        schema_undecided: String::new(),
        not_comparable: Vec::new(),
        work: Work::NotVerified(format!("not_recorded: run {} does not have it", then.run_id)),
    }
}

//! One suite of contracts for every store and every wrapper.
//!
//! A store brings a [`Fixture`]: a replicating pair with one collection that the suite may write. [`check`] looks at each ability that the
//! ends have and returns the contracts that do not hold, each with what was seen. A breach in one ability does not hide the others.

mod canaries;
mod digests;
mod identity;
mod readings;
mod scans;

use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;

use crate::{
    ChunkDigest, Collection, DigestMode, End, Key, KeyedBy, Part, Ranged, Recipe, Reread, RowDigest, ScanPart, Scanned,
    StoreError,
};

/// A pair to be tried. The collection has two columns that the suite knows: its key, and a nullable text `body`.
///
/// A fixture panics when it cannot do what it is asked for: it is part of a test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The end that takes writes.
    fn primary(&self) -> End;
    /// The end that applies them.
    fn secondary(&self) -> End;
    /// Name of the collection, alike at both ends. Empty at the start; nobody else writes it.
    fn collection(&self) -> String;
    /// The key of row `number`.
    fn key(&self, number: i64) -> Key {
        Key::int(number)
    }
    /// Writes rows at the primary; `None` is NULL. Returns when they are committed.
    async fn put(&self, rows: &[(i64, Option<&str>)]);
    /// Deletes rows at the primary.
    async fn delete(&self, numbers: &[i64]);
    /// Whether a write of the same contents shows in the version of a row. A store that keeps no versions cannot tell it.
    fn tells_versions(&self) -> bool {
        true
    }
    /// Returns when the secondary shows all that was written until now.
    async fn settle(&self);
    /// The secondary applies nothing until [`Self::resume`].
    async fn stall(&self);
    /// The secondary applies again.
    async fn resume(&self);
}

/// A contract that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The ability whose contract it is, e.g. `ranged`.
    pub ability: &'static str,
    /// What was expected and what was seen.
    pub seen: String,
}

impl std::fmt::Display for Breach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.ability, self.seen)
    }
}

/// A contract held, or words about how it did not.
type Held<T = ()> = std::result::Result<T, String>;

/// Tries all contracts. Empty: they hold.
pub async fn check(fixture: &dyn Fixture) -> Vec<Breach> {
    let results = [
        ("identify", identity::identify(fixture).await),
        ("catalog", identity::catalog(fixture).await),
        ("status", identity::status(fixture).await),
        ("ranged", digests::ranged(fixture).await),
        ("ranged: what a digest finds", digests::sensitive(fixture).await),
        ("scanned", scans::scanned(fixture).await),
        ("scanned: rows without a key", scans::keyless(fixture).await),
        ("reread", readings::reread(fixture).await),
        ("compare", readings::compare(fixture).await),
        ("fence", readings::fence(fixture).await),
        ("canaries", canaries::canaries(fixture).await),
    ];
    let breaches = results.into_iter();
    breaches
        .filter_map(|(ability, held)| held.err().map(|seen| Breach { ability, seen }))
        .collect()
}

/// States what must hold, or ends the section.
fn hold(holds: bool, seen: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(seen()) }
}

/// An answer that must come.
fn answer<T>(asked: &str, result: crate::Result<T>) -> Held<T> {
    result.map_err(|error| format!("{asked}: {error} ({})", error.kind()))
}

/// The collection as the catalog of `end` describes it; `None` when it has no catalog.
async fn described(fixture: &dyn Fixture, end: &End) -> Held<Option<Collection>> {
    let Some(catalog) = &end.catalog else {
        return Ok(None);
    };
    let mut all = answer("collections", catalog.collections().await)?;
    all.retain(|collection| collection.name == fixture.collection());
    let found = all.pop().filter(|_| all.is_empty());
    found
        .map(Some)
        .ok_or_else(|| format!("{} is not listed once at {}", fixture.collection(), end.site))
}

/// What is needed to digest: abilities of both ends, their descriptions of the collection, a recipe.
struct Bench {
    ends: [End; 2],
    source: Source,
    collections: [Collection; 2],
    columns: Vec<String>,
    recipe: Recipe,
}

/// Where rows come from, at both ends.
#[derive(Clone)]
enum Source {
    Ranged([Arc<dyn Ranged>; 2]),
    Scanned([Arc<dyn Scanned>; 2]),
}

const SEED: u64 = 0x5eed;

impl Bench {
    /// By [`Ranged`], else by [`Scanned`]. `None`: the store has neither.
    async fn new(fixture: &dyn Fixture) -> Held<Option<Self>> {
        if let Some(bench) = Self::ranged(fixture).await? {
            return Ok(Some(bench));
        }
        Self::scanned(fixture, KeyedBy::Columns).await
    }

    /// `None`: the store is not [`Ranged`].
    async fn ranged(fixture: &dyn Fixture) -> Held<Option<Self>> {
        let ends = [fixture.primary(), fixture.secondary()];
        let (Some(here), Some(there)) = (ends[0].ranged.clone(), ends[1].ranged.clone()) else {
            return Ok(None);
        };
        let Some((collections, columns)) = both(fixture, &ends).await? else {
            return Ok(None);
        };
        let recipe = answer("recipe", here.recipe(&collections[0], &columns, SEED).await)?;
        Ok(Some(Self {
            ends,
            source: Source::Ranged([here, there]),
            collections,
            columns,
            recipe,
        }))
    }

    /// `None`: the store is not [`Scanned`], or its rows cannot be told apart in this way.
    async fn scanned(fixture: &dyn Fixture, keyed_by: KeyedBy) -> Held<Option<Self>> {
        let ends = [fixture.primary(), fixture.secondary()];
        let (Some(here), Some(there)) = (ends[0].scanned.clone(), ends[1].scanned.clone()) else {
            return Ok(None);
        };
        let Some((collections, columns)) = both(fixture, &ends).await? else {
            return Ok(None);
        };
        let recipe = match here.recipe(&collections[0], &columns, SEED, keyed_by).await {
            Err(StoreError::Unsupported(_)) => return Ok(None),
            recipe => answer("recipe", recipe)?,
        };
        Ok(Some(Self {
            ends,
            source: Source::Scanned([here, there]),
            collections,
            columns,
            recipe,
        }))
    }

    fn reread(&self) -> Option<[Arc<dyn Reread>; 2]> {
        Some([self.ends[0].reread.clone()?, self.ends[1].reread.clone()?])
    }

    /// Every row of one side.
    async fn rows(&self, side: usize) -> Held<Vec<(Key, RowDigest)>> {
        match &self.source {
            Source::Ranged(_) => self.list(side, &Part::ALL).await,
            Source::Scanned(scanned) => {
                let parts = answer("parts", scanned[side].parts(&self.collections[side], 2).await)?;
                let mut rows = Vec::new();
                for part in parts {
                    rows.extend(self.scan(side, &part).await?);
                }
                Ok(rows)
            }
        }
    }

    /// The digest of every row of one side, by a recipe that need not be the bench's.
    async fn whole(&self, side: usize, recipe: &Recipe) -> Held<ChunkDigest> {
        if let Source::Ranged(ranged) = &self.source {
            let digest = ranged[side].digest(&self.collections[side], recipe, &Part::ALL);
            return answer("digest", digest.await);
        }
        let other = Self {
            ends: self.ends.clone(),
            source: self.source.clone(),
            collections: self.collections.clone(),
            columns: self.columns.clone(),
            recipe: recipe.clone(),
        };
        let rows = other.rows(side).await?;
        Ok(sum(&rows, recipe.mode))
    }

    async fn known_answer(&self, side: usize, recipe: &Recipe) -> Held<u128> {
        let collection = &self.collections[side];
        let known = match &self.source {
            Source::Ranged(ranged) => ranged[side].known_answer(collection, recipe).await,
            Source::Scanned(scanned) => scanned[side].known_answer(collection, recipe).await,
        };
        answer("known answer", known)
    }

    fn ranges(&self, side: usize) -> Held<&Arc<dyn Ranged>> {
        match &self.source {
            Source::Ranged(ranged) => Ok(&ranged[side]),
            Source::Scanned(_) => Err("the store has no key ranges".to_owned()),
        }
    }

    fn scans(&self, side: usize) -> Held<&Arc<dyn Scanned>> {
        match &self.source {
            Source::Scanned(scanned) => Ok(&scanned[side]),
            Source::Ranged(_) => Err("the store is read by key ranges".to_owned()),
        }
    }

    async fn digest(&self, side: usize, part: &Part) -> Held<ChunkDigest> {
        let digest = self.ranges(side)?.digest(&self.collections[side], &self.recipe, part);
        answer(&format!("digest {part:?} at {}", self.ends[side].site), digest.await)
    }

    async fn moments(&self) -> Held<[Option<String>; 2]> {
        let primary = answer("moment at the primary", self.ranges(0)?.moment().await)?;
        let secondary = answer("moment at the secondary", self.ranges(1)?.moment().await)?;
        Ok([primary, secondary])
    }

    async fn list(&self, side: usize, part: &Part) -> Held<Vec<(Key, RowDigest)>> {
        let asked = format!("list {part:?} at {}", self.ends[side].site);
        let listing = self.ranges(side)?.list(&self.collections[side], &self.recipe, part);
        answer(&asked, answer(&asked, listing.await)?.try_collect().await)
    }

    async fn scan(&self, side: usize, part: &ScanPart) -> Held<Vec<(Key, RowDigest)>> {
        let asked = format!("scan {part} at {}", self.ends[side].site);
        let listing = self.scans(side)?.scan(&self.collections[side], &self.recipe, part);
        answer(&asked, answer(&asked, listing.await)?.try_collect().await)
    }
}

/// The collection as both catalogs describe it, and the columns that are compared.
async fn both(fixture: &dyn Fixture, ends: &[End; 2]) -> Held<Option<([Collection; 2], Vec<String>)>> {
    let (Some(here), Some(there)) = (described(fixture, &ends[0]).await?, described(fixture, &ends[1]).await?) else {
        return Ok(None);
    };
    let columns = here.columns.iter().map(|column| column.name.clone()).collect();
    Ok(Some(([here, there], columns)))
}

/// The digest of these rows together.
fn sum(rows: &[(Key, RowDigest)], mode: DigestMode) -> ChunkDigest {
    rows.iter().fold(ChunkDigest::default(), |sum, (_, row)| {
        sum.merge(ChunkDigest { count: 1, sum: row.0 }, mode)
    })
}

/// Numbers of the rows that sections work on; each section leaves them as [`fill`] made them.
const ROWS: i64 = 60;

/// Makes the rows 1 to [`ROWS`] at both ends: a tenth of them NULL, a tenth empty.
async fn fill(fixture: &dyn Fixture) {
    let texts: Vec<String> = (1..=ROWS).map(|number| format!("body {number}")).collect();
    let rows: Vec<(i64, Option<&str>)> = (1..=ROWS)
        .zip(&texts)
        .map(|(number, text)| match number % 10 {
            3 => (number, None),
            7 => (number, Some("")),
            _ => (number, Some(text.as_str())),
        })
        .collect();
    fixture.put(&rows).await;
    fixture.settle().await;
}

//! One suite of contracts for every store and every wrapper.
//!
//! A store brings a [`Fixture`]: a replicating pair with one collection that the suite may write. [`check`] looks at each ability that the
//! ends have and returns the contracts that do not hold, each with what was seen. A breach in one ability does not hide the others.

mod canaries;
mod digests;
mod identity;
mod readings;

use async_trait::async_trait;
use futures::TryStreamExt;

use crate::{Collection, End, Key, Part, Ranged, Recipe, Reread, RowDigest};

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
    ranged: [std::sync::Arc<dyn Ranged>; 2],
    collections: [Collection; 2],
    columns: Vec<String>,
    recipe: Recipe,
}

const SEED: u64 = 0x5eed;

impl Bench {
    /// `None`: the store is not [`Ranged`].
    async fn new(fixture: &dyn Fixture) -> Held<Option<Self>> {
        let ends = [fixture.primary(), fixture.secondary()];
        let collections = (described(fixture, &ends[0]).await?, described(fixture, &ends[1]).await?);
        let ranged = (ends[0].ranged.clone(), ends[1].ranged.clone());
        let ((Some(here), Some(there)), (Some(ranged_here), Some(ranged_there))) = (collections, ranged) else {
            return Ok(None);
        };
        let columns: Vec<String> = here.columns.iter().map(|column| column.name.clone()).collect();
        let recipe = answer("recipe", ranged_here.recipe(&here, &columns, SEED).await)?;
        Ok(Some(Self {
            ends,
            ranged: [ranged_here, ranged_there],
            collections: [here, there],
            columns,
            recipe,
        }))
    }

    fn reread(&self) -> Option<[std::sync::Arc<dyn Reread>; 2]> {
        Some([self.ends[0].reread.clone()?, self.ends[1].reread.clone()?])
    }

    async fn digest(&self, side: usize, part: &Part) -> Held<crate::ChunkDigest> {
        let digest = self.ranged[side]
            .digest(&self.collections[side], &self.recipe, part)
            .await;
        answer(&format!("digest {part:?} at {}", self.ends[side].site), digest)
    }

    async fn list(&self, side: usize, part: &Part) -> Held<Vec<(Key, RowDigest)>> {
        let asked = format!("list {part:?} at {}", self.ends[side].site);
        let listing = self.ranged[side]
            .list(&self.collections[side], &self.recipe, part)
            .await;
        answer(&asked, answer(&asked, listing)?.try_collect().await)
    }
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

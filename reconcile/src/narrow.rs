//! From a different chunk down to its keys.
//!
//! Both sides of the chunk are listed side by side and joined in a hash table that holds only what has not met its partner yet. Where
//! more than the bound is left over, the chunk is joined in several passes, each over the keys of one slice of a hash: every key is in
//! exactly one pass, so memory is bounded whatever the number of rows or differences, and nothing trusts an order of keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use stores::{Collection, End, KeptRows, Key, KeyValue, Listing, Part, Recipe, Result, RowDigest, StoreError, Trouble};

use crate::Limits;
use crate::retry::answered;

/// A chunk is cut into at most 2^this passes; a single key heavier than the bound would need more.
const DEPTH_MAX: u32 = 20;
/// What one entry of the join costs besides the contents of its key.
const ENTRY_BYTES: usize = 96;

/// A key that the two listings do not show alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) key: Key,
    /// As listed at the primary; `None` = not listed, or listed alike more than once.
    pub(crate) primary: Option<RowDigest>,
    /// As listed at the secondary.
    pub(crate) secondary: Option<RowDigest>,
}

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides<'a> {
    pub(crate) primary: (&'a End, &'a Collection),
    pub(crate) secondary: (&'a End, &'a Collection),
    pub(crate) recipe: &'a Recipe,
    /// Parts that have no key in common.
    pub(crate) parts: &'a [Part],
    /// The rows of both sides, where one look has kept them: then nothing is listed.
    pub(crate) kept: Option<&'a (KeptRows, KeptRows)>,
}

/// The keys whose hash ends in these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    depth: u32,
    index: u64,
}

impl Slice {
    /// Every key.
    pub(crate) const ALL: Self = Self { depth: 0, index: 0 };

    /// The two halves of this slice, or `None` when it cannot be cut further.
    fn halves(self) -> Option<[Self; 2]> {
        let depth = self.depth + 1;
        (depth <= DEPTH_MAX).then(|| [self.index, self.index | (1 << self.depth)].map(|index| Self { depth, index }))
    }

    fn holds(self, key: &Key) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish() & ((1 << self.depth) - 1) == self.index
    }
}

/// The passes that a chunk still needs. Starts with one; a pass that does not fit is replaced by two.
#[derive(Debug)]
pub(crate) struct Passes {
    open: Vec<Slice>,
}

impl Passes {
    pub(crate) fn new() -> Self {
        Self { open: vec![Slice::ALL] }
    }

    /// Whether every key was looked at.
    pub(crate) fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// The candidates of the next slice that fits into `limits.narrow_bytes_max`; `None` when every key was looked at.
    ///
    /// # Errors
    /// Of either listing, also in mid-stream: then nothing is known of that slice, and it is tried again by the next call.
    pub(crate) async fn next(&mut self, sides: Sides<'_>, limits: &Limits) -> Result<Option<Vec<Candidate>>> {
        while let Some(slice) = self.open.last().copied() {
            let joined = match sides.kept {
                Some((primary, secondary)) => {
                    join_kept(primary, secondary, slice, limits).ok_or_else(|| unreadable(sides))?
                }
                None => join(sides, slice, limits).await?,
            };
            self.open.pop();
            match joined {
                Some(candidates) => return Ok(Some(candidates)),
                None => self.open.extend(slice.halves().ok_or_else(|| too_heavy(sides))?),
            }
        }
        Ok(None)
    }
}

fn too_heavy(sides: Sides<'_>) -> StoreError {
    let (end, collection) = sides.primary;
    let tried = format!("join the listings of {}", collection.name);
    StoreError::Unsupported(Trouble::new(
        &end.site,
        tried,
        "its keys are too long for the bounded join",
    ))
}

fn unreadable(sides: Sides<'_>) -> StoreError {
    let (end, collection) = sides.primary;
    let tried = format!("join the rows of {}", collection.name);
    StoreError::Corrupt(Trouble::new(&end.site, tried, "a kept key cannot be read"))
}

/// As [`join`], of rows that were kept. `None`: one of them has no key; `Some(None)`: it does not fit.
///
/// Most rows stand at the same place on both sides; what does is done with before anything is put into a table.
fn join_kept(
    primary: &KeptRows,
    secondary: &KeptRows,
    slice: Slice,
    limits: &Limits,
) -> Option<Option<Vec<Candidate>>> {
    let mut join = Join::default();
    let (mut at_primary, mut at_secondary) = (0, 0);
    while at_primary < primary.len() || at_secondary < secondary.len() {
        let is_alike = |ours: usize, theirs: usize| {
            let keys = (primary.packed_key(ours), secondary.packed_key(theirs));
            keys.0.is_some() && keys.0 == keys.1
        };
        // A row that one side lacks moves all the others by one place: such a step is taken on one side alone.
        if !is_alike(at_primary, at_secondary) {
            if is_alike(at_primary + 1, at_secondary) {
                join.take_kept(Column::Primary, primary, at_primary, slice)?;
                at_primary += 1;
                continue;
            }
            if is_alike(at_primary, at_secondary + 1) {
                join.take_kept(Column::Secondary, secondary, at_secondary, slice)?;
                at_secondary += 1;
                continue;
            }
        }
        let is_same =
            is_alike(at_primary, at_secondary) && primary.digest(at_primary) == secondary.digest(at_secondary);
        if !is_same {
            if at_primary < primary.len() {
                join.take_kept(Column::Primary, primary, at_primary, slice)?;
            }
            if at_secondary < secondary.len() {
                join.take_kept(Column::Secondary, secondary, at_secondary, slice)?;
            }
        }
        at_primary = (at_primary + 1).min(primary.len());
        at_secondary = (at_secondary + 1).min(secondary.len());
        if join.bytes > limits.narrow_bytes_max {
            return Some(None);
        }
    }
    Some(Some(join.finish()))
}

/// Joins one slice of both listings. `None`: it does not fit.
async fn join(sides: Sides<'_>, slice: Slice, limits: &Limits) -> Result<Option<Vec<Candidate>>> {
    let (at_primary, at_secondary) = (sides.primary.0, sides.secondary.0);
    let (mut primary, mut secondary) = futures::future::try_join(
        answered(limits, &at_primary.site, list(sides.primary, sides.recipe, sides.parts)),
        answered(
            limits,
            &at_secondary.site,
            list(sides.secondary, sides.recipe, sides.parts),
        ),
    )
    .await?;
    let mut join = Join::default();
    let (mut primary_open, mut secondary_open) = (true, true);
    // In step, so that listings in like order meet early and the table stays small.
    while primary_open || secondary_open {
        if primary_open {
            let next = step(&mut primary, Column::Primary, slice, &mut join);
            primary_open = answered(limits, &at_primary.site, next).await?;
        }
        if secondary_open {
            let next = step(&mut secondary, Column::Secondary, slice, &mut join);
            secondary_open = answered(limits, &at_secondary.site, next).await?;
        }
        if join.bytes > limits.narrow_bytes_max {
            return Ok(None);
        }
    }
    Ok(Some(join.finish()))
}

/// The listings of all parts, one behind the other. The first is asked for at once, each other one when it is come to.
async fn list((end, collection): (&'_ End, &'_ Collection), recipe: &Recipe, parts: &[Part]) -> Result<Listing> {
    let Some(ranged) = &end.ranged else {
        let tried = format!("list {}", collection.name);
        let trouble = Trouble::new(&end.site, tried, "this store lists no keys");
        return Err(StoreError::Unsupported(trouble));
    };
    let Some((first, rest)) = parts.split_first() else {
        return Ok(futures::stream::empty().boxed());
    };
    let begun = ranged.list(collection, recipe, first).await?;
    let (ranged, collection, recipe) = (Arc::clone(ranged), collection.clone(), recipe.clone());
    let others = futures::stream::iter(rest.to_vec())
        .then(move |part| {
            let (ranged, collection, recipe) = (Arc::clone(&ranged), collection.clone(), recipe.clone());
            async move { ranged.list(&collection, &recipe, &part).await }
        })
        .try_flatten();
    Ok(begun.chain(others).boxed())
}

/// Takes one row. `false` at the end of the listing.
async fn step(listing: &mut Listing, column: Column, slice: Slice, join: &mut Join) -> Result<bool> {
    match listing.next().await {
        None => Ok(false),
        Some(item) => {
            let (key, digest) = item?;
            if slice.holds(&key) {
                join.take(column, key, digest);
            }
            Ok(true)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Primary,
    Secondary,
}

/// A hash join of two listings in any order.
#[derive(Debug, Default)]
struct Join {
    unmet: HashMap<Key, Unmet>,
    bytes: usize,
}

#[derive(Debug)]
enum Unmet {
    /// Listed on one side so far.
    Waiting(Column, RowDigest),
    /// Listed differently: a candidate, whatever else is listed of it.
    Different(Option<RowDigest>, Option<RowDigest>),
}

impl Join {
    /// Takes row `at` of `rows`, if it is of the slice. `None`: it cannot be read.
    fn take_kept(&mut self, column: Column, rows: &KeptRows, at: usize, slice: Slice) -> Option<()> {
        let (key, digest) = rows.key(at).zip(rows.digest(at))?;
        if slice.holds(&key) {
            self.take(column, key, digest);
        }
        Some(())
    }

    fn take(&mut self, column: Column, key: Key, digest: RowDigest) {
        let weight = weight(&key);
        match self.unmet.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Unmet::Waiting(column, digest));
                self.bytes += weight;
            }
            Entry::Occupied(mut entry) => match entry.get() {
                Unmet::Different(..) => {}
                Unmet::Waiting(first, other) if *first != column && *other == digest => {
                    entry.remove();
                    self.bytes -= weight;
                }
                Unmet::Waiting(first, other) if *first != column => {
                    let (primary, secondary) = match column {
                        Column::Primary => (digest, *other),
                        Column::Secondary => (*other, digest),
                    };
                    entry.insert(Unmet::Different(Some(primary), Some(secondary)));
                }
                // Twice on one side: no unique key guards it there.
                Unmet::Waiting(..) => {
                    entry.insert(Unmet::Different(None, None));
                }
            },
        }
    }

    fn finish(self) -> Vec<Candidate> {
        let candidate = |(key, unmet)| {
            let (primary, secondary) = match unmet {
                Unmet::Waiting(Column::Primary, digest) => (Some(digest), None),
                Unmet::Waiting(Column::Secondary, digest) => (None, Some(digest)),
                Unmet::Different(primary, secondary) => (primary, secondary),
            };
            Candidate {
                key,
                primary,
                secondary,
            }
        };
        let mut candidates: Vec<Candidate> = self.unmet.into_iter().map(candidate).collect();
        candidates.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        candidates
    }
}

/// About what a key costs in the join.
fn weight(key: &Key) -> usize {
    ENTRY_BYTES + contents_bytes(key)
}

/// Bytes of the values of a key.
pub(crate) fn contents_bytes(key: &Key) -> usize {
    let contents = key.0.iter().map(|value| match value {
        KeyValue::Int(_) => size_of::<KeyValue>(),
        KeyValue::Text(text) => size_of::<KeyValue>() + text.len(),
        KeyValue::Bytes(bytes) => size_of::<KeyValue>() + bytes.len(),
    });
    contents.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RowDigest = RowDigest(1);
    const B: RowDigest = RowDigest(2);

    fn joined(rows: &[(Column, i64, RowDigest)]) -> Vec<(i64, Option<RowDigest>, Option<RowDigest>)> {
        let mut join = Join::default();
        rows.iter()
            .for_each(|(column, key, digest)| join.take(*column, Key::int(*key), *digest));
        let key = |key: &Key| match key.0[..] {
            [KeyValue::Int(key)] => key,
            _ => panic!("{key:?}"),
        };
        join.finish()
            .iter()
            .map(|one| (key(&one.key), one.primary, one.secondary))
            .collect()
    }

    #[test]
    fn only_what_is_listed_alike_on_both_sides_is_no_candidate() {
        use Column::{Primary, Secondary};
        let found = joined(&[
            (Primary, 1, A),
            (Secondary, 2, A),
            (Secondary, 1, A),
            (Primary, 3, B),
            (Secondary, 3, A),
        ]);
        assert_eq!(found, [(2, None, Some(A)), (3, Some(B), Some(A))]);
    }

    #[test]
    fn a_key_that_was_listed_differently_stays_a_candidate() {
        use Column::{Primary, Secondary};
        assert_eq!(
            joined(&[(Primary, 1, A), (Secondary, 1, B), (Secondary, 1, A)]),
            [(1, Some(A), Some(B))]
        );
        assert_eq!(
            joined(&[(Primary, 1, A), (Primary, 1, A), (Secondary, 1, A), (Secondary, 1, A)]),
            [(1, None, None)]
        );
        assert_eq!(
            joined(&[(Primary, 1, A), (Secondary, 1, A), (Secondary, 1, A)]),
            [(1, None, Some(A))]
        );
    }

    #[test]
    fn halves_of_slices_hold_every_key_once() {
        let mut slices = vec![Slice::ALL];
        for _ in 0..4 {
            slices = slices.into_iter().flat_map(|slice| slice.halves().unwrap()).collect();
        }
        assert_eq!(slices.len(), 16);
        for key in 0..500 {
            let holding = slices.iter().filter(|slice| slice.holds(&Key::int(key)));
            assert_eq!(holding.count(), 1);
        }
        let deepest = Slice {
            depth: DEPTH_MAX,
            index: 0,
        };
        assert_eq!(deepest.halves(), None);
    }
}

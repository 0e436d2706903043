//! One look at one side of a chunk: as a whole, or in halves where the whole does not come through.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use stores::{ChunkDigest, Collection, End, Kept, KeptRows, KeyRange, Part, Recipe, Result, StoreError, Trouble};

use crate::Limits;
use crate::retry::{answered, rest};

/// One side of a chunk, as it was read.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) digest: ChunkDigest,
    /// The rows that the digest counts, if they were kept.
    pub(crate) rows: Option<KeptRows>,
    /// Time of the reads that came through, microseconds.
    pub(crate) took_us: u64,
}

/// Reads one side of a part. A read that the server gave up (a recovery conflict, a time-out, an administrator) is tried again in
/// halves, with boundaries of this side's own: a shorter statement meets less. Also tells the number of tries in a row.
pub(crate) async fn look(
    (end, collection): (&End, &Collection),
    recipe: &Recipe,
    part: &Part,
    keep: bool,
    limits: &Limits,
) -> (Result<Shown>, u64) {
    let Some(ranged) = &end.ranged else {
        let tried = format!("digest {}", collection.name);
        let trouble = Trouble::new(&end.site, tried, "this store gives no digests");
        return (Err(StoreError::Unsupported(trouble)), 1);
    };
    let keep_bytes_max = if keep { limits.pace.keep_bytes_max } else { 0 };
    let mut shown = Shown {
        digest: ChunkDigest::default(),
        rows: keep.then(KeptRows::default),
        took_us: 0,
    };
    let (mut open, mut tries) = (vec![(part.clone(), 1)], 1);
    while let Some((part, attempt)) = open.pop() {
        tries = tries.max(attempt);
        let begun = Instant::now();
        let read = async {
            if keep {
                ranged.read(collection, recipe, &part, keep_bytes_max).await
            } else {
                let digest = ranged.digest(collection, recipe, &part).await?;
                Ok(Kept { digest, rows: None })
            }
        };
        match answered(limits, &end.site, read).await {
            Ok(kept) => {
                shown.digest = shown.digest.merge(kept.digest, recipe.mode);
                shown.took_us += u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                shown.keep(kept.rows, keep_bytes_max);
            }
            Err(error) => {
                let was_given_up = matches!(error, StoreError::Retryable { .. });
                if let Err(error) = rest(limits, attempt, error).await {
                    return (Err(error), tries);
                }
                let halves = if was_given_up {
                    halves((end, collection), &part, limits).await
                } else {
                    None
                };
                match halves {
                    Some(halves) => open.extend(halves.map(|half| (half, attempt + 1))),
                    None => open.push((part, attempt + 1)),
                }
            }
        }
    }
    (Ok(shown), tries)
}

impl Shown {
    fn keep(&mut self, rows: Option<KeptRows>, bytes_max: usize) {
        let fits = match (&mut self.rows, rows) {
            // One read is the rule: its rows are taken as they are, and not copied.
            (Some(ours), Some(more)) if ours.is_empty() => {
                *ours = more;
                ours.bytes() <= bytes_max
            }
            (Some(ours), Some(more)) => ours.append(&more) && ours.bytes() <= bytes_max,
            _ => false,
        };
        if !fits {
            self.rows = None;
        }
    }
}

/// Two parts that hold each key of `part` once. `None`: it stays whole.
async fn halves((end, collection): (&End, &Collection), part: &Part, limits: &Limits) -> Option<[Part; 2]> {
    match part {
        Part::Bucket { index, of } => {
            let (more, twice) = (index.checked_add(*of)?, of.checked_mul(2)?);
            Some([*index, more].map(|index| Part::Bucket { index, of: twice }))
        }
        Part::Range(range) => {
            let ranged = end.ranged.as_ref()?;
            let cut = answered(limits, &end.site, ranged.cut(collection, range, 2)).await;
            let halves: [KeyRange; 2] = range.cut(&cut.ok()?).try_into().ok()?;
            Some(halves.map(Part::Range))
        }
    }
}

/// Chunks that are remembered.
const REMEMBERED: u32 = 4;
/// So many of them that differ make the next ones be read with their rows at once.
const DIFFERENT_MIN: u32 = 2;

/// Whether chunks keep differing: then looking at digests first only means to read everything twice.
#[derive(Debug, Default)]
pub(crate) struct Streak(AtomicU32);

impl Streak {
    /// Takes a chunk into account.
    pub(crate) fn saw(&self, differs: bool) {
        let shift = |bits: u32| Some((bits << 1 | u32::from(differs)) & ((1 << REMEMBERED) - 1));
        // It never refuses.
        let _before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shift);
    }

    /// Whether the next chunk is likely to differ.
    pub(crate) fn goes_on(&self) -> bool {
        self.0.load(Ordering::Relaxed).count_ones() >= DIFFERENT_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streak_begins_with_the_second_difference_and_ends_again() {
        let streak = Streak::default();
        let seen = [true, false, true, true, false, false, false, true, false];
        let goes_on: Vec<bool> = seen
            .into_iter()
            .map(|differs| {
                streak.saw(differs);
                streak.goes_on()
            })
            .collect();
        assert_eq!(goes_on, [false, false, true, true, true, true, false, false, false]);
    }
}

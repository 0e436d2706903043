//! From a different chunk down to those of its sub-ranges that differ.
//!
//! A listing sends every row of what it lists. Where few rows differ, they lie in few of the chunk's sub-ranges, and the digests of all of
//! them come in one round from each side: only those that differ are listed then.

use stores::{ChunkDigest, Collection, End, KeyRange, Part, Result, StoreError};

use crate::compare::{Comparison, Stop};
use crate::retry::asked;
use crate::{Chunk, Limits, Side};

/// Sub-ranges of one chunk, at most. More of them would be hidden from their neighbours better, and each costs a scan of its own.
const SUBRANGES_MAX: u32 = 32;

impl Comparison<'_> {
    /// Parts of a different chunk that hold all of its differences: its sub-ranges whose digests differ; or all of it, where sub-ranges
    /// are not worth it, cannot be told apart, or differ for the greater part. None, if nothing differs any more.
    pub(crate) async fn parts_that_differ(&self, chunk: &Chunk) -> std::result::Result<Vec<Part>, Stop> {
        let all = || vec![chunk.part.clone()];
        let subranges = self.subranges(chunk).await;
        let parts: Vec<Part> = subranges.iter().cloned().map(Part::Range).collect();
        if parts.len() < 2 {
            return Ok(all());
        }
        let before = self.moments_without_link().await;
        let (primary, secondary) = futures::join!(
            self.digests(Side::Primary, (&self.pair.primary, self.primary), &parts),
            self.digests(Side::Secondary, (&self.pair.secondary, self.secondary), &parts)
        );
        let (primary, secondary) = match (primary, secondary) {
            (Ok(primary), Ok(secondary)) => (primary, secondary),
            (Err(error), _) | (_, Err(error)) => {
                self.lists_all(chunk, &error);
                return Ok(all());
            }
        };
        self.still_apart().await?;
        // Digests of two instants may be equal although the rows never were.
        let is_proof = self.is_linked() || self.one_stood_still(before).await;
        if !is_proof || primary.len() != parts.len() || secondary.len() != parts.len() {
            return Ok(all());
        }
        let differs = primary.iter().zip(&secondary).map(|(ours, theirs)| ours != theirs);
        let differing: Vec<KeyRange> = subranges
            .iter()
            .zip(differs)
            .filter(|(_, differs)| *differs)
            .map(|(range, _)| range.clone())
            .collect();
        if differing.len() * 2 > parts.len() {
            return Ok(all());
        }
        Ok(joined(differing).into_iter().map(Part::Range).collect())
    }

    /// Sub-ranges of about the same number of rows; one or none where the chunk is small, or cannot be cut.
    async fn subranges(&self, chunk: &Chunk) -> Vec<KeyRange> {
        let Part::Range(range) = &chunk.part else {
            return Vec::new();
        };
        let rows = |digest: Option<ChunkDigest>| digest.map_or(0, |digest| digest.count);
        let rows = rows(chunk.primary).max(rows(chunk.secondary));
        let pieces = pieces(rows, self.limits);
        let Some(ranged) = self.pair.primary.ranged.as_ref().filter(|_| pieces > 1) else {
            return Vec::new();
        };
        let site = &self.pair.primary.site;
        let cuts = asked(self.limits, site, || ranged.cut(self.primary, range, pieces)).await;
        match cuts.0 {
            Ok(cuts) => range.cut(&cuts),
            Err(error) => {
                self.lists_all(chunk, &error);
                Vec::new()
            }
        }
    }

    /// What does not come now is listed with all the rest: a listing that fails, too, fails the chunk.
    fn lists_all(&self, chunk: &Chunk, error: &StoreError) {
        tracing::warn!(
            collection = self.name,
            chunk = chunk.chunk_id,
            %error,
            "its sub-ranges cannot be told apart; all of the chunk is listed"
        );
    }

    async fn digests(
        &self,
        side: Side,
        (end, collection): (&End, &Collection),
        parts: &[Part],
    ) -> Result<Vec<ChunkDigest>> {
        let Some(ranged) = &end.ranged else {
            return Ok(Vec::new());
        };
        let _entered = self.gates.enter(side, self.limits).await;
        let recipe = &self.rows.recipe;
        asked(self.limits, &end.site, || ranged.digests(collection, recipe, parts))
            .await
            .0
    }
}

/// How many sub-ranges so many rows are cut into.
fn pieces(rows: u64, limits: &Limits) -> u32 {
    let pieces = rows / limits.rows_per_subrange.max(1);
    u32::try_from(pieces).unwrap_or(SUBRANGES_MAX).min(SUBRANGES_MAX)
}

/// Neighbours as one range: each one is a listing of its own.
fn joined(ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    let mut joined: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.upper.is_some() && last.upper == range.lower => last.upper = range.upper,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use stores::Key;

    use super::*;

    fn range(lower: i64, upper: i64) -> KeyRange {
        KeyRange {
            lower: Some(Key::int(lower)),
            upper: Some(Key::int(upper)),
        }
    }

    #[test]
    fn neighbours_are_listed_together() {
        let ranges = vec![range(0, 5), range(5, 9), range(10, 12), range(12, 13), range(20, 21)];
        assert_eq!(joined(ranges), [range(0, 9), range(10, 13), range(20, 21)]);
        assert_eq!(joined(Vec::new()), []);
        let ends = KeyRange::ALL.cut(&[Key::int(1)]);
        assert_eq!(joined(ends), [KeyRange::ALL]);
    }

    #[test]
    fn a_chunk_is_cut_by_its_rows_into_a_bounded_number_of_pieces() {
        let limits = Limits {
            rows_per_subrange: 100,
            ..Limits::default()
        };
        let cut = [0, 99, 199, 200, 1_000, 3_300, u64::MAX].map(|rows| pieces(rows, &limits));
        assert_eq!(cut, [0, 0, 1, 2, 10, SUBRANGES_MAX, SUBRANGES_MAX]);
    }
}

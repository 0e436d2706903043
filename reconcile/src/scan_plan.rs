//! How a collection without usable key ranges is cut: each side into parts that are read whole, and both into buckets of a hash of the key.

use serde::{Deserialize, Serialize};
use stores::{Collection, End, KeyedBy, Relation, ScanPart, Scanned, StoreError, Trouble};

use crate::plan::{Cut, RowPlan, failed, has_column};
use crate::retry::asked;
use crate::{Limits, Pair, Settings, Side};

/// Buckets of one collection: beyond that they grow instead. A part holds a digest of each.
const BUCKETS_MAX: u64 = 4_096;
/// Parts of one side that are asked for. A store may have reasons for more.
const PARTS_WANTED: u64 = 16;
/// Fewer rows than this are not worth a part of their own.
const ROWS_PER_PART_MIN: u64 = 200_000;
/// Files of one part, each of which holds the rows of some buckets.
const SPILL_FILES_MAX: u32 = 64;

/// A collection in parts and buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scans {
    /// Into this many buckets of a hash of the key: the chunks.
    pub buckets: u32,
    /// Passes over each side. Behind a link one: what the secondary shows is of the primary's past. Otherwise two, of which the second begins
    /// when both sides have ended the first: only what did not move between them was the same at one instant.
    pub passes: u32,
    /// The parts of the primary.
    pub primary: Vec<ScanPart>,
    /// The parts of the secondary.
    pub secondary: Vec<ScanPart>,
}

/// One part of one side, read in one pass: what a shard of stage `digest` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Which of the plan's collections.
    pub collection: usize,
    /// At which end.
    pub side: Side,
    /// Which pass, from 0.
    pub pass: u32,
    /// Which of the side's parts.
    pub part: usize,
}

impl Scans {
    /// The parts of one side.
    pub fn parts(&self, side: Side) -> &[ScanPart] {
        match side {
            Side::Primary => &self.primary,
            Side::Secondary => &self.secondary,
        }
    }

    /// Every part that is read, in the order in which one process reads them.
    ///
    /// The sides go through their parts in opposite directions. A row that moves from one part into another while they are read may be listed
    /// by neither or by both; where one side misses it in this way, the other, which goes against it, lists it twice. So a row that moves is a
    /// difference to look at, and never one that both sides are silent about.
    pub(crate) fn scans(&self, collection: usize) -> impl Iterator<Item = Scan> + '_ {
        let of = move |pass, side, part| Scan {
            collection,
            side,
            pass,
            part,
        };
        let longest = self.primary.len().max(self.secondary.len());
        (0..self.passes).flat_map(move |pass| {
            (0..longest).flat_map(move |at| {
                let primary = (at < self.primary.len()).then(|| of(pass, Side::Primary, at));
                let secondary = self.secondary.len().checked_sub(at + 1);
                let secondary = secondary.map(|part| of(pass, Side::Secondary, part));
                primary.into_iter().chain(secondary)
            })
        })
    }

    /// Files of one part.
    pub(crate) fn files(&self) -> u32 {
        self.buckets.clamp(1, SPILL_FILES_MAX)
    }

    /// The file in which rows of a bucket are.
    pub(crate) fn file_of(&self, bucket: u32) -> u32 {
        bucket / self.buckets.div_ceil(self.files()).max(1)
    }
}

/// Buckets of about as many rows as a chunk has.
pub(crate) fn buckets(limits: &Limits, primary: &Collection, secondary: &Collection) -> u32 {
    let rows = primary.rows_estimate.max(secondary.rows_estimate).unwrap_or(0);
    let buckets = rows.div_ceil(limits.rows_per_chunk.max(1)).clamp(1, BUCKETS_MAX);
    u32::try_from(buckets).unwrap_or(1)
}

/// Parts that are asked of one side.
pub(crate) fn parts_wanted(side: &Collection) -> u32 {
    let parts = side.rows_estimate.unwrap_or(0).div_ceil(ROWS_PER_PART_MIN);
    u32::try_from(parts.clamp(1, PARTS_WANTED)).unwrap_or(1)
}

/// Whether a collection is scanned, what tells its rows apart then, and what is to be said of it. `key`: whether both ends have one usable
/// key, and order it alike.
pub(crate) fn keyed_by(pair: &Pair, key: &Result<bool, String>, common: &[String]) -> Option<(KeyedBy, String)> {
    if pair.primary.scanned.is_none() || pair.secondary.scanned.is_none() {
        return None;
    }
    let can_range = pair.primary.ranged.is_some() && pair.secondary.ranged.is_some();
    match key {
        Ok(_) if can_range => None,
        Ok(_) => Some((KeyedBy::Columns, String::new())),
        // Rows of no columns at all cannot be told apart by what they hold.
        Err(_) if common.is_empty() => None,
        Err(reason) => {
            let said = format!("rows without a key, by their contents and number ({reason})");
            Some((KeyedBy::Digest, said))
        }
    }
}

/// Plans the scans of a collection, or says why there can be none.
pub(crate) async fn rows(
    pair: &Pair,
    limits: &Limits,
    (primary, secondary): (&Collection, &Collection),
    common: &[String],
    settings: &Settings,
    keyed_by: KeyedBy,
) -> Result<RowPlan, String> {
    let seed = rand::random::<u64>();
    let site = &pair.primary.site;
    let scanned = scanned(&pair.primary).map_err(failed)?;
    let recipe = asked(limits, site, || scanned.recipe(primary, common, seed, keyed_by)).await;
    let mut rows = RowPlan {
        recipe: recipe.0.map_err(failed)?,
        known_answer: 0,
        cut: Cut::Scans(Scans {
            buckets: buckets(limits, primary, secondary),
            passes: if pair.relation == Relation::Replicating { 1 } else { 2 },
            primary: parts(&pair.primary, limits, primary).await?,
            secondary: parts(&pair.secondary, limits, secondary).await?,
        }),
        changed_at: settings
            .changed_at
            .clone()
            .filter(|column| has_column(primary, column) && has_column(secondary, column)),
    };
    rows.known_answer = known_answer(&pair.primary, limits, primary, &rows)
        .await
        .map_err(failed)?;
    let other = known_answer(&pair.secondary, limits, secondary, &rows)
        .await
        .map_err(failed)?;
    if rows.known_answer != other {
        return Err(
            "digest_differs: both ends hash the same fixed row differently, so their digests cannot be compared"
                .to_owned(),
        );
    }
    Ok(rows)
}

/// The parts of one side, as they are now.
pub(crate) async fn parts(end: &End, limits: &Limits, side: &Collection) -> Result<Vec<ScanPart>, String> {
    let scanned = scanned(end).map_err(failed)?;
    let wanted = parts_wanted(side);
    let parts = asked(limits, &end.site, || scanned.parts(side, wanted)).await.0;
    match parts.map_err(failed)? {
        parts if parts.is_empty() => Err(format!("corrupt: site {} names no part", end.site)),
        parts => Ok(parts),
    }
}

fn scanned(end: &End) -> stores::Result<&dyn Scanned> {
    end.scanned.as_deref().ok_or_else(|| {
        let trouble = Trouble::new(&end.site, "plan a scan", "this store gives no scans");
        StoreError::Unsupported(trouble)
    })
}

/// What an end gives for the fixed row.
pub(crate) async fn known_answer(
    end: &End,
    limits: &Limits,
    collection: &Collection,
    rows: &RowPlan,
) -> stores::Result<u128> {
    let (recipe, site) = (&rows.recipe, &end.site);
    let known = match (&rows.cut, &end.ranged, &end.scanned) {
        (Cut::Scans(_), _, Some(scanned)) | (_, None, Some(scanned)) => {
            asked(limits, site, || scanned.known_answer(collection, recipe)).await
        }
        (Cut::Ranges(_) | Cut::Buckets(_), Some(ranged), _) => {
            asked(limits, site, || ranged.known_answer(collection, recipe)).await
        }
        _ => {
            let tried = format!("hash the fixed row of {}", collection.name);
            let trouble = Trouble::new(site, tried, "this store gives no digests");
            return Err(StoreError::Unsupported(trouble));
        }
    };
    known.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_once_in_each_pass_and_against_the_other_side() {
        let scans = Scans {
            buckets: 10,
            passes: 2,
            primary: (0..3).map(|index| ScanPart::Segment { index, of: 3 }).collect(),
            secondary: vec![ScanPart::WHOLE, ScanPart::WHOLE],
        };
        let all: Vec<(u32, Side, usize)> = scans.scans(0).map(|scan| (scan.pass, scan.side, scan.part)).collect();
        let one = |pass| {
            [
                (pass, Side::Primary, 0),
                (pass, Side::Secondary, 1),
                (pass, Side::Primary, 1),
                (pass, Side::Secondary, 0),
                (pass, Side::Primary, 2),
            ]
        };
        assert_eq!(all, [one(0), one(1)].concat());
    }

    #[test]
    fn buckets_follow_one_another_in_few_files() {
        for buckets in [1, 2, 63, 64, 65, 100, 4_096] {
            let scans = Scans {
                buckets,
                passes: 1,
                primary: Vec::new(),
                secondary: Vec::new(),
            };
            let files: Vec<u32> = (0..buckets).map(|bucket| scans.file_of(bucket)).collect();
            assert!(
                files.is_sorted() && files.iter().all(|file| *file < scans.files()),
                "{files:?}"
            );
        }
    }
}

//! The join of one bucket: which keys the scans of both sides do not show alike.
//!
//! It is a hash join by the bytes of keys with a bound on what it holds. A bucket that does not fit is joined in two halves by one more bit of
//! the same hash, and so on: every key is in exactly one of them, and nothing is ever loaded whole.

use std::collections::HashMap;
use std::path::PathBuf;

use stores::{ChunkDigest, DigestMode, Key, RowDigest, key_bucket};

use crate::ReconcileError;
use crate::narrow::{Candidate, contents_bytes};
use crate::spill::each_row;

/// What one entry costs besides the contents of its key.
const ENTRY_BYTES: usize = 192;
/// Sides and passes that are joined.
const COLUMNS: usize = 4;

/// The rows of one bucket: where they are, and what their scans said of them.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) index: u32,
    pub(crate) of: u32,
    pub(crate) mode: DigestMode,
    /// The files of primary and secondary, for each pass.
    pub(crate) passes: Vec<[Column; 2]>,
}

/// One side in one pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    pub(crate) digest: ChunkDigest,
    pub(crate) files: Vec<PathBuf>,
}

/// The keys of a bucket that are looked at together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slice {
    index: u32,
    of: u32,
}

impl Slice {
    /// `None`: it cannot be cut further.
    fn halves(self) -> Option<[Self; 2]> {
        let of = self.of.checked_mul(2)?;
        Some([self.index, self.index + self.of].map(|index| Self { index, of }))
    }
}

/// Joins a bucket slice by slice.
#[derive(Debug)]
pub(crate) struct Joins {
    bucket: Bucket,
    open: Vec<Slice>,
    /// What was read so far, to be held against what the scans said.
    seen: Vec<[ChunkDigest; 2]>,
    bytes_max: usize,
}

impl Joins {
    pub(crate) fn new(bucket: Bucket, bytes_max: usize) -> Self {
        Self {
            open: vec![Slice {
                index: bucket.index,
                of: bucket.of,
            }],
            seen: vec![[ChunkDigest::default(); 2]; bucket.passes.len()],
            bucket,
            bytes_max,
        }
    }

    /// The candidates of the next slice; `None` when every key was looked at. Blocks.
    ///
    /// # Errors
    /// `Corrupt`: the files do not hold what their scans said, or keys are too long for the bound.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Candidate>>, ReconcileError> {
        while let Some(slice) = self.open.pop() {
            match self.join(slice)? {
                Some(candidates) => return Ok(Some(candidates)),
                None => {
                    let halves = slice.halves().ok_or_else(|| {
                        ReconcileError::Corrupt("the keys of a bucket are too long for the bounded join".to_owned())
                    })?;
                    self.open.extend(halves);
                }
            }
        }
        let is_whole = self.bucket.passes.iter().zip(&self.seen);
        for (said, seen) in is_whole {
            if [said[0].digest, said[1].digest] != *seen {
                return Err(ReconcileError::Corrupt(
                    "the spilled rows of a bucket are not those that were scanned".to_owned(),
                ));
            }
        }
        Ok(None)
    }

    /// `None`: it does not fit.
    fn join(&mut self, slice: Slice) -> Result<Option<Vec<Candidate>>, ReconcileError> {
        let mode = self.bucket.mode;
        let mut join = Join {
            entries: HashMap::new(),
            bytes: 0,
        };
        let mut seen = self.seen.clone();
        for (pass, sides) in self.bucket.passes.iter().enumerate() {
            for (side, column) in sides.iter().enumerate() {
                for file in &column.files {
                    // What is over the bound already is read to its end and not kept: half of it is tried next.
                    each_row(file, |key, digest| {
                        if join.bytes <= self.bytes_max && key_bucket(&key, slice.of) == slice.index {
                            seen[pass][side] = seen[pass][side].merge(one(digest), mode);
                            join.take(pass * 2 + side, key, digest);
                        }
                    })?;
                    if join.bytes > self.bytes_max {
                        return Ok(None);
                    }
                }
            }
        }
        self.seen = seen;
        Ok(Some(join.finish(self.bucket.passes.len())))
    }
}

fn one(digest: RowDigest) -> ChunkDigest {
    ChunkDigest {
        count: 1,
        sum: digest.0,
    }
}

/// Copies of a key as listed by one side in one pass. Copies of unlike contents add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cell {
    count: u64,
    sum: u128,
}

#[derive(Debug)]
struct Join {
    entries: HashMap<Key, [Cell; COLUMNS]>,
    bytes: usize,
}

impl Join {
    fn take(&mut self, column: usize, key: Key, digest: RowDigest) {
        let weight = weight(&key);
        let bytes = &mut self.bytes;
        let cells = self.entries.entry(key).or_insert_with(|| {
            *bytes += weight;
            [Cell::default(); COLUMNS]
        });
        cells[column].count += 1;
        cells[column].sum = cells[column].sum.wrapping_add(digest.0);
    }

    fn finish(self, passes: usize) -> Vec<Candidate> {
        let columns = (passes * 2).min(COLUMNS);
        let moved = self.entries.into_iter().filter(|(_, cells)| {
            let first = cells[0];
            cells[..columns].iter().any(|cell| *cell != first)
        });
        let mut candidates: Vec<Candidate> = moved
            .map(|(key, cells)| {
                // By the last pass.
                let (primary, secondary) = (cells[columns - 2], cells[columns - 1]);
                let listed = |cell: Cell| match cell.count {
                    0 => None,
                    1 => Some(RowDigest(cell.sum)),
                    _ => key.as_digest(),
                };
                let is_counted = primary.count.max(secondary.count) > 1 && primary.count.min(secondary.count) > 0;
                let (primary, secondary) = match is_counted {
                    true => (None, None),
                    false => (listed(primary), listed(secondary)),
                };
                Candidate {
                    key,
                    primary,
                    secondary,
                }
            })
            .collect();
        candidates.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        candidates
    }
}

/// About what a key costs in the join.
fn weight(key: &Key) -> usize {
    ENTRY_BYTES + contents_bytes(key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use stores::KeyValue;

    use super::*;
    use crate::spill::{Spill, spill_name};

    /// Spills these rows and tells what a scan would have said of them.
    fn column(folder: &Path, name: &str, rows: impl Iterator<Item = (i64, u128)>) -> Column {
        let mut spill = Spill::begin(folder, name, 1).unwrap();
        let mut digest = ChunkDigest::default();
        for (key, row) in rows {
            spill.take(0, &Key::int(key), RowDigest(row)).unwrap();
            digest = digest.merge(one(RowDigest(row)), DigestMode::Client);
        }
        spill.end().unwrap();
        Column {
            digest,
            files: vec![folder.join(spill_name(name, 0))],
        }
    }

    fn bucket(passes: Vec<[Column; 2]>) -> Bucket {
        Bucket {
            index: 0,
            of: 1,
            mode: DigestMode::Client,
            passes,
        }
    }

    fn keys(joins: &mut Joins) -> Result<(BTreeSet<i64>, usize), ReconcileError> {
        let (mut keys, mut slices) = (BTreeSet::new(), 0);
        while let Some(candidates) = joins.next()? {
            slices += 1;
            for candidate in candidates {
                let [KeyValue::Int(key)] = candidate.key.0[..] else {
                    panic!("{candidate:?}");
                };
                assert!(keys.insert(key), "each key once");
            }
        }
        Ok((keys, slices))
    }

    #[test]
    fn a_bucket_that_does_not_fit_is_joined_in_slices_and_no_key_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let primary = column(folder.path(), "p", (0..5_000).map(|key| (key, 1)));
        let changed = |key: i64| u128::from(key % 50 == 0) + 1;
        let secondary = column(folder.path(), "s", (0..5_000).rev().map(|key| (key, changed(key))));
        let wanted: BTreeSet<i64> = (0..5_000).filter(|key| key % 50 == 0).collect();
        let bytes_max = 64 << 10;
        let mut joins = Joins::new(bucket(vec![[primary, secondary]]), bytes_max);
        let (found, slices) = keys(&mut joins).unwrap();
        assert_eq!(found, wanted);
        let least = 5_000 * weight(&Key::int(0)) / bytes_max;
        assert!(slices > least, "{slices} slices hold what {least} could not");
    }

    #[test]
    fn a_key_that_is_another_in_any_pass_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let rows = |name: &str, third: u128| {
            let digest = move |key: i64| if key == 3 { third } else { 1 };
            column(folder.path(), name, (0..10).map(move |key| (key, digest(key))))
        };
        let equal = [rows("p0", 7), rows("s0", 7)];
        let moved = [rows("p1", 8), rows("s1", 8)];
        let mut joins = Joins::new(bucket(vec![equal.clone(), moved]), 1 << 20);
        assert_eq!(keys(&mut joins).unwrap().0, BTreeSet::from([3]));
        let mut joins = Joins::new(bucket(vec![equal.clone(), equal]), 1 << 20);
        assert_eq!(keys(&mut joins).unwrap().0, BTreeSet::new());
    }

    #[test]
    fn copies_are_counted_and_none_of_them_cancels_another() {
        let folder = tempfile::tempdir().unwrap();
        // Digests of zero add up to the same, however many there are.
        let rows = [(1, 5), (1, 5), (1, 5), (2, 5), (2, 5), (3, 0), (3, 0)];
        let primary = column(folder.path(), "p", rows.into_iter());
        let secondary = column(folder.path(), "s", [(1, 5), (2, 5), (2, 5), (3, 0)].into_iter());
        let mut joins = Joins::new(bucket(vec![[primary, secondary]]), 1 << 20);
        assert_eq!(keys(&mut joins).unwrap().0, BTreeSet::from([1, 3]));
    }

    #[test]
    fn files_that_do_not_hold_what_was_scanned_are_bad_data() {
        let folder = tempfile::tempdir().unwrap();
        let primary = column(folder.path(), "p", (0..10).map(|key| (key, 1)));
        let mut secondary = column(folder.path(), "s", (0..10).map(|key| (key, 1)));
        secondary.digest.count += 1;
        let mut joins = Joins::new(bucket(vec![[primary, secondary]]), 1 << 20);
        assert!(matches!(keys(&mut joins), Err(ReconcileError::Corrupt(_))));
    }
}

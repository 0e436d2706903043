//! What an earlier run recorded of one side, by chunk: its journal is read once, and its digests wait on the disk at places that follow from
//! the number of their chunk. So neither memory nor time grows with what is looked up.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use stores::ChunkDigest;

use crate::look::{Earlier, Look};
use crate::plan::{Plan, PlannedCollection};
use crate::{Frame, ReconcileError};

/// Whether there is one, count, sum, and when it was read.
const ENTRY_BYTES: usize = 1 + 8 + 16 + 8;
/// The first byte of an entry; nothing was written where it is 0.
const IS_THERE: u8 = 1;

/// A recorded digest, and when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) digest: ChunkDigest,
    pub(crate) read_at_us: i64,
}

/// The records of one side of one earlier run.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// It has no name: it is gone when this process is.
    file: File,
    /// For each collection of the plan, the number of its first entry, and how many it has.
    places: Vec<(u64, u64)>,
}

impl Recorded {
    /// Reads what `earlier` recorded of the side that `plan` does not ask. Blocks.
    ///
    /// # Errors
    /// `OtherPlan`: it is not the run that the plan rests on, or hashed or cut otherwise. `Corrupt`: it does not hold what its plan says.
    /// `Journal`.
    pub(crate) fn read(earlier: &Earlier, plan: &Plan, folder: &Path) -> Result<Self, ReconcileError> {
        let then = earlier.plan();
        check_parent(then, plan)?;
        let side = earlier.recorded(&plan.primary_site)?;
        let mut places = Vec::with_capacity(then.collections.len());
        let mut entries = 0u64;
        for planned in &then.collections {
            let chunks = planned.rows().map_or(0, |rows| rows.cut.len());
            places.push((entries, chunks));
            entries = entries.saturating_add(chunks);
        }
        let file = unnamed(folder, entries)?;
        let recorded = Self { file, places };
        let corrupt = |why: &str| ReconcileError::Corrupt(format!("the journal of run {}: {why}", then.run_id));
        let numbers: std::collections::HashMap<&str, usize> =
            (then.collections.iter().map(|planned| planned.name.as_str()).zip(0..)).collect();
        for frame in earlier.frames()? {
            let Frame::Chunk(chunk) = frame? else { continue };
            let at = numbers.get(chunk.collection.as_str()).copied();
            let at = at.ok_or_else(|| corrupt("a chunk is of no collection of its plan"))?;
            let rows = then.collections[at].rows();
            let is_planned = rows.is_some_and(|rows| {
                chunk.chunk_id < rows.cut.len() && chunk.seed == rows.recipe.seed && chunk.mode == rows.recipe.mode
            });
            if !is_planned {
                return Err(corrupt("a chunk is not one of its plan"));
            }
            let Some(digest) = chunk.digest_of(side) else {
                continue;
            };
            if recorded.find(at, chunk.chunk_id)?.is_some() {
                return Err(corrupt("a chunk has two results"));
            }
            recorded.put(
                at,
                chunk.chunk_id,
                Record {
                    digest,
                    read_at_us: chunk.read_at_us,
                },
            )?;
        }
        Ok(recorded)
    }

    /// What was recorded of one chunk; `None`: nothing was.
    pub(crate) fn find(&self, collection: usize, chunk_id: u64) -> Result<Option<Record>, ReconcileError> {
        let Some(place) = self.place(collection, chunk_id) else {
            return Ok(None);
        };
        let mut entry = [0; ENTRY_BYTES];
        self.file.read_exact_at(&mut entry, place).map_err(failed)?;
        Ok(decode(&entry))
    }

    fn put(&self, collection: usize, chunk_id: u64, record: Record) -> Result<(), ReconcileError> {
        match self.place(collection, chunk_id) {
            Some(place) => self.file.write_all_at(&encode(record), place).map_err(failed),
            None => Ok(()),
        }
    }

    fn place(&self, collection: usize, chunk_id: u64) -> Option<u64> {
        let (first, chunks) = self.places.get(collection)?;
        let entry_bytes = u64::try_from(ENTRY_BYTES).ok()?;
        (chunk_id < *chunks).then(|| (first + chunk_id).saturating_mul(entry_bytes))
    }
}

/// Digests say something of each other only where rows were hashed and cut alike.
fn check_parent(then: &Plan, plan: &Plan) -> Result<(), ReconcileError> {
    let refused = |why: String| Err(ReconcileError::OtherPlan(why));
    let Look::Against { run_id } = &plan.look else {
        return refused("the plan does not compare with a record".to_owned());
    };
    if *run_id != then.run_id {
        let found = &then.run_id;
        return refused(format!(
            "the plan compares with run {run_id}, and the record beside it is of run {found}"
        ));
    }
    for (at, planned) in plan.collections.iter().enumerate() {
        let Some(rows) = planned.rows() else { continue };
        let recorded = then.collections.get(at).and_then(PlannedCollection::rows);
        let is_alike = recorded.is_some_and(|recorded| {
            recorded.recipe == rows.recipe
                && recorded.known_answer == rows.known_answer
                && recorded.cut.parts() == rows.cut.parts()
        });
        if !is_alike {
            return refused(format!(
                "{} was hashed or cut otherwise by run {run_id} than this plan says; begin again with --against {run_id}",
                planned.name
            ));
        }
    }
    Ok(())
}

/// A file of zeros that nobody else can open.
fn unnamed(folder: &Path, entries: u64) -> Result<File, ReconcileError> {
    let path = folder.join(format!("recorded.{:016x}", rand::random::<u64>()));
    let opening = |source| ReconcileError::opening(&path, source);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(opening)?;
    std::fs::remove_file(&path).map_err(opening)?;
    let bytes = entries.saturating_mul(u64::try_from(ENTRY_BYTES).unwrap_or(u64::MAX));
    file.set_len(bytes).map_err(opening)?;
    Ok(file)
}

fn failed(source: std::io::Error) -> ReconcileError {
    ReconcileError::opening(Path::new("the digests of an earlier run"), source)
}

fn encode(record: Record) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[0] = IS_THERE;
    entry[1..9].copy_from_slice(&record.digest.count.to_le_bytes());
    entry[9..25].copy_from_slice(&record.digest.sum.to_le_bytes());
    entry[25..].copy_from_slice(&record.read_at_us.to_le_bytes());
    entry
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<Record> {
    let (head, rest) = entry.split_first()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<16>()?;
    let (read_at_us, _) = rest.split_first_chunk::<8>()?;
    (*head == IS_THERE).then(|| Record {
        digest: ChunkDigest {
            count: u64::from_le_bytes(*count),
            sum: u128::from_le_bytes(*sum),
        },
        read_at_us: i64::from_le_bytes(*read_at_us),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_from_their_own_places_and_nothing_is_not_zero_rows() {
        let folder = tempfile::tempdir().unwrap();
        let recorded = Recorded {
            file: unnamed(folder.path(), 7).unwrap(),
            places: vec![(0, 3), (3, 0), (3, 4)],
        };
        let record = |count: u64| Record {
            digest: ChunkDigest {
                count,
                sum: u128::MAX - u128::from(count),
            },
            read_at_us: -5,
        };
        recorded.put(0, 2, record(0)).unwrap();
        recorded.put(2, 0, record(9)).unwrap();
        assert_eq!(recorded.find(0, 2).unwrap(), Some(record(0)));
        assert_eq!(recorded.find(2, 0).unwrap(), Some(record(9)));
        for (collection, chunk) in [(0, 0), (0, 1), (0, 3), (1, 0), (2, 1), (2, 4), (3, 0)] {
            assert_eq!(recorded.find(collection, chunk).unwrap(), None, "{collection} {chunk}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it has no name");
    }
}

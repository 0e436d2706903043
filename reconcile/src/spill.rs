//! Rows of one part that wait on the disk for those of the other side: their keys and digests, by buckets.
//!
//! They hold keys: their folder is for its owner only, each file has mode 0600, and the merge that ends a run deletes them. Frames are those of
//! a journal, so that a damaged or half-written file is told apart from a whole one.

use std::path::{Path, PathBuf};

use journal::{Reader, Tail, Writer};
use stores::{Key, KeyValue, RowDigest};

use crate::ReconcileError;

/// The kind of journal that holds rows of a part.
const SPILL_KIND: &str = "reconcile-spill";
/// Ending of such a file.
pub(crate) const SPILL_ENDING: &str = "spill";
/// Bytes of each file that wait in memory for the next frame.
const SPILL_BUFFER_BYTES: usize = 32 << 10;

/// Where the rows of file `number` of an attempt are.
pub(crate) fn spill_name(attempt: &str, number: u32) -> String {
    format!("{attempt}.{number:03}.{SPILL_ENDING}")
}

/// Writes the rows of one part into a few files.
#[derive(Debug)]
pub(crate) struct Spill {
    folder: PathBuf,
    attempt: String,
    files: Vec<File>,
}

#[derive(Debug, Default)]
struct File {
    writer: Option<Writer>,
    waiting: Vec<u8>,
}

impl Spill {
    /// Begins anew: what an earlier try of the same attempt left is removed.
    pub(crate) fn begin(folder: &Path, attempt: &str, files: u32) -> Result<Self, ReconcileError> {
        for number in 0..files {
            let path = folder.join(spill_name(attempt, number));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ReconcileError::opening(&path, error));
                }
                _ => {}
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            attempt: attempt.to_owned(),
            files: (0..files).map(|_| File::default()).collect(),
        })
    }

    /// Takes one row into file `number`.
    pub(crate) fn take(&mut self, number: u32, key: &Key, digest: RowDigest) -> Result<(), ReconcileError> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(file) = self.files.get_mut(at) else {
            return Err(ReconcileError::Corrupt(format!(
                "there is no file {number} of this part"
            )));
        };
        encode(key, digest, &mut file.waiting);
        if file.waiting.len() >= SPILL_BUFFER_BYTES {
            self.flush(at)?;
        }
        Ok(())
    }

    /// Puts everything on the disk; gives the numbers of the files that there are.
    pub(crate) fn end(mut self) -> Result<Vec<u32>, ReconcileError> {
        let mut written = Vec::new();
        for (number, at) in (0u32..).zip(0..self.files.len()) {
            self.flush(at)?;
            if let Some(writer) = &mut self.files[at].writer {
                writer.sync()?;
                written.push(number);
            }
        }
        Ok(written)
    }

    fn flush(&mut self, at: usize) -> Result<(), ReconcileError> {
        let file = &mut self.files[at];
        if file.waiting.is_empty() {
            return Ok(());
        }
        if file.writer.is_none() {
            let name = spill_name(&self.attempt, u32::try_from(at).unwrap_or(u32::MAX));
            file.writer = Some(Writer::create(&self.folder.join(name), SPILL_KIND)?);
        }
        if let Some(writer) = &mut file.writer {
            writer.append(&file.waiting)?;
        }
        file.waiting.clear();
        Ok(())
    }
}

/// Hands over every row of a file. Blocks. Memory: two frames.
pub(crate) fn each_row(path: &Path, mut visit: impl FnMut(Key, RowDigest)) -> Result<(), ReconcileError> {
    let corrupt = |why: &str| ReconcileError::Corrupt(format!("{}: {why}", path.display()));
    let mut reader = Reader::open(path)?;
    reader.expect_kind(SPILL_KIND)?;
    for frame in reader.by_ref() {
        let frame = frame?;
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let (key, digest) = decode(&mut rest).ok_or_else(|| corrupt("a row cannot be read"))?;
            visit(key, digest);
        }
    }
    match reader.tail() {
        Some(Tail::Clean) => Ok(()),
        _ => Err(corrupt("its end is missing")),
    }
}

mod tag {
    pub(super) const INT: u8 = 1;
    pub(super) const TEXT: u8 = 2;
    pub(super) const BYTES: u8 = 3;
}

/// Number of values; for each its tag and contents; the digest. All numbers little-endian.
fn encode(key: &Key, digest: RowDigest, out: &mut Vec<u8>) {
    let contents = |out: &mut Vec<u8>, tag: u8, contents: &[u8]| {
        out.push(tag);
        out.extend_from_slice(&u64::try_from(contents.len()).unwrap_or(u64::MAX).to_le_bytes());
        out.extend_from_slice(contents);
    };
    out.extend_from_slice(&u32::try_from(key.0.len()).unwrap_or(u32::MAX).to_le_bytes());
    for value in &key.0 {
        match value {
            KeyValue::Int(value) => {
                out.push(tag::INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            KeyValue::Text(text) => contents(out, tag::TEXT, text.as_bytes()),
            KeyValue::Bytes(bytes) => contents(out, tag::BYTES, bytes),
        }
    }
    out.extend_from_slice(&digest.0.to_le_bytes());
}

/// `None`: these are not the bytes of a row.
fn decode(rest: &mut &[u8]) -> Option<(Key, RowDigest)> {
    let values = u32::from_le_bytes(take(rest)?);
    let mut key = Vec::new();
    for _ in 0..values {
        let [tag] = take::<1>(rest)?;
        let value = if tag == tag::INT {
            KeyValue::Int(i64::from_le_bytes(take(rest)?))
        } else {
            let length = usize::try_from(u64::from_le_bytes(take(rest)?)).ok()?;
            let (contents, behind) = rest.split_at_checked(length)?;
            *rest = behind;
            match tag {
                tag::TEXT => KeyValue::Text(String::from_utf8(contents.to_vec()).ok()?),
                tag::BYTES => KeyValue::Bytes(contents.to_vec()),
                _ => return None,
            }
        };
        key.push(value);
    }
    Some((Key(key), RowDigest(u128::from_le_bytes(take(rest)?))))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = KeyValue> {
        prop_oneof![
            any::<i64>().prop_map(KeyValue::Int),
            ".{0,20}".prop_map(KeyValue::Text),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(KeyValue::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(
            rows in proptest::collection::vec((proptest::collection::vec(value(), 0..4), any::<u128>()), 0..20),
        ) {
            let mut bytes = Vec::new();
            for (key, digest) in &rows {
                encode(&Key(key.clone()), RowDigest(*digest), &mut bytes);
            }
            let mut rest = bytes.as_slice();
            for (key, digest) in &rows {
                prop_assert_eq!(decode(&mut rest), Some((Key(key.clone()), RowDigest(*digest))));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn what_is_cut_is_no_row(key in proptest::collection::vec(value(), 1..3), digest in any::<u128>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            encode(&Key(key), RowDigest(digest), &mut bytes);
            let mut rest = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(decode(&mut rest), None);
        }
    }

    #[test]
    fn files_are_for_their_owner_only_and_a_torn_one_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::begin(folder.path(), "one", 3).unwrap();
        for id in 0..5_000 {
            spill.take(2, &Key::int(id), RowDigest(7)).unwrap();
        }
        assert_eq!(spill.end().unwrap(), [2], "no file without rows");
        let path = folder.path().join(spill_name("one", 2));
        let mut rows = 0;
        each_row(&path, |_, _| rows += 1).unwrap();
        assert_eq!(rows, 5_000);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(each_row(&path, |_, _| {}), Err(ReconcileError::Corrupt(_))));
        let again = Spill::begin(folder.path(), "one", 3).unwrap();
        assert!(!path.exists(), "a new try begins anew");
        assert!(again.end().unwrap().is_empty());
    }
}

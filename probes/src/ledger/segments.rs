//! The ledgers of a folder: segments put together to epochs, and old ones removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{EXTENSION, Frame, LedgerError, NEW_EXTENSION, RESERVE};
use crate::replay::replay;
use crate::settled::Origin;

/// A segment whose canaries never got a last word (the probe was killed and nobody looked for them) is kept this many times as long as
/// others: the disk has a bound all the same.
pub const KEEP_UNSETTLED_FACTOR: u32 = 4;

/// The beginning of a segment that never got its name is removed after this long.
const BEGUN_AGE_MAX: Duration = Duration::from_secs(3_600);

/// The ledger of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochLedger {
    /// Its segments, oldest first, without a gap up to the newest. Older ones may have been removed: each begins with all canaries that
    /// were unsettled then.
    pub segments: Vec<PathBuf>,
    /// Whose canaries it holds.
    pub origin: Origin,
    /// Its first sequence.
    pub first_sequence: u64,
}

/// How a segment begins.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) origin: Origin,
    pub(super) first_sequence: u64,
    pub(super) number: u32,
    /// The length of the segment before it, when that was complete.
    previous_bytes: u64,
}

/// Reads the first frames. `None`: they were torn by a crash, so that it holds nothing yet.
pub(super) fn beginning(path: &Path) -> Result<Option<Beginning>, LedgerError> {
    let mut reader = journal::Reader::open(path)?;
    let mut records = reader.records::<Frame>();
    let (origin, first_sequence) = match records.next().transpose()? {
        None => return Ok(None),
        Some(Frame::Epoch { origin, first_sequence }) => (origin, first_sequence),
        Some(_) => return Err(LedgerError::NoEpoch { path: path.to_owned() }),
    };
    let (number, previous_bytes) = match records.next().transpose()? {
        Some(Frame::Continued { number, previous_bytes }) => (number, previous_bytes),
        _ => (0, 0),
    };
    Ok(Some(Beginning {
        origin,
        first_sequence,
        number,
        previous_bytes,
    }))
}

/// The ledgers of a folder that `wanted` chooses by origin, oldest epoch of a stream first. A folder that does not exist holds none;
/// a file whose first frame was torn by a crash holds nothing yet and is left out.
///
/// A segment that is missing or too short cuts its epoch: what is before it is left out and logged.
///
/// # Errors
/// A ledger that cannot be read is an error, never skipped.
pub fn ledgers(folder: &Path, wanted: impl Fn(&Origin) -> bool) -> Result<Vec<EpochLedger>, LedgerError> {
    let mut epochs: BTreeMap<(String, String), BTreeMap<u32, (PathBuf, Beginning)>> = BTreeMap::new();
    for path in files(folder, EXTENSION)? {
        let begins = match beginning(&path) {
            // Another stream's probe removed it meanwhile.
            Err(LedgerError::Journal(journal::Error::Open { source, .. })) if source.kind() == ErrorKind::NotFound => {
                continue;
            }
            begins => begins?,
        };
        if let Some(beginning) = begins.filter(|beginning| wanted(&beginning.origin)) {
            let of = (beginning.origin.stream.clone(), beginning.origin.epoch.clone());
            let number = beginning.number;
            epochs.entry(of).or_default().insert(number, (path, beginning));
        }
    }
    let mut found = Vec::new();
    for segments in epochs.into_values() {
        found.extend(unbroken(segments)?);
    }
    found.sort_by(|a, b| (&a.origin.stream, a.first_sequence).cmp(&(&b.origin.stream, b.first_sequence)));
    Ok(found)
}

/// The newest segments of one epoch, back to the first gap.
fn unbroken(segments: BTreeMap<u32, (PathBuf, Beginning)>) -> Result<Option<EpochLedger>, LedgerError> {
    let mut kept: Vec<PathBuf> = Vec::new();
    let mut of: Option<(Origin, u64)> = None;
    let mut wanted_before: Option<(u32, u64)> = None;
    for (number, (path, beginning)) in segments.into_iter().rev() {
        if let Some((next, bytes)) = wanted_before {
            let found_bytes = length(&path)?;
            if number + 1 != next || found_bytes != bytes {
                tracing::warn!(
                    epoch = beginning.origin.epoch,
                    stream = beginning.origin.stream,
                    segment = next,
                    path = %path.display(),
                    "the ledger segment before this one is missing or not whole; what is older is not used"
                );
                break;
            }
        }
        wanted_before = Some((number, beginning.previous_bytes));
        of.get_or_insert((beginning.origin, beginning.first_sequence));
        kept.push(path);
    }
    kept.reverse();
    Ok(of.map(|(origin, first_sequence)| EpochLedger {
        segments: kept,
        origin,
        first_sequence,
    }))
}

/// The first sequence of `stream` that no ledger in `folder` has reserved; 1 when there is none.
///
/// # Errors
/// As [`ledgers`].
pub fn first_unreserved(folder: &Path, stream: &str) -> Result<u64, LedgerError> {
    let mut first = 1;
    let epochs = ledgers(folder, |origin| origin.stream == stream)?;
    // Sequences grow over epochs, and each segment repeats the reservation: the newest one has the highest.
    if let Some(newest) = epochs.last() {
        first = newest.first_sequence + RESERVE;
        if let Some(segment) = newest.segments.last() {
            for frame in journal::Reader::open(segment)?.records::<Frame>() {
                if let Frame::Reserved { until } = frame? {
                    first = first.max(until);
                }
            }
        }
    }
    Ok(first)
}

/// What was removed from a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Canaries among them that never got a last word.
    pub unsettled: u64,
}

/// Removes segments of `stream` in `folder` that were last written more than `keep` before `now`, oldest first, and whose canaries are
/// settled, or carried on by a later segment. The newest segment of the stream always stays: it holds the reservation.
///
/// # Errors
/// As [`ledgers`]; or a file cannot be removed.
pub fn remove_old(folder: &Path, stream: &str, keep: Duration, now: SystemTime) -> Result<Removed, LedgerError> {
    let mut removed = Removed::default();
    let epochs = ledgers(folder, |origin| origin.stream == stream)?;
    for (index, epoch) in epochs.iter().enumerate() {
        let Some((last, older)) = epoch.segments.split_last() else {
            continue;
        };
        let newer = &epochs[index + 1..];
        let is_newest = newer.is_empty();
        if !remove_while_old(older, keep, now, &mut removed)? || is_newest || age(last, now)? <= keep {
            break;
        }
        let unsettled = unsettled_in(epoch, last, newer)?;
        // What is newer stays as well: it may tell what became of some of these.
        if unsettled > 0 && age(last, now)? <= keep * KEEP_UNSETTLED_FACTOR {
            break;
        }
        remove(last, &mut removed)?;
        removed.unsettled += unsettled;
    }
    for path in files(folder, NEW_EXTENSION)? {
        if age(&path, now)? > BEGUN_AGE_MAX && !journal::is_being_written(&path)? {
            remove(&path, &mut removed)?;
        }
    }
    Ok(removed)
}

/// Canaries that the last segment of an epoch leaves open, and that no newer epoch tells of.
fn unsettled_in(epoch: &EpochLedger, last: &Path, newer: &[EpochLedger]) -> Result<u64, LedgerError> {
    let alone = EpochLedger {
        segments: vec![last.to_owned()],
        ..epoch.clone()
    };
    let mut open: BTreeSet<u64> = BTreeSet::new();
    replay(&alone, |canary| {
        if canary.fate.is_none() {
            open.insert(canary.sequence);
        }
    })?;
    for later in newer {
        if open.is_empty() {
            break;
        }
        let told = replay(later, |_| {})?
            .earlier
            .remove(&epoch.origin.epoch)
            .unwrap_or_default();
        open.retain(|sequence| !told.contains_key(sequence));
    }
    Ok(u64::try_from(open.len()).unwrap_or(u64::MAX))
}

/// Whether all of them could go.
fn remove_while_old(
    segments: &[PathBuf],
    keep: Duration,
    now: SystemTime,
    removed: &mut Removed,
) -> Result<bool, LedgerError> {
    for path in segments {
        if age(path, now)? <= keep {
            return Ok(false);
        }
        remove(path, removed)?;
    }
    Ok(true)
}

fn remove(path: &Path, removed: &mut Removed) -> Result<(), LedgerError> {
    let bytes = length(path)?;
    std::fs::remove_file(path).map_err(|source| unusable(path, source))?;
    removed.segments += 1;
    removed.bytes += bytes;
    Ok(())
}

/// Since it was last written. A clock that went back makes it young.
fn age(path: &Path, now: SystemTime) -> Result<Duration, LedgerError> {
    let written = std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .map_err(|source| unusable(path, source))?;
    Ok(now.duration_since(written).unwrap_or_default())
}

fn length(path: &Path) -> Result<u64, LedgerError> {
    let metadata = std::fs::metadata(path).map_err(|source| unusable(path, source))?;
    Ok(metadata.len())
}

/// The files of a folder with this extension, by name; a folder that does not exist has none.
pub(super) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, LedgerError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(folder, error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unusable(folder, error))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn unusable(path: &Path, source: std::io::Error) -> LedgerError {
    LedgerError::Folder {
        path: path.to_owned(),
        source,
    }
}

//! Ledgers read back from a copy, when the machine of the probe is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use journal::Place;

use super::copies::{CopyError, Part, cover};
use super::segments::beginning;
use super::{EXTENSION, LedgerError};
use crate::settled::Origin;

/// Objects of one place that are looked at.
const OBJECTS_MAX: usize = 1_000_000;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Segments that are in the folder now.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Segments of which the place holds something behind a gap, or an object of the wrong size: what is behind it was left there, and
    /// [`ledgers`](super::ledgers) uses nothing that rests on it.
    pub incomplete: Vec<String>,
}

/// Downloads the ledgers that `wanted` chooses by origin from `place` into the folder `into`, where [`ledgers`](super::ledgers) finds them.
/// They reach as far as the copy does: each tells itself until when it is complete. Memory holds one part of a segment.
///
/// # Errors
/// The place cannot be read, or the folder not be written; what was fetched until then is not all.
pub async fn fetch_ledgers(place: &Place, into: &Path, wanted: impl Fn(&Origin) -> bool) -> Result<Fetched, CopyError> {
    std::fs::create_dir_all(into).map_err(|source| unusable(into, source))?;
    let mut fetched = Fetched::default();
    // By epoch: the names of segments say which one, and their order.
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for (segment, found) in parts_at(place).await? {
        let name = segment.rsplit('/').next().unwrap_or(&segment);
        let epoch = name.rsplit_once('-').map_or(name, |(epoch, _)| epoch).to_owned();
        if refused.contains(&epoch) {
            continue;
        }
        let path = into.join(format!("{name}.{EXTENSION}"));
        let bytes = download(place, &segment, &found.whole, &path).await?;
        if !beginning(&path)?.is_some_and(|begins| wanted(&begins.origin)) {
            std::fs::remove_file(&path).map_err(|source| unusable(&path, source))?;
            refused.insert(epoch);
            continue;
        }
        if found.has_misfit || found.whole.iter().any(|part| part.to > bytes) {
            fetched.incomplete.push(segment);
        }
        fetched.segments += 1;
        fetched.bytes += bytes;
    }
    Ok(fetched)
}

/// What a place holds of one segment.
#[derive(Debug, Default)]
struct Found {
    whole: Vec<Part>,
    /// An object has another size than its name says.
    has_misfit: bool,
}

async fn parts_at(place: &Place) -> Result<BTreeMap<String, Found>, CopyError> {
    let mut segments: BTreeMap<String, Found> = BTreeMap::new();
    let mut count = 0_usize;
    place
        .each(|stored| {
            let Some((segment, part)) = Part::parse(&stored.object) else {
                return;
            };
            count += 1;
            if count > OBJECTS_MAX {
                return;
            }
            let found = segments.entry(segment.to_owned()).or_default();
            if part.to - part.from == stored.bytes {
                found.whole.push(part);
            } else {
                found.has_misfit = true;
            }
        })
        .await?;
    if count > OBJECTS_MAX {
        return Err(CopyError::TooMany {
            place: place.name().to_owned(),
            max: OBJECTS_MAX,
        });
    }
    Ok(segments)
}

/// Writes a segment as far as the place holds it without a gap, and returns how far that is.
async fn download(place: &Place, segment: &str, parts: &[Part], path: &Path) -> Result<u64, CopyError> {
    let mut file = File::create(path).map_err(|source| unusable(path, source))?;
    let mut have = 0_u64;
    for part in cover(parts.to_vec()) {
        let bytes = place.get(&part.object(segment)).await?;
        let known = usize::try_from(have - part.from).unwrap_or(usize::MAX);
        let Some(new) = bytes.get(known..) else { break };
        file.write_all(new).map_err(|source| unusable(path, source))?;
        have += u64::try_from(new.len()).unwrap_or(u64::MAX);
        if have < part.to {
            break; // it has shrunk since it was listed
        }
    }
    Ok(have)
}

fn unusable(path: &Path, source: std::io::Error) -> CopyError {
    CopyError::Ledger(LedgerError::Folder {
        path: path.to_owned(),
        source,
    })
}

//! How far one place has come, and one round of copying to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use journal::{FRAME_BYTES_MAX, Place, whole_frames};

use super::{CopyError, Part, cover, stream_folder};
use crate::clock::Anchor;
use crate::ledger::segments::{beginning, files};
use crate::ledger::{EXTENSION, Frame, LedgerError};

/// Bytes of one part, unless a single frame is larger. So much is in memory for each upload that is under way.
const PART_BYTES_MAX: usize = 2 << 20;

/// Uploads to one place that are under way at once, each of another epoch.
const UPLOADS_MAX: usize = 4;

/// How long one request to a place may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The small parts of a segment are put together once it has ended, into parts of this size.
const FINAL_PART_BYTES: u64 = 4 << 20;

/// Room for the head and the header around a frame's payload.
const FRAME_MARGIN_BYTES: usize = 128;

/// One place.
#[derive(Debug)]
pub(super) struct PlaceCopy {
    place: Place,
    folder: PathBuf,
    segments: BTreeMap<PathBuf, SegmentCopy>,
    /// What the place holds from before this process is known.
    is_listed: bool,
}

/// One segment at one place.
#[derive(Debug, Clone)]
struct SegmentCopy {
    /// The name of its folder at the place.
    object: String,
    epoch: String,
    anchor: Anchor,
    parts: Vec<Part>,
    /// Until where it was copied.
    copied: u64,
    /// The last mark of completeness among what was copied, microseconds since 1970 UTC.
    complete_until_us: Option<i64>,
    is_live: bool,
    is_done: bool,
}

impl PlaceCopy {
    pub(super) fn new(place: Place, folder: PathBuf) -> Self {
        Self {
            place,
            folder,
            segments: BTreeMap::new(),
            is_listed: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.place.name()
    }

    /// Until when everything in the folder is at the place: the earliest mark of the epochs that grow or are not copied whole; when all are,
    /// the latest one.
    pub(super) fn complete_until_us(&self) -> Option<i64> {
        let mut epochs: BTreeMap<&str, (Option<i64>, bool)> = BTreeMap::new();
        for segment in self.segments.values() {
            let (until, is_open) = epochs.entry(&segment.epoch).or_insert((None, false));
            *until = (*until).max(segment.complete_until_us);
            *is_open |= segment.is_live || !segment.is_done;
        }
        let open = epochs.values().filter(|(_, is_open)| *is_open);
        match open.map(|(until, _)| *until).min() {
            Some(earliest) => earliest,
            None => epochs.values().filter_map(|(until, _)| *until).max(),
        }
    }

    /// Copies everything that is new. Epochs are copied side by side, the segments of one in order.
    pub(super) async fn round(&mut self) -> Result<(), CopyError> {
        let vanished = self.look_at_folder()?;
        if !self.is_listed {
            self.look_at_place().await?;
            self.is_listed = true;
        }
        let mut epochs: BTreeMap<String, Vec<(PathBuf, SegmentCopy)>> = BTreeMap::new();
        for (path, segment) in &self.segments {
            if segment.is_live || !segment.is_done {
                let of = epochs.entry(segment.epoch.clone()).or_default();
                of.push((path.clone(), segment.clone()));
            }
        }
        let place = &self.place;
        let mut rounds = futures::stream::iter(epochs.into_values().map(|epoch| copy_epoch(place, epoch)))
            .buffer_unordered(UPLOADS_MAX);
        let mut outcome = match vanished {
            Some(segment) => Err(CopyError::Removed {
                place: self.place.name().to_owned(),
                segment,
            }),
            None => Ok(()),
        };
        while let Some((copied, result)) = rounds.next().await {
            self.segments.extend(copied);
            if outcome.is_ok() {
                outcome = result;
            }
        }
        outcome
    }

    /// Takes in new segments and forgets removed ones. Returns one that was removed before it was copied.
    fn look_at_folder(&mut self) -> Result<Option<String>, CopyError> {
        let paths = files(&self.folder, EXTENSION)?;
        let mut vanished = None;
        self.segments.retain(|path, segment| {
            let is_there = paths.binary_search(path).is_ok();
            if !is_there && !segment.is_done {
                vanished = Some(segment.object.clone());
            }
            is_there
        });
        for path in paths {
            if let Some(segment) = self.segments.get_mut(&path) {
                if segment.is_live {
                    segment.is_live = is_live(&path)?;
                    segment.is_done = false;
                }
                continue;
            }
            let Some(begins) = beginning(&path)? else {
                continue;
            };
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            self.segments.insert(
                path.clone(),
                SegmentCopy {
                    object: format!("{}/{name}", stream_folder(&begins.origin.stream)),
                    epoch: begins.origin.epoch,
                    anchor: begins.origin.anchor,
                    parts: Vec::new(),
                    copied: 0,
                    complete_until_us: None,
                    is_live: is_live(&path)?,
                    is_done: false,
                },
            );
        }
        Ok(vanished)
    }

    /// Finds what a process before this one has copied, so that it goes on from there.
    async fn look_at_place(&mut self) -> Result<(), CopyError> {
        let mut by_object: BTreeMap<String, Vec<Part>> = self
            .segments
            .values()
            .map(|one| (one.object.clone(), Vec::new()))
            .collect();
        let listing = self.place.each(|stored| {
            if let Some((segment, part)) = Part::parse(&stored.object)
                && part.bytes() == stored.bytes
                && let Some(parts) = by_object.get_mut(segment)
            {
                parts.push(part);
            }
        });
        in_time(&self.place, listing).await?;
        for segment in self.segments.values_mut() {
            if let Some(parts) = by_object.remove(&segment.object) {
                segment.copied = cover(parts.clone()).last().map_or(0, |part| part.to);
                segment.parts = parts;
            }
        }
        Ok(())
    }
}

/// Whether its ledger is still written. One that was removed meanwhile is not.
fn is_live(path: &Path) -> Result<bool, CopyError> {
    match journal::is_being_written(path) {
        Err(journal::Error::Open { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(false),
        asked => Ok(asked.map_err(LedgerError::from)?),
    }
}

async fn in_time<T>(
    place: &Place,
    request: impl Future<Output = Result<T, journal::PlaceError>>,
) -> Result<T, CopyError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(CopyError::TimedOut {
            place: place.name().to_owned(),
            seconds: REQUEST_TIMEOUT.as_secs(),
        }),
    }
}

/// The segments of one epoch as they stand after the round, and its first error: what is after it waits, so that a copy has no holes.
async fn copy_epoch(
    place: &Place,
    mut epoch: Vec<(PathBuf, SegmentCopy)>,
) -> (Vec<(PathBuf, SegmentCopy)>, Result<(), CopyError>) {
    let mut result = Ok(());
    for (path, segment) in &mut epoch {
        result = segment.copy(place, path).await;
        if result.is_err() {
            break;
        }
    }
    (epoch, result)
}

impl SegmentCopy {
    /// Copies what is new, in parts that end with a whole frame.
    async fn copy(&mut self, place: &Place, path: &Path) -> Result<(), CopyError> {
        loop {
            let chunk = read(path, self.copied, PART_BYTES_MAX)?;
            let mut complete_until_us = None;
            let mut end = whole_frames(self.copied, &chunk, |frame| note_mark(frame, &mut complete_until_us));
            let mut bytes = chunk;
            if end == 0 && bytes.len() == PART_BYTES_MAX {
                bytes = read(path, self.copied, FRAME_BYTES_MAX + FRAME_MARGIN_BYTES)?;
                end = whole_frames(self.copied, &bytes, |frame| note_mark(frame, &mut complete_until_us));
            }
            if end == 0 {
                break;
            }
            bytes.truncate(end);
            let part = Part {
                from: self.copied,
                to: self.copied + u64::try_from(end).unwrap_or(u64::MAX),
            };
            in_time(place, place.put(&part.object(&self.object), Bytes::from(bytes))).await?;
            self.parts.push(part);
            self.copied = part.to;
            let until = complete_until_us.map(|until_us| self.anchor.wall(until_us));
            self.complete_until_us = self.complete_until_us.max(until);
        }
        if !self.is_live && !self.is_done {
            self.put_together(place, path).await?;
            self.is_done = true;
        }
        Ok(())
    }

    /// Replaces many small parts by few large ones. The small ones are removed only when all large ones are there, and only if this place
    /// lets us: whoever reads takes the largest.
    async fn put_together(&mut self, place: &Place, path: &Path) -> Result<(), CopyError> {
        let count = usize::try_from(self.copied.div_ceil(FINAL_PART_BYTES)).unwrap_or(usize::MAX);
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        // After a crash of the machine the place may hold more than the disk.
        if cover(self.parts.clone()).len() <= count || length < self.copied {
            return Ok(());
        }
        let mut large = Vec::new();
        while let Some(from) = Some(large.last().map_or(0, |part: &Part| part.to)).filter(|from| *from < self.copied) {
            let part = Part {
                from,
                to: self.copied.min(from + FINAL_PART_BYTES),
            };
            let bytes = read(path, from, usize::try_from(part.bytes()).unwrap_or(usize::MAX))?;
            in_time(place, place.put(&part.object(&self.object), Bytes::from(bytes))).await?;
            large.push(part);
        }
        let small: Vec<Part> = self.parts.drain(..).filter(|part| !large.contains(part)).collect();
        self.parts = large;
        let object = &self.object;
        let removals = small.iter().map(|part| async move {
            if let Err(error) = in_time(place, place.remove(&part.object(object))).await {
                tracing::debug!(%error, "a small part of a ledger's copy stays where it is");
            }
        });
        let removed: Vec<()> = futures::stream::iter(removals)
            .buffer_unordered(UPLOADS_MAX)
            .collect()
            .await;
        tracing::debug!(
            segment = self.object,
            parts = removed.len(),
            "the parts of a copy were put together"
        );
        Ok(())
    }
}

/// Remembers how far the ledger says that it is complete.
fn note_mark(frame: &[u8], complete_until_us: &mut Option<u64>) {
    // Most frames are something else, and are not worth reading.
    if frame.starts_with(b"{\"complete\"")
        && let Ok(Frame::Complete { until_us }) = serde_json::from_slice(frame)
    {
        *complete_until_us = (*complete_until_us).max(Some(until_us));
    }
}

/// At most `max` bytes of a file from `from` on.
fn read(path: &Path, from: u64, max: usize) -> Result<Vec<u8>, CopyError> {
    let unreadable = |source| {
        CopyError::Ledger(LedgerError::Folder {
            path: path.to_owned(),
            source,
        })
    };
    let mut file = File::open(path).map_err(unreadable)?;
    file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

//! Reading a journal back, torn tail included.

use std::fs::File;
use std::io::{BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::format::{self, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameHead, HEADER_BYTES, Header, Remainder};
use crate::{Error, Result};

/// What stands behind the last whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// The beginning of a frame (or of the header) that was never completed.
    Torn {
        /// Offset of the first torn byte.
        at: u64,
        /// How many there are; 0 only if a header is missing altogether.
        bytes: u64,
    },
}

/// Yields the frames of a journal in the order in which they were appended, up to the length that the file had when it was opened;
/// so a journal that is being written can be read.
///
/// After the last frame, or after the first error, it yields nothing more. Memory: at most two frames.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    kind: Option<String>,
    offset: u64,
    frame_at: u64,
    end: u64,
    is_over: bool,
    tail: Option<Tail>,
}

impl Reader {
    /// Opens the journal at `path` and reads its header.
    ///
    /// # Errors
    /// `Open`, `NotAJournal`, `Version`, or `Corrupt` when the header does not check. A header that was cut short is no error:
    /// it gives no frame and a torn tail.
    pub fn open(path: &Path) -> Result<Self> {
        let opening = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(opening)?;
        Self::over(path, file)
    }

    pub(crate) fn over(path: &Path, file: File) -> Result<Self> {
        let end = file.metadata().map_err(|error| Error::reading(path, 0, error))?.len();
        let mut reader = Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            kind: None,
            offset: 0,
            frame_at: 0,
            end,
            is_over: false,
            tail: None,
        };
        reader.read_header()?;
        Ok(reader)
    }

    /// The kind that the header states. `None`: the header was cut short.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// Refuses a journal of another kind.
    ///
    /// # Errors
    /// `Kind` when the header states another one.
    pub fn expect_kind(&self, wanted: &str) -> Result<()> {
        match &self.kind {
            Some(found) if found != wanted => Err(Error::Kind {
                path: self.path.clone(),
                found: found.clone(),
                wanted: wanted.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What stands behind the last whole frame. `None`: not known, because the end was not reached yet, or an error came before.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }

    /// The end of the last whole frame read so far, as an offset in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The frames as JSON records. A frame that is not a `T` is an error, never skipped.
    pub fn records<T: DeserializeOwned>(&mut self) -> Records<'_, T> {
        Records {
            reader: self,
            record: PhantomData,
        }
    }

    fn read_header(&mut self) -> Result<()> {
        let mut bytes = [0; HEADER_BYTES];
        let present = HEADER_BYTES.min(usize::try_from(self.end).unwrap_or(HEADER_BYTES));
        self.fill(0, &mut bytes[..present])?;
        let compared = present.min(format::MAGIC.len());
        if bytes[..compared] != format::MAGIC[..compared] {
            return Err(Error::NotAJournal {
                path: self.path.clone(),
            });
        }
        if present < HEADER_BYTES {
            self.close(Tail::Torn { at: 0, bytes: self.end });
            return Ok(());
        }
        match format::parse_header(&bytes) {
            Header::Known(kind) => {
                self.kind = Some(kind);
                self.offset = self.position_after(0, HEADER_BYTES);
                Ok(())
            }
            Header::Foreign => Err(Error::NotAJournal {
                path: self.path.clone(),
            }),
            Header::Version(found) => Err(Error::Version {
                path: self.path.clone(),
                found,
                known: format::VERSION,
            }),
            Header::Bad => Err(Error::corrupt(&self.path, 0, "the header does not match its checksum")),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Vec<u8>>> {
        let at = self.offset;
        let left = self.end.saturating_sub(at);
        if left == 0 {
            self.close(Tail::Clean);
            return Ok(None);
        }
        let mut head_bytes = [0; FRAME_HEAD_BYTES];
        let head_present = FRAME_HEAD_BYTES.min(usize::try_from(left).unwrap_or(FRAME_HEAD_BYTES));
        self.fill(at, &mut head_bytes[..head_present])?;
        if head_present < FRAME_HEAD_BYTES {
            self.close(Tail::Torn { at, bytes: left });
            return Ok(None);
        }
        let head = FrameHead::parse(head_bytes);
        let left_behind_head = usize::try_from(left).unwrap_or(usize::MAX) - FRAME_HEAD_BYTES;
        let mut payload = Vec::new();
        if let Some(length) = head.payload_bytes().filter(|&length| length <= left_behind_head) {
            payload.resize(length, 0);
            self.fill(at, &mut payload)?;
            if head.checks(at, &payload) {
                self.frame_at = at;
                self.offset = self.position_after(at, FRAME_HEAD_BYTES + length);
                return Ok(Some(payload));
            }
        }
        self.judge(at, &head_bytes, payload)?;
        Ok(None)
    }

    /// Decides whether the bad bytes from `at` on are a torn tail. `read` is what was already read behind the head.
    fn judge(&mut self, at: u64, head: &[u8], read: Vec<u8>) -> Result<()> {
        let left = self.end - at;
        let whole_max = FRAME_HEAD_BYTES + FRAME_BYTES_MAX;
        let Some(left_bytes) = usize::try_from(left).ok().filter(|&bytes| bytes <= whole_max) else {
            let reason = format!("a frame does not check, and {left} bytes follow: more than one cut frame can leave");
            return Err(Error::corrupt(&self.path, at, reason));
        };
        let mut bytes = head.to_vec();
        bytes.extend_from_slice(&read);
        drop(read);
        let done = bytes.len();
        bytes.resize(left_bytes, 0);
        self.fill(at, &mut bytes[done..])?;
        match format::judge_remainder(at, &bytes) {
            Remainder::Torn => {
                self.close(Tail::Torn { at, bytes: left });
                Ok(())
            }
            Remainder::FrameAt(next) => {
                let reason = format!("a frame does not check, and a whole one follows at {next}");
                Err(Error::corrupt(&self.path, at, reason))
            }
            Remainder::Undecided => {
                let reason = "a frame does not check, and whether whole ones follow could not be decided";
                Err(Error::corrupt(&self.path, at, reason))
            }
        }
    }

    fn close(&mut self, tail: Tail) {
        self.is_over = true;
        self.tail = Some(tail);
    }

    fn fill(&mut self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact(buffer)
            .map_err(|error| Error::reading(&self.path, at, error))
    }

    fn position_after(&self, at: u64, bytes: usize) -> u64 {
        at.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

impl Iterator for Reader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_frame();
        if next.is_err() {
            self.is_over = true;
        }
        next.transpose()
    }
}

impl std::iter::FusedIterator for Reader {}

/// The frames of a [`Reader`] as records.
#[derive(Debug)]
pub struct Records<'a, T> {
    reader: &'a mut Reader,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Iterator for Records<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = match self.reader.next()? {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error)),
        };
        let record = serde_json::from_slice(&frame).map_err(|source| Error::Record {
            path: self.reader.path.clone(),
            offset: self.reader.frame_at,
            source,
        });
        if record.is_err() {
            self.reader.is_over = true;
        }
        Some(record)
    }
}

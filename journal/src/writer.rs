//! Appending to a journal.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::format::{self, FRAME_BYTES_MAX, KIND_BYTES_MAX};
use crate::reader::{Reader, Tail};
use crate::{Error, Result};

/// Journals may hold keys of rows: for their owner only.
const MODE: u32 = 0o600;

/// Appends frames to one journal, of which it is the only writer.
///
/// A frame is appended by one `write(2)`: when [`append`](Self::append) has returned, the frame survives the death of this process.
/// After an error the writer takes nothing more, so that no frame can follow a torn one.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    offset: u64,
    frame: Vec<u8>,
    is_closed: bool,
}

impl Writer {
    /// Creates the journal, mode 0600, with `kind` in its header, and makes its name durable.
    ///
    /// # Errors
    /// `Exists` when there is a file already (a device is taken as it is), `KindTooLong`, `Open`, `DiskFull`, `Write`.
    pub fn create(path: &Path, kind: &str) -> Result<Self> {
        check_kind(path, kind)?;
        let file = match OpenOptions::new().append(true).create_new(true).mode(MODE).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_device(path)?,
            Err(source) => return Err(opening(path, source)),
        };
        let mut writer = Self::over(path, file)?;
        writer.start(kind)?;
        Ok(writer)
    }

    /// Opens an existing journal behind its last whole frame. A torn tail is cut off and told.
    ///
    /// # Errors
    /// `Busy`, `Kind`, and all that reading gives; on an error nothing was changed.
    pub fn resume(path: &Path, kind: &str) -> Result<(Self, Tail)> {
        check_kind(path, kind)?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(|source| opening(path, source))?;
        let mut writer = Self::over(path, file)?;
        let mut reader = Reader::open(path)?;
        reader.expect_kind(kind)?;
        for frame in reader.by_ref() {
            frame?;
        }
        let tail = reader
            .tail()
            .ok_or_else(|| Error::corrupt(path, reader.offset(), "its end was not reached"))?;
        if let Tail::Torn { at, .. } = tail {
            let cut = writer.file.set_len(at).and_then(|()| writer.file.sync_data());
            cut.map_err(|error| Error::writing(path, at, error))?;
        }
        writer.offset = reader.offset();
        if writer.offset == 0 {
            writer.start(kind)?;
        }
        Ok((writer, tail))
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// `DiskFull` or `Write`: the frame is not in the journal, and the writer takes nothing more. `FrameTooLarge`: nothing was
    /// written, the writer goes on.
    pub fn append(&mut self, payload: &[u8]) -> Result<()> {
        let mut frame = std::mem::take(&mut self.frame);
        let result = match format::encode_frame(&mut frame, self.offset, payload) {
            Some(()) => self.write(&frame),
            None => Err(Error::FrameTooLarge {
                path: self.path.clone(),
                bytes: payload.len(),
                max: FRAME_BYTES_MAX,
            }),
        };
        self.frame = frame;
        result
    }

    /// Appends one record as a frame of JSON.
    ///
    /// # Errors
    /// As [`append`](Self::append); `Record` when it has no JSON form.
    pub fn append_record<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let payload = serde_json::to_vec(record).map_err(|source| Error::Record {
            path: self.path.clone(),
            offset: self.offset,
            source,
        })?;
        self.append(&payload)
    }

    /// Returns when every frame appended so far is on the disk.
    ///
    /// # Errors
    /// `DiskFull` or `Write`: what was appended since the last sync may be lost with the machine; the writer takes nothing more.
    pub fn sync(&mut self) -> Result<()> {
        self.open()?;
        sync_file(&self.file).map_err(|error| {
            self.is_closed = true;
            Error::writing(&self.path, self.offset, error)
        })
    }

    /// A handle that syncs the same journal from another thread, so that appending never waits for the disk.
    ///
    /// # Errors
    /// `Open` when the system gives no second handle.
    pub fn syncer(&self) -> Result<Syncer> {
        let file = self.file.try_clone().map_err(|source| opening(&self.path, source))?;
        Ok(Syncer {
            path: self.path.clone(),
            file,
        })
    }

    /// Gives the journal another name in the same file system, and makes that durable: so a journal can be begun out of sight and appear
    /// with all that belongs to its beginning.
    ///
    /// # Errors
    /// `Write`: it keeps its old name.
    pub fn rename(&mut self, to: &Path) -> Result<()> {
        std::fs::rename(&self.path, to).map_err(|error| Error::writing(&self.path, self.offset, error))?;
        self.path = to.to_owned();
        self.sync_folder()
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end of the last frame, as an offset in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn over(path: &Path, file: File) -> Result<Self> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(opening(path, source)),
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            offset: 0,
            frame: Vec::new(),
            is_closed: false,
        })
    }

    /// Writes the header of an empty journal and makes the journal's name durable.
    fn start(&mut self, kind: &str) -> Result<()> {
        self.write(&format::header(kind))?;
        self.sync()?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| sync_file(&folder))
            .map_err(|error| Error::writing(&self.path, self.offset, error))
    }

    fn open(&self) -> Result<()> {
        if self.is_closed {
            return Err(Error::Closed {
                path: self.path.clone(),
                offset: self.offset,
            });
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.open()?;
        // A short write happens only when the disk runs full; the rest then fails, and what was written of it is cut off again.
        if let Err(error) = self.file.write_all(bytes) {
            self.is_closed = true;
            // When cutting fails too, a reader finds a torn tail: nothing is lost by that.
            let _kept_as_torn_tail = self.file.set_len(self.offset);
            return Err(Error::writing(&self.path, self.offset, error));
        }
        self.offset = self
            .offset
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

/// Gives the lock back at once. Closing the file alone would keep it for as long as another descriptor of it is open: a [`Syncer`]'s, or that
/// of a process which was being started at that moment.
impl Drop for Writer {
    fn drop(&mut self) {
        // It can only fail where there is no lock.
        let _is_free = self.file.unlock();
    }
}

/// Whether a [`Writer`] of this or another process holds the journal at `path`: what is there may still grow.
///
/// # Errors
/// `Open` when it is not there, or its lock cannot be asked about.
pub fn is_being_written(path: &Path) -> Result<bool> {
    let file = File::open(path).map_err(|source| opening(path, source))?;
    match file.try_lock_shared() {
        // Closing the file is not enough, as with a writer; and it can only fail where there is no lock.
        Ok(()) => {
            let _is_free = file.unlock();
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(opening(path, source)),
    }
}

/// Syncs a journal beside its [`Writer`].
#[derive(Debug)]
pub struct Syncer {
    path: PathBuf,
    file: File,
}

impl Syncer {
    /// Returns when every frame whose append had returned before this call is on the disk. Blocks; call it on a thread that may.
    ///
    /// # Errors
    /// `DiskFull` or `Write`: appended frames may be lost with the machine. Stop appending: a later sync that succeeds proves nothing
    /// about them.
    pub fn sync(&self) -> Result<()> {
        let offset = self.file.metadata().map_or(0, |metadata| metadata.len());
        sync_file(&self.file).map_err(|error| Error::writing(&self.path, offset, error))
    }
}

fn check_kind(path: &Path, kind: &str) -> Result<()> {
    if format::kind_fits(kind) {
        return Ok(());
    }
    Err(Error::KindTooLong {
        path: path.to_owned(),
        bytes: kind.len(),
        max: KIND_BYTES_MAX,
    })
}

/// A device cannot be created anew: it is written to as it stands, and what it cannot hold it says itself.
fn open_device(path: &Path) -> Result<File> {
    let metadata = std::fs::metadata(path).map_err(|source| opening(path, source))?;
    if !metadata.file_type().is_char_device() {
        return Err(Error::Exists { path: path.to_owned() });
    }
    OpenOptions::new()
        .append(true)
        .open(path)
        .map_err(|source| opening(path, source))
}

/// Character devices and some folders on network file systems have no sync: there is nothing that could be lost in a cache of ours.
fn sync_file(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && !file.metadata()?.is_file() => Ok(()),
        other => other,
    }
}

fn opening(path: &Path, source: io::Error) -> Error {
    Error::Open {
        path: path.to_owned(),
        source,
    }
}

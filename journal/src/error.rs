//! What can go wrong with a journal, told by what the reader of the message does next.

use std::io;
use std::path::{Path, PathBuf};

/// An error of a journal. No variant holds the contents of a frame.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system is full, or a quota is used up. Free space, then resume: what was appended before is safe.
    #[error("journal {}: disk full at offset {offset}; free space there, then resume: all earlier frames are kept", path.display())]
    DiskFull {
        /// The journal.
        path: PathBuf,
        /// Where the frame would have begun.
        offset: u64,
    },
    /// The file could not be opened or created.
    #[error("journal {}: cannot open: {source}; check the path and its rights", path.display())]
    Open {
        /// The journal.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A new journal was asked for where there is a file already. Nothing was changed.
    #[error("journal {}: exists already; resume it or choose another path", path.display())]
    Exists {
        /// The journal.
        path: PathBuf,
    },
    /// Another writer holds it. Nothing was changed.
    #[error("journal {}: another process is writing it; stop that process or choose another path", path.display())]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// Writing failed. The writer refuses further frames; resume the journal when the cause is gone.
    #[error("journal {}: cannot write at offset {offset}: {source}; repair the disk, then resume: all earlier frames are kept", path.display())]
    Write {
        /// The journal.
        path: PathBuf,
        /// Where the frame would have begun.
        offset: u64,
        /// What the system says.
        source: io::Error,
    },
    /// An earlier write or sync of this writer failed, so it takes nothing more.
    #[error("journal {}: closed at offset {offset} by an earlier write error; resume it when the cause is gone", path.display())]
    Closed {
        /// The journal.
        path: PathBuf,
        /// Where the next frame would have begun.
        offset: u64,
    },
    /// Reading failed.
    #[error("journal {}: cannot read at offset {offset}: {source}; check the disk, then read again", path.display())]
    Read {
        /// The journal.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not a journal. Nothing was changed.
    #[error("journal {}: this file is not a journal of driftline; give the path of one", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The journal was written by a later version.
    #[error("journal {}: format version {found} is not known (this program reads {known}); use the version that wrote it", path.display())]
    Version {
        /// The journal.
        path: PathBuf,
        /// What the header says.
        found: u16,
        /// What this program reads.
        known: u16,
    },
    /// The journal holds something else than what is needed. Nothing was changed.
    #[error("journal {}: holds `{found}` and not `{wanted}`; give the path of a `{wanted}` journal", path.display())]
    Kind {
        /// The journal.
        path: PathBuf,
        /// What the header says.
        found: String,
        /// What the caller needs.
        wanted: String,
    },
    /// A kind does not fit into the header.
    #[error("journal {}: kind of {bytes} bytes; at most {max} bytes without NUL are allowed", path.display())]
    KindTooLong {
        /// The journal.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Bytes changed after they were written. What was read before is whole, what follows cannot be trusted.
    #[error("journal {}: corrupt at offset {offset}: {reason}; restore the file from a copy: frames behind this point are not used", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Where the bad frame begins.
        offset: u64,
        /// How this is known.
        reason: String,
    },
    /// A frame is larger than [`crate::FRAME_BYTES_MAX`]. Nothing was written.
    #[error("journal {}: frame of {bytes} bytes is larger than {max}; write it in parts", path.display())]
    FrameTooLarge {
        /// The journal.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A frame is whole but is not the record that was asked for, or a record has no JSON form.
    #[error("journal {}: record at offset {offset}: {source}; read it with the version that wrote it", path.display())]
    Record {
        /// The journal.
        path: PathBuf,
        /// Where its frame begins.
        offset: u64,
        /// What the decoder says.
        source: serde_json::Error,
    },
}

/// The result of an operation on a journal.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether room must be made before anything else helps.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    pub(crate) fn writing(path: &Path, offset: u64, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, offset },
            _ => Self::Write { path, offset, source },
        }
    }

    pub(crate) fn reading(path: &Path, offset: u64, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            offset,
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            reason: reason.into(),
        }
    }
}

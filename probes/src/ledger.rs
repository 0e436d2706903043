//! The ledger: the durable record of every canary, one journal for each epoch of a stream.
//!
//! A frame is written before what it tells counts anywhere else, so what a probe has shown survives kill -9. It is on the disk at
//! the next [`Frame::Complete`] mark at the latest.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stores::Canary;

use crate::settled::{Origin, Settled};

/// The kind in the header of a ledger's journal.
pub const LEDGER_KIND: &str = "ledger";

/// Sequences that are reserved at a time, before the first of them is used.
pub const RESERVE: u64 = 1_000;

/// Canaries in one frame of a ring; a larger ring takes several frames.
pub(crate) const RING_FRAME_CANARIES_MAX: usize = 10_000;

const EXTENSION: &str = "ledger";

/// One line of the ledger. Instants are microseconds on the monotonic clock of the epoch, which [`Frame::Epoch`] dates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// The first frame: whose canaries these are.
    Epoch {
        /// Route, stream, epoch and date.
        origin: Origin,
        /// The first sequence of the epoch; sequences grow over the epochs of a stream.
        first_sequence: u64,
    },
    /// Sequences below this one may be in use from now on.
    Reserved {
        /// The first sequence that is not reserved.
        until: u64,
    },
    /// A canary may leave at this instant. Without a later frame about it nobody knows whether it did.
    Planned {
        /// The canary.
        sequence: u64,
        /// Its slot in the schedule.
        planned_us: u64,
    },
    /// Nothing was sent in the slot.
    Skipped {
        /// The canary that was not.
        sequence: u64,
        /// Its slot.
        planned_us: u64,
    },
    /// It left.
    Sent {
        /// The canary.
        sequence: u64,
        /// Its slot.
        planned_us: u64,
        /// w0.
        sent_us: u64,
    },
    /// The primary acknowledged it.
    Acked {
        /// The canary.
        sequence: u64,
        /// w1.
        acked_us: u64,
    },
    /// Its write timed out or was cut after sending.
    Unknown {
        /// The canary.
        sequence: u64,
        /// When the writer gave up.
        at_us: u64,
    },
    /// Its fate on the route is known.
    Settled(Settled),
    /// The fate of a canary of an earlier epoch of the stream, which was open when that epoch ended. Instants are on the clock of
    /// that epoch.
    Earlier {
        /// The epoch.
        epoch: String,
        /// Its fate.
        settled: Settled,
    },
    /// The secondary was seen to be promoted, and its ring held these. A large ring comes in several frames.
    Ring {
        /// When the answer came in.
        at_us: u64,
        /// The instance that answered.
        instance: String,
        /// What it held.
        canaries: Vec<Canary>,
    },
    /// Every frame about things before this instant is on the disk.
    Complete {
        /// The instant.
        until_us: u64,
    },
    /// The probe ended in order; canaries that were planned and not sent were not sent.
    Closed {
        /// When.
        at_us: u64,
        /// Acknowledged and unseen then.
        pending: u64,
    },
}

/// What goes wrong with ledgers.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The journal says what and what to do.
    #[error("ledger: {0}")]
    Journal(#[from] journal::Error),
    /// The folder cannot be used.
    #[error("ledger folder {}: {source}; give a folder that this user may write", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file does not begin as a ledger does.
    #[error("ledger {}: does not begin with its epoch; it is not used: move it away if it is not a ledger", path.display())]
    NoEpoch {
        /// The file.
        path: PathBuf,
    },
}

/// Appends to the ledger of one epoch.
#[derive(Debug)]
pub struct Ledger {
    writer: journal::Writer,
}

impl Ledger {
    /// Starts the ledger of a new epoch in `folder`, with its first reservation, on the disk when this returns.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn start(folder: &Path, origin: &Origin, first_sequence: u64) -> Result<Self, LedgerError> {
        let name = format!("{:016}-{}.{EXTENSION}", origin.anchor.wall_us, origin.epoch);
        Self::start_at(&folder.join(name), origin, first_sequence)
    }

    /// As [`start`](Self::start), at a path of the caller's choice.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start_at(path: &Path, origin: &Origin, first_sequence: u64) -> Result<Self, LedgerError> {
        let mut ledger = Self {
            writer: journal::Writer::create(path, LEDGER_KIND)?,
        };
        ledger.append(&Frame::Epoch {
            origin: origin.clone(),
            first_sequence,
        })?;
        ledger.append(&Frame::Reserved {
            until: first_sequence + RESERVE,
        })?;
        ledger.writer.sync()?;
        Ok(ledger)
    }

    /// Writes one frame: it survives the death of this process when this returns.
    ///
    /// # Errors
    /// The disk is full or broken; nothing more can be appended.
    pub fn append(&mut self, frame: &Frame) -> Result<(), LedgerError> {
        Ok(self.writer.append_record(frame)?)
    }

    /// Puts all frames on the disk.
    ///
    /// # Errors
    /// The disk is full or broken; nothing more can be appended.
    pub fn sync(&mut self) -> Result<(), LedgerError> {
        Ok(self.writer.sync()?)
    }

    /// Syncs from another thread, while this one goes on appending.
    ///
    /// # Errors
    /// The system gives no second handle.
    pub fn syncer(&self) -> Result<journal::Syncer, LedgerError> {
        Ok(self.writer.syncer()?)
    }
}

/// A ledger in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerFile {
    /// The file.
    pub path: PathBuf,
    /// Whose canaries it holds.
    pub origin: Origin,
    /// Its first sequence.
    pub first_sequence: u64,
}

/// The ledgers of a folder that `wanted` chooses by origin, oldest epoch of a stream first. A folder that does not exist holds none;
/// a file whose first frame was torn by a crash holds nothing yet and is left out.
///
/// # Errors
/// A ledger that cannot be read is an error, never skipped.
pub fn ledgers(folder: &Path, wanted: impl Fn(&Origin) -> bool) -> Result<Vec<LedgerFile>, LedgerError> {
    let unusable = |source| LedgerError::Folder {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unusable)?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        let mut reader = journal::Reader::open(&path)?;
        match reader.records::<Frame>().next() {
            Some(Ok(Frame::Epoch { origin, first_sequence })) if wanted(&origin) => found.push(LedgerFile {
                path,
                origin,
                first_sequence,
            }),
            Some(Ok(Frame::Epoch { .. })) | None => {}
            Some(Ok(_)) => return Err(LedgerError::NoEpoch { path }),
            Some(Err(error)) => return Err(error.into()),
        }
    }
    found.sort_by(|a, b| (&a.origin.stream, a.first_sequence).cmp(&(&b.origin.stream, b.first_sequence)));
    Ok(found)
}

/// The first sequence of `stream` that no ledger in `folder` has reserved; 1 when there is none.
///
/// # Errors
/// As [`ledgers`].
pub fn first_unreserved(folder: &Path, stream: &str) -> Result<u64, LedgerError> {
    let mut first = 1;
    let files = ledgers(folder, |origin| origin.stream == stream)?;
    // Sequences grow over epochs, so the newest ledger has the highest reservation.
    if let Some(newest) = files.last() {
        for frame in journal::Reader::open(&newest.path)?.records::<Frame>() {
            if let Frame::Reserved { until } = frame? {
                first = first.max(until);
            }
        }
        first = first.max(newest.first_sequence + RESERVE);
    }
    Ok(first)
}

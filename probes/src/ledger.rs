//! The ledger: the durable record of every canary, one row of journals (segments) for each epoch of a stream.
//!
//! A frame is written before what it tells counts anywhere else, so what a probe has shown survives kill -9. It is on the disk at
//! the next [`Frame::Complete`] mark at the latest.
//!
//! A segment ends after [`SEGMENT_BYTES_MAX`] or [`SEGMENT_AGE_MAX`]. The next one begins with everything that is still open, so that
//! each can be read without the ones before it, and old ones can be removed.

mod config;
mod copies;
mod fetch;
mod open;
mod segments;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stores::{Canary, Covers, Sighting};

use crate::settled::{Origin, Settled};

pub use config::{CopyPlace, LedgerConfig, Period, Reach};
pub use copies::{Copies, CopyError, CopyFigures, CopyState};
pub use fetch::{Fetched, fetch_ledgers};
pub(crate) use open::OpenCanaries;
pub use open::{WriteFate, Written};
pub use segments::{EpochLedger, KEEP_UNSETTLED_FACTOR, Removed, first_unreserved, ledgers, remove_old};

/// The kind in the header of a ledger's journal.
pub const LEDGER_KIND: &str = "ledger";

/// Sequences that are reserved at a time, before the first of them is used.
pub const RESERVE: u64 = 1_000;

/// Canaries in one frame of a ring; a larger ring takes several frames.
pub(crate) const RING_FRAME_CANARIES_MAX: usize = 10_000;

/// Bytes after which a segment ends, not counting what it carries on from the one before.
pub const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// Time after which a segment ends.
pub const SEGMENT_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Canaries in one frame that carries them on.
const CARRIED_FRAME_CANARIES_MAX: usize = 10_000;

const EXTENSION: &str = "ledger";

/// A segment that is being begun.
const NEW_EXTENSION: &str = "new";

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
    /// The second frame of a segment that follows another one.
    Continued {
        /// Its number in the epoch; the first segment has 0 and no such frame.
        number: u32,
        /// The length of the segment before it, by which a copy that is not whole is known.
        previous_bytes: u64,
    },
    /// Canaries that were open when the segment before ended.
    Carried {
        /// As they stood then.
        canaries: Vec<Written>,
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
    /// The ring at the secondary as it was around a change of roles, before anything overwrote it: [`ring_frames`] makes these. A large
    /// ring comes in several frames of one instant.
    Ring {
        /// When the answer came in.
        at_us: u64,
        /// The instance that answered.
        instance: String,
        /// What it held.
        canaries: Vec<Canary>,
        /// How much of the ring was read.
        #[serde(default = "whole_ring")]
        covers: Covers,
    },
    /// A row of `lag_intervals` was made; a later one has a higher revision.
    Revised {
        /// The earlier epoch whose minute it is; `None`: this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<String>,
        /// Start of the minute, microseconds since 1970 UTC.
        start_us: i64,
        /// Its revision.
        revision: u64,
        /// All canaries of the minute are settled.
        is_final: bool,
        /// When it was made, on the clock of this epoch.
        at_us: u64,
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

/// Ledgers of older versions tell of whole rings only.
fn whole_ring() -> Covers {
    Covers::Ring
}

/// A surviving ring as frames. Append them before the first canary of another epoch is sent to that ring, whether the change of roles
/// was observed or stated.
pub fn ring_frames(ring: &Sighting, at_us: u64) -> impl Iterator<Item = Frame> + '_ {
    let slots: &[u64] = match &ring.covers {
        Covers::Ring => &[],
        Covers::Slots(slots) => slots,
    };
    let parts = |all: usize| all.div_ceil(RING_FRAME_CANARIES_MAX);
    let count = parts(ring.canaries.len()).max(parts(slots.len())).max(1);
    (0..count).map(move |index| Frame::Ring {
        at_us,
        instance: ring.instance.clone(),
        canaries: part(&ring.canaries, index).to_vec(),
        covers: match ring.covers {
            Covers::Ring => Covers::Ring,
            Covers::Slots(_) => Covers::Slots(part(slots, index).to_vec()),
        },
    })
}

fn part<T>(all: &[T], index: usize) -> &[T] {
    all.chunks(RING_FRAME_CANARIES_MAX).nth(index).unwrap_or(&[])
}

/// Appends to the ledger of one epoch.
#[derive(Debug)]
pub struct Ledger {
    writer: journal::Writer,
    origin: Origin,
    first_sequence: u64,
    reserved_until: u64,
    number: u32,
    /// Where the head of the segment ends.
    head_bytes: u64,
    begun_us: u64,
    open: OpenCanaries,
}

impl Ledger {
    /// Starts the ledger of a new epoch in `folder`, with its first reservation, on the disk when this returns.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn start(folder: &Path, origin: &Origin, first_sequence: u64) -> Result<Self, LedgerError> {
        let path = folder.join(segment_name(origin, 0));
        let mut ledger = Self::start_at(&path.with_added_extension(NEW_EXTENSION), origin, first_sequence)?;
        ledger.writer.rename(&path)?;
        Ok(ledger)
    }

    /// As [`start`](Self::start), at a path of the caller's choice.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn start_at(path: &Path, origin: &Origin, first_sequence: u64) -> Result<Self, LedgerError> {
        let reserved_until = first_sequence + RESERVE;
        let head = [
            Frame::Epoch {
                origin: origin.clone(),
                first_sequence,
            },
            Frame::Reserved { until: reserved_until },
        ];
        let writer = begin(path, &head)?;
        Ok(Self {
            head_bytes: writer.offset(),
            writer,
            origin: origin.clone(),
            first_sequence,
            reserved_until,
            number: 0,
            begun_us: origin.anchor.now_us,
            open: OpenCanaries::default(),
        })
    }

    /// Writes one frame: it survives the death of this process when this returns.
    ///
    /// # Errors
    /// The disk is full or broken; nothing more can be appended.
    pub fn append(&mut self, frame: &Frame) -> Result<(), LedgerError> {
        self.writer.append_record(frame)?;
        self.open.follow(frame);
        if let Frame::Reserved { until } = frame {
            self.reserved_until = *until;
        }
        Ok(())
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

    /// Whether the segment should end: it is large enough or old enough.
    pub fn is_due(&self, now_us: u64) -> bool {
        let age = Duration::from_micros(now_us.saturating_sub(self.begun_us));
        age >= SEGMENT_AGE_MAX || self.writer.offset() - self.head_bytes >= SEGMENT_BYTES_MAX
    }

    /// The segment that follows this one, with all that is open now. Append nothing until it was written and [taken](Self::go_on_in).
    ///
    /// # Errors
    /// The system gives no second handle.
    pub fn next_segment(&self) -> Result<NextSegment, LedgerError> {
        let number = self.number + 1;
        let mut head = vec![
            Frame::Epoch {
                origin: self.origin.clone(),
                first_sequence: self.first_sequence,
            },
            Frame::Continued {
                number,
                previous_bytes: self.writer.offset(),
            },
        ];
        let open: Vec<Written> = self.open.iter().copied().collect();
        head.extend(open.chunks(CARRIED_FRAME_CANARIES_MAX).map(|canaries| Frame::Carried {
            canaries: canaries.to_vec(),
        }));
        head.push(Frame::Reserved {
            until: self.reserved_until,
        });
        Ok(NextSegment {
            path: self.writer.path().with_file_name(segment_name(&self.origin, number)),
            number,
            head,
            before: self.syncer()?,
        })
    }

    /// Goes on in `segment`, which became the newest at `now_us`.
    pub fn go_on_in(&mut self, segment: Segment, now_us: u64) {
        self.head_bytes = segment.writer.offset();
        self.writer = segment.writer;
        self.number = segment.number;
        self.begun_us = now_us;
    }
}

/// A segment that is to follow.
#[derive(Debug)]
pub struct NextSegment {
    path: PathBuf,
    number: u32,
    head: Vec<Frame>,
    before: journal::Syncer,
}

/// A segment that was begun.
#[derive(Debug)]
pub struct Segment {
    writer: journal::Writer,
    number: u32,
}

impl NextSegment {
    /// Puts the segment before it on the disk, then itself, under its name only when it is whole. Blocks; call it on a thread that may.
    ///
    /// # Errors
    /// The disk is full or broken; the segment before it is as it was.
    pub fn write(self) -> Result<Segment, LedgerError> {
        self.before.sync()?;
        let mut writer = begin(&self.path.with_added_extension(NEW_EXTENSION), &self.head)?;
        writer.rename(&self.path)?;
        Ok(Segment {
            writer,
            number: self.number,
        })
    }
}

fn begin(path: &Path, head: &[Frame]) -> Result<journal::Writer, LedgerError> {
    let mut writer = journal::Writer::create(path, LEDGER_KIND)?;
    for frame in head {
        writer.append_record(frame)?;
    }
    writer.sync()?;
    Ok(writer)
}

fn segment_name(origin: &Origin, number: u32) -> String {
    format!("{:016}-{}-{number:06}.{EXTENSION}", origin.anchor.wall_us, origin.epoch)
}

//! Append-only checksummed frames with a readable torn tail.
//!
//! A journal is one file: a header with a magic, a format version and a free-text *kind* (`ledger`, `reconcile`), then frames. A frame
//! is written by one `write(2)`, so it survives the death of the process as soon as [`Writer::append`] has returned; it survives the
//! death of the machine once [`Writer::sync`] has.
//!
//! What a reader promises: it yields the frames in the order in which they were appended, each exactly as it was. A last frame that was
//! cut short is told apart as a torn tail ([`Tail`]). Anything else that does not check is [`Error::Corrupt`]: nothing is ever skipped.

mod error;
mod format;
mod place;
mod reader;
mod writer;

pub use error::{Error, Result};
pub use format::{FRAME_BYTES_MAX, KIND_BYTES_MAX, whole_frames};
pub use place::{Bucket, Place, PlaceError, Stored};
pub use reader::{Reader, Records, Tail};
pub use writer::{Syncer, Writer, is_being_written};

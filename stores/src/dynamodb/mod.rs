//! DynamoDB: global tables.
//!
//! Canaries are items of the table that they represent, in its own key shape, under reserved keys (see [`Shape`]). What they do to the
//! table, and how to live with it:
//! - **Streams and global tables** carry each canary as they carry every item: one record a write, about 200 bytes. A consumer of the
//!   stream filters by the key's prefix `driftline-canary/` (an event filter does that without cost); for number keys, by the attribute
//!   `driftline_stream`.
//! - **Indexes**: a canary has the table's key and four attributes whose names begin with `driftline_`, and so enters no index, except one
//!   whose keys are all keys of the table (an inverted index). `driftline check` names such indexes.
//! - **Exports, backups and scans** contain the ring: at most [`RING_SLOTS`] items for each stream, each below 1 KB.
//! - **Capacity**: one write unit a canary (and one replicated write unit for each other copy), one read unit for each slot that is
//!   looked at. The end's [`Meter`](crate::Meter) has counted them.
//! - **They go by themselves**: `driftline_expires_at`, and the table's own expiry attribute where it has one, are 30 days after the
//!   write.
//!
//! Reads are strongly consistent, which in DynamoDB means: of the region that is asked. A strong read shows all that this copy has
//! applied, and nothing of what is still on its way from another region; that is what a watcher wants.

mod canary;
mod config;
mod fault;
mod identity;
mod init;
mod item;
mod open;
mod sent;
mod shape;
mod status;
mod table;
mod watch;

pub use canary::RING_SLOTS;
pub use config::{CanaryPlace, Config};
pub use init::{check_canary, init, init_text};
pub use open::open;
pub use shape::{KeyKind, NamedKey, Shape};

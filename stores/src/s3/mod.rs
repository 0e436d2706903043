//! S3 and what speaks its protocol: buckets with replication.
//!
//! A canary represents one replication rule: it lies under the rule's prefix, with the rule's tags. Sites are watched by HEAD and LIST; what the store itself
//! says (`x-amz-replication-status`) stands beside our own reading.
//!
//! Two traps of stores that are not AWS: *read proxying* answers a HEAD from the other site (seen through: see the reader), and a *HEAD that
//! heals* has MinIO retry a failed object when it is looked at. Canaries are only looked at where they arrive; at the source that is done by the
//! status of the newest one, and once by a probe that starts.

mod check;
mod config;
mod ends;
mod fault;
mod reader;
mod remote;
mod ring;
mod rules;
mod writer;

pub use check::{CheckedPair, Found, check_canary, init_text};
pub use config::{Bucket, CanaryPlace, Config};
pub use ends::open;
pub use ring::KeySet;
pub use rules::{Rules, rules};

//! CloudWatch: the lag that AWS publishes of DynamoDB, S3 and MSK, where somebody asks for it with `native = "cloudwatch"`.
//!
//! It is the store's own word, beside the canaries and never part of them. What it cannot do:
//! - **It is minutes old.** The newest minute that is over and had time to be published is read; the figure carries that minute.
//! - **0 may mean that replication stands still.** Metrics count what arrived. Only canaries tell the two apart.
//! - **No data point is no lag of 0**: it is not collected, and why is said.
//! - **MSK's `MessageLag` is no lag between clusters**: it counts what the replicator has not read yet at the source.
//!
//! Each store publishes in another region: DynamoDB in the one of the writer, S3 and MSK in that of the copy.

mod ask;
mod beside;
mod fault;
mod figure;
mod watch;

pub use ask::Told;
pub use beside::beside;
pub use watch::{ASK_EVERY, Watch};

//! Kafka: clusters that mirror topics to each other.
//!
//! Every partition of the canary topic is a stream of canaries with clients of its own, so that a partition without a leader delays no
//! other. Nothing joins a consumer group.

mod canary;
mod client;
mod config;
mod fault;
mod form;
mod identity;
mod init;
mod produce;
mod ring;
mod status;
mod syncs;
mod tail;
mod watch;

use std::sync::Arc;

pub use config::{Auth, CanaryPlace, Cluster, Config, Mapping, Mechanism, Tls, Topics};
pub use init::{InitSpec, check_canary, init, init_text, partitions};

use crate::{CanaryWriter, End, Result};
use canary::LogWriter;
use client::{Asks, Reach};
use identity::Identifier;
use status::MirrorStatus;
use watch::LogReader;

/// Both ends of the route from `primary` to `secondary`, for the canaries of one partition. Only the primary's end writes. Nothing is
/// opened before it is used.
///
/// # Errors
/// `Config` when a site is unknown or the configuration does not hold together.
pub fn open(config: &Config, primary: &str, secondary: &str, partition: i32) -> Result<[End; 2]> {
    let topic = &config.canary.topic;
    let mirrored = config.mapped(primary, secondary, topic);
    let above = Arc::new(Asks::new(Reach::new(config, primary)?, topic));
    let below = Arc::new(Asks::new(Reach::new(config, secondary)?, &mirrored));
    let writer: Arc<dyn CanaryWriter> = Arc::new(LogWriter::new(Arc::clone(&above), topic.clone(), partition));
    let status_above = MirrorStatus::of_primary(Arc::clone(&above), topic.clone());
    let status_below = MirrorStatus::of_secondary(Arc::clone(&below), Arc::clone(&above), config);
    let above = End {
        canary_writer: Some(writer),
        ..end(above, topic, partition, status_above)
    };
    Ok([above, end(below, &mirrored, partition, status_below)])
}

/// An end that watches.
fn end(asks: Arc<Asks>, topic: &str, partition: i32, status: MirrorStatus) -> End {
    let identify = Arc::new(Identifier::new(Arc::clone(&asks), topic.to_owned()));
    End {
        status: Some(Arc::new(status)),
        canary_reader: Some(Arc::new(LogReader::new(Arc::clone(&asks), topic.to_owned(), partition))),
        ..End::new(asks.site(), identify)
    }
}

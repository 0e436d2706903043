//! S3 and what speaks its protocol: buckets with replication.

mod config;

pub use config::{Bucket, CanaryPlace, Config};

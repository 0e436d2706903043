//! Pairs of stores to try and to test with: lag, loss, corruption and failover on demand.
//!
//! A lab is real software on this machine: PostgreSQL servers from the distribution's packages, on free loopback ports, in a
//! temporary folder of their own. Dropping the handle stops the servers and removes the folder, also in a panic; what a
//! `kill -9` left behind is removed by the next start.
//!
//! Nothing here is safe for data that matters: servers run with `fsync = off`.

mod account;
mod certificates;
mod cloudwatch;
mod dynamodb;
mod error;
mod folder;
mod java;
mod kafka;
mod ports;
mod postgres;
mod process;
mod proxy;
mod s3;
mod server_log;
mod touches;
mod toxiproxy;
mod truth;

pub use cloudwatch::{CloudWatch, MetricAnswer, MetricQuery, MetricRequest};
pub use dynamodb::{DynamoPair, TableSpec};
pub use error::LabError;
pub use kafka::{
    KafkaOptions, KafkaPair, KafkaServer, KafkaServers, KafkaServersOptions, Mirror, MirrorMaker, MockKafka,
};
pub use postgres::{
    LogicalPair, Pattern, PgOptions, PgPair, PgServer, Plant, Tls, Workload, WorkloadOptions, Written, demo, plant,
};
pub use proxy::Proxy;
pub use s3::{
    MinioOptions, MinioPair, MinioServer, S3_ACCESS_KEY, S3_SECRET_KEY, S3Delay, S3Link, S3Options, S3Pair, S3Rule,
    S3Site,
};
pub use touches::{Side, Touches};
pub use toxiproxy::{ToxicLine, Toxiproxy};
pub use truth::{Mismatches, Planted, Truth};

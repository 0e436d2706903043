//! S3: two sites in this process whose replication can be made to do anything, and two real MinIO servers.

mod link;
mod minio;
mod objects;
mod pair;
mod site;

pub use link::{S3Delay, S3Link};
pub use minio::{MinioOptions, MinioPair, MinioServer};
pub use pair::{S3Options, S3Pair, S3Rule, S3Site};

/// The access key of every S3 server of the lab.
pub const S3_ACCESS_KEY: &str = "lab-key";
/// Its secret half.
pub const S3_SECRET_KEY: &str = "lab-secret";

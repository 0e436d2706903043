//! S3: buckets in this process, real MinIO servers, and servers that say whatever a test wants.

mod canaries;
mod checks;
mod faults;
mod minio;
mod rules;
mod scripted;
mod setup;
mod traps;

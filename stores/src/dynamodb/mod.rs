//! DynamoDB: global tables.

mod config;

pub use config::{CanaryPlace, Config};

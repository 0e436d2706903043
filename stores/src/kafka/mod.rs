//! Kafka: clusters that mirror topics to each other.

mod config;

pub use config::{Auth, CanaryPlace, Cluster, Config, Mapping, Tls, Topics};

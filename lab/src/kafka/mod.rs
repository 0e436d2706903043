//! Kafka: pairs of clusters in this process, and real ones.

mod clients;
mod mirror;
mod mock;
mod pair;

pub use mirror::Mirror;
pub use mock::MockKafka;
pub use pair::{KafkaOptions, KafkaPair};

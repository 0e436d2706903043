//! Kafka: pairs of clusters in this process, and real ones.

mod clients;
mod jars;
mod mirror;
mod mirror_maker;
mod mock;
mod pair;
mod server;
mod servers;

pub use mirror::Mirror;
pub use mirror_maker::MirrorMaker;
pub use mock::MockKafka;
pub use pair::{KafkaOptions, KafkaPair};
pub use server::KafkaServer;
pub use servers::{KafkaServers, KafkaServersOptions};

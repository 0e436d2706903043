//! PostgreSQL from the distribution's packages.

pub mod demo;
mod logical;
mod options;
mod pair;
mod plant;
mod postmaster;
mod programs;
mod server;
pub(crate) mod shared_memory;
mod synchronous;
mod workload;

pub use logical::LogicalPair;
pub use options::{PgOptions, Tls};
pub use pair::PgPair;
pub use plant::{Plant, plant};
pub use server::PgServer;
pub use workload::{Pattern, Workload, WorkloadOptions, Written};

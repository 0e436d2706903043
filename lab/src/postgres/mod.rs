//! PostgreSQL from the distribution's packages.

mod certificates;
mod options;
mod pair;
mod postmaster;
mod programs;
mod server;

pub use options::{PgOptions, Tls};
pub use pair::PgPair;
pub use server::PgServer;

//! PostgreSQL, on Aurora or anywhere.
//!
//! Every session pins what results depend on and reads it back; the canaries have sessions of their own, so that a digest never
//! delays them.

mod config;
mod fault;
mod identity;
mod pins;
mod session;
mod tls;
mod url;

pub use config::{Auth, CanaryPlace, Config, Endpoint, Endpoints, Tls};
pub use url::Url;

//! Real servers. Each test has a lab of its own, so they run side by side.

mod pair;
mod plants;
mod removal;
mod server;
mod support;
mod workload;

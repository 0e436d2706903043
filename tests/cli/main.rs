//! End-to-end tests: the binary as a person or a script runs it, against real PostgreSQL servers.
#![expect(missing_docs, unreachable_pub, reason = "a test binary has no public interface")]

mod comparing;
mod config;
mod connecting;
mod faults;
mod fixture;
mod phantoms;
mod probing;

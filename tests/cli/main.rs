//! End-to-end tests: the binary as a person or a script runs it, against real PostgreSQL servers.

mod afterwards;
mod alerts;
mod comparing;
mod config;
mod connecting;
mod exit_codes;
mod faults;
mod fixture;
mod four_stores;
mod full_disk;
mod lag;
mod mid_run;
mod native;
mod phantoms;
mod probing;
mod reconciled;
mod refused;
mod runbooks;
mod stages;
mod two_clock;

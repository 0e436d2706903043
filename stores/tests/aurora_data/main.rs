//! The data side of the aurora store, against real servers of the lab and as a role that may only select.

mod catalogs;
mod client;
mod counters;
mod faults;
mod fences;
mod guards;
mod keyless;
mod moments;
mod parts;
mod planted;
mod setup;
mod types;

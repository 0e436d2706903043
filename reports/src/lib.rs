//! Renders journals: Parquet tables, policy and verdict, HTML, JSON and terminal.

mod event;
pub mod gate;
pub mod render;
pub mod runs;
#[cfg(test)]
mod samples;
pub mod tables;
pub mod views;

pub use event::{Event, EventKind};

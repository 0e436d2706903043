//! Renders journals: Parquet tables, policy and verdict, HTML, JSON and terminal.

pub mod cost;
mod event;
pub mod gate;
pub mod lag;
mod newest;
pub mod render;
pub mod runs;
#[cfg(test)]
mod samples;
mod spread;
pub mod tables;
pub mod views;

pub use event::{Event, EventKind};
pub use newest::{Compared, DATES_MAX, Newest, ROWS_HELD_MAX, newest};

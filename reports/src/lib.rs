//! Renders journals: Parquet tables, policy and verdict, HTML, JSON and terminal.

mod event;

pub use event::{Event, EventKind};

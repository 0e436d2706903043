//! Plan, digest comparison, narrowing, recheck; ends at a journal

mod outcome;

pub use outcome::*;

//! From what was recorded to what is read: journals and records to tables, and to what stands on a terminal.

mod event;
mod lag;
mod rpo;

pub use event::write_event;
pub use lag::{LAG_ROWS_PER_FILE_MAX, LagTables};
pub use rpo::{read_rpo, write_rpo};

/// Nothing to say is NULL.
pub(crate) fn said(text: impl Into<String>) -> Option<String> {
    Some(text.into()).filter(|text| !text.is_empty())
}

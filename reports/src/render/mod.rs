//! From what was recorded to what is read: journals and records to tables, and to what stands on a terminal.

mod event;
mod explained;
mod found;
mod lag;
mod lag_summary;
mod loss;
mod reconcile;
mod rpo;
mod terminal;

pub use event::write_event;
pub use explained::{ColumnBeside, Explained, Look, may_show_rows};
pub use found::{Findings, ShownKey, Tally};
pub use lag::{LAG_ROWS_PER_FILE_MAX, LagTables};
pub use lag_summary::{LagSummary, RouteLag, lag_terminal};
pub use loss::Loss;
pub use reconcile::{JOURNAL_KIND, ReconcileContext, render_reconcile};
pub use rpo::{read_rpo, write_rpo};
pub(crate) use terminal::{at_least, at_most, canaries, plain, table, visible};

#[cfg(test)]
mod reconcile_promises;

/// Nothing to say is NULL.
pub(crate) fn said(text: impl Into<String>) -> Option<String> {
    Some(text.into()).filter(|text| !text.is_empty())
}

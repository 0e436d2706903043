//! Lag over many files: `.hlog` written by a running probe, and percentiles merged from Parquet and `.hlog`.
//!
//! Percentiles are merged, never averaged. Of an interval the highest revision counts, once, whatever number of files it stands in; observers
//! stay apart. A canary that was not seen is unbounded: a quantile whose rank falls among such canaries is told as what it is. A file that cannot
//! be read ends the reading: a percentile without it could look better than the truth.

mod collect;
mod gaps;
mod hlog;
mod hlog_file;
mod plot;
mod report;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod unmeasured;

pub use collect::{Filter, INTERVALS_PER_DAY_MAX, RouteFilter, collect};
pub use gaps::{GAPS_LISTED_MAX, Gap};
pub use hlog::{HLOG_BYTES_MAX, Hlog};
pub use plot::{PLOT_ROUTES_MAX, plot};
pub use report::{LagReport, Observed, Spectrum};
pub use table::{csv, terminal};
pub use unmeasured::write_unmeasured;

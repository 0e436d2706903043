//! Why a probe stops.

use stores::StoreError;

use crate::Route;
use crate::ledger::LedgerError;

/// A reason to stop. Dead replication is none: it is what a probe is there to show.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The ledger cannot be written or read, so no loss could be proved: the probe stops rather than measure without a record.
    #[error("probe stopped: {0}")]
    Ledger(#[from] LedgerError),
    /// The store refuses for good (rights, configuration); nothing was measured on this route.
    #[error("probe of {} {} -> {}: {source}", route.dataset, route.primary_site, route.secondary_site)]
    Store {
        /// The route.
        route: Box<Route>,
        /// What the store says.
        source: Box<StoreError>,
    },
    /// Nobody takes the evidence any more; what was measured until now is in the ledger.
    #[error("probe stopped: nobody takes its evidence any more; canaries until now are in the ledger")]
    OutputClosed,
    /// Evidence was left over at the end; it is in the ledger.
    #[error(
        "probe: evidence was not taken within {waited_seconds} s at the end; what is missing from the output is in the ledger"
    )]
    OutputStuck {
        /// How long the probe waited.
        waited_seconds: u64,
    },
    /// A part of the probe panicked: a fault of driftline.
    #[error("probe stopped by a fault of driftline, please report it: {0}")]
    Panicked(String),
}

//! Why a reconciliation could not be made, or not be recorded.

use stores::StoreError;

/// An error that ends a run. What goes wrong with one chunk or one collection is not an error: it is in the coverage.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Both connections reached the same data, so a comparison would prove nothing. Correct the addresses.
    #[error(
        "site {primary_site} and site {secondary_site} reached the same data (instance {instance}): comparing it with itself proves \
         nothing; correct the addresses of the two sites"
    )]
    SameData {
        /// The stated writer.
        primary_site: String,
        /// The other site.
        secondary_site: String,
        /// What the secondary's connection said that it reached.
        instance: String,
    },
    /// The run cannot be made as asked. Change the request or the configuration.
    #[error("{0}")]
    Request(String),
    /// An end did not answer before any comparison had begun; the variant within says what to do.
    #[error("before any comparison: {0}")]
    Store(#[from] StoreError),
    /// The run was asked to end while it was being planned: nothing was compared.
    #[error("stopped before anything was compared")]
    Stopped,
    /// There is no plan, or one that this program must not carry out. Plan again, or use the program that made it.
    #[error("{0}")]
    OtherPlan(String),
    /// A journal or an object is not what was written. Restore it, or do its shard again.
    #[error("bad data: {0}")]
    Corrupt(String),
    /// Shards have no result yet, so there is nothing to put together. Run them, then merge.
    #[error("nothing is merged: no result yet of shard {}; run each with `driftline reconcile shard`, then merge again", some(.0))]
    Incomplete(Vec<u64>),
    /// A shard needs what others read, and they have no result yet. Run them, then this one again.
    #[error("shard {shard} needs what shard {} reads first; run each with `driftline reconcile shard`, then this one again", some(.on))]
    Early {
        /// The shard.
        shard: u64,
        /// Those that it needs.
        on: Vec<u64>,
    },
    /// The place of the run could not be read or written.
    #[error("the place of the run: {0}")]
    Place(#[from] journal::PlaceError),
    /// The evidence could not be written, so nothing more was compared. What was committed before is kept.
    #[error("the run was stopped because its evidence cannot be written: {0}")]
    Journal(#[from] journal::Error),
}

impl ReconcileError {
    /// A file or a folder of the work that cannot be opened, made or removed.
    pub(crate) fn opening(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Journal(journal::Error::Open {
            path: path.to_owned(),
            source,
        })
    }
}

/// Shards that a message names; the others are counted.
const NAMED_MAX: usize = 20;

fn some(shards: &[u64]) -> String {
    let named: Vec<_> = shards.iter().take(NAMED_MAX).map(u64::to_string).collect();
    let named = named.join(", ");
    match shards.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

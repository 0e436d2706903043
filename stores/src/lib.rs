//! What a store is: narrow abilities, and one folder for each store that has them.
//!
//! A store implements those ability traits that fit it; an [`End`] bundles what one connection on one site can do. Contracts stand in
//! the trait documentation, and one conformance suite holds every store and every wrapper to them.

pub mod aurora;
pub mod aws;
mod canary;
mod catalog;
pub mod cloudwatch;
mod compare;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
pub mod dynamodb;
mod encode;
mod error;
pub mod faulty;
mod identify;
pub mod kafka;
mod kept;
mod key;
pub mod limited;
pub mod memory;
mod meter;
mod ranged;
mod reread;
pub mod s3;
mod scanned;
pub mod secret;
mod site_names;
mod stamp;
mod status;

use std::sync::Arc;

pub use canary::{Canary, CanaryReader, CanaryWriter, Covers, Oddities, Sighting, Sought, WriteOutcome};
pub use catalog::{Catalog, Collection, Column, Counter, Definition, KeyShape, Scope};
pub use compare::{Class, Compare, Comparison};
pub use digest::{ChunkDigest, DigestMode, Recipe, RowDigest};
pub(crate) use encode::bytes_digest;
pub use encode::{Decimal, ENCODING_VERSION, NotDecimal, Value, column_digest, encode_row, key_bucket, row_digest};
pub use error::{Result, StoreError, Trouble};
pub use identify::{Identify, Identity, Relation, Role};
pub use kept::{Kept, KeptRows, KeyPart};
pub use key::{Key, KeyRange, KeyValue, Part};
pub use meter::{Meter, Usage};
pub use ranged::{Listing, Ranged};
pub use reread::{
    DIGESTS_PER_READ_MAX, Fence, KEYS_PER_READ_MAX, Position, ReadRequest, Reading, Readings, Reread, Row, Snapshot,
};
pub use scanned::{KeyedBy, ScanPart, Scanned};
pub use site_names::SiteNames;
pub use stamp::{AckedBefore, NoStamp, Stamp};
pub use status::{CollectionLag, Fork, NativeStatus, Status};

/// One end of a pair: the abilities of one connection on one site. `None`: this store does not have it.
#[derive(Debug, Clone)]
pub struct End {
    /// The site.
    pub site: String,
    /// Always there: nothing is compared with a stranger.
    pub identify: Arc<dyn Identify>,
    /// See [`Catalog`].
    pub catalog: Option<Arc<dyn Catalog>>,
    /// See [`Status`].
    pub status: Option<Arc<dyn Status>>,
    /// See [`CanaryWriter`].
    pub canary_writer: Option<Arc<dyn CanaryWriter>>,
    /// See [`CanaryReader`].
    pub canary_reader: Option<Arc<dyn CanaryReader>>,
    /// See [`Ranged`].
    pub ranged: Option<Arc<dyn Ranged>>,
    /// See [`Scanned`].
    pub scanned: Option<Arc<dyn Scanned>>,
    /// See [`Reread`].
    pub reread: Option<Arc<dyn Reread>>,
    /// See [`Fence`].
    pub fence: Option<Arc<dyn Fence>>,
    /// See [`Compare`].
    pub compare: Option<Arc<dyn Compare>>,
    /// What was asked of this end, where requests are paid for.
    pub meter: Option<Arc<Meter>>,
}

impl End {
    /// An end that can be told apart from others, and nothing else. Whoever makes it adds what it can do.
    pub fn new(site: impl Into<String>, identify: Arc<dyn Identify>) -> Self {
        Self {
            site: site.into(),
            identify,
            catalog: None,
            status: None,
            canary_writer: None,
            canary_reader: None,
            ranged: None,
            scanned: None,
            reread: None,
            fence: None,
            compare: None,
            meter: None,
        }
    }
}

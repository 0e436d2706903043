//! All that one endpoint of one site can do.

use std::sync::Arc;

use super::compare::RowCompare;
use super::tables::Tables;
use super::{Config, Connection, Endpoint};
use crate::{Catalog, End, Fence, Ranged, Reread, Result};

/// `endpoint` of `site` with all abilities. Nothing is opened before it is used.
///
/// # Errors
/// As [`Connection::new`].
pub fn open(config: &Config, site: &str, endpoint: Endpoint) -> Result<End> {
    let connection = Connection::new(config, site, endpoint)?;
    let tables = Arc::new(Tables::new(Arc::clone(&connection.sessions)));
    Ok(End {
        site: site.to_owned(),
        identify: connection.identify,
        catalog: Some(Arc::clone(&tables) as Arc<dyn Catalog>),
        status: Some(connection.status),
        canary_writer: Some(connection.canary_writer),
        canary_reader: Some(connection.canary_reader),
        ranged: Some(Arc::clone(&tables) as Arc<dyn Ranged>),
        scanned: None,
        reread: Some(Arc::clone(&tables) as Arc<dyn Reread>),
        fence: Some(tables as Arc<dyn Fence>),
        compare: Some(Arc::new(RowCompare)),
        meter: None,
    })
}

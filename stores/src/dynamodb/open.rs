//! One copy of a table with all that it can do.

use std::sync::Arc;

use super::canary::SlotWriter;
use super::config::Config;
use super::identity::Identifier;
use super::status::Replicas;
use super::table::Table;
use super::watch::SlotReader;
use crate::aws::{self, Site};
use crate::{CanaryReader, CanaryWriter, End, Identify, Meter, Result, SiteNames, Status, StoreError, Trouble};

/// The copy of the table `names` at `site`. Identity and status are the table's; its canaries are in the table of their own where one is
/// configured. Credentials are looked for now; the table is not asked before it is used.
///
/// # Errors
/// `Config`: the table, or that of the canaries, has no name at this site; no region; a secret that cannot be read.
pub async fn open(config: &Config, names: &SiteNames, site_name: &str, site: &Site) -> Result<End> {
    let sdk = aws::load(site_name, site).await?;
    let meter = Arc::new(Meter::default());
    let named = |names: &SiteNames| -> Result<Arc<Table>> {
        let name = at(names, site_name)?;
        Ok(Arc::new(Table::new(&sdk, site_name, site, name, Arc::clone(&meter))))
    };
    let table = named(names)?;
    let ring = match &config.canary.table {
        None => Arc::clone(&table),
        Some(own) => named(own)?,
    };
    let identify = Arc::new(Identifier::new(Arc::clone(&table)));
    Ok(End {
        status: Some(Arc::new(Replicas::new(table)) as Arc<dyn Status>),
        canary_writer: Some(Arc::new(SlotWriter::new(Arc::clone(&ring))) as Arc<dyn CanaryWriter>),
        canary_reader: Some(Arc::new(SlotReader::new(ring)) as Arc<dyn CanaryReader>),
        meter: Some(meter),
        ..End::new(site_name, identify as Arc<dyn Identify>)
    })
}

/// The name at a site.
pub(crate) fn at<'n>(names: &'n SiteNames, site_name: &str) -> Result<&'n str> {
    names.at(site_name).ok_or_else(|| {
        StoreError::Config(
            Trouble::new(
                site_name,
                format!("open table {}", names.shown(site_name)),
                "the table has no name at this site",
            )
            .hint("add it to `tables` or `canary.table` of the dataset"),
        )
    })
}

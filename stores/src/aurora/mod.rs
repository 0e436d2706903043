//! PostgreSQL, on Aurora or anywhere.
//!
//! Every session pins what results depend on and reads it back; the canaries have sessions of their own, so that a digest never
//! delays them.

mod canary;
mod catalog;
mod catalog_sql;
mod compare;
mod config;
mod copy;
mod copy_form;
mod counter;
mod fault;
mod fence;
mod filter;
mod global;
mod identity;
mod init;
mod key_type;
mod marks;
mod multixact;
mod open;
mod part;
mod pins;
mod poll;
mod quote;
mod ranged;
mod recipe;
mod recount;
mod reread;
mod scanned;
mod send;
mod sent_row;
mod session;
mod shape;
mod slots;
mod split;
mod status;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod tls;
mod url;

use std::sync::Arc;

pub use config::{Auth, CanaryPlace, Config, Endpoint, Endpoints, FenceChoice, Tls};
pub use filter::check_filter;
pub use init::{InitSpec, InitStep, Readable, check_canary, init, init_sql};
pub use open::{open, open_logical, open_subscribed};
pub use url::Url;

use crate::{CanaryReader, CanaryWriter, Identify, Result, Status, StoreError, Trouble};
use canary::{RingReader, RingWriter};
use identity::Identifier;
use pins::Purpose;
use session::{Address, Sessions};
use status::ReplicationStatus;

/// Sessions that read one endpoint's application database at the same time: four that read rows by the chunk, and two so that single
/// rows that are looked at again need not wait behind them.
const SESSIONS_MAX: usize = 6;

/// What concerns the connection itself, of one endpoint of one site. Nothing is opened before it is used.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Which database answers.
    pub identify: Arc<dyn Identify>,
    /// Its replication.
    pub status: Arc<dyn Status>,
    /// Writes canaries, always at the site's writer endpoint.
    pub canary_writer: Arc<dyn CanaryWriter>,
    /// Watches canaries at this endpoint.
    pub canary_reader: Arc<dyn CanaryReader>,
    sessions: Arc<Sessions>,
}

impl Connection {
    /// The connection with `endpoint` of `site`.
    ///
    /// # Errors
    /// `Config` when the site is unknown or TLS is disabled for a host that is not loopback; `Unsupported` for `auth = "iam"`.
    pub fn new(config: &Config, site: &str, endpoint: Endpoint) -> Result<Self> {
        config
            .check()
            .map_err(|reason| StoreError::Config(Trouble::new(site, "read the configuration", reason)))?;
        if config.auth == Auth::Iam {
            return Err(session::iam_unsupported(site, "read the configuration"));
        }
        let sessions = Arc::new(Sessions::new(
            Address {
                site: site.to_owned(),
                url: endpoint_of(config, site, endpoint)?.clone(),
                auth: config.auth.clone(),
                tls: config.tls.clone(),
                purpose: Purpose::Read,
            },
            SESSIONS_MAX,
        )?);
        Ok(Self {
            identify: Arc::new(Identifier::new(Arc::clone(&sessions))),
            status: Arc::new(ReplicationStatus::new(Arc::clone(&sessions))),
            canary_writer: Arc::new(RingWriter::new(canary_address(
                config,
                site,
                Endpoint::Writer,
                Purpose::Write,
            )?)),
            canary_reader: Arc::new(RingReader::new(canary_address(config, site, endpoint, Purpose::Watch)?)),
            sessions,
        })
    }
}

fn endpoint_of<'a>(config: &'a Config, site: &str, endpoint: Endpoint) -> Result<&'a Url> {
    let endpoints = config.sites.get(site).ok_or_else(|| init::unknown_site(config, site))?;
    Ok(endpoints.url(endpoint))
}

fn canary_address(config: &Config, site: &str, endpoint: Endpoint, purpose: Purpose) -> Result<Address> {
    Ok(Address {
        site: site.to_owned(),
        url: endpoint_of(config, site, endpoint)?.with_database(&config.canary.database),
        auth: config.auth.clone(),
        tls: config.tls.clone(),
        purpose,
    })
}

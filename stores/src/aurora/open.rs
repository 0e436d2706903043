//! All that one endpoint of one site can do.

use std::sync::Arc;

use super::compare::RowCompare;
use super::marks::Marks;
use super::slots::Slots;
use super::tables::{Fencing, Tables};
use super::{Config, Connection, Endpoint};
use crate::{Catalog, End, Fence, Ranged, Reread, Result, Scanned, StoreError, Trouble};

/// `endpoint` of `site` with all abilities. Nothing is opened before it is used.
///
/// # Errors
/// As [`Connection::new`].
pub fn open(config: &Config, site: &str, endpoint: Endpoint) -> Result<End> {
    let connection = Connection::new(config, site, endpoint)?;
    let tables = Tables::new(Arc::clone(&connection.sessions), Fencing::Log);
    Ok(end(site, connection, tables, RowCompare::Physical))
}

/// A publisher and its subscriber, by site and endpoint: fences are canaries that the publisher's site writes, read at the subscriber in one
/// statement with the rows.
///
/// # Errors
/// As [`Connection::new`]; `Config` when canaries do not live in the application's database, whose publication has to carry them.
pub fn open_logical(config: &Config, publisher: (&str, Endpoint), subscriber: (&str, Endpoint)) -> Result<[End; 2]> {
    for (site, endpoint) in [publisher, subscriber] {
        let application = super::endpoint_of(config, site, endpoint)?.database();
        if application != config.canary.database {
            return Err(StoreError::Config(
                Trouble::new(
                    site,
                    "open logical copies",
                    format!(
                        "canaries live in database {}, and a publication carries those of {application} alone",
                        config.canary.database
                    ),
                )
                .hint(format!(
                    "set canary = {{ database = \"{application}\" }} and run `driftline init` at both sites"
                )),
            ));
        }
    }
    let from = Connection::new(config, publisher.0, publisher.1)?;
    let to = Connection::new(config, subscriber.0, subscriber.1)?;
    let marks = Arc::new(Marks::new(Arc::clone(&from.canary_writer)));
    let publishes = Tables::new(Arc::clone(&from.sessions), Fencing::Publisher(Arc::clone(&marks)));
    let subscribes = Tables::new(Arc::clone(&to.sessions), Fencing::Subscriber(marks));
    Ok([
        end(publisher.0, from, publishes, RowCompare::Logical),
        end(subscriber.0, to, subscribes, RowCompare::Logical),
    ])
}

/// A publisher and its subscriber, by site, whose publication carries no canary: how far the subscriber is, the publisher's slots tell. It is read
/// where it applies, at its writer endpoint.
///
/// # Errors
/// As [`Connection::new`].
pub fn open_subscribed(config: &Config, publisher: &str, subscriber: &str) -> Result<[End; 2]> {
    let from = Connection::new(config, publisher, Endpoint::Writer)?;
    let to = Connection::new(config, subscriber, Endpoint::Writer)?;
    let slots = Arc::new(Slots::new(Arc::clone(&from.sessions)));
    let publishes = Tables::new(Arc::clone(&from.sessions), Fencing::Log);
    let subscribes = Tables::new(Arc::clone(&to.sessions), Fencing::Slots(slots));
    Ok([
        end(publisher, from, publishes, RowCompare::Logical),
        end(subscriber, to, subscribes, RowCompare::Logical),
    ])
}

fn end(site: &str, connection: Connection, tables: Tables, compare: RowCompare) -> End {
    let tables = Arc::new(tables);
    End {
        catalog: Some(Arc::clone(&tables) as Arc<dyn Catalog>),
        status: Some(connection.status),
        canary_writer: Some(connection.canary_writer),
        canary_reader: Some(connection.canary_reader),
        ranged: Some(Arc::clone(&tables) as Arc<dyn Ranged>),
        scanned: Some(Arc::clone(&tables) as Arc<dyn Scanned>),
        reread: Some(Arc::clone(&tables) as Arc<dyn Reread>),
        fence: Some(tables as Arc<dyn Fence>),
        compare: Some(Arc::new(compare)),
        ..End::new(site, connection.identify)
    }
}

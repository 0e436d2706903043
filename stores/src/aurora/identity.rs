//! Which server and which database answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Client;

use super::session::Sessions;
use crate::{Identify, Identity, Result, Role, StoreError, Trouble};

/// One row, readable by any role. Times as whole microseconds.
const WHO: &str = "\
select (select system_identifier from pg_catalog.pg_control_system())::pg_catalog.text,
       (extract(epoch from pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8,
       pg_catalog.inet_server_port(),
       pg_catalog.host(pg_catalog.inet_server_addr()),
       pg_catalog.current_database()::pg_catalog.text,
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('server_version'),
       exists (select from pg_catalog.pg_proc where proname = 'aurora_version')";

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) role: Role,
    system_identifier: String,
    started_us: i64,
    port: Option<i32>,
    address: Option<String>,
    database: String,
    version: String,
    pub(crate) is_aurora: bool,
}

impl Who {
    pub(crate) async fn ask(client: &Client) -> std::result::Result<Self, tokio_postgres::Error> {
        let row = client.query_typed_one(WHO, &[]).await?;
        Ok(Self {
            system_identifier: row.try_get(0)?,
            started_us: row.try_get(1)?,
            port: row.try_get(2)?,
            address: row.try_get(3)?,
            database: row.try_get(4)?,
            role: if row.try_get(5)? {
                Role::ReadOnly
            } else {
                Role::Writable
            },
            version: row.try_get(6)?,
            is_aurora: row.try_get(7)?,
        })
    }

    /// Names the database of this server in this life. Neither the address is part of it (one server answers on several, and two of
    /// them must not look like two copies) nor the role (a promotion does not make other data).
    ///
    /// The system identifier alone is equal on a physical pair; the postmaster's start in microseconds tells its members apart.
    pub(crate) fn instance(&self) -> String {
        format!(
            "{}/{}/{}/{}",
            self.system_identifier,
            self.started_us,
            self.port.unwrap_or_default(),
            self.database
        )
    }

    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::from([
            ("database".to_owned(), self.database.clone()),
            (
                "aurora".to_owned(),
                if self.is_aurora { "yes" } else { "no" }.to_owned(),
            ),
            ("system_identifier".to_owned(), self.system_identifier.clone()),
            ("started_us".to_owned(), self.started_us.to_string()),
        ]);
        if let Some(address) = &self.address {
            facts.insert("address".to_owned(), address.clone());
        }
        if let Some(port) = self.port {
            facts.insert("port".to_owned(), port.to_string());
        }
        facts
    }
}

/// Identity of the database behind one endpoint.
#[derive(Debug)]
pub(crate) struct Identifier {
    sessions: Arc<Sessions>,
}

impl Identifier {
    pub(crate) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }
}

#[async_trait]
impl Identify for Identifier {
    async fn identity(&self) -> Result<Identity> {
        let lease = self.sessions.lease().await?;
        let members = members_of(lease.who(), &self.sessions, &lease).await?;
        Ok(identity_of(lease.who(), members))
    }
}

/// The identity that `who` amounts to.
pub(crate) fn identity_of(who: &Who, shares_storage_with: Vec<String>) -> Identity {
    Identity {
        store: "aurora".to_owned(),
        version: who.version.clone(),
        role: who.role,
        lineage: Some(who.system_identifier.clone()),
        instance: who.instance(),
        shares_storage_with,
        facts: who.facts(),
    }
}

/// Who shares storage with `who`: nobody, unless it is Aurora.
pub(crate) async fn members_of(who: &Who, sessions: &Sessions, client: &Client) -> Result<Vec<String>> {
    if who.is_aurora {
        aurora_members(sessions, client).await
    } else {
        Ok(Vec::new())
    }
}

/// The instances of an Aurora cluster share one storage volume: two of them are the same data. Without the list nothing can be
/// said, and then nothing is compared. The database is part of each name, for two databases of one cluster are different data.
///
/// Not tried against Aurora yet; the function and its `server_id` column are as AWS documents them.
async fn aurora_members(sessions: &Sessions, client: &Client) -> Result<Vec<String>> {
    const MEMBERS: &str = "select server_id::pg_catalog.text || '/' || pg_catalog.current_database()::pg_catalog.text \
                           from pg_catalog.aurora_replica_status()";
    let cannot_tell = |cause: String| {
        StoreError::Config(
            Trouble::new(
                sessions.site(),
                "list the instances that share storage (aurora_replica_status)",
                format!("cannot tell whether the two ends are the same data: {cause}"),
            )
            .hint("let this role execute aurora_replica_status()"),
        )
    };
    let rows = client.query_typed(MEMBERS, &[]).await.map_err(|error| {
        match sessions.trouble("list the instances that share storage", error) {
            passing if passing.is_passing() => passing,
            other => cannot_tell(other.trouble().cause.clone()),
        }
    })?;
    let members: Vec<String> = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| sessions.trouble("list the instances that share storage", error))?;
    if members.is_empty() {
        return Err(cannot_tell("the list is empty".to_owned()));
    }
    Ok(members)
}

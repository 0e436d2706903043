//! What driftline needs at a server before it can work, and nothing more.

use std::fmt::Write as _;

use super::config::{Auth, Config, Endpoint, Tls};
use super::pins::Purpose;
use super::session::Address;
use super::url::Url;
use super::{endpoint_of, fault};
use crate::{Result, StoreError, Trouble};

/// The role, databases and tables of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitSpec {
    /// The role that driftline logs in as.
    pub role: String,
    /// The application's database.
    pub application_database: String,
    /// The canaries' database. The same as the application's only where replication is by database (logical copies).
    pub canary_database: String,
    /// What driftline shall be able to compare.
    pub readable: Vec<Readable>,
}

/// Tables that driftline shall read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// One table.
    Table {
        /// Its schema, unquoted.
        schema: String,
        /// Its name, unquoted.
        table: String,
    },
    /// All tables that a schema holds now. Later ones need the grant again.
    AllIn {
        /// The schema, unquoted.
        schema: String,
    },
}

/// One piece of SQL, for one database. Running it again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitStep {
    /// The database in which it runs; `None`: any, since it concerns the whole cluster.
    pub database: Option<String>,
    /// What it is for, in one sentence.
    pub why: String,
    /// A query that returns a row when there is nothing left to do; for statements that cannot say `if not exists` themselves.
    pub unless: Option<String>,
    /// The statements.
    pub sql: String,
}

impl InitSpec {
    /// What `config` needs at `site`, to read `readable`.
    ///
    /// # Errors
    /// `Config` when `site` is not one of the connection's.
    pub fn of(config: &Config, site: &str, readable: Vec<Readable>) -> Result<Self> {
        let url = endpoint_of(config, site, Endpoint::Writer)?;
        Ok(Self {
            role: url.user().to_owned(),
            application_database: url.database().to_owned(),
            canary_database: config.canary.database.clone(),
            readable,
        })
    }

    /// The steps, in order. They run at the writer alone: a physical copy gets all of it by replication.
    pub fn steps(&self) -> Vec<InitStep> {
        let mut steps = vec![self.make_role()];
        if self.canary_database != self.application_database {
            steps.push(self.make_database());
            steps.push(self.close_database());
        }
        steps.push(self.make_ring());
        steps.push(self.grant_reading());
        steps
    }

    fn make_role(&self) -> InitStep {
        let role = identifier(&self.role);
        InitStep {
            database: None,
            why: format!(
                "The role that driftline logs in as. It is given no password here: set one with \\password {role} in psql. \
                 GRANT pg_monitor TO {role} is optional; it shows driftline the store's own lag figures and the age of open transactions."
            ),
            unless: Some(format!(
                "select 1 from pg_catalog.pg_roles where rolname = {}",
                literal(&self.role)
            )),
            sql: format!(
                "create role {role} login nosuperuser nocreatedb nocreaterole noreplication connection limit {CONNECTIONS_MAX};"
            ),
        }
    }

    fn make_database(&self) -> InitStep {
        InitStep {
            database: None,
            why: "The canaries' own database. In the application's they would make recovery conflicts with queries on a standby.".to_owned(),
            unless: Some(format!(
                "select 1 from pg_catalog.pg_database where datname = {}",
                literal(&self.canary_database)
            )),
            sql: format!("create database {} connection limit {CONNECTIONS_MAX};", identifier(&self.canary_database)),
        }
    }

    fn close_database(&self) -> InitStep {
        let (database, role) = (identifier(&self.canary_database), identifier(&self.role));
        InitStep {
            database: Some(self.canary_database.clone()),
            why: "Nobody else has any business there.".to_owned(),
            unless: None,
            sql: format!(
                "revoke all on database {database} from public;\n\
                 revoke all on schema public from public;\n\
                 grant connect on database {database} to {role};"
            ),
        }
    }

    fn make_ring(&self) -> InitStep {
        let role = identifier(&self.role);
        InitStep {
            database: Some(self.canary_database.clone()),
            why: "The canary ring: a few rows, updated in place. The role may read and write it, and not delete, truncate or alter it.".to_owned(),
            unless: None,
            sql: format!(
                "create schema if not exists driftline;\n\
                 create table if not exists driftline.canary (\n    \
                     stream text collate \"C\" not null,\n    \
                     slot integer not null,\n    \
                     epoch text collate \"C\" not null,\n    \
                     seq bigint not null,\n    \
                     written_at timestamptz not null,\n    \
                     primary key (stream, slot)\n\
                 ) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);\n\
                 grant usage on schema driftline to {role};\n\
                 grant select, insert, update on driftline.canary to {role};"
            ),
        }
    }

    fn grant_reading(&self) -> InitStep {
        let role = identifier(&self.role);
        let mut sql = format!(
            "grant connect on database {} to {role};",
            identifier(&self.application_database)
        );
        let mut schemas: Vec<&str> = self
            .readable
            .iter()
            .map(|readable| match readable {
                Readable::Table { schema, .. } | Readable::AllIn { schema } => schema.as_str(),
            })
            .collect();
        schemas.sort_unstable();
        schemas.dedup();
        for schema in schemas {
            let _ = write!(sql, "\ngrant usage on schema {} to {role};", identifier(schema));
        }
        for readable in &self.readable {
            let _ = match readable {
                Readable::Table { schema, table } => {
                    write!(
                        sql,
                        "\ngrant select on table {}.{} to {role};",
                        identifier(schema),
                        identifier(table)
                    )
                }
                Readable::AllIn { schema } => {
                    write!(
                        sql,
                        "\ngrant select on all tables in schema {schema} to {role};\
                         \ngrant select on all sequences in schema {schema} to {role};",
                        schema = identifier(schema)
                    )
                }
            };
        }
        InitStep {
            database: Some(self.application_database.clone()),
            why: "Reading what is to be compared. Tables with row-level security also need BYPASSRLS on the role, or stay unverified."
                .to_owned(),
            unless: None,
            sql,
        }
    }
}

/// Two ends of probe, check and reconcile at once stay well below it; a fault that leaves connections behind stops here.
const CONNECTIONS_MAX: u32 = 32;

/// All steps as one psql script, each with its reason.
pub fn init_sql(spec: &InitSpec) -> String {
    let mut script = String::from(
        "-- Run with psql as a role that may create roles and databases, at the writer alone. Running it again changes nothing.\n\
         \\set ON_ERROR_STOP on\n",
    );
    let mut connected: Option<String> = None;
    for step in spec.steps() {
        if step.database.is_some() && step.database != connected {
            if let Some(database) = &step.database {
                let _ = write!(script, "\n\\connect {}\n", identifier(database));
            }
            connected.clone_from(&step.database);
        }
        let _ = write!(script, "\n-- {}\n", step.why);
        let _ = match &step.unless {
            None => writeln!(script, "{}", step.sql),
            Some(unless) => writeln!(
                script,
                "select {} where not exists ({unless}) \\gexec",
                literal(step.sql.trim_end_matches(';'))
            ),
        };
    }
    script
}

/// Applies the steps with the rights of `admin`, whose URL names any database of the writer's server.
///
/// # Errors
/// What the server refused, with the step that was tried; the steps before it stay done, and running again goes on.
pub async fn init(site: &str, admin: &Url, auth: &Auth, tls: &Tls, spec: &InitSpec) -> Result<()> {
    for step in spec.steps() {
        let url = step
            .database
            .as_ref()
            .map_or_else(|| admin.clone(), |database| admin.with_database(database));
        let address = Address {
            site: site.to_owned(),
            url,
            auth: auth.clone(),
            tls: tls.clone(),
            purpose: Purpose::Administer,
        };
        let tried = format!("init: {}", step.sql.lines().next().unwrap_or_default());
        let session = address.open().await?;
        let trouble = |error: tokio_postgres::Error| fault::in_session(site, &tried, &error);
        if let Some(unless) = &step.unless
            && !session
                .client()
                .query(unless.as_str(), &[])
                .await
                .map_err(trouble)?
                .is_empty()
        {
            continue;
        }
        session.client().batch_execute(&step.sql).await.map_err(trouble)?;
    }
    Ok(())
}

/// What is not as the canaries need it at one endpoint, in words; empty when all is. Changes nothing.
///
/// # Errors
/// What connecting to the canaries' database met.
pub async fn check_canary(config: &Config, site: &str, endpoint: Endpoint) -> Result<Vec<String>> {
    const TRIED: &str = "look at the canary table";
    const TABLE: &str = "\
        select c.oid is not null,
               coalesce(pg_catalog.has_schema_privilege(n.oid, 'usage'), false),
               coalesce(pg_catalog.has_table_privilege(c.oid, 'select'), false),
               coalesce(pg_catalog.has_table_privilege(c.oid, 'insert')
                        and pg_catalog.has_table_privilege(c.oid, 'update'), false),
               (select pg_catalog.string_agg(attname || ' ' || pg_catalog.format_type(atttypid, atttypmod), ', ' order by attnum)
                from pg_catalog.pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped),
               (select pg_catalog.pg_get_constraintdef(k.oid) from pg_catalog.pg_constraint as k
                where k.conrelid = c.oid and k.contype = 'p')
        from (values (1)) as one
        left join pg_catalog.pg_namespace as n on n.nspname = 'driftline'
        left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = 'canary' and c.relkind = 'r'";
    const COLUMNS: &str = "stream text, slot integer, epoch text, seq bigint, written_at timestamp with time zone";
    const KEY: &str = "PRIMARY KEY (stream, slot)";
    let address = super::canary_address(config, site, endpoint, Purpose::Watch)?;
    let session = address.open().await?;
    let trouble = |error: tokio_postgres::Error| fault::in_session(site, TRIED, &error);
    let row = session.client().query_one(TABLE, &[]).await.map_err(trouble)?;
    let holds = |column: usize| row.try_get::<_, bool>(column).map_err(trouble);
    let text = |column: usize| row.try_get::<_, Option<String>>(column).map_err(trouble);
    if !holds(0)? {
        return Ok(vec![
            "the table driftline.canary is not there; run `driftline init`".to_owned(),
        ]);
    }
    let mut problems = Vec::new();
    if !holds(1)? || !holds(2)? {
        problems.push("this role may not read driftline.canary".to_owned());
    }
    if !holds(3)? {
        problems.push("this role may not insert and update in driftline.canary".to_owned());
    }
    let columns = text(4)?.unwrap_or_default();
    if columns != COLUMNS {
        problems.push(format!(
            "driftline.canary has the columns ({columns}) and not ({COLUMNS})"
        ));
    }
    if text(5)?.as_deref() != Some(KEY) {
        problems.push(format!("driftline.canary lacks its {KEY}"));
    }
    Ok(problems)
}

/// A quoted identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted literal; a backslash is plain, as `standard_conforming_strings` pins it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The site that is not configured.
pub(crate) fn unknown_site(config: &Config, site: &str) -> StoreError {
    let known: Vec<&str> = config.sites.keys().map(String::as_str).collect();
    StoreError::Config(
        Trouble::new(site, "find its endpoints", "this connection has no such site")
            .hint(format!("it has {}", known.join(", "))),
    )
}

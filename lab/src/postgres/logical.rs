//! Two servers of which one applies what the other publishes, also of two versions.

use std::time::Duration;

use super::options::PgOptions;
use super::server::{PgServer, quote};
use crate::LabError;

/// Name of the publication and of the subscription.
const LINK: &str = "lab";
/// Time for the tables to be copied when the link is made.
const COPY_PATIENCE: Duration = Duration::from_secs(60);

/// A publisher and a subscriber, each a server of its own. Dropping the pair stops both.
#[derive(Debug)]
pub struct LogicalPair {
    subscriber: PgServer,
    publisher: PgServer,
    database: String,
}

impl LogicalPair {
    /// Starts two servers with `database` in each; nothing links them before [`link`](Self::link).
    ///
    /// # Errors
    /// Programs or account missing, folder not usable, or a server did not start.
    pub async fn start(database: &str, publisher: Option<u16>, subscriber: Option<u16>) -> Result<Self, LabError> {
        let options = |version| PgOptions {
            version,
            settings: vec![("wal_level".to_owned(), "logical".to_owned())],
            ..PgOptions::with_database(database)
        };
        let (publisher, subscriber) = tokio::try_join!(
            PgServer::start_named("publisher", options(publisher)),
            PgServer::start_named("subscriber", options(subscriber)),
        )?;
        Ok(Self {
            subscriber,
            publisher,
            database: database.to_owned(),
        })
    }

    /// The server that publishes.
    pub fn publisher(&self) -> &PgServer {
        &self.publisher
    }

    /// The server that subscribes.
    pub fn subscriber(&self) -> &PgServer {
        &self.subscriber
    }

    /// Runs the same statements at both: a schema is not replicated.
    ///
    /// # Errors
    /// The server's.
    pub async fn execute_at_both(&self, sql: &str) -> Result<(), LabError> {
        tokio::try_join!(
            self.publisher.execute(&self.database, sql),
            self.subscriber.execute(&self.database, sql)
        )?;
        Ok(())
    }

    /// Publishes `what`, as in `all tables` or `table a, b`, and subscribes to it; the tables are copied when this returns.
    ///
    /// # Errors
    /// A server's, or the copy takes too long.
    pub async fn link(&self, what: &str) -> Result<(), LabError> {
        let publish = format!("create publication {LINK} for {what}");
        self.publisher.execute(&self.database, &publish).await?;
        let (port, password) = (self.publisher.port(), self.publisher.password());
        let subscribe = format!(
            "create subscription {LINK} connection 'host=127.0.0.1 port={port} dbname={} user=postgres password={password}' \
             publication {LINK}",
            quote(&self.database).replace('"', "")
        );
        self.subscriber.execute(&self.database, &subscribe).await?;
        self.wait_copied().await
    }

    /// Takes what the publication holds by now, and waits until it is copied.
    ///
    /// # Errors
    /// A server's, or the copy takes too long.
    pub async fn refresh(&self) -> Result<(), LabError> {
        let refresh = format!("alter subscription {LINK} refresh publication");
        self.subscriber.execute(&self.database, &refresh).await?;
        self.wait_copied().await
    }

    async fn wait_copied(&self) -> Result<(), LabError> {
        let copied = "select not exists (select from pg_subscription_rel where srsubstate <> 'r')";
        self.subscriber
            .wait_for(&self.database, copied, "the first copy of the tables", COPY_PATIENCE)
            .await
    }

    /// Waits until the subscriber has applied everything that the publisher had committed when this was called.
    ///
    /// # Errors
    /// It takes longer than `patience`, or a server does not answer.
    pub async fn wait_applied(&self, patience: Duration) -> Result<(), LabError> {
        let database = &self.database;
        let end = self.publisher.value(database, "select pg_current_wal_lsn()").await?;
        let position = end.unwrap_or_default();
        // The publisher keeps what a subscriber has not confirmed, so this is the subscriber's word.
        let applied = format!(
            "select exists (select from pg_replication_slots where slot_name = '{LINK}' \
             and confirmed_flush_lsn >= '{position}'::pg_lsn)"
        );
        self.publisher
            .wait_for(database, &applied, &format!("application up to {position}"), patience)
            .await
    }

    /// Stops the application of changes, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// The subscriber's.
    pub async fn pause(&self) -> Result<(), LabError> {
        let disable = format!("alter subscription {LINK} disable");
        self.subscriber.execute(&self.database, &disable).await?;
        // The worker ends by itself, a moment later.
        let gone = format!(
            "select not exists (select from pg_stat_subscription where subname = '{LINK}' and pid is not null)"
        );
        self.subscriber
            .wait_for(
                &self.database,
                &gone,
                "the end of the subscription's worker",
                COPY_PATIENCE,
            )
            .await
    }

    /// Lets changes be applied again.
    ///
    /// # Errors
    /// The subscriber's.
    pub async fn resume(&self) -> Result<(), LabError> {
        let enable = format!("alter subscription {LINK} enable");
        self.subscriber.execute(&self.database, &enable).await
    }

    /// Stops both and removes their labs, without blocking the runtime. Dropping does the same, blocking.
    pub async fn shutdown(self) {
        tokio::join!(self.subscriber.shutdown(), self.publisher.shutdown());
    }
}

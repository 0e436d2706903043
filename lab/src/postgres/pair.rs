//! A primary and a streaming standby, and what can happen to them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::options::{PgOptions, Tls};
use super::postmaster::Stop;
use super::programs;
use super::server::{PgServer, Server, blocking};
use super::synchronous::Second;
use crate::LabError;
use crate::proxy::{Network, Proxy};

const REPLICATION_ROLE: &str = "lab_replication";
/// Time for a standby to stream after its start.
const STREAMING_PATIENCE: Duration = Duration::from_secs(30);
/// Time for a standby to be promoted.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(60);

/// A primary and a physical standby that streams from it through a relay of the lab's own.
///
/// [`primary`](Self::primary) and [`standby`](Self::standby) keep naming the same servers after a promotion. Dropping the
/// pair stops both and removes the lab.
#[derive(Debug)]
pub struct PgPair {
    second: Second,
    standby: PgServer,
    primary: PgServer,
    link: Proxy,
    network: Network,
}

impl PgPair {
    /// Starts a pair; the standby streams when this returns.
    ///
    /// # Errors
    /// Programs or account missing, folder not usable, or a server did not start.
    pub async fn start(options: PgOptions) -> Result<Self, LabError> {
        let primary = PgServer::start_named("primary", options).await?;
        let role = format!(
            "create role {REPLICATION_ROLE} login replication password '{}'",
            primary.password()
        );
        primary.execute("postgres", &role).await?;
        create_slot(&primary, "standby").await?;
        let network = Network::start().map_err(relay_error(&primary))?;
        let link = network.relay_to(primary.port()).map_err(relay_error(&primary))?;
        let standby = copy_of(&primary, "standby", link.port()).await?;
        Ok(Self {
            second: Second::default(),
            standby,
            primary,
            link,
            network,
        })
    }

    /// The server that was started as primary.
    pub fn primary(&self) -> &PgServer {
        &self.primary
    }

    /// The server that was started as standby.
    pub fn standby(&self) -> &PgServer {
        &self.standby
    }

    pub(crate) fn second(&self) -> &Second {
        &self.second
    }

    /// Waits until the standby has replayed everything that the primary had committed when this was called.
    ///
    /// # Errors
    /// It takes longer than `patience`, or a server does not answer.
    pub async fn wait_replayed(&self, patience: Duration) -> Result<(), LabError> {
        // A commit of its own: the place behind it is one that replay reaches also when nobody writes any more, which is
        // not so for the insert position of an idle primary.
        self.primary.execute("postgres", "select pg_current_xact_id()").await?;
        let flushed = self
            .primary
            .value("postgres", "select pg_current_wal_flush_lsn()")
            .await?;
        let position = flushed.unwrap_or_default();
        let replayed = format!("select pg_last_wal_replay_lsn() >= '{position}'::pg_lsn");
        self.standby
            .wait_for("postgres", &replayed, &format!("replay up to {position}"), patience)
            .await
    }

    /// Cuts replication, connections that stand included, until [`restore`](Self::restore).
    pub fn cut(&self) {
        self.link.cut();
    }

    /// Lets the replication connection stand but passes nothing on, as a lost route does, until
    /// [`restore`](Self::restore).
    pub fn silence(&self) {
        self.link.silence();
    }

    /// Lets replication through again; the standby is back within about a second.
    pub fn restore(&self) {
        self.link.restore();
    }

    /// A relay for clients of `server`, which can be cut. It ends when it is dropped, and with the pair.
    ///
    /// # Errors
    /// No port is free.
    pub fn proxy_to(&self, server: &PgServer) -> Result<Proxy, LabError> {
        self.network.relay_to(server.port()).map_err(relay_error(server))
    }

    /// Makes the standby hold every transaction back until `delay` after its commit. Zero ends that.
    ///
    /// # Errors
    /// The standby does not answer.
    pub async fn set_replay_delay(&self, delay: Duration) -> Result<(), LabError> {
        let change = format!("set recovery_min_apply_delay = '{}ms'", delay.as_millis());
        self.standby.alter_system(&change).await?;
        // A session that is open sees a reload at its next statement: wait until the server has it.
        let seen = format!(
            "select setting::bigint = {} from pg_settings where name = 'recovery_min_apply_delay'",
            delay.as_millis()
        );
        self.standby
            .wait_for("postgres", &seen, "the new replay delay", STREAMING_PATIENCE)
            .await
    }

    /// Stops replay on the standby; it goes on receiving.
    ///
    /// # Errors
    /// The standby does not answer, or is no standby any more.
    pub async fn pause_replay(&self) -> Result<(), LabError> {
        self.standby.execute("postgres", "select pg_wal_replay_pause()").await?;
        let paused = "select pg_get_wal_replay_pause_state() = 'paused'";
        self.standby
            .wait_for("postgres", paused, "the pause of replay", STREAMING_PATIENCE)
            .await
    }

    /// Lets replay go on.
    ///
    /// # Errors
    /// The standby does not answer, or is no standby any more.
    pub async fn resume_replay(&self) -> Result<(), LabError> {
        self.standby.execute("postgres", "select pg_wal_replay_resume()").await
    }

    /// Makes the standby a primary; it takes writes when this returns. The old primary keeps running, and is from now on
    /// an independent server with the history up to here.
    ///
    /// # Errors
    /// The standby does not answer, or is no standby any more.
    pub async fn promote(&self) -> Result<(), LabError> {
        let sql = format!("select pg_promote(true, {})", PROMOTION_PATIENCE.as_secs());
        let promoted = self.standby.value("postgres", &sql).await?;
        if promoted.as_deref() != Some("t") {
            return Err(self
                .standby
                .state_error("pg_promote() gave up; see the log of the standby"));
        }
        self.standby
            .wait_for(
                "postgres",
                "select not pg_is_in_recovery()",
                "promotion",
                PROMOTION_PATIENCE,
            )
            .await
    }

    /// Brings the old primary back after a promotion: starts it if it was stopped, frees it from waiting for a synchronous
    /// standby, and drops the replication slots that nobody uses. It is an independent server then, and takes writes.
    ///
    /// # Errors
    /// The standby was not promoted, or the old primary does not start.
    pub async fn return_old_primary(&self) -> Result<(), LabError> {
        let promoted = self.standby.value("postgres", "select not pg_is_in_recovery()").await?;
        if promoted.as_deref() != Some("t") {
            return Err(self.standby.state_error("it is still a standby; call promote() first"));
        }
        self.primary.start_again().await?;
        self.primary.alter_system("reset synchronous_standby_names").await?;
        let drop_slots = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active";
        self.primary.execute("postgres", drop_slots).await?;
        self.primary
            .wait_for(
                "postgres",
                "select setting = '' from pg_settings where name = 'synchronous_standby_names'",
                "the end of waiting for standbys",
                STREAMING_PATIENCE,
            )
            .await
    }

    /// Makes the old primary anew, as a standby of the one that was promoted: what a person does before a failback. The old one is stopped; the
    /// new one is another server on another port, and streams when this returns.
    ///
    /// # Errors
    /// The standby was not promoted, or the new one does not start.
    pub async fn rebuild_old_primary(&self) -> Result<PgServer, LabError> {
        self.primary.stop().await?;
        create_slot(&self.standby, "rebuilt").await?;
        copy_of(&self.standby, "rebuilt", self.standby.port()).await
    }

    /// Stops all servers and removes the lab, without blocking the runtime. Dropping does the same, blocking.
    pub async fn shutdown(self) {
        // It cannot fail: what could not be removed is logged and left to the next start.
        let _removed = blocking(move || {
            drop(self);
            Ok(())
        })
        .await;
    }
}

fn relay_error(server: &PgServer) -> impl FnOnce(std::io::Error) -> LabError {
    let name = server.name().to_owned();
    move |error| LabError::State {
        server: name,
        problem: format!("no relay could be started before it: {error}"),
    }
}

/// The slot that a standby of the same name streams through; it keeps the WAL while the standby is away.
pub(crate) async fn create_slot(primary: &PgServer, name: &str) -> Result<(), LabError> {
    let sql = format!("select pg_create_physical_replication_slot('{name}', true)");
    primary.execute("postgres", &sql).await
}

/// A standby of `primary` that reaches it over `port`, through the replication slot of its own name.
pub(crate) async fn copy_of(primary: &PgServer, name: &'static str, port: u16) -> Result<PgServer, LabError> {
    let source = primary.inner();
    let standby = blocking(move || {
        let standby = PgServer::in_site(name, Arc::clone(&source.site));
        base_backup(&source, &standby.inner(), name, port)?;
        standby.inner().first_start()?;
        Ok(standby)
    })
    .await?;
    let streaming =
        format!("select true from pg_stat_replication where application_name = '{name}' and state = 'streaming'");
    primary
        .wait_for("postgres", &streaming, "streaming to the standby", STREAMING_PATIENCE)
        .await?;
    Ok(standby)
}

fn base_backup(source: &Server, standby: &Server, name: &str, port: u16) -> Result<(), LabError> {
    let site = &source.site;
    // In a file of the account's, because anybody can read a command line.
    let password_file = site.folder.path().join("replication");
    let line = format!("*:*:*:*:{}\n", site.password);
    site.folder.write_file(&password_file, line.as_bytes())?;
    let security = match site.options.tls {
        Tls::Available => "sslmode=disable".to_owned(),
        Tls::Required => format!("sslmode=verify-full sslrootcert='{}'", site.ca_file().display()),
    };
    let connection = format!(
        "host=127.0.0.1 port={port} user={REPLICATION_ROLE} application_name={name} passfile='{}' {security}",
        password_file.display()
    );
    if !site.programs.can_copy_online() {
        return cold_copy(source, standby, name, &connection);
    }
    let mut command = site.program("pg_basebackup");
    command
        .arg("-D")
        .arg(standby.data_dir())
        .args(["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream"])
        .args(["--no-sync", "--no-manifest", "--slot", name, "--dbname", &connection]);
    programs::run(command, site.folder.path())
}

/// Copies the files of the server while it is stopped; the copy goes on from there as a standby.
fn cold_copy(source: &Server, standby: &Server, name: &str, connection: &str) -> Result<(), LabError> {
    let site = &source.site;
    source.stop(Stop::Fast);
    let mut copy = site.folder.account().command(Path::new("/bin/cp"), site.folder.path());
    copy.arg("-a").arg(source.data_dir()).arg(standby.data_dir());
    let copied = programs::run(copy, site.folder.path());
    source.start_again()?;
    copied?;
    // Slots are the source's alone.
    let slots = standby.data_dir().join("pg_replslot");
    for slot in std::fs::read_dir(&slots).map_err(LabError::folder("list", &slots))? {
        let slot = slot.map_err(LabError::folder("list", &slots))?.path();
        std::fs::remove_dir_all(&slot).map_err(LabError::folder("remove", &slot))?;
    }
    let settings = standby.data_dir().join("postgresql.auto.conf");
    let mut text = std::fs::read_to_string(&settings).map_err(LabError::folder("read", &settings))?;
    text.push_str(&format!(
        "primary_conninfo = '{}'\nprimary_slot_name = '{name}'\n",
        connection.replace('\'', "''")
    ));
    site.folder.write_file(&settings, text.as_bytes())?;
    site.folder.write_file(&standby.data_dir().join("standby.signal"), b"")
}

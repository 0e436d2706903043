//! Sessions with one endpoint of one site: opened, pinned, identified, lent out, and thrown away when in doubt.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};

use super::config::{Auth, Tls};
use super::fault;
use super::identity::Who;
use super::pins::{PinFault, Pins, Purpose, forwards_writes, pinned};
use super::tls;
use super::url::Url;
use crate::{Result, StoreError, Trouble};

/// Opening a connection, from the name look-up to the last setting read back.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Verifying an idle session before it is lent again. One that does not answer is still busy with what its last user gave up.
const VERIFY_PATIENCE: Duration = Duration::from_secs(3);
/// Asking a server to stop what an abandoned session still runs.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);
/// Waiting for a session while all are lent.
const LEASE_PATIENCE: Duration = Duration::from_secs(60);
/// A dead peer is noticed in about this time, whether we wait for an answer or have something unsent.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;
const UNSENT_MAX: Duration = Duration::from_secs(15);

/// Where sessions lead, as whom, and what they are for.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) site: String,
    pub(crate) url: Url,
    pub(crate) auth: Auth,
    pub(crate) tls: Tls,
    pub(crate) purpose: Purpose,
}

/// One connection, pinned and identified.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    pins: Pins,
    who: Who,
    _driver: Driver,
    tls: Tls,
}

/// Ends the connection's task with its session: nothing may go on reading for nobody.
#[derive(Debug)]
struct Driver(tokio::task::AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Address {
    /// Opens a session, within [`CONNECT_PATIENCE`].
    pub(crate) async fn open(&self) -> Result<Session> {
        let tried = format!("connect to {}", self.url);
        match timeout(CONNECT_PATIENCE, self.open_patiently(&tried)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unreachable(
                Trouble::new(
                    &self.site,
                    tried,
                    format!("no session within {} s", CONNECT_PATIENCE.as_secs()),
                )
                .hint("check host, port, firewall and that the server runs"),
            )),
        }
    }

    async fn open_patiently(&self, tried: &str) -> Result<Session> {
        let (client, driver) = self.connect(tried).await?;
        // Both go out at once: to another region, each answer takes a while.
        let (who, forwards_writes) = futures::try_join!(Who::ask(&client), forwards_writes(&client))
            .map_err(|error| fault::in_session(&self.site, tried, &error))?;
        let pins = pinned(
            Pins::apply(&client, self.purpose, who.role, forwards_writes).await,
            &self.site,
            tried,
        )?;
        Ok(Session {
            client,
            pins,
            who,
            _driver: driver,
            tls: self.tls.clone(),
        })
    }

    /// A bare connection.
    async fn connect(&self, tried: &str) -> Result<(Client, Driver)> {
        let config = self.driver_config(tried)?;
        let refused = |error: tokio_postgres::Error| fault::connecting(&self.site, tried, &error);
        let connector = tls::connector(&self.site, &self.tls)?;
        let (client, task) = match connector {
            Some(connector) => {
                let (client, connection) = config.connect(connector).await.map_err(refused)?;
                (client, tokio::spawn(drive(connection, self.site.clone())))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
                (client, tokio::spawn(drive(connection, self.site.clone())))
            }
        };
        Ok((client, Driver(task.abort_handle())))
    }

    fn driver_config(&self, tried: &str) -> Result<tokio_postgres::Config> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.url.host())
            .port(self.url.port())
            .user(self.url.user())
            .dbname(self.url.database())
            .application_name("driftline")
            .connect_timeout(CONNECT_PATIENCE)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(UNSENT_MAX)
            .ssl_mode(match self.tls {
                Tls::Disable => SslMode::Disable,
                Tls::SystemRoots | Tls::CaFile(_) => SslMode::Require,
            });
        match &self.auth {
            Auth::Trusted => {}
            Auth::Password(secret) => {
                let revealed = secret
                    .reveal()
                    .map_err(|error| StoreError::Config(Trouble::new(&self.site, tried, error.to_string())))?;
                config.password(revealed.expose());
            }
            Auth::Iam => {
                return Err(iam_unsupported(&self.site, tried));
            }
        }
        Ok(config)
    }
}

pub(crate) fn iam_unsupported(site: &str, tried: &str) -> StoreError {
    StoreError::Unsupported(
        Trouble::new(site, tried, "auth = \"iam\" is not supported by this version")
            .hint("use auth = { password = { env = \"...\" } } with a role of its own"),
    )
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>, site: String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(site, %error, "connection ended");
    }
}

impl Session {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Who answers here, in the role that it had when this was opened or verified last.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// The server process, as text.
    pub(crate) fn backend_pid(&self) -> &str {
        self.pins.backend_pid()
    }

    /// Tells the server to stop what this session runs for nobody, and forgets about it.
    fn cancel_abandoned(&self, site: &str) {
        let token = self.client.cancel_token();
        let connector = tls::connector(site, &self.tls);
        tokio::spawn(async move {
            let cancelled = async {
                match connector {
                    Ok(Some(connector)) => token.cancel_query(connector).await,
                    _ => token.cancel_query(NoTls).await,
                }
            };
            if !matches!(timeout(CANCEL_PATIENCE, cancelled).await, Ok(Ok(()))) {
                tracing::debug!("an abandoned statement could not be cancelled; its own time-out ends it");
            }
        });
    }
}

/// A bounded pool of sessions with one endpoint.
#[derive(Debug)]
pub(crate) struct Sessions {
    address: Address,
    pool: Pool<Opener>,
}

/// Opens and verifies the sessions of a pool.
#[derive(Debug)]
pub(crate) struct Opener {
    address: Address,
    /// Set once a session came back with another's state: from then on there is no safe session here.
    found_out: OnceLock<StoreError>,
    reached: Reached,
}

/// The instances that answered behind one endpoint.
#[derive(Debug, Default)]
struct Reached {
    first: OnceLock<String>,
    /// A balanced name, a failover, or a restart.
    has_others: AtomicBool,
}

impl Reached {
    fn note(&self, instance: &str) {
        if self.first.get_or_init(|| instance.to_owned()) != instance {
            self.has_others.store(true, Ordering::SeqCst);
        }
    }

    /// The one that answered every time. `None`: there were several, or none yet.
    fn only(&self) -> Option<&str> {
        let first = self.first.get()?;
        (!self.has_others.load(Ordering::SeqCst)).then_some(first)
    }
}

impl Manager for Opener {
    type Type = Session;
    type Error = StoreError;

    async fn create(&self) -> Result<Session> {
        match self.found_out.get() {
            Some(error) => Err(error.clone()),
            None => {
                let session = self.address.open().await?;
                self.reached.note(&session.who.instance());
                Ok(session)
            }
        }
    }

    /// A session is lent again only if it is the same server session as before, holds every pinned setting, and has no
    /// transaction open. Any doubt, and it is thrown away. Its server may have been promoted meanwhile: its role is taken anew.
    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<StoreError> {
        if session.client.is_closed() {
            return Err(RecycleError::message("connection closed"));
        }
        match timeout(VERIFY_PATIENCE, session.pins.verify(&session.client)).await {
            Ok(Ok(role)) => {
                session.who.role = role;
                Ok(())
            }
            Ok(Err(fault)) => {
                let is_pooler = matches!(fault, PinFault::Pooler(_));
                let error = fault.into_store_error(&self.address.site, "verify a session before it is used again");
                if is_pooler {
                    let _ = self.found_out.set(error.clone());
                }
                Err(RecycleError::Backend(error))
            }
            Err(_) => {
                session.cancel_abandoned(&self.address.site);
                Err(RecycleError::message("still busy with an abandoned statement"))
            }
        }
    }
}

impl Sessions {
    /// A pool of at most `sessions_max`. Nothing is opened yet.
    pub(crate) fn new(address: Address, sessions_max: usize) -> Result<Self> {
        let pool = Pool::builder(Opener {
            address: address.clone(),
            found_out: OnceLock::new(),
            reached: Reached::default(),
        })
        .max_size(sessions_max)
        .runtime(deadpool::Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(LEASE_PATIENCE),
            ..Timeouts::default()
        })
        .build()
        .map_err(|error| StoreError::Config(Trouble::new(&address.site, "set up sessions", error.to_string())))?;
        Ok(Self { address, pool })
    }

    /// Lends a session, opening one if none is idle and fewer than the bound are open.
    ///
    /// # Errors
    /// What opening met; `Retryable` when all stay lent for a minute.
    pub(crate) async fn lease(&self) -> Result<Lease> {
        match self.pool.get().await {
            Ok(object) => Ok(Lease {
                object,
                site: self.address.site.clone(),
            }),
            Err(PoolError::Backend(error)) => Err(error),
            Err(error) => Err(StoreError::Retryable {
                after: None,
                trouble: Trouble::new(
                    &self.address.site,
                    format!("lease a session with {}", self.address.url),
                    error.to_string(),
                ),
            }),
        }
    }

    /// The site, as configured.
    pub(crate) fn site(&self) -> &str {
        &self.address.site
    }

    /// [`crate::Identity::instance`] of the server that answered all sessions of this pool. `None`: there were several.
    pub(crate) fn only_instance(&self) -> Option<&str> {
        self.pool.manager().reached.only()
    }

    /// Where the sessions lead.
    pub(crate) fn url(&self) -> &Url {
        &self.address.url
    }

    /// What an error of a statement means. `tried` names what the statement was for, e.g. `digest public.orders [10, 20)`.
    pub(crate) fn trouble(&self, tried: impl AsRef<str>, error: tokio_postgres::Error) -> StoreError {
        fault::in_session(&self.address.site, tried.as_ref(), &error)
    }
}

/// A session that is lent; it goes back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    object: Object<Opener>,
    site: String,
}

impl Lease {
    /// Who answers here, in the role that it had when this was lent.
    pub(crate) fn who(&self) -> &Who {
        self.object.who()
    }

    /// The site, as configured.
    pub(crate) fn site(&self) -> &str {
        &self.site
    }

    /// As [`Sessions::trouble`], for whoever holds only the lease.
    pub(crate) fn trouble(&self, tried: impl AsRef<str>, error: tokio_postgres::Error) -> StoreError {
        fault::in_session(&self.site, tried.as_ref(), &error)
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.object.client()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_two_servers_answered_has_no_only_one() {
        let reached = Reached::default();
        assert_eq!(reached.only(), None);
        reached.note("a");
        reached.note("a");
        assert_eq!(reached.only(), Some("a"));
        reached.note("b");
        reached.note("a");
        assert_eq!(reached.only(), None);
    }
}

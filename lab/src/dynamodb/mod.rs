//! Two DynamoDB servers and a link that makes copies of each other of them.
//!
//! Neither kind of server knows global tables, so the lab carries changes over itself, from the side that takes writes to the other, with
//! whatever lag, loss and disorder is asked for.

mod link;
mod server;
mod table;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::LabError;
use crate::account::Account;
use crate::folder::LabFolder;
use crate::proxy::{Network, Proxy};
use link::{Carried, Carrier, Link};
use server::Server;
pub use table::TableSpec;

/// What the lab's servers are asked with; they check no signature.
const ACCESS_KEY: &str = "lab";
const SECRET_KEY: &str = "lab-secret";
/// Threads of the embedded servers and the link.
const THREADS: usize = 2;
/// How long the link may take to turn round.
const PROMOTE_PATIENCE: Duration = Duration::from_secs(30);
/// What the two sides are called, in errors.
const NAMES: [&str; 2] = ["dynamodb side 0", "dynamodb side 1"];

/// Two servers that hold the same tables. Side 0 takes writes until [`DynamoPair::promote`].
///
/// Dropping it stops all that it started, also in a panic.
#[derive(Debug)]
pub struct DynamoPair {
    link: Arc<Link>,
    stop: CancellationToken,
    runtime: Option<Runtime>,
    clients: [Client; 2],
    relays: [Proxy; 2],
    // In this order: processes end before the folder that holds their logs goes.
    servers: [Server; 2],
    _network: Network,
    _folder: Option<LabFolder>,
}

impl DynamoPair {
    /// Two servers in this process; they start in milliseconds.
    ///
    /// # Errors
    /// When a port, a thread or a table cannot be had.
    pub async fn embedded(tables: &[TableSpec]) -> Result<Self, LabError> {
        let runtime = own_runtime()?;
        let servers = [
            Server::embedded(NAMES[0], runtime.handle())?,
            Server::embedded(NAMES[1], runtime.handle())?,
        ];
        Self::over(runtime, servers, None, tables).await
    }

    /// Two processes of AWS's own DynamoDB Local, in memory.
    ///
    /// # Errors
    /// [`LabError::MissingArtefact`] when it was not fetched; else when a server does not start.
    pub async fn local(tables: &[TableSpec]) -> Result<Self, LabError> {
        let folder = tokio::task::spawn_blocking(|| LabFolder::create(None, Account::ourselves()))
            .await
            .map_err(|error| service("make a folder", &error))??;
        let (one, other) = tokio::try_join!(Server::local("side-0", &folder), Server::local("side-1", &folder))?;
        Self::over(own_runtime()?, [one, other], Some(folder), tables).await
    }

    async fn over(
        runtime: Runtime,
        servers: [Server; 2],
        folder: Option<LabFolder>,
        tables: &[TableSpec],
    ) -> Result<Self, LabError> {
        let network = Network::start().map_err(|error| service("start the relays", &error))?;
        let relay = |server: &Server| {
            network
                .relay_to(server.port())
                .map_err(|error| service("start a relay", &error))
        };
        let relays = [relay(&servers[0])?, relay(&servers[1])?];
        let clients = [client(servers[0].port()), client(servers[1].port())];
        let pair = Self {
            link: Arc::new(Link::new()),
            stop: CancellationToken::new(),
            runtime: Some(runtime),
            clients,
            relays,
            servers,
            _network: network,
            _folder: folder,
        };
        for (side, client) in pair.clients.iter().enumerate() {
            for table in tables {
                table.make(NAMES[side], client).await?;
            }
        }
        let carrier = Carrier {
            link: Arc::clone(&pair.link),
            clients: pair.clients.clone(),
            tables: tables
                .iter()
                .map(|table| Carried {
                    name: table.name().to_owned(),
                    key: table.key(),
                })
                .collect(),
        };
        if let Some(runtime) = &pair.runtime {
            runtime.spawn(carrier.run(pair.stop.clone()));
        }
        Ok(pair)
    }

    /// The index of the side that takes writes now.
    pub fn writer(&self) -> usize {
        self.link.source()
    }

    /// The endpoint of a side, 0 or 1, through its relay.
    pub fn endpoint(&self, side: usize) -> String {
        format!("http://127.0.0.1:{}", self.relays[side].port())
    }

    /// The relay before a side. The link between the sides does not go through it.
    pub fn relay(&self, side: usize) -> &Proxy {
        &self.relays[side]
    }

    /// A client of a side that does not go through its relay.
    pub fn client(&self, side: usize) -> &Client {
        &self.clients[side]
    }

    /// The access key that the servers accept, and its secret half.
    pub fn access_key(&self) -> (&'static str, &'static str) {
        (ACCESS_KEY, SECRET_KEY)
    }

    /// Changes found from now on arrive so much later.
    pub fn set_delay(&self, delay: Duration) {
        self.link.order(|orders| orders.delay = delay);
    }

    /// The next so many changes never arrive.
    pub fn drop_next(&self, changes: usize) {
        self.link.order(|orders| orders.drop_next = changes);
    }

    /// The next so many changes are applied twice.
    pub fn apply_twice_next(&self, changes: usize) {
        self.link.order(|orders| orders.twice_next = changes);
    }

    /// The next so many changes are held until the last of them was found, and then arrive in reverse.
    pub fn reverse_next(&self, changes: usize) {
        self.link.order(|orders| orders.reverse_next = changes);
    }

    /// Nothing is applied any more; changes wait.
    pub fn stall(&self) {
        self.link.order(|orders| orders.is_stalled = true);
    }

    /// What waits is applied.
    pub fn resume(&self) {
        self.link.order(|orders| orders.is_stalled = false);
    }

    /// The sides do not reach each other: changes are not even taken up.
    pub fn cut(&self) {
        self.link.order(|orders| orders.is_cut = true);
    }

    /// They reach each other again.
    pub fn restore(&self) {
        self.link.order(|orders| orders.is_cut = false);
    }

    /// How many changes never arrived: dropped by order, or under way at a promotion.
    pub fn lost(&self) -> usize {
        self.link.dropped()
    }

    /// Returns when the other side holds all that the writing side holds now, less what was dropped.
    ///
    /// # Errors
    /// [`LabError::Late`].
    pub async fn settle(&self, patience: Duration) -> Result<(), LabError> {
        self.link.settled(patience).await
    }

    /// The other side takes the writes from now on. What was under way is lost, and the old writer gets what the new one writes.
    ///
    /// # Errors
    /// [`LabError::Late`] when the new writer cannot be read.
    pub async fn promote(&self) -> Result<(), LabError> {
        self.link.turn(PROMOTE_PATIENCE).await
    }

    /// The process IDs of the servers, where they are processes.
    pub fn processes(&self) -> Vec<i32> {
        let all = self.servers.iter().filter_map(Server::process);
        all.map(|process| process.pid).collect()
    }
}

impl Drop for DynamoPair {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Not dropped in place: that would wait, which a runtime that we may be running on forbids.
            runtime.shutdown_background();
        }
    }
}

fn own_runtime() -> Result<Runtime, LabError> {
    Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("lab-dynamodb")
        .enable_all()
        .build()
        .map_err(|error| service("start threads", &error))
}

fn service(tried: &str, error: &dyn std::error::Error) -> LabError {
    LabError::Service {
        server: "dynamodb pair".to_owned(),
        tried: tried.to_owned(),
        message: error.to_string(),
    }
}

/// A client of a server of this machine.
fn client(port: u16) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "lab"))
        .retry_config(RetryConfig::standard())
        .endpoint_url(format!("http://127.0.0.1:{port}"))
        .build();
    Client::from_conf(config)
}

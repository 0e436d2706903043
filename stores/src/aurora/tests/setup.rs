//! Servers with what `init` makes, and the configuration that leads to them.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{PgOptions, PgPair, PgServer, Proxy};
use tokio::time::{Instant, sleep};

use crate::aurora::pins::Purpose;
use crate::aurora::session::{Address, Sessions};
use crate::aurora::{Auth, CanaryPlace, Config, Connection, Endpoint, Endpoints, InitSpec, Readable, Tls, Url, init};
use crate::secret::Secret;

/// A probe that waits longer than this has failed.
const DEADLINE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "what driftline logs in with";

/// Keeps the files that configurations refer to.
#[derive(Debug)]
pub(super) struct Files(tempfile::TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A reference to `contents` in a file of its own.
    pub(super) fn secret(&self, name: &str, contents: &str) -> Auth {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).unwrap();
        Auth::Password(Secret::File(path))
    }
}

/// The options of a server with the application's database.
pub(super) fn options() -> PgOptions {
    PgOptions::with_database("app")
}

/// The configuration that leads to `servers` by their site names.
pub(super) fn config(files: &Files, ca: &PgServer, servers: &[(&str, &PgServer)]) -> Config {
    let sites = servers
        .iter()
        .map(|(site, server)| {
            let endpoints = Endpoints {
                writer: url(server, "driftline", "app"),
                reader: None,
            };
            ((*site).to_owned(), endpoints)
        })
        .collect::<BTreeMap<_, _>>();
    Config {
        auth: files.secret("password", PASSWORD),
        tls: Tls::CaFile(ca.ca_file()),
        canary: CanaryPlace::default(),
        relation: None,
        fence: None,
        writers: None,
        sites,
    }
}

pub(super) fn url(server: &PgServer, user: &str, database: &str) -> Url {
    server.url(user, database).parse().unwrap()
}

/// Two tables in the application's database: `granted`, which the role may read, and `withheld`.
pub(super) async fn prepare(files: &Files, server: &PgServer) {
    server
        .execute(
            "app",
            "create table public.granted (id int primary key, note text); insert into public.granted values (1, 'one'), (2, 'two'); \
             create table public.withheld (id int primary key)",
        )
        .await
        .unwrap();
    run_init(files, server).await;
    server
        .execute("postgres", &format!("alter role driftline password '{PASSWORD}'"))
        .await
        .unwrap();
}

pub(super) fn spec() -> InitSpec {
    InitSpec {
        role: "driftline".to_owned(),
        application_database: "app".to_owned(),
        canary_database: "driftline".to_owned(),
        readable: vec![Readable::Table {
            schema: "public".to_owned(),
            table: "granted".to_owned(),
        }],
    }
}

pub(super) async fn run_init(files: &Files, server: &PgServer) {
    let admin = url(server, "postgres", "postgres");
    let auth = files.secret("admin", server.password());
    init("use1", &admin, &auth, &Tls::CaFile(server.ca_file()), &spec())
        .await
        .unwrap();
}

/// One server at site `use1`.
pub(super) struct One {
    pub(super) files: Files,
    pub(super) server: PgServer,
    pub(super) config: Config,
}

impl One {
    pub(super) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(super) async fn with(options: PgOptions) -> Self {
        let files = Files::new();
        let server = PgServer::start(options).await.unwrap();
        prepare(&files, &server).await;
        let config = config(&files, &server, &[("use1", &server)]);
        Self { files, server, config }
    }

    pub(super) fn connection(&self) -> Connection {
        Connection::new(&self.config, "use1", Endpoint::Writer).unwrap()
    }
}

/// A primary at site `use1` and its standby at `usw2`.
pub(super) struct Two {
    _files: Files,
    pub(super) pair: PgPair,
    pub(super) config: Config,
}

impl Two {
    pub(super) async fn start() -> Self {
        let files = Files::new();
        let pair = PgPair::start(options()).await.unwrap();
        prepare(&files, pair.primary()).await;
        let config = config(
            &files,
            pair.primary(),
            &[("use1", pair.primary()), ("usw2", pair.standby())],
        );
        let this = Self {
            _files: files,
            pair,
            config,
        };
        this.settled().await;
        this
    }

    /// Waits until the standby has applied what the primary has written.
    pub(super) async fn settled(&self) {
        let (primary, standby) = (self.pair.primary(), self.pair.standby());
        let written = primary
            .value("postgres", "select pg_current_wal_lsn()")
            .await
            .unwrap()
            .unwrap();
        let applied = format!("select (pg_last_wal_replay_lsn() >= '{written}')::text");
        eventually("the standby catches up", async || {
            (standby.value("postgres", &applied).await.unwrap().as_deref() == Some("true")).then_some(())
        })
        .await;
    }

    /// The configuration in which `use1` is reached through `proxy`.
    pub(super) fn behind(&self, proxy: &Proxy) -> Config {
        let mut config = self.config.clone();
        let through = format!("postgresql://driftline@127.0.0.1:{}/app", proxy.port());
        config.sites.get_mut("use1").unwrap().writer = through.parse().unwrap();
        config
    }

    pub(super) fn at(&self, site: &str) -> Connection {
        Connection::new(&self.config, site, Endpoint::Reader).unwrap()
    }
}

/// Sessions that read the application's database at `site`.
pub(super) fn sessions(config: &Config, site: &str, sessions_max: usize) -> Sessions {
    let address = Address {
        site: site.to_owned(),
        url: config.sites[site].writer.clone(),
        auth: config.auth.clone(),
        tls: config.tls.clone(),
        purpose: Purpose::Read,
    };
    Sessions::new(address, sessions_max).unwrap()
}

/// Asks until there is an answer.
pub(super) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

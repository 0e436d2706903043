//! A real pair with the shop in it, and the role that may only select and write canaries.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::{LogicalPair, PgOptions, PgPair, PgServer, Planted, Workload, WorkloadOptions, demo};
use reconcile::{
    Divergence, FenceKind, Frame, KeyDisclosure, Limits, Pair, Request, Selected, Settings, State, Stop, Summary,
};
use stores::aurora::{
    Auth, CanaryPlace, Config, Endpoint, Endpoints, InitSpec, Readable, Tls, open, open_logical, open_subscribed,
};
use stores::secret::Secret;
use stores::{Collection, End, Relation};
use tokio::task::JoinHandle;

/// What the role logs in with.
const PASSWORD: &str = "what the role of these tests logs in with";
const PATIENCE: Duration = Duration::from_secs(30);
/// Runs under load, until one of them has met a row that was in flight.
const RUNS_MAX: usize = 40;

pub(crate) struct Shop {
    pub(crate) pair: PgPair,
    pub(crate) config: Config,
    secret: tempfile::TempDir,
}

impl Shop {
    pub(crate) async fn start(rows: u32) -> Self {
        Self::of_version(None, rows).await
    }

    /// On servers of this version; `None` = Debian's.
    pub(crate) async fn of_version(version: Option<u16>, rows: u32) -> Self {
        let options = PgOptions {
            version,
            ..PgOptions::with_database("app")
        };
        let pair = PgPair::start(options).await.unwrap();
        demo::create_schema(pair.primary(), "app").await.unwrap();
        demo::fill(pair.primary(), "app", rows, 1).await.unwrap();
        let secret = tempfile::tempdir().unwrap();
        let path = secret.path().join("password");
        std::fs::write(&path, PASSWORD).unwrap();
        let endpoints = |port: u16| Endpoints {
            writer: format!("postgresql://driftline@127.0.0.1:{port}/app").parse().unwrap(),
            reader: None,
        };
        let config = Config {
            auth: Auth::Password(Secret::File(path)),
            tls: Tls::CaFile(pair.primary().ca_file()),
            canary: CanaryPlace::default(),
            relation: None,
            fence: None,
            writers: None,
            sites: BTreeMap::from([
                ("use1".to_owned(), endpoints(pair.primary().port())),
                ("usw2".to_owned(), endpoints(pair.standby().port())),
            ]),
        };
        let shop = Self { pair, config, secret };
        shop.init().await;
        shop
    }

    async fn init(&self) {
        let readable = vec![Readable::AllIn {
            schema: "public".to_owned(),
        }];
        for step in InitSpec::of(&self.config, "use1", readable).unwrap().steps() {
            let database = step.database.as_deref().unwrap_or("postgres");
            self.pair.primary().execute(database, &step.sql).await.unwrap();
        }
        let password = format!("alter role driftline password '{PASSWORD}'");
        self.pair.primary().execute("postgres", &password).await.unwrap();
        self.pair.wait_replayed(PATIENCE).await.unwrap();
    }

    /// The standby is promoted, and the old primary comes back without a link.
    pub(crate) async fn fail_over(&self) {
        self.pair.wait_replayed(PATIENCE).await.unwrap();
        self.pair.promote().await.unwrap();
        self.pair.return_old_primary().await.unwrap();
    }

    pub(crate) fn ends(&self, relation: Relation) -> Pair {
        Pair {
            primary: open(&self.config, "use1", Endpoint::Writer).unwrap(),
            secondary: open(&self.config, "usw2", Endpoint::Reader).unwrap(),
            relation,
            fence: match relation {
                Relation::Replicating => FenceKind::Lsn,
                Relation::Independent | Relation::Frozen => FenceKind::None,
            },
        }
    }

    pub(crate) async fn write(&self, options: WorkloadOptions) -> Workload {
        Workload::start(self.pair.primary(), options).await.unwrap()
    }

    /// The same ends, with time for a fence.
    pub(crate) fn timed_ends(&self) -> Pair {
        Pair {
            fence: FenceKind::Time,
            ..self.ends(Relation::Replicating)
        }
    }

    pub(crate) async fn shutdown(self) {
        self.pair.shutdown().await;
        drop(self.secret);
    }
}

/// A publisher and a subscriber with the shop in both.
pub(crate) struct Copies {
    pub(crate) pair: LogicalPair,
    pub(crate) config: Config,
    secret: tempfile::TempDir,
}

impl Copies {
    /// Servers of these versions; the shop's rows, and the canaries, are published.
    pub(crate) async fn start(from: Option<u16>, to: Option<u16>, rows: u32) -> Self {
        let pair = LogicalPair::start("app", from, to).await.unwrap();
        demo::create_schema(pair.publisher(), "app").await.unwrap();
        demo::create_schema(pair.subscriber(), "app").await.unwrap();
        demo::fill(pair.publisher(), "app", rows, 1).await.unwrap();
        let secret = tempfile::tempdir().unwrap();
        let path = secret.path().join("password");
        std::fs::write(&path, PASSWORD).unwrap();
        let authorities = secret.path().join("authorities.pem");
        let both =
            [pair.publisher(), pair.subscriber()].map(|server| std::fs::read_to_string(server.ca_file()).unwrap());
        std::fs::write(&authorities, both.concat()).unwrap();
        let endpoints = |port: u16| Endpoints {
            writer: format!("postgresql://driftline@127.0.0.1:{port}/app").parse().unwrap(),
            reader: None,
        };
        let config = Config {
            auth: Auth::Password(Secret::File(path)),
            tls: Tls::CaFile(authorities),
            canary: CanaryPlace {
                database: "app".to_owned(),
            },
            relation: Some(Relation::Replicating),
            fence: None,
            writers: None,
            sites: BTreeMap::from([
                ("use1".to_owned(), endpoints(pair.publisher().port())),
                ("usw2".to_owned(), endpoints(pair.subscriber().port())),
            ]),
        };
        let readable = vec![Readable::AllIn {
            schema: "public".to_owned(),
        }];
        for step in InitSpec::of(&config, "use1", readable).unwrap().steps() {
            for server in [pair.publisher(), pair.subscriber()] {
                let database = step.database.as_deref().unwrap_or("postgres");
                server.execute(database, &step.sql).await.unwrap();
            }
        }
        pair.execute_at_both(&format!("alter role driftline password '{PASSWORD}'"))
            .await
            .unwrap();
        pair.link("all tables").await.unwrap();
        Self { pair, config, secret }
    }

    pub(crate) fn ends(&self) -> Pair {
        let [primary, secondary] =
            open_logical(&self.config, ("use1", Endpoint::Writer), ("usw2", Endpoint::Reader)).unwrap();
        Pair {
            primary,
            secondary,
            relation: Relation::Replicating,
            fence: FenceKind::Canary,
        }
    }

    /// The same copies where no canary comes by the subscription.
    pub(crate) fn timed_ends(&self) -> Pair {
        let [primary, secondary] = open_subscribed(&self.config, "use1", "usw2").unwrap();
        Pair {
            primary,
            secondary,
            relation: Relation::Replicating,
            fence: FenceKind::Time,
        }
    }

    /// Application of these tables stands still for a while, again and again, until the task is aborted. What it has not come to looks
    /// different meanwhile. Each time takes another while, so that runs, whose fences wait for it, do not fall into step with it.
    pub(crate) async fn hold_up(&self, tables: &str) -> JoinHandle<()> {
        let holder = self.pair.subscriber().client("app").await.unwrap();
        let hold = format!(
            "begin; lock table {tables} in share row exclusive mode; select pg_sleep(0.1 + random() * 0.5); commit; select pg_sleep(random() * 0.2)"
        );
        tokio::spawn(async move {
            loop {
                holder.batch_execute(&hold).await.unwrap();
            }
        })
    }

    pub(crate) async fn shutdown(self) {
        self.pair.shutdown().await;
        drop(self.secret);
    }
}

/// Two servers that nothing links, with what a test makes in them.
pub(crate) struct Strangers {
    pub(crate) servers: [PgServer; 2],
    config: Config,
    secret: tempfile::TempDir,
}

impl Strangers {
    pub(crate) async fn start() -> Self {
        let one = || async { PgServer::start(PgOptions::with_database("app")).await.unwrap() };
        let (a, b) = tokio::join!(one(), one());
        let servers = [a, b];
        let secret = tempfile::tempdir().unwrap();
        let path = secret.path().join("password");
        std::fs::write(&path, PASSWORD).unwrap();
        let authorities = secret.path().join("authorities.pem");
        let both: Vec<String> = servers
            .iter()
            .map(|server| std::fs::read_to_string(server.ca_file()).unwrap())
            .collect();
        std::fs::write(&authorities, both.concat()).unwrap();
        let endpoints = |port: u16| Endpoints {
            writer: format!("postgresql://driftline@127.0.0.1:{port}/app").parse().unwrap(),
            reader: None,
        };
        let config = Config {
            auth: Auth::Password(Secret::File(path)),
            tls: Tls::CaFile(authorities),
            canary: CanaryPlace::default(),
            relation: Some(Relation::Independent),
            fence: None,
            writers: None,
            sites: BTreeMap::from([
                ("use1".to_owned(), endpoints(servers[0].port())),
                ("usw2".to_owned(), endpoints(servers[1].port())),
            ]),
        };
        for server in &servers {
            let role =
                format!("create role driftline login password '{PASSWORD}'; grant pg_read_all_data to driftline");
            server.execute("app", &role).await.unwrap();
        }
        Self {
            servers,
            config,
            secret,
        }
    }

    /// Runs the statements at both.
    pub(crate) async fn both(&self, sql: &str) {
        for server in &self.servers {
            server.execute("app", sql).await.unwrap();
        }
    }

    /// Runs the statements at the secondary alone.
    pub(crate) async fn there(&self, sql: &str) {
        self.servers[1].execute("app", sql).await.unwrap();
    }

    pub(crate) fn ends(&self) -> Pair {
        Pair {
            primary: open(&self.config, "use1", Endpoint::Writer).unwrap(),
            secondary: open(&self.config, "usw2", Endpoint::Writer).unwrap(),
            relation: Relation::Independent,
            fence: FenceKind::None,
        }
    }

    pub(crate) async fn shutdown(self) {
        for server in self.servers {
            server.shutdown().await;
        }
        drop(self.secret);
    }
}

/// Everything that either side has, with `settings` for the collections that are named.
pub(crate) async fn everything(pair: &Pair, settings: &[(&str, Settings)]) -> Request {
    let (primary, secondary) = (tables(&pair.primary).await, tables(&pair.secondary).await);
    let mut names: Vec<&str> = primary.iter().chain(&secondary).map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let find = |side: &[Collection], name: &str| side.iter().find(|one| one.name == name).cloned();
    let set = |name: &str| settings.iter().find(|(of, _)| *of == name).map(|(_, set)| set.clone());
    let selected = names.iter().map(|name| Selected {
        primary: find(&primary, name),
        secondary: find(&secondary, name),
        settings: set(name).unwrap_or_default(),
    });
    Request {
        selected: selected.collect(),
        ..request(pair).await
    }
}

/// Runs so often, and on until one of the runs has met a row in flight: whether it does is a matter of chance.
pub(crate) async fn until_in_flight(runs_min: usize, mut run: impl AsyncFnMut() -> Summary) {
    let (mut in_flight, mut runs) = (0, 0);
    while runs < runs_min || (in_flight == 0 && runs < RUNS_MAX) {
        runs += 1;
        let counts = run().await.counts;
        in_flight += counts.transient + counts.undecided();
    }
    assert!(in_flight > 0, "nothing was in flight: the test proves nothing");
}

/// What was confirmed, as it is recorded, and the summary.
pub(crate) async fn divergences(pair: &Pair, request: &Request) -> (Vec<Divergence>, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let running = reconcile::run(pair, request, folder.path(), |_| {}, Stop::default());
    let (summary, path) = tokio::time::timeout(Duration::from_secs(240), running)
        .await
        .unwrap()
        .unwrap();
    let mut reader = journal::Reader::open(&path).unwrap();
    let mut found = Vec::new();
    for frame in reader.records::<Frame>() {
        if let Frame::Divergence(one) = frame.unwrap()
            && one.state == State::Confirmed
        {
            found.push(*one);
        }
    }
    (found, summary)
}

/// The tables of the shop, cut into many small chunks.
pub(crate) async fn request(pair: &Pair) -> Request {
    let (primary, secondary) = (tables(&pair.primary).await, tables(&pair.secondary).await);
    let find = |side: &[Collection], name: &str| side.iter().find(|one| one.name == name).cloned();
    let selected = demo::TABLES.iter().map(|name| Selected {
        primary: find(&primary, name),
        secondary: find(&secondary, name),
        settings: Settings {
            changed_at: Some("updated_at".to_owned()),
            ..Settings::default()
        },
    });
    Request {
        run_id: "a run of a test".to_owned(),
        selected: selected.collect(),
        not_selected: Vec::new(),
        disclosure: KeyDisclosure::Plain,
        key_hash: None,
        include_values: false,
        fork: None,
        limits: Limits {
            rows_per_chunk: 1_000,
            rounds_max: 40,
            ..Limits::default()
        },
    }
}

async fn tables(end: &End) -> Vec<Collection> {
    end.catalog.as_ref().unwrap().collections().await.unwrap()
}

/// What was confirmed, in the words of the truth, and the summary.
pub(crate) async fn run(pair: &Pair, request: &Request) -> (Vec<Planted>, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let running = reconcile::run(pair, request, folder.path(), |_| {}, Stop::default());
    let (summary, path) = tokio::time::timeout(Duration::from_secs(240), running)
        .await
        .unwrap()
        .unwrap();
    let mut reader = journal::Reader::open(&path).unwrap();
    let mut found = Vec::new();
    for frame in reader.records::<Frame>() {
        if let Frame::Divergence(one) = frame.unwrap()
            && one.state == State::Confirmed
        {
            let key = one.key.clone().unwrap_or_default();
            found.push(Planted::new(&one.collection, &key, one.class.word()));
        }
    }
    (found, summary)
}

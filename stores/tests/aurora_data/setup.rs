//! Servers, the role, and what the tests ask of an end.

use std::collections::BTreeMap;

use lab::{PgOptions, PgPair, PgServer};
use stores::aurora::{Auth, CanaryPlace, Config, Endpoint, Endpoints, Tls, open};
use stores::secret::Secret;
use stores::{
    Catalog, ChunkDigest, Class, Collection, Comparison, End, Fence, Key, Part, Ranged, ReadRequest, Readings, Recipe,
    Reread, Result, RowDigest,
};

/// What the role logs in with.
const PASSWORD: &str = "what the reader logs in with";

/// One server with the application's database, and the end that reads it.
pub(crate) struct One {
    pub(crate) server: PgServer,
    pub(crate) end: End,
    _secret: tempfile::TempDir,
}

/// A primary and its standby.
pub(crate) struct Two {
    pub(crate) pair: PgPair,
    pub(crate) primary: End,
    pub(crate) standby: End,
    config: Config,
    _secret: tempfile::TempDir,
}

impl One {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With lines of `postgresql.conf`.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let server = PgServer::start(options(settings)).await.unwrap();
        make_role(&server).await;
        let secret = tempfile::tempdir().unwrap();
        let config = config(&secret, &server, &[("use1", server.port())]);
        let end = open(&config, "use1", Endpoint::Reader).unwrap();
        Self {
            server,
            end,
            _secret: secret,
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.server.execute("app", sql).await.unwrap();
    }
}

impl Two {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With lines of `postgresql.conf`.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let pair = PgPair::start(options(settings)).await.unwrap();
        make_role(pair.primary()).await;
        let secret = tempfile::tempdir().unwrap();
        let ports = [("use1", pair.primary().port()), ("usw2", pair.standby().port())];
        let config = config(&secret, pair.primary(), &ports);
        Self {
            primary: open(&config, "use1", Endpoint::Reader).unwrap(),
            standby: open(&config, "usw2", Endpoint::Reader).unwrap(),
            config,
            pair,
            _secret: secret,
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.pair.primary().execute("app", sql).await.unwrap();
    }

    /// An end that reaches the primary through another port.
    pub(crate) fn through(&self, port: u16) -> End {
        let mut config = self.config.clone();
        config.sites = sites(&[("use1", port)]);
        open(&config, "use1", Endpoint::Reader).unwrap()
    }

    /// Waits until the standby has passed all that was written.
    pub(crate) async fn settled(&self) {
        self.execute("create table if not exists public.settled (id int); insert into public.settled values (1)")
            .await;
        let point = fence(&self.primary).point().await.unwrap();
        let patience = std::time::Duration::from_secs(30);
        assert!(
            fence(&self.standby).wait(point, patience).await.unwrap(),
            "the standby does not follow"
        );
    }
}

fn options(settings: &[(&str, &str)]) -> PgOptions {
    let mut options = PgOptions::with_database("app");
    for (name, value) in settings {
        options.settings.push(((*name).to_owned(), (*value).to_owned()));
    }
    options
}

/// A role that may select what is or will be made, and nothing else.
async fn make_role(server: &PgServer) {
    let sql = format!("create role reader login password '{PASSWORD}'; grant pg_read_all_data to reader");
    server.execute("app", &sql).await.unwrap();
}

/// An end that reads `server`, of any version; it may select from what is made from now on.
pub(crate) async fn end_of(secret: &tempfile::TempDir, server: &PgServer) -> End {
    let sql = format!(
        "create role reader login password '{PASSWORD}'; alter default privileges grant select on tables to reader"
    );
    server.execute("app", &sql).await.unwrap();
    open(
        &config(secret, server, &[("use1", server.port())]),
        "use1",
        Endpoint::Reader,
    )
    .unwrap()
}

fn sites(ports: &[(&str, u16)]) -> BTreeMap<String, Endpoints> {
    ports
        .iter()
        .map(|(site, port)| {
            let writer = format!("postgresql://reader@127.0.0.1:{port}/app").parse().unwrap();
            ((*site).to_owned(), Endpoints { writer, reader: None })
        })
        .collect()
}

fn config(secret: &tempfile::TempDir, ca: &PgServer, ports: &[(&str, u16)]) -> Config {
    let path = secret.path().join("password");
    std::fs::write(&path, PASSWORD).unwrap();
    Config {
        auth: Auth::Password(Secret::File(path)),
        tls: Tls::CaFile(ca.ca_file()),
        canary: CanaryPlace::default(),
        relation: None,
        fence: None,
        writers: None,
        sites: sites(ports),
    }
}

pub(crate) fn ranged(end: &End) -> &dyn Ranged {
    end.ranged.as_deref().unwrap()
}

pub(crate) fn reread(end: &End) -> &dyn Reread {
    end.reread.as_deref().unwrap()
}

pub(crate) fn fence(end: &End) -> &dyn Fence {
    end.fence.as_deref().unwrap()
}

pub(crate) fn catalog(end: &End) -> &dyn Catalog {
    end.catalog.as_deref().unwrap()
}

/// The collection of this name, from a catalog that is read anew.
pub(crate) async fn collection(end: &End, name: &str) -> Collection {
    let collections = catalog(end).collections().await.unwrap();
    let found = collections.into_iter().find(|collection| collection.name == name);
    found.unwrap_or_else(|| panic!("no collection {name}"))
}

pub(crate) fn comparable(collection: &Collection) -> Vec<String> {
    let columns = collection
        .columns
        .iter()
        .filter(|column| column.not_comparable.is_none());
    columns.map(|column| column.name.clone()).collect()
}

pub(crate) async fn recipe(end: &End, collection: &Collection, seed: u64) -> Recipe {
    ranged(end)
        .recipe(collection, &comparable(collection), seed)
        .await
        .unwrap()
}

pub(crate) async fn digest(end: &End, name: &str, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
    ranged(end).digest(&collection(end, name).await, recipe, part).await
}

/// All items of a listing; the first error ends it.
pub(crate) async fn list(
    end: &End,
    collection: &Collection,
    recipe: &Recipe,
    part: &Part,
) -> Result<Vec<(Key, RowDigest)>> {
    use futures::TryStreamExt as _;
    ranged(end).list(collection, recipe, part).await?.try_collect().await
}

pub(crate) async fn read(end: &End, collection: &Collection, recipe: &Recipe, keys: &[Key]) -> Readings {
    reread(end)
        .read(&ReadRequest {
            collection,
            recipe,
            keys,
            values: false,
            changed_at: None,
        })
        .await
        .unwrap()
}

/// The keys whose digests differ, as the comparison of their readings judges them: class and columns.
pub(crate) async fn judged(a: &End, b: &End, table: &Collection, recipe: &Recipe) -> Vec<(Class, String)> {
    let (left, right) = (table, table);
    let here = list(a, left, recipe, &Part::ALL).await.unwrap();
    let there = list(b, right, recipe, &Part::ALL).await.unwrap();
    let mut keys: Vec<Key> = here
        .iter()
        .filter(|item| !there.contains(item))
        .chain(there.iter().filter(|item| !here.contains(item)))
        .map(|item| item.0.clone())
        .collect();
    keys.sort();
    keys.dedup();
    let (ours, theirs) = (read(a, left, recipe, &keys).await, read(b, right, recipe, &keys).await);
    ours.rows
        .iter()
        .zip(&theirs.rows)
        .filter_map(|(ours, theirs)| {
            match a
                .compare
                .as_ref()
                .expect("compares")
                .compare(ours, theirs, &recipe.columns)
            {
                Comparison::Equal => None,
                Comparison::Differs { class, columns, .. } => Some((class, columns.join(","))),
                Comparison::NotComparable(reason) => panic!("{}: {reason}", table.name),
            }
        })
        .collect()
}

//! PostgreSQL: a primary and its streaming standby, reached by the role that `init` makes.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use lab::{PgOptions, PgPair, PgServer};
use stores::aurora::{Auth, CanaryPlace, Config, Endpoint, Endpoints, InitSpec, Readable, Tls, Url, init, open};
use stores::conformance::Fixture;
use stores::secret::Secret;
use stores::{End, faulty};
use tokio_postgres::Client;

use super::assert_holds;

const PASSWORD: &str = "what driftline logs in with";
/// A standby that needs longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Aurora {
    ends: [End; 2],
    writes: Client,
    pair: PgPair,
    _secrets: tempfile::TempDir,
}

impl Aurora {
    async fn start() -> Self {
        let pair = PgPair::start(PgOptions::with_database("app")).await.unwrap();
        let primary = pair.primary();
        let table = "create table public.rows (id bigint primary key, body text)";
        primary.execute("app", table).await.unwrap();
        let secrets = tempfile::tempdir().unwrap();
        let secret = |name: &str, contents: &str| {
            let path = secrets.path().join(name);
            std::fs::write(&path, contents).unwrap();
            Auth::Password(Secret::File(path))
        };
        let tls = Tls::CaFile(primary.ca_file());
        let spec = InitSpec {
            role: "driftline".to_owned(),
            application_database: "app".to_owned(),
            canary_database: "driftline".to_owned(),
            readable: vec![Readable::AllIn {
                schema: "public".to_owned(),
            }],
        };
        let admin = url(primary, "postgres", "postgres");
        let admin_secret = secret("admin", primary.password());
        init("use1", &admin, &admin_secret, &tls, &spec).await.unwrap();
        let password = format!("alter role driftline password '{PASSWORD}'");
        primary.execute("postgres", &password).await.unwrap();
        pair.wait_replayed(PATIENCE).await.unwrap();
        let sites = [("use1", primary), ("usw2", pair.standby())].map(|(site, server)| {
            let writer = url(server, "driftline", "app");
            (site.to_owned(), Endpoints { writer, reader: None })
        });
        let config = Config {
            auth: secret("role", PASSWORD),
            tls,
            canary: CanaryPlace::default(),
            relation: None,
            fence: None,
            writers: None,
            sites: BTreeMap::from(sites),
        };
        let ends = ["use1", "usw2"].map(|site| open(&config, site, Endpoint::Reader).unwrap());
        Self {
            ends,
            writes: primary.client("app").await.unwrap(),
            pair,
            _secrets: secrets,
        }
    }
}

fn url(server: &PgServer, user: &str, database: &str) -> Url {
    server.url(user, database).parse().unwrap()
}

#[async_trait]
impl Fixture for Aurora {
    fn primary(&self) -> End {
        self.ends[0].clone()
    }

    fn secondary(&self) -> End {
        self.ends[1].clone()
    }

    fn collection(&self) -> String {
        "public.rows".to_owned()
    }

    async fn put(&self, rows: &[(i64, Option<&str>)]) {
        let (numbers, bodies): (Vec<i64>, Vec<Option<&str>>) = rows.iter().copied().unzip();
        let sql = "insert into public.rows select * from unnest($1::bigint[], $2::text[]) \
                   on conflict (id) do update set body = excluded.body";
        self.writes.execute(sql, &[&numbers, &bodies]).await.unwrap();
    }

    async fn delete(&self, numbers: &[i64]) {
        let sql = "delete from public.rows where id = any ($1)";
        self.writes.execute(sql, &[&numbers]).await.unwrap();
    }

    async fn settle(&self) {
        self.pair.wait_replayed(PATIENCE).await.unwrap();
    }

    async fn stall(&self) {
        self.pair.pause_replay().await.unwrap();
    }

    async fn resume(&self) {
        self.pair.resume_replay().await.unwrap();
    }
}

#[tokio::test]
async fn a_streaming_pair_holds_every_contract() {
    assert_holds(&Aurora::start().await).await;
}

#[tokio::test]
async fn so_it_does_within_the_wrapper() {
    let mut aurora = Aurora::start().await;
    aurora.ends = aurora.ends.each_ref().map(|end| faulty::wrap(end).0);
    assert_holds(&aurora).await;
}

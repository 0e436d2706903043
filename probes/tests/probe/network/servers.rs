//! The four stores as real servers, with a toxiproxy before each end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lab::{
    DynamoPair, KafkaServers, KafkaServersOptions, MinioOptions, MinioPair, PgOptions, PgPair, S3_ACCESS_KEY,
    S3_SECRET_KEY, TableSpec, ToxicLine, Toxiproxy,
};
use probes::Polling;
use stores::aws::{AccessKey, Service, Site};
use stores::secret::Secret;
use stores::{End, SiteNames, Sought, aurora, dynamodb, kafka, s3};

use super::held::answers_come_late;
use super::{Ends, PATIENCE, endures};

const SITES: [&str; 2] = ["use1", "usw2"];

async fn lines(ports: [u16; 2]) -> [ToxicLine; 2] {
    let program = Toxiproxy::start().await.unwrap();
    let [writer, watcher] = ports;
    [
        program.line("writer", writer).await.unwrap(),
        program.line("watcher", watcher).await.unwrap(),
    ]
}

pub(super) fn secret(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("secret");
    std::fs::write(&path, text).unwrap();
    path
}

fn through(line: &ToxicLine) -> String {
    format!("http://127.0.0.1:{}", line.port())
}

fn port(endpoint: &str) -> u16 {
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

fn aws(service: Service, region: &str, line: &ToxicLine, key: (&str, PathBuf)) -> Site {
    Site {
        region: Some(region.to_owned()),
        credentials: Some(AccessKey {
            access_key_id: key.0.to_owned(),
            secret_access_key: Secret::File(key.1),
        }),
        endpoint_url: BTreeMap::from([(service, through(line))]),
        ..Site::default()
    }
}

fn ends(primary: &End, secondary: &End, polling: Polling, rate: &'static str, lines: [ToxicLine; 2]) -> Ends {
    Ends {
        writer: Arc::clone(primary.canary_writer.as_ref().unwrap()),
        reader: Arc::clone(secondary.canary_reader.as_ref().unwrap()),
        polling,
        rate,
        lines,
    }
}

/// How the role of a pair reaches it at these ports. The password is in `folder`.
fn postgresql_config(pair: &PgPair, ports: [u16; 2], folder: &tempfile::TempDir) -> aurora::Config {
    let endpoints = |port: u16| aurora::Endpoints {
        writer: format!("postgresql://driftline@127.0.0.1:{port}/app").parse().unwrap(),
        reader: None,
    };
    aurora::Config {
        auth: aurora::Auth::Password(Secret::File(secret(folder, "lab-secret"))),
        tls: aurora::Tls::CaFile(pair.primary().ca_file()),
        canary: aurora::CanaryPlace::default(),
        relation: None,
        fence: None,
        writers: None,
        sites: BTreeMap::from([
            ("use1".to_owned(), endpoints(ports[0])),
            ("usw2".to_owned(), endpoints(ports[1])),
        ]),
    }
}

/// Makes the role and what it needs, as far as it is not there.
pub(super) async fn prepare_postgresql(pair: &PgPair, config: &aurora::Config) {
    for step in aurora::InitSpec::of(config, "use1", Vec::new()).unwrap().steps() {
        let database = step.database.as_deref().unwrap_or("postgres");
        let is_done = match &step.unless {
            Some(unless) => pair.primary().value(database, unless).await.unwrap().is_some(),
            None => false,
        };
        if !is_done {
            pair.primary().execute(database, &step.sql).await.unwrap();
        }
    }
    let password = "alter role driftline password 'lab-secret'";
    pair.primary().execute("postgres", password).await.unwrap();
    pair.wait_replayed(PATIENCE).await.unwrap();
}

/// Both ends of a pair as they are configured.
pub(super) async fn postgresql(
    pair: &PgPair,
    ports: [u16; 2],
    folder: &tempfile::TempDir,
) -> ([End; 2], aurora::Config) {
    let config = postgresql_config(pair, ports, folder);
    prepare_postgresql(pair, &config).await;
    let ends = [
        aurora::open(&config, "use1", aurora::Endpoint::Writer).unwrap(),
        aurora::open(&config, "usw2", aurora::Endpoint::Reader).unwrap(),
    ];
    (ends, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_behind_a_bad_line() {
    let pair = PgPair::start(PgOptions::with_database("app")).await.unwrap();
    let lines = lines([pair.primary().port(), pair.standby().port()]).await;
    let folder = tempfile::tempdir().unwrap();
    let ([primary, secondary], _) = postgresql(&pair, [lines[0].port(), lines[1].port()], &folder).await;
    foreign_rows_are_left_out(&pair, &primary, &secondary).await;
    endures(ends(&primary, &secondary, Polling::AURORA, "5/s", lines)).await;
    pair.shutdown().await;
}

/// Rows of somebody else, and malformed ones: ignored, counted once, and no reason for the rest not to be seen.
async fn foreign_rows_are_left_out(pair: &PgPair, primary: &End, secondary: &End) {
    let epoch = "0123456789abcdef0123456789abcdef";
    let rows: [(i32, &str, i64); 7] = [
        (1, epoch, 65),
        (3, epoch, 4),
        (5, epoch, -59),
        (0, epoch, 0),
        (6, "not an epoch", 6),
        (-1, epoch, i64::MAX),
        (64, epoch, i64::MAX),
    ];
    for (slot, epoch, sequence) in rows {
        let sql = format!("insert into driftline.canary values ('odd', {slot}, '{epoch}', {sequence}, now())");
        pair.primary().execute("driftline", &sql).await.unwrap();
    }
    pair.wait_replayed(PATIENCE).await.unwrap();
    let reader = secondary.canary_reader.as_ref().unwrap();
    let first = reader.poll("odd", Sought::All).await.unwrap();
    let sequences: Vec<u64> = first.canaries.iter().map(|canary| canary.sequence).collect();
    assert_eq!((sequences, first.oddities.foreign), (vec![65], 4));
    assert_eq!(
        reader.poll("odd", Sought::All).await.unwrap().oddities.foreign,
        0,
        "once"
    );
    let highest = primary.canary_writer.as_ref().unwrap().highest_sequence("odd").await;
    assert_eq!(highest, Ok(65), "of what lies in its slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_postgresql_are_as_old_as_their_questions() {
    let pair = PgPair::start(PgOptions::with_database("app")).await.unwrap();
    let lines = lines([pair.primary().port(), pair.standby().port()]).await;
    let folder = tempfile::tempdir().unwrap();
    let ([primary, secondary], _) = postgresql(&pair, [lines[0].port(), lines[1].port()], &folder).await;
    answers_come_late(
        ends(&primary, &secondary, Polling::AURORA, "5/s", lines),
        async || pair.pause_replay().await.unwrap(),
        async || {
            pair.resume_replay().await.unwrap();
            pair.wait_replayed(PATIENCE).await.unwrap();
        },
    )
    .await;
    pair.shutdown().await;
}

async fn dynamodb_local(folder: &tempfile::TempDir) -> (DynamoPair, Ends) {
    let pair = DynamoPair::local(&[TableSpec::keyed_by_text("profiles", "id")])
        .await
        .unwrap();
    let lines = lines([port(&pair.endpoint(0)), port(&pair.endpoint(1))]).await;
    let (name, key) = pair.access_key();
    let key = (name, secret(folder, key));
    let config = dynamodb::Config {
        tables: vec![SiteNames::Everywhere("profiles".to_owned())],
        writers: None,
        labels: BTreeMap::new(),
        canary: dynamodb::CanaryPlace { table: None },
        native: None,
    };
    let site = |side: usize| aws(Service::Dynamodb, "us-east-1", &lines[side], key.clone());
    let table = &config.tables[0];
    let primary = dynamodb::open(&config, table, SITES[0], &site(0)).await.unwrap();
    let secondary = dynamodb::open(&config, table, SITES[1], &site(1)).await.unwrap();
    let ends = ends(&primary, &secondary, Polling::DYNAMODB, "5/s", lines);
    (pair, ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_local_behind_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let (_pair, ends) = dynamodb_local(&folder).await;
    endures(ends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_dynamodb_local_are_as_old_as_their_questions() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, ends) = dynamodb_local(&folder).await;
    answers_come_late(
        ends,
        async || pair.stall(),
        async || {
            pair.resume();
            pair.settle(PATIENCE).await.unwrap();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_behind_a_bad_line() {
    let options = MinioOptions::default();
    let names = SITES.into_iter().map(str::to_owned).zip(options.buckets.clone());
    let bucket = s3::Bucket {
        names: names.collect(),
        prefix: None,
    };
    let pair = MinioPair::start(options).await.unwrap();
    let lines = lines([port(&pair.primary().endpoint()), port(&pair.secondary().endpoint())]).await;
    let folder = tempfile::tempdir().unwrap();
    let key = (S3_ACCESS_KEY, secret(&folder, S3_SECRET_KEY));
    let regions = [pair.primary().region(), pair.secondary().region()];
    let site = |side: usize| aws(Service::S3, regions[side], &lines[side], key.clone());
    let config = s3::Config {
        buckets: vec![bucket],
        writers: None,
        labels: BTreeMap::new(),
        canary: s3::CanaryPlace::default(),
        native: None,
    };
    let bucket = &config.buckets[0];
    let keys = s3::rules(&config, bucket, SITES[0], &site(0))
        .await
        .unwrap()
        .key_sets
        .remove(0);
    let primary = s3::open(&config, bucket, &keys, SITES[0], &site(0)).await.unwrap();
    let secondary = s3::open(&config, bucket, &keys, SITES[1], &site(1)).await.unwrap();
    // Looked at as often as a table: what is paid for elsewhere is free here.
    endures(ends(&primary, &secondary, Polling::DYNAMODB, "5/s", lines)).await;
}

/// Clusters at these addresses, with the same names of topics.
pub(super) fn kafka_config(bootstraps: [String; 2]) -> kafka::Config {
    let sites = SITES.into_iter().zip(bootstraps).map(|(site, bootstrap)| {
        let bootstrap = vec![bootstrap];
        (site.to_owned(), kafka::Cluster { bootstrap })
    });
    kafka::Config {
        auth: None,
        tls: kafka::Tls::Disable,
        canary: kafka::CanaryPlace::default(),
        native: None,
        replicators: BTreeMap::new(),
        mapping: BTreeMap::new(),
        writers: None,
        sites: sites.collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_and_mirror_maker_behind_a_bad_line() {
    const TOPIC: &str = "driftline-canary";
    let program = Toxiproxy::start().await.unwrap();
    // A broker names the port at which its clients come back: the lines are there before it.
    let lines = [
        program.line("writer", 1).await.unwrap(),
        program.line("watcher", 1).await.unwrap(),
    ];
    let pair = KafkaServers::start(KafkaServersOptions {
        topics: vec![(TOPIC.to_owned(), 1)],
        proxies: Some([lines[0].port(), lines[1].port()]),
        ..KafkaServersOptions::default()
    })
    .await
    .unwrap();
    lines[0].lead_to(pair.primary().behind()).await.unwrap();
    lines[1].lead_to(pair.secondary().behind()).await.unwrap();
    pair.settle(Duration::from_secs(60)).await.unwrap();
    let mut config = kafka_config([&lines[0], &lines[1]].map(|line| format!("127.0.0.1:{}", line.port())));
    config.mapping = BTreeMap::from([("use1->usw2".to_owned(), "use1.{topic}".to_owned())]);
    let [primary, secondary] = kafka::open(&config, SITES[0], SITES[1], 0).unwrap();
    endures(ends(&primary, &secondary, Polling::KAFKA, "5/s", lines)).await;
}

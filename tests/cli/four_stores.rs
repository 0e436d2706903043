//! DynamoDB, S3 and Kafka by the command line: lag that is measured, replication that is dead, and what a failover loses.

use lab::{DynamoPair, KafkaOptions, KafkaPair, S3_ACCESS_KEY, S3_SECRET_KEY, S3Options, S3Pair, TableSpec};
use serde_json::Value;

use nix::sys::signal::Signal;

use crate::fixture::{Finished, Running, driftline, finish, parquet_files, wait_until};

/// A copy of the ledger in a bucket.
const COPY_IN_S3: &str = "s3://media-usw2/evidence/ledger";

const DATASETS: [&str; 3] = ["events", "media", "profiles"];

/// A pair of each store, and a folder with their configuration.
struct Stores {
    dynamodb: DynamoPair,
    s3: S3Pair,
    kafka: KafkaPair,
    folder: tempfile::TempDir,
}

impl Stores {
    async fn start() -> Self {
        let topics = ["driftline-canary", "orders"].map(|topic| (topic.to_owned(), 2));
        let options = KafkaOptions {
            topics: topics.to_vec(),
            ..KafkaOptions::default()
        };
        let stores = Self {
            dynamodb: DynamoPair::embedded(&[TableSpec::keyed_by_text("profiles", "id")])
                .await
                .expect("start DynamoDB"),
            s3: S3Pair::start(S3Options::default()).await.expect("start S3"),
            kafka: KafkaPair::start(options).await.expect("start Kafka"),
            folder: tempfile::tempdir().expect("make a folder"),
        };
        std::fs::write(stores.folder.path().join("key"), S3_SECRET_KEY).expect("write the key");
        std::fs::write(stores.folder.path().join("driftline.toml"), stores.config()).expect("write the configuration");
        stores
    }

    fn config(&self) -> String {
        let path = |name: &str| self.folder.path().join(name);
        let site = |site: &str, dynamodb: String, s3: String| {
            format!(
                "[site.{site}]\nregion = \"us-east-1\"\nendpoint_url = {{ dynamodb = {dynamodb:?}, s3 = {s3:?} }}\n\
                 credentials = {{ access_key_id = {S3_ACCESS_KEY:?}, secret_access_key = {{ file = {:?} }} }}\n",
                path("key")
            )
        };
        format!(
            "writers = [\"use1\"]\noutput = {out:?}\nstate = {state:?}\nledger = {{ path = {ledger:?}, copy_to = [{copy:?}, {in_s3}], upload_every = \"200ms\" }}\n\
             listen = \"127.0.0.1:0\"\n[defaults]\nprobe = {{ rate = \"5/s\" }}\n{old}{new}\
             [dataset.profiles.dynamodb]\ntables = [\"profiles\"]\n\
             [dataset.media.s3]\nbuckets = [{{ use1 = \"media-use1\", usw2 = \"media-usw2\" }}]\n\
             [connection.mirror.kafka]\ntls = \"disable\"\nmapping = {{ \"use1->usw2\" = \"use1.{{topic}}\" }}\n\
             sites.use1 = {{ bootstrap = {above:?} }}\nsites.usw2 = {{ bootstrap = {below:?} }}\n\
             [dataset.events.kafka]\nconnection = \"mirror\"\ntopics = [\"orders\"]\n",
            out = path("out"),
            state = path("state"),
            ledger = path("ledger"),
            copy = path("copy"),
            in_s3 = format_args!(
                "{{ url = {COPY_IN_S3:?}, region = \"us-east-1\", endpoint_url = {:?}, credentials = {{ access_key_id = {S3_ACCESS_KEY:?}, \
                 secret_access_key = {{ file = {:?} }} }} }}",
                self.s3.secondary().endpoint(),
                path("key")
            ),
            old = site("use1", self.dynamodb.endpoint(0), self.s3.primary().endpoint()),
            new = site("usw2", self.dynamodb.endpoint(1), self.s3.secondary().endpoint()),
            above = self.kafka.primary().bootstrap(),
            below = self.kafka.secondary().bootstrap(),
        )
    }

    fn run(&self, args: &[&str]) -> Finished {
        let config = self.folder.path().join("driftline.toml");
        finish(driftline().arg("--config").arg(config).args(args))
    }

    fn probe(&self, limit: &str, code: i32) -> Value {
        self.run(&["--format", "json", "probe", "--for", limit])
            .expect(code)
            .json()
    }

    fn stall(&self) {
        self.dynamodb.stall();
        self.s3.link().stall();
        self.kafka.mirror().stall();
    }

    fn resume(&self) {
        self.dynamodb.resume();
        self.s3.link().resume();
        self.kafka.mirror().resume();
    }
}

/// The sum of a figure over the awake routes of a dataset.
fn sum(probed: &Value, dataset: &str, figure: &str) -> u64 {
    let routes = probed["routes"].as_array().expect("routes");
    let of_dataset = routes
        .iter()
        .filter(|route| route["route"]["dataset"] == dataset && route["dormant"] == false);
    of_dataset.filter_map(|route| route[figure].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_of_all_stores_is_measured_and_a_dead_link_is_never_fine() {
    let stores = Stores::start().await;
    let probed = stores.probe("4s", 0);
    for dataset in DATASETS {
        assert!(sum(&probed, dataset, "seen") > 0, "{dataset}: {probed:#}");
        assert_eq!(sum(&probed, dataset, "lost"), 0, "{dataset}: {probed:#}");
    }
    assert_eq!(probed["complete"], true);
    let costs = parquet_files(&stores.folder.path().join("out"), "costs");
    assert_eq!(costs.len(), 1, "DynamoDB and S3 are paid for by the request");

    stores.stall();
    let probed = stores.probe("2s", 3);
    for dataset in DATASETS {
        assert!(sum(&probed, dataset, "pending") > 0, "{dataset}: {probed:#}");
        assert_eq!(sum(&probed, dataset, "seen"), 0, "{dataset}: {probed:#}");
    }
    assert_eq!(probed["complete"], false);

    // What was left open is looked for again, and found.
    stores.resume();
    let probed = stores.probe("3s", 0);
    assert_eq!(probed["complete"], true, "{probed:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_lost_is_proved_for_every_store_also_by_copies_of_the_ledger() {
    let stores = Stores::start().await;
    stores.probe("2s", 0);
    stores.stall();
    let probed = stores.probe("2s", 3);
    let event = [
        "event",
        "start",
        "failover",
        "--from",
        "use1",
        "--to",
        "usw2",
        "--exercise",
    ];
    stores.run(&event).expect(0);
    stores.run(&["event", "mark", "promoted"]).expect(0);
    let copy = stores.folder.path().join("copy");
    let copy = copy.to_str().expect("text");
    // What the probe left here is gone: the copies alone tell from the second time on.
    let ledger = stores.folder.path().join("ledger");
    let mut is_first = true;
    for args in [
        &["--format", "json", "rpo"][..],
        &["--format", "json", "rpo", "--ledger", copy],
        &["--format", "json", "rpo", "--ledger", COPY_IN_S3],
    ] {
        let loss = stores.run(args).expect(1).json();
        if std::mem::take(&mut is_first) {
            std::fs::remove_dir_all(&ledger).expect("remove the ledger");
        }
        for dataset in DATASETS {
            let results = loss["results"].as_array().expect("results").iter();
            let of_dataset = results.filter(|result| result["route"]["dataset"] == dataset);
            let lost: u64 = of_dataset.filter_map(|result| result["lost"].as_u64()).sum();
            assert_eq!(lost, sum(&probed, dataset, "pending"), "{dataset}: {loss:#}");
        }
    }

    // The new site writes now, and no canary goes to the old one.
    let printed = stores.run(&["config", "print"]).expect(0).stdout;
    assert!(!printed.contains("writers = [\"use1\"]\n\n[dataset"), "{printed}");
    let known = stores.run(&["reconcile", "run"]).expect(3).stderr;
    assert!(known.contains("this version compares PostgreSQL only"), "{known}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_at_the_start_is_probed_when_it_comes_back() {
    let stores = Stores::start().await;
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = port.local_addr().expect("its address");
    drop(port);
    let real = stores.s3.primary().endpoint();
    let config = stores.config().replace(&real, &format!("http://{address}"));
    let file = stores.folder.path().join("down.toml");
    std::fs::write(&file, config).expect("write the configuration");
    let mut command = driftline();
    command.arg("--config").arg(&file).args(["--format", "json", "probe"]);
    let probe = Running::spawn(command, &stores.folder.path().join("probe"));
    wait_until("it says what is missing", || {
        probe.log().contains("not probed; it is tried again")
    });
    wait_until("it serves", || probe.log().contains("/metrics"));

    // The site comes back: whoever calls at the port reaches the store.
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port again");
    let real = real.trim_start_matches("http://").to_owned();
    let relay = tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let real = real.clone();
            tokio::spawn(async move {
                if let Ok(mut store) = tokio::net::TcpStream::connect(real).await {
                    let _ended = tokio::io::copy_bidirectional(&mut caller, &mut store).await;
                }
            });
        }
    });
    wait_until("the store is taken up", || {
        probe.log().contains("is probed from here on")
    });
    let out = stores.folder.path().join("out");
    let log = probe.log();
    let served = log
        .split("http://")
        .find_map(|rest| rest.split_once("/metrics"))
        .map(|(address, _)| address.to_owned());
    let served = served.expect("where it serves");
    wait_until("its canaries arrive", || {
        let told = std::net::TcpStream::connect(&served).ok().and_then(|mut stream| {
            use std::io::{Read as _, Write as _};
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        });
        let text = told.unwrap_or_default();
        let mut lines = text.lines();
        let seen = lines.find(|line| {
            line.starts_with("driftline_canaries_total{")
                && line.contains("store=\"s3\"")
                && line.contains("state=\"seen\"")
        });
        seen.is_some_and(|line| !line.ends_with(" 0")) && !text.contains("driftline_unmeasured{dataset=\"media\"")
    });
    probe.signal(Signal::SIGTERM);
    probe.expect(0);
    assert!(!parquet_files(&out, "lag_samples").is_empty());
    relay.abort();
}

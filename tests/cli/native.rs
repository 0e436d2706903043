//! `native = "cloudwatch"`: AWS's own word beside the canaries, also when the two contradict each other.

use lab::{CloudWatch, DynamoPair, MetricAnswer, TableSpec};
use nix::sys::signal::Signal;

use crate::fixture::{Finished, Running, driftline, finish, parquet_files, wait_until};
use crate::probing::{get, metric, ready, seen};

const IN_STEP: MetricAnswer = MetricAnswer::Points(|asked, _| vec![(asked.end_s - 60, 0.0)]);

/// A table in two regions, whose CloudWatch says what a test says.
struct Copied {
    dynamodb: DynamoPair,
    cloudwatch: CloudWatch,
    folder: tempfile::TempDir,
}

impl Copied {
    async fn start(answer: MetricAnswer) -> Self {
        let copied = Self {
            dynamodb: DynamoPair::embedded(&[TableSpec::keyed_by_text("profiles", "id")])
                .await
                .expect("start DynamoDB"),
            cloudwatch: CloudWatch::start(answer).await.expect("start CloudWatch"),
            folder: tempfile::tempdir().expect("make a folder"),
        };
        std::fs::write(copied.folder.path().join("key"), "lab-secret").expect("write the key");
        std::fs::write(copied.folder.path().join("driftline.toml"), copied.config()).expect("write the configuration");
        copied
    }

    fn config(&self) -> String {
        let path = |name: &str| self.folder.path().join(name);
        let site = |site: &str, region: &str, side: usize| {
            format!(
                "[site.{site}]\nregion = {region:?}\nendpoint_url = {{ dynamodb = {:?}, cloudwatch = {:?} }}\n\
                 credentials = {{ access_key_id = \"lab\", secret_access_key = {{ file = {:?} }} }}\n",
                self.dynamodb.endpoint(side),
                self.cloudwatch.endpoint(),
                path("key")
            )
        };
        format!(
            "writers = [\"use1\"]\noutput = {:?}\nstate = {:?}\nledger = {{ path = {:?} }}\nlisten = \"127.0.0.1:0\"\n{}{}\
             [dataset.profiles.dynamodb]\ntables = [\"profiles\"]\nnative = \"cloudwatch\"\n",
            path("out"),
            path("state"),
            path("ledger"),
            site("use1", "us-east-1", 0),
            site("usw2", "us-west-2", 1),
        )
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = driftline();
        let config = self.folder.path().join("driftline.toml");
        command.arg("--config").arg(config).args(args);
        command
    }

    fn check(&self, args: &[&str]) -> Finished {
        finish(&mut self.command(args)).expect(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_says_zero_while_nothing_arrives_is_seen_to_contradict_the_canaries() {
    let copied = Copied::start(IN_STEP).await;
    let probe = Running::spawn(copied.command(&["probe"]), &copied.folder.path().join("probe"));
    let address = ready(&probe);
    wait_until("canaries are seen", || seen(&address) >= 2.0);
    copied.dynamodb.stall();
    wait_until("the oldest unseen canary is old", || {
        metric(&address, "driftline_oldest_unseen_seconds").is_some_and(|age| age > 2.0)
    });
    assert_eq!(
        metric(&address, "driftline_native_lag_seconds"),
        Some(0.0),
        "as AWS says"
    );
    let asked = copied.cloudwatch.requests();
    let as_of = metric(&address, "driftline_native_as_of_timestamp_seconds");
    let minute = asked.first().map(|request| request.end_s - 60).expect("it was asked");
    assert_eq!(as_of.map(|at| format!("{at:.0}")), Some(minute.to_string()));
    assert!(asked.iter().all(|request| request.region == "us-east-1"), "{asked:?}");
    let (_, page) = get(&address, "/status.json").expect("the status");
    assert!(page.contains("\"native_lag_us\":0"), "{page}");
    let (_, scrape) = get(&address, "/metrics").expect("a scrape");
    assert!(
        scrape.contains("operation=\"GetMetricData\""),
        "what is paid for is counted"
    );
    probe.signal(Signal::SIGTERM);
    probe.expect(3);
    assert!(!parquet_files(&copied.folder.path().join("out"), "lag_intervals").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_collected_and_why_something_is_not() {
    let copied = Copied::start(IN_STEP).await;
    let told = copied.check(&["check"]).stdout;
    assert!(
        told.contains("native lag 0 us in the minute from ")
            && told.contains("(TableName=profiles, ReceivingRegion=us-west-2) in us-east-1"),
        "{told}"
    );
    copied
        .cloudwatch
        .answer(MetricAnswer::Error(400, "AccessDenied", "User lab may not"));
    let told = copied.check(&["check"]).stdout;
    assert!(
        told.contains("native lag NOT COLLECTED: ") && told.contains("allow cloudwatch:GetMetricData"),
        "{told}"
    );
    copied.cloudwatch.answer(MetricAnswer::Points(|_, _| Vec::new()));
    let told = copied.check(&["--format", "json", "check"]).json();
    let native = &told["connections"][0]["pairs"][0]["native"][0];
    assert!(native["lag_us"].is_null(), "{native}");
    assert!(
        native["not_collected"]
            .as_str()
            .is_some_and(|why| why.contains("no data point")),
        "{native}"
    );
    let printed = finish(&mut copied.command(&["init", "--print"])).expect(0).stdout;
    assert!(printed.contains("cloudwatch:GetMetricData"), "{printed}");
}

//! Rules and dashboards in a real Prometheus, which reads a real probe of a real pair, through a failover.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Workload, WorkloadOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fixture::{DATABASE, Story, wait_until};
use crate::probing::ready;

const TABLES: &str = "create table public.orders (id bigint primary key, quantity integer not null default 1, note text not null default '')";

/// Ports that are tried: another process may take one between its choice and its use.
const PORTS_TRIED_MAX: usize = 10;

/// Until every panel shows something: all rules were evaluated, and rates have two samples.
const PANELS_PATIENCE: Duration = Duration::from_secs(50);

/// Alerts on the lag of routes: an event silences them.
const LAG_ALERTS: [&str; 10] = [
    "DriftlineLagWarning",
    "DriftlineLagCritical",
    "DriftlineUnseenWarning",
    "DriftlineUnseenCritical",
    "DriftlineStalled",
    "DriftlineNativeContradicted",
    "DriftlineUnwritten",
    "DriftlineBudgetBurnFast",
    "DriftlineBudgetBurn",
    "DriftlineBudgetBurnSlow",
];

/// Panels that a probe of PostgreSQL has nothing to show in, and why.
const EMPTY_PANELS: [(&str, &str); 7] = [
    ("Dollars an hour", "no budget is stated"),
    ("Pace under the budget", "no budget is stated"),
    ("Mirror lag", "Kafka alone is mirrored by records"),
    ("Capacity units", "requests to PostgreSQL have no price list"),
    (
        "Unmeasured collections",
        "the canary stands for every table of the cluster",
    ),
    (
        "Age of the oldest copy of a ledger",
        "no place for copies is configured",
    ),
    ("p99 by native histograms", "asked of the Prometheus that collects them"),
];

/// A Prometheus of its own. It ends with the test that started it.
struct Prometheus {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// One that scrapes `probe` every second, with these arguments on top.
    fn start(probe: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        std::fs::write(folder.path().join("driftline.rules.yml"), impatient_rules()).expect("write the rules");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [driftline.rules.yml]\n\
             scrape_configs: [{{job_name: driftline, static_configs: [{{targets: ['{probe}']}}]}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("write the configuration");
        for _ in 0..PORTS_TRIED_MAX {
            let port = free_port();
            let mut child = Self::spawn(folder.path(), port, arguments);
            let mut has_ended = false;
            wait_until("Prometheus is ready, or has no port", || {
                has_ended = child.try_wait().expect("wait for Prometheus").is_some();
                has_ended || http(port, "/-/ready").is_some_and(|(code, _)| code == 200)
            });
            if !has_ended {
                return Self {
                    child,
                    port,
                    _folder: folder,
                };
            }
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("Prometheus does not start: {log}");
    }

    fn spawn(folder: &Path, port: u16, arguments: &[&str]) -> Child {
        let log = std::fs::File::create(folder.join("log")).expect("make a log file");
        Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start prometheus: scripts/install.sh rules")
    }

    /// The series of an instant query; an error when it is refused.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let (code, body) = http(self.port, &format!("/api/v1/query?query={}", encoded(query))).ok_or("no answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{code}: {error}: {body}"))?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// The value of a query that has one series.
    fn value(&self, query: &str) -> Option<f64> {
        let found = self.query(query).expect("a query");
        found.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Names of the alerts that fire now.
    fn firing(&self) -> BTreeSet<String> {
        let Some((200, body)) = http(self.port, "/api/v1/alerts") else {
            return BTreeSet::new();
        };
        let answer: Value = serde_json::from_str(&body).expect("alerts as JSON");
        let alerts = answer["data"]["alerts"].as_array().expect("a list of alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned())
            .collect()
    }

    fn lag_alerts(&self) -> BTreeSet<String> {
        let firing = self.firing().into_iter();
        firing.filter(|alert| LAG_ALERTS.contains(&alert.as_str())).collect()
    }

    /// Stops it as an operator does.
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process ID"));
        kill(pid, Signal::SIGTERM).expect("stop Prometheus");
        wait_until("Prometheus ends", || {
            self.child.try_wait().expect("wait for Prometheus").is_some()
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail when it ended already, as it should have.
        let _ended = (self.child.kill(), self.child.wait());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// HTTP/1.0, so that the body comes in one piece.
fn http(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The rules as they are shipped, but for `for:`: a test has no hours. Expressions and their bounds are untouched, so the age that makes an
/// alert pend here is the age that makes it pend in production; how long it pends is replayed by promtool.
fn impatient_rules() -> String {
    let rules = std::fs::read_to_string(repository("deploy/prometheus/driftline.rules.yml")).expect("read the rules");
    let mut shortened = String::new();
    for line in rules.lines() {
        match line.trim_start().strip_prefix("for: ") {
            Some(_) => {
                let indent = line.len() - line.trim_start().len();
                shortened.push_str(&line[..indent]);
                shortened.push_str("for: 2s");
            }
            None => shortened.push_str(line),
        }
        shortened.push('\n');
    }
    assert!(shortened.matches("for: 2s").count() > 15, "{shortened}");
    shortened
}

/// One query of a dashboard.
#[derive(Debug)]
struct PanelQuery {
    dashboard: String,
    panel: String,
    query: String,
}

impl PanelQuery {
    /// The query as Grafana sends it for these sites and everything else.
    fn between(&self, primary: &str, secondary: &str) -> String {
        self.query
            .replace("$dataset", ".*")
            .replace("$observer", ".*")
            .replace("$primary_site", primary)
            .replace("$secondary_site", secondary)
    }

    /// The name of the panel without its direction.
    fn figure(&self) -> &str {
        self.panel.split(": $").next().unwrap_or_default()
    }
}

fn panel_queries() -> Vec<PanelQuery> {
    let mut queries = Vec::new();
    for dashboard in ["overview", "aurora", "dynamodb", "s3", "kafka"] {
        let text = std::fs::read_to_string(repository(&format!("deploy/grafana/{dashboard}.json"))).expect("read it");
        let parsed: Value = serde_json::from_str(&text).expect("a dashboard");
        for panel in parsed["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push(PanelQuery {
                    dashboard: dashboard.to_owned(),
                    panel: panel["title"].as_str().expect("a title").to_owned(),
                    query: target["expr"].as_str().expect("a query").to_owned(),
                });
            }
        }
    }
    assert!(queries.len() > 150, "{} queries", queries.len());
    queries
}

/// Every query is accepted, and of those that should show something these do not yet, in either direction.
fn empty(prometheus: &Prometheus, queries: Vec<PanelQuery>) -> Vec<PanelQuery> {
    let mut empty = Vec::new();
    for one in queries {
        let found = |primary, secondary| {
            let found = prometheus.query(&one.between(primary, secondary));
            found.unwrap_or_else(|error| panic!("{one:?}: {error}")).len()
        };
        let is_empty = found("a", "b") == 0 && found("b", "a") == 0;
        let is_ours = ["overview", "aurora"].contains(&one.dashboard.as_str());
        let is_known = EMPTY_PANELS.iter().any(|(figure, _)| *figure == one.figure());
        if is_empty && is_ours && !is_known {
            empty.push(one);
        }
    }
    empty
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_fires_the_rules_and_every_panel_can_be_drawn() {
    let story = Story::start(TABLES).await;
    // Without it a standby that has applied everything cannot be told from one that hears nothing, so no lag of its own is collected.
    let monitored = story
        .pair
        .primary()
        .execute("postgres", "grant pg_monitor to driftline");
    monitored.await.expect("grant what init calls optional");
    let probe = story.spawn("probe", &["probe"]);
    let address = ready(&probe);
    let prometheus = Prometheus::start(&address, &[]);
    story.run(&["reconcile", "run"]).expect(0);
    let workload = Workload::start(story.pair.primary(), WorkloadOptions::new(DATABASE, "orders"))
        .await
        .expect("start a workload");

    // Health: every panel shows something, and nothing fires.
    let begun = Instant::now();
    let mut queries = panel_queries();
    wait_until("every panel shows something", || {
        queries = empty(&prometheus, std::mem::take(&mut queries));
        assert!(
            queries.is_empty() || begun.elapsed() < PANELS_PATIENCE,
            "these show nothing: {queries:#?}"
        );
        queries.is_empty()
    });
    assert_eq!(prometheus.lag_alerts(), BTreeSet::new());
    native_panels(&address);

    // Replication is cut under the workload.
    story.pair.cut();
    wait_until("a write that is not visible is alerted on", || {
        prometheus.firing().contains("DriftlineUnseenWarning")
    });
    assert!(!prometheus.firing().contains("DriftlineLoss"), "late is not lost");

    // An event silences lag, though lag goes on.
    story
        .run(&["event", "start", "failover", "--from", "a", "--to", "b"])
        .expect(0);
    wait_until("lag alerts are silent", || prometheus.lag_alerts().is_empty());
    let oldest = prometheus.value("max(driftline:oldest_unseen_seconds:max)");
    assert!(oldest.is_some_and(|age| age > 10.0), "{oldest:?}");

    // The standby is promoted: what had not arrived is lost, and no event silences that.
    workload.stop().await.expect("stop the workload");
    story.pair.promote().await.expect("promote");
    story.run(&["event", "mark", "promoted"]).expect(0);
    wait_until("loss is alerted on", || prometheus.firing().contains("DriftlineLoss"));
    assert_eq!(prometheus.value("max(driftline_event_active)"), Some(1.0));
    assert_eq!(prometheus.lag_alerts(), BTreeSet::new());

    prometheus.stop();
    probe.signal(Signal::SIGTERM);
    // Both ends take writes now, so nothing was written since and nothing is pending.
    probe.expect(0);
}

/// The panels on native histograms, in a Prometheus that collects these.
fn native_panels(probe: &str) {
    let prometheus = Prometheus::start(probe, &["--enable-feature=native-histograms"]);
    for one in panel_queries() {
        if one.dashboard == "aurora"
            && one.figure() == "p99 by native histograms"
            && one.panel.ends_with("to $secondary_site")
        {
            let query = one.between("a", "b");
            wait_until("native histograms have a quantile", || {
                prometheus.value(&query).is_some_and(f64::is_finite)
            });
        }
    }
    prometheus.stop();
}

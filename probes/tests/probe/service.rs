//! The endpoints, as an orchestrator, Prometheus and a person see them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use probes::{Metrics, Readiness, RouteState, Status, serve};
use stores::memory::{Delay, Settings, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, pair, until};

/// A service that runs.
struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    service: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start(metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(serve(listener, metrics, readiness, shutdown.clone()));
        Self {
            address,
            shutdown,
            service,
        }
    }

    async fn get(&self, path: &str, accept: &str) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: probe\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.get(path, "*/*").await;
        (status, String::from_utf8(body).unwrap())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.service.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn readiness_is_a_latch_and_liveness_asks_nothing_of_replication() {
    let (metrics, readiness) = (Arc::new(Metrics::new("1.2.3")), Arc::new(Readiness::default()));
    metrics.set_event_active("failover", true);
    let served = Served::start(metrics, readiness.clone()).await;
    assert_eq!(served.text("/livez").await.0, 200);
    assert_eq!(served.text("/readyz").await.0, 503);
    readiness.set();
    assert_eq!(served.text("/readyz").await.0, 200);
    let (status, body) = served.text("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("driftline_build_info{version=\"1.2.3\"} 1"), "{body}");
    assert!(body.contains("driftline_event_active{kind=\"failover\"} 1"), "{body}");
    assert_eq!(served.text("/").await.0, 200);
    assert_eq!(served.text("/nothing").await.0, 404);
    served.stop().await;
}

#[tokio::test]
async fn prometheus_gets_the_form_that_it_asks_for() {
    let served = Served::start(Arc::new(Metrics::new("1.2.3")), Arc::new(Readiness::default())).await;
    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (status, head, body) = served
        .get("/metrics", &format!("{protobuf};q=0.6,text/plain;version=0.0.4;q=0.3"))
        .await;
    assert_eq!(status, 200);
    assert!(head.contains("proto=io.prometheus.client.MetricFamily"), "{head}");
    assert!(!body.starts_with(b"#"));
    let (_, head, body) = served.get("/metrics", "text/plain;version=0.0.4").await;
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(body.starts_with(b"# HELP"));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_scrape_has_every_name_and_no_label_that_grows() {
    let pair = pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(30)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    });
    let running = Rig::new(&pair, "10/s").start();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let text = running.metrics.render();
    let labels =
        "dataset=\"orders\",store=\"aurora\",primary_site=\"use1\",secondary_site=\"usw2\",observer=\"usw2/test\"";
    for line in [
        format!("driftline_lag_low_seconds_bucket{{le=\"0.05\",{labels}}}"),
        format!("driftline_lag_high_seconds_count{{{labels}}}"),
        format!("driftline_write_seconds_sum{{{labels}}}"),
        format!("driftline_lateness_seconds_bucket{{le=\"+Inf\",{labels}}}"),
        format!("driftline_oldest_unseen_seconds{{{labels}}}"),
        format!("driftline_pending{{{labels}}}"),
        format!("driftline_canaries_total{{{labels},state=\"seen\"}}"),
        format!("driftline_canaries_total{{{labels},state=\"lost\"}} 0"),
        format!("driftline_skipped_total{{{labels}}} 0"),
        format!("driftline_stale_reads_total{{{labels}}} 0"),
        format!("driftline_canaries_duplicate_total{{{labels}}} 0"),
        format!("driftline_canaries_foreign_total{{{labels}}} 0"),
        format!("driftline_native_lag_seconds{{{labels}}}"),
        format!("driftline_role_conflict{{{labels}}} 0"),
        format!("driftline_requests_total{{{labels},operation=\"write\"}}"),
        format!("postgres_replication_lag_seconds{{{labels}}}"),
        format!("postgres_replication_lag_bytes{{{labels}}}"),
    ] {
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    for forbidden in ["stream=", "epoch=", "sequence=", "partition="] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    let seen = running.stop().await.unwrap().accounting().seen;
    assert!(seen > 200);
}

/// The state of the only route.
fn state(metrics: &Metrics) -> RouteState {
    let status = Status::now(metrics, true);
    assert_eq!(status.routes.len(), 1);
    status.routes[0].state
}

#[tokio::test(start_paused = true)]
async fn a_dead_replication_shows_on_the_page_and_leaves_the_probe_alive_and_ready() {
    let pair = pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(30)),
        round_trip: Duration::from_millis(2),
        ..Settings::default()
    });
    let running = Rig::new(&pair, "10/s").drain(Duration::from_secs(1)).start();
    until("arriving", || {
        let status = Status::now(&running.metrics, true);
        status
            .routes
            .first()
            .is_some_and(|route| route.state == RouteState::Arriving)
    })
    .await;
    let before = Status::now(&running.metrics, true).routes[0].clone();
    assert_eq!(before.probed_for_us / 60_000_000, 0);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let lately = Status::now(&running.metrics, true).routes[0].last_minute.unwrap();
    assert!(
        lately.low_p50_us <= 30_000 && lately.high_p50_us >= 30_000,
        "{lately:?}"
    );

    pair.stall();
    until("stalled", || state(&running.metrics) == RouteState::Stalled).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let route = Status::now(&running.metrics, true).routes[0].clone();
    assert!(route.oldest_unseen_us.unwrap() >= 200_000_000, "{route:?}");
    assert_eq!(route.last_minute, None, "nothing was seen, which is not zero");
    let served = Served::start(running.metrics.clone(), running.readiness.clone()).await;
    assert_eq!(served.text("/livez").await.0, 200);
    assert_eq!(served.text("/readyz").await.0, 200);
    let (_, page) = served.text("/").await;
    assert!(page.contains("nothing arrives"), "{page}");
    let (_, json) = served.text("/status.json").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["routes"][0]["state"], "stalled");
    assert_eq!(json["routes"][0]["last_minute"], serde_json::Value::Null);
    served.stop().await;

    pair.resume();
    until("arriving again", || state(&running.metrics) == RouteState::Arriving).await;
    running.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_secondary_that_does_not_answer_is_told_from_one_that_has_nothing() {
    let pair = pair(Settings::default());
    let running = Rig::new(&pair, "10/s").drain(Duration::from_secs(1)).start();
    until("arriving", || {
        let status = Status::now(&running.metrics, true);
        status
            .routes
            .first()
            .is_some_and(|route| route.state == RouteState::Arriving)
    })
    .await;
    pair.set_reachable(Side::Secondary, false);
    until("blind", || state(&running.metrics) == RouteState::Blind).await;
    running.stop().await.unwrap();
}

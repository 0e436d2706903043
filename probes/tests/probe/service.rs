//! The endpoints, as an orchestrator and Prometheus see them.

use std::sync::Arc;
use std::time::Duration;

use probes::{Metrics, Readiness, serve};
use stores::memory::{Delay, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, pair};

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test]
async fn readiness_is_a_latch_and_liveness_asks_nothing_of_replication() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, readiness) = (Arc::new(Metrics::new("1.2.3")), Arc::new(Readiness::default()));
    metrics.set_event_active("failover", true);
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(serve(listener, metrics, readiness.clone(), shutdown.clone()));
    assert_eq!(get(address, "/livez").await.0, 200);
    assert_eq!(get(address, "/readyz").await.0, 503);
    readiness.set();
    assert_eq!(get(address, "/readyz").await.0, 200);
    let (status, body) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("driftline_build_info{version=\"1.2.3\"} 1"), "{body}");
    assert!(body.contains("driftline_event_active{kind=\"failover\"} 1"), "{body}");
    assert_eq!(get(address, "/").await.0, 404);
    shutdown.cancel();
    service.await.unwrap().unwrap();
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

//! The status page at `/`, `/status.json`, `/metrics`, `/livez`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::status::Status;

/// How often the runtime is asked how late its timers are.
const LATENESS_EVERY: Duration = Duration::from_secs(1);

const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Nothing but what the page itself carries.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether the probe has started. A latch: it is never taken back, and has nothing to do with the health of replication; an
/// orchestrator that restarted the probe because replication is dead would blind the people who need it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// The probe has started.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug, Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// Serves all paths until `shutdown`. `/livez` answers 200 while the process serves at all; `/readyz` 503 until every route has
/// started, then 200 for good. Meanwhile it measures how late the timers of this runtime are, which is the probe's.
///
/// # Errors
/// What the listener says.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(page))
        .route("/status.json", get(status))
        .route("/metrics", get(scrape))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(Shown {
            metrics: metrics.clone(),
            readiness,
        });
    let ended = shutdown.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    let (served, _) = tokio::join!(
        async {
            let served = serving.await;
            ended.cancel();
            served
        },
        ended.run_until_cancelled(watch_lateness(&metrics)),
    );
    served
}

/// Asks for timers and sees when they fire.
async fn watch_lateness(metrics: &Metrics) {
    loop {
        let due = Instant::now() + LATENESS_EVERY;
        tokio::time::sleep_until(due).await;
        metrics.runtime_was_late(due.elapsed());
    }
}

async fn page(State(shown): State<Shown>) -> Response {
    let status = Status::now(&shown.metrics, shown.readiness.is_set());
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, status.page()).into_response()
}

async fn status(State(shown): State<Shown>) -> Response {
    let status = Status::now(&shown.metrics, shown.readiness.is_set());
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    match serde_json::to_vec(&status) {
        Ok(body) => (headers, body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn scrape(State(shown): State<Shown>, headers: HeaderMap) -> Response {
    let accepts: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    if wants_protobuf(&accepts.join(",")) {
        ([(header::CONTENT_TYPE, PROTOBUF)], shown.metrics.render_protobuf()).into_response()
    } else {
        ([(header::CONTENT_TYPE, TEXT)], shown.metrics.render()).into_response()
    }
}

/// Whether the client asks for protobuf as Prometheus does and likes nothing else better. Native histograms travel so alone.
fn wants_protobuf(accept: &str) -> bool {
    let mut protobuf = 0.0;
    let mut text: f64 = 0.0;
    for wanted in accept.split(',') {
        let mut parts = wanted.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let parameters: Vec<&str> = parts.collect();
        let has = |wanted: &str| parameters.iter().any(|one| one.eq_ignore_ascii_case(wanted));
        let quality = parameters.iter().find_map(|one| one.strip_prefix("q=")?.parse().ok());
        let quality: f64 = quality.unwrap_or(1.0);
        match kind {
            "application/vnd.google.protobuf"
                if has("proto=io.prometheus.client.MetricFamily") && has("encoding=delimited") =>
            {
                protobuf = quality;
            }
            "application/openmetrics-text" | "text/plain" => text = text.max(quality),
            _ => {}
        }
    }
    protobuf > 0.0 && protobuf >= text
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    if shown.readiness.is_set() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_for_those_who_like_it_best() {
        let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
            application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert!(wants_protobuf(prometheus));
        assert!(!wants_protobuf(&prometheus.replace("q=0.6", "q=0.4")));
        assert!(!wants_protobuf(&prometheus.replace("MetricFamily", "Other")));
        assert!(!wants_protobuf(&prometheus.replace("q=0.6", "q=0")));
        for other in [
            "",
            "*/*",
            "text/html,application/xhtml+xml",
            "application/vnd.google.protobuf",
        ] {
            assert!(!wants_protobuf(other), "{other}");
        }
    }
}

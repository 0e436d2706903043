//! `/metrics`, `/livez`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

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

/// Serves the three paths until `shutdown`. `/livez` answers 200 while the process serves at all; `/readyz` 503 until every route
/// has started, then 200 for good.
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
        .route("/metrics", get(render))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(Shown { metrics, readiness });
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn render(State(shown): State<Shown>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.metrics.render())
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    if shown.readiness.is_set() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

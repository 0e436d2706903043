//! The probe that runs beside the story.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use probes::Metrics;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Failure, NEW_SITE};
use crate::command::probe::Measured;
use crate::command::{Context, probe};

/// How often, and how many times, a started probe is asked whether canaries arrive.
const SEEN_POLL: Duration = Duration::from_millis(50);
const SEEN_POLLS_MAX: u32 = 400;

/// A probe on a thread and a runtime of its own, as in production.
pub(super) struct RunningProbe {
    shutdown: CancellationToken,
    metrics: Arc<Metrics>,
    ended: oneshot::Receiver<Result<Measured, Failure>>,
}

impl RunningProbe {
    pub(super) async fn start(context: &Context) -> Result<Self, Failure> {
        let shutdown = CancellationToken::new();
        let (ends, ended) = oneshot::channel();
        let (starts, started) = oneshot::channel();
        let runtime = probes::runtime()
            .context("start the probe's runtime")
            .map_err(Failure::cannot_tell)?;
        let (token, context) = (shutdown.clone(), context.clone());
        std::thread::Builder::new()
            .name("probe".to_owned())
            .spawn(move || {
                let result = runtime.block_on(probe::measure(&context, token, Some(starts)));
                // The story has ended before its probe: there is nobody to tell.
                drop(ends.send(result));
            })
            .context("start the probe's thread")
            .map_err(Failure::cannot_tell)?;
        match started.await {
            Ok(metrics) => Ok(Self {
                shutdown,
                metrics,
                ended,
            }),
            Err(_) => match ended.await {
                Ok(Err(failure)) => Err(failure),
                _ => Err(Failure::cannot_tell(anyhow!("the probe ended before it began"))),
            },
        }
    }

    /// Waits until canaries of this probe arrive, so that what follows has survivors to count from.
    pub(super) async fn sees_canaries(&self) -> Result<(), Failure> {
        for _ in 0..SEEN_POLLS_MAX {
            if self.metrics.render().lines().any(is_seen_canary) {
                return Ok(());
            }
            tokio::time::sleep(SEEN_POLL).await;
        }
        Err(Failure::cannot_tell(anyhow!(
            "no canary of the probe arrived at {NEW_SITE}"
        )))
    }

    /// The age of the oldest unseen canary, seconds, as `/metrics` says it.
    pub(super) fn oldest_unseen(&self) -> Option<f64> {
        let text = self.metrics.render();
        let line = text
            .lines()
            .find(|line| line.starts_with("driftline_oldest_unseen_seconds{") && is_of_postgres(line))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub(super) async fn stop(self) -> Result<Measured, Failure> {
        self.shutdown.cancel();
        self.ended
            .await
            .context("the probe's thread")
            .map_err(Failure::cannot_tell)?
    }
}

/// A line of `/metrics` about the store that fails over.
fn is_of_postgres(line: &str) -> bool {
    line.contains("store=\"aurora\"")
}

/// A line of `/metrics` that counts at least one canary as seen.
fn is_seen_canary(line: &str) -> bool {
    line.starts_with("driftline_canaries_total{")
        && is_of_postgres(line)
        && line.contains("state=\"seen\"")
        && !line.ends_with(" 0")
}

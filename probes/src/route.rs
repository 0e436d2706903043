//! One stream of a route over all of its epochs: it sleeps while its primary is not stated to be a writer, and begins a new epoch
//! whenever roles change.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stores::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::engine::{RouteSpec, RouteSummary, Setting};
use crate::epoch::{Cause, Ended, Epoch};
use crate::ledger::{LedgerError, first_unreserved};
use crate::live::Live;
use crate::metrics::RouteFigures;
use crate::stated::StatedWriters;
use crate::tracker::Tracker;
use crate::{Accounting, ProbeError};

/// Between two tries to reach a primary that does not answer at the start.
const START_RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long the primary may take to answer one try.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause after giving way to another probe; it doubles up to [`RIVAL_PAUSE_MAX`], so that two probes that both begin anew
/// leave each other alone most of the time.
const RIVAL_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause. An epoch that lasted longer was not disputed.
const RIVAL_PAUSE_MAX: Duration = Duration::from_secs(300);

/// A stream that is about to run.
#[derive(Debug)]
pub(crate) struct RouteRun {
    spec: RouteSpec,
    setting: Setting,
    started: Option<mpsc::Sender<()>>,
    stated: watch::Receiver<StatedWriters>,
    live: Arc<Live>,
    figures: Option<Arc<RouteFigures>>,
    sum: Sum,
}

/// Figures over all epochs.
#[derive(Debug, Default)]
struct Sum {
    epoch: Option<String>,
    accounting: Accounting,
    earlier: Accounting,
    /// What the last epoch left for the next one to take up.
    handed_on: Option<Box<Ended>>,
    was_promoted: bool,
    was_asked: bool,
}

impl Sum {
    /// An epoch ended; what it left open counts with the next one, if there is a next one.
    fn add(&mut self, ended: Ended) {
        self.epoch = Some(ended.epoch.clone());
        self.was_promoted |= ended.was_promoted;
        if matches!(ended.cause, Cause::Restated | Cause::Rival) {
            self.handed_on = Some(Box::new(ended));
        } else {
            self.accounting = self.accounting.plus(ended.whole);
            self.earlier = self.earlier.plus(ended.earlier_whole);
        }
    }

    /// Another epoch takes up what is open.
    fn taken_up(&mut self) {
        if let Some(ended) = self.handed_on.take() {
            self.accounting = self.accounting.plus(ended.concluded);
            self.earlier = self.earlier.plus(ended.earlier_concluded);
        }
    }

    /// Nobody does.
    fn close(&mut self) {
        if let Some(ended) = self.handed_on.take() {
            self.accounting = self.accounting.plus(ended.whole);
            self.earlier = self.earlier.plus(ended.earlier_whole);
        }
    }
}

impl RouteRun {
    pub(crate) fn new(spec: RouteSpec, setting: Setting, started: mpsc::Sender<()>) -> Self {
        let nothing = Tracker::new("", spec.reader.is_ordered(), spec.writer.ring_slots());
        Self {
            stated: setting.stated.clone(),
            live: Arc::new(Live::new(nothing)),
            started: Some(started),
            figures: None,
            sum: Sum::default(),
            spec,
            setting,
        }
    }

    /// Epoch after epoch until shutdown.
    pub(crate) async fn run(mut self) -> Result<Option<RouteSummary>, ProbeError> {
        let mut pause = RIVAL_PAUSE;
        let mut random = StdRng::seed_from_u64(self.setting.seed);
        while self.until_writer().await {
            self.sum.was_asked = true;
            let Some(first_sequence) = self.first_sequence().await? else {
                continue;
            };
            let began = Instant::now();
            self.sum.taken_up();
            let ended = self.epoch(first_sequence).run().await?;
            let cause = ended.cause;
            self.sum.add(ended);
            if began.elapsed() > RIVAL_PAUSE_MAX {
                pause = RIVAL_PAUSE;
            }
            if cause == Cause::Rival {
                let jitter = random.random_range(0.5..1.5);
                let wait = tokio::time::sleep(pause.mul_f64(jitter));
                let _interrupted = self.setting.shutdown.run_until_cancelled(wait).await;
                pause = (pause * 2).min(RIVAL_PAUSE_MAX);
            }
        }
        Ok(Some(self.summary()))
    }

    fn summary(mut self) -> RouteSummary {
        self.sum.close();
        RouteSummary {
            route: self.spec.route.clone(),
            collection: self.spec.collection.clone(),
            stream: self.spec.stream.clone(),
            is_dormant: !self.sum.was_asked,
            epoch: self.sum.epoch,
            accounting: self.sum.accounting,
            earlier: self.sum.earlier,
            stale_reads: self.live.stale_reads(),
            was_promoted: self.sum.was_promoted,
        }
    }

    /// Waits until the primary is stated to be a writer. `false`: shut down.
    async fn until_writer(&mut self) -> bool {
        while !self.setting.shutdown.is_cancelled() {
            if self.stated.borrow_and_update().is_writer(&self.spec.route) {
                return true;
            }
            self.has_started().await; // there is nothing to wait for
            tokio::select! {
                () = self.setting.shutdown.cancelled() => {}
                changed = self.stated.changed() => if changed.is_err() {
                    self.setting.shutdown.cancelled().await;
                }
            }
        }
        false
    }

    async fn has_started(&mut self) {
        if let Some(started) = self.started.take() {
            let _ = started.send(()).await;
        }
    }

    fn epoch(&mut self, first_sequence: u64) -> Epoch {
        let (setting, live, spec) = (&self.setting, &self.live, &self.spec);
        let figures = self
            .figures
            .get_or_insert_with(|| Arc::new(setting.metrics.watch(spec, live.clone(), setting.clock.clone())));
        Epoch {
            spec: self.spec.clone(),
            setting: self.setting.clone(),
            live: self.live.clone(),
            figures: figures.clone(),
            first_sequence,
            started: self.started.take(),
        }
    }

    /// Above everything that the ledger has reserved and that the ring holds. `None`: shut down, or overruled, before the primary
    /// answered.
    async fn first_sequence(&mut self) -> Result<Option<u64>, ProbeError> {
        let (folder, stream) = (self.setting.ledger_folder.clone(), self.spec.stream.clone());
        let reserved = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|source| LedgerError::Folder {
                path: folder.clone(),
                source,
            })?;
            first_unreserved(&folder, &stream)
        });
        let reserved = reserved
            .await
            .map_err(|error| ProbeError::Panicked(error.to_string()))??;
        loop {
            let asked = tokio::time::timeout(START_TIMEOUT, self.spec.writer.highest_sequence(&self.spec.stream));
            match asked.await {
                Ok(Ok(highest)) => return Ok(Some(reserved.max(highest + 1))),
                Ok(Err(error)) if !error.is_passing() => return Err(self.refused(error)),
                Ok(Err(error)) => tracing::warn!(%error, "the primary does not answer; the probe has not started"),
                Err(_) => tracing::warn!(
                    stream = self.spec.stream,
                    "the primary does not answer; the probe has not started"
                ),
            }
            tokio::select! {
                () = self.setting.shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(START_RETRY_EVERY) => {}
            }
            if !self.stated.borrow().is_writer(&self.spec.route) {
                return Ok(None);
            }
        }
    }

    fn refused(&self, source: StoreError) -> ProbeError {
        ProbeError::Store {
            route: Box::new(self.spec.route.clone()),
            source: Box::new(source),
        }
    }
}

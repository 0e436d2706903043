//! One route from its start to its last frame.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stores::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::clock::Anchor;
use crate::engine::{RouteSpec, RouteSummary, Setting};
use crate::intervals::Intervals;
use crate::ledger::{Frame, Ledger, LedgerError, first_unreserved};
use crate::live::Live;
use crate::native::NativeWatch;
use crate::reader::ReaderTask;
use crate::recorder::{LEDGER_QUEUE_MAX, Recorder, RecorderState};
use crate::settled::Origin;
use crate::tracker::Tracker;
use crate::writer::WriterTask;
use crate::{Accounting, ProbeError};

/// Between two tries to reach a primary that does not answer at the start.
const START_RETRY_EVERY: Duration = Duration::from_secs(1);

/// How long the primary may take to answer one try.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A route that is about to run.
#[derive(Debug)]
pub(crate) struct RouteRun {
    spec: RouteSpec,
    setting: Setting,
    started: mpsc::Sender<()>,
}

/// What the tasks of a route have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) spec: RouteSpec,
    pub(crate) setting: Setting,
    pub(crate) live: Arc<Live>,
    pub(crate) origin: Origin,
    pub(crate) frames: mpsc::Sender<Frame>,
    pub(crate) was_promoted: Arc<AtomicBool>,
    /// Ends the reader and the status task at once.
    pub(crate) halt: CancellationToken,
}

impl Shared {
    /// Hands a frame to the recorder. When the recorder is gone it has failed, and its error is the one that counts.
    pub(crate) async fn record(&self, frame: Frame) {
        if self.frames.send(frame).await.is_err() {
            self.halt.cancel();
        }
    }
}

impl RouteRun {
    pub(crate) fn new(spec: RouteSpec, setting: Setting, started: mpsc::Sender<()>) -> Self {
        Self { spec, setting, started }
    }

    /// Starts, runs until shutdown, drains, closes the ledger.
    pub(crate) async fn run(self) -> Result<Option<RouteSummary>, ProbeError> {
        let Some(first_sequence) = self.first_sequence().await? else {
            return Ok(Some(self.never_started()));
        };
        let origin = Origin {
            route: self.spec.route.clone(),
            stream: self.spec.stream.clone(),
            epoch: Uuid::new_v4().simple().to_string(),
            anchor: Anchor::take(&*self.setting.clock),
        };
        let ledger = self.start_ledger(&origin, first_sequence).await?;
        let tracker = Tracker::new(
            &origin.epoch,
            self.spec.reader.is_ordered(),
            self.spec.writer.ring_slots(),
        );
        let live = Arc::new(Live::new(tracker));
        let figures = self
            .setting
            .metrics
            .watch(&self.spec, live.clone(), self.setting.clock.clone());
        let (frames, queue) = mpsc::channel(LEDGER_QUEUE_MAX);
        let (written, written_until) = watch::channel(0);
        let recorder = Recorder {
            intervals: Intervals::new(origin.clone(), self.spec.settings.overdue_after.0),
            origin: origin.clone(),
            ledger,
            live: live.clone(),
            clock: self.setting.clock.clone(),
            figures,
            output: self.setting.output.clone(),
            written,
            state: RecorderState::default(),
        };
        let halt = CancellationToken::new();
        let recording = tokio::spawn(halting(
            recorder.run(queue),
            halt.clone(),
            self.setting.shutdown.clone(),
        ));
        // A summary may be dropped without harm: the receiver only counts starts.
        let _ = self.started.send(()).await;
        let shared = Shared {
            spec: self.spec,
            setting: self.setting,
            live,
            origin,
            frames,
            was_promoted: Arc::new(AtomicBool::new(false)),
            halt,
        };
        let summary = measure(shared, first_sequence, written_until).await;
        let recorded = recording
            .await
            .map_err(|error| ProbeError::Panicked(error.to_string()))?;
        recorded?;
        summary.map(Some)
    }

    fn never_started(&self) -> RouteSummary {
        RouteSummary {
            route: self.spec.route.clone(),
            stream: self.spec.stream.clone(),
            epoch: None,
            accounting: Accounting::default(),
            stale_reads: 0,
            was_promoted: false,
        }
    }

    /// Above everything that the ledger has reserved and that the ring holds. `None`: shut down before the primary answered.
    async fn first_sequence(&self) -> Result<Option<u64>, ProbeError> {
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
        }
    }

    fn refused(&self, source: StoreError) -> ProbeError {
        ProbeError::Store {
            route: Box::new(self.spec.route.clone()),
            source: Box::new(source),
        }
    }

    async fn start_ledger(&self, origin: &Origin, first_sequence: u64) -> Result<Ledger, ProbeError> {
        let (folder, origin) = (self.setting.ledger_folder.clone(), origin.clone());
        let ledger = tokio::task::spawn_blocking(move || Ledger::start(&folder, &origin, first_sequence)).await;
        Ok(ledger.map_err(|error| ProbeError::Panicked(error.to_string()))??)
    }
}

/// A task that ends with whoever started it, so that nothing runs on behind a probe that was dropped.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// When the recorder fails, the route must end too: nothing may be measured without a record.
async fn halting(
    recording: impl Future<Output = Result<(), ProbeError>>,
    halt: CancellationToken,
    shutdown: CancellationToken,
) -> Result<(), ProbeError> {
    let result = recording.await;
    if result.is_err() {
        halt.cancel();
        shutdown.cancel();
    }
    result
}

/// Writer, reader and status task until shutdown; then the drain.
async fn measure(
    shared: Shared,
    first_sequence: u64,
    written_until: watch::Receiver<u64>,
) -> Result<RouteSummary, ProbeError> {
    let panicked = |error: tokio::task::JoinError| ProbeError::Panicked(error.to_string());
    let stop_native = shared.halt.child_token();
    let native = spawn(NativeWatch::new(shared.clone(), stop_native.clone()).run());
    let mut reader = spawn(ReaderTask::new(shared.clone()).run());
    let mut writer = spawn(WriterTask::new(shared.clone(), first_sequence, written_until).run());
    let writer_ended = tokio::select! {
        () = shared.setting.shutdown.cancelled() => None,
        ended = &mut writer => Some(ended),
    };
    let deadline = Instant::now() + shared.setting.drain_deadline;
    // Writes have a time-out of their own, and each of them ends with an outcome.
    let written = match writer_ended {
        Some(ended) => ended,
        None => writer.await,
    };
    stop_native.cancel();
    shared.live.finish();
    let watched = match tokio::time::timeout_at(deadline, &mut reader).await {
        Ok(ended) => ended,
        Err(_) => {
            shared.halt.cancel();
            reader.await
        }
    };
    let asked = native.await;
    // A panic leaves the ledger open: nobody knows what the writes under way did.
    written.and(watched).and(asked).map_err(panicked)?;
    let closing = shared.live.tracker().close();
    for settled in closing {
        shared.record(Frame::Settled(settled)).await;
    }
    let (accounting, stale_reads) = {
        let tracker = shared.live.tracker();
        (tracker.accounting(), tracker.stale_reads())
    };
    let closed = Frame::Closed {
        at_us: shared.setting.clock.now_us(),
        pending: accounting.pending,
    };
    shared.record(closed).await;
    Ok(RouteSummary {
        route: shared.spec.route.clone(),
        stream: shared.spec.stream.clone(),
        epoch: Some(shared.origin.epoch.clone()),
        accounting,
        stale_reads,
        was_promoted: shared.was_promoted.load(std::sync::atomic::Ordering::Acquire),
    })
}

//! One epoch of a stream, from its first frame to its last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::carried::{Carried, ClockLink, Unsettled, unsettled};
use crate::clock::Anchor;
use crate::engine::{RouteSpec, Setting};
use crate::intervals::Intervals;
use crate::ledger::{Frame, Ledger, LedgerError};
use crate::leftover::leftovers;
use crate::live::Live;
use crate::metrics::RouteFigures;
use crate::native::{NativeWatch, keep_ring};
use crate::reader::ReaderTask;
use crate::recorder::{LEDGER_QUEUE_MAX, Recorder, RecorderState, Removal};
use crate::settled::{ClockUse, Origin};
use crate::tracker::Tracker;
use crate::writer::WriterTask;
use crate::{Accounting, ProbeError};

/// What the tasks of an epoch have in common.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) spec: RouteSpec,
    pub(crate) setting: Setting,
    pub(crate) live: Arc<Live>,
    pub(crate) origin: Origin,
    pub(crate) first_sequence: u64,
    pub(crate) frames: mpsc::Sender<Frame>,
    pub(crate) was_promoted: Arc<AtomicBool>,
    /// No further canary leaves.
    pub(crate) stop_writing: CancellationToken,
    /// Ends the reader and the status task at once.
    pub(crate) halt: CancellationToken,
    /// Another probe, with a newer epoch, writes to this stream.
    rival: CancellationToken,
}

impl Shared {
    /// Hands a frame to the recorder. When the recorder is gone it has failed, and its error is the one that counts.
    pub(crate) async fn record(&self, frame: Frame) {
        if self.frames.send(frame).await.is_err() {
            self.halt.cancel();
        }
    }

    /// Another probe was found on this stream: this epoch ends, and the next one begins above.
    pub(crate) fn meet_rival(&self, seen: &str) {
        if self.rival.is_cancelled() {
            return;
        }
        self.rival.cancel();
        self.live.rivals.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            stream = self.spec.stream,
            seen,
            "another probe writes to this stream; this one gives way and begins a new epoch above it. Name the observers apart, or stop one"
        );
    }
}

/// Why an epoch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The probe ends.
    Shutdown,
    /// The primary is not stated to be a writer any more.
    NotWriter,
    /// A new statement resolves a role conflict.
    Restated,
    /// Another probe writes to the stream.
    Rival,
}

/// What an epoch leaves to the route.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) cause: Cause,
    pub(crate) epoch: String,
    /// The fate of its canaries, without those that the next epoch takes up.
    pub(crate) concluded: Accounting,
    /// The same with them.
    pub(crate) whole: Accounting,
    /// The fate of canaries of earlier epochs, both ways.
    pub(crate) earlier_concluded: Accounting,
    pub(crate) earlier_whole: Accounting,
    pub(crate) was_promoted: bool,
}

/// An epoch that is about to begin.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) spec: RouteSpec,
    pub(crate) setting: Setting,
    pub(crate) live: Arc<Live>,
    pub(crate) figures: Arc<RouteFigures>,
    pub(crate) first_sequence: u64,
    /// Told when the first frame is on the disk.
    pub(crate) started: Option<mpsc::Sender<()>>,
}

impl Epoch {
    /// Starts, runs until something ends it, drains, closes the ledger.
    pub(crate) async fn run(self) -> Result<Ended, ProbeError> {
        let origin = self.origin().await;
        let (left_open, minutes) = self.left_open().await?;
        let ledger = self.start_ledger(&origin).await?;
        let carried = self.carry(&left_open, &origin);
        let clocks = |unsettled: &Unsettled| {
            let of = carried.iter().find(|one| one.epoch() == unsettled.origin.epoch);
            let clock = of.map_or(ClockUse::SAME, Carried::clock);
            (unsettled.origin.epoch.clone(), (unsettled.origin.clone(), clock))
        };
        let earlier: BTreeMap<String, (Origin, ClockUse)> = left_open.iter().map(clocks).collect();
        let linked = |(epoch, intervals): (String, Intervals)| {
            let link = ClockLink::between(&intervals.origin().anchor, &origin.anchor);
            (epoch, (intervals, link))
        };
        let leftovers = minutes.into_iter().map(linked).collect();
        let is_ordered = self.spec.reader.is_ordered();
        let tracker = Tracker::new(&origin.epoch, is_ordered, self.spec.writer.ring_slots());
        self.live.begin(tracker, carried);
        let (frames, queue) = mpsc::channel(LEDGER_QUEUE_MAX);
        let (written, written_until) = watch::channel(0);
        let recorder = Recorder {
            intervals: Intervals::new(origin.clone(), self.spec.settings.overdue_after.0),
            origin: origin.clone(),
            earlier,
            leftovers,
            ledger,
            removal: Removal {
                folder: self.setting.ledger_folder.clone(),
                keep: self.setting.ledger_keep,
                running: None,
            },
            live: self.live.clone(),
            clock: self.setting.clock.clone(),
            figures: self.figures,
            output: self.setting.output.clone(),
            written,
            state: RecorderState::default(),
        };
        let halt = CancellationToken::new();
        let recording = halting(recorder.run(queue), halt.clone(), self.setting.shutdown.clone());
        let recording = tokio::spawn(recording.in_current_span());
        if let Some(started) = self.started {
            // A summary may be dropped without harm: the receiver only counts starts.
            let _ = started.send(()).await;
        }
        let shared = Shared {
            stop_writing: self.setting.shutdown.child_token(),
            spec: self.spec,
            setting: self.setting,
            live: self.live,
            origin,
            first_sequence: self.first_sequence,
            frames,
            was_promoted: Arc::new(AtomicBool::new(false)),
            halt,
            rival: CancellationToken::new(),
        };
        let live = shared.live.clone();
        let ended = measure(shared, written_until).await;
        live.end();
        let recorded = recording
            .await
            .map_err(|error| ProbeError::Panicked(error.to_string()))?;
        recorded?;
        ended
    }

    async fn origin(&self) -> Origin {
        let wall_error_us = match &self.setting.clock_bound {
            Some(bound) => bound.bound_us().await,
            None => None,
        };
        Origin {
            route: self.spec.route.clone(),
            stream: self.spec.stream.clone(),
            epoch: Uuid::new_v4().simple().to_string(),
            anchor: Anchor {
                wall_error_us,
                ..Anchor::take(&*self.setting.clock)
            },
        }
    }

    /// Canaries and minutes that earlier epochs left open.
    async fn left_open(&self) -> Result<(Vec<Unsettled>, BTreeMap<String, Intervals>), ProbeError> {
        let (folder, stream) = (self.setting.ledger_folder.clone(), self.spec.stream.clone());
        let overdue_after = self.spec.settings.overdue_after.0;
        let found = tokio::task::spawn_blocking(move || {
            Ok::<_, LedgerError>((
                unsettled(&folder, &stream)?,
                leftovers(&folder, &stream, overdue_after)?,
            ))
        })
        .await;
        Ok(found.map_err(|error| ProbeError::Panicked(error.to_string()))??)
    }

    fn carry(&self, left_open: &[Unsettled], origin: &Origin) -> Vec<Carried> {
        let (is_ordered, ring_slots) = (self.spec.reader.is_ordered(), self.spec.writer.ring_slots());
        let carried = left_open
            .iter()
            .map(|unsettled| Carried::new(unsettled, origin, is_ordered, ring_slots));
        carried.collect()
    }

    async fn start_ledger(&self, origin: &Origin) -> Result<Ledger, ProbeError> {
        let (folder, origin, first) = (self.setting.ledger_folder.clone(), origin.clone(), self.first_sequence);
        let ledger = tokio::task::spawn_blocking(move || Ledger::start(&folder, &origin, first)).await;
        Ok(ledger.map_err(|error| ProbeError::Panicked(error.to_string()))??)
    }
}

/// A task that ends with whoever started it, so that nothing runs on behind a probe that was dropped.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task.in_current_span()))
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

/// Writer, reader and status task until something ends the epoch; then the drain.
async fn measure(shared: Shared, written_until: watch::Receiver<u64>) -> Result<Ended, ProbeError> {
    let panicked = |error: tokio::task::JoinError| ProbeError::Panicked(error.to_string());
    let stop_native = shared.halt.child_token();
    let mut native = NativeWatch::new(shared.clone(), stop_native.clone());
    let reader = spawn(ReaderTask::new(shared.clone()).run());
    // Before the first canary: none is written where roles disagree.
    let _interrupted = shared.setting.shutdown.run_until_cancelled(native.look()).await;
    let native = spawn(native.run());
    let mut writer = spawn(WriterTask::new(shared.clone(), written_until).run());
    let (cause, writer_ended) = tokio::select! {
        cause = ending(&shared) => (cause, None),
        ended = &mut writer => (Cause::Shutdown, Some(ended)),
    };
    let deadline = Instant::now() + shared.setting.drain_deadline;
    shared.stop_writing.cancel();
    // Writes have a time-out of their own, and each of them ends with an outcome.
    let written = match writer_ended {
        Some(ended) => ended,
        None => writer.await,
    };
    if cause != Cause::NotWriter {
        stop_native.cancel();
    } else if keep_ring(&shared, &stop_native).await.is_none() {
        tracing::warn!(
            stream = shared.spec.stream,
            "the ring at the secondary could not be read before the roles changed; what survived is known from the polls alone"
        );
    }
    shared.live.finish();
    let (cause, watched) = watch_out(&shared, cause, reader, deadline).await;
    stop_native.cancel();
    let asked = native.await;
    // A panic leaves the ledger open: nobody knows what the writes under way did.
    written.and(watched).and(asked).map_err(panicked)?;
    Ok(close(&shared, cause).await)
}

/// What ends the epoch.
async fn ending(shared: &Shared) -> Cause {
    tokio::select! {
        () = shared.setting.shutdown.cancelled() => Cause::Shutdown,
        () = shared.rival.cancelled() => Cause::Rival,
        cause = overruled(shared) => cause,
    }
}

/// A statement that ends the epoch: the primary is no writer any more, or a role conflict is declared to be resolved.
async fn overruled(shared: &Shared) -> Cause {
    let mut stated = shared.setting.stated.clone();
    loop {
        {
            let stated = stated.borrow_and_update();
            if !stated.is_writer(&shared.spec.route) {
                return Cause::NotWriter;
            }
            if shared.live.is_resolved_by(stated.statement()) {
                return Cause::Restated;
            }
        }
        if stated.changed().await.is_err() {
            return std::future::pending().await; // the last word on who writes
        }
    }
}

/// Watches on after the last write: until the deadline when the probe ends or gives way to another one, for as long as it takes when the primary is no writer any
/// more, and not at all when another epoch takes over at once.
async fn watch_out(
    shared: &Shared,
    cause: Cause,
    mut reader: AbortOnDropHandle<()>,
    deadline: Instant,
) -> (Cause, Result<(), tokio::task::JoinError>) {
    let (cause, deadline) = match cause {
        Cause::Shutdown | Cause::Rival => (cause, deadline),
        Cause::Restated => (cause, Instant::now()),
        Cause::NotWriter => tokio::select! {
            ended = &mut reader => return (cause, ended),
            () = shared.setting.shutdown.cancelled() => {
                shared.live.finish(); // the reader looks again at what it has to wait for
                (Cause::Shutdown, Instant::now() + shared.setting.drain_deadline)
            }
            () = writer_again(shared) => (Cause::Restated, Instant::now()),
        },
    };
    match tokio::time::timeout_at(deadline, &mut reader).await {
        Ok(ended) => (cause, ended),
        Err(_) => {
            shared.halt.cancel();
            (cause, reader.await)
        }
    }
}

async fn writer_again(shared: &Shared) {
    let mut stated = shared.setting.stated.clone();
    if stated
        .wait_for(|stated| stated.is_writer(&shared.spec.route))
        .await
        .is_err()
    {
        std::future::pending().await
    }
}

/// The last frames, and the figures as they stand.
async fn close(shared: &Shared, cause: Cause) -> Ended {
    // The next epoch goes on watching for writes of unknown outcome; without one they are final.
    if matches!(cause, Cause::Shutdown | Cause::NotWriter) {
        let closing = shared.live.tracker().close();
        for settled in closing {
            shared.record(Frame::Settled(settled)).await;
        }
    }
    let (whole, concluded) = {
        let tracker = shared.live.tracker();
        (tracker.accounting(), tracker.concluded())
    };
    let (earlier_whole, earlier_concluded) = shared.live.earlier();
    let closed = Frame::Closed {
        at_us: shared.setting.clock.now_us(),
        pending: whole.pending,
    };
    shared.record(closed).await;
    Ended {
        cause,
        epoch: shared.origin.epoch.clone(),
        concluded,
        whole,
        earlier_concluded,
        earlier_whole,
        was_promoted: shared.was_promoted.load(Ordering::Acquire),
    }
}

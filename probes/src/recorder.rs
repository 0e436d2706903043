//! The one place where what happened to canaries becomes durable, and after that visible: ledger first, then figures and evidence.
//!
//! It runs beside the timing path: writers and readers take their instants, hand over a frame and go on. The disk is synced on a
//! thread of its own while appending goes on.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::carried::{Carried, ClockLink};
use crate::clock::Clock;
use crate::intervals::{Intervals, Moment};
use crate::ledger::{Frame, Ledger, LedgerError, remove_old};
use crate::live::Live;
use crate::metrics::RouteFigures;
use crate::settled::{ClockUse, Origin, Settled};
use crate::{FinalState, LagInterval, LagSample, ProbeError};

/// Frames that wait for the ledger. When it is full, writers and readers wait: slots are then late or skipped, and counted.
pub(crate) const LEDGER_QUEUE_MAX: usize = 4_096;

/// Rows of evidence that wait to be taken. Beyond it slots are skipped until the receiver catches up; nothing is dropped.
pub const OUTPUT_BACKLOG_MAX: usize = 16_384;

/// What was appended is put on the disk after so long.
const SYNC_AFTER: Duration = Duration::from_millis(50);

/// How often an idle ledger says that it is still complete.
const IDLE_MARK_EVERY: Duration = Duration::from_secs(1);

/// How often intervals are looked at.
const REVISE_EVERY: Duration = Duration::from_secs(1);

/// How long the receiver of evidence may take to accept what is left at the end.
const OUTPUT_FLUSH_MAX: Duration = Duration::from_secs(30);

/// What a probe hands over. Take it: the probe keeps a bounded number of rows and skips slots when nobody does.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A canary is final.
    Sample(LagSample),
    /// A minute is over, or was revised.
    Interval(LagInterval),
}

/// A row that waits, in compact form.
#[derive(Debug)]
enum Row {
    Sample(Settled),
    Earlier(Box<LagSample>),
    Interval(Box<LagInterval>),
}

/// Appends, publishes, syncs.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) origin: Origin,
    /// Earlier epochs whose canaries may still settle, and the clocks of their readings.
    pub(crate) earlier: BTreeMap<String, (Origin, ClockUse)>,
    /// Minutes of earlier epochs that are not final, and how this clock reads on theirs.
    pub(crate) leftovers: BTreeMap<String, (Intervals, ClockLink)>,
    pub(crate) ledger: Ledger,
    pub(crate) removal: Removal,
    pub(crate) intervals: Intervals,
    pub(crate) live: Arc<Live>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) figures: Arc<RouteFigures>,
    pub(crate) output: mpsc::Sender<Output>,
    /// The highest planned sequence that is in the ledger.
    pub(crate) written: watch::Sender<u64>,
    pub(crate) state: RecorderState,
}

/// Removes old segments of a stream beside the recorder, one run at a time.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) folder: PathBuf,
    pub(crate) keep: Duration,
    pub(crate) running: Option<JoinHandle<()>>,
}

impl Removal {
    /// Nothing is lost when it fails: the next run tries again.
    fn start(&mut self, stream: &str) {
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let (folder, keep, stream) = (self.folder.clone(), self.keep, stream.to_owned());
        self.running = Some(tokio::task::spawn_blocking(move || {
            match remove_old(&folder, &stream, keep, SystemTime::now()) {
                Ok(removed) if removed.unsettled > 0 => tracing::warn!(
                    stream,
                    canaries = removed.unsettled,
                    "old segments of the ledger were removed although some of their canaries never got a last word"
                ),
                Ok(removed) => tracing::debug!(
                    stream,
                    segments = removed.segments,
                    "old segments of the ledger were removed"
                ),
                Err(error) => {
                    tracing::warn!(stream, %error, "old segments of the ledger cannot be removed; the folder grows")
                }
            }
        }));
    }
}

/// What the recorder keeps between frames.
#[derive(Debug, Default)]
pub(crate) struct RecorderState {
    backlog: VecDeque<Row>,
    /// Canaries whose write has not ended by the ledger: (planned, sent).
    unfinished: BTreeMap<u64, (u64, Option<u64>)>,
    /// Since when something that was appended is not on the disk, and no sync is under way that began later.
    dirty_since: Option<Instant>,
    /// When the ledger last said that it is complete.
    marked_at: Option<Instant>,
    syncing: Option<(u64, JoinHandle<journal::Result<()>>)>,
}

impl RecorderState {
    /// Something was appended.
    fn soil(&mut self) {
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// When something is to be put on the disk, or to be said of an idle ledger. Nothing wakes up before.
    fn sync_at(&self) -> Instant {
        match (self.dirty_since, self.marked_at) {
            (Some(since), _) => since + SYNC_AFTER,
            (None, Some(marked)) => marked + IDLE_MARK_EVERY,
            (None, None) => Instant::now() + IDLE_MARK_EVERY,
        }
    }
}

impl Recorder {
    /// Runs until [`Frame::Closed`] comes; then writes what is left. When the senders of frames are gone without it, the probe was
    /// dropped in mid-run: the ledger then stays open, as after a kill, since nobody knows what the writes under way did.
    pub(crate) async fn run(mut self, mut frames: mpsc::Receiver<Frame>) -> Result<(), ProbeError> {
        self.state.marked_at = Some(Instant::now());
        let mut revise = interval(REVISE_EVERY);
        revise.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let output = self.output.clone();
        self.removal.start(&self.origin.stream);
        loop {
            let sync_at = self.state.sync_at();
            tokio::select! {
                biased;
                frame = frames.recv() => match frame {
                    Some(Frame::Closed { at_us, pending }) => return self.close(at_us, pending).await,
                    Some(frame) => self.record(&frame).await?,
                    None => return Ok(()),
                },
                done = synced(&mut self.state.syncing) => self.mark_complete(done?)?,
                permit = output.reserve(), if !self.state.backlog.is_empty() => {
                    let permit = permit.map_err(|_| ProbeError::OutputClosed)?;
                    if let Some(row) = self.state.backlog.pop_front() {
                        permit.send(row.render(&self.origin));
                    }
                    self.note_backlog();
                }
                () = sleep_until(sync_at), if self.state.syncing.is_none() => {
                    if self.ledger.is_due(self.clock.now_us()) {
                        self.next_segment().await?;
                    }
                    self.start_sync()?;
                }
                _ = revise.tick() => self.revise(false)?,
            }
        }
    }

    /// A frame is written first, and counts afterwards.
    async fn record(&mut self, frame: &Frame) -> Result<(), ProbeError> {
        self.ledger.append(frame)?;
        self.state.soil();
        match frame {
            Frame::Reserved { .. } => {
                // Used only after it is on the disk: the sequences behind it may otherwise be given out twice.
                let syncer = self.ledger.syncer()?;
                join(tokio::task::spawn_blocking(move || syncer.sync()).await)?;
            }
            Frame::Planned { sequence, planned_us } => {
                self.state.unfinished.insert(*sequence, (*planned_us, None));
                self.written.send_replace(*sequence);
            }
            Frame::Skipped { sequence, planned_us } => {
                self.state.unfinished.remove(sequence);
                self.intervals.skipped(*planned_us);
                self.figures.skipped();
            }
            Frame::Sent {
                sequence,
                planned_us,
                sent_us,
            } => {
                self.state.unfinished.insert(*sequence, (*planned_us, Some(*sent_us)));
                self.intervals.sent(*sequence, *planned_us);
                self.figures.late(sent_us.saturating_sub(*planned_us));
            }
            Frame::Acked { sequence, acked_us } => {
                if let Some((_, Some(sent_us))) = self.state.unfinished.remove(sequence) {
                    self.figures.written(*acked_us, acked_us.saturating_sub(sent_us));
                }
                self.intervals.acked(*sequence, *acked_us);
            }
            Frame::Unknown { sequence, .. } => {
                self.state.unfinished.remove(sequence);
                self.intervals.unknown(*sequence);
            }
            Frame::Settled(settled) => {
                if settled.state == FinalState::WriteFailed {
                    self.state.unfinished.remove(&settled.sequence);
                }
                self.intervals.settled(settled);
                self.figures.settled(settled);
                self.state.backlog.push_back(Row::Sample(*settled));
                self.note_backlog();
            }
            Frame::Earlier { epoch, settled } => self.settle_earlier(epoch, settled),
            Frame::Epoch { .. }
            | Frame::Continued { .. }
            | Frame::Carried { .. }
            | Frame::Ring { .. }
            | Frame::Revised { .. }
            | Frame::Complete { .. }
            | Frame::Closed { .. } => {}
        }
        Ok(())
    }

    /// In the figures it counts when it settled; the minute in which it was planned is revised.
    fn settle_earlier(&mut self, epoch: &str, settled: &Settled) {
        let Some((origin, clock)) = self.earlier.get(epoch) else {
            return;
        };
        if settled.state == FinalState::Seen && settled.high_us.is_none() {
            self.figures.seen_without_reading();
        } else {
            // Its instants are of another clock than those that are shown beside it.
            self.figures.settled(&Settled {
                seen_us: None,
                ..*settled
            });
        }
        if let Some((intervals, _)) = self.leftovers.get_mut(epoch) {
            intervals.settled_later(settled);
        }
        let sample = Box::new(settled.sample_on(origin, *clock));
        self.state.backlog.push_back(Row::Earlier(sample));
        self.note_backlog();
    }

    fn note_backlog(&self) {
        let is_backed_up = self.state.backlog.len() >= OUTPUT_BACKLOG_MAX;
        self.live.is_backed_up.store(is_backed_up, Ordering::Release);
    }

    /// The instant before which nothing is missing from the frames appended so far: every canary is planned in the ledger before it
    /// is sent, so only those whose write has not ended can bring news of the past.
    fn known_until_us(&self) -> u64 {
        let now = self.clock.now_us();
        let oldest = self.state.unfinished.values().map(|(planned, _)| *planned).min();
        oldest.map_or(now, |planned| planned.min(now))
    }

    fn start_sync(&mut self) -> Result<(), ProbeError> {
        let until_us = self.known_until_us();
        if self.state.dirty_since.take().is_none() {
            return self.mark_complete(until_us);
        }
        let syncer = self.ledger.syncer()?;
        self.state.syncing = Some((until_us, tokio::task::spawn_blocking(move || syncer.sync())));
        Ok(())
    }

    /// Ends the segment and goes on in the next one. Frames wait in their queue meanwhile; the timing path does not.
    async fn next_segment(&mut self) -> Result<(), ProbeError> {
        let until_us = self.known_until_us();
        let next = self.ledger.next_segment()?;
        let segment = tokio::task::spawn_blocking(move || next.write())
            .await
            .map_err(|error| ProbeError::Panicked(error.to_string()))??;
        self.ledger.go_on_in(segment, self.clock.now_us());
        self.state.dirty_since = None;
        self.mark_complete(until_us)?;
        self.removal.start(&self.origin.stream);
        Ok(())
    }

    fn mark_complete(&mut self, until_us: u64) -> Result<(), ProbeError> {
        self.state.marked_at = Some(Instant::now());
        // Not counted as dirt: a mark that is lost with the machine only makes an earlier one hold.
        Ok(self.ledger.append(&Frame::Complete { until_us })?)
    }

    fn revise(&mut self, is_end: bool) -> Result<(), ProbeError> {
        let last_miss_us = {
            let tracker = self.live.tracker();
            for (sequence, sent_us) in tracker.missed() {
                self.intervals.missed(sequence, sent_us);
            }
            tracker.latest_miss()
        };
        let moment = Moment {
            now_us: self.clock.now_us(),
            last_miss_us,
            native_lag_us: self.live.native().lag_us,
            is_end,
        };
        let rows = self.intervals.revise(&moment);
        self.hand_over(None, rows, moment.now_us)?;
        self.revise_leftovers(moment.now_us, is_end)?;
        self.note_backlog();
        Ok(())
    }

    fn revise_leftovers(&mut self, now_us: u64, is_end: bool) -> Result<(), ProbeError> {
        let mut revised = Vec::new();
        {
            let carried = self.live.carried();
            for (epoch, (intervals, link)) in &mut self.leftovers {
                let watched = carried.watched.iter().find(|one| one.epoch() == epoch);
                let moment = match watched {
                    Some(watched) => watched.moment(now_us, is_end),
                    None => Moment {
                        now_us: link.earlier_us(now_us),
                        last_miss_us: None,
                        native_lag_us: None,
                        is_end,
                    },
                };
                for (sequence, sent_us) in watched.into_iter().flat_map(Carried::missed) {
                    intervals.missed(sequence, sent_us);
                }
                revised.push((epoch.clone(), intervals.revise(&moment)));
            }
        }
        self.leftovers.retain(|_, (intervals, _)| !intervals.is_done());
        for (epoch, rows) in revised {
            self.hand_over(Some(epoch), rows, now_us)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, epoch: Option<String>, rows: Vec<LagInterval>, at_us: u64) -> Result<(), ProbeError> {
        for row in rows {
            self.ledger.append(&Frame::Revised {
                epoch: epoch.clone(),
                start_us: row.interval_start_us,
                revision: row.revision,
                is_final: row.is_final,
                at_us,
            })?;
            self.state.soil();
            self.state.backlog.push_back(Row::Interval(Box::new(row)));
        }
        Ok(())
    }

    /// Everything on the disk, then everything handed over.
    async fn close(mut self, at_us: u64, pending: u64) -> Result<(), ProbeError> {
        if let Some((_, handle)) = self.state.syncing.take() {
            join(handle.await)?;
        }
        self.revise(true)?;
        self.ledger.append(&Frame::Closed { at_us, pending })?;
        self.ledger.append(&Frame::Complete { until_us: at_us })?;
        let mut ledger = self.ledger;
        tokio::task::spawn_blocking(move || ledger.sync())
            .await
            .map_err(|error| ProbeError::Panicked(error.to_string()))??;
        let flush = async {
            for row in self.state.backlog {
                let sent = self.output.send(row.render(&self.origin)).await;
                sent.map_err(|_| ProbeError::OutputClosed)?;
            }
            Ok(())
        };
        tokio::time::timeout(OUTPUT_FLUSH_MAX, flush)
            .await
            .unwrap_or(Err(ProbeError::OutputStuck {
                waited_seconds: OUTPUT_FLUSH_MAX.as_secs(),
            }))
    }
}

impl Row {
    fn render(self, origin: &Origin) -> Output {
        match self {
            Self::Sample(settled) => Output::Sample(settled.sample(origin)),
            Self::Earlier(sample) => Output::Sample(*sample),
            Self::Interval(interval) => Output::Interval(*interval),
        }
    }
}

fn join(result: Result<journal::Result<()>, tokio::task::JoinError>) -> Result<(), ProbeError> {
    let synced = result.map_err(|error| ProbeError::Panicked(error.to_string()))?;
    synced.map_err(|error| ProbeError::from(LedgerError::from(error)))
}

/// Waits for the sync that is under way; for ever when there is none.
async fn synced(syncing: &mut Option<(u64, JoinHandle<journal::Result<()>>)>) -> Result<u64, ProbeError> {
    match syncing {
        None => std::future::pending().await,
        Some((until_us, handle)) => {
            let until_us = *until_us;
            let result = handle.await;
            *syncing = None;
            join(result)?;
            Ok(until_us)
        }
    }
}

//! Copies of the ledger elsewhere, on a period. They never hold up the probe: each place has a thread of its own, reads the segments from
//! the folder, and keeps only how far it has come.

mod place_copy;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use journal::{Place, PlaceError};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::LedgerError;
use place_copy::PlaceCopy;

/// The longest wait between two tries at a place that fails.
const RETRY_EVERY_MAX: Duration = Duration::from_secs(60);

/// The longest wait between two tries after the probe has ended.
const LAST_RETRY_EVERY: Duration = Duration::from_millis(200);

/// Threads that may hang in the system on behalf of one place (a network file system that does not answer).
const BLOCKED_THREADS_MAX: usize = 4;

/// What goes wrong when ledgers are copied or fetched.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The place says what and what to do.
    #[error("ledger copy: {0}")]
    Place(#[from] PlaceError),
    /// A ledger of this machine cannot be read, or written while fetching.
    #[error("ledger copy: {0}")]
    Ledger(#[from] LedgerError),
    /// The place did not answer in time.
    #[error("ledger copy: place {place} did not answer within {seconds} s; it is tried again")]
    TimedOut {
        /// The place.
        place: String,
        /// The limit.
        seconds: u64,
    },
    /// A segment was removed as too old before it was copied.
    #[error(
        "ledger copy: place {place}: {segment} was removed here before it was copied whole; keep ledgers longer, or make the place answer"
    )]
    Removed {
        /// The place.
        place: String,
        /// The file.
        segment: String,
    },
    /// The place holds more than can be looked through.
    #[error(
        "ledger copy: place {place} holds more than {max} objects; give a prefix of its own to each probe, and let old objects expire"
    )]
    TooMany {
        /// The place.
        place: String,
        /// The bound.
        max: usize,
    },
}

/// How far one place has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyState {
    /// The place, as people wrote it.
    pub name: String,
    /// Until when the copy is known to hold everything, microseconds since 1970 UTC. `None`: not known yet.
    pub complete_until_us: Option<i64>,
    /// Tries that failed since the start.
    pub failures: u64,
    /// Whether the last try copied everything that was there.
    pub is_complete: bool,
}

/// Reads the figures of all places while they are copied to.
#[derive(Debug, Clone)]
pub struct CopyFigures(Arc<Mutex<Vec<CopyState>>>);

impl CopyFigures {
    /// The figures of now, in the order of the configuration.
    pub fn places(&self) -> Vec<CopyState> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<CopyState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, index: usize, note: impl FnOnce(&mut CopyState)) {
        if let Some(figures) = self.lock().get_mut(index) {
            note(figures);
        }
    }
}

/// Copies a folder of ledgers to places until it is [finished](Self::finish) or dropped.
#[derive(Debug)]
pub struct Copies {
    figures: CopyFigures,
    /// By when the last upload must be done.
    stop: watch::Sender<Option<Instant>>,
    ends: Vec<oneshot::Receiver<()>>,
}

impl Copies {
    /// Starts a thread for each place.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(folder: &Path, places: Vec<Place>, every: Duration) -> std::io::Result<Self> {
        let figures = CopyFigures(Arc::new(Mutex::new(
            places
                .iter()
                .map(|place| CopyState {
                    name: place.name().to_owned(),
                    complete_until_us: None,
                    failures: 0,
                    is_complete: false,
                })
                .collect(),
        )));
        let (stop, stopped) = watch::channel(None);
        let mut ends = Vec::new();
        for (index, place) in places.into_iter().enumerate() {
            let (ended, end) = oneshot::channel();
            let pump = Pump {
                copy: PlaceCopy::new(place, folder.to_owned()),
                every,
                index,
                figures: figures.clone(),
                stopped: stopped.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .max_blocking_threads(BLOCKED_THREADS_MAX)
                .enable_all()
                .build()?;
            std::thread::Builder::new()
                .name(format!("driftline-copy-{index}"))
                .spawn(move || {
                    runtime.block_on(pump.run());
                    // A place that hangs must not hold up the end of the process.
                    runtime.shutdown_background();
                    let _nobody_waits = ended.send(());
                })?;
            ends.push(end);
        }
        Ok(Self { figures, stop, ends })
    }

    /// A handle on the figures, for metrics.
    pub fn figures(&self) -> CopyFigures {
        self.figures.clone()
    }

    /// Copies what is left, to each place that answers within `deadline`. Call it when the probes have ended. What is not complete then
    /// is said by [`CopyState::is_complete`].
    pub async fn finish(self, deadline: Duration) -> Vec<CopyState> {
        let by = Instant::now() + deadline;
        self.stop.send_replace(Some(by));
        let all = futures::future::join_all(self.ends);
        // Late by a little: a thread notes its last figures before it ends.
        let _late = tokio::time::timeout_at(by + LAST_RETRY_EVERY, all).await;
        self.figures.places()
    }
}

/// The loop of one place.
#[derive(Debug)]
struct Pump {
    copy: PlaceCopy,
    every: Duration,
    index: usize,
    figures: CopyFigures,
    stopped: watch::Receiver<Option<Instant>>,
}

impl Pump {
    async fn run(mut self) {
        let mut failed_since = 0_u32;
        let deadline = past_deadline(self.stopped.clone());
        tokio::pin!(deadline);
        loop {
            // Asked before the round: what was written before the stop is then part of it.
            let is_last = self.stopped.borrow().is_some();
            let outcome = tokio::select! {
                outcome = self.copy.round() => outcome,
                () = &mut deadline => return self.figures.note(self.index, |figures| figures.is_complete = false),
            };
            self.note(&outcome, failed_since);
            failed_since = if outcome.is_ok() {
                0
            } else {
                failed_since.saturating_add(1)
            };
            if is_last && outcome.is_ok() {
                return;
            }
            let wait = if is_last {
                LAST_RETRY_EVERY
            } else {
                let longest = RETRY_EVERY_MAX.max(self.every);
                (self.every * 2_u32.saturating_pow(failed_since.min(16))).min(longest)
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stopped.changed(), if !is_last => {}
                () = &mut deadline => return,
            }
        }
    }

    fn note(&self, outcome: &Result<(), CopyError>, failed_since: u32) {
        let complete_until_us = self.copy.complete_until_us();
        self.figures.note(self.index, |figures| {
            figures.complete_until_us = figures.complete_until_us.max(complete_until_us);
            figures.failures += u64::from(outcome.is_err());
            figures.is_complete = outcome.is_ok();
        });
        match outcome {
            Err(error) if failed_since == 0 => {
                tracing::warn!(place = self.copy.name(), %error, "the ledger is not copied; it is tried again");
            }
            Ok(()) if failed_since > 0 => {
                tracing::info!(
                    place = self.copy.name(),
                    failures = failed_since,
                    "the ledger is copied again"
                );
            }
            _ => {}
        }
    }
}

/// When the time for the last upload is over, or nobody waits for it any more.
async fn past_deadline(mut stopped: watch::Receiver<Option<Instant>>) {
    if stopped.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let by = *stopped.borrow();
    if let Some(by) = by {
        tokio::time::sleep_until(by).await;
    }
}

/// The folder of a stream at a place: its name, with whatever could mean something to a file system written as hex.
fn stream_folder(stream: &str) -> String {
    let mut folder = String::new();
    for byte in stream.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => folder.push(char::from(byte)),
            other => folder.push_str(&format!("={other:02x}")),
        }
    }
    folder
}

/// A part of a segment at a place: its bytes from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Part {
    pub(super) fn object(self, segment: &str) -> String {
        format!("{segment}/{:012}-{:012}.part", self.from, self.to)
    }

    /// The segment and the part that an object is, by its name.
    pub(super) fn parse(object: &str) -> Option<(&str, Self)> {
        let (segment, name) = object.rsplit_once('/')?;
        let (from, to) = name.strip_suffix(".part")?.split_once('-')?;
        let part = Self {
            from: from.parse().ok()?,
            to: to.parse().ok()?,
        };
        (part.from < part.to).then_some((segment, part))
    }

    fn bytes(self) -> u64 {
        self.to - self.from
    }
}

/// The parts to read one after the other so that they hold a segment from its beginning on, as far as they do without a gap.
pub(super) fn cover(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_unstable();
    let mut covering: Vec<Part> = Vec::new();
    let mut have = 0;
    while let Some(best) = parts
        .iter()
        .take_while(|part| part.from <= have)
        .filter(|part| part.to > have)
        .max_by_key(|part| part.to)
    {
        have = best.to;
        covering.push(*best);
    }
    covering
}

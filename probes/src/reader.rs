//! Watches for canaries at the secondary: one reader for each stream, one poll settles all that it can, and a slow poll does not
//! hold up the next one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use stores::Sighting;

use crate::carried::{Carried, LaterWord};
use crate::epoch::Shared;
use crate::ledger::Frame;
use crate::tracker::{SOUGHT_MAX, Wanted};
use crate::troubles::{NO_ANSWER, Tried};

/// Polls under way at once: over a long round trip they are spread evenly, so that the gap between two of them, and not the round
/// trip, decides how wide a reading is. So many that this gap stays below the growth of the age of what is watched for, which is a round
/// trip at least: with 4, readings of 100 ms over 60 ms were wider than they may be.
pub(crate) const POLLS_IN_FLIGHT_MAX: usize = 16;

/// A poll that takes longer is given up; it proves nothing.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// While only writes of unknown outcome are watched for, and after repeated errors, polls are this far apart.
const IDLE_POLL_EVERY: Duration = Duration::from_secs(1);

/// The first wait after a failed poll; it doubles up to [`IDLE_POLL_EVERY`].
const ERROR_WAIT: Duration = Duration::from_millis(50);

/// The reader of one stream.
#[derive(Debug)]
pub(crate) struct ReaderTask {
    shared: Shared,
    in_flight: FuturesUnordered<BoxFuture<'static, Answer>>,
    last_sent_us: Option<u64>,
    round_trip_us: u64,
    error_wait: Option<Duration>,
    knows_older_rival: bool,
}

/// What came of one poll.
#[derive(Debug)]
struct Answer {
    sent_us: u64,
    received_us: u64,
    /// Or the kind of the error, and its words.
    sighting: Result<Sighting, (&'static str, String)>,
}

/// What to do next.
enum Next {
    /// Nothing is unseen and nothing more will be sent.
    Finished,
    /// Wait until something is sent.
    Idle,
    /// Poll at this instant of the monotonic clock.
    PollAt(u64),
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl ReaderTask {
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared,
            in_flight: FuturesUnordered::new(),
            last_sent_us: None,
            round_trip_us: 0,
            error_wait: None,
            knows_older_rival: false,
        }
    }

    /// Until nothing is unseen after the last write, or until the drain is over. What a poll showed is always recorded whole.
    pub(crate) async fn run(mut self) {
        let halt = self.shared.halt.clone();
        while !halt.is_cancelled() {
            let due_us = match self.next() {
                Next::Finished => return,
                Next::PollAt(due_us) if self.has_room() => Some(due_us),
                Next::Idle | Next::PollAt(_) => None,
            };
            let now = self.shared.setting.clock.now_us();
            if due_us.is_some_and(|due| due <= now) {
                self.send(now);
                continue;
            }
            let wait = Duration::from_micros(due_us.map_or(0, |due| due - now));
            tokio::select! {
                () = halt.cancelled() => {}
                Some(answer) = self.in_flight.next() => self.take(answer).await,
                () = tokio::time::sleep(wait), if due_us.is_some() => {}
                () = self.shared.live.changed.notified() => {}
            }
        }
    }

    /// A secondary that fails is asked one thing at a time.
    fn has_room(&self) -> bool {
        let max = if self.error_wait.is_some() {
            1
        } else {
            POLLS_IN_FLIGHT_MAX
        };
        self.in_flight.len() < max
    }

    fn next(&self) -> Next {
        let (live, polling) = (&self.shared.live, &self.shared.spec.polling);
        let (own_due_us, awaits, watches_unknown) = {
            let tracker = live.tracker();
            let due = tracker.due_us(polling, self.last_sent_us);
            (due, tracker.awaits(), due.is_none() && tracker.watches_unknown())
        };
        let (earlier_due_us, awaits_earlier) = {
            let carried = live.carried();
            let due = carried
                .watched
                .iter()
                .filter_map(|one| one.due_us(polling, self.last_sent_us))
                .min();
            (due, carried.watched.iter().any(Carried::awaits))
        };
        // What an earlier epoch left open holds up no shutdown: it has waited before, and is found again in the ledger.
        let is_awaited = awaits || (awaits_earlier && !self.shared.setting.shutdown.is_cancelled());
        if live.is_finishing.load(Ordering::Acquire) && !is_awaited {
            return Next::Finished;
        }
        let first_due_us = own_due_us.into_iter().chain(earlier_due_us).min();
        let due_us = match (first_due_us, watches_unknown) {
            (Some(due_us), _) => due_us,
            (None, true) => self.spaced(us(IDLE_POLL_EVERY)),
            (None, false) => return Next::Idle,
        };
        let spread_us = self.round_trip_us / u64::try_from(POLLS_IN_FLIGHT_MAX).unwrap_or(1);
        let spread_us = spread_us.max(self.error_wait.map_or(0, us));
        Next::PollAt(due_us.max(self.spaced(spread_us)))
    }

    /// This long after the last poll.
    fn spaced(&self, wait_us: u64) -> u64 {
        self.last_sent_us.map_or(0, |last| last.saturating_add(wait_us))
    }

    /// What is looked for now: by the whole ring, or what is due of this epoch first and of earlier ones after it.
    fn wanted(&self, now_us: u64) -> Wanted {
        let (live, polling) = (&self.shared.live, &self.shared.spec.polling);
        let mut wanted = live.tracker().wanted(polling, now_us);
        for carried in live.carried().watched.iter_mut() {
            let Wanted::Only(sequences) = &mut wanted else { break };
            if sequences.len() < SOUGHT_MAX
                && let Wanted::Only(more) = carried.wanted(polling, now_us, SOUGHT_MAX - sequences.len())
            {
                sequences.extend(more);
            }
        }
        wanted
    }

    fn send(&mut self, sent_us: u64) {
        self.last_sent_us = Some(sent_us);
        let wanted = self.wanted(sent_us);
        if wanted == Wanted::Only(Vec::new()) {
            return; // it was settled meanwhile
        }
        self.shared.live.polls.fetch_add(1, Ordering::Relaxed);
        let (reader, stream) = (self.shared.spec.reader.clone(), self.shared.spec.stream.clone());
        let clock = self.shared.setting.clock.clone();
        self.in_flight.push(Box::pin(async move {
            let asked = tokio::time::timeout(POLL_TIMEOUT, reader.poll(&stream, wanted.sought())).await;
            let received_us = clock.now_us();
            let sighting = match asked {
                Ok(answer) => answer.map_err(|error| (error.kind(), error.to_string())),
                Err(_) => Err((NO_ANSWER, format!("no answer within {} s", POLL_TIMEOUT.as_secs()))),
            };
            Answer {
                sent_us,
                received_us,
                sighting,
            }
        }));
    }

    async fn take(&mut self, answer: Answer) {
        let Answer {
            sent_us,
            received_us,
            sighting,
        } = answer;
        match sighting {
            Ok(sighting) => {
                self.error_wait = None;
                if self.shared.live.troubles.succeeded(Tried::Poll) {
                    tracing::info!(stream = self.shared.spec.stream, "canaries can be looked for again");
                }
                // A single slow answer does not thin out the polls for long.
                self.round_trip_us = (self.round_trip_us * 3 + received_us.saturating_sub(sent_us)) / 4;
                self.shared.live.answered(received_us, sighting.oddities);
                self.note_rival(&sighting);
                settle(&self.shared, &sighting, sent_us, received_us).await;
            }
            Err((kind, error)) => self.note_error(kind, &error),
        }
    }

    fn note_error(&mut self, kind: &'static str, error: &str) {
        let spec = &self.shared.spec;
        if self.shared.live.troubles.failed(Tried::Poll, kind, error) {
            tracing::warn!(
                secondary_site = spec.route.secondary_site,
                stream = spec.stream,
                kind,
                error,
                "cannot look for canaries"
            );
        }
        let doubled = |wait: Duration| (wait * 2).min(IDLE_POLL_EVERY);
        self.error_wait = Some(self.error_wait.map_or(ERROR_WAIT, doubled));
    }

    /// A canary of an epoch that is not ours, above where ours began, was written by another probe: earlier epochs of ours end below.
    /// The newer epoch wins. One that was also seen below is older than ours, and its probe will find out.
    fn note_rival(&mut self, sighting: &Sighting) {
        let own = &self.shared.origin.epoch;
        let first = self.shared.first_sequence;
        let above = sighting
            .canaries
            .iter()
            .find(|canary| canary.epoch != *own && canary.sequence >= first);
        let Some(above) = above else { return };
        let is_older = sighting
            .canaries
            .iter()
            .any(|canary| canary.epoch == above.epoch && canary.sequence < first);
        if !is_older {
            self.shared
                .meet_rival(&format!("epoch {} at canary {}", above.epoch, above.sequence));
        } else if !std::mem::replace(&mut self.knows_older_rival, true) {
            self.shared.live.rivals.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                stream = self.shared.spec.stream,
                epoch = above.epoch,
                "another, older probe writes to this stream; it has to give way"
            );
        }
    }
}

/// Lets the trackers judge an answer, and writes down what they say.
pub(crate) async fn settle(shared: &Shared, sighting: &Sighting, sent_us: u64, received_us: u64) {
    let settled = shared.live.tracker().polled(sighting, sent_us, received_us);
    let earlier = shared.live.carried().polled(sighting, sent_us, received_us);
    for settled in settled {
        shared.record(Frame::Settled(settled)).await;
    }
    record_earlier(shared, earlier).await;
}

/// Writes down what became of canaries of earlier epochs.
pub(crate) async fn record_earlier(shared: &Shared, words: Vec<LaterWord>) {
    for LaterWord {
        epoch,
        settled,
        is_violated,
    } in words
    {
        if is_violated {
            shared.live.bounds_violated.fetch_add(1, Ordering::Relaxed);
        }
        shared.record(Frame::Earlier { epoch, settled }).await;
    }
}

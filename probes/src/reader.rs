//! Watches for canaries at the secondary: one reader for each route, one poll settles all that it can.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stores::Sought;

use crate::ledger::Frame;
use crate::route::Shared;

/// A poll that takes longer is given up; it proves nothing.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// While only writes of unknown outcome are watched for, and after repeated errors, polls are this far apart.
const IDLE_POLL_EVERY: Duration = Duration::from_secs(1);

/// The first wait after a failed poll; it doubles up to [`IDLE_POLL_EVERY`].
const ERROR_WAIT: Duration = Duration::from_millis(50);

/// The reader of one route.
#[derive(Debug)]
pub(crate) struct ReaderTask {
    shared: Shared,
    last_sent_us: Option<u64>,
    error_wait: Option<Duration>,
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

impl ReaderTask {
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared,
            last_sent_us: None,
            error_wait: None,
        }
    }

    /// Until nothing is unseen after the last write, or until the drain is over. What a poll showed is always recorded whole.
    pub(crate) async fn run(mut self) {
        let halt = self.shared.halt.clone();
        while !halt.is_cancelled() {
            match self.next() {
                Next::Finished => return,
                Next::Idle => drop(halt.run_until_cancelled(self.shared.live.changed.notified()).await),
                Next::PollAt(due_us) => {
                    let now = self.shared.setting.clock.now_us();
                    if due_us <= now {
                        self.poll().await;
                        continue;
                    }
                    tokio::select! {
                        () = halt.cancelled() => {}
                        () = tokio::time::sleep(Duration::from_micros(due_us - now)) => {}
                        () = self.shared.live.changed.notified() => {}
                    }
                }
            }
        }
    }

    fn next(&self) -> Next {
        let (deciding_us, watches_unknown) = {
            let tracker = self.shared.live.tracker();
            let deciding = tracker.deciding_us();
            (deciding, deciding.is_none() && tracker.watches_unknown())
        };
        let spaced = |wait: Duration| {
            let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
            self.last_sent_us.map_or(0, |last| last.saturating_add(wait_us))
        };
        match deciding_us {
            Some(acked_us) => {
                let due = self.shared.spec.polling.due_us(acked_us, self.last_sent_us);
                Next::PollAt(due.max(self.error_wait.map_or(0, spaced)))
            }
            None if self.shared.live.is_finishing.load(Ordering::Acquire) => Next::Finished,
            None if watches_unknown => Next::PollAt(spaced(IDLE_POLL_EVERY)),
            None => Next::Idle,
        }
    }

    async fn poll(&mut self) {
        let (spec, clock) = (&self.shared.spec, &self.shared.setting.clock);
        self.shared.live.polls.fetch_add(1, Ordering::Relaxed);
        let sent_us = clock.now_us();
        self.last_sent_us = Some(sent_us);
        let asked = tokio::time::timeout(POLL_TIMEOUT, spec.reader.poll(&spec.stream, Sought::All));
        let Some(answer) = self.shared.halt.run_until_cancelled(asked).await else {
            return;
        };
        let received_us = clock.now_us();
        let error = match answer {
            Ok(Ok(sighting)) => {
                self.error_wait = None;
                self.shared.live.answered(received_us, sighting.oddities);
                let settled = self.shared.live.tracker().polled(&sighting, sent_us, received_us);
                for settled in settled {
                    self.shared.record(Frame::Settled(settled)).await;
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", POLL_TIMEOUT.as_secs()),
        };
        if self.error_wait.is_none() {
            tracing::warn!(
                secondary_site = spec.route.secondary_site,
                stream = spec.stream,
                error,
                "cannot look for canaries"
            );
        }
        self.error_wait = Some(
            self.error_wait
                .map_or(ERROR_WAIT, |wait| (wait * 2).min(IDLE_POLL_EVERY)),
        );
    }
}

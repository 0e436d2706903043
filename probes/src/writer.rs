//! Sends canaries when the schedule says so, whatever the stores do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stores::{AckedBefore, Canary, Stamp, StoreError, WriteOutcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::config::Rate;
use crate::epoch::Shared;
use crate::intervals::SLOT_LATE_US_MAX;
use crate::ledger::{Frame, RESERVE};
use crate::schedule::Schedule;
use crate::troubles::{NO_ANSWER, Tried};

/// Writes under way at once; a slot that finds as many is skipped and counted. Few, so that a store that answers nothing is not given a
/// queue to work off.
const WRITES_IN_FLIGHT_MIN: usize = 4;
/// More are under way where the rate would fill those few within this time, so that a healthy store has no slot skipped: 50 at the
/// highest rate that there is.
const USUAL_WRITE: Duration = Duration::from_millis(50);

fn writes_in_flight_max(rate: Rate) -> usize {
    let in_usual_write = USUAL_WRITE.as_micros() / rate.period().as_micros().max(1);
    usize::try_from(in_usual_write).map_or(WRITES_IN_FLIGHT_MIN, |writes| writes.max(WRITES_IN_FLIGHT_MIN))
}

/// Slots that are in the ledger before their instant comes, so that a canary never waits for the disk. After a kill as many
/// canaries may be of unknown outcome.
const SLOTS_AHEAD: usize = 2;

/// A slot that is longer away than this is planned alone, so that a slowed stream is soon at its rate again when it may be.
const PERIOD_AHEAD_MAX: Duration = Duration::from_secs(5);

/// After this long nobody knows whether the canary was written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct Slot {
    sequence: u64,
    planned_us: u64,
}

/// The writer of one route.
#[derive(Debug)]
pub(crate) struct WriterTask {
    shared: Shared,
    schedule: Schedule,
    ahead: VecDeque<Slot>,
    next_sequence: u64,
    reserved_until: u64,
    written_until: watch::Receiver<u64>,
    in_flight: Arc<Semaphore>,
    writes: JoinSet<()>,
}

impl WriterTask {
    pub(crate) fn new(shared: Shared, written_until: watch::Receiver<u64>) -> Self {
        let first_sequence = shared.first_sequence;
        let settings = &shared.spec.settings;
        let rate = settings.rate(&shared.spec.route.store);
        let schedule = Schedule::new(
            settings.schedule,
            rate,
            shared.setting.clock.now_us(),
            shared.setting.seed,
        );
        Self {
            schedule,
            ahead: VecDeque::with_capacity(SLOTS_AHEAD),
            next_sequence: first_sequence,
            reserved_until: first_sequence + RESERVE,
            written_until,
            in_flight: Arc::new(Semaphore::new(writes_in_flight_max(rate))),
            writes: JoinSet::new(),
            shared,
        }
    }

    /// Until it is stopped; returns when the last write has ended.
    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop_writing.clone();
        let _stopped = stop.run_until_cancelled(self.send_slots()).await;
        while self.writes.join_next().await.is_some() {}
    }

    async fn send_slots(&mut self) {
        loop {
            if let Some(pace) = &self.shared.spec.pace {
                self.schedule.set_pace(*pace.borrow());
            }
            while self.ahead.is_empty()
                || (self.ahead.len() < SLOTS_AHEAD && self.schedule.period() <= PERIOD_AHEAD_MAX)
            {
                self.plan_slot().await;
            }
            let Some(slot) = self.ahead.pop_front() else {
                continue;
            };
            let now = self.shared.setting.clock.now_us();
            if slot.planned_us > now {
                tokio::time::sleep(Duration::from_micros(slot.planned_us - now)).await;
            }
            // Written long ago, unless the disk is slow: then the slot is late, or skipped.
            if !self.is_written(slot.sequence).await {
                return; // the recorder has failed; its error ends the route
            }
            while self.writes.try_join_next().is_some() {}
            self.send_or_skip(slot).await;
        }
    }

    async fn is_written(&mut self, sequence: u64) -> bool {
        self.written_until
            .wait_for(|written| *written >= sequence)
            .await
            .is_ok()
    }

    async fn plan_slot(&mut self) {
        if self.next_sequence == self.reserved_until {
            self.reserved_until += RESERVE;
            let until = self.reserved_until;
            self.shared.record(Frame::Reserved { until }).await;
        }
        let slot = Slot {
            sequence: self.next_sequence,
            planned_us: self.schedule.next_us(),
        };
        self.next_sequence += 1;
        let Slot { sequence, planned_us } = slot;
        self.shared.record(Frame::Planned { sequence, planned_us }).await;
        self.ahead.push_back(slot);
    }

    async fn send_or_skip(&mut self, slot: Slot) {
        let late_us = self.shared.setting.clock.now_us().saturating_sub(slot.planned_us);
        let live = &self.shared.live;
        let may_not = live.is_backed_up.load(Ordering::Acquire) || live.is_conflicting.load(Ordering::Acquire);
        let permit = self.in_flight.clone().try_acquire_owned();
        match permit {
            Ok(permit) if late_us <= SLOT_LATE_US_MAX && !may_not => {
                let writing = write(self.shared.clone(), slot, permit);
                self.writes.spawn(writing.in_current_span());
            }
            _ => {
                let Ok(room) = self.shared.frames.reserve().await else {
                    return; // the recorder has failed; its error ends the route
                };
                // Counted and handed over together: a shutdown cannot come between.
                self.shared.live.tracker().skipped();
                let Slot { sequence, planned_us } = slot;
                room.send(Frame::Skipped { sequence, planned_us });
            }
        }
    }
}

/// Writes one canary. Instants are taken right at the write; what they mean is decided by the tracker.
async fn write(shared: Shared, slot: Slot, permit: OwnedSemaphorePermit) {
    let Slot { sequence, planned_us } = slot;
    // Room for the frame first, so that a slow ledger makes the canary late and not its lag long.
    let Ok(room) = shared.frames.reserve().await else {
        shared.halt.cancel();
        return;
    };
    let clock = &shared.setting.clock;
    let stamp = stamp(&shared);
    let sent_us = clock.now_us();
    let canary = Canary {
        stream: shared.spec.stream.clone(),
        epoch: shared.origin.epoch.clone(),
        sequence,
        stamp,
    };
    let superseded = shared.live.tracker().sent(sequence, planned_us, sent_us);
    room.send(Frame::Sent {
        sequence,
        planned_us,
        sent_us,
    });
    shared.live.writes.fetch_add(1, Ordering::Relaxed);
    let outcome = tokio::time::timeout(WRITE_TIMEOUT, shared.spec.writer.write(&canary)).await;
    let ended_us = clock.now_us();
    if shared.setting.wall_bound.is_some() && matches!(outcome, Ok(WriteOutcome::Acknowledged)) {
        shared.live.note_acked(AckedBefore {
            sequence,
            acked_at_us: clock.wall_us(),
        });
    }
    let (frame, settled) = match outcome {
        Ok(WriteOutcome::Acknowledged) => {
            if shared.live.troubles.succeeded(Tried::Write) {
                tracing::info!(stream = shared.spec.stream, "the primary acknowledges canaries again");
            }
            let acked = Frame::Acked {
                sequence,
                acked_us: ended_us,
            };
            (Some(acked), shared.live.tracker().acked(sequence, ended_us))
        }
        Ok(WriteOutcome::Failed(error)) => {
            not_acknowledged(&shared, error.kind(), &error.to_string());
            if matches!(error, StoreError::Config(_)) {
                find_rival(&shared, sequence).await;
            }
            (None, shared.live.tracker().failed(sequence))
        }
        Ok(WriteOutcome::Unknown(error)) => {
            not_acknowledged(&shared, error.kind(), &error.to_string());
            unknown(&shared, sequence, ended_us)
        }
        Err(_) => {
            not_acknowledged(
                &shared,
                NO_ANSWER,
                &format!("no answer within {} s", WRITE_TIMEOUT.as_secs()),
            );
            unknown(&shared, sequence, ended_us)
        }
    };
    shared.live.changed.notify_one();
    drop(permit);
    for frame in superseded
        .map(Frame::Settled)
        .into_iter()
        .chain(frame)
        .chain(settled.map(Frame::Settled))
    {
        shared.record(frame).await;
    }
}

/// Counts a write without an acknowledgement, and says why when that is news.
fn not_acknowledged(shared: &Shared, kind: &'static str, error: &str) {
    let spec = &shared.spec;
    if shared.live.troubles.failed(Tried::Write, kind, error) {
        tracing::warn!(
            stream = spec.stream,
            kind,
            error,
            "the primary does not acknowledge canaries"
        );
    }
}

/// What the canary tells watchers by another clock; nothing while nobody vouches for this one.
fn stamp(shared: &Shared) -> Option<Stamp> {
    let error_us = shared.setting.wall_bound.as_ref()?.now_us()?;
    Some(Stamp {
        sent_at_us: shared.setting.clock.wall_us(),
        error_us,
        before: shared.live.acked_before(),
    })
}

/// A guarded write is refused when its slot holds a later canary. Sequences of ours are never used again, so somebody else wrote it.
async fn find_rival(shared: &Shared, sequence: u64) {
    let asked = shared.spec.writer.highest_sequence(&shared.spec.stream);
    if let Ok(Ok(highest)) = tokio::time::timeout(WRITE_TIMEOUT, asked).await
        && highest >= sequence
    {
        shared.meet_rival(&format!("canary {highest} where {sequence} is the newest of ours"));
    }
}

fn unknown(shared: &Shared, sequence: u64, at_us: u64) -> (Option<Frame>, Option<crate::Settled>) {
    let settled = shared.live.tracker().unknown(sequence, at_us);
    (Some(Frame::Unknown { sequence, at_us }), settled)
}

#[cfg(test)]
mod tests {
    use super::writes_in_flight_max;

    #[test]
    fn few_writes_are_under_way_at_usual_rates_and_a_bounded_number_at_high_ones() {
        let at = |rate: &str| writes_in_flight_max(rate.parse().unwrap());
        assert_eq!(["6/min", "5/s", "80/s"].map(at), [4; 3]);
        assert_eq!(at("500/s"), 25);
        assert_eq!(at("1000/s"), 50);
    }
}

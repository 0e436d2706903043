//! Minutes of evidence without waiting for them: the real schedule, tracker, polling rule and intervals, driven by a simulated
//! clock against an ordered store whose lag the caller states.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use stores::{Canary, Covers, Oddities, Sighting};

use crate::clock::{Anchor, Clock, SimulatedClock};
use crate::intervals::{Intervals, Moment};
use crate::polling::Polling;
use crate::schedule::Schedule;
use crate::settled::{Origin, Settled};
use crate::tracker::Tracker;
use crate::{Accounting, Config, LagInterval, LagSample, Route};

/// Slots of the simulated ring.
const RING_SLOTS: u64 = 16;

/// How often intervals are looked at.
const REVISE_EVERY_US: u64 = 1_000_000;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The route that the evidence names.
    pub route: Route,
    /// How it is probed.
    pub settings: Config,
    /// Seed of the schedule.
    pub seed: u64,
    /// The date at which it begins, microseconds since 1970 UTC.
    pub start_wall_us: i64,
    /// How long canaries leave.
    pub length: Duration,
    /// How long a write takes; it is committed in the middle of it.
    pub write: Duration,
    /// How long a poll takes; it is evaluated in the middle of it.
    pub round_trip: Duration,
    /// How long pending canaries are waited for at the end.
    pub drain: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Simulated {
    /// All revisions, in the order in which they were made.
    pub intervals: Vec<LagInterval>,
    /// Canaries, when final, with their true lag.
    pub samples: Vec<(LagSample, Option<u64>)>,
    /// The fate of all.
    pub accounting: Accounting,
}

/// Runs a scenario. `lag_us` gives the true lag of a canary by its commit, microseconds since the beginning; `None` never arrives.
/// Order is kept: a canary is not visible before an earlier one.
pub fn simulate(scenario: &Scenario, lag_us: impl FnMut(u64) -> Option<u64>) -> Simulated {
    Run::new(scenario, lag_us).run()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Ack(u64),
    Answer { sent_us: u64 },
    Slot,
    Poll,
    Revise,
}

struct Run<'a, F> {
    scenario: &'a Scenario,
    lag_us: F,
    clock: SimulatedClock,
    origin: Origin,
    schedule: Schedule,
    tracker: Tracker,
    intervals: Intervals,
    steps: BinaryHeap<Reverse<(u64, Step)>>,
    next_sequence: u64,
    /// When canaries that were not shown in a poll yet become visible, in order.
    arrivals: BTreeMap<u64, u64>,
    latest_arrival_us: u64,
    true_lag_us: BTreeMap<u64, u64>,
    visible: BTreeMap<u64, u64>,
    last_poll_us: Option<u64>,
    is_polling: bool,
    simulated: Simulated,
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl<'a, F: FnMut(u64) -> Option<u64>> Run<'a, F> {
    fn new(scenario: &'a Scenario, lag_us: F) -> Self {
        let clock = SimulatedClock::at(0, scenario.start_wall_us);
        let origin = Origin {
            route: scenario.route.clone(),
            stream: "simulated".to_owned(),
            epoch: format!("{:032x}", scenario.seed),
            anchor: Anchor::take(&clock),
        };
        Self {
            schedule: Schedule::new(
                scenario.settings.schedule,
                scenario.settings.rate("memory"),
                0,
                scenario.seed,
            ),
            tracker: Tracker::new(&origin.epoch, true, RING_SLOTS),
            intervals: Intervals::new(origin.clone(), scenario.settings.overdue_after.0),
            origin,
            clock,
            scenario,
            lag_us,
            steps: BinaryHeap::new(),
            next_sequence: 1,
            arrivals: BTreeMap::new(),
            latest_arrival_us: 0,
            true_lag_us: BTreeMap::new(),
            visible: BTreeMap::new(),
            last_poll_us: None,
            is_polling: false,
            simulated: Simulated {
                intervals: Vec::new(),
                samples: Vec::new(),
                accounting: Accounting::default(),
            },
        }
    }

    fn run(mut self) -> Simulated {
        let first = self.schedule.next_us();
        self.at(first, Step::Slot);
        self.at(REVISE_EVERY_US, Step::Revise);
        let end = us(self.scenario.length + self.scenario.drain);
        while let Some(Reverse((at, step))) = self.steps.pop() {
            if at > end {
                break;
            }
            self.clock.advance(at.saturating_sub(self.clock.now_us()));
            self.step(at, step);
        }
        self.clock.advance(end.saturating_sub(self.clock.now_us()));
        for settled in self.tracker.close() {
            self.settle(settled);
        }
        self.revise(true);
        self.simulated.accounting = self.tracker.accounting();
        self.simulated
    }

    fn at(&mut self, at: u64, step: Step) {
        self.steps.push(Reverse((at, step)));
    }

    fn step(&mut self, now: u64, step: Step) {
        match step {
            Step::Slot => self.send(now),
            Step::Ack(sequence) => {
                self.intervals.acked(sequence, now);
                let settled = self.tracker.acked(sequence, now);
                settled.into_iter().for_each(|settled| self.settle(settled));
            }
            Step::Poll => {
                self.last_poll_us = Some(now);
                self.at(now + us(self.scenario.round_trip), Step::Answer { sent_us: now });
                return;
            }
            Step::Answer { sent_us } => {
                self.is_polling = false;
                let sighting = self.ring_at(sent_us + us(self.scenario.round_trip) / 2);
                for settled in self.tracker.polled(&sighting, sent_us, now) {
                    self.settle(settled);
                }
            }
            Step::Revise => {
                self.revise(false);
                self.at(now + REVISE_EVERY_US, Step::Revise);
            }
        }
        self.plan_poll(now);
    }

    fn send(&mut self, now: u64) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.intervals.sent(sequence, now);
        let superseded = self.tracker.sent(sequence, now, now);
        superseded.into_iter().for_each(|settled| self.settle(settled));
        let write = us(self.scenario.write);
        let committed = now + write / 2;
        if let Some(lag) = (self.lag_us)(committed) {
            self.latest_arrival_us = self.latest_arrival_us.max(committed + lag);
            self.true_lag_us.insert(sequence, self.latest_arrival_us - committed);
            self.arrivals.insert(sequence, self.latest_arrival_us);
        }
        self.at(now + write, Step::Ack(sequence));
        let next = self.schedule.next_us();
        if next < us(self.scenario.length) {
            self.at(next, Step::Slot);
        }
    }

    fn plan_poll(&mut self, now: u64) {
        if let Some(deciding) = self.tracker.deciding_us()
            && !self.is_polling
        {
            self.is_polling = true;
            let due = Polling::AURORA.due_us(deciding, self.last_poll_us);
            self.at(due.max(now), Step::Poll);
        }
    }

    /// The ring as the secondary shows it at an instant; polls are answered in order, so what arrived stays.
    fn ring_at(&mut self, instant: u64) -> Sighting {
        while let Some((sequence, at)) = self.arrivals.first_key_value().map(|(sequence, at)| (*sequence, *at))
            && at <= instant
        {
            self.arrivals.remove(&sequence);
            self.visible.insert(sequence % RING_SLOTS, sequence);
        }
        Sighting {
            canaries: self
                .visible
                .values()
                .map(|sequence| Canary {
                    stream: self.origin.stream.clone(),
                    epoch: self.origin.epoch.clone(),
                    sequence: *sequence,
                    stamp: None,
                })
                .collect(),
            instance: "simulated".to_owned(),
            strong: true,
            covers: Covers::Ring,
            oddities: Oddities::default(),
        }
    }

    fn settle(&mut self, settled: Settled) {
        self.intervals.settled(&settled);
        let truth = self.true_lag_us.remove(&settled.sequence);
        self.simulated.samples.push((settled.sample(&self.origin), truth));
    }

    fn revise(&mut self, is_end: bool) {
        let moment = Moment {
            now_us: self.clock.now_us(),
            last_miss_us: self.tracker.latest_miss(),
            native_lag_us: None,
            is_end,
        };
        self.simulated.intervals.extend(self.intervals.revise(&moment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(minutes: u64) -> Scenario {
        Scenario {
            route: Route {
                dataset: "orders".to_owned(),
                store: "aurora".to_owned(),
                primary_site: "use1".to_owned(),
                secondary_site: "usw2".to_owned(),
                observer: "usw2/simulated".to_owned(),
            },
            settings: Config::default(),
            seed: 11,
            start_wall_us: 1_795_251_600_000_000,
            length: Duration::from_secs(60 * minutes),
            write: Duration::from_millis(3),
            round_trip: Duration::from_micros(400),
            drain: Duration::from_secs(30),
        }
    }

    #[test]
    fn every_reading_contains_the_true_lag() {
        for lag in [1_000, 40_000, 470_000, 10_000_000] {
            let simulated = simulate(&scenario(5), |_| Some(lag));
            assert!(simulated.accounting.holds());
            assert_eq!(simulated.accounting.pending, 0);
            assert!(simulated.accounting.seen > 1_000);
            for (sample, truth) in &simulated.samples {
                let truth = truth.unwrap();
                assert!(
                    sample.lag_low_us.unwrap() <= truth && truth <= sample.lag_high_us.unwrap(),
                    "{sample:?}"
                );
            }
        }
    }

    #[test]
    fn a_stall_shows_as_unbounded_minutes_that_are_revised_when_it_ends() {
        let stall = |at: u64| {
            Some(if (60_000_000..180_000_000).contains(&at) {
                240_000_000 - at
            } else {
                5_000
            })
        };
        let simulated = simulate(&scenario(6), stall);
        let second_minute: Vec<_> = simulated
            .intervals
            .iter()
            .filter(|row| row.interval_start_us == 1_795_251_660_000_000)
            .collect();
        let (first, last) = (second_minute.first().unwrap(), second_minute.last().unwrap());
        assert!(!first.is_final && first.high.p50_us.is_none() && first.pending > 200);
        assert!(last.is_final && last.high.p50_us.unwrap() > 120_000_000 && last.pending == 0);
        assert!(second_minute.len() <= 5, "{} revisions", second_minute.len());
        for row in &simulated.intervals {
            let sum =
                row.skipped + row.write_failed + row.write_unknown + row.pending + row.seen + row.lost + row.superseded;
            assert_eq!(row.planned, sum);
        }
    }
}

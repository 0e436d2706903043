//! A simulated day, and a simulated week with replication dead: what a probe keeps does not grow, and no canary is unaccounted for. A process of its own, so
//! that its memory is nobody else's.

use std::collections::BTreeMap;

use probes::{Accounting, Anchor, FinalState, Intervals, Moment, Origin, Polling, Route, Settled, Tracker, Wanted};
use stores::{Covers, Oddities, Sighting};

const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;
const WALL: i64 = 1_795_251_600_000_000;
/// What the allocator may keep beside what is in use.
const SLACK_BYTES: u64 = 6 << 20;

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// One stream with nobody at the other end, or with a replica that is so far behind.
struct Soak {
    tracker: Tracker,
    intervals: Intervals,
    polling: Polling,
    ring_slots: u64,
    lag_us: Option<u64>,
    last_poll_us: Option<u64>,
    settled: BTreeMap<&'static str, u64>,
    polls: u64,
    rows: u64,
    finals: Accounting,
}

impl Soak {
    fn new(polling: Polling, ring_slots: u64, is_ordered: bool, lag_us: Option<u64>) -> Self {
        let origin = Origin {
            route: Route {
                dataset: "orders".to_owned(),
                store: "aurora".to_owned(),
                primary_site: "use1".to_owned(),
                secondary_site: "usw2".to_owned(),
                observer: "usw2/soak".to_owned(),
            },
            stream: "orders/use1".to_owned(),
            epoch: "e".repeat(32),
            anchor: Anchor::at(0, WALL),
        };
        Self {
            tracker: Tracker::new(&origin.epoch, is_ordered, ring_slots),
            intervals: Intervals::new(origin, std::time::Duration::from_secs(30)),
            polling,
            ring_slots,
            lag_us,
            last_poll_us: None,
            settled: BTreeMap::new(),
            polls: 0,
            rows: 0,
            finals: Accounting::default(),
        }
    }

    fn take(&mut self, settled: impl IntoIterator<Item = Settled>) {
        for one in settled {
            *self.settled.entry(one.state.word()).or_default() += 1;
            self.intervals.settled(&one);
        }
    }

    /// Canaries from one sequence to another, one every `gap_us`; looked for as the polling wants; a row of each minute when it is due.
    fn run(&mut self, sequences: std::ops::RangeInclusive<u64>, gap_us: u64) {
        for sequence in sequences {
            let now = sequence * gap_us;
            self.intervals.sent(sequence, now);
            let superseded = self.tracker.sent(sequence, now, now);
            self.take(superseded);
            self.intervals.acked(sequence, now + 1_000);
            let settled = self.tracker.acked(sequence, now + 1_000);
            self.take(settled);
            while let Some(due) = self.tracker.due_us(&self.polling, self.last_poll_us)
                && due < now + gap_us
            {
                self.poll(due.max(now + 1_000), gap_us);
            }
            if now % (60 * SECOND) < gap_us {
                self.revise(now, false);
            }
        }
    }

    fn poll(&mut self, at: u64, gap_us: u64) {
        self.polls += 1;
        self.last_poll_us = Some(at);
        let wanted = self.tracker.wanted(&self.polling, at);
        let (covers, sought) = match wanted {
            Wanted::All => {
                let newest = self.tracker.highest_sent();
                (
                    Covers::Ring,
                    (newest.saturating_sub(self.ring_slots - 1).max(1)..=newest).collect(),
                )
            }
            Wanted::Only(sought) => (Covers::Slots(sought.clone()), sought),
        };
        let has_arrived = |sequence: &u64| self.lag_us.is_some_and(|lag| sequence * gap_us + lag <= at);
        let canaries = sought.into_iter().filter(has_arrived).map(|sequence| stores::Canary {
            stream: "orders/use1".to_owned(),
            epoch: self.tracker.epoch().to_owned(),
            sequence,
            stamp: None,
        });
        let sighting = Sighting {
            canaries: canaries.collect(),
            instance: "i".to_owned(),
            strong: true,
            covers,
            oddities: Oddities::default(),
        };
        let settled = self.tracker.polled(&sighting, at, at + 400);
        self.take(settled);
    }

    fn revise(&mut self, now_us: u64, is_end: bool) {
        let moment = Moment {
            now_us,
            last_miss_us: self.tracker.latest_miss(),
            native_lag_us: None,
            is_end,
        };
        for row in self.intervals.revise(&moment) {
            self.rows += 1;
            assert_eq!(
                row.planned,
                row.seen + row.superseded + row.pending + row.lost,
                "{row:?}"
            );
            if row.is_final || is_end {
                self.finals.planned += row.planned;
                self.finals.seen += row.seen;
                self.finals.superseded += row.superseded;
                self.finals.pending += row.pending;
            }
        }
    }

    /// Every canary has one fate, in the tracker, among the words that it gave, and in the rows of the minutes.
    fn close(mut self, planned: u64, gap_us: u64) -> Accounting {
        self.revise(planned * gap_us + SECOND, true);
        let accounting = self.tracker.accounting();
        assert!(accounting.holds() && accounting.planned == planned, "{accounting:?}");
        let said = |state: FinalState| self.settled.get(state.word()).copied().unwrap_or(0);
        assert_eq!(said(FinalState::Seen), accounting.seen);
        assert_eq!(said(FinalState::Superseded), accounting.superseded);
        assert_eq!(said(FinalState::Lost) + accounting.lost, 0);
        assert_eq!(
            (
                self.finals.planned,
                self.finals.seen,
                self.finals.superseded,
                self.finals.pending
            ),
            (planned, accounting.seen, accounting.superseded, accounting.pending),
            "as the minutes have it"
        );
        accounting
    }
}

/// Runs `hours`, and holds the memory at the end against that after `settled_hours`, when all that is bounded is full.
fn soak(mut soak: Soak, name: &str, gap_us: u64, settled_hours: u64, hours: u64) -> Accounting {
    let upto = |hours: u64| hours * HOUR / gap_us;
    soak.run(1..=upto(settled_hours), gap_us);
    let before = resident_bytes();
    soak.run(upto(settled_hours) + 1..=upto(hours), gap_us);
    let after = resident_bytes();
    assert!(
        after < before + SLACK_BYTES,
        "{name}: {} KB after {settled_hours} h, {} KB after {hours} h",
        before / 1_024,
        after / 1_024
    );
    // Gaps grow with the age of what waits: polls are bounded by the time, not by the canaries.
    assert!(
        soak.polls < hours * 3_600 * 60 && soak.rows >= hours * 59,
        "{name}: {} polls",
        soak.polls
    );
    soak.close(upto(hours), gap_us)
}

#[test]
fn neither_a_day_nor_a_dead_week_takes_more_memory_and_every_canary_has_one_fate() {
    let healthy = Soak::new(Polling::AURORA, 64, true, Some(5_000));
    let day = soak(healthy, "a day of a healthy log", 2 * SECOND, 2, 24);
    assert!(day.pending < 3 && day.superseded == 0, "{day:?}");

    let scattered = Soak::new(Polling::DYNAMODB, 4_096, false, Some(400_000));
    let day = soak(scattered, "a day of a healthy table", 5 * SECOND, 2, 24);
    assert!(day.pending < 3 && day.superseded == 0, "{day:?}");

    let dead = Soak::new(Polling::S3, 64, false, None);
    let week = soak(dead, "a dead week of a bucket", 120 * SECOND, 12, 7 * 24);
    assert_eq!((week.seen, week.pending), (0, 64), "{week:?}");
}

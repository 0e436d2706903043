//! From intervals of one minute to blocks of five and to whole peak windows, by route.
//!
//! A block pools what all observers and all epochs planned on a route, so that a probe that restarts in every minute does not
//! look like many short measurements. Days are handed in one after the other: memory holds one day of payloads, whatever the
//! window, plus one line of figures a block.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use probes::LagInterval;
use serde::{Deserialize, Serialize};

use super::calendar::{BLOCK_US, block_start};
use super::policy::{Policy, Quantile};
use crate::spread::Spread;

/// A block counts towards the minimum of a policy when its evidence covers this much of it: 4 of 5 minutes.
pub(crate) const BLOCK_OBSERVED_US: i64 = 240_000_000;

/// A route, whoever observed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeasuredRoute {
    /// The dataset or unit.
    pub dataset: String,
    /// The store.
    pub store: String,
    /// Where canaries are written.
    pub primary_site: String,
    /// Where they are watched for.
    pub secondary_site: String,
}

impl fmt::Display for MeasuredRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.dataset, self.primary_site, self.secondary_site)
    }
}

/// An interval with the run that wrote it.
#[derive(Debug, Clone)]
pub struct SourcedInterval {
    /// The run.
    pub run_id: String,
    /// The interval.
    pub interval: LagInterval,
}

/// What canaries of a stretch of time add up to. Every canary that was planned counts in both ends: in the high end those that
/// were not seen, or not read, are unbounded; in the low end they are zero, so that they prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Figures {
    /// Canaries that the schedule wanted.
    pub planned: u64,
    /// Seen at the secondary.
    pub seen: u64,
    /// Of these, without a reading: by clocks that nobody vouched for, or whose bound was proved false. In the high end they are unbounded.
    pub unread: u64,
    /// Still unseen.
    pub pending: u64,
    /// Proved lost.
    pub lost: u64,
    /// Overwritten before they were seen.
    pub superseded: u64,
    /// Not written, or with unknown outcome.
    pub not_written: u64,
    /// Slots in which nothing was sent.
    pub skipped: u64,
    /// Time that was observed, microseconds.
    pub observed_us: i64,
    /// Age of the oldest unseen canary.
    pub oldest_unseen_us: Option<u64>,
    /// Quantiles of the low end, in the order of [`Quantile::ALL`].
    pub low_us: [u64; 6],
    /// Quantiles of the high end; `None` = unbounded.
    pub high_us: [Option<u64>; 6],
}

impl Figures {
    /// The quantile by the low end.
    pub fn low(&self, quantile: Quantile) -> u64 {
        self.low_us[quantile.index()]
    }

    /// The quantile by the high end; `None` = unbounded.
    pub fn high(&self, quantile: Quantile) -> Option<u64> {
        self.high_us[quantile.index()]
    }

    /// Planned and not seen: what keeps a quantile from being bounded.
    pub fn unbounded(&self) -> u64 {
        self.planned - self.seen
    }
}

/// Five minutes of one route.
#[derive(Debug, Clone, Serialize)]
pub struct Block {
    /// Its start, aligned to UTC, microseconds since 1970.
    pub start_us: i64,
    /// Whether it lies in a peak window.
    pub in_peak: bool,
    /// What was measured.
    pub figures: Figures,
}

/// One whole peak window of one route.
#[derive(Debug, Clone, Serialize)]
pub struct PeakOccurrence {
    /// The name of the window.
    pub peak: String,
    /// The local date on which it started.
    pub date: String,
    /// Start of its first block with evidence.
    pub start_us: i64,
    /// What was measured.
    pub figures: Figures,
}

/// The lag of one route.
#[derive(Debug, Clone, Serialize)]
pub struct RouteLag {
    /// The route.
    pub route: MeasuredRoute,
    /// Its blocks with evidence, oldest first.
    pub blocks: Vec<Block>,
    /// Its peak windows with evidence, oldest first.
    pub peaks: Vec<PeakOccurrence>,
    /// The runs that the evidence comes from.
    pub run_ids: BTreeSet<String>,
}

/// Sums and both histograms of a stretch.
#[derive(Debug, Default)]
struct Stretch {
    figures: Figures,
    low: Spread,
    high: Spread,
}

impl Stretch {
    fn add(&mut self, interval: &LagInterval) -> Result<(), String> {
        let (mut low, mut high) = (Spread::default(), Spread::default());
        let low_count = low.add(&interval.hdr_low)?;
        let high_count = high.add(&interval.hdr_high)?;
        if high_count > interval.seen {
            return Err(format!(
                "it counts {} canaries as seen and its histogram of high ends holds {high_count}",
                interval.seen
            ));
        }
        let not_written = interval.write_failed + interval.write_unknown;
        let total =
            interval.skipped + not_written + interval.pending + interval.seen + interval.lost + interval.superseded;
        if total != interval.planned {
            return Err(format!(
                "it planned {} canaries and accounts for {total}",
                interval.planned
            ));
        }
        // Low ends of canaries that were never seen are their ages: the longest of all. They prove nothing here.
        low.drop_largest(low_count.saturating_sub(interval.seen));
        self.low.merge(&low);
        self.high.merge(&high);
        let figures = &mut self.figures;
        figures.planned += interval.planned;
        figures.seen += interval.seen;
        figures.unread += interval.seen - high_count;
        figures.pending += interval.pending;
        figures.lost += interval.lost;
        figures.superseded += interval.superseded;
        figures.not_written += not_written;
        figures.skipped += interval.skipped;
        figures.oldest_unseen_us = figures.oldest_unseen_us.max(interval.oldest_unseen_us);
        Ok(())
    }

    fn merge(&mut self, other: &Self) {
        self.low.merge(&other.low);
        self.high.merge(&other.high);
        let (mine, theirs) = (&mut self.figures, &other.figures);
        mine.planned += theirs.planned;
        mine.seen += theirs.seen;
        mine.unread += theirs.unread;
        mine.pending += theirs.pending;
        mine.lost += theirs.lost;
        mine.superseded += theirs.superseded;
        mine.not_written += theirs.not_written;
        mine.skipped += theirs.skipped;
        mine.observed_us += theirs.observed_us;
        mine.oldest_unseen_us = mine.oldest_unseen_us.max(theirs.oldest_unseen_us);
    }

    fn settle(mut self) -> Figures {
        let proving_nothing = self.figures.planned - self.low.count();
        for quantile in Quantile::ALL {
            let rank = quantile.rank(self.figures.planned);
            self.figures.low_us[quantile.index()] = rank
                .checked_sub(proving_nothing)
                .filter(|rank| *rank > 0)
                .and_then(|rank| self.low.smallest_at(rank))
                .unwrap_or(0);
            self.figures.high_us[quantile.index()] = self.high.largest_at(rank);
        }
        self.figures
    }
}

/// Collects intervals, day by day.
#[derive(Debug)]
pub struct BlockCollector<'a> {
    policy: &'a Policy,
    routes: BTreeMap<MeasuredRoute, RouteLag>,
    open_peaks: BTreeMap<(MeasuredRoute, usize, jiff::civil::Date), (i64, Stretch)>,
}

/// Which interval a row is a revision of.
type IntervalKey = (String, String, i64);

impl<'a> BlockCollector<'a> {
    /// Blocks as this policy needs them.
    pub fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            routes: BTreeMap::new(),
            open_peaks: BTreeMap::new(),
        }
    }

    /// Adds all intervals that start in one UTC day, every revision of them. Days come in order, each once. Returns what could
    /// not be used, in words; none of it is counted.
    pub fn add_day(&mut self, intervals: Vec<SourcedInterval>) -> Vec<String> {
        let mut newest: BTreeMap<MeasuredRoute, BTreeMap<IntervalKey, SourcedInterval>> = BTreeMap::new();
        for sourced in intervals {
            let route = &sourced.interval.route;
            let measured = MeasuredRoute {
                dataset: route.dataset.clone(),
                store: route.store.clone(),
                primary_site: route.primary_site.clone(),
                secondary_site: route.secondary_site.clone(),
            };
            let key = (
                route.observer.clone(),
                sourced.interval.epoch.clone(),
                sourced.interval.interval_start_us,
            );
            let kept = newest.entry(measured).or_default();
            if kept
                .get(&key)
                .is_none_or(|held| held.interval.revision < sourced.interval.revision)
            {
                kept.insert(key, sourced);
            }
        }
        let mut problems = Vec::new();
        let mut newest_start = i64::MIN;
        for (route, intervals) in newest {
            newest_start = intervals
                .keys()
                .map(|(_, _, start)| *start)
                .fold(newest_start, i64::max);
            self.add_route(&route, intervals, &mut problems);
        }
        // A peak window ends within 24 hours of its start.
        self.close_peaks(newest_start.saturating_sub(2 * super::calendar::DAY_US));
        problems
    }

    fn add_route(
        &mut self,
        route: &MeasuredRoute,
        intervals: BTreeMap<IntervalKey, SourcedInterval>,
        problems: &mut Vec<String>,
    ) {
        let mut stretches: BTreeMap<i64, Stretch> = BTreeMap::new();
        let mut observed: BTreeMap<i64, i64> = BTreeMap::new();
        let lag = self.routes.entry(route.clone()).or_insert_with(|| RouteLag {
            route: route.clone(),
            blocks: Vec::new(),
            peaks: Vec::new(),
            run_ids: BTreeSet::new(),
        });
        for ((observer, _, start), sourced) in intervals {
            let interval = &sourced.interval;
            if let Err(fault) = stretches.entry(block_start(start)).or_default().add(interval) {
                problems.push(format!(
                    "{route}: the interval of observer {observer} that starts at {} cannot be used: {fault} (run {})",
                    super::calendar::instant_text(start),
                    sourced.run_id
                ));
                continue;
            }
            let length = interval.interval_end_us.saturating_sub(start).clamp(0, BLOCK_US);
            let seen_us = length
                .saturating_sub(i64::try_from(interval.gap_us).unwrap_or(i64::MAX))
                .max(0);
            let minute = observed.entry(start).or_insert(0);
            *minute = (*minute).max(seen_us);
            lag.run_ids.insert(sourced.run_id);
        }
        for (start, observed_us) in observed {
            if let Some(stretch) = stretches.get_mut(&block_start(start)) {
                stretch.figures.observed_us += observed_us;
            }
        }
        for (start_us, stretch) in stretches.into_iter().filter(|(_, stretch)| stretch.figures.planned > 0) {
            let mut in_peak = false;
            for (index, peak) in self.policy.peaks().enumerate() {
                if let Some(date) = peak.occurrence(start_us) {
                    in_peak = true;
                    let key = (route.clone(), index, date);
                    let open = self
                        .open_peaks
                        .entry(key)
                        .or_insert_with(|| (start_us, Stretch::default()));
                    open.1.merge(&stretch);
                }
            }
            lag.blocks.push(Block {
                start_us,
                in_peak,
                figures: stretch.settle(),
            });
        }
    }

    fn close_peaks(&mut self, before_us: i64) {
        let closing = std::mem::take(&mut self.open_peaks);
        for ((route, index, date), (start_us, stretch)) in closing {
            if start_us >= before_us {
                self.open_peaks.insert((route, index, date), (start_us, stretch));
                continue;
            }
            if let (Some(lag), Some(peak)) = (self.routes.get_mut(&route), self.policy.peaks().nth(index)) {
                lag.peaks.push(PeakOccurrence {
                    peak: peak.name.clone(),
                    date: date.to_string(),
                    start_us,
                    figures: stretch.settle(),
                });
            }
        }
    }

    /// The routes, each with its blocks in order.
    pub fn finish(mut self) -> Vec<RouteLag> {
        self.close_peaks(i64::MAX);
        let mut routes: Vec<RouteLag> = self.routes.into_values().collect();
        for lag in &mut routes {
            lag.blocks.sort_by_key(|block| block.start_us);
            lag.peaks.sort_by_key(|peak| peak.start_us);
        }
        routes
    }
}

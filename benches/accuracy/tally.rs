//! Readings held against the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use probes::{FinalState, LagSample, Polling};
use serde::Serialize;
use stores::memory::Pair;

use super::delays::Delays;
use super::percent;
use super::quantiles::Quantiles;
use super::rig::canary;

/// What came of one kind of link.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) delays: String,
    pub(crate) round_trip_ms: u128,
    pub(crate) clocks: &'static str,
    /// Canaries with two ends of lag.
    pub(crate) readings: u64,
    /// Canaries that were still unseen at the end: without an upper end, which holds whatever is true.
    pub(crate) open: u64,
    /// Readings that hold the truth.
    pub(crate) inside: u64,
    pub(crate) inside_percent: f64,
    /// Readings whose low end rests on a valid miss.
    pub(crate) low_known: u64,
    pub(crate) width: Quantiles,
    /// Readings that are no wider than the bound; across two clocks there is none, since nobody looks while no probe runs.
    pub(crate) width_within: Option<u64>,
    /// The true lag of the canaries that were read.
    pub(crate) truth: Quantiles,
}

/// Sums while a row is made.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) open: u64,
    inside: u64,
    low_known: u64,
    within: Option<u64>,
    widths_us: Vec<u64>,
    truths_us: Vec<u64>,
}

impl Tally {
    /// Adds what was seen. With a round trip, widths are held against their bound.
    pub(crate) fn add(&mut self, pair: &Pair, samples: &[&LagSample], round_trip: Option<Duration>) {
        let seen = |sample: &&&LagSample| sample.state == FinalState::Seen;
        let deciding = deciding(samples);
        for sample in samples.iter().filter(seen) {
            let (Some(low_us), Some(high_us)) = (sample.lag_low_us, sample.lag_high_us) else {
                continue;
            };
            let truth_us = truth_us(pair, sample);
            // What never arrived and was seen all the same is outside.
            self.inside += u64::from(truth_us.is_some_and(|truth| (low_us..=high_us).contains(&truth)));
            self.low_known += u64::from(sample.low_known);
            self.truths_us.extend(truth_us);
            let width_us = high_us - low_us;
            self.widths_us.push(width_us);
            if let Some(round_trip) = round_trip {
                let age_us = deciding.get(&sample.seen_at_us).copied().unwrap_or(high_us);
                let bound_us = Polling::AURORA.floor_us
                    + (age_us * Polling::AURORA.growth_percent / 100).min(Polling::AURORA.gap_us_max)
                    + u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX)
                    + sample.write_us.unwrap_or_default();
                *self.within.get_or_insert_default() += u64::from(width_us <= bound_us);
            }
        }
    }

    pub(crate) fn row(self, delays: Delays, round_trip: Duration, clocks: &'static str) -> anyhow::Result<Row> {
        let readings = u64::try_from(self.widths_us.len())?;
        (readings > 0)
            .then_some(())
            .with_context(|| format!("no reading: {delays:?}"))?;
        Ok(Row {
            delays: delays.name(),
            round_trip_ms: round_trip.as_millis(),
            clocks,
            readings,
            open: self.open,
            inside: self.inside,
            inside_percent: percent(self.inside, readings),
            low_known: self.low_known,
            width: Quantiles::of(self.widths_us, 0),
            width_within: self.within,
            truth: Quantiles::of(self.truths_us, 0),
        })
    }
}

/// The age of the deciding canary of each poll: the oldest one that it showed.
fn deciding(samples: &[&LagSample]) -> BTreeMap<Option<i64>, u64> {
    let mut oldest = BTreeMap::new();
    for sample in samples {
        let age: &mut u64 = oldest.entry(sample.seen_at_us).or_default();
        *age = (*age).max(sample.lag_high_us.unwrap_or_default());
    }
    oldest
}

fn truth_us(pair: &Pair, sample: &LagSample) -> Option<u64> {
    let canary = canary(sample);
    let (committed, visible) = (pair.committed_at(&canary)?, pair.visible_at(&canary)?);
    u64::try_from((visible - committed).as_micros()).ok()
}

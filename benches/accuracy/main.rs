//! How often the measured interval holds the true lag, and how wide it is: the real engine over the in-memory pair, in virtual time,
//! with injected delays from 1 ms to 60 s, near and far watchers, on one clock and across two.
//!
//! Time is simulated, so figures depend neither on the machine nor on how the benchmark was built.
//! `DRIFTLINE_BENCH_DELAYS` names those to try alone, by a part of their name: nothing is recorded then.

#[allow(dead_code, reason = "no benchmark needs all of it")]
#[path = "../stage/machine.rs"]
mod machine;
#[allow(dead_code, reason = "no benchmark needs all of it")]
#[path = "../stage/quantiles.rs"]
mod quantiles;
#[path = "../stage/record.rs"]
mod record;
#[expect(dead_code, reason = "the rig of the probes' tests, which need more of it")]
#[path = "../../probes/tests/probe/rig.rs"]
mod rig;

mod delays;
mod hosts;
mod tally;

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use delays::Delays;
use hosts::Hosts;
use quantiles::ms;
use record::{say, verdict, write};
use rig::Rig;
use stores::memory::{Pair, Settings};
use tally::{Row, Tally};

/// Canaries leave for as long on one clock.
const LENGTH: Duration = Duration::from_secs(300);
/// How long what is under way may take at the end; longer than any delay but a dead link.
const DRAIN: Duration = Duration::from_secs(120);
/// Canaries a second on one clock.
const RATE: &str = "20/s";
/// Probes that die, and go on on another machine, for each row of two clocks.
const MOVES: u64 = 10;
/// How far the clock of each machine is off at most, as its daemon vouches.
const CLOCK_ERROR: Duration = Duration::from_millis(1);
/// Of a request and its answer, to either end.
const ROUND_TRIPS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(60)];
/// The least share of readings that hold the truth.
const INSIDE_PERCENT_GOAL: f64 = 99.9;

/// The whole record.
#[derive(Debug, Serialize)]
struct Results {
    commit: String,
    /// What the width of a reading on one clock is held against.
    width_bound: &'static str,
    clock_error_us: u128,
    rows: Vec<Row>,
    readings: u64,
    inside: u64,
    inside_percent: f64,
    inside_percent_goal: f64,
    /// Of the row with the smallest share.
    inside_percent_worst: f64,
    /// On one clock.
    width_within_percent: f64,
}

fn main() -> anyhow::Result<()> {
    let only = std::env::var("DRIFTLINE_BENCH_DELAYS").ok();
    let is_wanted = |delays: &Delays| only.as_ref().is_none_or(|part| delays.name().contains(part));
    let mut rows = Vec::new();
    for delays in Delays::ALL.into_iter().filter(is_wanted) {
        for round_trip in ROUND_TRIPS {
            rows.push(virtually(one_clock(delays, round_trip))?);
            tell(rows.last())?;
            if delays.ends() {
                rows.push(virtually(two_clocks(delays, round_trip))?);
                tell(rows.last())?;
            }
        }
    }
    let sum = |figure: fn(&Row) -> u64| rows.iter().map(figure).sum::<u64>();
    let on_one_clock = |figure: fn(&Row) -> Option<u64>| rows.iter().filter_map(figure).sum::<u64>();
    let (readings, inside) = (sum(|row| row.readings), sum(|row| row.inside));
    let judged = sum(|row| row.width_within.map_or(0, |_| row.readings));
    let results = Results {
        commit: machine::commit(),
        width_bound: "floor of polling + growth x age of the deciding canary + round trip + write time",
        clock_error_us: CLOCK_ERROR.as_micros(),
        readings,
        inside,
        inside_percent: percent(inside, readings),
        inside_percent_goal: INSIDE_PERCENT_GOAL,
        inside_percent_worst: rows.iter().map(|row| row.inside_percent).fold(100.0, f64::min),
        width_within_percent: percent(on_one_clock(|row| row.width_within), judged),
        rows,
    };
    say(format!(
        "\nthe truth lies within {} of {} readings ({:.3} %, the worst row {:.3} %); at least {INSIDE_PERCENT_GOAL} %: {}",
        results.inside,
        results.readings,
        results.inside_percent,
        results.inside_percent_worst,
        verdict(results.inside_percent_worst >= INSIDE_PERCENT_GOAL)
    ))?;
    say(format!(
        "{:.3} % of the readings on one clock are no wider than {}",
        results.width_within_percent, results.width_bound
    ))?;
    match only {
        None => write("accuracy", &results),
        Some(_) => say("not recorded: only all delays together are"),
    }
}

/// Runs in virtual time: it passes when nobody has anything to do.
fn virtually<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.context("start a runtime")?.block_on(work)
}

fn pair(delays: Delays, round_trip: Duration, seed: u64) -> Pair {
    Pair::new(Settings {
        delay: delays.at_first(),
        round_trip,
        seed,
        ..Settings::default()
    })
}

/// One probe from its start to its drain.
async fn one_clock(delays: Delays, round_trip: Duration) -> anyhow::Result<Row> {
    let pair = pair(delays, round_trip, 1);
    let driver = tokio::spawn(delays.drive(pair.clone(), LENGTH));
    let left = Rig::new(&pair, RATE).drain(DRAIN).run_for(LENGTH).await;
    driver.abort();
    let mut tally = Tally::default();
    let seen = left.samples.iter().filter(|sample| sample.clock == "monotonic");
    tally.add(&pair, seen.collect::<Vec<_>>().as_slice(), Some(round_trip));
    tally.open += left.accounting().pending;
    tally.row(delays, round_trip, "one clock")
}

/// A probe dies with canaries under way; another one on another machine, whose clock is off by something else, goes on with its ledger.
async fn two_clocks(delays: Delays, round_trip: Duration) -> anyhow::Result<Row> {
    let mut hosts = Hosts::new(CLOCK_ERROR);
    let mut tally = Tally::default();
    for seed in 1..=MOVES {
        let pair = pair(delays, round_trip, seed);
        let driver = tokio::spawn(delays.drive(pair.clone(), LENGTH));
        let start = |rig: Rig, hosts: &mut Hosts| {
            let mut rig = rig.clock(hosts.another()).drain(DRAIN);
            rig.setting.clock_bound = Some(hosts.bound());
            rig.setting.seed = seed;
            rig.start()
        };
        let running = start(Rig::new(&pair, delays.rate_of_moves()), &mut hosts);
        tokio::time::sleep(delays.until_moved()).await;
        let folder = running.kill().await;
        let running = start(Rig::new(&pair, "5/s").folder(folder), &mut hosts);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let left = running.stop().await.context("the second probe")?;
        driver.abort();
        let crossed = left.samples.iter().filter(|sample| sample.clock == "two_clock");
        tally.add(&pair, crossed.collect::<Vec<_>>().as_slice(), None);
        tally.open += left
            .summary
            .routes
            .iter()
            .map(|route| route.earlier.pending)
            .sum::<u64>();
    }
    tally.row(delays, round_trip, "two clocks")
}

fn percent(part: u64, whole: u64) -> f64 {
    let narrow = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if whole == 0 {
        100.0
    } else {
        100.0 * narrow(part) / narrow(whole)
    }
}

fn tell(row: Option<&Row>) -> anyhow::Result<()> {
    let row = row.context("no row")?;
    let widths = row.width_within.map_or("-".to_owned(), |within| {
        format!("{:.3} %", percent(within, row.readings))
    });
    say(format!(
        "{:<34} round trip {:>2} ms  {:<10}  readings {:>6}  unseen {:>5}  truth inside {:>7.3} %  width p50 {:>12} p99 {:>12}  within the bound {widths}",
        row.delays,
        row.round_trip_ms,
        row.clocks,
        row.readings,
        row.open,
        row.inside_percent,
        ms(row.width.p50_us),
        ms(row.width.p99_us)
    ))
}

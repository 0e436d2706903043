//! Stops replay for a while, again and again, and notes when it really stood still.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use lab::PgPair;
use serde::Serialize;

use super::stage::quantiles::Quantiles;

/// Between two looks at whether replay stands still.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Longer, and the pause did not take.
const PAUSE_PATIENCE: Duration = Duration::from_secs(10);
/// Instants of the run that the truth is drawn at.
const DRAWS: u32 = 10_000;

/// When replay stood still.
#[derive(Debug, Serialize)]
pub(crate) struct Freezes {
    pub(crate) count: usize,
    pub(crate) min_us: u64,
    pub(crate) median_us: u64,
    pub(crate) max_us: u64,
    /// From the start of the run: confirmed by the standby, and asked to go on. Replay stood still that long, and a little longer.
    pub(crate) from_to_us: Vec<(u64, u64)>,
}

/// Freezes until no further freeze ends before `until`.
pub(crate) async fn freeze(
    pair: &PgPair,
    length: Duration,
    every: Duration,
    until: Instant,
) -> anyhow::Result<Freezes> {
    let begun = Instant::now();
    let standby = pair
        .standby()
        .client("postgres")
        .await
        .context("connect to the standby")?;
    let mut from_to_us = Vec::new();
    let mut next = begun + every / 2;
    while next + length + every / 2 <= until {
        tokio::time::sleep_until(next.into()).await;
        standby
            .batch_execute("select pg_wal_replay_pause()")
            .await
            .context("pause replay")?;
        let asked = Instant::now();
        loop {
            let state = standby.query_one("select pg_get_wal_replay_pause_state()", &[]).await?;
            if state.try_get::<_, &str>(0)? == "paused" {
                break;
            }
            anyhow::ensure!(asked.elapsed() < PAUSE_PATIENCE, "replay does not pause");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let paused = Instant::now();
        tokio::time::sleep(length).await;
        let resumed = Instant::now();
        standby
            .batch_execute("select pg_wal_replay_resume()")
            .await
            .context("resume replay")?;
        let us = |at: Instant| u64::try_from((at - begun).as_micros());
        from_to_us.push((us(paused)?, us(resumed)?));
        next += every;
    }
    tokio::time::sleep_until(until.into()).await;
    let mut lengths: Vec<u64> = from_to_us.iter().map(|(from, to)| to - from).collect();
    lengths.sort_unstable();
    let middle = lengths.get(lengths.len() / 2).copied();
    Ok(Freezes {
        count: lengths.len(),
        min_us: *lengths.first().context("the run is too short for a freeze")?,
        median_us: middle.unwrap_or_default(),
        max_us: lengths.last().copied().unwrap_or_default(),
        from_to_us,
    })
}

impl Freezes {
    /// The lag of commits that are spread evenly over a run of this length, if replay takes no time but for the freezes.
    pub(crate) fn truth(&self, run: Duration) -> Quantiles {
        let lag_us = |draw: u32| {
            let at = u64::try_from((run / DRAWS * draw).as_micros()).unwrap_or(u64::MAX);
            let frozen = self.from_to_us.iter().find(|(from, to)| (*from..*to).contains(&at));
            frozen.map_or(0, |(_, to)| to - at)
        };
        Quantiles::of((0..DRAWS).map(lag_us).collect(), 0)
    }

    /// Whether they were about as long as was asked for.
    pub(crate) fn are_about(&self, asked: Duration) -> bool {
        let asked_us = u64::try_from(asked.as_micros()).unwrap_or(u64::MAX);
        self.median_us.abs_diff(asked_us) <= asked_us / 10
    }
}

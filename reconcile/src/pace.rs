//! How fast and how gently a run goes, and the pauses that this takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stores::{End, Relation};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::retry::{answered, passed};
use crate::{FenceKind, Limits, Pair};

/// Where rows are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestChoice {
    /// As is faster for a collection, measured on its first chunk when the run is planned; by the server where that is not worth its while.
    #[default]
    Auto,
    /// By the server.
    Pushdown,
    /// By driftline, over rows that are copied out.
    Client,
}

/// Settings of the pace. A plan pins them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Where rows are hashed.
    pub digest: DigestChoice,
    /// Rows of a collection, by its statistics, from which on it is measured before it is cut into chunks.
    pub measured_rows_min: u64,
    /// How long a side should take for one chunk.
    pub chunk_target: Duration,
    /// Rows of a chunk, however fast they are read.
    pub rows_per_chunk_max: u64,
    /// Bytes of row digests that each side may keep of one chunk.
    pub keep_bytes_max: usize,
    /// Rows of the primary that are compared in a second, over all chunks together. `None`: as fast as it goes.
    pub rows_per_second: Option<u64>,
    /// No chunk is begun while the secondary is further behind: by its own account, and by the time that it takes to reach what the primary
    /// has written, where there is a log position.
    pub max_lag: Option<Duration>,
    /// No chunk is begun while more sessions of others are active at a side, or it does not tell.
    pub max_load: Option<u64>,
    /// How long a chunk waits for that before it fails as `busy`.
    pub busy_patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            digest: DigestChoice::Auto,
            measured_rows_min: 1_000_000,
            chunk_target: Duration::from_millis(500),
            rows_per_chunk_max: 50_000,
            keep_bytes_max: 8 << 20,
            rows_per_second: None,
            max_lag: None,
            max_load: None,
            busy_patience: Duration::from_secs(600),
        }
    }
}

/// Between two looks at how busy the sides are.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Lets chunks begin. One for all chunks of a pair in this process.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The rate is kept from this instant on.
    next: Option<Instant>,
    /// Until when the last look at the sides holds, and what it was.
    looked: Option<(Instant, Option<String>)>,
}

impl Pacer {
    /// Waits until a chunk may begin.
    ///
    /// # Errors
    /// Why it may not, after `busy_patience`, in words.
    pub(crate) async fn admit(&self, pair: &Pair, limits: &Limits) -> Result<(), String> {
        let pace = &limits.pace;
        if let Some(next) = self.state.lock().await.next {
            tokio::time::sleep_until(next).await;
        }
        if pace.max_lag.is_none() && pace.max_load.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + pace.busy_patience;
        loop {
            let Some(reason) = self.busy(pair, limits).await else {
                return Ok(());
            };
            if Instant::now() + LOOK_PAUSE > deadline {
                return Err(format!(
                    "busy: for {:?} no chunk could begin: {reason}",
                    pace.busy_patience
                ));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Takes the rows of a chunk into account.
    pub(crate) async fn took(&self, rows: u64, limits: &Limits) {
        let Some(per_second) = limits.pace.rows_per_second else {
            return;
        };
        let micros = u128::from(rows) * 1_000_000 / u128::from(per_second.max(1));
        let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let mut state = self.state.lock().await;
        let now = Instant::now();
        state.next = Some(state.next.map_or(now, |next| next.max(now)) + cost);
    }

    /// Why no chunk should begin now. Callers queue, and one look serves all for [`LOOK_PAUSE`].
    async fn busy(&self, pair: &Pair, limits: &Limits) -> Option<String> {
        let mut state = self.state.lock().await;
        if let Some((until, known)) = &state.looked
            && Instant::now() < *until
        {
            return known.clone();
        }
        let reason = match lag(pair, limits).await {
            Some(reason) => Some(reason),
            None => match load(&pair.primary, limits).await {
                Some(reason) => Some(reason),
                None => load(&pair.secondary, limits).await,
            },
        };
        if let Some(reason) = &reason {
            tracing::info!(reason, "no chunk is begun");
        }
        state.looked = Some((Instant::now() + LOOK_PAUSE, reason.clone()));
        reason
    }
}

/// Why the secondary counts as too far behind, if it does.
async fn lag(pair: &Pair, limits: &Limits) -> Option<String> {
    let max = limits.pace.max_lag?;
    if pair.relation != Relation::Replicating {
        return None;
    }
    let reason = told_lag(&pair.secondary, max, limits).await?;
    // Its own account is an upper bound, which grows while an idle primary is silent, and some roles do not see it.
    match passes_within(pair, max, limits).await {
        Some(true) => None,
        Some(false) => Some(format!(
            "{reason}, and it did not reach within {max:?} what the primary had written"
        )),
        None => Some(reason),
    }
}

/// What the secondary says itself.
async fn told_lag(secondary: &End, max: Duration, limits: &Limits) -> Option<String> {
    let site = &secondary.site;
    let unknown = || Some(format!("site {site} does not tell its lag"));
    let Some(status) = &secondary.status else {
        return unknown();
    };
    match answered(limits, site, status.status()).await {
        Err(error) => Some(error.to_string()),
        Ok(status) => match status.lag_us.map(Duration::from_micros) {
            None => unknown(),
            Some(lag) if lag > max => Some(format!("site {site} is {lag:?} behind, more than {max:?}")),
            Some(_) => None,
        },
    }
}

/// Whether the secondary is seen to reach within `max` what the primary has written by now: it is no further behind then. `None`: that
/// could not be asked.
async fn passes_within(pair: &Pair, max: Duration, limits: &Limits) -> Option<bool> {
    let (primary, secondary) = (&pair.primary, &pair.secondary);
    let (FenceKind::Lsn, Some(point), Some(fence)) = (pair.fence, &primary.fence, &secondary.fence) else {
        return None;
    };
    let point = answered(limits, &primary.site, point.point()).await.ok()?;
    // A second try would be one for a longer time than `max`.
    let once = Limits {
        attempts_max: 1,
        ..limits.clone()
    };
    passed(&once, &secondary.site, fence.as_ref(), point, max).await.ok()
}

async fn load(end: &End, limits: &Limits) -> Option<String> {
    let max = limits.pace.max_load?;
    let site = &end.site;
    let unknown = || {
        Some(format!(
            "site {site} does not tell how many sessions are active (grant pg_read_all_stats to this role)"
        ))
    };
    let Some(status) = &end.status else { return unknown() };
    match answered(limits, site, status.active_sessions()).await {
        Err(error) => Some(error.to_string()),
        Ok(None) => unknown(),
        Ok(Some(active)) if active > max => Some(format!("site {site} has {active} active sessions, more than {max}")),
        Ok(Some(_)) => None,
    }
}

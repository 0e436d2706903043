//! A store in memory whose canaries arrive one by one, each with a delay of its own, and whose truth is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use stores::{Canary, CanaryReader, CanaryWriter, Covers, Oddities, Result, Sighting, Sought, WriteOutcome};
use tokio::time::Instant;

/// The delay of the n-th canary, by the time since the store was made; `None`: it never arrives.
type Delay = Box<dyn Fn(u64, Duration) -> Option<Duration> + Send + Sync>;

pub(crate) struct Scattered {
    round_trip: Duration,
    ring_slots: u64,
    is_ordered: bool,
    /// Of what is sought, so many slots are read.
    reads_max: usize,
    /// Every other poll is answered by an instance that is so much behind.
    behind: Option<Duration>,
    /// Whether that one can be told from the other.
    is_named: bool,
    delay: Delay,
    made: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By stream and sequence: the canary, its commit, its arrival.
    canaries: BTreeMap<(String, u64), (Canary, Instant, Option<Instant>)>,
    latest_arrival: Option<Instant>,
    polls: u64,
    sought_most: usize,
}

impl std::fmt::Debug for Scattered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scattered").finish_non_exhaustive()
    }
}

impl Scattered {
    pub(crate) fn new(
        round_trip_ms: u64,
        delay: impl Fn(u64, Duration) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        Self {
            round_trip: Duration::from_millis(round_trip_ms),
            ring_slots: 10_000,
            is_ordered: false,
            reads_max: usize::MAX,
            behind: None,
            is_named: true,
            delay: Box::new(delay),
            made: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// One log: a canary is not visible before an earlier one, and a look shows the whole ring.
    pub(crate) fn ordered(mut self) -> Self {
        self.is_ordered = true;
        self.ring_slots = 64;
        self
    }

    pub(crate) fn ring_slots(mut self, slots: u64) -> Self {
        self.ring_slots = slots;
        self
    }

    pub(crate) fn reads_max(mut self, slots: usize) -> Self {
        self.reads_max = slots;
        self
    }

    /// Every other poll is answered by an instance that is `behind`. Where the two cannot be told apart, no read of them is strong.
    pub(crate) fn balanced(mut self, behind: Duration, is_named: bool) -> Self {
        self.behind = Some(behind);
        self.is_named = is_named;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lag in truth.
    pub(crate) fn truth_us(&self, stream: &str, sequence: u64) -> Option<u64> {
        let state = self.state();
        let (_, committed, visible) = state.canaries.get(&(stream.to_owned(), sequence))?;
        u64::try_from((*visible)?.duration_since(*committed).as_micros()).ok()
    }

    pub(crate) fn polls(&self) -> (u64, usize) {
        let state = self.state();
        (state.polls, state.sought_most)
    }

    /// What the secondary had in each slot at an instant.
    fn ring(&self, state: &State, stream: &str, at: Instant) -> BTreeMap<u64, Canary> {
        let mut ring = BTreeMap::new();
        for ((of, sequence), (canary, _, visible)) in &state.canaries {
            if of == stream && visible.is_some_and(|visible| visible <= at) {
                ring.insert(sequence % self.ring_slots, canary.clone());
            }
        }
        ring
    }
}

#[async_trait]
impl CanaryWriter for Scattered {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        tokio::time::sleep(self.round_trip / 2).await;
        {
            let mut state = self.state();
            let now = Instant::now();
            let written = state.canaries.len() as u64;
            let mut visible = (self.delay)(written, now - self.made).map(|delay| now + delay);
            if self.is_ordered {
                visible = visible.max(state.latest_arrival.filter(|_| visible.is_some()));
                state.latest_arrival = state.latest_arrival.max(visible);
            }
            let key = (canary.stream.clone(), canary.sequence);
            state.canaries.insert(key, (canary.clone(), now, visible));
        }
        tokio::time::sleep(self.round_trip / 2).await;
        WriteOutcome::Acknowledged
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let state = self.state();
        let of_stream = state.canaries.keys().filter(|(of, _)| of == stream);
        Ok(of_stream.map(|(_, sequence)| *sequence).max().unwrap_or(0))
    }

    fn ring_slots(&self) -> u64 {
        self.ring_slots
    }
}

#[async_trait]
impl CanaryReader for Scattered {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        tokio::time::sleep(self.round_trip / 2).await;
        let sighting = {
            let mut state = self.state();
            state.polls += 1;
            let behind = self
                .behind
                .filter(|_| state.polls.is_multiple_of(2))
                .unwrap_or_default();
            let mut ring = self.ring(&state, stream, Instant::now() - behind);
            let covers = match sought {
                Sought::Only(sequences) if !self.is_ordered => {
                    state.sought_most = state.sought_most.max(sequences.len());
                    let read: Vec<u64> = sequences.iter().copied().take(self.reads_max).collect();
                    ring.retain(|slot, _| read.iter().any(|sequence| sequence % self.ring_slots == *slot));
                    Covers::Slots(read)
                }
                Sought::All | Sought::Only(_) => Covers::Ring,
            };
            Sighting {
                canaries: ring.into_values().collect(),
                instance: if behind.is_zero() || !self.is_named { "i" } else { "old" }.to_owned(),
                strong: self.is_named,
                covers,
                oddities: Oddities {
                    duplicates: 1,
                    foreign: 2,
                },
            }
        };
        tokio::time::sleep(self.round_trip / 2).await;
        Ok(sighting)
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }
}

/// Both ends of it.
pub(crate) fn ends(store: Scattered) -> Arc<Scattered> {
    Arc::new(store)
}

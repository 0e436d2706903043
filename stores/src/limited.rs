//! An end that is asked no faster than stated: so many requests and rows a second, so many requests at once.
//!
//! [`wrap`] gives an end with the same abilities and the same answers; only their times differ. Its clones share the bounds. Canaries pass
//! unhindered: one that had waited here would be late by what it waited. An identity, which is asked beside everything else, passes too.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::{
    Catalog, ChunkDigest, Collection, Counter, End, Fence, Fork, Kept, Key, KeyRange, KeyedBy, Listing, NativeStatus,
    Part, Position, Ranged, ReadRequest, Reading, Readings, Recipe, Reread, Result, ScanPart, Scanned, Status,
};

/// Rows of a listing that are paid for together: a pause for each of them would be shorter than a clock tells.
const ROWS_AT_ONCE: u64 = 100;

/// The bounds of one end. `None`: not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Requests that are begun in a second, evenly spread.
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests that run at the same time; a listing runs until its end was read.
    pub in_flight: Option<NonZeroUsize>,
    /// Rows that are digested, listed or read in a second. What was read beyond it is waited for before the next request.
    pub rows_per_second: Option<NonZeroU64>,
}

/// The same end within `bounds`.
pub fn wrap(end: &End, bounds: Bounds) -> End {
    let gate = Arc::new(Gate::new(bounds));
    End {
        catalog: end.catalog.as_ref().map(|inner| Limited::arc(inner, &gate) as _),
        status: end.status.as_ref().map(|inner| Limited::arc(inner, &gate) as _),
        ranged: end.ranged.as_ref().map(|inner| Limited::arc(inner, &gate) as _),
        scanned: end.scanned.as_ref().map(|inner| Limited::arc(inner, &gate) as _),
        reread: end.reread.as_ref().map(|inner| Limited::arc(inner, &gate) as _),
        fence: end.fence.as_ref().map(|inner| Limited::arc(inner, &gate) as _),
        ..end.clone()
    }
}

/// Hands out instants so that no more than a rate is reached. What is not used is not saved up.
#[derive(Debug)]
struct Pace {
    per_second: u64,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    fn new(per_second: u64) -> Self {
        Self {
            per_second,
            next: Mutex::new(None),
        }
    }

    /// Waits for the turn of whoever asks now, and books `amount` from then on.
    async fn take(&self, amount: u64) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = next.unwrap_or_else(Instant::now).max(Instant::now());
            *next = Some(turn + self.cost(amount));
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    /// Books what was used already.
    fn book(&self, amount: u64) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(next.unwrap_or_else(Instant::now).max(Instant::now()) + self.cost(amount));
    }

    fn cost(&self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
struct Gate {
    requests: Option<Pace>,
    rows: Option<Pace>,
    in_flight: Option<Arc<Semaphore>>,
}

impl Gate {
    fn new(bounds: Bounds) -> Self {
        Self {
            requests: bounds.requests_per_second.map(|rate| Pace::new(u64::from(rate.get()))),
            rows: bounds.rows_per_second.map(|rate| Pace::new(rate.get())),
            in_flight: bounds.in_flight.map(|most| Arc::new(Semaphore::new(most.get()))),
        }
    }

    /// Lets one request pass; it runs as long as what is given back lives.
    async fn pass(&self) -> Option<OwnedSemaphorePermit> {
        let permit = match &self.in_flight {
            // It is never closed: `None` would mean that nothing is bounded.
            Some(in_flight) => Arc::clone(in_flight).acquire_owned().await.ok(),
            None => None,
        };
        if let Some(rows) = &self.rows {
            rows.take(0).await;
        }
        if let Some(requests) = &self.requests {
            requests.take(1).await;
        }
        permit
    }

    fn book_rows(&self, amount: u64) {
        if let Some(rows) = &self.rows {
            rows.book(amount);
        }
    }

    async fn ask<T>(&self, inner: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let _running = self.pass().await;
        inner.await
    }

    async fn list(self: &Arc<Self>, inner: impl Future<Output = Result<Listing>> + Send) -> Result<Listing> {
        let running = self.pass().await;
        let listing = inner.await?;
        let gate = Arc::clone(self);
        let state = (listing, gate, running, 0u64);
        let paced = futures::stream::unfold(state, |(mut listing, gate, running, mut listed)| async move {
            let item = listing.next().await?;
            listed += 1;
            if let Some(rows) = gate.rows.as_ref().filter(|_| listed.is_multiple_of(ROWS_AT_ONCE)) {
                rows.book(ROWS_AT_ONCE);
                rows.take(0).await;
            }
            Some((item, (listing, gate, running, listed)))
        });
        Ok(paced.boxed())
    }
}

#[derive(Debug)]
struct Limited<T: ?Sized> {
    inner: Arc<T>,
    gate: Arc<Gate>,
}

impl<T: ?Sized> Limited<T> {
    fn arc(inner: &Arc<T>, gate: &Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            gate: Arc::clone(gate),
        })
    }
}

#[async_trait]
impl Catalog for Limited<dyn Catalog> {
    async fn collections(&self) -> Result<Vec<Collection>> {
        self.gate.ask(self.inner.collections()).await
    }

    async fn counter(&self, collection: &Collection) -> Result<Counter> {
        self.gate.ask(self.inner.counter(collection)).await
    }
}

#[async_trait]
impl Status for Limited<dyn Status> {
    async fn status(&self) -> Result<NativeStatus> {
        self.gate.ask(self.inner.status()).await
    }

    async fn fork(&self) -> Result<Fork> {
        self.gate.ask(self.inner.fork()).await
    }

    async fn active_sessions(&self) -> Result<Option<u64>> {
        self.gate.ask(self.inner.active_sessions()).await
    }
}

#[async_trait]
impl Ranged for Limited<dyn Ranged> {
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64) -> Result<Recipe> {
        self.gate.ask(self.inner.recipe(collection, columns, seed)).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        self.gate.ask(self.inner.known_answer(collection, recipe)).await
    }

    async fn split(&self, collection: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>> {
        self.gate.ask(self.inner.split(collection, rows_per_chunk)).await
    }

    async fn digest(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
        let digest = self.gate.ask(self.inner.digest(collection, recipe, part)).await?;
        self.gate.book_rows(digest.count);
        Ok(digest)
    }

    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        self.gate.list(self.inner.list(collection, recipe, part)).await
    }

    async fn read(&self, collection: &Collection, recipe: &Recipe, part: &Part, keep_bytes_max: usize) -> Result<Kept> {
        let kept = self.inner.read(collection, recipe, part, keep_bytes_max);
        let kept = self.gate.ask(kept).await?;
        self.gate.book_rows(kept.digest.count);
        Ok(kept)
    }

    async fn digests(&self, collection: &Collection, recipe: &Recipe, parts: &[Part]) -> Result<Vec<ChunkDigest>> {
        let digests = self.gate.ask(self.inner.digests(collection, recipe, parts)).await?;
        self.gate.book_rows(digests.iter().map(|digest| digest.count).sum());
        Ok(digests)
    }

    async fn cut(&self, collection: &Collection, range: &KeyRange, pieces: u32) -> Result<Vec<Key>> {
        self.gate.ask(self.inner.cut(collection, range, pieces)).await
    }

    async fn moment(&self) -> Result<Option<String>> {
        self.gate.ask(self.inner.moment()).await
    }

    async fn serves(&self, collection: &Collection, recipe: &Recipe, boundaries: &[Key]) -> Result<()> {
        self.gate.ask(self.inner.serves(collection, recipe, boundaries)).await
    }
}

#[async_trait]
impl Scanned for Limited<dyn Scanned> {
    async fn recipe(
        &self,
        collection: &Collection,
        columns: &[String],
        seed: u64,
        keyed_by: KeyedBy,
    ) -> Result<Recipe> {
        self.gate
            .ask(self.inner.recipe(collection, columns, seed, keyed_by))
            .await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        self.gate.ask(self.inner.known_answer(collection, recipe)).await
    }

    async fn parts(&self, collection: &Collection, wanted: u32) -> Result<Vec<ScanPart>> {
        self.gate.ask(self.inner.parts(collection, wanted)).await
    }

    async fn scan(&self, collection: &Collection, recipe: &Recipe, part: &ScanPart) -> Result<Listing> {
        self.gate.list(self.inner.scan(collection, recipe, part)).await
    }
}

#[async_trait]
impl Reread for Limited<dyn Reread> {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        let readings = self.gate.ask(self.inner.read(request)).await?;
        let rows = readings.rows.iter().map(|reading| match reading {
            Reading::Present(row) => row.copies,
            Reading::Absent => 0,
        });
        self.gate.book_rows(rows.sum());
        Ok(readings)
    }
}

#[async_trait]
impl Fence for Limited<dyn Fence> {
    async fn point(&self) -> Result<Position> {
        self.gate.ask(self.inner.point()).await
    }

    /// A wait is one request, and holds no place among those that run: it may last as long as the rest of them together.
    async fn wait(&self, point: Position, patience: Duration) -> Result<bool> {
        drop(self.gate.pass().await);
        self.inner.wait(point, patience).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::memory::{Pair, Settings, fields};

    const ROWS: i64 = 1_000;

    fn end(bounds: Bounds, round_trip: Duration) -> (End, End) {
        let pair = Pair::new(Settings {
            round_trip,
            ..Settings::default()
        });
        pair.create_table("t", &["id"], &["id", "a"]);
        pair.load("t", (0..ROWS).map(|id| (Key::int(id), fields([("a", Value::Int(id))]))));
        let end = pair.primary();
        (wrap(&end, bounds), end)
    }

    async fn recipe(end: &End) -> (Collection, Recipe) {
        let collection = end.catalog.as_ref().unwrap().collections().await.unwrap().remove(0);
        let columns = ["id".to_owned(), "a".to_owned()];
        let recipe = end.ranged.as_ref().unwrap().recipe(&collection, &columns, 1).await;
        (collection, recipe.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_begun_no_faster_than_stated() {
        let bounds = Bounds {
            requests_per_second: NonZeroU32::new(10),
            ..Bounds::default()
        };
        let (limited, plain) = end(bounds, Duration::ZERO);
        let (collection, recipe) = recipe(&plain).await;
        let ranged = limited.ranged.clone().unwrap();
        let start = Instant::now();
        let all = (0..31).map(|_| ranged.digest(&collection, &recipe, &Part::ALL));
        for digest in futures::future::join_all(all).await {
            assert_eq!(digest.unwrap().count, 1_000);
        }
        assert_eq!(
            start.elapsed().as_millis(),
            3_000,
            "31 requests are 30 pauses of a tenth of a second"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_run_at_once_than_stated_and_a_listing_runs_until_it_was_read() {
        let bounds = Bounds {
            in_flight: NonZeroUsize::new(2),
            ..Bounds::default()
        };
        let (limited, plain) = end(bounds, Duration::from_secs(1));
        let (collection, recipe) = recipe(&plain).await;
        let ranged = limited.ranged.clone().unwrap();
        let start = Instant::now();
        let all = (0..6).map(|_| ranged.digest(&collection, &recipe, &Part::ALL));
        futures::future::join_all(all).await;
        assert_eq!(start.elapsed().as_secs(), 3, "six of a second each, two at once");
        let first = ranged.list(&collection, &recipe, &Part::ALL).await.unwrap();
        let second = ranged.list(&collection, &recipe, &Part::ALL).await.unwrap();
        let third = tokio::time::timeout(Duration::from_secs(60), ranged.list(&collection, &recipe, &Part::ALL));
        assert!(third.await.is_err(), "two listings run");
        drop(first);
        assert!(ranged.list(&collection, &recipe, &Part::ALL).await.is_ok());
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_read_no_faster_than_stated() {
        let bounds = Bounds {
            rows_per_second: NonZeroU64::new(500),
            ..Bounds::default()
        };
        let (limited, plain) = end(bounds, Duration::ZERO);
        let (collection, recipe) = recipe(&plain).await;
        let ranged = limited.ranged.clone().unwrap();
        let start = Instant::now();
        let listing = ranged.list(&collection, &recipe, &Part::ALL).await.unwrap();
        assert_eq!(listing.count().await, 1_000);
        assert_eq!(start.elapsed().as_millis(), 2_000);
        ranged.digest(&collection, &recipe, &Part::ALL).await.unwrap();
        assert_eq!(
            start.elapsed().as_millis(),
            2_000,
            "what a digest read is known when it is there"
        );
        ranged.digest(&collection, &recipe, &Part::ALL).await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 4_000);
    }
}

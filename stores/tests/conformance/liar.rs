//! Ends that break one contract each. The suite must name the ability that lies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use stores::conformance::check;
use stores::{
    Canary, CanaryWriter, ChunkDigest, Collection, Compare, Comparison, Fence, Identify, Identity, Key, KeyRange,
    KeyedBy, Listing, Part, Position, Ranged, ReadRequest, Reading, Readings, Recipe, Reread, Result, ScanPart,
    Scanned, WriteOutcome,
};

use super::memory::Memory;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    AnotherInstanceEachTime,
    OneDataAtBothEnds,
    UpperBoundIncluded,
    BoundariesRepeat,
    BucketsOverlap,
    ListingWithoutItsLastRow,
    XorInsteadOfSum,
    NullIsEmpty,
    SeedIgnored,
    MissingIsEmpty,
    MomentForEver,
    ReadingsSorted,
    VersionForever,
    ValuesUnasked,
    PositionAhead,
    FencePassedAtOnce,
    PointOfLongAgo,
    EverythingEqual,
    NoColumnNamed,
    GuardAlwaysDoubts,
    RefusedIsAcknowledged,
    HighestForgotten,
    ScanWithoutItsLastRow,
    RowInTwoParts,
    ScanErrorIsItsEnd,
    ScanDigestOfPart,
    ScanOfLongAgo,
    CopiesUncounted,
}

use Lie::*;

const LIES: [(Lie, &str); 22] = [
    (AnotherInstanceEachTime, "identify"),
    (OneDataAtBothEnds, "identify"),
    (UpperBoundIncluded, "ranged"),
    (BoundariesRepeat, "ranged"),
    (BucketsOverlap, "ranged"),
    (ListingWithoutItsLastRow, "ranged"),
    (XorInsteadOfSum, "ranged"),
    (NullIsEmpty, "ranged: what a digest finds"),
    (SeedIgnored, "ranged"),
    (MissingIsEmpty, "ranged"),
    (MomentForEver, "ranged"),
    (ReadingsSorted, "reread"),
    (VersionForever, "reread"),
    (ValuesUnasked, "reread"),
    (PositionAhead, "fence"),
    (FencePassedAtOnce, "fence"),
    (PointOfLongAgo, "fence"),
    (EverythingEqual, "compare"),
    (NoColumnNamed, "compare"),
    (GuardAlwaysDoubts, "compare"),
    (RefusedIsAcknowledged, "canaries"),
    (HighestForgotten, "canaries"),
];

/// What only a store of scans can lie about; it is tried with both reference stores.
const LIES_OF_SCANS: [(Lie, &str); 6] = [
    (ScanWithoutItsLastRow, "scanned"),
    (RowInTwoParts, "scanned"),
    (ScanErrorIsItsEnd, "scanned"),
    (ScanDigestOfPart, "scanned"),
    (ScanOfLongAgo, "scanned"),
    (CopiesUncounted, "scanned: rows without a key"),
];

#[tokio::test(start_paused = true)]
async fn every_lie_is_found() {
    for (lie, ability) in LIES {
        let mut memory = Memory::new();
        memory.ends = memory.ends.map(|end| tell(lie, end));
        let breaches = check(&memory).await;
        let named = breaches.iter().any(|breach| breach.ability == ability);
        assert!(named, "{lie:?} is not found in {ability}: {breaches:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_lie_about_a_scan_is_found() {
    for make in [Memory::new, Memory::unordered] {
        for (lie, ability) in LIES_OF_SCANS {
            let mut memory = make();
            memory.ends = memory.ends.map(|end| tell(lie, end));
            let breaches = check(&memory).await;
            let named = breaches.iter().any(|breach| breach.ability == ability);
            assert!(named, "{lie:?} is not found in {ability}: {breaches:?}");
        }
    }
}

/// The same end, lying.
fn tell(lie: Lie, end: stores::End) -> stores::End {
    let mut told = end.clone();
    told.identify = Arc::new(Liar {
        lie,
        inner: end.identify,
    });
    told.compare = end.compare.map(|inner| Arc::new(Liar { lie, inner }) as _);
    told.ranged = end.ranged.map(|inner| Arc::new(Liar { lie, inner }) as _);
    told.scanned = end.scanned.map(|inner| Arc::new(Liar { lie, inner }) as _);
    told.reread = end.reread.map(|inner| Arc::new(Liar { lie, inner }) as _);
    told.fence = end.fence.map(|inner| Arc::new(Liar { lie, inner }) as _);
    told.canary_writer = end.canary_writer.map(|inner| Arc::new(Liar { lie, inner }) as _);
    told
}

#[derive(Debug)]
struct Liar<T: ?Sized> {
    lie: Lie,
    inner: Arc<T>,
}

#[async_trait]
impl Identify for Liar<dyn Identify> {
    async fn identity(&self) -> Result<Identity> {
        let mut identity = self.inner.identity().await?;
        match self.lie {
            AnotherInstanceEachTime => identity.instance = format!("{:?}", tokio::time::Instant::now()),
            OneDataAtBothEnds => identity.shares_storage_with = vec!["one".to_owned()],
            _ => {}
        }
        Ok(identity)
    }
}

impl Liar<dyn Ranged> {
    fn part(&self, part: &Part) -> Part {
        match (self.lie, part) {
            (
                UpperBoundIncluded,
                Part::Range(KeyRange {
                    lower,
                    upper: Some(upper),
                }),
            ) => {
                let stores::KeyValue::Int(number) = upper.0[0] else {
                    panic!("keys of the fixture are numbers");
                };
                Part::Range(KeyRange {
                    lower: lower.clone(),
                    upper: Some(Key::int(number + 1)),
                })
            }
            (BucketsOverlap, Part::Bucket { index: 0, of }) => Part::Bucket { index: 1 % of, of: *of },
            _ => part.clone(),
        }
    }

    fn recipe_used(&self, recipe: &Recipe) -> Recipe {
        let seed = if self.lie == SeedIgnored { 1 } else { recipe.seed };
        Recipe { seed, ..recipe.clone() }
    }

    async fn exists(&self, collection: &Collection) -> bool {
        self.inner.split(collection, 1).await.is_ok()
    }
}

#[async_trait]
impl Ranged for Liar<dyn Ranged> {
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64) -> Result<Recipe> {
        self.inner.recipe(collection, columns, seed).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        self.inner.known_answer(collection, &self.recipe_used(recipe)).await
    }

    async fn split(&self, collection: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>> {
        let mut boundaries = self.inner.split(collection, rows_per_chunk).await?;
        if self.lie == BoundariesRepeat {
            boundaries.extend(boundaries.last().cloned());
        }
        Ok(boundaries)
    }

    async fn digest(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
        if self.lie == MissingIsEmpty && !self.exists(collection).await {
            return Ok(ChunkDigest::default());
        }
        if matches!(self.lie, XorInsteadOfSum | NullIsEmpty) {
            let rows: Vec<_> = self.list(collection, recipe, part).await?.try_collect().await?;
            let mut digest = ChunkDigest::default();
            for (_, row) in rows {
                match self.lie {
                    XorInsteadOfSum => {
                        digest.count += 1;
                        digest.sum ^= row.0;
                    }
                    _ => digest.add(row),
                }
            }
            return Ok(digest);
        }
        let recipe = self.recipe_used(recipe);
        self.inner.digest(collection, &recipe, &self.part(part)).await
    }

    async fn moment(&self) -> Result<Option<String>> {
        if self.lie == MomentForEver {
            return Ok(Some("the only one".to_owned()));
        }
        self.inner.moment().await
    }

    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        if self.lie == MissingIsEmpty && !self.exists(collection).await {
            return Ok(futures::stream::empty().boxed());
        }
        let mut recipe = self.recipe_used(recipe);
        if self.lie == NullIsEmpty {
            recipe.columns.retain(|column| column != "body"); // it does not look at it at all
        }
        let listing = self.inner.list(collection, &recipe, &self.part(part)).await?;
        if self.lie == ListingWithoutItsLastRow {
            let mut rows: Vec<_> = listing.try_collect().await?;
            rows.pop();
            return Ok(futures::stream::iter(rows.into_iter().map(Ok)).boxed());
        }
        Ok(listing)
    }
}

#[async_trait]
impl Scanned for Liar<dyn Scanned> {
    async fn recipe(
        &self,
        collection: &Collection,
        columns: &[String],
        seed: u64,
        keyed_by: KeyedBy,
    ) -> Result<Recipe> {
        self.inner.recipe(collection, columns, seed, keyed_by).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        self.inner.known_answer(collection, recipe).await
    }

    async fn parts(&self, collection: &Collection, wanted: u32) -> Result<Vec<ScanPart>> {
        self.inner.parts(collection, wanted).await
    }

    async fn scan(&self, collection: &Collection, recipe: &Recipe, part: &ScanPart) -> Result<Listing> {
        let mut recipe = recipe.clone();
        if self.lie == ScanDigestOfPart {
            recipe.columns.retain(|column| column != "body");
        }
        let listing = self.inner.scan(collection, &recipe, part).await;
        if self.lie == ScanErrorIsItsEnd {
            let rows: Vec<_> = match listing {
                Ok(listing) => listing.filter_map(|row| async { row.ok() }).collect().await,
                Err(_) => Vec::new(),
            };
            return Ok(stream::iter(rows.into_iter().map(Ok)).boxed());
        }
        let mut rows: Vec<_> = listing?.try_collect().await?;
        match (self.lie, part) {
            (ScanWithoutItsLastRow, _) => {
                rows.pop();
            }
            (RowInTwoParts, ScanPart::Segment { index: 0, of }) if *of > 1 => {
                let other = ScanPart::Segment { index: 1, of: *of };
                let more: Vec<_> = self
                    .inner
                    .scan(collection, &recipe, &other)
                    .await?
                    .try_collect()
                    .await?;
                rows.extend(more.into_iter().take(1));
            }
            (ScanOfLongAgo, _) => rows.retain(|(key, _)| *key < Key::int(61)),
            _ => {}
        }
        Ok(stream::iter(rows.into_iter().map(Ok)).boxed())
    }
}

#[async_trait]
impl Reread for Liar<dyn Reread> {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        let mut request = *request;
        request.values |= self.lie == ValuesUnasked;
        let mut readings = self.inner.read(&request).await?;
        if self.lie == ReadingsSorted {
            readings.rows.sort_by_key(|reading| *reading == Reading::Absent);
        }
        if self.lie == PositionAhead {
            readings.position = readings.position.map(|position| Position(position.0 + 1_000));
        }
        for reading in &mut readings.rows {
            match (self.lie, reading) {
                (VersionForever, Reading::Present(row)) => row.version = "1".to_owned(),
                (CopiesUncounted, Reading::Present(row)) if request.recipe.is_keyless() => row.copies = 2,
                _ => {}
            }
        }
        Ok(readings)
    }
}

#[async_trait]
impl Fence for Liar<dyn Fence> {
    async fn point(&self) -> Result<Position> {
        let point = self.inner.point().await?;
        Ok(if self.lie == PointOfLongAgo { Position(1) } else { point })
    }

    async fn wait(&self, point: Position, patience: Duration) -> Result<bool> {
        if self.lie == FencePassedAtOnce {
            return Ok(true);
        }
        self.inner.wait(point, patience).await
    }
}

impl Compare for Liar<dyn Compare> {
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison {
        match (self.lie, self.inner.compare(primary, secondary, columns)) {
            (EverythingEqual, _) => Comparison::Equal,
            (NoColumnNamed, Comparison::Differs { class, detail, .. }) => Comparison::Differs {
                class,
                detail,
                columns: Vec::new(),
            },
            (_, comparison) => comparison,
        }
    }

    fn guard(
        &self,
        first: &Readings,
        secondary: &Readings,
        again: &Readings,
        index: usize,
    ) -> std::result::Result<(), String> {
        if self.lie == GuardAlwaysDoubts {
            return Err("who knows".to_owned());
        }
        self.inner.guard(first, secondary, again, index)
    }
}

#[async_trait]
impl CanaryWriter for Liar<dyn CanaryWriter> {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        match (self.lie, self.inner.write(canary).await) {
            (RefusedIsAcknowledged, _) => WriteOutcome::Acknowledged,
            (_, outcome) => outcome,
        }
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let highest = self.inner.highest_sequence(stream).await?;
        Ok(if self.lie == HighestForgotten { 0 } else { highest })
    }

    fn ring_slots(&self) -> u64 {
        self.inner.ring_slots()
    }
}

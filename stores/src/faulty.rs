//! An end with scripted faults: what it takes to try every way in which a store fails, without a store that fails.
//!
//! [`wrap`] gives an end with the same abilities and the [`Script`] that governs it. Without faults it answers exactly as the end within.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::watch;

use crate::{
    Canary, CanaryReader, CanaryWriter, Catalog, ChunkDigest, Collection, Counter, End, Fence, Fork, Identify,
    Identity, Kept, Key, KeyRange, KeyedBy, Listing, NativeStatus, Part, Position, Ranged, ReadRequest, Readings,
    Recipe, Reread, Result, ScanPart, Scanned, Sighting, Sought, Status, StoreError, WriteOutcome,
};

/// The calls that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Identify::identity`].
    Identity,
    /// [`Catalog::collections`].
    Collections,
    /// [`Status::status`].
    Status,
    /// [`Status::fork`].
    Fork,
    /// [`CanaryWriter::write`].
    WriteCanary,
    /// [`CanaryWriter::highest_sequence`].
    HighestSequence,
    /// [`CanaryReader::poll`].
    Poll,
    /// [`Ranged::recipe`] and [`Scanned::recipe`].
    Recipe,
    /// [`Ranged::known_answer`] and [`Scanned::known_answer`].
    KnownAnswer,
    /// [`Ranged::split`], [`Ranged::cut`] and [`Ranged::serves`].
    Split,
    /// [`Ranged::moment`].
    Moment,
    /// [`Ranged::digest`] and [`Ranged::read`].
    Digest,
    /// [`Ranged::list`].
    List,
    /// [`Scanned::parts`].
    Parts,
    /// [`Scanned::scan`].
    Scan,
    /// [`Reread::read`].
    Read,
    /// [`Fence::point`].
    Point,
    /// [`Fence::wait`].
    Wait,
}

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The store is not asked; this error comes back. A canary is certainly not written.
    Reject(StoreError),
    /// The store is asked and does it; then this error comes back instead of its answer. A canary's outcome is unknown.
    FailAfterWrite(StoreError),
    /// The store is asked and does it; its answer comes only after [`Script::release`].
    HoldResponse,
    /// The store is asked and does it; its answer comes so much later.
    RespondSlowly(Duration),
    /// A listing or a scan gives so many items, then this error. At another call: as `FailAfterWrite`.
    FailAtItem(usize, StoreError),
    /// A listing or a scan gives all of its items, then this error instead of its end. At another call: as `FailAfterWrite`.
    FailAtEnd(StoreError),
    /// A listing or a scan gives no item, then this error. At another call: as `FailAfterWrite`.
    EmptyThenError(StoreError),
}

/// The faults that are still to come, by call. Clones govern the same end.
#[derive(Debug, Clone)]
pub struct Script {
    plans: Arc<Mutex<BTreeMap<Call, Plan>>>,
    released: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Plan {
    /// One entry a call, `None` where it goes well.
    next: VecDeque<Option<Fault>>,
    always: Option<Fault>,
    calls: u64,
}

impl Script {
    /// The next call of this kind that has no fault yet gets this one; so faults given one after the other happen one after the other.
    pub fn next(&self, call: Call, fault: Fault) {
        self.plan(call, |plan| plan.next.push_back(Some(fault)));
    }

    /// So many further calls of this kind go well before the next fault that is given.
    pub fn spare(&self, call: Call, count: usize) {
        self.plan(call, |plan| plan.next.extend(std::iter::repeat_n(None, count)));
    }

    /// Every call of this kind gets this fault when no other is planned for it; `None` ends that.
    pub fn always(&self, call: Call, fault: Option<Fault>) {
        self.plan(call, |plan| plan.always = fault);
    }

    /// How often this was called, faults included.
    pub fn calls(&self, call: Call) -> u64 {
        self.plan(call, |plan| plan.calls)
    }

    /// Lets go every response that is held now.
    pub fn release(&self) {
        self.released.send_modify(|count| *count += 1);
    }

    fn plan<T>(&self, call: Call, act: impl FnOnce(&mut Plan) -> T) -> T {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        act(plans.entry(call).or_default())
    }

    fn take(&self, call: Call) -> Option<Fault> {
        self.plan(call, |plan| {
            plan.calls += 1;
            plan.next.pop_front().unwrap_or_else(|| plan.always.clone())
        })
    }

    /// What happens after the store has answered: a delay, and maybe an error.
    async fn after(&self, fault: Option<Fault>) -> Result<()> {
        match fault {
            None | Some(Fault::Reject(_)) => Ok(()),
            Some(Fault::RespondSlowly(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Some(Fault::HoldResponse) => {
                let mut released = self.released.subscribe();
                // The sender lives as long as `self`.
                let _released = released.changed().await;
                Ok(())
            }
            Some(
                Fault::FailAfterWrite(error)
                | Fault::FailAtItem(_, error)
                | Fault::FailAtEnd(error)
                | Fault::EmptyThenError(error),
            ) => Err(error),
        }
    }

    async fn run<T>(&self, call: Call, inner: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = self.take(call);
        if let Some(Fault::Reject(error)) = fault {
            return Err(error);
        }
        let answer = inner.await;
        self.after(fault).await?;
        answer
    }

    async fn list(&self, call: Call, inner: impl Future<Output = Result<Listing>> + Send) -> Result<Listing> {
        match self.take(call) {
            Some(Fault::Reject(error)) => Err(error),
            Some(Fault::FailAtItem(items, error)) => Ok(cut(inner.await?.take(items).boxed(), error)),
            Some(Fault::FailAtEnd(error)) => Ok(cut(inner.await?, error)),
            Some(Fault::EmptyThenError(error)) => Ok(cut(stream::empty().boxed(), error)),
            fault => {
                let listing = inner.await;
                self.after(fault).await?;
                listing
            }
        }
    }
}

/// The same end with faults by the script, which has none yet.
pub fn wrap(end: &End) -> (End, Script) {
    let script = Script {
        plans: Arc::default(),
        released: Arc::new(watch::Sender::new(0)),
    };
    let wrapped = End {
        site: end.site.clone(),
        identify: Faulty::arc(&end.identify, &script) as _,
        catalog: end.catalog.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        status: end.status.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        canary_writer: end.canary_writer.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        canary_reader: end.canary_reader.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        ranged: end.ranged.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        scanned: end.scanned.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        reread: end.reread.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        fence: end.fence.as_ref().map(|inner| Faulty::arc(inner, &script) as _),
        compare: end.compare.clone(), // pure: it has no way to fail
        meter: end.meter.clone(),
    };
    (wrapped, script)
}

#[derive(Debug)]
struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    script: Script,
}

impl<T: ?Sized> Faulty<T> {
    fn arc(inner: &Arc<T>, script: &Script) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            script: script.clone(),
        })
    }
}

#[async_trait]
impl Identify for Faulty<dyn Identify> {
    async fn identity(&self) -> Result<Identity> {
        self.script.run(Call::Identity, self.inner.identity()).await
    }
}

#[async_trait]
impl Catalog for Faulty<dyn Catalog> {
    async fn collections(&self) -> Result<Vec<Collection>> {
        self.script.run(Call::Collections, self.inner.collections()).await
    }

    async fn counter(&self, collection: &Collection) -> Result<Counter> {
        self.script.run(Call::Collections, self.inner.counter(collection)).await
    }
}

#[async_trait]
impl Status for Faulty<dyn Status> {
    async fn status(&self) -> Result<NativeStatus> {
        self.script.run(Call::Status, self.inner.status()).await
    }

    async fn fork(&self) -> Result<Fork> {
        self.script.run(Call::Fork, self.inner.fork()).await
    }

    async fn active_sessions(&self) -> Result<Option<u64>> {
        self.script.run(Call::Status, self.inner.active_sessions()).await
    }
}

#[async_trait]
impl CanaryWriter for Faulty<dyn CanaryWriter> {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let fault = self.script.take(Call::WriteCanary);
        if let Some(Fault::Reject(error)) = fault {
            return WriteOutcome::Failed(error);
        }
        let outcome = self.inner.write(canary).await;
        match (outcome, self.script.after(fault).await) {
            (WriteOutcome::Acknowledged, Err(error)) => WriteOutcome::Unknown(error),
            (outcome, _) => outcome,
        }
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        let inner = self.inner.highest_sequence(stream);
        self.script.run(Call::HighestSequence, inner).await
    }

    fn ring_slots(&self) -> u64 {
        self.inner.ring_slots()
    }
}

#[async_trait]
impl CanaryReader for Faulty<dyn CanaryReader> {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        self.script.run(Call::Poll, self.inner.poll(stream, sought)).await
    }

    fn is_ordered(&self) -> bool {
        self.inner.is_ordered()
    }
}

#[async_trait]
impl Ranged for Faulty<dyn Ranged> {
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64) -> Result<Recipe> {
        let inner = self.inner.recipe(collection, columns, seed);
        self.script.run(Call::Recipe, inner).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        let inner = self.inner.known_answer(collection, recipe);
        self.script.run(Call::KnownAnswer, inner).await
    }

    async fn split(&self, collection: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>> {
        let inner = self.inner.split(collection, rows_per_chunk);
        self.script.run(Call::Split, inner).await
    }

    async fn digest(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
        let inner = self.inner.digest(collection, recipe, part);
        self.script.run(Call::Digest, inner).await
    }

    async fn read(&self, collection: &Collection, recipe: &Recipe, part: &Part, keep_bytes_max: usize) -> Result<Kept> {
        let inner = self.inner.read(collection, recipe, part, keep_bytes_max);
        self.script.run(Call::Digest, inner).await
    }

    async fn digests(&self, collection: &Collection, recipe: &Recipe, parts: &[Part]) -> Result<Vec<ChunkDigest>> {
        let inner = self.inner.digests(collection, recipe, parts);
        self.script.run(Call::Digest, inner).await
    }

    async fn cut(&self, collection: &Collection, range: &KeyRange, pieces: u32) -> Result<Vec<Key>> {
        self.script
            .run(Call::Split, self.inner.cut(collection, range, pieces))
            .await
    }

    async fn moment(&self) -> Result<Option<String>> {
        self.script.run(Call::Moment, self.inner.moment()).await
    }

    async fn serves(&self, collection: &Collection, recipe: &Recipe, boundaries: &[Key]) -> Result<()> {
        self.script
            .run(Call::Split, self.inner.serves(collection, recipe, boundaries))
            .await
    }

    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        let inner = self.inner.list(collection, recipe, part);
        self.script.list(Call::List, inner).await
    }
}

#[async_trait]
impl Scanned for Faulty<dyn Scanned> {
    async fn recipe(
        &self,
        collection: &Collection,
        columns: &[String],
        seed: u64,
        keyed_by: KeyedBy,
    ) -> Result<Recipe> {
        let inner = self.inner.recipe(collection, columns, seed, keyed_by);
        self.script.run(Call::Recipe, inner).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        let inner = self.inner.known_answer(collection, recipe);
        self.script.run(Call::KnownAnswer, inner).await
    }

    async fn parts(&self, collection: &Collection, wanted: u32) -> Result<Vec<ScanPart>> {
        let inner = self.inner.parts(collection, wanted);
        self.script.run(Call::Parts, inner).await
    }

    async fn scan(&self, collection: &Collection, recipe: &Recipe, part: &ScanPart) -> Result<Listing> {
        let inner = self.inner.scan(collection, recipe, part);
        self.script.list(Call::Scan, inner).await
    }
}

/// A listing that ends in an error instead of its end.
fn cut<T: Send + 'static>(listing: BoxStream<'static, Result<T>>, error: StoreError) -> BoxStream<'static, Result<T>> {
    listing.chain(stream::once(async { Err(error) })).boxed()
}

#[async_trait]
impl Reread for Faulty<dyn Reread> {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        self.script.run(Call::Read, self.inner.read(request)).await
    }
}

#[async_trait]
impl Fence for Faulty<dyn Fence> {
    async fn point(&self) -> Result<Position> {
        self.script.run(Call::Point, self.inner.point()).await
    }

    async fn wait(&self, point: Position, patience: Duration) -> Result<bool> {
        self.script.run(Call::Wait, self.inner.wait(point, patience)).await
    }
}

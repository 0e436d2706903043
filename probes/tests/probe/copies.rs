//! Copies of the ledger at places that work, fail, lie and come back; and what can be proved from them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use journal::Place;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use probes::{Anchor, Copies, CopyFigures, CopyState, Frame, Ledger, Origin, fetch_ledgers, ledgers, replay};

use crate::rig::route;

const WALL: i64 = 1_795_251_600_000_000;
const EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

fn origin(epoch: &str) -> Origin {
    Origin {
        route: route(),
        stream: "orders>usw2@host".to_owned(),
        epoch: epoch.to_owned(),
        anchor: Anchor::at(0, WALL),
    }
}

/// Canary n is planned, sent and acknowledged at n milliseconds, and the ledger is complete until then.
fn acked(ledger: &mut Ledger, sequences: impl IntoIterator<Item = u64>) {
    for sequence in sequences {
        let at = sequence * 1_000;
        for frame in [
            Frame::Planned {
                sequence,
                planned_us: at,
            },
            Frame::Sent {
                sequence,
                planned_us: at,
                sent_us: at,
            },
            Frame::Acked { sequence, acked_us: at },
            Frame::Complete { until_us: at },
        ] {
            ledger.append(&frame).unwrap();
        }
    }
}

async fn until(figures: &CopyFigures, what: &str, is_true: impl Fn(&CopyState) -> bool) -> CopyState {
    let by = tokio::time::Instant::now() + PATIENCE;
    loop {
        let state = figures.places().remove(0);
        if is_true(&state) {
            return state;
        }
        assert!(tokio::time::Instant::now() < by, "never: {what}; {state:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn reaches(sequence: u64) -> impl Fn(&CopyState) -> bool {
    let at = WALL + i64::try_from(sequence).unwrap() * 1_000;
    move |state| state.complete_until_us == Some(at)
}

/// The canaries that a copy tells of, and until when it is complete.
async fn told_by(place: &Place) -> (u64, i64, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let fetched = fetch_ledgers(place, folder.path(), |origin| origin.route == route())
        .await
        .unwrap();
    let found = ledgers(folder.path(), |_| true).unwrap();
    let Some(newest) = found.last() else {
        return (0, 0, fetched.incomplete);
    };
    let mut count = 0;
    let replayed = replay(newest, |_| count += 1).unwrap();
    (
        count,
        replayed.origin.anchor.wall(replayed.complete_until_us),
        fetched.incomplete,
    )
}

fn start(folder: &Path, place: &Place) -> Copies {
    Copies::start(folder, vec![place.clone()], EVERY).unwrap()
}

/// A store that can be told to fail, and to keep only half of what it is given.
#[derive(Debug)]
struct Moody {
    inner: InMemory,
    is_down: AtomicBool,
    keeps_half: AtomicBool,
}

impl Moody {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            is_down: AtomicBool::new(false),
            keeps_half: AtomicBool::new(false),
        })
    }

    fn answer(&self) -> Result<()> {
        if self.is_down.load(Ordering::Acquire) {
            return Err(object_store::Error::Generic {
                store: "moody",
                source: "503".into(),
            });
        }
        Ok(())
    }
}

impl std::fmt::Display for Moody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("moody")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Moody {
    async fn put_opts(&self, location: &ObjectPath, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.answer()?;
        if self.keeps_half.load(Ordering::Acquire) {
            let bytes = bytes::Bytes::from(payload);
            return self
                .inner
                .put_opts(location, bytes.slice(..bytes.len() / 2).into(), options)
                .await;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.answer()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.answer() {
            return Box::pin(futures::stream::once(async move { Err(error) }));
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_copy_follows_the_ledger_and_is_whole_after_the_last_upload() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = Place::folder(&other.path().join("made/when/needed"));
    let mut ledger = Ledger::start(folder.path(), &origin("e1"), 1).unwrap();
    let copies = start(folder.path(), &place);
    let figures = copies.figures();
    for upto in [10_u64, 20, 30] {
        acked(&mut ledger, upto - 9..=upto);
        until(&figures, "the copy reaches the mark", reaches(upto)).await;
        assert_eq!(
            told_by(&place).await,
            (upto, WALL + i64::try_from(upto).unwrap() * 1_000, vec![])
        );
    }
    ledger
        .append(&Frame::Closed {
            at_us: 31_000,
            pending: 30,
        })
        .unwrap();
    ledger.append(&Frame::Complete { until_us: 31_000 }).unwrap();
    drop(ledger);
    let last = copies.finish(PATIENCE).await.remove(0);
    assert!(last.is_complete && last.failures == 0, "{last:?}");
    assert_eq!(last.complete_until_us, Some(WALL + 31_000));
    assert_eq!(told_by(&place).await, (30, WALL + 31_000, vec![]));
    let mut objects = 0;
    place.each(|_| objects += 1).await.unwrap();
    assert_eq!(objects, 1, "the parts of a segment that has ended are put together");
}

#[tokio::test]
async fn a_place_that_is_down_for_long_gets_everything_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Moody::new();
    store.is_down.store(true, Ordering::Release);
    let place = Place::store("moody", store.clone(), "some/prefix");
    let mut ledger = Ledger::start(folder.path(), &origin("e1"), 1).unwrap();
    let copies = start(folder.path(), &place);
    let figures = copies.figures();
    acked(&mut ledger, 1..=2_000);
    let state = until(&figures, "tries fail", |state| state.failures >= 3).await;
    assert_eq!(
        (state.complete_until_us, state.is_complete),
        (None, false),
        "nothing is there"
    );
    let next = ledger.next_segment().unwrap().write().unwrap();
    ledger.go_on_in(next, 2_000_000);
    acked(&mut ledger, 2_001..=2_100);
    store.is_down.store(false, Ordering::Release);
    until(&figures, "the copy catches up", reaches(2_100)).await;
    assert_eq!(told_by(&place).await, (2_100, WALL + 2_100_000, vec![]));
}

#[tokio::test]
async fn a_place_that_keeps_half_is_found_out_and_its_half_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = Moody::new();
    let place = Place::store("moody", store.clone(), "");
    let mut ledger = Ledger::start(folder.path(), &origin("e1"), 1).unwrap();
    let copies = start(folder.path(), &place);
    let figures = copies.figures();
    acked(&mut ledger, 1..=10);
    until(&figures, "the first part is there", reaches(10)).await;
    store.keeps_half.store(true, Ordering::Release);
    acked(&mut ledger, 11..=20);
    let state = until(&figures, "it is found out", |state| state.failures > 0).await;
    assert_eq!(
        state.complete_until_us,
        Some(WALL + 10_000),
        "what is not kept does not count"
    );
    drop(copies);
    let (count, complete_until, incomplete) = told_by(&place).await;
    assert_eq!((count, complete_until), (10, WALL + 10_000));
    assert_eq!(incomplete.len(), 1, "and it is said");
}

#[tokio::test]
async fn a_copy_goes_on_where_a_killed_one_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = Moody::new();
    let place = Place::store("moody", store.clone(), "p");
    let mut ledger = Ledger::start(folder.path(), &origin("e1"), 1).unwrap();
    acked(&mut ledger, 1..=10);
    let first = start(folder.path(), &place);
    until(&first.figures(), "the first part is there", reaches(10)).await;
    // Dropped, it could still copy what comes next while it ends: then there would be nothing left for the second.
    first.finish(PATIENCE).await;
    // A request of the dead process that arrives late: the same beginning as a part of the next one, and another end.
    let segment = ledgers(folder.path(), |_| true).unwrap().remove(0).segments.remove(0);
    let length = usize::try_from(std::fs::metadata(&segment).unwrap().len()).unwrap();
    acked(&mut ledger, 11..=20);
    let whole = std::fs::read(&segment).unwrap();
    let late_end = journal::whole_frames(0, &whole[..length + 150], |_| {});
    assert!(late_end > length);
    let mut known = Vec::new();
    place.each(|stored| known.push(stored.object)).await.unwrap();
    let late = known[0].rsplit_once('/').unwrap().0.to_owned() + &format!("/{length:012}-{late_end:012}.part");
    let second = start(folder.path(), &place);
    until(&second.figures(), "the copy goes on", reaches(20)).await;
    place.put(&late, whole[length..late_end].to_vec().into()).await.unwrap();
    assert_eq!(told_by(&place).await, (20, WALL + 20_000, vec![]));
    let first_part = store
        .inner
        .head(&ObjectPath::from(format!("p/{}", known[0])))
        .await
        .unwrap();
    assert_eq!(
        first_part.size,
        u64::try_from(length).unwrap(),
        "nothing is written again"
    );
}

/// A bucket behind the protocol of S3: it refuses, stores without saying so, and is taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_refuses_gets_everything_later_and_one_that_is_gone_is_never_an_empty_copy() {
    // Somebody else may have chosen one in this process.
    drop(rustls::crypto::ring::default_provider().install_default());
    let pair = lab::S3Pair::start(lab::S3Options::default()).await.unwrap();
    let site = pair.secondary();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, lab::S3_SECRET_KEY).unwrap();
    let written = serde_json::json!({
        "url": "s3://media-usw2/driftline",
        "region": "us-west-2",
        "endpoint_url": site.endpoint(),
        "credentials": {"access_key_id": lab::S3_ACCESS_KEY, "secret_access_key": {"file": key}},
    });
    let place: probes::CopyPlace = serde_json::from_value(written).unwrap();
    let place = place.open().unwrap();
    let ledgers_folder = folder.path().join("ledger");
    std::fs::create_dir(&ledgers_folder).unwrap();
    let mut ledger = Ledger::start(&ledgers_folder, &origin("e1"), 1).unwrap();
    let copies = start(&ledgers_folder, &place);
    let figures = copies.figures();
    acked(&mut ledger, 1..=10);
    until(&figures, "the first part is there", reaches(10)).await;
    assert_eq!(told_by(&place).await, (10, WALL + 10_000, vec![]));

    site.refuse_writes(true);
    acked(&mut ledger, 11..=20);
    let state = until(&figures, "it refuses", |state| state.failures > 0).await;
    assert_eq!(
        state.complete_until_us,
        Some(WALL + 10_000),
        "what is not there does not count"
    );
    assert_eq!(told_by(&place).await, (10, WALL + 10_000, vec![]));
    site.refuse_writes(false);
    until(&figures, "it catches up", reaches(20)).await;

    let failures = figures.places()[0].failures;
    site.lose_answers(true);
    acked(&mut ledger, 21..=30);
    let state = until(&figures, "its answers are lost", |state| state.failures > failures).await;
    assert_eq!(
        state.complete_until_us,
        Some(WALL + 20_000),
        "nobody said that it is there"
    );
    site.lose_answers(false);
    acked(&mut ledger, 31..=40);
    until(&figures, "it catches up again", reaches(40)).await;
    assert_eq!(told_by(&place).await, (40, WALL + 40_000, vec![]), "each frame once");

    site.deny_listing(true);
    let into = tempfile::tempdir().unwrap();
    let denied = fetch_ledgers(&place, into.path(), |_| true).await;
    assert!(denied.is_err(), "{denied:?}");
    site.deny_listing(false);
    site.remove_bucket("media-usw2");
    let gone = fetch_ledgers(&place, into.path(), |_| true)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        gone.contains("s3://media-usw2/driftline") && !gone.contains(lab::S3_SECRET_KEY),
        "{gone}"
    );
    acked(&mut ledger, 41..=50);
    let last = copies.finish(Duration::from_secs(3)).await.remove(0);
    assert!(!last.is_complete, "{last:?}");
    assert_eq!(last.complete_until_us, Some(WALL + 40_000));
}

#[tokio::test]
async fn a_part_that_went_missing_ends_what_the_copy_proves() {
    let folder = tempfile::tempdir().unwrap();
    let store = Moody::new();
    let place = Place::store("moody", store.clone(), "");
    let mut ledger = Ledger::start(folder.path(), &origin("e1"), 1).unwrap();
    let copies = start(folder.path(), &place);
    for upto in [10_u64, 20, 30] {
        acked(&mut ledger, upto - 9..=upto);
        until(&copies.figures(), "a part is there", reaches(upto)).await;
    }
    let mut parts = Vec::new();
    place.each(|stored| parts.push(stored.object)).await.unwrap();
    parts.sort_unstable();
    assert!(parts.len() >= 3, "{parts:?}");
    place.remove(&parts[1]).await.unwrap();
    let (count, complete_until, incomplete) = told_by(&place).await;
    assert!(count < 20 && complete_until < WALL + 20_000, "{count} {complete_until}");
    assert_eq!(incomplete.len(), 1);
}

#[tokio::test]
async fn a_place_that_hangs_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file");
    std::fs::write(&file, "in the way of a folder").unwrap();
    let mut ledger = Ledger::start(folder.path(), &origin("e1"), 1).unwrap();
    acked(&mut ledger, 1..=3);
    let copies = start(folder.path(), &Place::folder(&file.join("below")));
    let last = copies.finish(Duration::from_millis(300)).await.remove(0);
    assert!(!last.is_complete && last.failures > 0, "{last:?}");
    assert_eq!(last.complete_until_us, None);
}

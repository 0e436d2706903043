//! One side against what an earlier run recorded of the other: equal is quiet, whatever differs is never equal, and a run that was stopped
//! goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use reconcile::{
    About, Chunk, ChunkState, CoverageState, Cut, Earlier, Event, Frame, Job, KeyDisclosure, LiveSide, Missing, Pair,
    Plan, ReconcileError, RowPlan, RunPlan, Session, Stage, Staged, Stop, Summary, Work, Workplace,
};
use stores::faulty::{self, Call, Fault};
use stores::memory::{self, Side};
use stores::{End, Identify, Identity, Key, Relation, Role, StoreError, Trouble, Value};
use tempfile::TempDir;

use crate::memory::{IDS, Kind, ends, loaded, memory, request, row};
use crate::outcome::rewrite;

/// A run that looks at everything, and finds nothing; gives its journal.
async fn whole_run(ends: &Pair, run_id: &str, folder: &Path) -> PathBuf {
    let mut request = request(ends).await;
    request.run_id = run_id.to_owned();
    request.limits.rows_per_shard = 100;
    request.limits.chunks_in_flight = 1;
    let run = reconcile::run(ends, &request, folder, |_| {}, Stop::default());
    let (summary, journal) = run.await.unwrap();
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    journal
}

/// Two equal copies, and the whole run that looked at them.
struct Story {
    pair: memory::Pair,
    ends: Pair,
    folder: TempDir,
    earlier: Earlier,
}

impl Story {
    async fn new(kind: Kind) -> Self {
        let pair = loaded(kind);
        let ends = ends(&pair, kind, Relation::Independent);
        let folder = tempfile::tempdir().unwrap();
        let journal = whole_run(&ends, "run-1", &folder.path().join("first")).await;
        let earlier = Earlier::open(&journal).unwrap();
        Self {
            pair,
            ends,
            folder,
            earlier,
        }
    }

    fn live(&self) -> End {
        self.ends.secondary.clone()
    }

    fn local(&self) -> PathBuf {
        self.folder.path().join("against")
    }

    /// Plans a comparison of `live` with the record, and puts it where workers find it.
    async fn begin(&self, live: End) -> Result<Workplace, ReconcileError> {
        let selected = live.catalog.as_ref().unwrap().collections().await.unwrap();
        let live_side = LiveSide {
            selected,
            not_selected: Vec::new(),
        };
        let pair = self.earlier.pair(live)?;
        let session = Session::new(&pair, None, &|_| {}, Stop::default());
        let job = Job {
            dataset: "shop".to_owned(),
            connection: "db".to_owned(),
            store: "memory".to_owned(),
            labels: BTreeMap::new(),
            plan: session.plan_against(&self.earlier, "run-2", live_side).await?,
        };
        let about = About {
            run_id: "run-2".to_owned(),
            ..About::default()
        };
        let local = self.local();
        if local.exists() {
            std::fs::remove_dir_all(&local).unwrap();
        }
        let plan = RunPlan::new(about, Vec::new(), vec![job]);
        let work = Workplace::begin(journal::Place::folder(&local), local, plan).await?;
        self.earlier.keep(work.local(), 0)?;
        Ok(work)
    }

    /// What another process does: it knows the folder and nothing else.
    async fn go_on(
        &self,
        live: End,
        stop: Stop,
        listener: impl Fn(Event) + Send + Sync,
    ) -> Result<Told, ReconcileError> {
        let local = self.local();
        let work = Workplace::open(journal::Place::folder(&local), local).await?;
        let pair = Earlier::kept(work.local(), 0)?.pair(live)?;
        let session = Session::new(&pair, None, &listener, stop);
        session.admit(&work.plan().jobs[0].plan).await?;
        let staged = session.shards(&work, &work.plan().shards()).await?;
        let missing = match staged {
            Staged::Durable => Missing::Refused,
            Staged::Unfinished => Missing::NotLookedAt,
        };
        let path = work.local().join("run.journal");
        let summary = work.merge(0, missing, &path, &|_| {}).await?;
        let mut reader = journal::Reader::open(&path).unwrap();
        let frames = reader.records::<Frame>().collect::<Result<Vec<_>, _>>().unwrap();
        Ok(Told { summary, frames })
    }

    async fn against(&self) -> Told {
        self.begin(self.live()).await.unwrap();
        self.go_on(self.live(), Stop::default(), |_| {}).await.unwrap()
    }
}

/// The record that a comparison keeps beside its work.
fn kept_record(local: &Path) -> PathBuf {
    let entries = std::fs::read_dir(local).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = entries
        .filter(|path| path.to_string_lossy().contains("earlier."))
        .collect();
    assert_eq!(kept.len(), 1);
    kept.remove(0)
}

#[derive(Debug)]
struct Told {
    summary: Summary,
    frames: Vec<Frame>,
}

impl Told {
    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::Chunk(chunk) => Some(chunk.as_ref()),
            _ => None,
        })
    }

    fn differing(&self) -> usize {
        let differs = |chunk: &&Chunk| chunk.error.starts_with("differs_from_record");
        self.chunks().filter(differs).count()
    }

    #[track_caller]
    fn is_equal(&self) {
        let coverage = &self.summary.coverage[0];
        assert_eq!(
            (self.summary.exit_code(), coverage.state, coverage.chunks_failed),
            (0, CoverageState::Verified, 0),
            "{coverage:?}"
        );
        assert_eq!(coverage.primary_rows, coverage.secondary_rows);
    }

    #[track_caller]
    fn is_not_equal(&self, reason: &str) {
        let coverage = &self.summary.coverage[0];
        assert_eq!(self.summary.exit_code(), 3, "{coverage:?}");
        assert!(coverage.reason.contains(reason), "{}", coverage.reason);
        assert_eq!(
            self.summary.counts.confirmed, 0,
            "nothing is confirmed against a record"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_equal_side_is_quiet_and_no_kind_of_difference_is_equal() {
    for kind in Kind::ALL {
        let story = Story::new(kind).await;
        story.against().await.is_equal();
        let side = Side::Secondary;
        let put = |id: i64, a: Option<i64>| {
            story.pair.plant(side, "t", Key::int(id), a.map(row));
        };
        // What is wrong, what repairs it, and in how many chunks it may show.
        type Step<'a> = Box<dyn Fn() + 'a>;
        let mut plants: Vec<(&str, Step<'_>, Step<'_>, usize)> = vec![
            (
                "a row is gone",
                Box::new(|| put(7, None)),
                Box::new(|| put(7, Some(7))),
                1,
            ),
            (
                "a row is another",
                Box::new(|| put(8, Some(-8))),
                Box::new(|| put(8, Some(8))),
                2,
            ),
            (
                "a row too many",
                Box::new(|| put(900, Some(900))),
                Box::new(|| put(900, None)),
                1,
            ),
            (
                "a row twice",
                Box::new(|| assert!(story.pair.plant_copies(side, "t", &Key::int(9), 2))),
                Box::new(|| assert!(story.pair.plant_copies(side, "t", &Key::int(9), 1))),
                1,
            ),
        ];
        if !kind.is_keyless() {
            plants.push((
                "two rows have each other's contents",
                Box::new(|| {
                    put(20, Some(120));
                    put(120, Some(20));
                }),
                Box::new(|| {
                    put(20, Some(20));
                    put(120, Some(120));
                }),
                2,
            ));
        }
        for (what, plant, repair, chunks_max) in &plants {
            plant();
            let told = story.against().await;
            told.is_not_equal("differs_from_record");
            let differing = told.differing();
            assert!(
                (1..=*chunks_max).contains(&differing),
                "{kind:?}: {what}: {differing} chunks"
            );
            let equal = told.chunks().filter(|chunk| chunk.state == ChunkState::Equal).count();
            assert_eq!(equal + differing, told.chunks().count(), "{kind:?}: {what}");
            repair();
        }
        story.against().await.is_equal();
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_stopped_goes_on_and_reads_nothing_twice() {
    for kind in Kind::ALL {
        let story = Story::new(kind).await;
        story.pair.plant(Side::Secondary, "t", Key::int(7), None);
        story.begin(story.live()).await.unwrap();
        let done = Mutex::new(Vec::new());
        let mut runs = 0;
        let told = loop {
            let stop = Stop::default();
            let (soon, begun) = (stop.soon.clone(), Mutex::new(0));
            let listener = |event: Event| {
                let what = match event {
                    Event::ChunkDone { chunk_id, .. } => format!("chunk {chunk_id}"),
                    Event::Scanned { rows, .. } => format!("scan of {rows}"),
                    _ => return,
                };
                done.lock().unwrap().push(what);
                let mut begun = begun.lock().unwrap();
                *begun += 1;
                if *begun == 2 {
                    soon.cancel();
                }
            };
            let told = story.go_on(story.live(), stop, listener).await.unwrap();
            runs += 1;
            if !told.summary.cancelled {
                break told;
            }
            assert_eq!(told.summary.exit_code(), 3, "what was not looked at is not equal");
            assert!(runs < 100, "it never ends");
        };
        assert!(runs > 2, "{kind:?}: it was not stopped");
        assert_eq!(told.differing(), 1, "{kind:?}");
        let done = done.into_inner().unwrap();
        let chunks: BTreeSet<_> = done.iter().filter(|what| what.starts_with("chunk")).collect();
        let scans = done.iter().filter(|what| what.starts_with("scan")).count();
        assert_eq!(chunks.len() + scans, done.len(), "{kind:?}: each chunk once: {done:?}");
        assert_eq!(chunks.len(), told.chunks().count(), "{kind:?}");
        let wanted = match kind {
            Kind::Ordered => 0,
            _ => 2, // one part, in two passes
        };
        assert_eq!(scans, wanted, "{kind:?}: each part once in each pass: {done:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_damaged_or_of_another_plan_is_refused() {
    let story = Story::new(Kind::Keyless).await;
    story.begin(story.live()).await.unwrap();
    let kept = kept_record(&story.local());
    let whole = std::fs::read(&kept).unwrap();
    // The earlier run keeps its own: the kept one is written anew and not through.
    let put = |bytes: &[u8]| {
        std::fs::remove_file(&kept).unwrap();
        std::fs::write(&kept, bytes).unwrap();
    };
    let refused = async || story.go_on(story.live(), Stop::default(), |_| {}).await.unwrap_err();
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    put(&flipped);
    let error = refused().await;
    assert!(
        matches!(error, ReconcileError::Journal(_) | ReconcileError::Corrupt(_)),
        "{error}"
    );
    put(&whole[..middle]);
    let error = refused().await;
    assert!(matches!(error, ReconcileError::Corrupt(_)), "{error}");
    // Of another run, and of another one that says it is this one: its seed was drawn anew.
    for (run_id, words) in [("run-9", "is of run run-9"), ("run-1", "hashed or cut otherwise")] {
        let other = whole_run(
            &story.ends,
            run_id,
            &story.folder.path().join(format!("other-{run_id}")),
        )
        .await;
        put(&std::fs::read(other).unwrap());
        let error = refused().await;
        assert!(
            matches!(&error, ReconcileError::OtherPlan(why) if why.contains(words)),
            "{error}"
        );
    }
    put(&whole);
    story
        .go_on(story.live(), Stop::default(), |_| {})
        .await
        .unwrap()
        .is_equal();
    // A run that looked at one side alone is no record of a side.
    let against = Earlier::open(&story.local().join("run.journal")).unwrap();
    let error = against.pair(story.live()).unwrap_err();
    assert!(error.to_string().contains("run-1"), "{error}");
}

/// Each of what has to be alike is enough to refuse a record.
#[tokio::test(start_paused = true)]
async fn a_record_that_was_hashed_or_cut_otherwise_is_refused() {
    let story = Story::new(Kind::Ordered).await;
    story.begin(story.live()).await.unwrap();
    let kept = kept_record(&story.local());
    let mut reader = journal::Reader::open(&kept).unwrap();
    let frames = reader.records::<Frame>().collect::<Result<Vec<_>, _>>().unwrap();
    type Edit = fn(&mut RowPlan);
    let edits: [(&str, Edit); 4] = [
        ("nothing", |_| {}),
        ("the known answer", |rows| rows.known_answer ^= 1),
        ("the recipe", |rows| rows.recipe.expression.push('x')),
        ("the cut", |rows| match &mut rows.cut {
            Cut::Ranges(boundaries) => assert!(boundaries.pop().is_some()),
            other => panic!("{other:?}"),
        }),
    ];
    for (what, edit) in edits {
        let mut frames = frames.clone();
        for frame in &mut frames {
            if let Frame::Plan { plan, .. } = frame {
                let mut edited: Plan = serde_json::from_str(plan).unwrap();
                let Work::Compare(rows) = &mut edited.collections[0].work else {
                    panic!("it was not compared");
                };
                edit(rows);
                *plan = serde_json::to_string(&edited).unwrap();
            }
        }
        rewrite(&kept, &frames);
        let told = story.go_on(story.live(), Stop::default(), |_| {}).await;
        if what == "nothing" {
            told.unwrap().is_equal();
            // What is done would not be done again.
            story.begin(story.live()).await.unwrap();
            continue;
        }
        let error = told.unwrap_err();
        assert!(
            matches!(&error, ReconcileError::OtherPlan(why) if why.contains("hashed or cut otherwise")),
            "{what}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_side_that_hashes_otherwise_since_the_plan_is_not_equal() {
    for kind in Kind::ALL {
        let story = Story::new(kind).await;
        story.begin(story.live()).await.unwrap();
        story.pair.hash_otherwise(Side::Secondary, true);
        let told = story.go_on(story.live(), Stop::default(), |_| {}).await.unwrap();
        told.is_not_equal("digest_differs: site usw2 no longer hashes");
        assert_eq!(told.summary.coverage[0].chunks_equal, 0);
    }
}

/// The same end until it is told to be another.
#[derive(Debug)]
struct Becomes {
    inner: Arc<dyn Identify>,
    is_another: Arc<AtomicBool>,
    edit: fn(&mut Identity),
}

#[async_trait]
impl Identify for Becomes {
    async fn identity(&self) -> stores::Result<Identity> {
        let mut identity = self.inner.identity().await?;
        if self.is_another.load(Ordering::SeqCst) {
            (self.edit)(&mut identity);
        }
        Ok(identity)
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_side_that_becomes_another_meanwhile_is_not_equal() {
    let edits: [fn(&mut Identity); 2] = [
        |identity| identity.role = Role::Writable,
        |identity| identity.lineage = Some("another".to_owned()),
    ];
    for edit in edits {
        let story = Story::new(Kind::Ordered).await;
        let is_another = Arc::new(AtomicBool::new(false));
        let mut live = story.live();
        live.identify = Arc::new(Becomes {
            inner: Arc::clone(&live.identify),
            is_another: Arc::clone(&is_another),
            edit,
        });
        story.begin(live.clone()).await.unwrap();
        let listener = |event: Event| {
            if matches!(event, Event::ChunkDone { .. }) {
                is_another.store(true, Ordering::SeqCst);
            }
        };
        let told = story.go_on(live, Stop::default(), listener).await.unwrap();
        told.is_not_equal("role_changed: site usw2");
        let equal = told.summary.coverage[0].chunks_equal;
        assert!((1..told.summary.coverage[0].chunks_total).contains(&equal), "{equal}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_record_is_read_once_in_each_process() {
    let story = Story::new(Kind::Ordered).await;
    let work = story.begin(story.live()).await.unwrap();
    let shards = work.plan().shards();
    assert!(shards.len() > 2, "{} shards", shards.len());
    let pair = Earlier::kept(work.local(), 0).unwrap().pair(story.live()).unwrap();
    let session = Session::new(&pair, None, &|_| {}, Stop::default());
    assert_eq!(session.shard(&work, &shards[0]).await.unwrap(), Staged::Durable);
    remove_record(work.local());
    for shard in &shards {
        assert_eq!(session.shard(&work, shard).await.unwrap(), Staged::Durable);
    }
    let path = work.local().join("run.journal");
    let summary = work.merge(0, Missing::Refused, &path, &|_| {}).await.unwrap();
    assert_eq!(summary.exit_code(), 0);
}

fn remove_record(local: &Path) {
    std::fs::remove_file(kept_record(local)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_live_side_that_is_not_read_whole_or_is_written_meanwhile_is_not_equal() {
    for kind in [Kind::Unordered, Kind::Keyless] {
        let story = Story::new(kind).await;
        let denied = || StoreError::Denied(Trouble::new("usw2", "scan t", "no right to"));
        for fault in [
            Fault::Reject(denied()),
            Fault::FailAtEnd(denied()),
            Fault::EmptyThenError(denied()),
        ] {
            for pass in [0, 1] {
                let (live, script) = faulty::wrap(&story.live());
                script.spare(Call::Scan, pass);
                script.next(Call::Scan, fault.clone());
                story.begin(live.clone()).await.unwrap();
                let told = story.go_on(live, Stop::default(), |_| {}).await.unwrap();
                told.is_not_equal("scan_incomplete: site usw2");
                assert_eq!(told.summary.coverage[0].chunks_equal, 0, "{kind:?}");
            }
        }
        // In the first pass a row is wrong, in the second it is right.
        story.pair.plant(Side::Secondary, "t", Key::int(7), None);
        story.begin(story.live()).await.unwrap();
        let scans = Mutex::new(0);
        let repair = |event: Event| {
            if matches!(event, Event::Scanned { .. }) {
                let mut scans = scans.lock().unwrap();
                *scans += 1;
                if *scans == 1 {
                    story.pair.plant(Side::Secondary, "t", Key::int(7), Some(row(7)));
                }
            }
        };
        let told = story.go_on(story.live(), Stop::default(), repair).await.unwrap();
        told.is_not_equal("moving: rows of this bucket were written at site usw2");
        assert_eq!(told.summary.coverage[0].chunks_failed, 1, "{kind:?}");
        story.against().await.is_equal();
    }
}

#[tokio::test(start_paused = true)]
async fn no_row_is_kept_and_the_side_that_is_gone_is_not_asked() {
    let story = Story::new(Kind::Keyless).await;
    let work = story.begin(story.live()).await.unwrap();
    let scans = work.plan().shards().into_iter();
    let scans = scans.filter(|shard| matches!(shard.stage, Stage::Digest(_))).count();
    assert_eq!(scans, 2, "two passes over one side, and none over the other");
    let pair = Earlier::kept(work.local(), 0).unwrap().pair(story.live()).unwrap();
    assert!(pair.secondary.scanned.is_none() && pair.secondary.reread.is_none());
    let session = Session::new(&pair, None, &|_| {}, Stop::default());
    for shard in &work.plan().shards() {
        session.shard(&work, shard).await.unwrap();
    }
    assert_eq!(files_ending(work.local(), ".spill"), 0);
    assert_eq!(files_ending(&story.folder.path().join("first"), ".spill"), 0);
}

fn files_ending(folder: &Path, ending: &str) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        found += match entry.is_dir() {
            true => files_ending(&entry, ending),
            false => usize::from(entry.to_string_lossy().ends_with(ending)),
        };
    }
    found
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_hashed_need_no_secret_here_because_none_is_listed() {
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    let ends = ends(&pair, Kind::Ordered, Relation::Independent);
    let mut request = request(&ends).await;
    request.disclosure = KeyDisclosure::Hashed;
    request.key_hash = Some(reconcile::KeySecret::new("lab-secret"));
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    let run = reconcile::run(&ends, &request, &first, |_| {}, Stop::default());
    let earlier = Earlier::open(&run.await.unwrap().1).unwrap();
    let story = Story {
        pair,
        ends,
        folder,
        earlier,
    };
    story.against().await.is_equal();
    story.pair.plant(Side::Secondary, "t", Key::int(3), Some(row(33)));
    assert_eq!(
        story.pair.row(Side::Secondary, "t", &Key::int(3)).unwrap()["a"],
        Value::Int(33)
    );
    tokio::time::sleep(Duration::from_millis(1)).await;
    story.against().await.is_not_equal("differs_from_record");
}

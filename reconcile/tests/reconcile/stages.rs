//! Plan, shards, merge by several workers, in any order, that are killed, that race, and whose place lies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use proptest::prelude::*;
use reconcile::{
    About, ChunkState, CoverageState, Event, FenceKind, Frame, Job, Missing, Pair, Plan, ReconcileError, Request,
    RunPlan, Session, Shard, Staged, State, Stop, Summary, Workplace,
};
use sha2::{Digest as _, Sha256};
use stores::{Class, Relation, Role};
use tempfile::TempDir;

use crate::outcome::{id, pair, request, rewrite, run};
use crate::world::{Shared, World, lock};

/// A hundred rows in ten chunks and four shards, of which three rows differ.
fn planted() -> (Shared, Pair, Request) {
    let world = World::new((0..100).map(|key| (key, key))).share();
    for key in [3, 40, 99] {
        lock(&world).secondary.rows.remove(&key);
    }
    let pair = pair(&world, Relation::Independent);
    let mut request = request(&world);
    request.limits.rows_per_chunk = 10;
    request.limits.rows_per_shard = 30;
    request.limits.chunks_in_flight = 1;
    (world, pair, request)
}

async fn plan(pair: &Pair, request: &Request) -> RunPlan {
    let session = Session::new(pair, None, &|_| {}, Stop::default());
    let job = Job {
        dataset: "shop".to_owned(),
        connection: "db".to_owned(),
        store: "memory".to_owned(),
        labels: BTreeMap::new(),
        plan: session.plan(request).await.unwrap(),
    };
    let about = About {
        run_id: request.run_id.clone(),
        ..About::default()
    };
    RunPlan::new(about, Vec::new(), vec![job])
}

async fn planned(pair: &Pair, request: &Request) -> (TempDir, Workplace) {
    let folder = tempfile::tempdir().unwrap();
    let place = journal::Place::folder(folder.path());
    let plan = plan(pair, request).await;
    let workplace = Workplace::begin(place, folder.path().to_owned(), plan).await.unwrap();
    (folder, workplace)
}

/// What another process does: it reads the plan and knows nothing else. Gives the chunks that it compared.
async fn work(folder: &Path, pair: &Pair, shard: &Shard, stop: Stop) -> (Result<Staged, ReconcileError>, Vec<u64>) {
    let compared = std::sync::Mutex::new(Vec::new());
    let listener = |event: Event| {
        if let Event::ChunkDone { chunk_id, .. } = event {
            compared.lock().unwrap().push(chunk_id);
        }
    };
    let workplace = Workplace::open(journal::Place::folder(folder), folder.to_owned())
        .await
        .unwrap();
    let session = Session::new(pair, None, &listener, stop);
    session.admit(&workplace.plan().jobs[0].plan).await.unwrap();
    let staged = session.shard(&workplace, shard).await;
    (staged, compared.into_inner().unwrap())
}

async fn merged(workplace: &Workplace, missing: Missing) -> Result<(Summary, Vec<Frame>, Vec<u8>), ReconcileError> {
    let path = workplace.local().join("run.journal");
    let summary = workplace.merge(0, missing, &path, &|_| {}).await?;
    let mut reader = journal::Reader::open(&path).unwrap();
    let frames = reader.records::<Frame>().collect::<Result<Vec<_>, _>>().unwrap();
    Ok((summary, frames, std::fs::read(&path).unwrap()))
}

fn confirmed(frames: &[Frame]) -> Vec<(i64, Class)> {
    let of = |frame: &Frame| match frame {
        Frame::Divergence(one) if one.state == State::Confirmed => Some((id(one.key.as_deref()?), one.class)),
        _ => None,
    };
    let mut keys: Vec<_> = frames.iter().filter_map(of).collect();
    keys.sort();
    keys
}

/// The three keys, each once.
fn found() -> Vec<(i64, Class)> {
    [3, 40, 99].map(|key| (key, Class::MissingOnSecondary)).to_vec()
}

fn journals(folder: &Path, shard: u64) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder.join(format!("digest/{shard:05}"))).unwrap();
    let paths = listed.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "journal"))
        .collect();
    paths.sort();
    paths
}

fn winner(folder: &Path, shard: u64) -> PathBuf {
    folder.join(format!("digest/{shard:05}/winner.json"))
}

#[tokio::test(start_paused = true)]
async fn workers_find_together_what_one_run_finds() {
    let (_world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    let shards = workplace.plan().shards();
    assert_eq!(shards.len(), 4);
    for (at, shard) in shards.iter().enumerate().rev() {
        let refused = merged(&workplace, Missing::Refused).await.unwrap_err();
        assert!(
            matches!(&refused, ReconcileError::Incomplete(open) if open.len() == at + 1),
            "{refused}"
        );
        let (staged, _) = work(folder.path(), &pair, shard, Stop::default()).await;
        assert_eq!(staged.unwrap(), Staged::Durable);
    }
    let (summary, frames, bytes) = merged(&workplace, Missing::Refused).await.unwrap();
    assert_eq!(confirmed(&frames), found());
    let one = run(&pair, &request).await.unwrap();
    assert_eq!(
        (summary.counts.clone(), summary.complete),
        (one.summary.counts.clone(), true)
    );
    let (ours, theirs) = (&summary.coverage[0], &one.summary.coverage[0]);
    assert_eq!(
        (
            ours.state,
            ours.chunks_total,
            ours.chunks_equal,
            ours.chunks_different,
            ours.primary_rows
        ),
        (
            theirs.state,
            theirs.chunks_total,
            theirs.chunks_equal,
            theirs.chunks_different,
            theirs.primary_rows
        )
    );
    // A result that is there is not made again, and merging again gives the same bytes.
    let (staged, compared) = work(folder.path(), &pair, &shards[0], Stop::default()).await;
    assert_eq!((staged.unwrap(), compared.len()), (Staged::Durable, 0));
    assert_eq!(merged(&workplace, Missing::Refused).await.unwrap().2, bytes);
}

#[tokio::test(start_paused = true)]
async fn of_two_workers_on_one_shard_one_counts() {
    let (_world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    let shards = workplace.plan().shards();
    let (one, other) = futures::join!(
        work(folder.path(), &pair, &shards[0], Stop::default()),
        work(folder.path(), &pair, &shards[0], Stop::default())
    );
    assert_eq!((one.0.unwrap(), other.0.unwrap()), (Staged::Durable, Staged::Durable));
    assert_eq!((one.1.len(), other.1.len()), (3, 3), "both compared all of it");
    assert_eq!(journals(folder.path(), 0).len(), 2);
    for shard in &shards[1..] {
        work(folder.path(), &pair, shard, Stop::default()).await.0.unwrap();
    }
    let (summary, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
    assert_eq!((confirmed(&frames), summary.counts.confirmed), (found(), 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_worker_committed_is_neither_lost_nor_counted_twice() {
    let (_world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    let shards = workplace.plan().shards();
    for shard in &shards {
        work(folder.path(), &pair, shard, Stop::default()).await.0.unwrap();
    }
    let (_, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
    assert_eq!(confirmed(&frames), found());
    let path = journals(folder.path(), 0).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let mut compared_before = usize::MAX;
    // As if the process had died there: at each place of the journal, in the middle of frames too.
    for cut in (0..whole.len()).step_by(97).chain([whole.len()]) {
        std::fs::remove_file(winner(folder.path(), 0)).unwrap();
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (staged, compared) = work(folder.path(), &pair, &shards[0], Stop::default()).await;
        assert_eq!(staged.unwrap(), Staged::Durable);
        assert!(
            compared.len() <= compared_before,
            "what is committed is not compared again"
        );
        compared_before = compared.len();
        let (summary, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
        assert_eq!(
            (confirmed(&frames), summary.counts.confirmed),
            (found(), 3),
            "cut at {cut}"
        );
        assert!(summary.complete);
        assert_eq!(journals(folder.path(), 0).len(), 1, "the same attempt is gone on with");
    }
    assert_eq!(compared_before, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_bad_data_and_never_a_result() {
    let (_world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    let shards = workplace.plan().shards();
    for shard in &shards {
        work(folder.path(), &pair, shard, Stop::default()).await.0.unwrap();
    }
    let path = journals(folder.path(), 1).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() - 40], &flipped, &[]] {
        std::fs::write(&path, damaged).unwrap();
        let refused = merged(&workplace, Missing::Refused).await.unwrap_err();
        assert!(matches!(&refused, ReconcileError::Corrupt(_)), "{refused}");
    }
    std::fs::remove_file(&path).unwrap();
    let refused = merged(&workplace, Missing::Refused).await.unwrap_err();
    assert!(matches!(&refused, ReconcileError::Corrupt(_)), "{refused}");

    // The journal of another shard, or of another plan, in the place of this one's.
    let other = journals(folder.path(), 2).remove(0);
    for (from, to) in [
        (other, path.clone()),
        (winner(folder.path(), 2), winner(folder.path(), 1)),
    ] {
        std::fs::copy(from, to).unwrap();
    }
    let named = std::fs::read_to_string(winner(folder.path(), 2)).unwrap();
    let attempt = journals(folder.path(), 2).remove(0);
    let attempt = attempt.file_stem().unwrap().to_string_lossy().into_owned();
    let ours = path.file_stem().unwrap().to_string_lossy().into_owned();
    std::fs::write(winner(folder.path(), 1), named.replace(&attempt, &ours)).unwrap();
    let refused = merged(&workplace, Missing::Refused).await.unwrap_err();
    assert!(refused.to_string().contains("another plan or shard"), "{refused}");
}

/// What a worker would publish that counts wrong: another journal of shard 1, with its true length and hash.
fn publish(folder: &Path, frames: &[Frame]) {
    let path = journals(folder, 1).remove(0);
    rewrite(&path, frames);
    let bytes = std::fs::read(&path).unwrap();
    let mut named: serde_json::Value = serde_json::from_slice(&std::fs::read(winner(folder, 1)).unwrap()).unwrap();
    named["bytes"] = bytes.len().into();
    let hash: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    named["sha256"] = hash.into();
    std::fs::write(winner(folder, 1), named.to_string()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_published_and_is_not_all_of_its_shard_is_never_a_result() {
    let (_world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    for shard in &workplace.plan().shards() {
        work(folder.path(), &pair, shard, Stop::default()).await.0.unwrap();
    }
    let mut reader = journal::Reader::open(&journals(folder.path(), 1)[0]).unwrap();
    let whole = reader.records::<Frame>().collect::<Result<Vec<_>, _>>().unwrap();
    let chunk_of = |frame: &Frame| match frame {
        Frame::Chunk(chunk) => Some(chunk.chunk_id),
        Frame::Commit { chunk_id, .. } => *chunk_id,
        Frame::Divergence(divergence) => divergence.chunk_id,
        _ => None,
    };
    let fewer = whole.iter().filter(|frame| chunk_of(frame) != Some(4)).cloned();
    let mut moved = whole.clone();
    for frame in &mut moved {
        match frame {
            Frame::Chunk(chunk) if chunk.chunk_id == 5 => chunk.chunk_id = 7,
            Frame::Commit { chunk_id, .. } if *chunk_id == Some(5) => *chunk_id = Some(7),
            _ => {}
        }
    }
    let is_end = |frame: &&Frame| matches!(frame, Frame::ShardEnd);
    for (frames, words) in [
        (
            whole.iter().filter(|frame| !is_end(frame)).cloned().collect(),
            "does not end",
        ),
        (fewer.collect::<Vec<_>>(), "it has 2 of 3 chunks"),
        (moved, "chunk 7 of public.t is not of this shard"),
    ] {
        publish(folder.path(), &frames);
        let refused = merged(&workplace, Missing::Refused).await.expect_err(words);
        assert!(
            matches!(&refused, ReconcileError::Corrupt(why) if why.contains(words)),
            "{words}: {refused}"
        );
    }
    publish(folder.path(), &whole);
    let (_, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
    assert_eq!(confirmed(&frames), found());
}

#[tokio::test(start_paused = true)]
async fn an_upload_counts_once_it_is_named_and_only_whole() {
    let (_world, pair, request) = planted();
    let (local, bucket) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
    let place = journal::Place::store("s3://lab", bucket, "evidence").below("_work/run-1");
    let plan = plan(&pair, &request).await;
    let workplace = Workplace::begin(place.clone(), local.path().to_owned(), plan)
        .await
        .unwrap();
    let session = Session::new(&pair, None, &|_| {}, Stop::default());
    let shards = workplace.plan().shards();
    // Half of an upload that a dead worker left: nobody named it.
    let torn = bytes::Bytes::from_static(b"half of a journal");
    place.put("digest/00000/0000-dead.journal", torn.clone()).await.unwrap();
    for shard in &shards[1..] {
        session.shard(&workplace, shard).await.unwrap();
    }
    let refused = merged(&workplace, Missing::Refused).await.unwrap_err();
    assert!(
        matches!(&refused, ReconcileError::Incomplete(open) if open == &[0]),
        "{refused}"
    );
    session.shard(&workplace, &shards[0]).await.unwrap();

    // Another machine merges: it has the bucket alone.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Workplace::open(place.clone(), elsewhere.path().to_owned())
        .await
        .unwrap();
    let (summary, frames, _) = merged(&other, Missing::Refused).await.unwrap();
    assert_eq!((confirmed(&frames), summary.complete), (found(), true));

    // A named object that lost its end is bad data.
    let object = journals(local.path(), 3).remove(0);
    let object = format!("digest/00003/{}", object.file_name().unwrap().to_string_lossy());
    let whole = place.get(&object).await.unwrap();
    place.put(&object, whole.slice(..whole.len() - 30)).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Workplace::open(place, elsewhere.path().to_owned()).await.unwrap();
    let refused = merged(&other, Missing::Refused).await.unwrap_err();
    assert!(matches!(&refused, ReconcileError::Corrupt(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_creates_a_name_twice_is_refused_before_anything() {
    let (_world, pair, request) = planted();
    let local = tempfile::tempdir().unwrap();
    let place = journal::Place::store(
        "s3://careless",
        Arc::new(Odd {
            is_careless: true,
            ..Odd::default()
        }),
        "",
    );
    let plan = plan(&pair, &request).await;
    let refused = Workplace::begin(place.clone(), local.path().to_owned(), plan)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("If-None-Match"), "{refused}");
    let mut left = Vec::new();
    place.each(|stored| left.push(stored.object)).await.unwrap();
    assert_eq!(left, Vec::<String>::new(), "no plan is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_written_once_and_read_by_the_version_that_made_it() {
    let (world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    let again = plan(&pair, &request).await;
    let place = journal::Place::folder(folder.path());
    let refused = Workplace::begin(place, folder.path().to_owned(), again)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("never changed"), "{refused}");

    let text = serde_json::to_string(workplace.plan()).unwrap();
    assert_eq!(&RunPlan::parse(text.as_bytes()).unwrap(), workplace.plan());
    for (from, to) in [
        ("\"tool_version\":\"", "\"tool_version\":\"9"),
        ("\"encoding_version\":1", "\"encoding_version\":2"),
        ("{", "["),
    ] {
        let refused = RunPlan::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(matches!(&refused, ReconcileError::OtherPlan(_)), "{refused}");
    }
    assert_eq!(
        workplace.plan().shards(),
        RunPlan::parse(text.as_bytes()).unwrap().shards()
    );

    // Its ends are others now: one that replicates is not what was planned as independent.
    let other = crate::outcome::pair(&world, Relation::Replicating);
    let session = Session::new(&other, None, &|_| {}, Stop::default());
    let refused = session.admit(&workplace.plan().jobs[0].plan).await.unwrap_err();
    assert!(matches!(&refused, ReconcileError::OtherPlan(_)), "{refused}");
}

/// Each of what tells the ends of a plan from others is enough to refuse it.
#[tokio::test(start_paused = true)]
async fn a_plan_of_other_ends_is_refused() {
    let (_world, pair, request) = planted();
    let planned = plan(&pair, &request).await.jobs[0].plan.clone();
    let session = Session::new(&pair, None, &|_| {}, Stop::default());
    session.admit(&planned).await.unwrap();
    type Edit = fn(&mut Plan);
    let edits: [(&str, Edit); 8] = [
        ("primary's site", |plan| plan.primary_site.push('x')),
        ("secondary's site", |plan| plan.secondary_site.push('x')),
        ("primary's role", |plan| plan.primary.role = other(plan.primary.role)),
        ("secondary's role", |plan| {
            plan.secondary.role = other(plan.secondary.role)
        }),
        ("primary's lineage", |plan| plan.primary.lineage = Some("x".to_owned())),
        ("secondary's lineage", |plan| {
            plan.secondary.lineage = Some("x".to_owned())
        }),
        ("relation", |plan| plan.relation = Relation::Replicating),
        ("fence", |plan| plan.fence = FenceKind::Canary),
    ];
    for (what, edit) in edits {
        let mut plan = planned.clone();
        edit(&mut plan);
        let refused = session.admit(&plan).await.expect_err(what);
        assert!(matches!(&refused, ReconcileError::OtherPlan(_)), "{what}: {refused}");
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Writable => Role::ReadOnly,
        Role::ReadOnly => Role::Writable,
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_ends_in_order_and_what_remains_is_told_and_can_be_done() {
    let (_world, pair, request) = planted();
    let (folder, workplace) = planned(&pair, &request).await;
    let shards = workplace.plan().shards();
    work(folder.path(), &pair, &shards[0], Stop::default()).await.0.unwrap();
    // In the second shard the time is used up behind its first chunk.
    let stop = Stop::default();
    let listener = |event: Event| {
        if matches!(event, Event::ChunkDone { .. }) {
            stop.soon.cancel();
        }
    };
    let session = Session::new(&pair, None, &listener, stop.clone());
    assert_eq!(session.shard(&workplace, &shards[1]).await.unwrap(), Staged::Unfinished);
    drop(session);
    let refused = merged(&workplace, Missing::Refused).await.unwrap_err();
    assert!(
        matches!(&refused, ReconcileError::Incomplete(open) if open == &[1, 2, 3]),
        "{refused}"
    );
    let (summary, frames, _) = merged(&workplace, Missing::NotLookedAt).await.unwrap();
    assert!(!summary.complete && summary.cancelled);
    assert_eq!(confirmed(&frames), [(3, Class::MissingOnSecondary)]);
    let coverage = &summary.coverage[0];
    assert_eq!(
        (coverage.chunks_total, coverage.chunks_equal, coverage.chunks_failed),
        (10, 3, 6)
    );
    assert_eq!(
        coverage.reason,
        "not_looked_at: 6 of 10 chunks, because the run was ended before"
    );
    let missing = frames.iter().filter(|frame| matches!(frame, Frame::Chunk(chunk) if chunk.state == ChunkState::Failed && chunk.error.starts_with("not_looked_at: ")));
    assert_eq!(missing.count(), 6);

    // Resumed: what is committed of the second shard is not compared again.
    let (staged, compared) = work(folder.path(), &pair, &shards[1], Stop::default()).await;
    assert_eq!((staged.unwrap(), compared.len()), (Staged::Durable, 2));
    for shard in &shards[2..] {
        work(folder.path(), &pair, shard, Stop::default()).await.0.unwrap();
    }
    let (summary, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
    assert_eq!(
        (confirmed(&frames), summary.exit_code(), summary.complete),
        (found(), 1, true)
    );
}

#[tokio::test(start_paused = true)]
async fn an_equal_pair_that_was_not_looked_at_is_never_equal() {
    let world = World::new((0..100).map(|key| (key, key))).share();
    let pair = pair(&world, Relation::Independent);
    let (_folder, workplace) = planned(&pair, &request(&world)).await;
    let (summary, _, _) = merged(&workplace, Missing::NotLookedAt).await.unwrap();
    assert_eq!((summary.exit_code(), summary.chunks), (3, 0));
    assert_eq!(summary.coverage[0].state, CoverageState::Failed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However a plan is cut into shards, whoever compares them and in whatever order: found is what was planted, once.
    #[test]
    fn splits_and_orders_change_nothing(
        removed in proptest::collection::btree_set(0i64..200, 0..30),
        rows_per_chunk in 1u64..60,
        rows_per_shard in 1u64..150,
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new((0..200).map(|key| (key, key))).share();
            for key in &removed {
                lock(&world).secondary.rows.remove(key);
            }
            let pair = pair(&world, Relation::Independent);
            let mut request = request(&world);
            request.limits.rows_per_chunk = rows_per_chunk;
            request.limits.rows_per_shard = rows_per_shard;
            let (folder, workplace) = planned(&pair, &request).await;
            let mut shards = workplace.plan().shards();
            let pieces = shards.iter().flat_map(|shard| shard.pieces.iter());
            let chunks: Vec<u64> = pieces.flat_map(|piece| piece.chunks.clone()).collect();
            assert_eq!(chunks, (0u64..).take(chunks.len()).collect::<Vec<_>>(), "every chunk is in one shard");
            let count = shards.len();
            for at in 0..count {
                shards.swap(at, order[at % order.len()].index(count));
            }
            for shard in &shards {
                work(folder.path(), &pair, shard, Stop::default()).await.0.unwrap();
            }
            let (summary, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
            let planted: Vec<_> = removed.iter().map(|key| (*key, Class::MissingOnSecondary)).collect();
            assert_eq!(confirmed(&frames), planted);
            assert_eq!(summary.exit_code(), u8::from(!removed.is_empty()));
            assert!(summary.complete);
        });
    }
}

/// Two workers that both believe to be the first: the second one asks for a winner before the first has named itself.
#[tokio::test(start_paused = true)]
async fn a_winner_is_created_once_and_who_comes_second_does_not_count() {
    let (_world, pair, request) = planted();
    // The second worker sees another pair, in which another row is gone: its findings can be told from the first one's.
    let (other_world, other_pair, _) = planted();
    lock(&other_world).secondary.rows.remove(&7);
    let (local, other_local) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bucket = Arc::new(Odd::default());
    let place = journal::Place::store("s3://lab", bucket.clone(), "evidence").below("_work/run-1");
    let plan = plan(&pair, &request).await;
    let ours = Workplace::begin(place.clone(), local.path().to_owned(), plan)
        .await
        .unwrap();
    let theirs = Workplace::open(place, other_local.path().to_owned()).await.unwrap();
    let shards = ours.plan().shards();
    let session = Session::new(&pair, None, &|_| {}, Stop::default());
    for shard in &shards {
        assert_eq!(session.shard(&ours, shard).await.unwrap(), Staged::Durable);
    }
    let named = bucket.winners(&shards[0]).await;
    bucket.hidden.store(1, Ordering::Relaxed);
    let other = Session::new(&other_pair, None, &|_| {}, Stop::default());
    assert_eq!(
        other.shard(&theirs, &shards[0]).await.unwrap(),
        Staged::Durable,
        "a result is there"
    );
    assert_eq!(bucket.hidden.load(Ordering::Relaxed), 0, "it looked, and saw no winner");
    assert_eq!(
        journals(other_local.path(), 0).len(),
        1,
        "and it compared all of the shard"
    );
    assert_eq!(bucket.winners(&shards[0]).await, named, "the first one's name stands");
    let modes = bucket.modes.lock().unwrap().clone();
    assert!(
        modes.len() > shards.len() && modes.iter().all(|mode| *mode == PutMode::Create),
        "a winner is never written over: {modes:?}"
    );
    for workplace in [ours, theirs] {
        let (_, frames, _) = merged(&workplace, Missing::Refused).await.unwrap();
        assert_eq!(confirmed(&frames), found(), "what the second one found does not count");
    }
}

/// A store that overwrites where it was told to create, or that does not show a winner at once.
#[derive(Debug, Default)]
struct Odd {
    within: InMemory,
    is_careless: bool,
    /// So many looks for a winner find none.
    hidden: AtomicU32,
    /// How winners were written.
    modes: std::sync::Mutex<Vec<PutMode>>,
}

impl Odd {
    async fn winners(&self, shard: &Shard) -> bytes::Bytes {
        let path = ObjectPath::from(format!("evidence/_work/run-1/digest/{:05}/winner.json", shard.number));
        let got = self.within.get_opts(&path, GetOptions::default()).await.unwrap();
        got.bytes().await.unwrap()
    }
}

impl std::fmt::Display for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("odd")
    }
}

fn is_winner(location: &ObjectPath) -> bool {
    location.filename() == Some("winner.json")
}

#[async_trait::async_trait]
impl ObjectStore for Odd {
    async fn put_opts(
        &self,
        location: &ObjectPath,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        if is_winner(location) {
            self.modes.lock().unwrap().push(opts.mode.clone());
        }
        if self.is_careless {
            opts.mode = PutMode::Overwrite;
        }
        self.within.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &ObjectPath,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.within.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        let hide = |left: u32| left.checked_sub(1);
        if is_winner(location)
            && self
                .hidden
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, hide)
                .is_ok()
        {
            let path = location.to_string();
            let source = "it does not show yet".into();
            return Err(object_store::Error::NotFound { path, source });
        }
        self.within.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.within.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.within.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.within.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> object_store::Result<()> {
        self.within.copy_opts(from, to, options).await
    }
}

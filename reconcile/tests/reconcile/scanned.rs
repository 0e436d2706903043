//! What has no usable order: read in parts, joined in buckets, as exact as by ranges.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use reconcile::{
    About, CoverageState, Frame, Job, Limits, Missing, Pair, ReconcileError, Request, RunPlan, Session, Stage, Staged,
    Stop, Workplace,
};
use stores::faulty::{self, Call, Fault};
use stores::memory::{self, Delay, Side};
use stores::{Class, End, Key, Relation, StoreError, Trouble, Value};

use crate::memory::{IDS, Kind, ends, found, in_use, loaded, memory, request, row, truth, without_key};
use crate::outcome::{Outcome, run};

#[derive(Debug, Clone)]
enum Plant {
    Remove,
    Change(i64),
    Extra,
    Copies(u64),
    SwapWith(i64),
}

fn plants() -> impl Strategy<Value = BTreeMap<i64, Plant>> {
    let plant = prop_oneof![
        Just(Plant::Remove),
        (1i64..5).prop_map(Plant::Change),
        Just(Plant::Extra),
        (2u64..6).prop_map(Plant::Copies),
        IDS.prop_map(Plant::SwapWith),
    ];
    proptest::collection::btree_map(IDS, plant, 0..30)
}

/// Plants what makes sense; gives the copies that the secondary has.
fn apply(pair: &memory::Pair, plants: &BTreeMap<i64, Plant>) -> BTreeMap<i64, u64> {
    let mut copies = BTreeMap::new();
    let there = |id: i64| match pair.row(Side::Secondary, "t", &Key::int(id))?["a"] {
        Value::Int(a) => Some(a),
        _ => None,
    };
    let put = |id: i64, a: Option<i64>| pair.plant(Side::Secondary, "t", Key::int(id), a.map(row));
    for (id, plant) in plants {
        match (plant, there(*id)) {
            (Plant::Remove, Some(_)) => {
                put(*id, None);
                copies.remove(id);
            }
            (Plant::Change(by), Some(a)) => {
                put(*id, Some(a + by));
            }
            (Plant::Extra, None) => {
                put(*id, Some(7));
            }
            (Plant::Copies(count), Some(_)) => {
                pair.plant_copies(Side::Secondary, "t", &Key::int(*id), *count);
                copies.insert(*id, *count);
            }
            (Plant::SwapWith(other), Some(a)) => {
                if let Some(b) = there(*other) {
                    put(*id, Some(b));
                    put(*other, Some(a));
                }
            }
            _ => {}
        }
    }
    copies
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// On both reference stores, with keys and without, linked or not, however it is cut and however little memory there is.
    #[test]
    fn found_is_what_was_planted(
        ids in proptest::collection::btree_set(IDS, 0..120),
        plants in plants(),
        rows_per_chunk in 1u64..80,
        rows_per_shard in 1u64..400,
        narrow_bytes_max in 600usize..20_000,
        is_replicating in any::<bool>(),
    ) {
        for kind in Kind::ALL {
            let relation = if is_replicating { Relation::Replicating } else { Relation::Independent };
            let (planted, outcome) = paused().block_on(async {
                let pair = memory();
                // Some rows alike, so that contents alone have copies.
                pair.load("t", ids.iter().map(|id| (Key::int(*id), row(id.rem_euclid(40)))));
                if kind.is_keyless() {
                    without_key(&pair);
                }
                let copies = apply(&pair, &plants);
                let ends = ends(&pair, kind, relation);
                let mut request = request(&ends).await;
                request.limits.rows_per_chunk = rows_per_chunk;
                request.limits.rows_per_shard = rows_per_shard;
                request.limits.narrow_bytes_max = narrow_bytes_max;
                (truth(&pair, kind, &copies), run(&ends, &request).await.unwrap())
            });
            prop_assert_eq!(found(&outcome, kind), planted.clone(), "{:?}", kind);
            prop_assert_eq!(outcome.summary.exit_code(), u8::from(!planted.is_empty()));
            prop_assert!(outcome.summary.complete, "{:?}", outcome.summary.coverage);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pair_in_use_has_no_divergences_and_a_planted_one_is_found() {
    for kind in Kind::ALL {
        let pair = loaded(kind);
        pair.set_delay(Delay::Fixed(Duration::from_millis(50)));
        let _in_use = in_use(&pair);
        let ends = ends(&pair, kind, Relation::Replicating);
        let request = request(&ends).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let quiet = run(&ends, &request).await.unwrap();
        assert_eq!(found(&quiet, kind), BTreeMap::new(), "{kind:?}");
        let looked_at = quiet.summary.counts.transient + quiet.summary.counts.undecided();
        assert!(
            looked_at > 0,
            "{kind:?}: nothing was in flight, so the test proves nothing"
        );
        pair.plant(Side::Secondary, "t", Key::int(100), None);
        let planted = run(&ends, &request).await.unwrap();
        assert_eq!(
            found(&planted, kind),
            BTreeMap::from([(100, Class::MissingOnSecondary)]),
            "{kind:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_tolerates_is_no_divergence() {
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    let expires = |id: i64, at: i64| {
        let mut fields = row(id);
        fields.insert("expires_at_us".to_owned(), Value::Int(at));
        pair.plant(Side::Secondary, "t", Key::int(id), Some(fields));
    };
    expires(5, 1_001_000);
    for relation in [Relation::Replicating, Relation::Independent] {
        let ends = ends(&pair, Kind::Unordered, relation);
        let outcome = run(&ends, &request(&ends).await).await.unwrap();
        assert_eq!((outcome.summary.exit_code(), outcome.summary.counts.transient), (0, 1));
    }
    expires(6, 1_001_001);
    let ends = ends(&pair, Kind::Unordered, Relation::Independent);
    let outcome = run(&ends, &request(&ends).await).await.unwrap();
    assert_eq!(outcome.confirmed(), BTreeMap::from([(6, Class::Different)]));
    let columns: Vec<_> = outcome.divergences().flat_map(|one| one.columns.clone()).collect();
    assert_eq!(columns, ["expires_at_us"]);
}

fn cut() -> StoreError {
    StoreError::Retryable {
        after: None,
        trouble: Trouble::new("usw2", "scan t", "connection cut"),
    }
}

fn denied() -> StoreError {
    StoreError::Denied(Trouble::new("usw2", "scan t", "no right to"))
}

/// An equal pair of 300 rows whose secondary fails by a script.
async fn failing(kind: Kind) -> (memory::Pair, Pair, Request, faulty::Script) {
    let pair = loaded(kind);
    let mut ends = ends(&pair, kind, Relation::Independent);
    let request = request(&ends).await;
    let (secondary, script) = faulty::wrap(&ends.secondary);
    ends.secondary = secondary;
    (pair, ends, request, script)
}

fn never_equal(outcome: &Outcome, reason: &str) {
    let coverage = &outcome.summary.coverage[0];
    assert_eq!(
        (outcome.summary.exit_code(), coverage.chunks_equal),
        (3, 0),
        "{coverage:?}"
    );
    assert_eq!(coverage.state, CoverageState::Failed);
    assert!(coverage.reason.contains(reason), "{}", coverage.reason);
    assert_eq!(coverage.secondary_rows, None, "what was not read whole is not counted");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_was_not_read_whole_makes_no_bucket_equal() {
    for kind in [Kind::Unordered, Kind::Keyless] {
        let faults = [
            Fault::Reject(denied()),
            Fault::FailAtItem(299, denied()),
            Fault::FailAtEnd(denied()),
            Fault::EmptyThenError(denied()),
            Fault::FailAtEnd(cut()), // each time, until the tries are used up
        ];
        for fault in faults {
            let (_pair, ends, request, script) = failing(kind).await;
            script.always(Call::Scan, Some(fault.clone()));
            let outcome = run(&ends, &request).await.unwrap();
            never_equal(&outcome, "scan_incomplete: site usw2");
            // In the second pass alone.
            let (_pair, ends, request, script) = failing(kind).await;
            script.spare(Call::Scan, 1);
            script.always(Call::Scan, Some(fault));
            never_equal(&run(&ends, &request).await.unwrap(), "scan_incomplete: site usw2");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_was_cut_is_read_again_from_its_first_row() {
    for kind in [Kind::Unordered, Kind::Keyless] {
        let (pair, ends, request, script) = failing(kind).await;
        pair.plant(Side::Secondary, "t", Key::int(7), None);
        for fault in [
            Fault::FailAtItem(150, cut()),
            Fault::FailAtEnd(cut()),
            Fault::Reject(cut()),
        ] {
            script.next(Call::Scan, fault);
        }
        let outcome = run(&ends, &request).await.unwrap();
        assert_eq!(found(&outcome, kind), BTreeMap::from([(7, Class::MissingOnSecondary)]));
        assert!(outcome.summary.complete, "{:?}", outcome.summary.coverage);
        assert_eq!(
            outcome.summary.coverage[0].secondary_rows,
            Some(299),
            "no row of a cut pass counts"
        );
        assert_eq!(script.calls(Call::Scan), 5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// One request in ten fails, whichever it is: what is planted is found, or the run says that it could not tell.
    #[test]
    fn with_failing_requests_nothing_is_taken_for_equal(
        fails in proptest::collection::vec(proptest::collection::vec(proptest::bool::weighted(0.1), 60), 5),
        is_planted in any::<bool>(),
    ) {
        for kind in Kind::ALL {
            let outcome = paused().block_on(async {
                let (pair, ends, request, script) = failing(kind).await;
                let calls = [Call::Scan, Call::Read, Call::Identity, Call::List, Call::Digest];
                for (call, fails) in calls.into_iter().zip(&fails) {
                    for fail in fails {
                        match fail {
                            true => script.next(call, Fault::FailAtEnd(cut())),
                            false => script.spare(call, 1),
                        }
                    }
                }
                if is_planted {
                    pair.plant(Side::Secondary, "t", Key::int(7), Some(row(-1)));
                }
                run(&ends, &request).await
            });
            let Ok(outcome) = outcome else { continue };
            let code = outcome.summary.exit_code();
            prop_assert!(code == u8::from(is_planted) || code == 3, "{:?}: {} {:?}", kind, code, outcome.summary.coverage);
            prop_assert_eq!(code == 3, !outcome.summary.complete && outcome.summary.counts.confirmed == 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_between_two_passes_is_looked_at() {
    // Without a link, equal digests that are not of one instant prove nothing: the secondary's row is another in each pass.
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    let ends = ends(&pair, Kind::Unordered, Relation::Independent);
    let request = request(&ends).await;
    let work = Work::plan(&ends, &request).await;
    let shards = work.place.plan().shards();
    for shard in &shards {
        if shard.stage == Stage::Resolve {
            pair.plant(Side::Secondary, "t", Key::int(9), Some(row(-9)));
        }
        assert_eq!(work.shard(&ends, shard.number).await.unwrap(), Staged::Durable);
        if matches!(&shard.stage, Stage::Digest(scan) if scan.pass == 0) {
            pair.plant(Side::Primary, "t", Key::int(9), Some(row(-9)));
            pair.plant(Side::Secondary, "t", Key::int(9), Some(row(-9)));
        }
    }
    let outcome = work.merged().await.unwrap();
    assert_eq!(
        outcome.0.counts.transient, 1,
        "it moved between the passes, and is equal now"
    );
    assert_eq!(outcome.0.exit_code(), 0);
}

/// A run in stages.
struct Work {
    folder: tempfile::TempDir,
    place: Workplace,
}

impl Work {
    async fn plan(ends: &Pair, request: &Request) -> Self {
        let session = Session::new(ends, None, &|_| {}, Stop::default());
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
        let folder = tempfile::tempdir().unwrap();
        let plan = RunPlan::new(about, Vec::new(), vec![job]);
        let place = journal::Place::folder(folder.path());
        let place = Workplace::begin(place, folder.path().to_owned(), plan).await.unwrap();
        Self { folder, place }
    }

    /// What another process does that knows the plan alone.
    async fn shard(&self, ends: &Pair, number: u64) -> Result<Staged, ReconcileError> {
        let place = Workplace::open(
            journal::Place::folder(self.folder.path()),
            self.folder.path().to_owned(),
        )
        .await?;
        let session = Session::new(ends, None, &|_| {}, Stop::default());
        let shards = place.plan().shards();
        let shard = shards.iter().find(|shard| shard.number == number).unwrap();
        session.shard(&place, shard).await
    }

    async fn merged(&self) -> Result<(reconcile::Summary, Vec<Frame>), ReconcileError> {
        let path = self.folder.path().join("run.journal");
        let summary = self.place.merge(0, Missing::Refused, &path, &|_| {}).await?;
        let mut reader = journal::Reader::open(&path).unwrap();
        let frames = reader.records::<Frame>().collect::<Result<Vec<_>, _>>().unwrap();
        Ok((summary, frames))
    }

    fn spills(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.folder.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|ending| ending == "spill") {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// 300 rows in 12 buckets, of which three differ; two parts a side where the store cuts it so.
async fn planted() -> (memory::Pair, Pair, Request) {
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    for id in [3, 40, 99] {
        pair.plant(Side::Secondary, "t", Key::int(id), None);
    }
    let ends = ends(&pair, Kind::Unordered, Relation::Independent);
    let mut request = request(&ends).await;
    request.limits = Limits {
        rows_per_shard: 100,
        ..request.limits
    };
    (pair, ends, request)
}

#[tokio::test(start_paused = true)]
async fn stages_wait_for_each_other_and_find_together_what_one_run_finds() {
    let (_pair, ends, request) = planted().await;
    let work = Work::plan(&ends, &request).await;
    let shards = work.place.plan().shards();
    let digests: Vec<u64> = shards
        .iter()
        .filter(|one| one.stage != Stage::Resolve)
        .map(|one| one.number)
        .collect();
    let resolves: Vec<u64> = shards
        .iter()
        .filter(|one| one.stage == Stage::Resolve)
        .map(|one| one.number)
        .collect();
    assert_eq!(
        (digests.len(), resolves.len()),
        (4, 3),
        "two sides, two passes; three shards of buckets"
    );
    for early in [resolves[0], digests[2]] {
        let refused = work.shard(&ends, early).await.unwrap_err();
        assert!(
            matches!(&refused, ReconcileError::Early { shard, on } if *shard == early && on.contains(&0)),
            "{refused}"
        );
    }
    for number in &digests {
        assert_eq!(work.shard(&ends, *number).await.unwrap(), Staged::Durable);
    }
    let spills = work.spills();
    assert!(!spills.is_empty() && spills.iter().all(|path| mode(path) == 0o600));
    assert!(spills.iter().all(|path| mode(path.parent().unwrap()) == 0o700));
    for number in resolves.iter().rev() {
        let refused = work.merged().await.unwrap_err();
        assert!(matches!(refused, ReconcileError::Incomplete(_)), "{refused}");
        assert_eq!(work.spills(), spills, "they are needed until the end");
        assert_eq!(work.shard(&ends, *number).await.unwrap(), Staged::Durable);
    }
    let (summary, _) = work.merged().await.unwrap();
    assert_eq!(
        work.spills(),
        Vec::<PathBuf>::new(),
        "they hold keys, and nobody needs them any more"
    );
    let one = run(&ends, &request).await.unwrap();
    assert_eq!(
        (summary.counts, summary.complete, summary.chunks),
        (one.summary.counts.clone(), true, one.summary.chunks)
    );
    assert_eq!(one.confirmed().len(), 3);
    let (again, _) = work.merged().await.unwrap();
    assert_eq!(again.chunks, one.summary.chunks, "merging again needs no spills");
}

#[tokio::test(start_paused = true)]
async fn spilled_rows_that_are_not_what_was_scanned_are_bad_data() {
    let (_pair, ends, request) = planted().await;
    let work = Work::plan(&ends, &request).await;
    let shards = work.place.plan().shards();
    for shard in shards.iter().filter(|one| one.stage != Stage::Resolve) {
        work.shard(&ends, shard.number).await.unwrap();
    }
    let resolve = shards.iter().find(|one| one.stage == Stage::Resolve).unwrap();
    for path in work.spills() {
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[]] {
            std::fs::write(&path, damaged).unwrap();
            match work.shard(&ends, resolve.number).await {
                Err(ReconcileError::Corrupt(_)) => {}
                // The shard does not need this file.
                Ok(Staged::Durable) => std::fs::remove_file(
                    work.folder
                        .path()
                        .join(format!("resolve/{:05}/winner.json", resolve.number)),
                )
                .unwrap(),
                other => panic!("{other:?}"),
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_that_was_promoted_since_the_plan_makes_nothing_equal() {
    let pair = memory();
    pair.load("t", IDS.map(|id| (Key::int(id), row(id))));
    let ends = ends(&pair, Kind::Unordered, Relation::Replicating);
    let work = Work::plan(&ends, &request(&ends).await).await;
    pair.promote();
    for shard in work.place.plan().shards() {
        assert_eq!(work.shard(&ends, shard.number).await.unwrap(), Staged::Durable);
    }
    let (summary, _) = work.merged().await.unwrap();
    assert_eq!((summary.exit_code(), summary.coverage[0].chunks_equal), (3, 0));
    assert!(
        summary.coverage[0].reason.contains("role_changed: site usw2"),
        "{}",
        summary.coverage[0].reason
    );
}

#[tokio::test(start_paused = true)]
async fn ends_that_hash_a_known_row_differently_are_not_compared_before_or_after_the_plan() {
    for kind in Kind::ALL {
        let pair = loaded(kind);
        let ends = ends(&pair, kind, Relation::Independent);
        let work = Work::plan(&ends, &request(&ends).await).await;
        for side in [Side::Primary, Side::Secondary] {
            pair.hash_otherwise(side, true);
            let outcome = run(&ends, &request(&ends).await).await.unwrap();
            let coverage = &outcome.summary.coverage[0];
            assert_eq!((outcome.summary.exit_code(), coverage.chunks_equal), (3, 0), "{kind:?}");
            let reason = "digest_differs: both ends hash the same fixed row differently";
            assert!(coverage.reason.contains(reason), "{}", coverage.reason);
            pair.hash_otherwise(side, false);
        }
        pair.hash_otherwise(Side::Secondary, true);
        for shard in work.place.plan().shards() {
            assert_eq!(work.shard(&ends, shard.number).await.unwrap(), Staged::Durable);
        }
        let (summary, _) = work.merged().await.unwrap();
        let coverage = &summary.coverage[0];
        assert_eq!((summary.exit_code(), coverage.chunks_equal), (3, 0), "{kind:?}");
        let reason = "digest_differs: site usw2 no longer hashes";
        assert!(coverage.reason.contains(reason), "{}", coverage.reason);
    }
}

/// An address that moved since the plan was made: both sites are one server, and two scans of it agree always.
#[tokio::test(start_paused = true)]
async fn two_sites_that_became_one_since_the_plan_make_nothing_equal() {
    for kind in [Kind::Unordered, Kind::Keyless] {
        let pair = loaded(kind);
        let apart = ends(&pair, kind, Relation::Independent);
        let work = Work::plan(&apart, &request(&apart).await).await;
        let one = Pair {
            secondary: End {
                site: apart.secondary.site.clone(),
                ..apart.primary.clone()
            },
            ..apart
        };
        for shard in work.place.plan().shards() {
            assert_eq!(work.shard(&one, shard.number).await.unwrap(), Staged::Durable);
        }
        let (summary, _) = work.merged().await.unwrap();
        let coverage = &summary.coverage[0];
        assert_eq!((summary.exit_code(), coverage.chunks_equal), (3, 0), "{coverage:?}");
        assert!(coverage.reason.contains("same_data"), "{}", coverage.reason);
    }
}

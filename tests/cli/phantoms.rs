//! Under the recheck: no phantom on an equal pair that is written to, and a real difference among the writes is still found.

use std::time::Duration;

use lab::{Pattern, PgOptions, Workload, WorkloadOptions};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::fixture::{DATABASE, Story};

const TABLES: &str = "create table public.hot (id bigint primary key, quantity int not null default 0, note text);
                      insert into public.hot select i, 0, 'n' || i from generate_series(1, 2000) i";

/// How far behind the standby is kept: long enough that every chunk differs while it is written to.
const DELAY: Duration = Duration::from_millis(200);

/// Runs until rows in flight are met.
const RUNS_MAX: usize = 10;

async fn under(pattern: Pattern) {
    let story = Story::start(TABLES).await;
    story.pair.set_replay_delay(DELAY).await.expect("delay the standby");
    let options = WorkloadOptions {
        pattern,
        per_second: 40,
        ..WorkloadOptions::new(DATABASE, "hot")
    };
    no_phantom(&story, options).await;
}

/// Keys of one table that were found in flight.
fn in_flight(result: &Value, collection: &str) -> u64 {
    let collections = result["results"][0]["collections"].as_array().expect("collections");
    let one = collections
        .iter()
        .find(|one| one["collection"] == collection)
        .unwrap_or_else(|| panic!("{collection}: {result}"));
    ["transient", "volatile", "unverified"]
        .map(|name| one[name].as_u64().expect("a count"))
        .iter()
        .sum()
}

async fn no_phantom(story: &Story, options: WorkloadOptions) {
    let written_to = format!("{}.{}", options.schema, options.table);
    let workload = Workload::start(story.pair.primary(), options)
        .await
        .expect("start the workload");
    // At some instants nothing is in flight, and a run that meets none tests nothing.
    let mut met = 0;
    for _ in 0..RUNS_MAX {
        let finished = story.run(&["reconcile", "run", "--format", "json"]);
        assert!([0, 3].contains(&finished.code), "a phantom, or worse: {finished:?}");
        let result = finished.json();
        assert_eq!(result["results"][0]["confirmed"], 0, "{result}");
        met += in_flight(&result, &written_to);
        if met > 0 {
            break;
        }
    }
    let written = workload.stop().await.expect("stop the workload");
    assert!(written.writes() > 0, "nothing was written: {written:?}");
    assert!(
        met > 0,
        "no row in flight was met in {RUNS_MAX} runs, so nothing was tested"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_are_no_divergence() {
    under(Pattern::Hot { rows: 5 }).await;
}

/// Commits that are visible and not yet written out: a fence at the written position would be passed before they arrive.
///
/// The canary that proves the link writes out all that was before it. So rows in flight are met in a first table, which costs that
/// canary; a large one takes its time; and those of the last are in flight again.
#[tokio::test(flavor = "multi_thread")]
async fn rows_in_flight_under_asynchronous_commit_are_no_divergence() {
    let options = PgOptions {
        settings: vec![("wal_writer_delay".to_owned(), "500ms".to_owned())],
        ..PgOptions::with_database(DATABASE)
    };
    let tables = format!(
        "{TABLES};
         create table public.a_first (like public.hot including all);
         insert into public.a_first select * from public.hot;
         create table public.cold (id bigint primary key, note text);
         insert into public.cold select i, repeat('n', 100) || i from generate_series(1, 200000) i"
    );
    let story = Story::start_with(options, &tables).await;
    let first = WorkloadOptions {
        pattern: Pattern::Hot { rows: 50 },
        per_second: 10,
        asynchronous_commit: true,
        ..WorkloadOptions::new(DATABASE, "a_first")
    };
    let first = Workload::start(story.pair.primary(), first)
        .await
        .expect("start a workload");
    let last = WorkloadOptions {
        pattern: Pattern::Hot { rows: 50 },
        per_second: 40,
        asynchronous_commit: true,
        ..WorkloadOptions::new(DATABASE, "hot")
    };
    no_phantom(&story, last).await;
    first.stop().await.expect("stop the workload");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_inserted_and_deleted_in_a_loop_are_no_divergence() {
    under(Pattern::Churn { keys: 3 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_the_standby_shows_first_are_no_divergence() {
    let story = Story::start(TABLES).await;
    story
        .pair
        .add_synchronous_standby()
        .await
        .expect("add a synchronous standby");
    let options = WorkloadOptions {
        pattern: Pattern::Hot { rows: 1 },
        per_second: 40,
        sessions: 8,
        ..WorkloadOptions::new(DATABASE, "hot")
    };
    let workload = Workload::start(story.pair.primary(), options)
        .await
        .expect("start the workload");
    story.pair.stall_synchronous_standby().await.expect("stall it");
    let finished = story.run(&["reconcile", "run", "--format", "json"]);
    story.pair.resume_synchronous_standby();
    workload.stop().await.expect("stop the workload");
    assert!([0, 3].contains(&finished.code), "{finished:?}");
    assert_eq!(finished.json()["results"][0]["confirmed"], 0, "{}", finished.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_is_one_higher_for_ever_is_never_equal() {
    let story = Story::start_with(PgOptions::with_database(DATABASE), TABLES).await;
    story.pair.promote().await.expect("promote");
    story
        .pair
        .standby()
        .execute(DATABASE, "update public.hot set quantity = 1 where id = 1")
        .await
        .expect("plant");
    // The secondary first, then the primary: at every instant the secondary is one or two ahead, and never equal.
    let stop = CancellationToken::new();
    let mut clients = Vec::new();
    for server in [story.pair.standby(), story.pair.primary()] {
        clients.push(server.client(DATABASE).await.expect("connect"));
    }
    let counting = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut count = 0;
            while !stop.is_cancelled() {
                for client in &clients {
                    let add = "update public.hot set quantity = quantity + 1 where id = 1";
                    client.batch_execute(add).await.expect("count");
                }
                count += 1;
            }
            count
        }
    });
    for _ in 0..2 {
        let finished = story.run(&["reconcile", "run", "--format", "json"]);
        assert!(
            [1, 3].contains(&finished.code),
            "a difference was called equal: {finished:?}"
        );
        assert_eq!(finished.json()["complete"], finished.code == 1, "{}", finished.stdout);
    }
    stop.cancel();
    assert!(counting.await.expect("end the counting") > 0);
}

/// A standby whose stored page differs from the primary's: silent corruption, the one way in which a physical copy drifts.
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_difference_among_rows_in_flight_is_found() {
    let story = Story::start(&format!(
        "{TABLES}; create table public.cold (id bigint primary key, quantity int not null default 0, note text);
         insert into public.cold select i, 0, 'cold-' || i from generate_series(1, 500) i"
    ))
    .await;
    // Frozen and written out, so that nothing writes the page again.
    let primary = story.pair.primary();
    primary
        .execute(DATABASE, "vacuum (freeze) public.cold")
        .await
        .expect("freeze");
    let standby = story.pair.standby();
    let file = standby
        .value(DATABASE, "select pg_relation_filepath('public.cold')")
        .await
        .unwrap()
        .unwrap();
    story
        .pair
        .primary()
        .execute(DATABASE, "checkpoint")
        .await
        .expect("checkpoint");
    story
        .pair
        .wait_replayed(Duration::from_secs(20))
        .await
        .expect("catch up");
    standby.execute(DATABASE, "checkpoint").await.expect("restartpoint");
    standby.stop().await.expect("stop the standby");
    let path = standby.data_dir().join(file);
    let mut page = std::fs::read(&path).expect("read the table's file");
    let at = page
        .windows(8)
        .position(|window| window == b"cold-123")
        .expect("the row is in the file");
    page[at..at + 8].copy_from_slice(b"cold-!23");
    std::fs::write(&path, page).expect("write the table's file");
    standby.start_again().await.expect("start the standby");

    let options = WorkloadOptions {
        pattern: Pattern::Hot { rows: 5 },
        per_second: 30,
        ..WorkloadOptions::new(DATABASE, "hot")
    };
    let workload = Workload::start(story.pair.primary(), options)
        .await
        .expect("start the workload");
    let finished = story.run(&["reconcile", "run", "--format", "json"]).expect(1);
    workload.stop().await.expect("stop the workload");
    let result = finished.json();
    assert_eq!(result["results"][0]["confirmed"], 1, "{result}");
    assert_eq!(result["results"][0]["keys"][0]["key"], r#"{"id":123}"#);
    assert_eq!(result["results"][0]["keys"][0]["columns"][0], "note");
}

/// By configuration, time is the fence of a standby too; while that stands still, time proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_by_time_is_chosen_by_configuration_and_a_paused_standby_is_never_equal() {
    let story = Story::start(TABLES).await;
    let timed = |wait: &str| {
        let connection = "[connection.db.aurora]\n";
        let stated = format!("{connection}fence = {{ time = \"{wait}\" }}\n");
        story.write_config(&story.config().replace(connection, &stated));
    };
    timed("9s");
    let refused = story.run(&["reconcile", "run"]).expect(2);
    assert!(refused.stderr.contains("10s at least"), "{}", refused.stderr);
    timed("10s");
    story.run(&["reconcile", "run"]).expect(0);
    story.pair.pause_replay().await.expect("pause");
    story
        .pair
        .primary()
        .execute(DATABASE, "update public.hot set quantity = 1 where id = 7")
        .await
        .expect("write");
    let paused = story.run(&["reconcile", "run", "--format", "json"]).expect(3).json();
    let result = &paused["results"][0];
    assert_eq!(
        (&result["confirmed"], &result["unverified"]),
        (&0.into(), &1.into()),
        "{paused}"
    );
    story.pair.resume_replay().await.expect("resume");
    let coverage =
        reports::tables::read::<reports::tables::CoverageRow>(&story.path("out"), reports::tables::Span::ALL);
    let rows: Vec<_> = coverage.expect("read").map(|row| row.expect("a row")).collect();
    let hot = rows.iter().filter(|row| row.collection == "public.hot");
    let fences: Vec<_> = hot.map(|row| row.fence).collect();
    assert!(
        !fences.is_empty() && fences.iter().all(|fence| format!("{fence:?}").contains("ime")),
        "{fences:?}"
    );
}

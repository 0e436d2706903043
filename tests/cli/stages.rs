//! `reconcile plan`, `shard` and `merge`, and runs that are resumed: several processes find what one finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{DATABASE, Story, finish, parquet_files, wait_until};

/// One table of three chunks, one of one.
const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, 'n' || i from generate_series(1, 120000) i;
                      create table public.other (id int primary key, a text);
                      insert into public.other select i, 'a' || i from generate_series(1, 500) i";

async fn parted() -> Story {
    let story = Story::start(TABLES).await;
    story.pair.promote().await.expect("promote");
    story
        .pair
        .standby()
        .execute(
            DATABASE,
            "update public.orders set note = 'x' where id in (7, 60000, 119999); delete from public.other where id = 9",
        )
        .await
        .expect("change");
    story
}

/// What a run found, without what differs from run to run.
fn found(result: &Value) -> Value {
    let one = &result["results"][0];
    let collections = one["collections"].as_array().expect("collections").iter();
    let counts: Vec<_> = collections
        .map(|one| {
            serde_json::json!([
                one["collection"],
                one["state"],
                one["chunks_total"],
                one["chunks_different"],
                one["primary_rows"]
            ])
        })
        .collect();
    serde_json::json!([
        one["complete"],
        one["confirmed"],
        one["keys"],
        one["divergences"],
        counts
    ])
}

fn json(story: &Story, args: &[&str], code: i32) -> Value {
    story.run(&[args, &["--format", "json"]].concat()).expect(code).json()
}

/// Every Parquet file, with its bytes.
fn tables(output: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let tables = ["runs", "coverage", "chunks", "divergences"];
    let files = tables.iter().flat_map(|table| parquet_files(output, table));
    files
        .map(|path| (path.clone(), std::fs::read(path).expect("read a table")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_in_any_order_find_what_one_run_finds() {
    let story = parted().await;
    let planned = json(&story, &["reconcile", "plan", "--rows-per-shard", "50000"], 0);
    let (plan, shards) = (
        planned["plan"].as_str().expect("a plan"),
        planned["shards"].as_u64().expect("shards"),
    );
    assert!(shards >= 3, "{planned}");
    assert!(tables(&story.path("out")).is_empty(), "a plan writes no table");
    let shard = |number: u64| story.command(&["reconcile", "shard", "--plan", plan, "--shard", &number.to_string()]);

    // Two workers on one shard at the same time, another one told by its environment, and the rest backwards.
    let twins = [
        story.spawn("one", &["reconcile", "shard", "--plan", plan, "--shard", "0"]),
        story.spawn("two", &["reconcile", "shard", "--plan", plan, "--shard", "0"]),
    ];
    for twin in twins {
        twin.expect(0);
    }
    let mut told = story.command(&["reconcile", "shard", "--plan", plan]);
    finish(told.env("JOB_COMPLETION_INDEX", "1")).expect(0);
    let refused = story.run(&["reconcile", "merge", "--plan", plan]).expect(3);
    assert!(
        refused.stderr.contains(&format!(
            "shard {}",
            (2..shards).map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
        )),
        "{}",
        refused.stderr
    );
    assert!(
        tables(&story.path("out")).is_empty(),
        "nothing is written before all is there"
    );
    for number in (2..shards).rev() {
        finish(&mut shard(number)).expect(0);
    }

    let merged = json(&story, &["reconcile", "merge", "--plan", plan], 1);
    assert_eq!(merged["results"][0]["confirmed"], 4, "{merged}");
    let first = tables(&story.path("out"));
    assert_eq!(json(&story, &["reconcile", "merge", "--plan", plan], 1), merged);
    assert_eq!(tables(&story.path("out")), first, "merged twice, the same bytes");
    let whole = json(&story, &["reconcile", "run"], 1);
    assert_eq!(found(&merged), found(&whole));

    // What cannot be carried out, and what is damaged.
    finish(&mut shard(shards)).expect(64);
    story
        .run(&["reconcile", "shard", "--plan", "nowhere/_work/run", "--shard", "0"])
        .expect(64);
    story.run(&["reconcile", "shard", "--plan", plan]).expect(2);
    let file = Path::new(plan).join("plan.json");
    let text = std::fs::read_to_string(&file).expect("read the plan");
    std::fs::write(&file, text.replacen("\"tool_version\":\"", "\"tool_version\":\"9", 1)).expect("write the plan");
    let other = finish(&mut shard(0)).expect(64);
    assert!(other.stderr.contains("was made by driftline 9"), "{}", other.stderr);
    std::fs::write(&file, &text).expect("write the plan");
    let settings = story.config().replace("\"public.*\"", "\"public.orders\"");
    story.write_config(&settings);
    std::fs::remove_file(Path::new(plan).join("digest/00000/winner.json")).expect("forget the winner");
    let other = finish(&mut shard(0)).expect(64);
    assert!(other.stderr.contains("other settings of `shop`"), "{}", other.stderr);
    story.write_config(&story.config());
    std::fs::write(Path::new(plan).join("digest/00001/winner.json"), "{}").expect("damage a result");
    finish(&mut shard(1)).expect(65);
    story.run(&["reconcile", "merge", "--plan", plan]).expect(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_site_does_not_answer_is_told_to_try_again() {
    let story = parted().await;
    let proxy = story.pair.proxy_to(story.pair.standby()).expect("start a proxy");
    story.write_config(&story.config_of(story.pair.primary(), story.pair.primary().port(), proxy.port()));
    let planned = json(&story, &["reconcile", "plan"], 0);
    let plan = planned["plan"].as_str().expect("a plan");
    proxy.cut();
    story
        .run(&["reconcile", "shard", "--plan", plan, "--shard", "0"])
        .expect(75);
    proxy.restore();
    story
        .run(&["reconcile", "shard", "--plan", plan, "--shard", "0"])
        .expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_resumed_to_what_an_undisturbed_one_finds() {
    let story = parted().await;
    let planned = json(&story, &["reconcile", "plan"], 0);
    let (plan, run) = (
        planned["plan"].as_str().expect("a plan"),
        planned["run_id"].as_str().expect("a run"),
    );
    // The second table cannot be read, so that the run waits there with the first one committed.
    let holder = story.pair.primary().client(DATABASE).await.expect("connect");
    holder
        .batch_execute("begin; lock table public.other in access exclusive mode")
        .await
        .expect("lock");
    let running = story.spawn("killed", &["reconcile", "run", "--resume", run]);
    let commits = || {
        let attempts = std::fs::read_dir(Path::new(plan).join("digest/00000"))
            .into_iter()
            .flatten();
        let journal = attempts.flatten().map(|entry| entry.path());
        let mut journal = journal.filter(|path| path.extension().is_some_and(|ending| ending == "journal"));
        let bytes = journal
            .next()
            .and_then(|path| std::fs::read(path).ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches("\"commit\"").count()
    };
    wait_until("the first table is committed", || commits() == 3);
    running.signal(Signal::SIGKILL);
    running.end();
    holder.batch_execute("rollback").await.expect("let go");
    assert!(tables(&story.path("out")).is_empty(), "no table and no commit mark");

    let resumed = json(&story, &["reconcile", "run", "--resume", run], 1);
    assert_eq!(commits(), 4, "what was committed is not compared again");
    assert_eq!(resumed["results"][0]["run_id"], run);
    let whole = json(&story, &["reconcile", "run"], 1);
    assert_eq!(found(&resumed), found(&whole));
    story.run(&["reconcile", "run", "--resume", "no-such-run"]).expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_budget_that_is_used_up_leaves_the_rest_not_looked_at() {
    let story = Story::start(TABLES).await;
    let cut = json(&story, &["reconcile", "run", "--time-budget", "0s"], 3);
    assert_eq!(cut["complete"], false);
    for one in cut["results"][0]["collections"].as_array().expect("collections") {
        if one["state"] != "skipped" {
            assert_eq!(one["state"], "failed", "{one}");
            assert!(
                one["reason"].as_str().expect("a reason").starts_with("not_looked_at: "),
                "{one}"
            );
        }
    }
    let run = cut["results"][0]["run_id"].as_str().expect("a run");
    let resumed = json(&story, &["reconcile", "run", "--resume", run], 0);
    assert_eq!(resumed["complete"], true);
    assert_eq!(
        parquet_files(&story.path("out"), "runs").len(),
        1,
        "one run, and its last word"
    );
    // Time enough changes nothing.
    json(&story, &["reconcile", "run", "--time-budget", "20m"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_reads_no_row_and_leaves_nothing() {
    let story = Story::start(TABLES).await;
    let analyze = story.pair.primary().execute(DATABASE, "analyze public.orders").await;
    analyze.expect("analyze");
    // It may not read a row of it.
    let revoke = story
        .pair
        .primary()
        .execute(DATABASE, "revoke select on public.orders from driftline")
        .await;
    revoke.expect("revoke");
    let estimated = json(&story, &["reconcile", "run", "--estimate"], 0);
    let tables = estimated["estimates"][0]["collections"]
        .as_array()
        .expect("collections");
    let orders = tables
        .iter()
        .find(|one| one["collection"] == "public.orders")
        .expect("the table");
    assert_eq!(
        (&orders["rows"], &orders["chunks"]),
        (&120_000.into(), &3.into()),
        "{estimated}"
    );
    assert_eq!(estimated["throughput"], "stated");
    assert!(!story.path("out").exists());
}

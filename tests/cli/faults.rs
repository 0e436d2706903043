//! Reconciliations that are disturbed: nothing is lost, and nothing is called equal.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{DATABASE, Story, parquet_files, wait_until};

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, repeat('n', 200) || i from generate_series(1, 20000) i";

/// A reconciliation that waits for a lock on `public.orders` at the primary, and the session that holds it.
async fn held_up(story: &Story, name: &str) -> (std::process::Child, tokio_postgres::Client) {
    let holder = story.pair.primary().client(DATABASE).await.expect("connect");
    holder
        .batch_execute("begin; lock table public.orders in access exclusive mode")
        .await
        .expect("lock the table");
    let child = story.spawn(name, &["reconcile", "run", "--format", "json"]);
    let waiting = "select count(*)::text from pg_locks where not granted and relation = 'public.orders'::regclass";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let count = story
            .pair
            .primary()
            .value(DATABASE, waiting)
            .await
            .expect("look at the locks");
        if count.as_deref() != Some("0") {
            return (child, holder);
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "nobody waits for the lock: {}",
            story.log_of(name)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pid(child: &std::process::Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process ID"))
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_reconciliation_with_3() {
    let story = Story::start(TABLES).await;
    let (mut child, holder) = held_up(&story, "reconcile").await;
    kill(pid(&child), Signal::SIGTERM).expect("signal");
    wait_until("the signal is noticed", || {
        story.log_of("reconcile").contains("SIGTERM")
    });
    holder.batch_execute("rollback").await.expect("let go");
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(3), "{}", story.log_of("reconcile"));
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_leaves_no_run_that_counts() {
    let story = Story::start(TABLES).await;
    let (mut child, holder) = held_up(&story, "reconcile").await;
    kill(pid(&child), Signal::SIGKILL).expect("signal");
    child.wait().expect("wait");
    holder.batch_execute("rollback").await.expect("let go");
    assert!(
        parquet_files(&story.path("out"), "runs").is_empty(),
        "a run without an end has a commit mark"
    );
    assert!(parquet_files(&story.path("out"), "coverage").is_empty());
    story.run(&["reconcile", "run"]).expect(0);
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_mid_chunk_is_never_equal() {
    let story = Story::start(TABLES).await;
    // Different data, so that rows are listed: a listing that is cut short must not pass for the whole.
    story.pair.promote().await.expect("promote");
    story
        .pair
        .standby()
        .execute(DATABASE, "update public.orders set note = 'x' where id % 7 = 0")
        .await
        .expect("change");
    let proxy = story.pair.proxy_to(story.pair.standby()).expect("start a proxy");
    story.write_config(&story.config_of(story.pair.primary(), story.pair.primary().port(), proxy.port()));
    proxy.cut_after(200_000);
    let finished = story.run(&["reconcile", "run", "--format", "json"]).expect(3);
    assert!(proxy.is_cut(), "the cut never came");
    assert_eq!(finished.json()["complete"], false);
    proxy.restore();
    let whole = story.run(&["reconcile", "run", "--format", "json"]).expect(1).json();
    assert_eq!(whole["results"][0]["confirmed"], 20_000 / 7, "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stays_locked_is_not_verified() {
    let story = Story::start(TABLES).await;
    let (mut child, holder) = held_up(&story, "reconcile").await;
    let status = child.wait().expect("wait");
    holder.batch_execute("rollback").await.expect("let go");
    assert_eq!(status.code(), Some(3), "{}", story.log_of("reconcile"));
}

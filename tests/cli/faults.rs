//! Reconciliations that are disturbed: nothing is lost, and nothing is called equal.

use std::time::Duration;

use lab::PgOptions;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::fixture::{DATABASE, Running, Story, parquet_files, wait_until};

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, repeat('n', 200) || i from generate_series(1, 20000) i;
                      create table public.free (id int primary key)";

/// A reconciliation that waits for a lock on `public.orders` at the primary, and the session that holds it.
pub(crate) async fn held_up(story: &Story, name: &str) -> (Running, tokio_postgres::Client) {
    let holder = story.pair.primary().client(DATABASE).await.expect("connect");
    holder
        .batch_execute("begin; lock table public.orders in access exclusive mode")
        .await
        .expect("lock the table");
    let running = story.spawn(name, &["reconcile", "run", "--format", "json"]);
    let waiting = "select count(*) > 0 from pg_locks where not granted and relation = 'public.orders'::regclass";
    holds(story, waiting, || running.log()).await;
    (running, holder)
}

/// Waits until `sql` is true at the primary.
async fn holds(story: &Story, sql: &str, log: impl Fn() -> String) {
    let primary = story.pair.primary();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while primary.value(DATABASE, sql).await.expect("ask the primary").as_deref() != Some("t") {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {sql}: {}",
            log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn printed(story: &Story, name: &str) -> Value {
    let text = std::fs::read_to_string(story.path(&format!("{name}.out"))).expect("read what was printed");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
}

/// A reconciliation in the middle of a chunk: it has found rows that differ, and waits for the standby, which does not replay.
pub(crate) async fn in_mid_chunk(story: &Story, name: &str) -> Running {
    story.pair.pause_replay().await.expect("pause replay");
    story
        .pair
        .primary()
        .execute(DATABASE, "update public.orders set note = note || 'x' where id < 10")
        .await
        .expect("write");
    let running = story.spawn(name, &["--verbose", "reconcile", "run", "--format", "json"]);
    wait_until("rows differ", || running.log().contains("looking for the keys"));
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_that_is_stopped_or_killed_never_passes_for_whole() {
    let story = Story::start(TABLES).await;
    let running = in_mid_chunk(&story, "stopped").await;
    running.signal(Signal::SIGTERM);
    running.expect(3);
    // What had been compared until then is evidence, and says that it is not all.
    let stopped = printed(&story, "stopped");
    assert_eq!(stopped["complete"], false);
    let reason = stopped["results"][0]["collections"][1]["reason"].to_string();
    assert!(reason.contains("not_looked_at"), "{stopped}");
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);

    // By kill -9: what was written has no commit mark.
    let running = in_mid_chunk(&story, "killed").await;
    running.signal(Signal::SIGKILL);
    running.end();
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);
    assert_eq!(parquet_files(&story.path("out"), "coverage").len(), 1);

    // Before there is a plan, too.
    let (running, holder) = held_up(&story, "planning").await;
    running.signal(Signal::SIGTERM);
    running.expect(3);
    holder.batch_execute("rollback").await.expect("let go");
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);

    story.pair.resume_replay().await.expect("resume replay");
    story.run(&["reconcile", "run"]).expect(0);
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 2);
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
    let cut = finished.json();
    assert_eq!(cut["complete"], false);
    // Nothing is claimed from half a listing, not even that keys could not be read again.
    assert_eq!(cut["results"][0]["divergences"], serde_json::json!([]), "{cut}");
    assert_eq!(cut["results"][0]["collections"][1]["chunks_failed"], 1, "{cut}");
    proxy.restore();
    let whole = story.run(&["reconcile", "run", "--format", "json"]).expect(1).json();
    assert_eq!(whole["results"][0]["confirmed"], 20_000 / 7, "{whole}");

    // A route that is lost: connections stand, and nobody answers.
    proxy.silence();
    let finished = story.run(&["reconcile", "run"]).expect(3);
    assert!(finished.stderr.contains("no session within"), "{}", finished.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_emptied_or_dropped_meanwhile_is_never_found_different() {
    let story = Story::start(TABLES).await;
    // It stays locked: every try times out, and what nobody holds is compared.
    let (running, holder) = held_up(&story, "locked").await;
    running.expect(3);
    let locked = printed(&story, "locked");
    let collections = &locked["results"][0]["collections"];
    assert_eq!(collections[0]["collection"], "public.free");
    assert_eq!(collections[0]["state"], "verified", "{locked}");
    assert_eq!(collections[1]["state"], "failed", "{locked}");
    let reason = collections[1]["reason"].to_string();
    assert!(reason.contains("lock timeout"), "{locked}");
    holder.batch_execute("rollback").await.expect("let go");

    let (running, holder) = held_up(&story, "emptied").await;
    holder
        .batch_execute("truncate public.orders; commit")
        .await
        .expect("truncate");
    let code = running.end().code();
    let emptied = printed(&story, "emptied");
    assert!(matches!(code, Some(0 | 3)), "{emptied}");
    assert_eq!(emptied["results"][0]["confirmed"], 0, "{emptied}");

    let (running, holder) = held_up(&story, "dropped").await;
    holder
        .batch_execute("drop table public.orders; commit")
        .await
        .expect("drop");
    running.expect(3);
    assert_eq!(printed(&story, "dropped")["results"][0]["confirmed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_promoted_meanwhile_is_never_equal() {
    let story = Story::start(TABLES).await;
    let (running, holder) = held_up(&story, "promoted").await;
    // While the primary's digest waits, the link ends and both sides write.
    story.pair.promote().await.expect("promote");
    story
        .pair
        .standby()
        .execute(DATABASE, "update public.orders set note = 'new side' where id = 77")
        .await
        .expect("write at the new primary");
    holder.batch_execute("rollback").await.expect("let go");
    // The difference is there, but the fence that would prove it is not: it could not be told.
    running.expect(3);
    assert_eq!(printed(&story, "promoted")["complete"], false);
}

/// Vacuum removes what the standby's statements still see, and replay does not wait for them: they are cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn statements_that_replay_cancels_are_never_equal_nor_different() {
    let options = PgOptions {
        settings: [
            ("max_standby_streaming_delay", "0"),
            ("hot_standby_feedback", "off"),
            ("autovacuum", "off"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        ..PgOptions::with_database(DATABASE)
    };
    let story = Story::start_with(
        options,
        "create table public.orders (id bigint primary key, note text);
         insert into public.orders select i, repeat('n', 200) || i from generate_series(1, 600000) i;
         create table public.churn (id bigint primary key, note text)",
    )
    .await;
    story.write_config(&story.config().replace("public.*", "public.orders"));
    let conflicts = "select sum(confl_snapshot)::bigint > 0 from pg_stat_database_conflicts where datname = 'shop'";
    let mut was_told = false;
    for run in 0..10 {
        let name = format!("cancelled-{run}");
        let running = story.spawn(&name, &["reconcile", "run", "--format", "json"]);
        // Not before there is a plan, or nothing is ever compared.
        wait_until("there is a plan", || running.log().contains("planned"));
        let churn = churn(story.pair.primary().client(DATABASE).await.expect("connect"));
        let code = running.end().code();
        churn.0.cancel();
        churn.1.await.expect("end the churn");

        let result = printed(&story, &name);
        assert!(matches!(code, Some(0 | 3)), "a phantom, or worse: {result}");
        assert_eq!(result["results"][0]["confirmed"], 0, "{result}");
        assert_eq!(result["complete"], code == Some(0), "{result}");
        // What is called equal was read to its last row on both sides.
        let orders = &result["results"][0]["collections"][1];
        let read = (&orders["primary_rows"], &orders["secondary_rows"]);
        assert!(
            code == Some(3) || read == (&600_000.into(), &600_000.into()),
            "{result}"
        );
        was_told = orders["reason"].to_string().contains("conflict with recovery");
        if was_told {
            break;
        }
    }
    // From another database, where nothing of ours can be cancelled.
    let counted = story.pair.standby().value("postgres", conflicts).await.expect("ask");
    assert_eq!(
        counted.as_deref(),
        Some("t"),
        "replay cancelled nothing, so nothing was tested"
    );
    assert!(
        was_told,
        "no run was told of a statement that was cancelled again and again"
    );
}

/// Makes rows and removes them for good, until the token is cancelled.
fn churn(client: tokio_postgres::Client) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            while !stop.is_cancelled() {
                for sql in [
                    "insert into public.churn select i, 'x' from generate_series(1, 500) i",
                    "delete from public.churn",
                    "vacuum public.churn",
                ] {
                    client.batch_execute(sql).await.expect("churn");
                }
            }
        }
    });
    (stop, task)
}

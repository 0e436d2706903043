//! What happens to servers while a reconciliation runs: it is told by coverage and exit code, and nothing is called equal that was not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::faults::{held_up, in_mid_chunk, printed};
use crate::fixture::{DATABASE, Story, wait_until};

const TABLES: &str = "create table public.orders (id bigint primary key, note text);
                      insert into public.orders select i, repeat('n', 200) || i from generate_series(1, 20000) i;
                      create table public.free (id int primary key)";

/// The coverage of `public.orders`.
fn orders(result: &Value) -> &Value {
    let all = result["results"][0]["collections"].as_array().expect("collections");
    all.iter()
        .find(|one| one["collection"] == "public.orders")
        .unwrap_or_else(|| panic!("{result}"))
}

/// Nothing is claimed: no difference, and equality only where everything was read.
#[track_caller]
pub(crate) fn claims_nothing_false(code: Option<i32>, result: &Value) {
    assert_eq!(result["results"][0]["confirmed"], 0, "{result}");
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {result}");
    assert_eq!(result["complete"], code == Some(0), "{result}");
    let orders = orders(result);
    assert_eq!(orders["state"] == "verified", code == Some(0), "{result}");
    assert_eq!(orders["reason"] == "", code == Some(0), "{result}");
    for rows in ["primary_rows", "secondary_rows"] {
        assert!(
            orders[rows].is_u64() || code == Some(3),
            "verified, and not all was read: {result}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_meanwhile_is_never_equal_nor_different() {
    let story = Story::start(TABLES).await;
    for (name, change) in [
        ("dropped", "alter table public.orders drop column note"),
        ("renamed", "alter table public.orders rename column id to number"),
        ("emptied", "truncate public.orders"),
        ("gone", "drop table public.orders"),
    ] {
        let running = in_mid_chunk(&story, name).await;
        // The standby still has what the primary had: its replay is paused.
        let primary = story.pair.primary();
        primary.execute(DATABASE, change).await.expect("change the schema");
        story.pair.resume_replay().await.expect("resume replay");
        let code = running.end().code();
        claims_nothing_false(code, &printed(&story, name));
        primary
            .execute(
                DATABASE,
                &format!("drop table if exists public.orders, public.free; {TABLES}; grant select on all tables in schema public to driftline"),
            )
            .await
            .expect("make the tables again");
        story
            .pair
            .wait_replayed(Duration::from_secs(60))
            .await
            .expect("catch up");
    }
}

/// A relay whose far end can be moved, as an address that a failover moves. Connections that stand are ended then.
struct Address {
    port: u16,
    target: Arc<AtomicU16>,
    moved: Arc<std::sync::Mutex<CancellationToken>>,
}

impl Address {
    async fn of(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listen");
        let address = Self {
            port: listener.local_addr().expect("an address").port(),
            target: Arc::new(AtomicU16::new(target)),
            moved: Arc::default(),
        };
        let (target, moved) = (Arc::clone(&address.target), Arc::clone(&address.moved));
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (port, ends) = (target.load(Ordering::SeqCst), moved.lock().expect("the lock").clone());
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::select! {
                        () = ends.cancelled() => Ok((0, 0)),
                        carried = tokio::io::copy_bidirectional(&mut here, &mut there) => carried,
                    }
                });
            }
        });
        address
    }

    fn move_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
        std::mem::take(&mut *self.moved.lock().expect("the lock")).cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_addresses_that_reach_one_server_after_a_failover_are_never_equal() {
    let story = Story::start(TABLES).await;
    let standby = story.pair.standby().port();
    let address = Address::of(story.pair.primary().port()).await;
    story.write_config(&story.config_of(story.pair.primary(), address.port, standby));
    let running = in_mid_chunk(&story, "failover").await;
    // The writer's address moves to the promoted standby: both sites are one server from now on.
    story.pair.cut();
    // What the standby never gets: no look finds the two equal before the address has moved.
    let primary = story.pair.primary();
    let is_cut = "select not exists (select from pg_stat_replication)";
    primary
        .wait_for(DATABASE, is_cut, "the end of replication", Duration::from_secs(30))
        .await
        .expect("cut replication");
    let lost = "update public.orders set note = note || 'y' where id < 10";
    primary.execute(DATABASE, lost).await.expect("write what is lost");
    story.pair.resume_replay().await.expect("resume replay");
    story.pair.promote().await.expect("promote");
    address.move_to(standby);
    let code = running.end().code();
    let result = printed(&story, "failover");
    assert_eq!(code, Some(3), "{result}");
    claims_nothing_false(code, &result);
    // And from the start.
    let refused = story.run(&["reconcile", "run"]).expect(2);
    assert!(refused.stderr.contains("same data"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_are_told_and_never_equal() {
    let story = Story::start(TABLES).await;
    let primary = story.pair.primary();
    let limit = |sessions: i32| format!("alter role driftline connection limit {sessions}");
    primary.execute(DATABASE, &limit(0)).await.expect("limit");
    story
        .pair
        .wait_replayed(Duration::from_secs(60))
        .await
        .expect("catch up");
    let refused = story.run(&["reconcile", "run"]).expect(3);
    assert!(refused.stderr.contains("too many connections"), "{}", refused.stderr);

    // In the middle: what is connected works on, and whoever comes later is refused.
    primary.execute(DATABASE, &limit(-1)).await.expect("no limit");
    story
        .pair
        .wait_replayed(Duration::from_secs(60))
        .await
        .expect("catch up");
    let (running, holder) = held_up(&story, "crowded").await;
    primary.execute(DATABASE, &limit(1)).await.expect("limit");
    holder.batch_execute("rollback").await.expect("let go");
    let code = running.end().code();
    claims_nothing_false(code, &printed(&story, "crowded"));
}

/// Ends what driftline asks at both ends, again and again, by `how`.
fn administrator(
    clients: Vec<tokio_postgres::Client>,
    how: &'static str,
) -> (CancellationToken, tokio::task::JoinHandle<i64>) {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let sql = format!(
            "select count(*) from (select {how}(pid) from pg_stat_activity where usename = 'driftline' and state = 'active') x"
        );
        let mut ended = 0;
        while !stopped.is_cancelled() {
            for client in &clients {
                let row = client.query_one(&sql, &[]).await.expect("end statements");
                ended += row.get::<_, i64>(0);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ended
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_sessions_that_an_administrator_ends_are_never_equal_nor_different() {
    let story = Story::start(
        "create table public.orders (id bigint primary key, note text);
         insert into public.orders select i, repeat('n', 200) || i from generate_series(1, 300000) i;
         create table public.free (id int primary key)",
    )
    .await;
    for (name, how) in [
        ("cancelled", "pg_cancel_backend"),
        ("terminated", "pg_terminate_backend"),
    ] {
        let mut clients = Vec::new();
        for server in [story.pair.primary(), story.pair.standby()] {
            clients.push(server.client("postgres").await.expect("connect"));
        }
        let running = story.spawn(name, &["reconcile", "run", "--format", "json"]);
        // Not before there is a plan, or nothing is ever compared.
        wait_until("there is a plan", || running.log().contains("planned"));
        let (stop, task) = administrator(clients, how);
        let code = running.end().code();
        stop.cancel();
        let ended = task.await.expect("the administrator");
        assert!(ended > 0, "nothing was ended, so nothing was tested");
        let result = printed(&story, name);
        claims_nothing_false(code, &result);
        if code == Some(3) {
            let reason = orders(&result)["reason"].to_string();
            assert!(reason.contains("chunks_failed"), "{reason}");
        }
    }
    story.run(&["reconcile", "run"]).expect(0);
}

/// How long the network is cut.
const CUT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_for_half_a_minute_is_told_and_never_equal() {
    let story = Story::start(TABLES).await;
    let proxy = story.pair.proxy_to(story.pair.primary()).expect("start a proxy");
    story.write_config(&story.config_of(story.pair.primary(), proxy.port(), story.pair.standby().port()));
    // Connections that are ended.
    let running = in_mid_chunk(&story, "cut").await;
    proxy.cut();
    story.pair.resume_replay().await.expect("resume replay");
    let back = tokio::spawn(async move {
        tokio::time::sleep(CUT).await;
        proxy.restore();
        proxy
    });
    let code = running.end().code();
    let result = printed(&story, "cut");
    assert_eq!(code, Some(3), "{result}");
    claims_nothing_false(code, &result);
    let proxy = back.await.expect("the network is back");
    story.run(&["reconcile", "run"]).expect(0);

    // Connections that stand, and carry nothing: they go on when the network does.
    let running = in_mid_chunk(&story, "silent").await;
    proxy.silence();
    story.pair.resume_replay().await.expect("resume replay");
    tokio::time::sleep(CUT).await;
    proxy.restore();
    let code = running.end().code();
    claims_nothing_false(code, &printed(&story, "silent"));
}

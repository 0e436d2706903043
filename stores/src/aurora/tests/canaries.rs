//! The ring, written at a primary and seen at its standby.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::setup::{One, Two, eventually, run_init, spec};
use crate::aurora::{Connection, Endpoint, check_canary, init_sql};
use crate::{Canary, Sought, StoreError, WriteOutcome};

fn canary(sequence: u64) -> Canary {
    Canary {
        stream: "orders-db/use1".to_owned(),
        epoch: "0123456789abcdef0123456789abcdef".to_owned(),
        sequence,
        stamp: None,
    }
}

async fn acknowledged(connection: &Connection, sequence: u64) {
    let outcome = connection.canary_writer.write(&canary(sequence)).await;
    assert!(matches!(outcome, WriteOutcome::Acknowledged), "{sequence}: {outcome:?}");
}

async fn newest(connection: &Connection) -> Option<u64> {
    let sighting = connection
        .canary_reader
        .poll("orders-db/use1", Sought::All)
        .await
        .unwrap();
    sighting.canaries.iter().map(|canary| canary.sequence).max()
}

#[tokio::test]
async fn what_is_written_at_the_primary_is_seen_at_the_standby() {
    let two = Two::start().await;
    let (primary, standby) = (two.at("use1"), two.at("usw2"));
    assert_eq!(newest(&standby).await, None);
    assert_eq!(
        primary.canary_writer.highest_sequence("orders-db/use1").await.unwrap(),
        0
    );
    for sequence in 1..=130 {
        acknowledged(&primary, sequence).await;
    }
    eventually("the standby shows the last", async || {
        (newest(&standby).await == Some(130)).then_some(())
    })
    .await;

    let sighting = standby.canary_reader.poll("orders-db/use1", Sought::All).await.unwrap();
    let mut sequences: Vec<u64> = sighting.canaries.iter().map(|canary| canary.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (67..=130).collect::<Vec<_>>(), "a ring of 64");
    assert!(sighting.canaries.contains(&canary(130)));
    assert!(sighting.strong && standby.canary_reader.is_ordered());
    assert_ne!(
        sighting.instance,
        primary
            .canary_reader
            .poll("orders-db/use1", Sought::All)
            .await
            .unwrap()
            .instance
    );
    assert_eq!(
        primary.canary_writer.highest_sequence("orders-db/use1").await.unwrap(),
        130
    );
    assert_eq!(primary.canary_writer.highest_sequence("another").await.unwrap(), 0);
    assert!(
        standby
            .canary_reader
            .poll("another", Sought::All)
            .await
            .unwrap()
            .canaries
            .is_empty()
    );
}

#[tokio::test]
async fn a_slot_never_goes_back() {
    let one = One::start().await;
    let connection = one.connection();
    acknowledged(&connection, 70).await;
    let older = connection.canary_writer.write(&canary(6)).await;
    assert!(
        matches!(older, WriteOutcome::Failed(StoreError::Config(_))),
        "{older:?}"
    );
    let same = connection.canary_writer.write(&canary(70)).await;
    assert!(matches!(same, WriteOutcome::Failed(_)), "{same:?}");
    assert_eq!(newest(&connection).await, Some(70));
    acknowledged(&connection, 134).await;
    let too_large = connection.canary_writer.write(&canary(u64::MAX)).await;
    assert!(
        matches!(too_large, WriteOutcome::Failed(StoreError::Unsupported(_))),
        "{too_large:?}"
    );
}

/// Rows of somebody else, and malformed ones: ignored, counted once, and no reason for the rest not to be seen.
#[tokio::test]
async fn foreign_rows_are_left_out_and_counted_once() {
    let one = One::start().await;
    let connection = one.connection();
    acknowledged(&connection, 1).await;
    let epoch = canary(1).epoch;
    let foreign = [
        format!("(3, '{epoch}', 4)"),
        format!("(5, '{epoch}', -59)"),
        format!("(0, '{epoch}', 0)"),
        "(6, 'not an epoch', 6)".to_owned(),
        format!("(-1, '{epoch}', 9223372036854775807)"),
        format!("(64, '{epoch}', 9223372036854775807)"),
    ];
    for row in foreign {
        let values = row.trim_matches(['(', ')']);
        let sql = format!("insert into driftline.canary values ('orders-db/use1', {values}, now())");
        one.server.execute("driftline", &sql).await.unwrap();
    }
    let poll = async || {
        connection
            .canary_reader
            .poll("orders-db/use1", Sought::All)
            .await
            .unwrap()
    };
    let first = poll().await;
    assert_eq!((first.canaries, first.oddities.foreign), (vec![canary(1)], 4));
    assert_eq!(poll().await.oddities.foreign, 0, "counted once");
    let highest = connection.canary_writer.highest_sequence("orders-db/use1").await;
    assert_eq!(highest, Ok(6), "of what lies in its slot");
    acknowledged(&connection, 70).await;
    let after = poll().await;
    assert_eq!((after.canaries.len(), after.oddities.foreign), (2, 0));
    let again = "update driftline.canary set epoch = 'x' where slot = 6";
    one.server.execute("driftline", again).await.unwrap();
    assert_eq!(
        poll().await.oddities.foreign,
        1,
        "another one in a slot that was ours meanwhile"
    );
}

#[tokio::test]
async fn a_write_that_times_out_is_unknown() {
    let one = One::start().await;
    let connection = one.connection();
    acknowledged(&connection, 1).await;
    let mut holder = one.server.client("driftline").await.unwrap();
    let held = holder.transaction().await.unwrap();
    held.batch_execute("select from driftline.canary where slot = 1 for update")
        .await
        .unwrap();
    let outcome = connection.canary_writer.write(&canary(65)).await;
    assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{outcome:?}");
    held.rollback().await.unwrap();
    acknowledged(&connection, 129).await;
}

/// Ends the process whose commit waits: nobody knows what became of the write.
async fn ended_while_it_waits(one: &One, writing: JoinHandle<WriteOutcome>, pid: &str) {
    one.server
        .execute("postgres", &format!("select pg_terminate_backend({pid})"))
        .await
        .unwrap();
    let outcome = writing.await.unwrap();
    assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{outcome:?}");
}

/// Has commits wait for a standby that does not exist, and writes canaries from the one after `sequence` until one waits: the write, and the process
/// that waits.
async fn commit_that_waits(
    one: &One,
    connection: &Arc<Connection>,
    sequence: &mut u64,
) -> (JoinHandle<WriteOutcome>, String) {
    one.server
        .alter_system("set synchronous_standby_names = 'nobody'")
        .await
        .unwrap();
    let waiting =
        "select pid::text from pg_stat_activity where wait_event = 'SyncRep' and usename = 'driftline' limit 1";
    timeout(Duration::from_secs(30), async {
        // The reload takes a moment; a write that comes before it is acknowledged.
        loop {
            *sequence += 1;
            let writing = tokio::spawn({
                let (connection, canary) = (Arc::clone(connection), canary(*sequence));
                async move { connection.canary_writer.write(&canary).await }
            });
            let pid = eventually("the commit waits, or is over", async || {
                let pid = one.server.value("postgres", waiting).await.unwrap();
                (pid.is_some() || writing.is_finished()).then_some(pid)
            })
            .await;
            if let Some(pid) = pid {
                return (writing, pid);
            }
        }
    })
    .await
    .expect("no commit waits")
}

/// An acknowledged canary is durable, whatever role, database and server have by default.
#[tokio::test]
async fn a_role_that_commits_asynchronously_by_default_waits_for_its_canaries() {
    let one = One::start().await;
    for asynchronous in [
        "alter role driftline set synchronous_commit = off",
        "alter database driftline set synchronous_commit = off",
        "alter role driftline in database driftline set synchronous_commit = off",
        "alter system set synchronous_commit = off",
    ] {
        one.server.execute("postgres", asynchronous).await.unwrap();
    }
    let connection = Arc::new(one.connection());
    acknowledged(&connection, 1).await;
    let (writing, pid) = commit_that_waits(&one, &connection, &mut 1).await;
    assert!(!writing.is_finished(), "acknowledged before it was durable");
    ended_while_it_waits(&one, writing, &pid).await;
}

/// The time-outs of statements do not reach into a commit: only whoever waits can give up. And a server that ends the session then
/// has committed all the same.
#[tokio::test]
async fn a_commit_that_waits_for_a_synchronous_standby_is_unknown_and_happened() {
    let one = One::start().await;
    let connection = Arc::new(one.connection());
    acknowledged(&connection, 1).await;
    let mut sequence = 1;
    let (writing, pid) = commit_that_waits(&one, &connection, &mut sequence).await;

    let bound = 64;
    let mut refused = 0;
    let mut others = Vec::new();
    for further in 1..=bound {
        let (connection, canary) = (Arc::clone(&connection), canary(sequence + further));
        others.push(tokio::spawn(
            async move { connection.canary_writer.write(&canary).await },
        ));
    }
    ended_while_it_waits(&one, writing, &pid).await;
    for other in others {
        match other.await.unwrap() {
            WriteOutcome::Unknown(_) => {}
            WriteOutcome::Failed(error) => {
                assert!(error.to_string().contains("not answered yet"), "{error}");
                refused += 1;
            }
            outcome @ WriteOutcome::Acknowledged => panic!("{outcome:?}"),
        }
    }
    assert_eq!(refused, 1, "one over the bound of {bound}");
    let kept = format!("select count(*)::text from driftline.canary where seq = {sequence}");
    assert_eq!(
        one.server.value("driftline", &kept).await.unwrap().as_deref(),
        Some("1"),
        "it happened"
    );

    one.server
        .alter_system("reset synchronous_standby_names")
        .await
        .unwrap();
    eventually("writes are acknowledged again", async || {
        sequence += 100;
        let outcome = connection.canary_writer.write(&canary(sequence)).await;
        matches!(outcome, WriteOutcome::Acknowledged).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cut_connection_is_opened_again() {
    let two = Two::start().await;
    let proxy = two.pair.proxy_to(two.pair.primary()).unwrap();
    let connection = Connection::new(&two.behind(&proxy), "use1", Endpoint::Writer).unwrap();
    acknowledged(&connection, 1).await;
    assert_eq!(newest(&connection).await, Some(1));
    proxy.cut();
    let outcome = connection.canary_writer.write(&canary(2)).await;
    let passes = match &outcome {
        WriteOutcome::Failed(error) | WriteOutcome::Unknown(error) => error.is_passing(),
        WriteOutcome::Acknowledged => false,
    };
    assert!(passes, "{outcome:?}");
    let error = connection
        .canary_reader
        .poll("orders-db/use1", Sought::All)
        .await
        .unwrap_err();
    assert!(error.is_passing(), "{error:?}");
    proxy.restore();
    acknowledged(&connection, 3).await;
    assert_eq!(newest(&connection).await, Some(3));
}

#[tokio::test]
async fn an_endpoint_that_leads_to_another_server_is_asked_again_though_the_connection_stands() {
    let two = Two::start().await;
    // To a server that takes no writes any more: what an old primary is after a failover.
    let proxy = two.pair.proxy_to(two.pair.standby()).unwrap();
    let connection = Connection::new(&two.behind(&proxy), "use1", Endpoint::Writer).unwrap();
    let outcome = connection.canary_writer.write(&canary(1)).await;
    assert!(matches!(outcome, WriteOutcome::Failed(_)), "{outcome:?}");
    proxy.lead_to(two.pair.primary().port());
    acknowledged(&connection, 2).await;
    assert_eq!(newest(&two.at("use1")).await, Some(2));
}

#[tokio::test]
async fn a_standby_takes_no_canaries_until_it_is_promoted() {
    let two = Two::start().await;
    let standby = two.at("usw2");
    let outcome = standby.canary_writer.write(&canary(1)).await;
    let WriteOutcome::Failed(error) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(matches!(error, StoreError::Retryable { .. }), "{error:?}");
    two.pair.promote().await.unwrap();
    acknowledged(&standby, 2).await;
}

/// The canaries' own database is what makes this hold: in the application's the ring's dead rows conflict with the query's
/// snapshot, and replay waits for the query.
#[tokio::test]
async fn a_long_query_on_the_standby_does_not_hold_up_canaries() {
    let two = Two::start().await;
    let (primary, standby) = (two.at("use1"), two.at("usw2"));
    acknowledged(&primary, 1).await;
    eventually("the standby shows the first", async || newest(&standby).await).await;
    let mut reader = two.pair.standby().client("app").await.unwrap();
    let long = reader
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .start()
        .await
        .unwrap();
    let before: i64 = long
        .query_one("select count(*) from public.granted", &[])
        .await
        .unwrap()
        .get(0);
    for sequence in 2..=2_000 {
        acknowledged(&primary, sequence).await;
    }
    two.pair
        .primary()
        .execute("driftline", "vacuum driftline.canary")
        .await
        .unwrap();
    acknowledged(&primary, 2_001).await;
    let arrives = async {
        while newest(&standby).await != Some(2_001) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(15), arrives)
        .await
        .expect("seen while the query still runs; conflicts would hold replay for 30 s");
    let after: i64 = long
        .query_one("select count(*) from public.granted", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(before, after);
    long.commit().await.unwrap();
}

#[tokio::test]
async fn check_says_what_is_missing_and_init_can_run_twice() {
    let one = One::start().await;
    let problems = async || check_canary(&one.config, "use1", Endpoint::Writer).await.unwrap();
    assert_eq!(problems().await, Vec::<String>::new());
    run_init(&one.files, &one.server).await;
    assert_eq!(problems().await, Vec::<String>::new());
    let as_admin = async |sql: &str| one.server.execute("driftline", sql).await.unwrap();
    as_admin("revoke update on driftline.canary from driftline").await;
    assert!(problems().await[0].contains("insert and update"));
    as_admin("alter table driftline.canary drop constraint canary_pkey").await;
    assert!(problems().await[1].contains("PRIMARY KEY (stream, slot)"));
    as_admin("drop schema driftline cascade").await;
    assert!(problems().await[0].contains("driftline init"));
    let outcome = one.connection().canary_writer.write(&canary(1)).await;
    assert!(
        matches!(outcome, WriteOutcome::Failed(StoreError::NotFound(_))),
        "{outcome:?}"
    );
    run_init(&one.files, &one.server).await;
    assert_eq!(problems().await, Vec::<String>::new());
    acknowledged(&one.connection(), 1).await;
}

/// All rights of the role over databases, schemas and tables of its own making, in one list.
#[tokio::test]
async fn the_role_may_do_what_is_printed_and_nothing_else() {
    let one = One::start().await;
    let value = async |database: &str, sql: &str| one.server.value(database, sql).await.unwrap().unwrap_or_default();
    let attributes = "select concat_ws(' ', rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin, \
                      (select count(*) from pg_auth_members where member = r.oid)) from pg_roles r where rolname = 'driftline'";
    assert_eq!(value("postgres", attributes).await, "f f f f f t 0");
    let granted = "select string_agg(table_schema || '.' || table_name || ' ' || privilege_type, ', ' order by 1) from (\
                   select table_schema, table_name, privilege_type from information_schema.role_table_grants where grantee = 'driftline' \
                   order by 1, 2, 3) g";
    assert_eq!(value("app", granted).await, "public.granted SELECT");
    assert_eq!(
        value("driftline", granted).await,
        "driftline.canary INSERT, driftline.canary SELECT, driftline.canary UPDATE"
    );
    let owns = "select count(*)::text from pg_shdepend where refobjid = 'driftline'::regrole and deptype = 'o'";
    assert_eq!(value("app", owns).await, "0");

    let script = init_sql(&spec());
    for right in [
        "select, insert, update on driftline.canary",
        "grant select on table \"public\".\"granted\"",
        "\\gexec",
    ] {
        assert!(script.contains(right), "{script}");
    }
    assert!(!script.to_lowercase().contains("password '"), "{script}");
}

/// The printed script is what is run, so psql has to take it as it is.
#[tokio::test]
async fn psql_takes_the_printed_script_twice() {
    let server = lab::PgServer::start(super::setup::options()).await.unwrap();
    server
        .execute("app", "create table public.granted (id int primary key)")
        .await
        .unwrap();
    for _ in 0..2 {
        let output = timeout(Duration::from_secs(60), psql(&server, &init_sql(&spec())))
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let tables = "select count(*)::text from pg_class where relname = 'canary'";
    assert_eq!(server.value("driftline", tables).await.unwrap().as_deref(), Some("1"));
}

async fn psql(server: &lab::PgServer, script: &str) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("init.sql");
    std::fs::write(&file, script).unwrap();
    let arguments = ["--no-psqlrc", "--quiet", "--file"];
    tokio::process::Command::new("psql")
        .args(arguments)
        .arg(&file)
        .arg(server.url("postgres", "postgres"))
        .env("PGPASSWORD", server.password())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

//! Publishers and subscribers, also of two versions: the fence is a canary that came by the same subscription.

use std::time::Duration;

use lab::{Pattern, PgServer, Plant, Workload, WorkloadOptions, plant};
use reconcile::CoverageState;

use crate::setup::{Copies, request, run, until_in_flight};

const PATIENCE: Duration = Duration::from_secs(60);

/// Equal copies are equal, and every kind of difference is found and named.
async fn compared(from: Option<u16>, to: Option<u16>) {
    let copies = Copies::start(from, to, 3_000).await;
    let pair = copies.ends();
    let (found, summary) = run(&pair, &request(&pair).await).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    assert!(summary.coverage.iter().all(|one| one.fence == "canary"));

    let plants: Vec<(Plant, i64)> = Plant::ALL
        .into_iter()
        .zip((100..).step_by(50))
        .map(|(kind, id)| (kind, if kind == Plant::Extra { -5 } else { id }))
        .collect();
    // What is changed now at either side stays there.
    let publisher = copies.pair.publisher();
    publisher
        .execute("app", "alter publication lab set (publish = '')")
        .await
        .unwrap();
    let truth = plant(copies.pair.publisher(), copies.pair.subscriber(), "app", &plants)
        .await
        .unwrap();
    let all = "alter publication lab set (publish = 'insert, update, delete, truncate')";
    publisher.execute("app", all).await.unwrap();
    let (found, summary) = run(&pair, &request(&pair).await).await;
    let mismatches = truth.compare(&found);
    assert!(mismatches.is_empty(), "{mismatches:?}");
    assert!(summary.complete, "{:?}", summary.coverage);
    copies.shutdown().await;
}

#[tokio::test]
async fn copies_of_one_version() {
    compared(None, None).await;
}

#[tokio::test]
async fn a_copy_of_a_later_version() {
    compared(Some(13), Some(17)).await;
    compared(None, Some(18)).await;
}

#[tokio::test]
async fn rows_in_flight_are_no_divergences_and_an_injected_one_is_found_among_them() {
    let copies = Copies::start(None, None, 3_000).await;
    let pair = copies.ends();
    let mut workloads = Vec::new();
    for (table, pattern) in [
        ("orders", Pattern::Hot { rows: 20 }),
        ("payments", Pattern::Churn { keys: 4 }),
        ("customers", Pattern::Mixed),
    ] {
        let options = WorkloadOptions {
            pattern,
            per_second: 150,
            sessions: 2,
            asynchronous_commit: table == "orders",
            ..WorkloadOptions::new("app", table)
        };
        workloads.push(Workload::start(copies.pair.publisher(), options).await.unwrap());
    }
    let wrong = "update public.orders set note = 'wrong' where id = 900";
    copies.pair.subscriber().execute("app", wrong).await.unwrap();
    let held_up = copies.hold_up("public.orders, public.payments, public.customers").await;
    until_in_flight(3, async || {
        let (found, summary) = run(&pair, &request(&pair).await).await;
        let keys: Vec<_> = found.iter().map(|one| format!("{one:?}")).collect();
        assert_eq!(found.len(), 1, "{keys:?}");
        assert!(keys[0].contains("900") && keys[0].contains("different"), "{keys:?}");
        summary
    })
    .await;
    held_up.abort();
    for workload in workloads {
        assert!(workload.stop().await.unwrap().writes() > 0);
    }
    copies.shutdown().await;
}

#[tokio::test]
async fn a_subscription_that_stands_still_verifies_nothing_that_differs() {
    let copies = Copies::start(None, None, 1_000).await;
    let pair = copies.ends();
    let mut request = request(&pair).await;
    request.limits.fence_patience = Duration::from_millis(700);
    copies.pair.pause().await.unwrap();
    let change = "update public.orders set note = 'changed' where id = 7";
    copies.pair.publisher().execute("app", change).await.unwrap();
    let (found, summary) = run(&pair, &request).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!((summary.exit_code(), summary.counts.unverified), (3, 1));
    copies.pair.resume().await.unwrap();
    copies.pair.wait_applied(PATIENCE).await.unwrap();
    let (_, summary) = run(&pair, &request).await;
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    copies.shutdown().await;
}

/// Takes the log of a server as its synchronous standby, which writes it and never applies it. It ends with this.
struct Receiver {
    process: std::process::Child,
    _folder: tempfile::TempDir,
}

impl Receiver {
    fn start(server: &PgServer, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = format!(
            "host=127.0.0.1 port={} user=postgres sslmode=require application_name={name}",
            server.port()
        );
        let process = std::process::Command::new("/usr/lib/postgresql/15/bin/pg_receivewal")
            .args(["--synchronous", "--no-loop", "--dbname", &place, "--directory"])
            .arg(folder.path())
            .env("PGPASSWORD", server.password())
            .spawn()
            .unwrap();
        Self {
            process,
            _folder: folder,
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

#[tokio::test]
async fn a_row_that_the_subscriber_shows_before_its_commit_returns_is_no_divergence() {
    let copies = Copies::start(None, None, 1_000).await;
    let pair = copies.ends();
    let publisher = copies.pair.publisher();
    let _receiver = Receiver::start(publisher, "receiver");
    publisher
        .alter_system("set synchronous_standby_names = 'receiver'")
        .await
        .unwrap();
    let seen =
        "select exists (select from pg_stat_replication where application_name = 'receiver' and sync_state = 'sync')";
    publisher
        .wait_for("postgres", seen, "the receiver as synchronous", PATIENCE)
        .await
        .unwrap();

    // Nobody applies it, so this commit waits for ever; those of canaries only wait until it is written.
    let client = publisher.client("app").await.unwrap();
    let hanging = tokio::spawn(async move {
        let insert = "set synchronous_commit = remote_apply; \
                      insert into public.orders select (jsonb_populate_record(o, '{\"id\": -77}')).* from public.orders o where id = 7";
        client.batch_execute(insert).await
    });
    let shown = "select exists (select from public.orders where id = -77)";
    let subscriber = copies.pair.subscriber();
    subscriber
        .wait_for("app", shown, "the row at the subscriber", PATIENCE)
        .await
        .unwrap();
    let (found, summary) = run(&pair, &request(&pair).await).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(
        (summary.exit_code(), summary.counts.volatile),
        (3, 1),
        "{:?}",
        summary.coverage
    );
    assert!(
        !hanging.is_finished(),
        "the commit has returned: the test proves nothing"
    );

    publisher.alter_system("reset synchronous_standby_names").await.unwrap();
    hanging.await.unwrap().unwrap();
    let (_, summary) = run(&pair, &request(&pair).await).await;
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    copies.shutdown().await;
}

#[tokio::test]
async fn what_another_subscription_brings_is_not_verified() {
    let copies = Copies::start(None, None, 1_000).await;
    // Orders come by a way of their own from now on; the canaries say nothing about it.
    let publish =
        "drop publication lab; create publication lab for table public.customers, public.payments, driftline.canary";
    copies.pair.publisher().execute("app", publish).await.unwrap();
    copies.pair.refresh().await.unwrap();
    let pair = copies.ends();
    let (found, summary) = run(&pair, &request(&pair).await).await;
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(summary.exit_code(), 3);
    let state = |name: &str| {
        let one = summary.coverage.iter().find(|one| one.collection == name).unwrap();
        (one.state, one.reason.clone())
    };
    assert_eq!(state("public.customers").0, CoverageState::Verified);
    let (orders, reason) = state("public.orders");
    assert_eq!(orders, CoverageState::Failed);
    assert!(reason.contains("subscription"), "{reason}");
    copies.shutdown().await;
}

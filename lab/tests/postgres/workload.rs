use std::time::{Duration, Instant};

use lab::{Pattern, PgOptions, PgServer, Workload, WorkloadOptions};

use crate::support::{NUMBERS, PATIENCE, count};

async fn numbers() -> PgServer {
    let server = PgServer::start(PgOptions::with_database("shop")).await.unwrap();
    server.execute("shop", NUMBERS).await.unwrap();
    server
        .execute("shop", "insert into numbers select generate_series(1, 20)")
        .await
        .unwrap();
    server
}

fn fast(pattern: Pattern) -> WorkloadOptions {
    WorkloadOptions {
        pattern,
        per_second: 2000,
        ..WorkloadOptions::new("shop", "numbers")
    }
}

async fn reached(workload: &Workload, writes: u64) {
    let deadline = Instant::now() + PATIENCE;
    while workload.committed() < writes {
        assert!(Instant::now() < deadline, "{} of {writes} writes", workload.committed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn counts_agree_with_what_the_table_holds() {
    let server = numbers().await;
    let options = WorkloadOptions {
        sessions: 3,
        asynchronous_commit: true,
        ..fast(Pattern::Mixed)
    };
    let workload = Workload::start(&server, options).await.unwrap();
    reached(&workload, 200).await;
    let written = workload.stop().await.unwrap();
    assert!(
        written.inserts > 0 && written.updates > 0 && written.deletes > 0,
        "{written:?}"
    );
    let rows = (20 + written.inserts - written.deletes).to_string();
    assert_eq!(count(&server).await, Some(rows));
    assert_eq!(written.failures, 0);
}

#[tokio::test]
async fn hot_rows_get_every_update_and_no_row_more() {
    let server = numbers().await;
    let workload = Workload::start(&server, fast(Pattern::Hot { rows: 3 })).await.unwrap();
    reached(&workload, 50).await;
    let written = workload.stop().await.unwrap();
    let sum = server
        .value("shop", "select sum(quantity) from numbers where id <= 3")
        .await
        .unwrap();
    assert_eq!(sum, Some(written.updates.to_string()));
    assert_eq!(written.touches.len(), 3);
    assert_eq!(written.writes(), written.updates);
}

#[tokio::test]
async fn churn_inserts_and_deletes_the_same_keys() {
    let server = numbers().await;
    let options = WorkloadOptions {
        writes_max: 100,
        ..fast(Pattern::Churn { keys: 5 })
    };
    let workload = Workload::start(&server, options).await.unwrap();
    reached(&workload, 100).await;
    let written = workload.stop().await.unwrap();
    assert_eq!((written.inserts, written.deletes, written.misses), (50, 50, 0));
    assert_eq!(written.touches.len(), 5);
    assert_eq!(count(&server).await.as_deref(), Some("20"));
}

#[tokio::test]
async fn a_workload_goes_on_after_a_crash_of_its_server() {
    let server = numbers().await;
    let workload = Workload::start(&server, fast(Pattern::Hot { rows: 1 })).await.unwrap();
    reached(&workload, 10).await;
    server.kill9().await.unwrap();
    let before = workload.committed();
    server.start_again().await.unwrap();
    reached(&workload, before + 10).await;
    let written = workload.stop().await.unwrap();
    assert!(written.failures <= 2, "{}", written.failures);
    assert_eq!(u64::try_from(written.uncertain.len()), Ok(written.failures));
}

#[tokio::test]
async fn asynchronous_commit_is_asked_for() {
    let server = numbers().await;
    // A commit that waits for a standby that does not exist never returns, unless it is asynchronous.
    server
        .alter_system("set synchronous_standby_names = 'nobody'")
        .await
        .unwrap();
    let options = WorkloadOptions {
        asynchronous_commit: true,
        ..fast(Pattern::Hot { rows: 1 })
    };
    let workload = Workload::start(&server, options).await.unwrap();
    reached(&workload, 5).await;
    assert!(workload.stop().await.is_ok());
    let missing = Workload::start(&server, WorkloadOptions::new("shop", "nothing")).await;
    assert!(missing.unwrap_err().to_string().contains("nothing"));
}

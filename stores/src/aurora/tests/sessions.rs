//! Pinned settings hold, whatever server, role or an earlier user of the session wanted.

use std::time::Duration;

use tokio::time::timeout;

use super::setup::{One, eventually, sessions};
use crate::StoreError;

/// What design asks for, stated again and not taken from the code.
const WANTED: [(&str, &str); 17] = [
    ("row_security", "off"),
    ("search_path", "pg_catalog"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "on"),
    ("transaction_read_only", "on"),
    ("synchronous_commit", "on"),
    ("plan_cache_mode", "force_custom_plan"),
    ("max_parallel_workers_per_gather", "0"),
    ("statement_timeout", "1min"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("application_name", "driftline"),
];

#[tokio::test]
async fn settings_hold_against_those_of_the_role() {
    let one = One::start().await;
    one.server
        .execute(
            "postgres",
            "alter role driftline set DateStyle = 'German'; alter role driftline set TimeZone = 'Asia/Tokyo'; \
             alter role driftline set bytea_output = 'escape'; alter role driftline set IntervalStyle = 'iso_8601'; \
             alter role driftline set search_path = 'public'; alter role driftline set statement_timeout = 0; \
             alter role driftline set synchronous_commit = off; alter role driftline set extra_float_digits = -10; \
             alter role driftline set plan_cache_mode = 'force_generic_plan'",
        )
        .await
        .unwrap();
    let sessions = sessions(&one.config, "use1", 1);
    let lease = sessions.lease().await.unwrap();
    for (name, wanted) in WANTED {
        let row = lease.query_one("select current_setting($1)", &[&name]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), wanted, "{name}");
    }
    let error = lease.batch_execute("create temp table t ()").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25006");
}

#[tokio::test]
async fn a_session_in_doubt_is_not_lent_again() {
    let one = One::start().await;
    let sessions = sessions(&one.config, "use1", 1);
    let pid = async |sql: &str| {
        let lease = sessions.lease().await.unwrap();
        lease.batch_execute(sql).await.unwrap();
        lease
            .query_one("select pg_backend_pid()", &[])
            .await
            .unwrap()
            .get::<_, i32>(0)
    };
    let first = pid("select 1").await;
    assert_eq!(
        pid("set search_path = public").await,
        first,
        "a clean session is lent again"
    );
    let second = pid("begin").await;
    assert_ne!(second, first, "a changed setting");
    let third = pid("select 1").await;
    assert_ne!(third, second, "an open transaction");
    one.server
        .execute("postgres", &format!("select pg_terminate_backend({third}, 10000)"))
        .await
        .unwrap();
    assert_ne!(pid("select 1").await, third, "a closed connection");
}

#[tokio::test]
async fn a_pooler_that_mixes_sessions_is_found_out() {
    let one = One::start().await;
    let sessions = sessions(&one.config, "use1", 1);
    let lease = sessions.lease().await.unwrap();
    lease
        .batch_execute("select set_config('driftline.session', 'of somebody else', false)")
        .await
        .unwrap();
    drop(lease);
    for _ in 0..2 {
        let error = sessions.lease().await.unwrap_err();
        assert!(matches!(error, StoreError::Config(_)), "{error:?}");
        assert!(error.to_string().contains("pooler"), "{error}");
    }
}

#[tokio::test]
async fn an_abandoned_statement_neither_blocks_the_pool_nor_runs_on() {
    let one = One::start().await;
    let sessions = sessions(&one.config, "use1", 1);
    let lease = sessions.lease().await.unwrap();
    let abandoned = timeout(Duration::from_millis(300), lease.batch_execute("select pg_sleep(50)")).await;
    assert!(abandoned.is_err());
    drop(lease);
    let next = timeout(Duration::from_secs(20), sessions.lease()).await;
    next.expect("lent before the statement would have ended").unwrap();
    eventually("the server stops the statement", async || {
        let running = "select count(*)::text from pg_stat_activity where query like '%pg_sleep(50)%' and state = 'active' \
                       and pid <> pg_backend_pid()";
        (one.server.value("postgres", running).await.unwrap().as_deref() == Some("0")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_sessions_lent_is_a_matter_of_waiting() {
    let one = One::start().await;
    let sessions = sessions(&one.config, "use1", 2);
    let _both = (sessions.lease().await.unwrap(), sessions.lease().await.unwrap());
    tokio::time::pause();
    let error = sessions.lease().await.unwrap_err();
    assert!(matches!(error, StoreError::Retryable { .. }), "{error:?}");
}

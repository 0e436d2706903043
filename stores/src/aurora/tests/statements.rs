//! What the errors of statements mean to the caller.

use super::setup::{One, Two, eventually, sessions};
use crate::StoreError;

#[tokio::test]
async fn each_fault_tells_what_to_do_next() {
    let one = One::start().await;
    let server = &one.server;
    server
        .execute(
            "app",
            "create table public.guarded (id int); insert into public.guarded values (1); \
             alter table public.guarded enable row level security; \
             create policy nothing on public.guarded using (false); grant select on public.guarded to driftline",
        )
        .await
        .unwrap();
    let sessions = sessions(&one.config, "use1", 1);
    let fault = async |sql: &str| {
        let lease = sessions.lease().await.unwrap();
        let error = lease.batch_execute(sql).await.unwrap_err();
        sessions.trouble("try a statement", error)
    };

    let error = fault("select * from public.withheld").await;
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
    assert!(
        error.to_string().contains("withheld") && error.to_string().contains("site use1: try a statement"),
        "{error}"
    );

    // Without row_security = off this would be a count of zero.
    let error = fault("select count(*) from public.guarded").await;
    assert!(matches!(error, StoreError::Denied(_)), "{error:?}");
    assert!(error.to_string().contains("BYPASSRLS"), "{error}");

    assert!(matches!(
        fault("select * from public.absent").await,
        StoreError::NotFound(_)
    ));
    assert!(matches!(
        fault("select * from absent.absent").await,
        StoreError::NotFound(_)
    ));
    assert!(matches!(
        fault("delete from public.granted").await,
        StoreError::Retryable { .. } | StoreError::Denied(_)
    ));
    assert!(matches!(fault("select nothing()").await, StoreError::Unsupported(_)));
    let timed_out = fault("set statement_timeout = '10ms'; select pg_sleep(10)").await;
    assert!(matches!(timed_out, StoreError::Retryable { .. }), "{timed_out:?}");
    let killed = fault("select pg_terminate_backend(pg_backend_pid())").await;
    assert!(matches!(killed, StoreError::Retryable { .. }), "{killed:?}");

    let error = fault("select 'hunter2'::int").await;
    assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");
    assert!(
        !format!("{error:?}").contains("hunter2"),
        "row values stay out: {error:?}"
    );
}

#[tokio::test]
async fn waiting_for_a_lock_ends() {
    let one = One::start().await;
    let mut holder = one.server.client("app").await.unwrap();
    let held = holder.transaction().await.unwrap();
    held.batch_execute("lock table public.granted in access exclusive mode")
        .await
        .unwrap();
    let sessions = sessions(&one.config, "use1", 1);
    let lease = sessions.lease().await.unwrap();
    let error = lease
        .batch_execute("select count(*) from public.granted")
        .await
        .unwrap_err();
    let error = sessions.trouble("count", error);
    assert!(matches!(error, StoreError::Retryable { .. }), "{error:?}");
    assert!(error.to_string().contains("55P03"), "{error}");
}

#[tokio::test]
async fn a_recovery_conflict_is_worth_another_try() {
    let two = Two::start().await;
    let (primary, standby) = (two.pair.primary(), two.pair.standby());
    standby
        .alter_system("set max_standby_streaming_delay = 0")
        .await
        .unwrap();
    eventually("the standby has read its setting", async || {
        let shown = standby
            .value("postgres", "select current_setting('max_standby_streaming_delay')")
            .await
            .unwrap();
        (shown.as_deref() == Some("0")).then_some(())
    })
    .await;
    let sessions = sessions(&two.config, "usw2", 1);
    let lease = sessions.lease().await.unwrap();
    let reading = async {
        let sql = "select count(*), pg_sleep(4) from public.granted";
        lease.batch_execute(sql).await.unwrap_err()
    };
    let cleaning = async {
        let running = "select (count(*) > 0)::text from pg_stat_activity where query like '%pg_sleep(4)%' and pid <> pg_backend_pid()";
        eventually("the standby reads", async || {
            (standby.value("postgres", running).await.unwrap().as_deref() == Some("true")).then_some(())
        })
        .await;
        primary
            .execute("app", "update public.granted set note = 'other'")
            .await
            .unwrap();
        primary.execute("app", "vacuum public.granted").await.unwrap();
    };
    let (error, ()) = tokio::join!(reading, cleaning);
    assert_eq!(error.code().unwrap().code(), "40001");
    let error = sessions.trouble("count", error);
    assert!(matches!(error, StoreError::Retryable { .. }), "{error:?}");
    assert!(error.to_string().contains("to go on replaying"), "{error}");
    assert_eq!(
        lease
            .query_one("show statement_timeout", &[])
            .await
            .unwrap()
            .get::<_, &str>(0),
        "5s"
    );
}

#[tokio::test]
async fn a_cut_connection_is_worth_another_try() {
    let two = Two::start().await;
    let proxy = two.pair.proxy_to(two.pair.primary()).unwrap();
    let sessions = sessions(&two.behind(&proxy), "use1", 1);
    let lease = sessions.lease().await.unwrap();
    let statement = lease.batch_execute("select pg_sleep(20)");
    let cut = async {
        let running = "select (count(*) > 0)::text from pg_stat_activity where query like '%pg_sleep(20)%' and pid <> pg_backend_pid()";
        eventually("the statement runs", async || {
            (two.pair.primary().value("postgres", running).await.unwrap().as_deref() == Some("true")).then_some(())
        })
        .await;
        proxy.cut();
    };
    let (answer, ()) = tokio::join!(statement, cut);
    let error = sessions.trouble("read", answer.unwrap_err());
    assert!(matches!(error, StoreError::Retryable { .. }), "{error:?}");
    assert!(error.to_string().contains("cut"), "{error}");
    drop(lease);
    proxy.restore();
    sessions.lease().await.unwrap().batch_execute("select 1").await.unwrap();
}

//! Where sequences stand.

use std::time::Duration;

use crate::setup::{One, catalog, collection};

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until somebody waits for a lock.
async fn somebody_waits(one: &One) {
    let waiting = "select count(*) > 0 from pg_locks where not granted";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while one.server.value("app", waiting).await.unwrap().as_deref() != Some("t") {
        assert!(tokio::time::Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A row that is written between the two readings must not make a sequence look behind its own column.
#[tokio::test]
async fn what_a_sequence_gave_is_read_behind_what_is_in_use() {
    let one = One::start().await;
    one.execute("create table t (id bigserial primary key, v int); insert into t (v) select generate_series(1, 10)")
        .await;
    let sequence = collection(&one.end, "public.t_id_seq").await;
    let holder = one.server.client("app").await.unwrap();
    holder
        .batch_execute("begin; lock table t in access exclusive mode")
        .await
        .unwrap();
    let writing = async {
        somebody_waits(&one).await;
        holder
            .batch_execute("insert into t (v) values (11); commit")
            .await
            .unwrap();
    };
    let (counter, ()) = tokio::join!(catalog(&one.end).counter(&sequence), writing);
    let counter = counter.unwrap();
    assert_eq!((counter.in_use, counter.last), (Some(11), Some(11)));
}

#[tokio::test]
async fn what_is_in_use_is_the_farthest_in_the_direction_of_counting() {
    let one = One::start().await;
    one.execute(
        "create sequence down increment by -2; create table t (id int default nextval('down'), v int); \
         alter sequence down owned by t.id; insert into t (v) select generate_series(1, 3); create sequence free; \
         select nextval('free')",
    )
    .await;
    let read = async |name: &str| {
        let sequence = collection(&one.end, name).await;
        catalog(&one.end).counter(&sequence).await.unwrap()
    };
    let down = read("public.down").await;
    assert_eq!((down.in_use, down.last, down.increment), (Some(-5), Some(-5), -2));
    let free = read("public.free").await;
    assert_eq!((free.in_use, free.last), (None, Some(1)));
}

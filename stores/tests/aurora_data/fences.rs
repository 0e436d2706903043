//! Fences, and the positions of readings.

use std::time::Duration;

use stores::{Key, Reading};

use crate::setup::{One, Two, collection, fence, read, recipe};

#[tokio::test]
async fn a_fence_is_passed_when_the_standby_has_replayed_it_and_not_before() {
    let two = Two::start().await;
    two.execute("create table t (id int primary key, v int); insert into t values (1, 1)")
        .await;
    two.settled().await;
    let here = collection(&two.primary, "public.t").await;
    let there = collection(&two.standby, "public.t").await;
    let made = recipe(&two.primary, &here, 1).await;
    let keys = [Key::int(1), Key::int(2)];

    two.pair.pause_replay().await.unwrap();
    two.execute("insert into t values (2, 2)").await;
    let point = fence(&two.primary).point().await.unwrap();
    assert!(
        !fence(&two.standby)
            .wait(point, Duration::from_millis(300))
            .await
            .unwrap()
    );
    let early = read(&two.standby, &there, &made, &keys).await;
    assert!(early.position.unwrap() < point);
    assert_eq!(early.rows[1], Reading::Absent);

    two.pair.resume_replay().await.unwrap();
    assert!(fence(&two.standby).wait(point, Duration::from_secs(30)).await.unwrap());
    let late = read(&two.standby, &there, &made, &keys).await;
    assert!(late.position.unwrap() >= point);
    assert!(matches!(&late.rows[1], Reading::Present(row) if row.copies == 1));
    assert!(late.snapshot.is_none());
    assert_ne!(late.instance, read(&two.primary, &here, &made, &keys).await.instance);
}

#[tokio::test]
async fn a_primary_tells_a_snapshot_and_no_position_and_is_not_waited_for() {
    let one = One::start().await;
    one.execute("create table t (id int primary key, at timestamptz, v text); insert into t values (1, '2000-01-01 00:00:01+00', 'x')")
        .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let readings = read(&one.end, &table, &made, &[Key::int(1), Key::int(9)]).await;
    assert!(readings.position.is_none());
    let snapshot = readings.snapshot.unwrap();
    let Reading::Present(row) = &readings.rows[0] else {
        panic!()
    };
    assert!(snapshot.sees(row.created_by.unwrap()));
    assert_eq!(
        (row.ended_by, row.values.is_none(), row.changed_at_us),
        (None, true, None)
    );
    assert_eq!(readings.rows[1], Reading::Absent);
    let point = fence(&one.end).point().await.unwrap();
    let error = fence(&one.end).wait(point, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), "unsupported");
}

#[tokio::test]
async fn values_and_change_times_are_told_when_asked_for() {
    let one = One::start().await;
    one.execute(
        "create table t (id int primary key, at timestamptz, plain timestamp, v text); \
         insert into t values (1, '2000-01-01 00:00:01+00', '1969-12-31 23:59:59', 'x'), (2, 'infinity', null, null)",
    )
    .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let keys = [Key::int(2), Key::int(1)];
    let ask = async |column| {
        let request = stores::ReadRequest {
            collection: &table,
            recipe: &made,
            keys: &keys,
            values: true,
            changed_at: Some(column),
        };
        one.end.reread.as_ref().unwrap().read(&request).await
    };
    let row = |reading: &Reading| match reading {
        Reading::Present(row) => row.clone(),
        Reading::Absent => panic!("absent"),
    };
    let readings = ask("at").await.unwrap();
    assert_eq!(row(&readings.rows[0]).changed_at_us, None, "infinity");
    assert_eq!(row(&readings.rows[1]).changed_at_us, Some(946_684_801_000_000));
    let shown = |value: &str| Some(value.to_owned());
    assert_eq!(
        row(&readings.rows[0]).values.unwrap(),
        [shown("2"), shown("infinity"), None, None]
    );
    assert_eq!(
        row(&ask("plain").await.unwrap().rows[1]).changed_at_us,
        Some(-1_000_000)
    );
    assert_eq!(ask("v").await.unwrap_err().kind(), "unsupported");
    assert_eq!(ask("gone").await.unwrap_err().kind(), "unsupported");
}

//! Evidence of what was still in flight.

use stores::{Comparison, Key, Reading};

use crate::setup::{One, Two, collection, read, recipe};

#[tokio::test]
async fn the_version_changes_with_each_write_and_only_then() {
    let one = One::start().await;
    one.execute("create table t (id int primary key, v int); insert into t values (1, 1)")
        .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let version = async || {
        let readings = read(&one.end, &table, &made, &[Key::int(1)]).await;
        match &readings.rows[0] {
            Reading::Present(row) => row.version.clone(),
            Reading::Absent => panic!("absent"),
        }
    };
    let first = version().await;
    assert_eq!(version().await, first);
    one.execute("update t set v = 1").await;
    assert_ne!(version().await, first, "an update to the same value is a write");
    let second = version().await;
    one.execute("delete from t; insert into t values (1, 1)").await;
    assert_ne!(version().await, second);
}

/// A row that a transaction locked, and deleted in a savepoint: its xmax is a multixact. The numbers of multixacts are lower than
/// those of transactions, so a look-up in the snapshot would call it ended.
#[tokio::test]
async fn a_delete_in_a_savepoint_of_an_open_transaction_is_in_flight() {
    let one = One::start().await;
    one.execute("create table t (id int primary key, v int); insert into t values (1, 1), (2, 2)")
        .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let keys = [Key::int(1), Key::int(2)];
    let first = read(&one.end, &table, &made, &keys).await;
    let other = one.server.client("app").await.unwrap();
    other
        .batch_execute("begin; select * from t where id = 1 for key share; savepoint s; delete from t where id = 1")
        .await
        .unwrap();
    let xmax = one
        .server
        .value("app", "select xmax from t where id = 1")
        .await
        .unwrap()
        .unwrap();
    let members = format!("select count(*) from pg_get_multixact_members('{xmax}')");
    assert_eq!(
        one.server.value("app", &members).await.unwrap().as_deref(),
        Some("2"),
        "this is no multixact"
    );
    let again = read(&one.end, &table, &made, &keys).await;
    let mut secondary = first.clone();
    secondary.rows = vec![Reading::Absent, Reading::Absent];
    secondary.snapshot = None;
    secondary.position = Some(stores::Position(1));
    let guard = |index| {
        one.end
            .compare
            .as_ref()
            .expect("compares")
            .guard(&first, &secondary, &again, index)
    };
    assert!(guard(0).is_err(), "the delete may be visible at the standby already");
    assert!(guard(1).is_ok(), "nobody touched this row");
    other.batch_execute("rollback").await.unwrap();
    let later = read(&one.end, &table, &made, &keys).await;
    assert!(
        one.end
            .compare
            .as_ref()
            .expect("compares")
            .guard(&later, &secondary, &later, 0)
            .is_ok(),
        "rolled back"
    );
}

#[tokio::test]
async fn what_the_standby_shows_of_a_later_transaction_is_no_evidence() {
    let two = Two::start().await;
    two.execute("create table t (id int primary key, v int); insert into t values (1, 1)")
        .await;
    two.settled().await;
    let here = collection(&two.primary, "public.t").await;
    let there = collection(&two.standby, "public.t").await;
    let made = recipe(&two.primary, &here, 1).await;
    let keys = [Key::int(1), Key::int(2)];
    let first = read(&two.primary, &here, &made, &keys).await;
    two.execute("update t set v = 2; insert into t values (2, 2)").await;
    two.settled().await;
    let secondary = read(&two.standby, &there, &made, &keys).await;
    let again = read(&two.primary, &here, &made, &keys).await;
    let compare = two.primary.compare.as_ref().expect("compares");
    assert!(matches!(
        compare.compare(&first.rows[0], &secondary.rows[0], &made.columns),
        Comparison::Differs { .. }
    ));
    assert!(compare.guard(&first, &secondary, &again, 0).is_err());
    assert!(compare.guard(&first, &secondary, &again, 1).is_err());
    assert!(compare.guard(&again, &secondary, &again, 0).is_ok());
    assert_eq!(
        compare.compare(&again.rows[0], &secondary.rows[0], &made.columns),
        Comparison::Equal
    );
}

#[tokio::test]
async fn several_rows_of_one_key_are_counted_and_all_digested() {
    let one = One::start().await;
    one.execute("create table t (id int not null, v int); create unique index t_key on t (id); insert into t values (1, 1), (2, 2)")
        .await;
    let table = collection(&one.end, "public.t").await;
    let made = recipe(&one.end, &table, 1).await;
    let before = read(&one.end, &table, &made, &[Key::int(1)]).await;
    // The catalog was read while there was a unique index.
    one.execute("drop index t_key; insert into t values (1, 3), (1, 4)")
        .await;
    let after = read(&one.end, &table, &made, &[Key::int(2), Key::int(1)]).await;
    let copies: Vec<u64> = after
        .rows
        .iter()
        .map(|reading| match reading {
            Reading::Present(row) => row.copies,
            Reading::Absent => 0,
        })
        .collect();
    assert_eq!(copies, [1, 3]);
    let Comparison::Differs { class, .. } =
        one.end
            .compare
            .as_ref()
            .expect("compares")
            .compare(&before.rows[0], &after.rows[1], &made.columns)
    else {
        panic!("three rows are not one");
    };
    assert_eq!(class, stores::Class::Duplicate);
    one.execute("update t set v = 5 where v = 4").await;
    let changed = read(&one.end, &table, &made, &[Key::int(1)]).await;
    assert!(matches!(
        one.end
            .compare
            .as_ref()
            .expect("compares")
            .compare(&after.rows[1], &changed.rows[0], &made.columns),
        Comparison::Differs {
            class: stores::Class::Different,
            ..
        }
    ));
}

//! What an end says of the moment that it shows.

use crate::setup::{One, Two, ranged};

/// Nothing runs by itself here that would make another moment.
const QUIET: [(&str, &str); 1] = [("autovacuum", "off")];

#[tokio::test]
async fn a_moment_lasts_until_something_is_committed_whenever_it_began() {
    let one = One::with(&QUIET).await;
    one.execute("create table t (id int primary key)").await;
    let moment = async || ranged(&one.end).moment().await.unwrap();
    let first = moment().await.expect("nothing is under way");
    assert_eq!(moment().await.as_ref(), Some(&first));

    let older = one.server.client("app").await.unwrap();
    older.batch_execute("begin; insert into t values (1)").await.unwrap();
    assert_eq!(moment().await.as_ref(), Some(&first), "nobody sees it yet");
    older.batch_execute("commit").await.unwrap();
    let second = moment().await.expect("nothing is under way");
    assert_ne!(second, first);

    older.batch_execute("begin; insert into t values (2)").await.unwrap();
    one.execute("insert into t values (3)").await;
    assert_eq!(moment().await, None, "the older one may commit at any time");
    older.batch_execute("commit").await.unwrap();
    let third = moment().await.expect("nothing is under way");
    assert_ne!(third, second);

    one.execute("truncate t").await;
    assert_ne!(moment().await.expect("nothing is under way"), third);
}

#[tokio::test]
async fn a_standby_tells_no_moment() {
    let two = Two::with(&QUIET).await;
    two.execute("create table t (id int primary key)").await;
    two.settled().await;
    assert!(ranged(&two.primary).moment().await.unwrap().is_some());
    assert_eq!(ranged(&two.standby).moment().await.unwrap(), None);
}

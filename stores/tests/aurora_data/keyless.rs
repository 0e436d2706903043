//! Tables without a key: rows are their contents, and there may be several alike.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use stores::aurora::{Auth, CanaryPlace, Config, Endpoint, Endpoints, Tls, open_logical};
use stores::{
    Collection, Comparison, End, Key, KeyShape, KeyedBy, Position, ReadRequest, Reading, Readings, Recipe, Relation,
    Row, RowDigest, ScanPart, Scanned, Snapshot,
};

use crate::setup::{One, Two, collection, comparable, reread};

fn scanned(end: &End) -> &dyn Scanned {
    end.scanned.as_deref().unwrap()
}

async fn keyless(end: &End, name: &str) -> (Collection, Recipe) {
    let table = collection(end, name).await;
    assert!(matches!(table.key, KeyShape::Unusable(_)), "{:?}", table.key);
    let made = scanned(end)
        .recipe(&table, &comparable(&table), 7, KeyedBy::Digest)
        .await;
    (table, made.unwrap())
}

/// How often each digest is listed, over all parts.
async fn counts(end: &End, table: &Collection, recipe: &Recipe, parts: &[ScanPart]) -> BTreeMap<RowDigest, u64> {
    let mut counts = BTreeMap::new();
    for part in parts {
        let listing = scanned(end).scan(table, recipe, part).await.unwrap();
        for (key, digest) in listing.try_collect::<Vec<_>>().await.unwrap() {
            assert_eq!(key, Key::digest(digest));
            *counts.entry(digest).or_default() += 1;
        }
    }
    counts
}

async fn read(end: &End, table: &Collection, recipe: &Recipe, keys: &[Key], values: bool) -> Readings {
    let request = ReadRequest {
        collection: table,
        recipe,
        keys,
        values,
        changed_at: None,
    };
    reread(end).read(&request).await.unwrap()
}

fn row(reading: &Reading) -> &Row {
    match reading {
        Reading::Present(row) => row,
        Reading::Absent => panic!("absent"),
    }
}

#[tokio::test]
async fn copies_are_listed_one_by_one_and_counted_again() {
    let two = Two::start().await;
    two.execute(
        "create table public.log (at int, note text); \
         insert into public.log select 1, 'three' from generate_series(1, 3); \
         insert into public.log values (1, null), (1, ''), (null, null), (null, null)",
    )
    .await;
    two.settled().await;
    let (table, made) = keyless(&two.primary, "public.log").await;
    let mut seen = Vec::new();
    for end in [&two.primary, &two.standby] {
        let parts = scanned(end).parts(&table, 4).await.unwrap();
        let counts = counts(end, &table, &made, &parts).await;
        let mut times: Vec<u64> = counts.values().copied().collect();
        times.sort_unstable();
        assert_eq!(
            times,
            [1, 1, 2, 3],
            "NULL is not the empty text, and rows alike are counted"
        );
        let keys: Vec<Key> = counts.keys().map(|digest| Key::digest(*digest)).collect();
        let readings = read(end, &table, &made, &keys, true).await;
        for (reading, (digest, times)) in readings.rows.iter().zip(&counts) {
            let row = row(reading);
            assert_eq!((row.copies, row.digest), (*times, *digest));
            if *times == 3 {
                let values = row.values.clone().unwrap();
                assert_eq!(values, [Some("1".to_owned()), Some("three".to_owned())]);
            }
        }
        let none = read(end, &table, &made, &[Key::digest(RowDigest(9))], false).await;
        assert_eq!(none.rows, [Reading::Absent]);
        seen.push(counts);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn parts_of_a_table_with_partitions_hold_each_row_once_and_rows_that_come_later() {
    let one = One::start().await;
    one.execute(
        "create table public.log (at int, note text) partition by range (at); \
         create table public.log_low partition of public.log for values from (0) to (15000); \
         create table public.log_high partition of public.log for values from (15000) to (1000000); \
         insert into public.log select n, 'note ' || n from generate_series(0, 19999) n",
    )
    .await;
    let (table, made) = keyless(&one.end, "public.log").await;
    let parts = scanned(&one.end).parts(&table, 5).await.unwrap();
    assert!(parts.len() >= 4, "{parts:?}");
    let counts_of = async || counts(&one.end, &table, &made, &parts).await;
    let all = counts_of().await;
    assert_eq!((all.len(), all.values().sum::<u64>()), (20_000, 20_000));
    one.execute("insert into public.log select n, 'later ' || n from generate_series(20000, 59999) n")
        .await;
    let all = counts_of().await;
    assert_eq!(
        (all.len(), all.values().sum::<u64>()),
        (60_000, 60_000),
        "the last part is open"
    );
    let whole = counts(&one.end, &table, &made, &[ScanPart::WHOLE]).await;
    assert_eq!(whole, all);
    // The server goes to the blocks of a part, and not through the table.
    let plan = one
        .server
        .value(
            "app",
            "explain (format text, costs off) select * from only public.log_low t \
             where t.ctid operator(pg_catalog.>=) '(7,0)'::pg_catalog.tid and t.ctid operator(pg_catalog.<) '(9,0)'::pg_catalog.tid",
        )
        .await
        .unwrap();
    assert!(plan.is_some_and(|plan| plan.contains("Tid Range Scan")));
}

#[tokio::test]
async fn a_count_changes_its_version_with_each_write_of_a_copy_and_only_then() {
    let one = One::start().await;
    one.execute("create table public.log (note text); insert into public.log select 'a' from generate_series(1, 5)")
        .await;
    let (table, made) = keyless(&one.end, "public.log").await;
    let parts = scanned(&one.end).parts(&table, 1).await.unwrap();
    let digest = *counts(&one.end, &table, &made, &parts)
        .await
        .first_key_value()
        .unwrap()
        .0;
    let version = async || {
        let readings = read(&one.end, &table, &made, &[Key::digest(digest)], false).await;
        let row = row(&readings.rows[0]).clone();
        (row.copies, row.version)
    };
    let first = version().await;
    assert_eq!((version().await, first.0), (first.clone(), 5));
    let an = "(select ctid from public.log where note = 'a' limit 1)";
    one.execute(&format!("update public.log set note = 'a' where ctid = {an}"))
        .await;
    let second = version().await;
    assert_eq!(second.0, 5);
    assert_ne!(second.1, first.1, "a copy was written");
    one.execute(&format!(
        "delete from public.log where ctid = {an}; insert into public.log values ('a')"
    ))
    .await;
    let third = version().await;
    assert_eq!(third.0, 5);
    assert_ne!(third.1, second.1, "as many as before, and not the same ones");
}

/// A standby shows a delete at once; the primary shows it only when the other synchronous standby has it too.
#[tokio::test]
async fn a_delete_that_the_primary_does_not_show_yet_is_in_flight() {
    let one = One::start().await;
    one.execute("create table public.log (note text); insert into public.log select 'a' from generate_series(1, 5)")
        .await;
    let (table, made) = keyless(&one.end, "public.log").await;
    let parts = scanned(&one.end).parts(&table, 1).await.unwrap();
    let digest = *counts(&one.end, &table, &made, &parts)
        .await
        .first_key_value()
        .unwrap()
        .0;
    let keys = [Key::digest(digest)];
    let first = read(&one.end, &table, &made, &keys, false).await;
    let other = one.server.client("app").await.unwrap();
    let an = "(select ctid from public.log limit 1)";
    let end = |how: &str| format!("begin; {how} delete from public.log where ctid = {an}");
    // Plainly, and as a multixact, which the delete of a locked row in a savepoint leaves.
    for how in ["", "select * from public.log for key share; savepoint s;"] {
        other.batch_execute(&end(how)).await.unwrap();
        let again = read(&one.end, &table, &made, &keys, false).await;
        let mut secondary = first.clone();
        let Reading::Present(shown) = &mut secondary.rows[0] else {
            panic!("absent");
        };
        shown.copies = 4;
        // As of a standby: it tells how far it has come, and no snapshot.
        secondary.position = Some(stores::Position(u64::MAX));
        secondary.snapshot = None;
        let compare = one.end.compare.as_deref().unwrap();
        let seen = compare.compare(&again.rows[0], &secondary.rows[0], &made.columns);
        assert!(matches!(seen, Comparison::Differs { .. }), "{seen:?}");
        assert!(compare.guard(&first, &secondary, &again, 0).is_err(), "{how}");
        other.batch_execute("rollback").await.unwrap();
    }
}

/// Nothing of the primary's rows tells of one more copy that a transaction of the primary is about to make, and the subscriber may show first.
#[tokio::test]
async fn more_copies_than_the_publisher_shows_are_no_evidence_while_a_transaction_goes_on() {
    let endpoints = || Endpoints {
        writer: "postgresql://reader@127.0.0.1:1/app".parse().unwrap(),
        reader: None,
    };
    let config = Config {
        auth: Auth::Trusted,
        tls: Tls::Disable,
        canary: CanaryPlace {
            database: "app".to_owned(),
        },
        relation: Some(Relation::Replicating),
        fence: None,
        writers: None,
        sites: BTreeMap::from(["use1", "usw2"].map(|site| (site.to_owned(), endpoints()))),
    };
    let [publisher, _] = open_logical(&config, ("use1", Endpoint::Writer), ("usw2", Endpoint::Reader)).unwrap();
    let copies = |copies, position, running: Vec<u64>| Readings {
        rows: vec![Reading::Present(Row {
            version: format!("{copies} rows"),
            digest: RowDigest(1),
            columns: Vec::new(),
            values: None,
            changed_at_us: None,
            copies,
            created_by: Some(90),
            ended_by: None,
            committed_at_us: None,
        })],
        position,
        snapshot: Some(Snapshot {
            xmin: running.first().copied().unwrap_or(105),
            xmax: 105,
            running,
        }),
        instance: "one".to_owned(),
    };
    let guard = |here, there, running: &[u64]| {
        let first = copies(here, None, running.to_vec());
        let shown = copies(there, Some(Position(7)), Vec::new());
        publisher.compare.as_deref().unwrap().guard(&first, &shown, &first, 0)
    };
    assert!(guard(3, 4, &[100]).is_err());
    assert!(guard(3, 4, &[]).is_ok(), "nothing went on: it is one too many");
    assert!(guard(4, 3, &[100]).is_ok(), "one that is missing is none to come");
}

//! Rows that are copied out and hashed by driftline.

use stores::{ChunkDigest, DigestMode, Kept, Part, Reading, Recipe};

use crate::parts::{TABLES, buckets, create, ranges, rows};
use crate::setup::{One, Two, collection, list, ranged, read, recipe};

/// More than any part here takes.
const KEEP: usize = 64 << 20;

fn client(recipe: &Recipe) -> Recipe {
    recipe.hashed(DigestMode::Client).expect("hashes here")
}

fn added(rows: impl IntoIterator<Item = u128>) -> ChunkDigest {
    let one = |sum| ChunkDigest { count: 1, sum };
    rows.into_iter().fold(ChunkDigest::default(), |sum, row| {
        sum.merge(one(row), DigestMode::Client)
    })
}

fn of_kept(kept: &Kept) -> ChunkDigest {
    let rows = kept.rows.as_ref().expect("kept");
    added((0..rows.len()).map(|index| rows.digest(index).unwrap().0))
}

#[tokio::test]
async fn copies_of_chunks_add_up_to_the_whole_at_both_ends() {
    let two = Two::start().await;
    two.execute(&create()).await;
    two.settled().await;
    for (name, ..) in TABLES {
        let name = format!("public.{name}");
        let here = collection(&two.primary, &name).await;
        let there = collection(&two.standby, &name).await;
        let made = client(&recipe(&two.primary, &here, 99).await);
        let known = ranged(&two.primary).known_answer(&here, &made).await.unwrap();
        assert_eq!(
            ranged(&two.standby).known_answer(&there, &made).await.unwrap(),
            known,
            "{name}"
        );
        assert!(known > u128::from(u64::MAX), "{name}: 128 bits");
        let whole = ranged(&two.primary).read(&here, &made, &Part::ALL, KEEP).await.unwrap();
        assert_eq!(whole.digest.count, rows(&name), "{name}");
        assert_eq!(of_kept(&whole), whole.digest, "{name}");
        let boundaries = ranged(&two.primary).split(&here, 60).await.unwrap();
        for parts in [ranges(&boundaries), buckets(5)] {
            let mut sum = ChunkDigest::default();
            for part in parts {
                let ours = ranged(&two.primary).read(&here, &made, &part, KEEP).await.unwrap();
                let theirs = ranged(&two.standby).read(&there, &made, &part, KEEP).await.unwrap();
                assert_eq!(
                    (ours.digest, of_kept(&ours)),
                    (theirs.digest, of_kept(&theirs)),
                    "{name}"
                );
                assert_eq!(
                    ranged(&two.standby).digest(&there, &made, &part).await.unwrap(),
                    ours.digest,
                    "{name}"
                );
                let listed = list(&two.primary, &here, &made, &part).await.unwrap();
                assert_eq!(
                    added(listed.iter().map(|(_, digest)| digest.0)),
                    ours.digest,
                    "{name}: listing"
                );
                let kept = ours.rows.unwrap();
                let kept: Vec<_> = (0..kept.len())
                    .map(|index| (kept.key(index).unwrap(), kept.digest(index).unwrap()))
                    .collect();
                assert_eq!(kept, listed, "{name}: what is kept is what is listed");
                for some in listed.chunks(100) {
                    let keys: Vec<_> = some.iter().map(|(key, _)| key.clone()).collect();
                    let again = read(&two.standby, &there, &made, &keys).await;
                    for (reading, (key, digest)) in again.rows.iter().zip(some) {
                        let Reading::Present(row) = reading else {
                            panic!("{name}: {key:?} is not found again")
                        };
                        assert_eq!(row.digest, *digest, "{name}: {key:?} read again");
                        assert_eq!(row.columns.len(), made.columns.len());
                    }
                }
                sum = sum.merge(ours.digest, DigestMode::Client);
            }
            assert_eq!(sum, whole.digest, "{name}");
        }
    }
}

/// One value of each of these types, and another one that is nearly the same.
const NEARLY: &[(&str, &str, &str)] = &[
    ("bool", "true", "false"),
    ("smallint", "1", "-1"),
    ("numeric", "1.0", "1.00"),
    ("float8", "0", "'-0'::float8"),
    ("text", "''", "null"),
    ("varchar(9)", "'a '", "'a'"),
    ("char(4)", "'a'", "'b'"),
    ("bytea", "'\\x00'", "'\\x0000'"),
    ("date", "'0044-03-15 BC'", "'0044-03-15'"),
    ("timestamptz", "'infinity'", "'-infinity'"),
    ("interval", "'1 day'", "'24:00:00'"),
    (
        "uuid",
        "'00112233-4455-6677-8899-aabbccddeeff'",
        "'00112233-4455-6677-8899-aabbccddeefe'",
    ),
    ("json", "'{\"a\":1,\"b\":2}'", "'{\"b\":2,\"a\":1}'"),
    ("jsonb", "'{\"a\":1.0}'", "'{\"a\":1.00}'"),
    ("text[]", "'{a,NULL}'", "'{a,\"NULL\"}'"),
    ("mood", "'calm'", "'wild'"),
    ("pair", "'(1,)'", "'(,1)'"),
    ("even", "2", "4"),
    ("int4range", "'[1,5)'", "'[1,5]'"),
    ("bit(3)", "'101'", "'100'"),
    ("inet", "'10.0.0.1/24'", "'10.0.0.1/32'"),
    ("regclass", "'public.t'::regclass", "'pg_class'::regclass"),
];

#[tokio::test]
async fn every_kind_of_value_reaches_the_digest_and_names_its_column() {
    let one = One::start().await;
    one.execute(
        "create type mood as enum ('calm', 'wild'); create type pair as (a int, b int); create domain even as int check (value % 2 = 0)",
    )
    .await;
    let columns: Vec<String> = NEARLY
        .iter()
        .enumerate()
        .map(|(n, (kind, ..))| format!("c{n} {kind}"))
        .collect();
    one.execute(&format!("create table t (id int primary key, {})", columns.join(", ")))
        .await;
    let values: Vec<String> = NEARLY
        .iter()
        .map(|(kind, value, _)| format!("cast({value} as {kind})"))
        .collect();
    one.execute(&format!(
        "insert into t select i, {} from generate_series(1, 3) i",
        values.join(", ")
    ))
    .await;
    let table = collection(&one.end, "public.t").await;
    let made = client(&recipe(&one.end, &table, 5).await);
    let whole = async || ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap();
    let key = [stores::Key::int(2)];
    let columns = async || match read(&one.end, &table, &made, &key).await.rows.swap_remove(0) {
        Reading::Present(row) => row.columns,
        Reading::Absent => panic!("the row is gone"),
    };
    let (before, columns_before) = (whole().await, columns().await);
    for (n, (kind, value, other)) in NEARLY.iter().enumerate() {
        one.execute(&format!("update t set c{n} = cast({other} as {kind}) where id = 2"))
            .await;
        let after = whole().await;
        assert!(
            after.count == 3 && after.sum != before.sum,
            "{kind}: {value} and {other} look alike"
        );
        let differing: Vec<&String> = columns()
            .await
            .iter()
            .zip(&columns_before)
            .zip(&made.columns)
            .filter(|((now, then), _)| now != then)
            .map(|(_, name)| name)
            .collect();
        assert_eq!(differing, [&format!("c{n}")], "{kind}");
        one.execute(&format!("update t set c{n} = cast({value} as {kind}) where id = 2"))
            .await;
        assert_eq!(whole().await, before, "{kind}: undone");
    }
}

#[tokio::test]
async fn swapped_values_do_not_cancel() {
    let one = One::start().await;
    one.execute("create table t (id int primary key, a int, b int); insert into t select i, i, i from generate_series(1, 1000) i")
        .await;
    let table = collection(&one.end, "public.t").await;
    let made = client(&recipe(&one.end, &table, 5).await);
    let before = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap();
    one.execute("update t set a = case id when 10 then 20 else 10 end where id in (10, 20)")
        .await;
    let after = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap();
    assert!(before.count == after.count && before.sum != after.sum);
}

#[tokio::test]
async fn a_copy_that_is_cut_is_an_error_and_never_a_short_chunk() {
    let two = Two::start().await;
    two.execute("create table t (id int primary key, v text); insert into t select i, repeat('x', 90) from generate_series(1, 60000) i")
        .await;
    let proxy = two.pair.proxy_to(two.pair.primary()).unwrap();
    let end = two.through(proxy.port());
    let table = collection(&end, "public.t").await;
    let made = client(&recipe(&end, &table, 1).await);
    let whole = ranged(&end).read(&table, &made, &Part::ALL, KEEP).await.unwrap();
    assert_eq!(whole.digest.count, 60_000);
    for bytes in [0, 1_000, 500_000, 3_000_000, 6_000_000] {
        proxy.cut_after(bytes);
        match ranged(&end).read(&table, &made, &Part::ALL, KEEP).await {
            Err(error) => assert!(error.is_passing(), "{error}"),
            Ok(kept) => panic!(
                "cut after {bytes} bytes, and {} rows were taken for the whole",
                kept.digest.count
            ),
        }
        proxy.restore();
    }
    assert_eq!(
        ranged(&end).read(&table, &made, &Part::ALL, KEEP).await.unwrap().digest,
        whole.digest
    );
}

#[tokio::test]
async fn an_error_of_the_server_in_mid_copy_is_an_error() {
    let one = One::start().await;
    one.execute(
        "create table t (id int primary key, v int); insert into t select i, i from generate_series(1, 50000) i",
    )
    .await;
    let table = collection(&one.end, "public.t").await;
    let mut made = client(&recipe(&one.end, &table, 1).await);
    let at = made.columns.iter().position(|name| name == "v").unwrap();
    made.forms[at] = "pg_catalog.int4div(1, t.v - 49999)".to_owned();
    let error = ranged(&one.end)
        .read(&table, &made, &Part::ALL, KEEP)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "unsupported", "{error}");
    assert!(error.to_string().contains("22012"), "{error}");
}

#[tokio::test]
async fn rows_that_do_not_fit_are_not_kept_and_are_counted() {
    let one = One::start().await;
    one.execute("create table t (id int primary key, v text); insert into t select i, repeat('x', 90) from generate_series(1, 30000) i")
        .await;
    let table = collection(&one.end, "public.t").await;
    for mode in [DigestMode::Pushdown, DigestMode::Client] {
        let made = recipe(&one.end, &table, 1).await.hashed(mode).unwrap();
        let digest = ranged(&one.end).digest(&table, &made, &Part::ALL).await.unwrap();
        let kept = ranged(&one.end).read(&table, &made, &Part::ALL, KEEP).await.unwrap();
        assert_eq!((kept.digest, kept.rows.map(|rows| rows.len())), (digest, Some(30_000)));
        let dropped = ranged(&one.end).read(&table, &made, &Part::ALL, 10_000).await.unwrap();
        assert!(dropped.digest == digest && dropped.rows.is_none());
    }
}

#[tokio::test]
async fn a_value_that_is_too_wide_is_not_sent() {
    let two = Two::start().await;
    two.execute(
        "create table t (id int primary key, v text); \
         insert into t select i, repeat('x', case i when 7 then 17 << 20 else 3000 end) from generate_series(1, 20) i; \
         create table j (id int primary key, v text[]); alter table j alter v set storage external; \
         insert into j select i, array[repeat('x', case i when 7 then 17 << 20 else 3000 end)] from generate_series(1, 20) i",
    )
    .await;
    let proxy = two.pair.proxy_to(two.pair.primary()).unwrap();
    let end = two.through(proxy.port());
    let table = collection(&end, "public.t").await;
    let made = client(&recipe(&end, &table, 1).await);
    let before = proxy.carried_bytes();
    let wide = ranged(&end).read(&table, &made, &Part::ALL, KEEP).await.unwrap();
    let sent = proxy.carried_bytes() - before;
    assert!(sent < 1 << 20, "{sent} bytes came");
    assert_eq!(wide.digest.count, 20);
    let rows = wide.rows.unwrap();
    for index in 0..20 {
        let again = read(&end, &table, &made, &[rows.key(index).unwrap()]).await;
        assert!(matches!(&again.rows[0], Reading::Present(row) if Some(row.digest) == rows.digest(index)));
    }
    two.execute("update t set v = repeat('y', 17 << 20) where id = 7").await;
    let other = ranged(&end).digest(&table, &made, &Part::ALL).await.unwrap();
    assert!(other.count == 20 && other.sum != wide.digest.sum);

    // Of an array there is no short form.
    let table = collection(&end, "public.j").await;
    let made = client(&recipe(&end, &table, 1).await);
    let before = proxy.carried_bytes();
    let error = ranged(&end).read(&table, &made, &Part::ALL, KEEP).await.unwrap_err();
    assert_eq!(error.kind(), "unsupported", "{error}");
    assert!(error.to_string().contains("16 MB"), "{error}");
    assert!(proxy.carried_bytes() - before < 1 << 20);
}

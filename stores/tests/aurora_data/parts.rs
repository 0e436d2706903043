//! Ranges and buckets: each row in exactly one of them, at both ends alike.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stores::{ChunkDigest, Collection, DigestMode, End, Key, KeyRange, Part, Recipe};

use crate::setup::{One, Two, collection, list, ranged, recipe};

/// Tables of 500 rows with keys of all kinds.
pub(crate) const TABLES: &[(&str, &str, &str)] = &[
    (
        "ints",
        "id int primary key, v text",
        "select i * 7 - 1500, i::text from generate_series(1, 500) i",
    ),
    (
        "bigs",
        "id bigint primary key, v text",
        "select (i - 250) * 36893488147419103, i::text from generate_series(1, 500) i",
    ),
    (
        "texts",
        "id text primary key, v int",
        "select case i % 5 when 0 then chr(228) || i when 1 then 'A' || i when 2 then ' ' || i when 3 then i || '''\\' \
         else 'a' || i end, i from generate_series(1, 500) i",
    ),
    (
        "texts_icu",
        "id text collate \"en-US-x-icu\" primary key, v int",
        "select case i % 3 when 0 then chr(228) || i when 1 then 'A' || i else 'a' || i end, i from generate_series(1, 500) i",
    ),
    (
        "chars",
        "id char(8) primary key, v int",
        "select md5(i::text)::char(4) || i, i from generate_series(1, 500) i",
    ),
    (
        "uuids",
        "id uuid primary key, v int",
        "select md5(i::text)::uuid, i from generate_series(1, 500) i",
    ),
    (
        "numerics",
        "id numeric primary key, v int",
        "select (i - 250) / 7.0, i from generate_series(1, 500) i",
    ),
    (
        "instants",
        "id timestamptz primary key, v int",
        "select case i when 1 then 'infinity'::timestamptz when 2 then '-infinity' else \
         '0044-03-15 BC'::timestamptz + i * interval '9 years 3 days 5.0001 s' end, i from generate_series(1, 500) i",
    ),
    (
        "bytes",
        "id bytea primary key, v int",
        "select decode(md5(i::text), 'hex'), i from generate_series(1, 500) i",
    ),
    (
        "composites",
        "a int, b text, c date, v int, primary key (a, b, c)",
        "select i % 3, 'k' || i % 50, date '2026-01-01' + i, i from generate_series(1, 500) i",
    ),
    (
        "mixed",
        "a int not null, b int not null, v int",
        "select i % 20, i, i from generate_series(1, 500) i",
    ),
    (
        "floats",
        "id float8 primary key, v int",
        "select case i when 1 then 'NaN'::float8 when 2 then '-0' when 3 then '-Infinity' else (i - 250) / 7.0 end, i \
         from generate_series(1, 500) i where i <> 250",
    ),
    (
        "reals",
        "id float4 primary key, v int",
        "select i / 3.0::float4, i from generate_series(1, 499) i",
    ),
    (
        "moods",
        "m mood, d tag, v int, primary key (d, m)",
        "select (array['sad', 'ok', 'happy'])[1 + i % 3]::mood, 't' || i, i from generate_series(1, 499) i",
    ),
    (
        "addresses",
        "a inet, m macaddr, c cidr, t time, z timetz, v int, primary key (a, m, c, t, z)",
        "select '10.0.0.0'::inet + i, '08:00:2b:01:02:03', ('10.' || i % 200 || '.0.0/16')::cidr, '24:00', '12:00+05:30', i \
         from generate_series(1, 499) i",
    ),
    (
        "numbers",
        "o oid, x xid8, l pg_lsn, n name, b varbit, v int, primary key (n, o, x, l, b)",
        "select i, (i::text)::xid8, '0/1'::pg_lsn + i, 'n' || i, i::bit(12)::varbit, i from generate_series(1, 499) i",
    ),
    (
        "thirds",
        "a int not null, b text collate \"C\" not null, c int not null, v int",
        "select i % 7, 'k' || i % 11, i, i from generate_series(1, 499) i",
    ),
    (
        "parted",
        "a int, b date, v int, primary key (b, a)",
        "select i, date '2026-01-01' + i, i from generate_series(1, 500) i",
    ),
    ("nothing", "id int primary key, v int", "select 1, 1 where false"),
];

const TYPES: &str = "create type mood as enum ('sad', 'ok', 'happy'); create domain tag as varchar(9);";

/// Rows of a table.
pub(crate) fn rows(name: &str) -> u64 {
    match name {
        "public.nothing" => 0,
        "public.floats" | "public.reals" | "public.moods" | "public.addresses" | "public.numbers" | "public.thirds" => {
            499
        }
        _ => 500,
    }
}

pub(crate) fn create() -> String {
    let mut sql = String::new();
    for (name, columns, rows) in TABLES {
        let partition = if *name == "parted" {
            "partition by range (b)"
        } else {
            ""
        };
        sql.push_str(&format!("create table {name} ({columns}) {partition};"));
        if *name == "parted" {
            sql.push_str(
                "create table parted_1 partition of parted for values from (minvalue) to ('2026-06-01'); \
                 create table parted_2 partition of parted default;",
            );
        }
        sql.push_str(&format!("insert into {name} {rows};"));
    }
    TYPES.to_owned()
        + &sql
        + "create unique index mixed_key on mixed (a desc, b); create unique index thirds_key on thirds (a, b desc, c)"
}

fn merged(digests: &[ChunkDigest]) -> ChunkDigest {
    let sum = |sum: ChunkDigest, digest: &ChunkDigest| sum.merge(*digest, DigestMode::Pushdown);
    digests.iter().fold(ChunkDigest::default(), sum)
}

async fn digests(end: &End, collection: &Collection, recipe: &Recipe, parts: &[Part]) -> Vec<ChunkDigest> {
    let mut digests = Vec::with_capacity(parts.len());
    for part in parts {
        digests.push(ranged(end).digest(collection, recipe, part).await.unwrap());
    }
    digests
}

pub(crate) fn ranges(boundaries: &[Key]) -> Vec<Part> {
    KeyRange::ALL.cut(boundaries).into_iter().map(Part::Range).collect()
}

pub(crate) fn buckets(of: u32) -> Vec<Part> {
    (0..of).map(|index| Part::Bucket { index, of }).collect()
}

/// All keys in the server's order: a split into chunks of one row.
async fn keys_in_order(end: &End, collection: &Collection) -> Vec<Key> {
    ranged(end).split(collection, 1).await.unwrap()
}

#[tokio::test]
async fn chunks_add_up_to_the_whole_at_both_ends() {
    let two = Two::start().await;
    two.execute(&create()).await;
    two.settled().await;
    for (name, ..) in TABLES {
        let name = format!("public.{name}");
        let here = collection(&two.primary, &name).await;
        let there = collection(&two.standby, &name).await;
        let made = recipe(&two.primary, &here, 99).await;
        let whole = digests(&two.primary, &here, &made, &[Part::ALL]).await[0];
        assert_eq!(whole.count, rows(&name), "{name}");
        let boundaries = ranged(&two.primary).split(&here, 60).await.unwrap();
        assert_eq!(
            boundaries.len(),
            usize::try_from(whole.count.saturating_sub(1) / 60).unwrap(),
            "{name}"
        );
        for parts in [ranges(&boundaries), buckets(5), buckets(1)] {
            let ours = digests(&two.primary, &here, &made, &parts).await;
            let theirs = digests(&two.standby, &there, &made, &parts).await;
            assert_eq!(ours, theirs, "{name}");
            assert_eq!(merged(&ours), whole, "{name}");
        }
        let counts: Vec<u64> = digests(&two.primary, &here, &made, &ranges(&boundaries))
            .await
            .iter()
            .map(|d| d.count)
            .collect();
        assert!(counts.iter().all(|count| *count <= 60), "{name}: {counts:?}");
        for part in ranges(&boundaries).into_iter().chain(buckets(3)).chain([Part::ALL]) {
            let mut sum = ChunkDigest::default();
            for (_, digest) in list(&two.standby, &there, &made, &part).await.unwrap() {
                sum = sum.merge(
                    ChunkDigest {
                        count: 1,
                        sum: digest.0,
                    },
                    DigestMode::Pushdown,
                );
            }
            assert_eq!(
                sum,
                digests(&two.primary, &here, &made, &[part]).await[0],
                "{name}: listing"
            );
        }
    }
}

#[test]
fn any_boundaries_cut_a_table_into_disjoint_parts() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (one, tables) = runtime.block_on(async {
        let one = One::start().await;
        one.execute(&create()).await;
        let mut tables = Vec::new();
        for (name, ..) in TABLES {
            let table = collection(&one.end, &format!("public.{name}")).await;
            let made = recipe(&one.end, &table, 3).await;
            let keys = keys_in_order(&one.end, &table).await;
            tables.push((table, made, keys));
        }
        (one, tables)
    });
    let mut runner = TestRunner::new(Config {
        cases: 40,
        failure_persistence: None, // a table with other contents would be tried next time
        ..Config::default()
    });
    let strategy = (
        0..TABLES.len(),
        proptest::collection::btree_set(0usize..498, 0..8),
        any::<bool>(),
    );
    runner
        .run(&strategy, |(table, places, delete)| {
            let (table, made, keys) = &tables[table];
            let boundaries: Vec<Key> = places.iter().filter_map(|place| keys.get(*place).cloned()).collect();
            runtime.block_on(async {
                // A boundary stays one when its row is gone.
                if delete && let Some(boundary) = boundaries.first() {
                    let count = delete_and_count(&one, table, made, boundary, &boundaries).await;
                    prop_assert_eq!(count.0, count.1);
                }
                let whole = digests(&one.end, table, made, &[Part::ALL]).await[0];
                prop_assert_eq!(
                    merged(&digests(&one.end, table, made, &ranges(&boundaries)).await),
                    whole
                );
                Ok(())
            })
        })
        .unwrap();
}

/// The rows after a deletion exactly at a boundary: all together, and by range. The row is put back.
async fn delete_and_count(
    one: &One,
    table: &Collection,
    made: &Recipe,
    boundary: &Key,
    boundaries: &[Key],
) -> (ChunkDigest, ChunkDigest) {
    let client = one.server.client("app").await.unwrap();
    let condition: Vec<String> = made
        .key_columns
        .iter()
        .zip(&boundary.0)
        .map(|(column, value)| {
            let value = match value {
                stores::KeyValue::Int(value) => value.to_string(),
                stores::KeyValue::Text(value) => format!("'{}'", value.replace('\'', "''")),
                stores::KeyValue::Bytes(value) => {
                    format!(
                        "decode('{}', 'hex')",
                        value.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                    )
                }
            };
            format!("{column} = {value}")
        })
        .collect();
    let condition = condition.join(" and ");
    let keep = format!(
        "create temp table kept as select * from {} where {condition}",
        table.name
    );
    client
        .batch_execute(&format!("{keep}; delete from {} where {condition}", table.name))
        .await
        .unwrap();
    let whole = digests(&one.end, table, made, &[Part::ALL]).await[0];
    let parts = merged(&digests(&one.end, table, made, &ranges(boundaries)).await);
    assert_eq!(whole.count, rows(&table.name) - 1, "{}: {condition}", table.name);
    client
        .batch_execute(&format!("insert into {} select * from kept", table.name))
        .await
        .unwrap();
    (whole, parts)
}

#[tokio::test]
async fn a_large_table_is_cut_by_a_sample() {
    let one = One::start().await;
    one.execute(
        "create table large (id int primary key, v int); insert into large select i * 3, i from generate_series(1, 60000) i; \
         analyze large; update pg_class set reltuples = 3000000 where relname = 'large'",
    )
    .await;
    let table = collection(&one.end, "public.large").await;
    assert_eq!(table.rows_estimate, Some(3_000_000));
    let boundaries = ranged(&one.end).split(&table, 100_000).await.unwrap();
    assert!(!boundaries.is_empty() && boundaries.len() < 60, "{}", boundaries.len());
    assert!(boundaries.is_sorted_by(|a, b| a < b));
    let made = recipe(&one.end, &table, 5).await;
    let whole = digests(&one.end, &table, &made, &[Part::ALL]).await[0];
    assert_eq!(
        merged(&digests(&one.end, &table, &made, &ranges(&boundaries)).await),
        whole
    );
}

#[tokio::test]
async fn a_range_of_a_key_of_mixed_directions_is_found_through_its_index() {
    let one = One::start().await;
    one.execute(
        "create table mixed (a int not null, b int not null, v text); create unique index on mixed (a desc, b); \
         insert into mixed select i / 10, i, repeat('x', 100) from generate_series(1, 60000) i; analyze mixed",
    )
    .await;
    let table = collection(&one.end, "public.mixed").await;
    let made = recipe(&one.end, &table, 5).await;
    let boundaries = ranged(&one.end).split(&table, 3_000).await.unwrap();
    assert!(
        boundaries.len() >= 8,
        "{} boundaries are not looked at",
        boundaries.len()
    );
    ranged(&one.end).serves(&table, &made, &boundaries).await.unwrap();
    // The look itself: without the index, it is refused.
    one.execute("set statement_timeout = 0; alter role reader set enable_indexscan = off; alter role reader set enable_bitmapscan = off; \
                 alter role reader set enable_indexonlyscan = off; select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'")
        .await;
    let mut refused = ranged(&one.end).serves(&table, &made, &boundaries).await;
    if refused.as_ref().is_err_and(stores::StoreError::is_passing) {
        refused = ranged(&one.end).serves(&table, &made, &boundaries).await;
    }
    assert_eq!(refused.unwrap_err().kind(), "unsupported");
}

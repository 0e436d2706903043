//! What there is to compare, what cannot be, and why.

use stores::{Collection, KeyShape};

use crate::setup::{One, catalog, collection};

fn order(collection: &Collection) -> Option<String> {
    match &collection.key {
        KeyShape::Usable { order_identity, .. } => order_identity.clone(),
        KeyShape::Unusable(reason) => panic!("{}: {reason}", collection.name),
    }
}

#[tokio::test]
async fn every_table_is_listed_and_what_cannot_be_read_says_why() {
    let one = One::start().await;
    one.execute(
        "create schema driftline; create table driftline.canary (stream text primary key); create table driftline.other (id int); \
         create table plain (id int primary key); create unlogged table quick (id int primary key); \
         create temp table mine (id int); create materialized view seen as select 1 as id; create view looked as select 1 as id; \
         create table root (id int, at date, primary key (id, at)) partition by range (at); \
         create table root_1 partition of root for values from ('2026-01-01') to ('2027-01-01') partition by range (id); \
         create table root_1_1 partition of root_1 for values from (0) to (1000); \
         insert into root select i, '2026-02-02' from generate_series(1, 500) i; analyze root; \
         create table half (id int primary key) partition by range (id); \
         create unlogged table half_1 partition of half for values from (0) to (9); \
         create table parent (id int primary key); create table child (primary key (id)) inherits (parent); \
         create extension postgres_fdw; create server there foreign data wrapper postgres_fdw; \
         create foreign table far (id int) server there; \
         create table hidden (id int primary key); alter table hidden enable row level security; \
         create table withheld (id int primary key)",
    )
    .await;
    one.server
        .execute(
            "app",
            "revoke pg_read_all_data from reader; grant usage on schema public, driftline to reader; \
             grant select on all tables in schema public, driftline to reader; revoke all on withheld from reader",
        )
        .await
        .unwrap();
    let listed = catalog(&one.end).collections().await.unwrap();
    let names: Vec<&str> = listed.iter().map(|collection| collection.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "driftline.canary",
            "driftline.other",
            "public.child",
            "public.far",
            "public.half",
            "public.hidden",
            "public.parent",
            "public.plain",
            "public.quick",
            "public.root",
            "public.seen",
            "public.withheld"
        ]
    );
    let reason = |name: &str| {
        let found = listed
            .iter()
            .find(|collection| collection.name == format!("public.{name}"))
            .unwrap();
        found.unreadable.clone().unwrap_or_default()
    };
    assert!(reason("far").contains("foreign"));
    assert!(reason("half").contains("unlogged"));
    assert!(reason("quick").contains("unlogged"));
    assert!(reason("seen").contains("materialized view"));
    assert!(reason("hidden").contains("row-level security") && reason("hidden").contains("bypassrls"));
    assert!(reason("withheld").contains("grant select"));
    for name in ["plain", "parent", "child", "root"] {
        assert_eq!(reason(name), "", "{name}");
    }
    let canaries: Vec<&str> = listed
        .iter()
        .filter(|collection| collection.is_canary)
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(canaries, ["driftline.canary"]);
    let root = listed
        .iter()
        .find(|collection| collection.name == "public.root")
        .unwrap();
    assert_eq!(
        (root.kind.as_str(), root.rows_estimate),
        ("partitioned table", Some(500))
    );
    assert!(root.bytes.unwrap() > 8192);
    let plain = listed
        .iter()
        .find(|collection| collection.name == "public.plain")
        .unwrap();
    assert_eq!(plain.rows_estimate, None, "never analysed");
}

#[tokio::test]
async fn the_rows_of_children_by_inheritance_are_not_those_of_the_parent() {
    let one = One::start().await;
    one.execute(
        "create table parent (id int primary key); create table child (primary key (id)) inherits (parent); \
         insert into parent values (1); insert into child values (1), (2)",
    )
    .await;
    for (name, count) in [("public.parent", 1), ("public.child", 2)] {
        let table = collection(&one.end, name).await;
        let made = crate::setup::recipe(&one.end, &table, 1).await;
        let all = crate::setup::digest(&one.end, name, &made, &stores::Part::ALL)
            .await
            .unwrap();
        assert_eq!(all.count, count, "{name}");
    }
}

/// Definition, and the key that is chosen or a word of the reason why there is none.
const KEYS: &[(&str, Result<&[&str], &str>)] = &[
    ("id int primary key, u int not null unique", Ok(&["id"])),
    ("a int, b int, primary key (b, a)", Ok(&["b", "a"])),
    (
        "a int not null, b int not null, c int not null unique, unique (a, b)",
        Ok(&["c"]),
    ),
    ("id int", Err("add a primary key")),
    ("id int unique", Err("may be NULL")),
    ("id int not null, unique (id) deferrable", Err("add a primary key")),
    ("id float8 primary key", Ok(&["id"])),
    ("id interval primary key", Err("24:00")),
    ("id citext primary key", Err("operator class")),
    ("id text collate loose primary key", Err("holds different texts equal")),
    ("id interval primary key, n numeric not null unique", Ok(&["n"])),
    ("id posint primary key, t tag not null", Ok(&["id"])),
    ("id tag primary key", Ok(&["id"])),
    ("id inet primary key", Ok(&["id"])),
    ("id jsonb primary key", Err("not supported in keys")),
    ("id int[] primary key", Err("not supported in keys")),
    ("id mood primary key", Ok(&["id"])),
    ("id int not null, v int, unique (id) include (v)", Ok(&["id"])),
];

#[tokio::test]
async fn the_best_key_is_chosen_and_a_bad_one_never() {
    let one = One::start().await;
    one.execute(
        "create extension citext; create type mood as enum ('a'); create domain posint as int; create domain tag as varchar(9); \
         create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    )
    .await;
    for (number, (columns, _)) in KEYS.iter().enumerate() {
        one.execute(&format!("create table k{number:02} ({columns})")).await;
    }
    one.execute(
        "create table x1 (id int not null, v int not null); create unique index on x1 (id) where v > 0; \
         create table x2 (id int not null); create unique index on x2 ((id + 1)); \
         create table x3 (id text not null); create unique index on x3 (id text_pattern_ops); \
         create table x4 (id text not null); create unique index on x4 (id collate \"POSIX\")",
    )
    .await;
    for (number, (columns, wanted)) in KEYS.iter().enumerate() {
        let found = collection(&one.end, &format!("public.k{number:02}")).await;
        match (&found.key, wanted) {
            (KeyShape::Usable { columns: chosen, .. }, Ok(wanted)) => assert_eq!(chosen, wanted, "{columns}"),
            (KeyShape::Unusable(reason), Err(word)) => assert!(reason.contains(word), "{columns}: {reason}"),
            (found, _) => panic!("{columns}: {found:?}"),
        }
    }
    for name in ["x1", "x2", "x3", "x4"] {
        let found = collection(&one.end, &format!("public.{name}")).await;
        assert!(matches!(found.key, KeyShape::Unusable(_)), "{name}: {:?}", found.key);
    }
}

#[tokio::test]
async fn the_order_of_text_is_named_by_provider_and_version() {
    let one = One::start().await;
    one.execute(
        "create table c (id text collate \"C\" primary key); create table p (id text collate \"POSIX\" primary key); \
         create table icu (id text collate \"en-US-x-icu\" primary key); create table plain (id int primary key); \
         create table two (a int, b text collate \"C\", primary key (a, b))",
    )
    .await;
    let order = async |name: &str| order(&collection(&one.end, &format!("public.{name}")).await);
    assert_eq!(order("c").await.as_deref(), Some("text(C)"));
    assert_eq!(order("p").await.as_deref(), Some("text(C)"));
    assert_eq!(order("plain").await.as_deref(), Some("int8"));
    assert_eq!(order("two").await.as_deref(), Some("int8, text(C)"));
    let icu = order("icu").await.unwrap();
    let version = one
        .server
        .value(
            "app",
            "select pg_collation_actual_version(oid) from pg_collation where collname = 'en-US-x-icu'",
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(icu, format!("text(icu en-US {version})"));
}

#[tokio::test]
async fn columns_are_shown_as_the_server_has_them_and_dropped_ones_are_not() {
    let one = One::start().await;
    let many: Vec<String> = (0..150)
        .map(|number| format!("c{number} int default {number}"))
        .collect();
    one.execute(&format!(
        "create table wide (id int primary key, gone text, n numeric(10,2) not null, g int generated always as (id + 1) stored, {}); \
         alter table wide drop column gone; insert into wide (id, n) values (1, 1.5); \
         create table \"odd.name\" (\"a.b\" int primary key)",
        many.join(", ")
    ))
    .await;
    let wide = collection(&one.end, "public.wide").await;
    assert_eq!(wide.columns.len(), 153);
    assert_eq!(
        (wide.columns[1].type_name.as_str(), wide.columns[1].nullable),
        ("numeric(10,2)", false)
    );
    assert_eq!(wide.columns[2].name, "g");
    let made = crate::setup::recipe(&one.end, &wide, 1).await;
    let before = crate::setup::digest(&one.end, "public.wide", &made, &stores::Part::ALL)
        .await
        .unwrap();
    one.execute("update wide set c149 = -1").await;
    assert_ne!(
        crate::setup::digest(&one.end, "public.wide", &made, &stores::Part::ALL)
            .await
            .unwrap(),
        before
    );
    let odd = collection(&one.end, "public.odd.name").await;
    let made = crate::setup::recipe(&one.end, &odd, 1).await;
    let none = crate::setup::digest(&one.end, "public.odd.name", &made, &stores::Part::ALL)
        .await
        .unwrap();
    assert_eq!((none.count, none.sum), (0, 0));
}

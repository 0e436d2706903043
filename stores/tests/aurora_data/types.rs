//! Every type that a column may have, in the body of a row: between servers that were loaded apart, a primary and its standby, and
//! publishers and subscribers of several versions.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::{LogicalPair, PgServer};
use stores::{Class, DigestMode, End, Part};

use crate::setup::{One, Two, collection, digest, end_of, judged, ranged, recipe};

/// Type, a value, and another one that some formatting or some `=` would take for the same.
const VALUES: &[(&str, &str, &str)] = &[
    ("bool", "true", "false"),
    ("\"char\"", "a", "A"),
    ("name", "a", "a "),
    ("int2", "-32768", "32767"),
    ("int4", "-2147483648", "2147483647"),
    ("int8", "-9223372036854775808", "9223372036854775807"),
    ("int2vector", "1 2", "1 3"),
    ("oidvector", "1 2", "1 3"),
    ("oid", "0", "4294967295"),
    ("xid", "3", "4294967295"),
    ("xid8", "3", "18446744073709551615"),
    ("cid", "3", "4"),
    ("tid", "(0,1)", "(1,1)"),
    ("float4", "0", "-0"),
    ("float8", "0", "-0"),
    ("numeric", "NaN", "Infinity"),
    ("money", "1", "2"),
    ("text", "a", "a "),
    ("varchar", "", " "),
    ("bpchar", "a", "a "),
    ("bytea", "\\x00", "\\x0000"),
    ("date", "infinity", "-infinity"),
    ("time", "23:59:59.999999", "24:00"),
    ("timetz", "12:00+00", "13:00+01"),
    ("timestamp", "0044-03-15 BC", "0044-03-15"),
    (
        "timestamptz",
        "2026-11-21 00:00:00.000001+00",
        "2026-11-21 00:00:00.000002+00",
    ),
    ("interval", "1 month", "30 days"),
    (
        "uuid",
        "00112233-4455-6677-8899-aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddeefe",
    ),
    ("json", "{\"a\":1}", "{\"a\": 1}"),
    ("jsonb", "[1]", "[1.0]"),
    ("jsonpath", "$.a", "$.b"),
    ("xml", "<a/>", "<a></a>"),
    ("bit(4)", "1011", "1010"),
    ("varbit", "101", "1010"),
    ("tsvector", "'a':1", "'a':1A"),
    ("tsquery", "'a' & 'b'", "'a' | 'b'"),
    ("inet", "10.0.0.1/8", "10.0.0.1/9"),
    ("cidr", "10.0.0.0/8", "10.0.0.0/9"),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    ("macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    ("point", "(0,0)", "(-0,0)"),
    ("line", "{1,2,3}", "{1,2,4}"),
    ("lseg", "[(1,2),(3,4)]", "[(3,4),(1,2)]"),
    ("box", "(3,4),(1,2)", "(3,4),(1,1)"),
    ("path", "((1,2),(3,4))", "[(1,2),(3,4)]"),
    ("polygon", "((0,0),(1,1),(2,0))", "((1,1),(2,0),(0,0))"),
    ("circle", "<(1,2),3>", "<(1,2),4>"),
    ("pg_lsn", "0/1", "1/0"),
    ("txid_snapshot", "10:20:10,14", "10:20:10,15"),
    ("pg_snapshot", "10:20:10,14", "10:20:10,15"),
    ("refcursor", "a", "b"),
    ("regclass", "pg_class", "pg_proc"),
    ("regtype", "int4", "int8"),
    ("regrole", "postgres", "reader"),
    ("regnamespace", "public", "pg_catalog"),
    ("regconfig", "english", "simple"),
    ("regdictionary", "english_stem", "simple"),
    ("regprocedure", "pg_catalog.abs(int4)", "pg_catalog.abs(int8)"),
    ("regoperator", "pg_catalog.+(int4,int4)", "pg_catalog.+(int8,int8)"),
    ("regcollation", "\"C\"", "\"POSIX\""),
    ("int4range", "[1,3)", "[1,3]"),
    ("int8range", "empty", "[1,3)"),
    ("numrange", "[1,3)", "[1.0,3)"),
    ("tsrange", "[2026-01-01,)", "(2026-01-01,)"),
    ("tstzrange", "(,)", "empty"),
    ("daterange", "[2026-01-01,2026-01-03)", "[2026-01-01,2026-01-04)"),
    ("int4multirange", "{}", "{[1,3)}"),
    ("int8multirange", "{[1,3)}", "{[1,3),[5,6)}"),
    ("nummultirange", "{[1,3)}", "{[1.0,3)}"),
    ("tsmultirange", "{[2026-01-01,)}", "{(2026-01-01,)}"),
    ("tstzmultirange", "{(,)}", "{}"),
    (
        "datemultirange",
        "{[2026-01-01,2026-01-03)}",
        "{[2026-01-01,2026-01-04)}",
    ),
    ("int4[]", "{1,2}", "{{1,2}}"),
    ("numeric[]", "{1.0}", "{1.00}"),
    ("timestamptz[]", "{infinity}", "{-infinity}"),
    ("text[]", "{NULL}", "{\"NULL\"}"),
    ("point[]", "{\"(0,0)\"}", "{\"(0,-0)\"}"),
    ("int4range[]", "{\"[1,3)\"}", "{\"[1,4)\"}"),
    ("numrange[]", "{\"[1,3)\"}", "{\"[1.0,3)\"}"),
    ("regclass[]", "{pg_class}", "{pg_proc}"),
    ("regproc", "pg_catalog.now", "pg_catalog.timeofday"),
    ("regoper", "pg_catalog.|/", "pg_catalog.||/"),
    ("aclitem", "postgres=r/postgres", "postgres=w/postgres"),
    ("aclitem[]", "{postgres=r/postgres}", "{postgres=rw/postgres}"),
    // A user's own types, and those of extensions.
    ("mood", "sad", "ok"),
    ("mood[]", "{sad,ok}", "{ok,ok}"),
    ("moodrange", "[sad,ok]", "[sad,sad]"),
    ("moodmultirange", "{[sad,ok]}", "{[sad,sad]}"),
    ("positive", "5", "6"),
    ("positive[]", "{1,2}", "{1,3}"),
    ("tags", "{a,NULL}", "{a,\"NULL\"}"),
    ("tagged", "{\"(,)\"}", "{NULL}"),
    ("pair", "(1,a)", "(1,\"a \")"),
    ("pair[]", "{\"(1,a)\",NULL}", "{\"(1,a)\",\"(,)\"}"),
    ("pairrange", "[\"(1,a)\",\"(2,b)\")", "[\"(1,a)\",\"(2,b)\"]"),
    ("pairrange[]", "{\"[\\\"(1,a)\\\",)\"}", "{\"[\\\"(1,b)\\\",)\"}"),
    ("pairmultirange", "{[\"(1,a)\",\"(2,b)\")}", "{[\"(1,a)\",\"(2,b)\"]}"),
    (
        "nested",
        "(\"(1,a)\",sad,7,pg_class,\"{sad,ok}\")",
        "(\"(1,a)\",sad,7,pg_proc,\"{sad,ok}\")",
    ),
    (
        "nested[]",
        "{\"(\\\"(1,a)\\\",sad,7,pg_class,{sad})\"}",
        "{\"(\\\"(1,a)\\\",sad,7,pg_class,{ok})\"}",
    ),
    ("citext", "Abc", "abc"),
    ("citext[]", "{Abc}", "{abc}"),
    ("hstore", "a=>1", "a=>NULL"),
    ("hstore[]", "{\"\\\"a\\\"=>\\\"1\\\"\"}", "{\"\\\"a\\\"=>\\\"2\\\"\"}"),
    ("ltree", "a.b", "a.B"),
    ("lquery", "a.*", "a.*{1}"),
    ("ltxtquery", "a & b", "a | b"),
    ("cube", "(1,2)", "(1,2),(1,3)"),
];

/// The user's types, made in two orders, so that their object IDs differ. Multiranges come with their ranges, since version 14.
const TYPES: [&str; 2] = [
    "create type mood as enum ('sad', 'ok', 'happy'); create domain positive as int check (value > 0); \
     create type pair as (x int, y text); create domain tags as text[]; create domain tagged as pair[]; \
     create type nested as (p pair, m mood, d positive, r regclass, ms mood[]); \
     create type moodrange as range (subtype = mood); create type pairrange as range (subtype = pair); \
     create extension citext; create extension hstore; create extension ltree; create extension cube",
    "create type another as (x int); create extension cube; create extension ltree; create extension hstore; \
     create extension citext; create type pair as (x int, y text); create type pairrange as range (subtype = pair); \
     create domain positive as int check (value > 0); create type mood as enum ('sad', 'happy'); \
     alter type mood add value 'ok' before 'happy'; create type moodrange as range (subtype = mood); \
     create type nested as (p pair, m mood, d positive, r regclass, ms mood[]); \
     create domain tagged as pair[]; create domain tags as text[]",
];

/// Whether a column of this type can be compared at servers of `version`: older ones have no such type, or no binary form of it.
fn is_known(type_name: &str, version: u16) -> bool {
    version >= 14 || !(type_name.contains("multirange") || type_name == "cube")
}

/// Built-in types that are refused, and said so: those without a send function, and what the server keeps for its own statistics.
const REFUSED: &[&str] = &[
    "gtsvector",
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
];

fn column(number: usize) -> String {
    format!("c{number}")
}

/// The columns that servers of `version` and later have.
fn compared(version: u16) -> impl Iterator<Item = (String, &'static (&'static str, &'static str, &'static str))> {
    VALUES
        .iter()
        .enumerate()
        .filter(move |(_, value)| is_known(value.0, version))
        .map(|(number, value)| (column(number), value))
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The table, and its rows: one of values, one of NULLs.
fn create(version: u16) -> [String; 2] {
    let columns: Vec<String> = compared(version)
        .map(|(name, value)| format!("{name} {}", value.0))
        .collect();
    let values: Vec<String> = compared(version).map(|(_, value)| quoted(value.1)).collect();
    let names: Vec<String> = compared(version).map(|(name, _)| name).collect();
    [
        format!("create table every_type (id int primary key, {})", columns.join(", ")),
        format!(
            "insert into every_type (id, {}) values (1, {}); insert into every_type (id) values (2)",
            names.join(", "),
            values.join(", ")
        ),
    ]
}

fn create_all(version: u16, types: &str) -> String {
    let [table, rows] = create(version);
    format!("{types}; {table}; {rows}")
}

/// Rows are hashed by the server, or copied out in binary form and hashed here.
const MODES: [DigestMode; 2] = [DigestMode::Pushdown, DigestMode::Client];

/// Both ends hold the same; then each column of `server`, behind `b`, is changed to what some tool takes for the same, and to NULL.
async fn each_change_is_found(version: u16, a: &End, b: &End, server: &PgServer) {
    for mode in MODES {
        each_change_is_found_by(mode, version, a, b, server).await;
    }
}

async fn each_change_is_found_by(mode: DigestMode, version: u16, a: &End, b: &End, server: &PgServer) {
    let here = collection(a, "public.every_type").await;
    let made = recipe(a, &here, 42).await.hashed(mode).unwrap();
    assert_eq!(
        made.columns.len(),
        compared(version).count() + 1,
        "every column is compared"
    );
    let there = collection(b, "public.every_type").await;
    let known = ranged(a).known_answer(&here, &made).await.unwrap();
    assert_eq!(ranged(b).known_answer(&there, &made).await.unwrap(), known);
    let equal = ranged(a).digest(&here, &made, &Part::ALL).await.unwrap();
    assert_eq!(equal.count, 2);
    let apart = judged(a, b, &here, &made).await;
    assert!(apart.is_empty(), "equal pairs are quiet, {mode:?}: {:?}", named(&apart));
    assert_eq!(ranged(b).digest(&there, &made, &Part::ALL).await.unwrap(), equal);
    let client = server.client("app").await.unwrap();
    for (name, (type_name, first, second)) in compared(version) {
        for change in [quoted(second), "null".to_owned()] {
            let sql = format!("update every_type set {name} = {change} where id = 1");
            client.batch_execute(&sql).await.unwrap();
            let changed = ranged(b).digest(&there, &made, &Part::ALL).await.unwrap();
            assert_ne!(changed, equal, "{type_name} {first} -> {change}, {mode:?}");
        }
        let found = judged(a, b, &here, &made).await;
        assert_eq!(found, [(Class::Different, name.clone())], "{type_name}, {mode:?}");
        let back = format!("update every_type set {name} = {} where id = 1", quoted(first));
        client.batch_execute(&back).await.unwrap();
    }
    assert_eq!(ranged(b).digest(&there, &made, &Part::ALL).await.unwrap(), equal);
}

/// Columns by the names of their types.
fn named(found: &[(Class, String)]) -> Vec<String> {
    let of = |name: &str| {
        let number = name.strip_prefix('c').and_then(|number| number.parse::<usize>().ok());
        number
            .and_then(|number| VALUES.get(number))
            .map_or(name, |value| value.0)
            .to_owned()
    };
    found
        .iter()
        .flat_map(|(_, columns)| columns.split(',').map(of))
        .collect()
}

#[tokio::test]
async fn each_change_of_each_type_is_found_on_an_independent_copy() {
    let (a, b) = futures::future::join(
        One::start(),
        One::with(&[("datestyle", "German"), ("bytea_output", "escape")]),
    )
    .await;
    for (one, types) in [(&a, TYPES[0]), (&b, TYPES[1])] {
        // A label that was added can be used by the next transaction only.
        one.execute(types).await;
        one.execute(&create(15).join(";")).await;
    }
    each_change_is_found(15, &a.end, &b.end, &b.server).await;
}

/// Between a publisher and a subscriber of these versions.
async fn each_change_is_found_on_a_subscriber(from: Option<u16>, to: Option<u16>) {
    let pair = LogicalPair::start("app", from, to).await.unwrap();
    let servers = [pair.publisher(), pair.subscriber()];
    let oldest = from.unwrap_or(15).min(to.unwrap_or(15));
    let [table, rows] = create(oldest);
    let secret = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    for (server, types) in servers.into_iter().zip(TYPES) {
        ends.push(end_of(&secret, server).await);
        server.execute("app", &format!("{types}; {table}")).await.unwrap();
    }
    pair.link("table every_type").await.unwrap();
    pair.publisher().execute("app", &rows).await.unwrap();
    pair.wait_applied(Duration::from_secs(30)).await.unwrap();
    each_change_is_found(oldest, &ends[0], &ends[1], pair.subscriber()).await;
    drop(ends);
    pair.shutdown().await;
}

#[tokio::test]
async fn each_change_of_each_type_is_found_on_a_logical_copy() {
    each_change_is_found_on_a_subscriber(None, None).await;
}

#[tokio::test]
async fn each_change_of_each_type_is_found_on_a_logical_copy_of_another_version() {
    each_change_is_found_on_a_subscriber(Some(13), Some(17)).await;
    each_change_is_found_on_a_subscriber(None, Some(18)).await;
    each_change_is_found_on_a_subscriber(Some(14), Some(16)).await;
}

#[tokio::test]
async fn a_standby_gives_the_primarys_digest_for_every_type() {
    let two = Two::start().await;
    two.execute(&create_all(15, TYPES[0])).await;
    two.settled().await;
    let here = collection(&two.primary, "public.every_type").await;
    let there = collection(&two.standby, "public.every_type").await;
    assert_eq!(here.columns, there.columns);
    assert_eq!(here.key, there.key);
    for mode in MODES {
        let made = recipe(&two.primary, &here, 43).await.hashed(mode).unwrap();
        let known = ranged(&two.primary).known_answer(&here, &made).await.unwrap();
        assert_eq!(ranged(&two.standby).known_answer(&there, &made).await.unwrap(), known);
        let equal = digest(&two.primary, "public.every_type", &made, &Part::ALL)
            .await
            .unwrap();
        assert_eq!(equal.count, 2);
        assert_eq!(
            digest(&two.standby, "public.every_type", &made, &Part::ALL)
                .await
                .unwrap(),
            equal,
            "{mode:?}"
        );
    }
}

/// Kinds of types that a user makes, as the documentation calls them.
const KINDS: [&str; 6] = ["array", "enum", "domain", "composite", "range", "multirange"];

/// `docs/aurora.md` names every type that is compared here in the rows of those that are, and every one that is refused in the others.
#[test]
fn the_documentation_names_every_type_as_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/aurora.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("| types | compared as |").nth(1).unwrap();
    let (mut compared, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let [_, types, how, _] = row.split('|').collect::<Vec<_>>().try_into().unwrap();
        let names = types
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|name| name.trim_matches('"').to_owned());
        let list = if how.contains("not compared") {
            &mut refused
        } else {
            &mut compared
        };
        for name in names {
            assert!(list.insert(name.clone()), "{name} stands there twice");
        }
    }
    let named = |name: &&str| KINDS.contains(name) || name.starts_with(|first: char| first.is_ascii_lowercase());
    let own = ["mood", "positive", "tags", "tagged", "pair", "nested"];
    let tested: BTreeSet<String> = VALUES
        .iter()
        .map(|value| value.0.trim_matches('"').split('(').next().unwrap())
        .filter(|name| !name.ends_with("[]") && !own.iter().any(|own| name.starts_with(own)))
        .chain(KINDS)
        .filter(named)
        .map(str::to_owned)
        .collect();
    assert_eq!(compared, tested);
    assert_eq!(refused, REFUSED.iter().map(|name| (*name).to_owned()).collect());
}

#[tokio::test]
async fn no_built_in_type_is_forgotten() {
    let one = One::start().await;
    let refused: Vec<String> = REFUSED
        .iter()
        .filter(|name| !name.starts_with("pg_"))
        .enumerate()
        .map(|(number, name)| format!("r{number} {name}"))
        .collect();
    one.execute(&format!(
        "create table refused (id int primary key, {})",
        refused.join(", ")
    ))
    .await;
    one.execute(&create_all(15, TYPES[0])).await;
    let table = collection(&one.end, "public.refused").await;
    for column in &table.columns[1..] {
        assert!(column.not_comparable.is_some(), "{}", column.type_name);
        let columns = vec!["id".to_owned(), column.name.clone()];
        let error = ranged(&one.end).recipe(&table, &columns, 1).await.unwrap_err();
        assert_eq!(error.kind(), "unsupported", "{error}");
    }
    let table = collection(&one.end, "public.every_type").await;
    for column in &table.columns {
        assert_eq!(column.not_comparable, None, "{column:?}");
    }
    let client = one.server.client("app").await.unwrap();
    let sql = "select typname::text from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') \
               and not exists (select from pg_type e where e.typarray = pg_type.oid)";
    let known: BTreeSet<&str> = VALUES
        .iter()
        .map(|value| value.0.trim_matches('"').split('(').next().unwrap())
        .chain(REFUSED.iter().copied())
        .collect();
    for row in client.query(sql, &[]).await.unwrap() {
        let name: &str = row.get(0);
        assert!(known.contains(name), "{name} is neither compared nor refused by a test");
    }
}

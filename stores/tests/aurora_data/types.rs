//! Every built-in type, in the body of a row.

use std::collections::BTreeSet;

use stores::{Class, Part};

use crate::setup::{One, Two, collection, digest, judged, ranged, recipe};

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
    ("int4range[]", "", ""),
];

/// Built-in types that are refused, and said so: those without a send function, those whose text is ambiguous, and what the server
/// keeps for its own statistics.
const REFUSED: &[&str] = &[
    "aclitem",
    "gtsvector",
    "regproc",
    "regoper",
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

/// Types with values: arrays of ranges are refused and stand in [`VALUES`] only to show it.
fn compared() -> impl Iterator<Item = (String, &'static (&'static str, &'static str, &'static str))> {
    VALUES
        .iter()
        .enumerate()
        .filter(|(_, value)| !value.1.is_empty() || value.0 == "varchar")
        .map(|(number, value)| (column(number), value))
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn create() -> String {
    let columns: Vec<String> = VALUES
        .iter()
        .enumerate()
        .map(|(number, value)| format!("{} {}", column(number), value.0))
        .collect();
    let values: Vec<String> = compared().map(|(_, value)| quoted(value.1)).collect();
    let names: Vec<String> = compared().map(|(name, _)| name).collect();
    format!(
        "create table every_type (id int primary key, {}); insert into every_type (id, {}) values (1, {}); \
         insert into every_type (id) values (2)",
        columns.join(", "),
        names.join(", "),
        values.join(", ")
    )
}

#[tokio::test]
async fn each_change_of_each_type_is_found_on_an_independent_copy() {
    let (a, b) = futures::future::join(
        One::start(),
        One::with(&[("datestyle", "German"), ("bytea_output", "escape")]),
    )
    .await;
    a.execute(&create()).await;
    b.execute(&create()).await;
    let here = collection(&a.end, "public.every_type").await;
    let made = recipe(&a.end, &here, 42).await;
    assert!(made.columns.len() > 70, "{} columns are compared", made.columns.len());
    let there = collection(&b.end, "public.every_type").await;
    let known = ranged(&a.end).known_answer(&here, &made).await.unwrap();
    assert_eq!(ranged(&b.end).known_answer(&there, &made).await.unwrap(), known);
    let equal = ranged(&a.end).digest(&here, &made, &Part::ALL).await.unwrap();
    assert_eq!(ranged(&b.end).digest(&there, &made, &Part::ALL).await.unwrap(), equal);
    let client = b.server.client("app").await.unwrap();
    for (name, (type_name, first, second)) in compared() {
        for change in [quoted(second), "null".to_owned()] {
            let sql = format!("update every_type set {name} = {change} where id = 1");
            client.batch_execute(&sql).await.unwrap();
            let changed = ranged(&b.end).digest(&there, &made, &Part::ALL).await.unwrap();
            assert_ne!(changed, equal, "{type_name} {first} -> {change}");
        }
        let found = judged(&a.end, &b.end, &here, &made).await;
        assert_eq!(found, [(Class::Different, name.clone())], "{type_name}");
        client
            .batch_execute(&format!(
                "update every_type set {name} = {} where id = 1",
                quoted(first)
            ))
            .await
            .unwrap();
    }
    assert_eq!(ranged(&b.end).digest(&there, &made, &Part::ALL).await.unwrap(), equal);
}

#[tokio::test]
async fn a_standby_gives_the_primarys_digest_for_every_type() {
    let two = Two::start().await;
    two.execute(&create()).await;
    two.settled().await;
    let here = collection(&two.primary, "public.every_type").await;
    let there = collection(&two.standby, "public.every_type").await;
    assert_eq!(here.columns, there.columns);
    assert_eq!(here.key, there.key);
    let made = recipe(&two.primary, &here, 43).await;
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
        equal
    );
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
    one.execute(&create()).await;
    let table = collection(&one.end, "public.refused").await;
    for column in &table.columns[1..] {
        assert!(column.not_comparable.is_some(), "{}", column.type_name);
        let columns = vec!["id".to_owned(), column.name.clone()];
        let error = ranged(&one.end).recipe(&table, &columns, 1).await.unwrap_err();
        assert_eq!(error.kind(), "unsupported", "{error}");
    }
    let table = collection(&one.end, "public.every_type").await;
    for column in &table.columns {
        assert_eq!(
            column.not_comparable.is_some(),
            column.type_name == "int4range[]",
            "{column:?}"
        );
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

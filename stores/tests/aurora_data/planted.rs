//! Every kind of difference that is known to have been missed by some tool, between two servers that were loaded apart and that
//! format everything differently.

use stores::Class;

use crate::setup::{One, collection, digest, judged, ranged, recipe};
use stores::Part;

/// One table, equal at both ends until `change` is made at the second one.
struct Case {
    name: &'static str,
    /// What stands between the parentheses of `create table`.
    columns: &'static str,
    rows: &'static str,
    /// `{t}` is the table.
    change: &'static str,
    /// What has to be found.
    found: &'static [(Class, &'static str)],
}

const DIFFERENT: Class = Class::Different;

const CASES: &[Case] = &[
    Case {
        name: "two rows swap a value",
        columns: "id int primary key, a int, b text",
        rows: "(1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z')",
        change: "update {t} set a = 30 - a where id in (1, 2)",
        found: &[(DIFFERENT, "a"), (DIFFERENT, "a")],
    },
    Case {
        name: "two columns swap their values",
        columns: "id int primary key, a int, b int",
        rows: "(1, 10, 20)",
        change: "update {t} set a = b, b = a",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "null for empty",
        columns: "id int primary key, a text",
        rows: "(1, '')",
        change: "update {t} set a = null",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "the word NULL for null",
        columns: "id int primary key, a text",
        rows: "(1, null)",
        change: "update {t} set a = 'NULL'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "a null moves to another column",
        columns: "id int primary key, a text, b text",
        rows: "(1, null, 'x')",
        change: "update {t} set a = 'x', b = null",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "a character moves over the border of two columns",
        columns: "id int primary key, a text, b text",
        rows: "(1, 'ab', 'c')",
        change: "update {t} set a = 'a', b = 'bc'",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "a delimiter moves over the border",
        columns: "id int primary key, a text, b text",
        rows: "(1, 'a|', 'b')",
        change: "update {t} set a = 'a', b = '|b'",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "scale of a numeric",
        columns: "id int primary key, a numeric",
        rows: "(1, 1.0)",
        change: "update {t} set a = 1.00",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "unconstrained numerics",
        columns: "id int primary key, a numeric",
        rows: "(1, 1.4)",
        change: "update {t} set a = 1.1",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "minus zero",
        columns: "id int primary key, a float8",
        rows: "(1, '0')",
        change: "update {t} set a = '-0'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "not a number",
        columns: "id int primary key, a float8, b numeric",
        rows: "(1, 0, 0)",
        change: "update {t} set a = 'NaN', b = 'NaN'",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "the last bit of a float",
        columns: "id int primary key, a float8, b float8",
        rows: "(1, 0.3, 1e-14)",
        change: "update {t} set a = 0.1::float8 + 0.2::float8, b = 2e-14",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "huge floats and infinity",
        columns: "id int primary key, a float8",
        rows: "(1, 1e300)",
        change: "update {t} set a = 'Infinity'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "blank at the end",
        columns: "id int primary key, a text, b varchar(9)",
        rows: "(1, 'a', 'b')",
        change: "update {t} set a = 'a ', b = 'b '",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "composed and decomposed letters",
        columns: "id int primary key, a text",
        rows: "(1, U&'\\00e9')",
        change: "update {t} set a = U&'e\\0301'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "scale of a number in jsonb",
        columns: "id int primary key, a jsonb",
        rows: r#"(1, '{"n": 1.0}')"#,
        change: r#"update {t} set a = '{"n": 1.00}'"#,
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "order of keys in json",
        columns: "id int primary key, a json",
        rows: r#"(1, '{"a": 1, "b": 2}')"#,
        change: r#"update {t} set a = '{"b": 2, "a": 1}'"#,
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "44 BC for 44 AD",
        columns: "id int primary key, a date, b timestamptz",
        rows: "(1, '0044-03-15', '0044-03-15 12:00+00')",
        change: "update {t} set a = '0044-03-15 BC', b = '0044-03-15 12:00+00 BC'",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "infinity for minus infinity",
        columns: "id int primary key, a timestamp, b date",
        rows: "(1, 'infinity', 'infinity')",
        change: "update {t} set a = '-infinity', b = '-infinity'",
        found: &[(DIFFERENT, "a,b")],
    },
    Case {
        name: "one day for 24 hours",
        columns: "id int primary key, a interval",
        rows: "(1, '1 day')",
        change: "update {t} set a = '24 hours'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "extremes of a key",
        columns: "id bigint primary key, a int",
        rows: "(-9223372036854775808, 1), (0, 2), (9223372036854775807, 3)",
        change: "update {t} set a = 9 where id <> 0",
        found: &[(DIFFERENT, "a"), (DIFFERENT, "a")],
    },
    Case {
        name: "rows missing at either end, outside of the other's extremes",
        columns: "id int primary key, a int",
        rows: "(1, 1), (2, 2), (3, 3)",
        change: "delete from {t} where id = 2; insert into {t} values (-100, 4), (1000000, 5)",
        found: &[
            (Class::MissingOnPrimary, ""),
            (Class::MissingOnSecondary, ""),
            (Class::MissingOnPrimary, ""),
        ],
    },
    Case {
        name: "a key moves",
        columns: "id int primary key, a int",
        rows: "(1, 1)",
        change: "update {t} set id = 2",
        found: &[(Class::MissingOnSecondary, ""), (Class::MissingOnPrimary, "")],
    },
    Case {
        name: "composite key whose parts collide when joined",
        columns: "a text, b text, v int, primary key (a, b)",
        rows: "('1', '11', 1), ('11', '1', 2)",
        change: "update {t} set v = 3 - v",
        found: &[(DIFFERENT, "v"), (DIFFERENT, "v")],
    },
    Case {
        name: "keys equal by type in other forms",
        columns: "id numeric primary key, v int",
        rows: "(1.0, 1), (2, 2)",
        change: "update {t} set id = 1.00 where id = 1",
        found: &[(DIFFERENT, "id")],
    },
    Case {
        name: "keys of every kind of text",
        columns: "id text primary key, v int",
        rows: r"('it''s', 1), ('back\slash', 2), ('', 3), (U&'\00e9', 4), (U&'e\0301', 5), (' x ', 6), ('NULL', 7)",
        change: "update {t} set v = -v",
        found: &[(DIFFERENT, "v"); 7],
    },
    Case {
        name: "char(n) keys",
        columns: "id char(5) primary key, v int",
        rows: "('a', 1), ('b', 2)",
        change: "update {t} set v = 0 where id = 'a    '",
        found: &[(DIFFERENT, "v")],
    },
    Case {
        name: "uuid, date, boolean and bytea keys",
        columns: r"u uuid, d date, f boolean, x bytea, v int, primary key (u, d, f, x)",
        rows: r"('00112233-4455-6677-8899-aabbccddeeff', '0044-03-15 BC', true, '\x00ff', 1), ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'infinity', false, '', 2)",
        change: r"update {t} set v = 9 where x = '\x00ff'",
        found: &[(DIFFERENT, "v")],
    },
    Case {
        name: "timestamptz keys",
        columns: "at timestamptz primary key, v int",
        rows: "('infinity', 1), ('-infinity', 2), ('0044-03-15 12:00:00.000001+00 BC', 3), ('2026-11-21 01:02:03.4567+05:30', 4)",
        change: "update {t} set v = -v",
        found: &[(DIFFERENT, "v"); 4],
    },
    Case {
        name: "generated column of which the other end has another expression",
        columns: "id int primary key, a int, b int generated always as (a * 2) stored",
        rows: "(1, 10)",
        change: "alter table {t} drop column b; alter table {t} add column b int generated always as (a * 3) stored",
        found: &[(DIFFERENT, "b")],
    },
    Case {
        name: "quoted and reserved names",
        columns: "\"select\" int primary key, \"Quo\"\"ted \\ name\" text, \"from\" text, \"t\" text",
        rows: "(1, 'a', 'b', 'c')",
        change: "update {t} set \"Quo\"\"ted \\ name\" = 'x', \"from\" = 'y', \"t\" = 'z'",
        found: &[(DIFFERENT, "Quo\"ted \\ name,from,t")],
    },
    Case {
        name: "array with other bounds",
        columns: "id int primary key, a int[]",
        rows: "(1, '{1,2}')",
        change: "update {t} set a = '[0:1]={1,2}'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "a null in an array",
        columns: "id int primary key, a text[]",
        rows: "(1, '{a,NULL}')",
        change: "update {t} set a = '{a,\"NULL\"}'",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "a composite of nulls for a null composite",
        columns: "id int primary key, a pair",
        rows: "(1, null), (2, '(1,a)')",
        change: "update {t} set a = row(null, null)::pair where id = 1",
        found: &[(DIFFERENT, "a")],
    },
    Case {
        name: "enum, domain, and composites of them",
        columns: "id int primary key, e mood, d positive, n nested, es mood[], ds positive[], c citext, r moodrange",
        rows: "(1, 'sad', 5, '(\"(1,a)\",sad,7)', '{sad,ok}', '{1,2}', 'Abc', '[sad,ok]')",
        change: "update {t} set e = 'ok', d = 6, n = '(\"(1,a)\",ok,7)', es = '{ok,ok}', ds = '{1,3}', c = 'abc', r = '[sad,sad]'",
        found: &[(DIFFERENT, "e,d,n,es,ds,c,r")],
    },
];

/// The same types, made in another order, so that their object IDs differ.
const TYPES: [&str; 2] = [
    "create type mood as enum ('sad', 'ok', 'happy'); create domain positive as int check (value > 0); \
     create type pair as (x int, y text); create type nested as (p pair, m mood, d positive); create extension citext; \
     create type moodrange as range (subtype = mood)",
    "create extension citext; create type pair as (x int, y text); create domain positive as int check (value > 0); \
     create type mood as enum ('sad', 'happy'); alter type mood add value 'ok' before 'happy'; \
     create type nested as (p pair, m mood, d positive); create type moodrange as range (subtype = mood)",
];

/// Two servers that show everything differently.
async fn strangers() -> (One, One) {
    let ours = [
        ("timezone", "Asia/Kolkata"),
        ("datestyle", "German"),
        ("intervalstyle", "iso_8601"),
    ];
    let theirs = [
        ("bytea_output", "escape"),
        ("extra_float_digits", "-10"),
        ("datestyle", "SQL, DMY"),
        ("default_toast_compression", "pglz"),
    ];
    futures::future::join(One::with(&ours), One::with(&theirs)).await
}

#[tokio::test]
async fn each_difference_is_found_and_named_and_equal_data_is_equal() {
    let (a, b) = strangers().await;
    a.execute(TYPES[0]).await;
    b.execute(TYPES[1]).await;
    for (number, case) in CASES.iter().enumerate() {
        let create = format!("create table case_{number} ({})", case.columns);
        let load = format!("insert into case_{number} values {}", case.rows);
        a.execute(&format!("{create}; {load}")).await;
        // A dropped column, and rows written twice.
        b.execute(&format!(
            "{create}; alter table case_{number} add column gone int; alter table case_{number} drop column gone; \
             {load}; delete from case_{number}; {load}"
        ))
        .await;
    }
    for (number, case) in CASES.iter().enumerate() {
        let name = format!("public.case_{number}");
        let here = collection(&a.end, &name).await;
        let made = recipe(&a.end, &here, 0xfeed_0000_dead_beef).await;
        let answers = (
            ranged(&a.end).known_answer(&here, &made).await.unwrap(),
            ranged(&b.end).known_answer(&here, &made).await.unwrap(),
        );
        assert_eq!(answers.0, answers.1, "{}: known answer", case.name);
        let before = ranged(&a.end).digest(&here, &made, &Part::ALL).await.unwrap();
        assert_eq!(
            ranged(&b.end).digest(&here, &made, &Part::ALL).await.unwrap(),
            before,
            "{}: equal",
            case.name
        );
        assert!(
            judged(&a.end, &b.end, &here, &made).await.is_empty(),
            "{}: equal",
            case.name
        );
        b.execute(&case.change.replace("{t}", &format!("case_{number}"))).await;
        let after = ranged(&b.end).digest(&here, &made, &Part::ALL).await.unwrap();
        assert_ne!(after, before, "{}: missed", case.name);
        let mut found = judged(&a.end, &b.end, &here, &made).await;
        let mut wanted: Vec<(Class, String)> = case
            .found
            .iter()
            .map(|(class, columns)| (*class, (*columns).to_owned()))
            .collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{}", case.name);
    }
}

#[tokio::test]
async fn random_swaps_never_cancel() {
    let one = One::start().await;
    one.execute(
        "create table ours (id int primary key, a int, b int, c text); create table theirs (like ours including all); \
         insert into ours select i, hashint4(i), hashint4(-i), md5(i::text) from generate_series(1, 300) i; \
         insert into theirs select * from ours",
    )
    .await;
    let here = collection(&one.end, "public.ours").await;
    let made = recipe(&one.end, &here, 7).await;
    let whole = digest(&one.end, "public.ours", &made, &Part::ALL).await.unwrap();
    assert_eq!(
        digest(&one.end, "public.theirs", &made, &Part::ALL).await.unwrap(),
        whole
    );
    let there = collection(&one.end, "public.theirs").await;
    let client = one.server.client("app").await.unwrap();
    for id in 1..100 {
        let column = ["a", "b", "c"][id % 3];
        let swap = format!(
            "update theirs t set {column} = o.{column} from theirs o where (t.id, o.id) in (({id}, {other}), ({other}, {id}))",
            other = id + 100
        );
        client.batch_execute(&swap).await.unwrap();
        let swapped = ranged(&one.end).digest(&there, &made, &Part::ALL).await.unwrap();
        assert_ne!(swapped, whole, "swapped {column} of {id}");
        client.batch_execute(&swap).await.unwrap();
    }
    assert_eq!(ranged(&one.end).digest(&there, &made, &Part::ALL).await.unwrap(), whole);
}

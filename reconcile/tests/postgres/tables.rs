//! Tables of every kind, drift of their definitions, sequences, and what of a table is compared.

use reconcile::{Coverage, CoverageState, Divergence, Settings, Summary};
use stores::{Class, Relation, Scope};

use crate::setup::{Shop, Strangers, divergences, everything};

fn coverage<'a>(summary: &'a Summary, name: &str) -> &'a Coverage {
    let found = summary.coverage.iter().find(|one| one.collection == name);
    found.unwrap_or_else(|| panic!("no coverage of {name}"))
}

/// Collection, class, columns, detail.
fn told(found: &[Divergence]) -> Vec<(String, Class, String, String)> {
    let one = |one: &Divergence| {
        let name = one.collection.trim_start_matches("public.").to_owned();
        (name, one.class, one.columns.join(","), one.detail.clone())
    };
    let mut told: Vec<_> = found.iter().map(one).collect();
    told.sort();
    told
}

/// What is made at each side, the rows of both, what is changed at the secondary, and what has to be found: class and key.
struct Case {
    name: &'static str,
    here: &'static str,
    there: &'static str,
    rows: &'static str,
    change: &'static str,
    found: &'static [(Class, &'static str)],
}

const DIFFERENT: Class = Class::Different;

const CASES: &[Case] = &[
    Case {
        name: "public.parted",
        here: "create table parted (id int, at date, v int, primary key (at, id)) partition by range (at); \
               create table parted_1 partition of parted for values from (minvalue) to ('2026-06-01'); \
               create table parted_2 partition of parted default",
        // The same rows in other leaves.
        there: "create table parted (id int, at date, v int, primary key (at, id)) partition by range (at); \
                create table parted_all partition of parted default",
        rows: "insert into parted select i, date '2026-05-01' + i, i from generate_series(1, 100) i",
        change: "update parted set v = -1 where id = 7; delete from parted where id = 90",
        found: &[
            (DIFFERENT, r#"{"at":"2026-05-08","id":7}"#),
            (Class::MissingOnSecondary, r#"{"at":"2026-07-30","id":90}"#),
        ],
    },
    Case {
        name: "public.child",
        here: "create table parent (id int primary key, v int); create table child (primary key (id)) inherits (parent)",
        there: "create table parent (id int primary key, v int); create table child (primary key (id)) inherits (parent)",
        rows: "insert into parent values (1, 1); insert into child values (1, 1), (2, 2)",
        change: "update child set v = 0 where id = 2",
        found: &[(DIFFERENT, r#"{"id":2}"#)],
    },
    Case {
        name: "public.ordered",
        here: "create table ordered (id int primary key, a int, b text, g int generated always as (a * 2) stored)",
        there: "create table ordered (b text, gone int, a int, id int primary key, g int generated always as (a * 2) stored); \
                alter table ordered drop column gone",
        rows: "insert into ordered (id, a, b) values (1, 1, 'x'), (2, 2, 'y')",
        change: "update ordered set a = 5 where id = 2",
        found: &[(DIFFERENT, r#"{"id":2}"#)],
    },
    Case {
        name: "public.from",
        here: "create table \"from\" (\"select\" int primary key, \"n\" int, \"k0\" int, \"Quo\"\"ted\" text)",
        there: "create table \"from\" (\"select\" int primary key, \"n\" int, \"k0\" int, \"Quo\"\"ted\" text)",
        rows: "insert into \"from\" values (1, 1, 1, 'a'), (2, 2, 2, 'b')",
        change: "update \"from\" set \"Quo\"\"ted\" = 'c' where \"select\" = 1",
        found: &[(DIFFERENT, r#"{"select":1}"#)],
    },
    Case {
        name: "public.empty",
        here: "create table empty (id int primary key)",
        there: "create table empty (id int primary key)",
        rows: "select 1",
        change: "insert into empty values (5)",
        found: &[(Class::MissingOnPrimary, r#"{"id":5}"#)],
    },
    Case {
        name: "public.mixed",
        here: "create table mixed (a int not null, b text collate \"C\" not null, v int); create unique index on mixed (a desc, b)",
        there: "create table mixed (a int not null, b text collate \"C\" not null, v int); create unique index on mixed (a desc, b)",
        rows: "insert into mixed select i % 50, 'k' || i, i from generate_series(1, 3000) i",
        change: "update mixed set v = 0 where v = 1234",
        found: &[(DIFFERENT, r#"{"a":34,"b":"k1234"}"#)],
    },
    Case {
        name: "public.collated",
        here: "create table collated (id text collate \"C\" primary key, v int)",
        there: "create table collated (id text collate \"en-US-x-icu\" primary key, v int)",
        rows: "insert into collated select chr(65 + i % 26) || case i % 2 when 0 then 'a' else U&'\\00c4' end || i, i \
               from generate_series(1, 2500) i",
        change: "update collated set v = 0 where v = 1000; delete from collated where v = 1001",
        found: &[
            (DIFFERENT, r#"{"id":"Ma1000"}"#),
            (Class::MissingOnSecondary, "{\"id\":\"N\u{c4}1001\"}"),
        ],
    },
    Case {
        name: "public.floats",
        here: "create table floats (id float8 primary key, v int)",
        there: "create table floats (id float8 primary key, v int)",
        rows: "insert into floats values ('-0', 1), ('NaN', 2), (0.1, 3), ('Infinity', 4)",
        change: "update floats set v = 0 where id = 0.1; update floats set id = 0 where id = 0",
        found: &[(DIFFERENT, r#"{"id":"0"}"#), (DIFFERENT, r#"{"id":"0.1"}"#)],
    },
];

#[tokio::test]
async fn tables_of_every_kind_are_compared() {
    let strangers = Strangers::start().await;
    for case in CASES {
        for (server, made) in strangers.servers.iter().zip([case.here, case.there]) {
            server.execute("app", &format!("{made}; {}", case.rows)).await.unwrap();
        }
    }
    let many: Vec<String> = (0..150)
        .map(|number| format!("c{number} int default {number}"))
        .collect();
    strangers
        .both(&format!(
            "create table wide (id int primary key, {}); insert into wide (id) select generate_series(1, 100); \
             create unlogged table quick (id int primary key); create materialized view seen as select 1 as id",
            many.join(", ")
        ))
        .await;
    strangers.both("select lo_create(0)").await;
    let pair = strangers.ends();
    let (found, summary) = divergences(&pair, &everything(&pair, &[]).await).await;
    // The only difference yet: the collation of a column is no part of its type, and orders another way.
    assert!(found.is_empty(), "{:?}", told(&found));
    for case in CASES {
        let one = coverage(&summary, case.name);
        assert_eq!(one.state, CoverageState::Verified, "{}: {}", case.name, one.reason);
    }
    for (name, state, word) in [
        ("public.quick", CoverageState::Failed, "unlogged"),
        ("public.seen", CoverageState::Skipped, "materialized view"),
        ("pg_catalog.pg_largeobject", CoverageState::Failed, "not compared"),
    ] {
        let one = coverage(&summary, name);
        assert!(
            one.state == state && one.reason.contains(word),
            "{name}: {}",
            one.reason
        );
    }
    for case in CASES {
        strangers.there(case.change).await;
    }
    strangers.there("update wide set c149 = -1 where id = 50").await;
    let (found, _) = divergences(&pair, &everything(&pair, &[]).await).await;
    let of = |name: &str| {
        let mut of: Vec<(Class, String)> = found
            .iter()
            .filter(|one| one.collection == name)
            .map(|one| (one.class, one.key.clone().unwrap_or_default()))
            .collect();
        of.sort_by(|a, b| a.1.cmp(&b.1));
        of
    };
    for case in CASES {
        let wanted: Vec<(Class, String)> = case
            .found
            .iter()
            .map(|(class, key)| (*class, (*key).to_owned()))
            .collect();
        assert_eq!(of(case.name), wanted, "{}", case.name);
    }
    assert_eq!(of("public.wide"), [(DIFFERENT, r#"{"id":50}"#.to_owned())]);
    strangers.shutdown().await;
}

#[tokio::test]
async fn drift_of_definitions_is_found_before_any_row_and_rows_are_compared_all_the_same() {
    let strangers = Strangers::start().await;
    strangers
        .both(
            "create extension citext; \
             create table t (id int primary key, a int not null, b text, c int check (c > 0), d citext); \
             create index by_a on t (a); insert into t select i, i, 'x', i, 'y' from generate_series(1, 500) i; \
             create table only_drift (id int primary key, v int)",
        )
        .await;
    let pair = strangers.ends();
    let (found, summary) = divergences(&pair, &everything(&pair, &[]).await).await;
    assert!(found.is_empty() && summary.exit_code() == 0, "{:?}", told(&found));
    strangers
        .there(
            "drop index by_a; create unique index another on t (a desc); alter table t alter a drop not null; \
             alter table t drop constraint t_c_check, add constraint t_c_check check (c > -5); \
             alter table t add e int; alter table t alter b type varchar(9); update t set c = 77 where id = 300; \
             create table extra (id int primary key)",
        )
        .await;
    // As an update of the extension does it.
    strangers
        .there("update pg_extension set extversion = '9.9' where extname = 'citext'")
        .await;
    let (found, summary) = divergences(&pair, &everything(&pair, &[]).await).await;
    let mut wanted = vec![
        ("extra", Class::Schema, "", "the collection exists at site usw2 only"),
        ("t", DIFFERENT, "c", ""),
        (
            "t",
            Class::Schema,
            "",
            "constraint exists at site use1 only: CHECK ((c > 0))",
        ),
        (
            "t",
            Class::Schema,
            "",
            "constraint exists at site usw2 only: CHECK ((c > '-5'::integer))",
        ),
        ("t", Class::Schema, "", "extension exists at site use1 only: citext 1.6"),
        ("t", Class::Schema, "", "extension exists at site usw2 only: citext 9.9"),
        (
            "t",
            Class::Schema,
            "",
            "index exists at site use1 only: using btree (a)",
        ),
        (
            "t",
            Class::Schema,
            "",
            "index exists at site usw2 only: unique using btree (a DESC)",
        ),
        ("t", Class::Schema, "a", "column may be NULL at site usw2 only"),
        (
            "t",
            Class::Schema,
            "b",
            "type is text at site use1 and character varying(9) at site usw2",
        ),
        ("t", Class::Schema, "e", "column exists at site usw2 only"),
    ];
    wanted.sort();
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|(name, class, columns, detail)| (name.to_owned(), class, columns.to_owned(), detail.to_owned()))
        .collect();
    assert_eq!(told(&found), wanted);
    assert_eq!(coverage(&summary, "public.t").primary_rows, Some(500));
    assert_eq!(coverage(&summary, "public.only_drift").state, CoverageState::Verified);
    strangers.shutdown().await;
}

#[tokio::test]
async fn a_sequence_diverges_only_where_it_would_give_a_number_again_or_is_far_ahead() {
    let strangers = Strangers::start().await;
    strangers
        .both(
            "create table fine (id bigserial primary key, v int); insert into fine (v) select generate_series(1, 10); \
             create table behind (id int generated always as identity primary key, v int); \
             insert into behind (v) select generate_series(1, 10); \
             create table reused (id serial primary key, v int); insert into reused (v) select generate_series(1, 10); \
             create sequence ahead increment by 10; select setval('ahead', 101); \
             create sequence down increment by -1; select setval('down', -50); create sequence unused; \
             create sequence cycling cycle; select nextval('cycling')",
        )
        .await;
    strangers
        .there(
            "select setval('fine_id_seq', 43); select setval('behind_id_seq', 9); insert into reused values (11, 0); \
             select setval('ahead', 101 + 341); select setval('down', -49)",
        )
        .await;
    let pair = strangers.ends();
    let (found, summary) = divergences(&pair, &everything(&pair, &[]).await).await;
    let positions: Vec<(String, String)> = told(&found)
        .into_iter()
        .filter(|one| one.1 == Class::Position)
        .map(|one| (one.0, one.3))
        .collect();
    let names: Vec<&str> = positions.iter().map(|one| one.0.as_str()).collect();
    assert_eq!(
        names,
        ["ahead", "behind_id_seq", "behind_id_seq", "down", "reused_id_seq"],
        "{positions:?}"
    );
    assert!(positions[0].1.contains("more than 330 ahead of 101"), "{positions:?}");
    assert!(positions[1].1.contains("stands at 9, behind 10"), "{positions:?}");
    assert!(positions[4].1.contains("behind 11 in the column"), "{positions:?}");
    assert_eq!(coverage(&summary, "public.fine_id_seq").state, CoverageState::Verified);
    assert_eq!(coverage(&summary, "public.unused").state, CoverageState::Verified);
    let cycling = coverage(&summary, "public.cycling");
    assert!(
        cycling.state == CoverageState::Failed && cycling.reason.starts_with("cycles:"),
        "{cycling:?}"
    );
    strangers.shutdown().await;
}

#[tokio::test]
async fn a_standby_that_runs_ahead_in_its_sequences_is_equal() {
    let shop = Shop::start(100).await;
    shop.pair
        .primary()
        .execute(
            "app",
            "create table public.counted (id bigserial primary key); grant select on public.counted, public.counted_id_seq to driftline; \
             insert into public.counted select nextval('public.counted_id_seq') from generate_series(1, 3)",
        )
        .await
        .unwrap();
    shop.pair
        .wait_replayed(std::time::Duration::from_secs(30))
        .await
        .unwrap();
    let ahead = shop
        .pair
        .standby()
        .value("app", "select last_value from public.counted_id_seq")
        .await;
    assert_ne!(
        ahead.unwrap().as_deref(),
        Some("3"),
        "the standby is not ahead: the test proves nothing"
    );
    let pair = shop.ends(Relation::Replicating);
    let (found, summary) = divergences(&pair, &everything(&pair, &[]).await).await;
    assert!(found.is_empty(), "{:?}", told(&found));
    assert_eq!(summary.exit_code(), 0, "{:?}", summary.coverage);
    assert_eq!(
        coverage(&summary, "public.counted_id_seq").state,
        CoverageState::Verified
    );
    shop.shutdown().await;
}

#[tokio::test]
async fn only_what_is_in_scope_is_compared_and_the_scope_is_told() {
    let strangers = Strangers::start().await;
    strangers
        .both(
            "create table t (id int primary key, at date, n numeric, f float8, c char(4), exact numeric, touched int); \
             insert into t select i, date '2026-01-01' + i, 1.0, 0, 'ab', 1.0, 0 from generate_series(1, 300) i",
        )
        .await;
    strangers
        .there(
            "update t set n = 1.00 where id = 5; update t set f = '-0' where id = 6; update t set touched = 9; \
             update t set exact = 1.00 where id = 7; update t set n = 1.01 where id = 8; update t set n = 2 where id = 250; \
             delete from t where id = 251",
        )
        .await;
    let pair = strangers.ends();
    let settings = Settings {
        exclude_columns: vec!["touched".to_owned()],
        scope: Scope {
            filter: Some("at < '2026-06-01'".to_owned()),
            semantic: vec!["n".to_owned(), "f".to_owned(), "c".to_owned()],
        },
        ..Settings::default()
    };
    let (found, summary) = divergences(&pair, &everything(&pair, &[("public.t", settings.clone())]).await).await;
    let keys: Vec<(String, String)> = found
        .iter()
        .map(|one| (one.key.clone().unwrap_or_default(), one.columns.join(",")))
        .collect();
    let wanted = [(r#"{"id":7}"#, "exact"), (r#"{"id":8}"#, "n")].map(|(key, of)| (key.to_owned(), of.to_owned()));
    assert_eq!(keys, wanted);
    let one = coverage(&summary, "public.t");
    assert_eq!(one.primary_rows, Some(150));
    for word in [
        "touched",
        "only rows where at < '2026-06-01'",
        "equal in any form of the same value: n, f, c",
    ] {
        assert!(one.scope.contains(word), "{word}: {}", one.scope);
    }
    // A column whose type has one form only, and a condition that is not the same tomorrow.
    let refused = |scope: Scope| Settings {
        scope,
        ..Settings::default()
    };
    for (scope, word) in [
        (
            Scope {
                filter: None,
                semantic: vec!["at".to_owned()],
            },
            "cannot be compared as semantic",
        ),
        (
            Scope {
                filter: Some("at < now()".to_owned()),
                semantic: Vec::new(),
            },
            "`now`",
        ),
        (
            Scope {
                filter: Some("at < 'today'".to_owned()),
                semantic: Vec::new(),
            },
            "'today'",
        ),
    ] {
        let request = everything(&pair, &[("public.t", refused(scope))]).await;
        let (_, summary) = divergences(&pair, &request).await;
        let one = coverage(&summary, "public.t");
        assert!(
            one.state == CoverageState::Failed && one.reason.contains(word),
            "{}",
            one.reason
        );
        assert_eq!(summary.exit_code(), 3);
    }
    strangers.shutdown().await;
}

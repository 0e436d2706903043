//! `reconcile run` on two copies that parted: what is found, and the exit code of each outcome.

use std::path::Path;
use std::time::Duration;

use parquet::file::reader::SerializedFileReader;
use serde_json::Value;

use crate::fixture::{DATABASE, Story, parquet_files};

const TABLES: &str = "create table public.orders (id bigint primary key, note text, amount numeric);
                      insert into public.orders select i, 'n' || i, i from generate_series(1, 3000) i;
                      create table public.other (id int primary key, a text, b text);
                      insert into public.other select i, 'a' || i, 'b' || i from generate_series(1, 500) i";

/// Both sides take writes.
async fn parted(tables: &str) -> Story {
    let story = Story::start(tables).await;
    story.pair.promote().await.expect("promote");
    story
}

async fn both(story: &Story, sql: &str) {
    for server in [story.pair.primary(), story.pair.standby()] {
        server
            .execute(DATABASE, sql)
            .await
            .expect("run the statement at both ends");
    }
}

async fn at_secondary(story: &Story, sql: &str) {
    story
        .pair
        .standby()
        .execute(DATABASE, sql)
        .await
        .expect("run the statement at the secondary");
}

fn reconcile(story: &Story, code: i32) -> Value {
    story.run(&["reconcile", "run", "--format", "json"]).expect(code).json()
}

fn state<'v>(result: &'v Value, collection: &str) -> (&'v str, &'v str) {
    let all = result["results"][0]["collections"].as_array().expect("collections");
    let one = all
        .iter()
        .find(|one| one["collection"] == collection)
        .unwrap_or_else(|| panic!("{collection}: {result}"));
    (one["state"].as_str().unwrap(), one["reason"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_copies_are_0_and_every_difference_is_1() {
    let story = parted(TABLES).await;
    let equal = reconcile(&story, 0);
    assert_eq!(equal["complete"], true);
    assert_eq!(state(&equal, "public.orders"), ("verified", ""));
    assert_eq!(equal["results"][0]["confirmed"], 0);
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);

    // Swapped values, a deleted row, an added row, a scale.
    at_secondary(
        &story,
        "update public.other set a = case id when 7 then 'a8' else 'a7' end where id in (7, 8);
         delete from public.orders where id = 3000;
         insert into public.orders values (-5, null, null);
         update public.orders set amount = 1.00 where id = 1",
    )
    .await;
    let found = reconcile(&story, 1);
    assert_eq!(found["complete"], true);
    let mut keys: Vec<(String, String, String)> = found["results"][0]["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
            (text("collection"), text("key"), text("class"))
        })
        .collect();
    keys.sort();
    let expected = [
        ("public.orders", r#"{"id":-5}"#, "missing_on_primary"),
        ("public.orders", r#"{"id":1}"#, "different"),
        ("public.orders", r#"{"id":3000}"#, "missing_on_secondary"),
        ("public.other", r#"{"id":7}"#, "different"),
        ("public.other", r#"{"id":8}"#, "different"),
    ]
    .map(|(collection, key, class)| (collection.to_owned(), key.to_owned(), class.to_owned()));
    assert_eq!(keys, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_differ_are_1() {
    let story = parted(TABLES).await;
    at_secondary(&story, "alter table public.other add column c int").await;
    let columns = reconcile(&story, 1);
    assert_eq!(state(&columns, "public.other").0, "diverged");
    assert_eq!(state(&columns, "public.orders").0, "verified");
    at_secondary(&story, "drop table public.other").await;
    let missing = reconcile(&story, 1);
    assert_eq!(state(&missing, "public.other").0, "diverged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_verified_is_3_and_never_equal() {
    let story = parted(TABLES).await;
    both(&story, "revoke select on public.other from driftline").await;
    let denied = reconcile(&story, 3);
    assert_eq!(denied["complete"], false);
    assert_eq!(state(&denied, "public.other").0, "failed");
    both(&story, "grant select on public.other to driftline").await;
    reconcile(&story, 0);

    // A policy hides rows on both sides: both counts would read 0, and 0 equals 0.
    both(
        &story,
        "alter table public.other enable row level security; create policy nobody on public.other for select using (false)",
    )
    .await;
    let hidden = reconcile(&story, 3);
    let (state_of, reason) = state(&hidden, "public.other");
    assert_eq!(state_of, "failed");
    assert!(reason.contains("row"), "{reason}");
    both(&story, "alter table public.other disable row level security").await;

    // Something that stays so: a type without a comparable form.
    both(
        &story,
        "create table public.unfit (id int primary key, signature gtsvector); grant select on public.unfit to driftline",
    )
    .await;
    let unfit = reconcile(&story, 3);
    assert_eq!(unfit["complete"], false);
    assert!(state(&unfit, "public.unfit").1.contains("columns_not_comparable"));

    // A divergence beats what could not be told, and the document still says that it is not complete.
    at_secondary(&story, "delete from public.orders where id = 1500").await;
    let both_outcomes = reconcile(&story, 1);
    assert_eq!(both_outcomes["complete"], false);
}

/// A standby shows nothing of it, and a promotion empties it: both sides may read nothing, and nothing equals nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_unlogged_table_is_never_compared() {
    let story = Story::start(TABLES).await;
    story
        .pair
        .primary()
        .execute(
            DATABASE,
            "create unlogged table public.scratch (id int primary key); insert into public.scratch values (1);
             grant select on public.scratch to driftline",
        )
        .await
        .expect("create the table");
    let told = |result: &Value| {
        let (state, reason) = state(result, "public.scratch");
        assert_eq!(state, "failed", "{result}");
        assert!(reason.contains("unlogged"), "{reason}");
    };
    let result = reconcile(&story, 3);
    told(&result);
    assert_eq!(state(&result, "public.orders").0, "verified");

    story
        .pair
        .wait_replayed(Duration::from_secs(20))
        .await
        .expect("the standby has the table");
    story.pair.promote().await.expect("promote");
    told(&reconcile(&story, 3));
    both(&story, "delete from public.scratch").await;
    told(&reconcile(&story, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_on_one_connection_is_told_though_another_is_dead() {
    let story = parted(TABLES).await;
    at_secondary(&story, "delete from public.orders where id = 1500").await;
    let good = story.config();
    let (connection, dataset) = good.split_once("[dataset").expect("a dataset");
    let (_, connection) = connection.split_once("[connection.db").expect("a connection");
    let dead = format!("[connection.db{connection}")
        .replace("connection.db", "connection.a-dead-one")
        .replace(&format!(":{}/", story.pair.standby().port()), ":1/");
    let second = format!("[dataset{dataset}")
        .replace("dataset.shop", "dataset.another")
        .replace("\"db\"", "\"a-dead-one\"");
    story.write_config(&format!("{good}{dead}{second}"));
    let found = reconcile(&story, 1);
    assert_eq!(found["complete"], false);
    assert_eq!(found["results"][0]["confirmed"], 1, "{found}");
    let missing = found["not_compared"][0].as_str().expect("a reason");
    assert!(missing.starts_with("dataset another, a against b"), "{missing}");
    assert_eq!(parquet_files(&story.path("out"), "runs").len(), 1);

    at_secondary(&story, "insert into public.orders select 1500, 'n1500', 1500").await;
    let equal = reconcile(&story, 3);
    assert_eq!(equal["complete"], false);
    // A refusal is one of the whole run, before any comparison.
    story.write_config(&format!("{good}{dead}{second}").replace(":1/", &format!(":{}/", story.pair.primary().port())));
    story.run(&["reconcile", "run"]).expect(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_matches_nothing_is_3() {
    let story = parted(TABLES).await;
    story.write_config(
        &story
            .config()
            .replace("\"public.*\"", "\"public.orders\", \"public.oders\""),
    );
    let finished = story.run(&["reconcile", "run"]).expect(3);
    assert!(finished.stderr.contains("public.oders"), "{}", finished.stderr);
}

/// Rows of which a chunk has one bound at least: its boundaries are keys.
const PEOPLE: &str = "create table public.people (email text collate \"C\" primary key, name text);
     insert into public.people select 'p' || i || '@example.com', 'name ' || i from generate_series(1, 60000) i";

/// Whether any text of the evidence holds `needle`: the tables as an engine reads them (their pages are compressed), file names, the rest
/// as it stands. The journals in `_work` are for their owner only, and hold what a recheck needs.
fn is_in_evidence(story: &Story, needle: &str) -> bool {
    let mut folders = vec![story.path("out"), story.path("state")];
    let mut is_found = false;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("list the evidence").path();
            is_found |= path.to_string_lossy().contains(needle);
            if path.ends_with("_work") {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                is_found |= rows(&path).any(|row| row.contains(needle));
            } else {
                let bytes = std::fs::read(&path).expect("read a file of the evidence");
                is_found |= String::from_utf8_lossy(&bytes).contains(needle);
            }
        }
    }
    is_found
}

/// The rows of a Parquet file as text.
fn rows(path: &Path) -> impl Iterator<Item = String> + use<> {
    let file = std::fs::File::open(path).expect("open the table");
    let reader = SerializedFileReader::new(file).expect("read the table");
    reader.into_iter().map(|row| row.expect("read a row").to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_values_appear_only_as_asked() {
    let story = parted(PEOPLE).await;
    at_secondary(
        &story,
        "update public.people set name = 'sought-value' where email = 'p9999@example.com'",
    )
    .await;
    let plain = story.config();
    let clear = || drop(std::fs::remove_dir_all(story.path("out")));
    let run = |args: &[&str]| {
        story
            .run(&[&["--verbose", "reconcile", "run"], args].concat())
            .expect(1)
    };

    std::fs::write(story.path("key"), "a key of the hash").unwrap();
    for keys in ["hashed", "none"] {
        let hash = format!(
            "[defaults]\nreconcile = {{ keys = \"{keys}\", key_hash = {{ file = \"{}\" }} }}\n",
            story.path("key").display()
        );
        story.write_config(&format!("{plain}{hash}"));
        for args in [&["--format", "json"][..], &["--include-values"]] {
            let finished = run(args);
            // Every key ends so, those of the boundaries too.
            assert!(
                !finished.stdout.contains("@example"),
                "{keys} {args:?}: {}",
                finished.stdout
            );
            assert!(
                !finished.stderr.contains("@example"),
                "{keys} {args:?}: {}",
                finished.stderr
            );
            assert!(
                !is_in_evidence(&story, "@example"),
                "a key is in the evidence: {keys} {args:?}"
            );
            assert!(
                parquet_files(&story.path("out"), "chunks")
                    .iter()
                    .flat_map(|file| rows(file))
                    .count()
                    > 1
            );
            clear();
        }
    }

    story.write_config(&plain);
    let finished = run(&["--format", "json"]);
    assert!(finished.stdout.contains("p9999@example.com"));
    // The search finds what is there, in the boundaries too.
    assert!(is_in_evidence(&story, "p9999@example.com"));
    let chunks = parquet_files(&story.path("out"), "chunks");
    assert!(
        chunks
            .iter()
            .flat_map(|file| rows(file))
            .any(|row| row.contains("@example"))
    );
    assert!(!format!("{finished:?}").contains("sought-value"));
    assert!(
        !is_in_evidence(&story, "sought-value"),
        "a value is in the evidence unasked"
    );
    clear();
    run(&["--include-values"]);
    assert!(is_in_evidence(&story, "sought-value"));
}

/// Rows without a key are what they hold, and how often.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_compared_by_its_contents() {
    let story = parted(TABLES).await;
    both(
        &story,
        "create table public.keyless (note text, at int); grant select on public.keyless to driftline; \
         insert into public.keyless select 'note ' || n % 500, n % 500 from generate_series(1, 5000) n",
    )
    .await;
    let equal = reconcile(&story, 0);
    let (state_of, reason) = state(&equal, "public.keyless");
    assert_eq!((state_of, reason), ("verified", ""));

    let one_of = |at: u32| format!("ctid = (select ctid from public.keyless where at = {at} limit 1)");
    at_secondary(&story, &format!("delete from public.keyless where {}", one_of(7))).await;
    at_secondary(&story, "delete from public.keyless where at = 8").await;
    at_secondary(&story, "insert into public.keyless values ('new', null), ('new', null)").await;
    let found = reconcile(&story, 1);
    assert_eq!(state(&found, "public.keyless").0, "diverged");
    assert_eq!(found["complete"], true);
    let keys = found["results"][0]["keys"].as_array().unwrap();
    let of_table = keys.iter().filter(|key| key["collection"] == "public.keyless");
    let mut classes: Vec<&str> = of_table
        .map(|key| {
            assert!(key["key"].as_str().unwrap().starts_with("{\"row_digest\":"), "{key}");
            key["class"].as_str().unwrap()
        })
        .collect();
    classes.sort();
    assert_eq!(classes, ["duplicate", "missing_on_primary", "missing_on_secondary"]);
}

//! After a run: `explain`, `--recheck` and `--against`. What was found is looked at again, and nothing is called equal by it.

use serde_json::Value;

use crate::fixture::{DATABASE, Story};

const TABLES: &str =
    "create table public.orders (id bigint primary key, note text, updated_at timestamptz default now());
                      insert into public.orders select i, 'n' || i from generate_series(1, 120000) i;
                      create table public.other (id int primary key, a text);
                      insert into public.other select i, 'a' || i from generate_series(1, 500) i";

async fn at(server: &lab::PgServer, sql: &str) {
    server.execute(DATABASE, sql).await.expect("run the statement");
}

/// Both sides take writes, and five keys differ.
async fn parted() -> Story {
    let story = Story::start(TABLES).await;
    story.pair.promote().await.expect("promote");
    at(
        story.pair.standby(),
        "update public.orders set note = 'other' where id in (7, 60000); delete from public.other where id = 9;
         insert into public.other values (7, 'seven') on conflict (id) do update set a = 'seven';
         insert into public.other values (-1, 'new')",
    )
    .await;
    story
}

fn json(story: &Story, args: &[&str], code: i32) -> Value {
    story.run(&[args, &["--format", "json"]].concat()).expect(code).json()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_explained_by_what_was_found_and_by_another_look() {
    let story = parted().await;
    json(&story, &["reconcile", "run"], 1);

    let one = json(&story, &["explain", "latest", r#"{"id": 60000}"#], 1);
    let result = &one["results"][0];
    assert_eq!(text(&result["found"], "class"), "different", "{one}");
    assert_eq!(text(&result["found"], "state"), "confirmed");
    assert_eq!(text(&result["now"], "state"), "confirmed");
    assert_eq!(result["now"]["columns"], serde_json::json!(["note"]), "{one}");
    assert_eq!(
        result["rows"],
        Value::Null,
        "values appear only when they are asked for"
    );

    // Both rows, the columns that differ marked.
    let shown = story.run(&["explain", "latest", "60000", "--rows"]).expect(1).stdout;
    let note = shown
        .lines()
        .find(|line| line.starts_with("| note"))
        .expect("the column");
    assert!(
        note.contains("n60000") && note.contains("other") && note.contains("differs"),
        "{shown}"
    );
    let same = shown.lines().find(|line| line.starts_with("| id")).expect("the column");
    assert!(!same.contains("differs"), "{shown}");

    // One key in two tables has to be told which.
    let several = story.run(&["explain", "latest", "7"]).expect(2);
    assert!(
        several.stderr.contains("--collection public.other"),
        "{}",
        several.stderr
    );
    story
        .run(&["explain", "latest", "7", "--collection", "public.other"])
        .expect(1);
    let unknown = story.run(&["explain", "latest", "8"]).expect(2);
    assert!(unknown.stderr.contains("not looked at"), "{}", unknown.stderr);
    story.run(&["explain", "0199-none", "7"]).expect(2);

    // A row that one side has not.
    let gone = story.run(&["explain", "latest", "9", "--rows"]).expect(1).stdout;
    assert!(gone.contains("(no row)"), "{gone}");

    // Repaired: equal now. What was found stays told.
    at(
        story.pair.standby(),
        "update public.orders set note = 'n60000' where id = 60000",
    )
    .await;
    at(
        story.pair.standby(),
        "update public.orders set updated_at = (select updated_at from public.orders where id = 1) where id = 60000",
    )
    .await;
    let repaired = json(&story, &["explain", "latest", "60000"], 0);
    assert_eq!(text(&repaired["results"][0]["now"], "state"), "equal");
    assert_eq!(text(&repaired["results"][0]["found"], "state"), "confirmed");

    // A side that does not answer: the evidence is told, and that no more could be.
    let proxy = story.pair.proxy_to(story.pair.standby()).expect("start a proxy");
    story.write_config(&story.config_of(story.pair.primary(), story.pair.primary().port(), proxy.port()));
    proxy.cut();
    let alone = json(&story, &["explain", "latest", "9"], 3);
    assert_eq!(text(&alone["results"][0]["found"], "class"), "missing_on_secondary");
    assert_eq!(alone["results"][0]["now"], Value::Null, "{alone}");
    assert!(!text(&alone["results"][0], "not_told").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_not_appear_can_be_looked_at_again_and_their_rows_cannot_be_shown() {
    let story = parted().await;
    let hashed = format!(
        "{}[defaults]\nreconcile = {{ keys = \"hashed\", key_hash = {{ env = \"LAB_KEY_HASH\" }} }}\n",
        story.config()
    );
    story.write_config(&hashed);
    let run = |args: &[&str], code| {
        let mut command = story.command(args);
        crate::fixture::finish(command.env("LAB_KEY_HASH", "lab-secret")).expect(code)
    };
    let found = run(&["reconcile", "run", "--format", "json"], 1).json();
    let keys = found["results"][0]["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 5, "{found}");
    let hash = text(&keys[0], "key");
    assert_eq!(hash.len(), 64, "{found}");
    let told = run(&["explain", "latest", hash, "--format", "json"], 1).json();
    assert_eq!(text(&told["results"][0]["now"], "state"), "confirmed");
    assert_eq!(told["results"][0]["now"]["key"], Value::Null, "{told}");
    let refused = run(&["explain", "latest", hash, "--rows"], 2);
    assert!(
        refused.stderr.contains("does not let keys appear"),
        "{}",
        refused.stderr
    );
    let again = run(&["reconcile", "run", "--recheck", "latest", "--format", "json"], 1).json();
    assert_eq!(again["results"][0]["confirmed"], 5, "{again}");
    assert!(!again.to_string().contains("\"id\""), "no key appears: {again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recheck_looks_at_the_keys_that_were_found_and_never_says_equal() {
    let story = parted().await;
    let first = json(&story, &["reconcile", "run"], 1);
    let run_id = text(&first["results"][0], "run_id").to_owned();
    assert_eq!(first["results"][0]["confirmed"], 5, "{first}");

    // Two are repaired, and one that nobody found differs now: that is not looked at.
    at(
        story.pair.standby(),
        "delete from public.other where id = -1; update public.other set a = 'a7' where id = 7;
         update public.orders set note = 'unseen' where id = 100000",
    )
    .await;
    let again = json(&story, &["reconcile", "run", "--recheck", &run_id], 1);
    let result = &again["results"][0];
    assert_eq!(
        (&result["confirmed"], &result["transient"]),
        (&3.into(), &2.into()),
        "{again}"
    );
    assert_eq!(again["complete"], false, "{again}");
    for collection in result["collections"].as_array().expect("collections") {
        assert!(text(collection, "reason").starts_with("only_keys"), "{collection}");
        assert_eq!(collection["primary_rows"], Value::Null, "{collection}");
    }
    let runs = runs(&story);
    let row = runs.iter().find(|row| row.0 != run_id).expect("the run of the recheck");
    assert_eq!(
        row.1.as_deref(),
        Some(run_id.as_str()),
        "it names the run that it rests on"
    );

    // All of them repaired: still not equal, because nothing else was looked at.
    at(
        story.pair.standby(),
        "insert into public.other values (9, 'a9');
         update public.orders o set note = 'n' || id where id in (7, 60000)",
    )
    .await;
    let settled = json(&story, &["reconcile", "run", "--recheck", &run_id], 3);
    assert_eq!(settled["results"][0]["transient"], 5, "{settled}");
    assert_eq!(settled["results"][0]["confirmed"], 0, "{settled}");
    assert_eq!(
        text(&settled["results"][0]["collections"][0], "state"),
        "partial",
        "{settled}"
    );
    for collection in settled["results"][0]["collections"].as_array().expect("collections") {
        assert_eq!(
            collection["chunks_failed"], 1,
            "keys that are equal now make nothing equal: {settled}"
        );
    }
    let whole = json(&story, &["reconcile", "run"], 1);
    assert_eq!(whole["results"][0]["confirmed"], 1, "{whole}");
    // A run that found nothing leaves nothing to look at, which proves nothing.
    at(
        story.pair.standby(),
        "update public.orders set note = 'n100000' where id = 100000",
    )
    .await;
    json(&story, &["reconcile", "run"], 0);
    story.run(&["reconcile", "run", "--recheck", "latest"]).expect(3);
}

/// ID and parent of each run.
fn runs(story: &Story) -> Vec<(String, Option<String>)> {
    let runs = reports::runs::latest_runs(&story.path("out"), reports::tables::Span::ALL).expect("read the runs");
    runs.into_iter().map(|run| (run.run_id, run.parent_run_id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_is_compared_with_what_was_recorded_of_the_one_that_is_gone() {
    let story = Story::start(TABLES).await;
    story.write_config(&format!(
        "{}table.\"public.orders\" = {{ changed_at = \"updated_at\" }}\n",
        story.config()
    ));
    let before = json(&story, &["reconcile", "run"], 0);
    let run_id = text(&before["results"][0], "run_id").to_owned();
    // The region is lost.
    story.pair.promote().await.expect("promote");
    let proxy = story.pair.proxy_to(story.pair.primary()).expect("start a proxy");
    proxy.cut();
    let without_a = story
        .config_of(story.pair.primary(), proxy.port(), story.pair.standby().port())
        .replace(
            "tables = [\"public.*\"]\n",
            "tables = [\"public.*\"]\ntable.\"public.orders\" = { changed_at = \"updated_at\" }\n",
        );
    story.write_config(&without_a);
    let against = |code| {
        json(
            &story,
            &["--writers", "b", "reconcile", "run", "--against", &run_id],
            code,
        )
    };
    let state = |result: &Value, at: usize| {
        let one = &result["results"][0]["collections"][at];
        (
            text(one, "state").to_owned(),
            text(one, "reason").to_owned(),
            text(one, "scope").to_owned(),
        )
    };
    let equal = against(0);
    let (orders, _, scope) = state(&equal, 0);
    assert_eq!(orders, "verified", "{equal}");
    assert!(
        scope.contains(&format!("against run {run_id}: site a as it was read between")),
        "{scope}"
    );
    let run = runs(&story).pop().expect("a run");
    assert_eq!(run.1.as_deref(), Some(run_id.as_str()));

    // New writes, and a row that is missing and says nothing: neither is equal, and neither is confirmed.
    at(
        story.pair.standby(),
        "update public.orders set note = 'x', updated_at = now() where id in (5, 6); delete from public.orders where id = 119999",
    )
    .await;
    let differs = against(3);
    assert_eq!(differs["results"][0]["confirmed"], 0, "{differs}");
    let (orders, reason, _) = state(&differs, 0);
    assert_eq!(orders, "partial", "{differs}");
    assert!(
        reason.contains("2 of its rows changed since, by updated_at"),
        "{reason}"
    );
    assert_eq!(state(&differs, 1).0, "verified", "{differs}");

    // Another shape than was recorded, and a table that was not.
    at(
        story.pair.standby(),
        "alter table public.other add column b int; create table public.late (id int primary key);
         grant select on public.late to driftline",
    )
    .await;
    let shapes = against(3);
    let of = |name: &str| {
        let all = shapes["results"][0]["collections"].as_array().expect("collections");
        let one = all
            .iter()
            .find(|one| one["collection"] == name)
            .unwrap_or_else(|| panic!("{name}: {shapes}"));
        text(one, "reason").to_owned()
    };
    assert!(of("public.other").starts_with("schema_changed"), "{shapes}");
    assert!(of("public.late").starts_with("not_recorded"), "{shapes}");
}

/// A log without a key: its rows are what they hold.
const KEYLESS: &str = "create table public.log (at timestamptz, who text, what text);
                       insert into public.log select timestamptz '2026-01-01' + i * interval '1 second', 'w' || i % 7, 'did ' || i
                       from generate_series(1, 3000) i;
                       insert into public.log select * from public.log where what = 'did 5'";

fn digest_of(key: &Value) -> String {
    let json: Value = serde_json::from_str(text(key, "key")).expect("a key is JSON");
    text(&json, "row_digest").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_are_explained_and_looked_at_again_by_their_digests() {
    let story = Story::start(KEYLESS).await;
    story.pair.promote().await.expect("promote");
    at(
        story.pair.standby(),
        "delete from public.log where what = 'did 7'; insert into public.log values ('2026-02-02', 'nobody', 'was here');
         delete from public.log where ctid in (select ctid from public.log where what = 'did 5' limit 1)",
    )
    .await;
    let found = json(&story, &["reconcile", "run"], 1);
    let run_id = text(&found["results"][0], "run_id").to_owned();
    let keys = found["results"][0]["keys"].as_array().expect("keys");
    let by_class = |class: &str| {
        let of_class: Vec<_> = keys.iter().filter(|key| key["class"] == class).collect();
        assert_eq!(of_class.len(), 1, "{class}: {found}");
        digest_of(of_class[0])
    };
    let (gone, twice) = (by_class("missing_on_secondary"), by_class("duplicate"));
    by_class("missing_on_primary");

    // By the digest alone, and by what the run printed.
    let told = json(&story, &["explain", &run_id, &twice], 1);
    let result = &told["results"][0];
    assert_eq!(text(&result["found"], "class"), "duplicate", "{told}");
    assert_eq!(text(&result["now"], "class"), "duplicate", "{told}");
    assert!(text(&result["now"], "detail").contains("2 copies"), "{told}");
    let printed = serde_json::json!({ "row_digest": gone }).to_string();
    let shown = story.run(&["explain", &run_id, &printed, "--rows"]).expect(1).stdout;
    assert!(shown.contains("did 7") && shown.contains("(no row)"), "{shown}");

    let again = json(&story, &["reconcile", "run", "--recheck", &run_id], 1);
    assert_eq!(again["results"][0]["confirmed"], 3, "{again}");
    // Repaired, but for the row too many.
    at(
        story.pair.standby(),
        "insert into public.log select timestamptz '2026-01-01' + i * interval '1 second', 'w' || i % 7, 'did ' || i
         from (values (5), (7)) as v(i)",
    )
    .await;
    let again = json(&story, &["reconcile", "run", "--recheck", &run_id], 1);
    let result = &again["results"][0];
    assert_eq!(
        (&result["confirmed"], &result["transient"]),
        (&1.into(), &2.into()),
        "{again}"
    );
    let repaired = json(&story, &["explain", &run_id, &gone], 0);
    assert_eq!(text(&repaired["results"][0]["now"], "state"), "equal", "{repaired}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_are_compared_with_what_was_recorded_and_a_stopped_run_goes_on() {
    let story = Story::start(&format!("{TABLES}; {KEYLESS}")).await;
    let before = json(&story, &["reconcile", "run"], 0);
    let run_id = text(&before["results"][0], "run_id").to_owned();
    story.pair.promote().await.expect("promote");
    let proxy = story.pair.proxy_to(story.pair.primary()).expect("start a proxy");
    proxy.cut();
    story.write_config(&story.config_of(story.pair.primary(), proxy.port(), story.pair.standby().port()));
    let run = |args: &[&str], code| json(&story, &[&["--writers", "b", "reconcile", "run"], args].concat(), code);
    // Nothing was begun; what goes on with it compares everything.
    let stopped = run(&["--against", &run_id, "--time-budget", "1ms"], 3);
    assert_eq!(stopped["complete"], false, "{stopped}");
    let stopped_id = text(&stopped["results"][0], "run_id").to_owned();
    let resumed = run(&["--resume", &stopped_id], 0);
    assert_eq!(text(&resumed["results"][0], "run_id"), stopped_id);
    assert!(
        text(&resumed, "narrow").contains(&format!("what run {run_id} read there")),
        "{resumed}"
    );
    let collections = resumed["results"][0]["collections"].as_array().expect("collections");
    for name in ["public.log", "public.orders", "public.other"] {
        let one = collections
            .iter()
            .find(|one| one["collection"] == name)
            .expect("the table");
        assert_eq!(text(one, "state"), "verified", "{resumed}");
    }
    // A copy of a row is gone: nothing else is there to tell it by.
    at(
        story.pair.standby(),
        "delete from public.log where ctid in (select ctid from public.log where what = 'did 5' limit 1)",
    )
    .await;
    let differs = run(&["--against", &run_id], 3);
    let collections = differs["results"][0]["collections"].as_array().expect("collections");
    let log = collections
        .iter()
        .find(|one| one["collection"] == "public.log")
        .expect("the table");
    assert!(text(log, "reason").contains("differs_from_record"), "{differs}");
    assert_eq!(differs["results"][0]["confirmed"], 0, "{differs}");
    // What rests on a record is no record itself, and a record of another run is none.
    let refused = story
        .run(&["--writers", "b", "reconcile", "run", "--against", &stopped_id])
        .expect(2);
    assert!(refused.stderr.contains(&run_id), "{}", refused.stderr);
    let work = story.path("out").join("_work");
    let differs_id = text(&differs["results"][0], "run_id");
    let kept = |id: &str| work.join(id).join("earlier.0.journal");
    let journal = work.join(differs_id).join("shop.a.journal");
    std::fs::remove_file(kept(&stopped_id)).expect("remove the record");
    std::fs::copy(&journal, kept(&stopped_id)).expect("put another one there");
    let plan = work.join(&stopped_id);
    for winner in ["digest", "resolve"] {
        let _absent = std::fs::remove_dir_all(plan.join(winner));
    }
    let shard = ["--writers", "b", "reconcile", "shard", "--shard", "0", "--plan"];
    let other = story.run(&[&shard[..], &[plan.to_str().expect("a path")]].concat());
    assert!([2, 64].contains(&other.code), "{other:?}");
    std::fs::write(kept(&stopped_id), b"damaged").expect("damage the record");
    story
        .run(&[&shard[..], &[plan.to_str().expect("a path")]].concat())
        .expect(65);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_which_only_the_tables_were_kept_says_what_to_do() {
    let story = parted().await;
    let found = json(&story, &["reconcile", "run"], 1);
    let run_id = text(&found["results"][0], "run_id").to_owned();
    std::fs::remove_dir_all(story.path("out").join("_work")).expect("remove the work");
    for run in [run_id.as_str(), "latest"] {
        for args in [
            vec!["explain", run, "7"],
            vec!["reconcile", "run", "--recheck", run],
            vec!["reconcile", "run", "--against", run],
        ] {
            let refused = story.run(&args).expect(2);
            assert!(
                refused.stderr.contains(&format!("_work/{run_id}"))
                    && refused.stderr.contains("divergences")
                    && refused.stderr.contains("driftline reconcile run"),
                "{args:?}: {}",
                refused.stderr
            );
        }
    }
    let unknown = story.run(&["explain", "0199-none", "7"]).expect(2);
    assert!(unknown.stderr.contains("there is no run"), "{}", unknown.stderr);
}

/// By commit times alone: no column tells when a row changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_written_anew_or_deleted_is_told_by_commit_times() {
    let story = Story::start(
        "create table public.orders (id bigint primary key, note text);
         insert into public.orders select i, 'n' || i from generate_series(1, 1000) i;
         create table public.mark (id bigint primary key)",
    )
    .await;
    // The fork is at the newest commit that both have: two seconds behind what came before it.
    story
        .pair
        .primary()
        .execute(DATABASE, "select pg_sleep(2); insert into public.mark values (1)")
        .await
        .expect("mark");
    story
        .pair
        .wait_replayed(std::time::Duration::from_secs(30))
        .await
        .expect("the standby catches up");
    story
        .run(&["event", "start", "failover", "--from", "a", "--to", "b"])
        .expect(0);
    story.pair.cut();
    at(
        story.pair.primary(),
        "update public.orders set note = 'old' where id in (1, 3); insert into public.orders values (2001, 'old');
         delete from public.orders where id in (5, 7)",
    )
    .await;
    story.pair.promote().await.expect("promote");
    story.run(&["event", "mark", "promoted"]).expect(0);
    at(
        story.pair.standby(),
        "update public.orders set note = 'new' where id in (2, 3, 7); insert into public.orders values (2002, 'new');
         delete from public.orders where id = 6",
    )
    .await;
    let found = json(&story, &["reconcile", "run", "--event", "latest"], 1);
    let keys = found["results"][0]["keys"].as_array().expect("keys");
    let mut told: Vec<(&str, &str)> = keys.iter().map(|key| (text(key, "key"), text(key, "origin"))).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (r#"{"id":1}"#, "lost_write"),
            (r#"{"id":2001}"#, "lost_write"),
            (r#"{"id":2002}"#, "new_write"),
            (r#"{"id":2}"#, "new_write"),
            (r#"{"id":3}"#, "conflict"),
            (r#"{"id":5}"#, "lost_write"),
            (r#"{"id":6}"#, "new_write"),
            (r#"{"id":7}"#, "new_write"),
        ],
        "{found}"
    );
    let explained = json(&story, &["explain", "latest", "5"], 1);
    let evidence = text(&explained["results"][0]["now"], "origin_evidence");
    assert!(
        evidence.starts_with("commit times: old side has no row, new side was committed before"),
        "{evidence}"
    );
}

//! Configuration errors point at line and column and suggest what was meant.

use crate::fixture::{config_file, driftline, finish};

const GOOD: &str = r#"
writers = ["use1"]
[site.use1]
region = "us-east-1"
[site.usw2]
[connection.db.aurora]
auth = { password = { env = "DRIFTLINE_TEST_PASSWORD" } }
[connection.db.aurora.sites.use1]
writer = "postgresql://driftline@one.example/shop"
[connection.db.aurora.sites.usw2]
writer = "postgresql://driftline@two.example/shop"
[dataset.pay.aurora]
connection = "db"
tables = ["public.pay_*"]
labels = { tier = "critical" }
table."public.pay_log" = { changed_at = "updated_at", exclude_columns = ["touched"] }
"#;

fn print(text: &str) -> crate::fixture::Finished {
    let (_folder, path) = config_file(text);
    finish(driftline().arg("--config").arg(path).args(["config", "print"]))
}

#[track_caller]
fn refused(text: &str, place: &str, words: &[&str]) {
    let finished = print(text).expect(2);
    assert!(finished.stdout.is_empty(), "{finished:?}");
    assert!(
        finished.stderr.contains(&format!("driftline.toml:{place}: ")),
        "{}",
        finished.stderr
    );
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "`{word}` is missing in {}",
            finished.stderr
        );
    }
}

#[test]
fn a_good_file_is_printed_with_defaults_and_without_secrets() {
    let (_folder, path) = config_file(GOOD);
    let finished = finish(
        driftline()
            .arg("--config")
            .arg(path)
            .args(["config", "print"])
            .env("DRIFTLINE_TEST_PASSWORD", "a-word-that-must-not-appear"),
    )
    .expect(0);
    assert!(
        finished.stdout.contains("DRIFTLINE_TEST_PASSWORD"),
        "{}",
        finished.stdout
    );
    assert!(!finished.stdout.contains("a-word-that-must-not-appear"));
    assert!(
        finished.stdout.contains("database = \"driftline\""),
        "{}",
        finished.stdout
    );
    // What is printed means the same again.
    let again = print(&finished.stdout).expect(0);
    assert_eq!(again.stdout, finished.stdout);
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    refused(
        &GOOD.replace("tables =", "tabels ="),
        "14:1",
        &["unknown key `tabels`", "did you mean `tables`?", "tabels = ["],
    );
    refused(
        &GOOD.replace("writers =", "writer ="),
        "2:1",
        &["unknown key `writer`", "did you mean `writers`?"],
    );
    refused(
        &GOOD.replace("changed_at", "change_at"),
        "16:28",
        &["did you mean `changed_at`?"],
    );
}

#[test]
fn a_budget_is_printed_and_one_that_is_none_is_refused() {
    let with = |budget: &str| format!("{GOOD}[probe]\nbudget_usd_per_hour = {budget}\n");
    let printed = print(&with("0.05")).expect(0).stdout;
    assert!(printed.contains("[probe]\nbudget_usd_per_hour = 0.05\n"), "{printed}");
    assert_eq!(print(&printed).expect(0).stdout, printed);
    refused(&with("0"), "18:23", &["a budget of 0 dollars an hour is none"]);
}

#[test]
fn reads_at_one_site_are_printed_and_those_at_no_site_are_refused() {
    let with = |reads: &str| format!("{GOOD}[defaults.reconcile]\nparallel_at = {{ {reads} }}\n");
    let printed = print(&with("usw2 = 1")).expect(0).stdout;
    assert!(
        printed.contains("[defaults.reconcile.parallel_at]\nusw2 = 1\n"),
        "{printed}"
    );
    assert_eq!(print(&printed).expect(0).stdout, printed);
    refused(
        &with("usw9 = 1"),
        "18:17",
        &["unknown site `usw9`", "did you mean `usw2`?"],
    );
    refused(&with("usw2 = 0"), "18:24", &["nonzero"]);
}

#[test]
fn an_unknown_store_is_named() {
    refused(
        &GOOD.replace("[dataset.pay.aurora]", "[dataset.pay.arora]"),
        "12:14",
        &["unknown kind `arora`", "did you mean `aurora`?"],
    );
}

#[test]
fn names_must_exist_elsewhere_in_the_file() {
    refused(
        &GOOD.replace("writers = [\"use1\"]", "writers = [\"use2\"]"),
        "2:12",
        &["unknown site `use2`", "did you mean `use1`?"],
    );
    refused(
        &GOOD.replace("sites.usw2]", "sites.usw9]"),
        "10:29",
        &["unknown site `usw9`", "did you mean `usw2`?"],
    );
    refused(
        &GOOD.replace("connection = \"db\"", "connection = \"bd\""),
        "13:14",
        &["unknown connection `bd`", "did you mean `db`?"],
    );
}

#[test]
fn a_condition_that_means_other_rows_tomorrow_is_refused_and_a_steady_one_is_not() {
    let with = |setting: &str| GOOD.replace("exclude_columns = [\"touched\"]", setting);
    let fine = with("where = \"at < '2026-01-01'\", compare = { price = \"semantic\" }");
    assert!(print(&fine).expect(0).stdout.contains("semantic"));
    refused(
        &with("where = \"at < now()\""),
        "16:63",
        &["the condition of table `public.pay_log`", "`now`"],
    );
    refused(&with("compare = { price = \"loose\" }"), "16:75", &["loose"]);
}

#[test]
fn a_connection_without_writers_is_refused() {
    refused(
        &GOOD.replace("writers = [\"use1\"]", ""),
        "6:16",
        &["connection `db` has no writers", "writers = [\"SITE\"]"],
    );
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let text = GOOD.replace("driftline@one", "driftline:hunter2@one");
    refused(&text, "9:10", &["password"]);
    assert!(!print(&text).stderr.contains("hunter2"));
}

#[test]
fn a_password_in_the_wrong_place_is_not_repeated() {
    let auth = r#"auth = { password = { env = "DRIFTLINE_TEST_PASSWORD" } }"#;
    for wrong in [
        r#"auth = { password = "hunter2" }"#,
        r#"auth = "hunter2""#,
        r#"auth = { passwrod = "hunter2" }"#,
        r#"auth = { password = { text = "hunter2" } }"#,
    ] {
        let finished = print(&GOOD.replace(auth, wrong)).expect(2);
        assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
        assert!(finished.stderr.contains("driftline.toml:7:"), "{}", finished.stderr);
    }
}

#[test]
fn a_wrong_unit_is_refused() {
    let text = format!("{GOOD}\n[defaults]\nprobe = {{ rate = \"5/fortnight\" }}\n");
    refused(&text, "19:18", &["5/fortnight"]);
    let text = format!("{GOOD}\n[defaults]\nprobe = {{ overdue_after = \"30\" }}\n");
    refused(&text, "19:27", &["30"]);
}

#[test]
fn hashed_keys_need_a_hash_key() {
    let text = format!("{GOOD}\n[defaults]\nreconcile = {{ keys = \"hashed\" }}\n");
    refused(&text, "19:22", &["key_hash"]);
}

#[test]
fn a_pattern_without_a_schema_is_refused() {
    refused(
        &GOOD.replace("public.pay_*", "pay_*"),
        "14:11",
        &["names no schema", "did you mean `public.pay_*`?"],
    );
}

#[test]
fn a_missing_file_says_what_to_do() {
    let finished = finish(driftline().args(["--config", "nowhere.toml", "config", "print"])).expect(2);
    assert!(finished.stderr.contains("--config FILE"), "{}", finished.stderr);
}

#[test]
fn stated_writers_are_checked() {
    let (_folder, path) = config_file(GOOD);
    let run = |writers: &str| {
        finish(
            driftline()
                .arg("--config")
                .arg(&path)
                .args(["--writers", writers, "config", "print"]),
        )
    };
    assert!(run("usw2").expect(0).stdout.contains("writers = [\"usw2\"]"));
    assert!(run("db=usw2").expect(0).stdout.contains("usw2"));
    assert!(run("usw9").expect(2).stderr.contains("unknown site `usw9`"));
    assert!(run("dc=usw2").expect(2).stderr.contains("unknown connection `dc`"));
}

#[test]
fn cloudwatch_is_asked_only_where_it_has_a_figure() {
    for (from, to) in [
        ("buckets = [", "native = \"cloudwatch\"\nbuckets = ["),
        (
            "tables = [\"profiles\"",
            "native = \"cloudwatch\"\ntables = [\"profiles\"",
        ),
        (
            "tls = \"disable\"",
            "tls = \"disable\"\nnative = \"cloudwatch\"\nreplicators = { \"use1->usw2\" = \"west\" }",
        ),
    ] {
        let printed = print(&FOUR.replacen(from, to, 1)).expect(0).stdout;
        assert!(printed.contains("native = \"cloudwatch\""), "{printed}");
    }
    let aurora = GOOD.replace("tables = [", "native = \"cloudwatch\"\ntables = [");
    refused(
        &aurora,
        "14:1",
        &["unknown key `native`", "aurora tells its lag itself"],
    );
    let aurora = GOOD.replace("auth =", "native = \"cloudwatch\"\nauth =");
    refused(&aurora, "7:1", &["unknown key `native`", "aurora tells its lag itself"]);
    let other = FOUR.replace("buckets = [", "native = \"cloudwach\"\nbuckets = [");
    refused(
        &other,
        "17:10",
        &["unknown kind `cloudwach`", "did you mean `cloudwatch`?"],
    );
    for (key, words) in [
        ("native = \"cloudwatch\"", "names of the MSK Replicators"),
        (
            "replicators = { \"use1->usw2\" = \"west\" }",
            "native = \"cloudwatch\" only",
        ),
        (
            "native = \"cloudwatch\"\nreplicators = { \"use1->usw9\" = \"west\" }",
            "`use1->usw9` is not a route",
        ),
    ] {
        let text = FOUR.replace("tls = \"disable\"", &format!("tls = \"disable\"\n{key}"));
        refused(&text, "8:17", &["connection `msk`", words]);
    }
}

/// All four stores in one file.
const FOUR: &str = r#"writers = ["use1"]
[site.use1]
region = "us-east-1"
endpoint_url = { s3 = "http://127.0.0.1:9000", dynamodb = "http://127.0.0.1:8000" }
credentials = { access_key_id = "lab", secret_access_key = { env = "DRIFTLINE_TEST_KEY" } }
[site.usw2]
region = "us-west-2"
[connection.msk.kafka]
tls = "disable"
mapping = { "use1->usw2" = "use1.{topic}" }
sites.use1 = { bootstrap = ["127.0.0.1:9092"] }
sites.usw2 = { bootstrap = ["127.0.0.1:9093"] }
[dataset.profiles.dynamodb]
tables = ["profiles", { use1 = "catalog", usw2 = "catalog_v2" }]
writers = ["use1", "usw2"]
[dataset.media.s3]
buckets = [{ use1 = "media-use1", usw2 = "media-usw2", prefix = "img/" }]
[dataset.events.kafka]
connection = "msk"
topics = ["orders", "pay*"]
"#;

#[test]
fn every_store_is_configured_in_its_own_words_and_printed_again() {
    let printed = print(FOUR).expect(0).stdout;
    for words in [
        "prefix = \"img/\"",
        "catalog_v2",
        "use1.{topic}",
        "topic = \"driftline-canary\"",
        "DRIFTLINE_TEST_KEY",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert_eq!(
        print(&printed).expect(0).stdout,
        printed,
        "what is printed can be read again"
    );
}

#[test]
fn a_fault_of_any_store_is_shown_at_its_place() {
    for (from, to, place, words) in [
        (
            "{ use1 = \"catalog\", usw2 = ",
            "{ use1 = \"catalog\", usw9 = ",
            "14:43",
            "unknown site `usw9`",
        ),
        (
            "{ use1 = \"media-use1\", usw2 =",
            "{ use1 = \"media-use1\", usw9 =",
            "17:35",
            "unknown site `usw9`",
        ),
        (
            "connection = \"msk\"",
            "connection = \"mks\"",
            "19:14",
            "did you mean `msk`",
        ),
        ("[\"orders\", \"pay*\"]", "[]", "20:10", "selects nothing"),
        (
            "writers = [\"use1\", \"usw2\"]",
            "writers = [\"use2\"]",
            "15:11",
            "unknown site `use2`",
        ),
        ("sites.usw2 = {", "sites.usw3 = {", "12:7", "unknown site `usw3`"),
        ("buckets = [{", "buckets = [{ region = 5,", "17:23", "string"),
        (
            "endpoint_url = { s3",
            "endpoint_url = { s4",
            "4:18",
            "did you mean `s3`",
        ),
    ] {
        assert!(FOUR.contains(from), "{from}");
        refused(&FOUR.replace(from, to), place, &[words]);
    }
}

#[test]
fn writers_of_a_dataset_without_a_connection_can_be_stated() {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("driftline.toml");
    std::fs::write(&path, FOUR).expect("write the configuration");
    let run = |word: &str| {
        finish(
            driftline()
                .arg("--config")
                .arg(&path)
                .args(["--writers", word, "config", "print"]),
        )
    };
    assert!(run("profiles=usw2").expect(0).stdout.contains("writers = [\"usw2\"]"));
    assert!(
        run("events=usw2")
            .expect(2)
            .stderr
            .contains("unknown connection `events`")
    );
}

//! A running probe whose primary refuses its canaries, and one whose configuration is read again: what a person sees of it.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{Running, Story, wait_until};
use crate::probing::{get, metric, ready, seen};

const TABLES: &str = "create table public.orders (id bigint primary key, note text)";
const CANARIES: &str = "driftline.canary";

/// The route from `primary` as `/status.json` tells it.
fn route(address: &str, primary: &str) -> Option<Value> {
    let (_, answer) = get(address, "/status.json")?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let status: Value = serde_json::from_str(body).ok()?;
    let routes = status["routes"].as_array()?;
    routes
        .iter()
        .find(|route| route["route"]["primary_site"] == primary)
        .cloned()
}

/// The lines of its log with this message.
fn lines(probe: &Running, message: &str) -> Vec<Value> {
    let log = probe.log();
    let all = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_primary_refuses_is_in_the_figures_on_the_page_and_in_the_log_at_once() {
    let story = Story::start(TABLES).await;
    let probe = story.spawn("probe", &["probe"]);
    let address = ready(&probe);
    wait_until("canaries are seen", || seen(&address) >= 3.0);
    let errors = || metric(&address, "driftline_errors_total");
    let write_error = || route(&address, "a").map(|route| route["write_error"].clone());
    assert_eq!((errors(), write_error()), (None, Some(Value::Null)));

    let as_superuser = async |sql: &str| {
        let primary = story.pair.primary();
        primary.execute("driftline", sql).await.expect("change the rights");
    };
    as_superuser(&format!("revoke insert, update on {CANARIES} from driftline")).await;
    wait_until("errors are counted", || errors().is_some_and(|count| count >= 3.0));
    let (_, text) = get(&address, "/metrics").expect("a scrape");
    let counted: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("driftline_errors_total{"))
        .collect();
    assert!(
        matches!(counted[..], [only] if only.contains("operation=\"write\",kind=\"denied\"") && only.contains("primary_site=\"a\"")),
        "{counted:#?}"
    );
    let told = route(&address, "a").expect("the route");
    let words = told["write_error"].as_str().expect("what is wrong");
    assert!(
        words.contains("permission denied") && words.contains("site a"),
        "{words}"
    );
    assert_eq!(told["poll_error"], Value::Null);
    let (_, page) = get(&address, "/").expect("the page");
    assert!(
        page.contains("Canaries are not acknowledged") && page.contains("permission denied"),
        "{page}"
    );
    let news = lines(&probe, "the primary does not acknowledge canaries");
    let [line] = &news[..] else { panic!("once: {news:#?}") };
    assert_eq!((&line["level"], &line["kind"]), (&"WARN".into(), &"denied".into()));
    let route_of_line = &line["span"];
    for (field, value) in [
        ("dataset", "shop"),
        ("store", "aurora"),
        ("primary_site", "a"),
        ("secondary_site", "b"),
    ] {
        assert_eq!(route_of_line[field], value, "{line:#}");
    }
    assert!(route_of_line["observer"].is_string(), "{line:#}");

    as_superuser(&format!("grant insert, update on {CANARIES} to driftline")).await;
    let before = seen(&address);
    wait_until("canaries are seen again", || seen(&address) >= before + 3.0);
    assert_eq!(write_error(), Some(Value::Null));
    assert_eq!(lines(&probe, "the primary acknowledges canaries again").len(), 1);
    probe.signal(Signal::SIGTERM);
    probe.expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_has_writers_read_again_and_a_broken_file_changes_nothing() {
    let story = Story::start(TABLES).await;
    let probe = story.spawn("probe", &["probe"]);
    let address = ready(&probe);
    wait_until("canaries are seen", || seen(&address) >= 3.0);
    let state = |primary: &str| route(&address, primary).map(|route| route["state"].clone());
    assert_eq!(state("b"), None, "b is no writer");

    let good = story.config();
    story.write_config(&good.replace("writers = [\"a\"]", "writers = [\"nowhere\"]"));
    probe.signal(Signal::SIGHUP);
    wait_until("it is told", || probe.log().contains("so the old one stays in force"));
    let before = seen(&address);
    wait_until("canaries go on", || seen(&address) >= before + 3.0);

    // A standby that is stated to be a writer: its route wakes, and nothing is written there.
    story.write_config(&good.replace("writers = [\"a\"]", "writers = [\"b\"]"));
    probe.signal(Signal::SIGHUP);
    wait_until("the route from a has ended", || state("a") == Some("ended".into()));
    wait_until("roles are seen not to be as stated", || {
        state("b") == Some("role_conflict".into())
    });
    story.write_config(&good);
    probe.signal(Signal::SIGHUP);
    wait_until("canaries leave from a again", || {
        state("a") == Some("arriving".into()) && state("b") == Some("ended".into())
    });
    let before = seen(&address);
    wait_until("and arrive", || seen(&address) >= before + 3.0);
    assert_eq!(probe.log().matches("the configuration was read again").count(), 2);
    probe.signal(Signal::SIGTERM);
    probe.expect(0);
}

//! Rules and dashboards name only what `/metrics` exports, and each alert has its page and its replay.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of a folder with this ending, as (name without it, text).
fn texts(folder: &str, ending: &str) -> Vec<(String, String)> {
    let files = fs::read_dir(at(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut texts: Vec<(String, String)> = files
        .filter_map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            let stem = name.strip_suffix(ending)?.to_owned();
            Some((stem, read(&format!("{folder}/{name}"))))
        })
        .collect();
    texts.sort();
    assert!(!texts.is_empty(), "{folder} has no {ending}");
    texts
}

/// Words that are metrics of ours, or records of the rules (those have a colon).
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_part(c))
        .filter(|word| {
            ["driftline_", "driftline:", "postgres_replication_", "process_"]
                .iter()
                .any(|start| word.starts_with(start))
        })
        .map(str::to_owned)
        .collect()
}

fn rules() -> String {
    read("deploy/prometheus/driftline.rules.yml")
}

/// The expressions of the rules with their names: no comments, no names of groups, no texts for people.
fn expressions(rules: &str) -> String {
    let is_text = |line: &str| {
        let line = line.trim_start();
        ["#", "- name:", "summary:", "description:", "runbook_url:"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    rules
        .lines()
        .filter(|line| !is_text(line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn alerts() -> Vec<String> {
    let alerts: Vec<String> = rules()
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned()))
        .collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    alerts
}

fn records() -> BTreeSet<String> {
    rules()
        .lines()
        .filter_map(|line| {
            line.trim()
                .trim_start_matches("- {")
                .trim_start_matches("- ")
                .strip_prefix("record: ")
        })
        .map(|rest| rest.split(", ").next().unwrap_or_default().trim_matches('"').to_owned())
        .collect()
}

/// Names that no probe exports and no rule records.
fn unknown(text: &str) -> Vec<String> {
    let exported: BTreeSet<String> = probes::metric_names().into_iter().collect();
    let records = records();
    let is_known = |name: &String| {
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        exported.contains(name) || records.contains(name) || base.is_some_and(|base| exported.contains(base))
    };
    metrics(text).into_iter().filter(|name| !is_known(name)).collect()
}

#[test]
fn rules_name_only_what_is_exported_or_recorded() {
    let expressions = expressions(&rules());
    assert!(metrics(&expressions).len() > 30, "the scan finds names");
    assert_eq!(unknown(&expressions), Vec::<String>::new());
    assert_eq!(
        unknown("rate(driftline_no_such_total[5m])"),
        ["driftline_no_such_total"]
    );
}

#[test]
fn dashboards_name_only_what_is_exported_or_recorded() {
    let dashboards = texts("deploy/grafana", ".json");
    let names: Vec<&str> = dashboards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["aurora", "dynamodb", "kafka", "overview", "s3"]);
    for (name, text) in &dashboards {
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut queries = Vec::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                queries.push(target["expr"].as_str().unwrap().to_owned());
            }
        }
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            queries.extend(variable["query"]["query"].as_str().map(str::to_owned));
        }
        let queries = queries.join("\n");
        assert_eq!(unknown(&queries), Vec::<String>::new(), "{name}");
        for wanted in [
            "driftline:lag_low_seconds:p99_5m",
            "driftline:lag_high_seconds:p99_5m",
            "driftline:oldest_unseen_seconds:max",
        ] {
            assert!(metrics(&queries).contains(wanted), "{name} does not show {wanted}");
        }
    }
}

#[test]
fn every_alert_has_its_page_and_no_page_is_left_over() {
    let alerts: BTreeSet<String> = alerts().into_iter().collect();
    let pages: BTreeSet<String> = texts("docs/runbooks", ".md")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(alerts, pages);
    for alert in &alerts {
        let link = format!("runbook_url: docs/runbooks/{alert}.md");
        assert!(
            rules().lines().any(|line| line.trim() == link),
            "{alert} does not link to its page"
        );
    }
}

#[test]
fn every_alert_is_seen_to_fire_and_not_to_fire() {
    let checks: String = texts("deploy/prometheus/tests", ".yml")
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    for alert in alerts() {
        assert!(
            checks.contains(&format!("alertname=\"{alert}\"}}', value: 1")),
            "{alert} is never seen to fire"
        );
    }
    // Each check states all alerts that fire, so one that states none is a check of every alert.
    assert!(checks.contains("exp_samples: []"));
}

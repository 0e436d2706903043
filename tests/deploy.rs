//! Rules and dashboards name only what `/metrics` exports, and each alert has its page and its replay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

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

/// Labels by which a metric or record can be chosen and grouped. Those that Prometheus adds at a scrape are among them.
fn labels_of(name: &str, records: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let word = |text: &&str| (*text).to_owned();
    if let Some(labels) = records.get(name) {
        return labels.clone();
    }
    let mut labels: BTreeSet<String> = ["job", "instance"].iter().map(word).collect();
    let exported = probes::metric_names();
    for (known, own) in exported.iter().zip(probes::metric_labels()) {
        let rest = name.strip_prefix(known.as_str());
        if rest == Some("_bucket") {
            labels.insert("le".to_owned());
        }
        if matches!(rest, Some("" | "_bucket" | "_sum" | "_count")) {
            labels.extend(own.iter().map(word));
        }
    }
    labels
}

/// The labels that each record carries: those it is grouped by or has from its metrics, and those that its rule adds.
fn record_labels() -> BTreeMap<String, BTreeSet<String>> {
    let mut records = BTreeMap::new();
    for rule in rule_texts() {
        let Some(name) = after(&rule, "record: ") else { continue };
        let name = name.split([',', '\n']).next().unwrap().trim_matches('"').to_owned();
        let mut labels = outcome(expression(&rule), &records);
        if let Some(added) = after(&rule, "labels: {") {
            let added = added.split('}').next().unwrap();
            labels.extend(
                added
                    .split(',')
                    .map(|one| one.split(':').next().unwrap().trim().to_owned()),
            );
        }
        // The bounds of the stores are series of one name.
        records.entry(name).or_insert_with(BTreeSet::new).extend(labels);
    }
    records
}

fn after<'t>(text: &'t str, start: &str) -> Option<&'t str> {
    text.split_once(start).map(|(_, rest)| rest)
}

/// Each rule from its name to the next one.
fn rule_texts() -> Vec<String> {
    let rules = rules();
    let lines = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut texts: Vec<String> = Vec::new();
    for line in lines {
        let line = line.trim();
        let is_new = ["- alert: ", "- record: ", "- {record: "]
            .iter()
            .any(|start| line.starts_with(start));
        if is_new || line.starts_with("- name: ") {
            texts.push(String::new());
        }
        if let Some(text) = texts.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    texts.retain(|text| !text.starts_with("- name: "));
    texts
}

fn expression(rule: &str) -> &str {
    let rest = after(rule, "expr: ").unwrap_or_else(|| panic!("no expression: {rule}"));
    let ends = ["\nfor: ", "\nlabels: ", "\nannotations:"];
    let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
    &rest[..end]
}

/// What stands in brackets behind this word, wherever it occurs.
fn lists(expression: &str, word: &str) -> BTreeSet<String> {
    let start = format!("{word} (");
    let lists = expression
        .match_indices(&start)
        .map(|(at, _)| &expression[at + start.len()..]);
    let names = lists.flat_map(|rest| rest.split(')').next().unwrap().split(','));
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The labels that the result of an expression may have.
fn outcome(expression: &str, records: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut grouped = lists(expression, "by");
    grouped.remove("le");
    if !grouped.is_empty() {
        return grouped;
    }
    let names = metrics(expression).into_iter();
    names.flat_map(|name| labels_of(&name, records)).collect()
}

/// Labels in an expression that none of its metrics carries: in braces by that metric, in lists by any.
fn unknown_labels(expression: &str, records: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut any: BTreeSet<String> = BTreeSet::new();
    for name in metrics(expression) {
        let labels = labels_of(&name, records);
        for (at, _) in expression.match_indices(&format!("{name}{{")) {
            let before = expression[..at].chars().next_back();
            let inner = &expression[at + name.len() + 1..];
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            // No value has a closing brace; a value's text is between quotes, every second part.
            let outside: String = inner.split('}').next().unwrap().split('"').step_by(2).collect();
            for matcher in outside.split(',') {
                let label = matcher.trim().trim_end_matches(['=', '~', '!']);
                if !label.is_empty() && !labels.contains(label) {
                    unknown.push(format!("{name}{{{label}}}"));
                }
            }
        }
        any.extend(labels);
    }
    any.extend(["job", "instance"].map(str::to_owned));
    for word in ["by", "on", "group_left"] {
        let used = lists(expression, word).into_iter().filter(|label| !any.contains(label));
        unknown.extend(used.map(|label| format!("{word} ({label})")));
    }
    unknown
}

/// Labels that a text for people shows.
fn shown(text: &str, open: &str) -> BTreeSet<String> {
    let rest = text.match_indices(open).map(|(at, _)| &text[at + open.len()..]);
    rest.map(|rest| {
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
            .unwrap()
            .to_owned()
    })
    .collect()
}

#[test]
fn rules_use_only_labels_that_are_there() {
    let records = record_labels();
    assert!(records.len() > 10, "{records:?}");
    for rule in rule_texts() {
        let expression = expression(&rule);
        assert_eq!(unknown_labels(expression, &records), Vec::<String>::new(), "{rule}");
        let mut known = outcome(expression, &records);
        known.extend(["job", "instance"].map(str::to_owned));
        let shown = shown(&rule, "$labels.");
        assert!(shown.is_subset(&known), "{shown:?} of {known:?}: {rule}");
    }
    for (broken, what) in [
        ("driftline_pending{site=\"a\"}", "driftline_pending{site}"),
        ("sum by (datset) (driftline_pending)", "by (datset)"),
        (
            "driftline:lag_low_seconds:p99_5m{le=\"1\"}",
            "driftline:lag_low_seconds:p99_5m{le}",
        ),
        (
            "rate(driftline_lag_low_seconds_bucket{kind=\"x\", le=\"1\"}[5m])",
            "driftline_lag_low_seconds_bucket{kind}",
        ),
    ] {
        assert_eq!(unknown_labels(broken, &records), [what]);
    }
}

fn dashboards() -> Vec<(String, Value)> {
    let parsed = texts("deploy/grafana", ".json").into_iter().map(|(name, text)| {
        let dashboard = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, dashboard)
    });
    parsed.collect()
}

fn all(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// Every query of a dashboard with the form of its legend.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let targets = all(&dashboard["panels"]).flat_map(|panel| all(&panel["targets"]));
    let mut queries: Vec<(String, String)> = targets
        .map(|target| {
            (
                text(&target["expr"]).to_owned(),
                text(&target["legendFormat"]).to_owned(),
            )
        })
        .collect();
    for annotation in all(&dashboard["annotations"]["list"]) {
        queries.push((
            text(&annotation["expr"]).to_owned(),
            text(&annotation["titleFormat"]).to_owned(),
        ));
    }
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

#[test]
fn dashboards_name_only_what_is_there() {
    let records = record_labels();
    let dashboards = dashboards();
    let names: Vec<&str> = dashboards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["aurora", "dynamodb", "kafka", "overview", "s3"]);
    for (name, dashboard) in &dashboards {
        let mut used = BTreeSet::new();
        for (query, legend) in queries(dashboard) {
            assert_eq!(unknown(&query), Vec::<String>::new(), "{name}");
            assert_eq!(
                unknown_labels(&query, &records),
                Vec::<String>::new(),
                "{name}: {query}"
            );
            let mut known = outcome(&query, &records);
            known.insert("instance".to_owned());
            let shown = shown(&legend, "{{");
            assert!(shown.is_subset(&known), "{name}: {legend} of {known:?}: {query}");
            used.extend(metrics(&query));
        }
        for wanted in [
            "driftline:lag_low_seconds:p99_5m",
            "driftline:lag_high_seconds:p99_5m",
            "driftline:oldest_unseen_seconds:max",
            "driftline:native_lag_seconds:max",
            "driftline_pending",
            "driftline_canaries_total",
            "driftline_role_conflict",
            "driftline_unmeasured",
            "driftline_requests_total",
            "driftline_request_units_total",
            "driftline_reconcile_last_success_timestamp_seconds",
            "driftline_divergences_confirmed",
        ] {
            assert!(used.contains(wanted), "{name} does not show {wanted}");
        }
        let is_of_mirrors = ["kafka", "overview"].contains(&name.as_str());
        assert_eq!(used.contains("driftline_mirror_lag_records"), is_of_mirrors, "{name}");
    }
}

/// Every data source that is named in it, however deep.
fn sources(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(all) => all.iter().flat_map(sources).collect(),
        Value::Object(fields) => {
            let named = fields.get("datasource").into_iter();
            let rest = fields.iter().filter(|(name, _)| *name != "datasource");
            named.chain(rest.flat_map(|(_, value)| sources(value))).collect()
        }
        _ => Vec::new(),
    }
}

/// Both directions of a pair of sites stand side by side, and whoever imports a dashboard chooses its data source.
#[test]
fn dashboards_have_one_shape() {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(uids.insert(text(&dashboard["uid"]).to_owned()), "{name}");
        assert_eq!(dashboard["schemaVersion"], 38, "{name}");
        let variables: Vec<&str> = all(&dashboard["templating"]["list"])
            .map(|one| text(&one["name"]))
            .collect();
        assert_eq!(
            variables,
            ["datasource", "dataset", "primary_site", "secondary_site", "observer"],
            "{name}"
        );
        for variable in all(&dashboard["templating"]["list"]).skip(1) {
            let query = text(&variable["query"]["query"]);
            assert_eq!(unknown(query), Vec::<String>::new(), "{name}");
        }
        let source = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
        let found = sources(&dashboard);
        assert!(
            found.len() > 50 && found.iter().all(|one| **one == source),
            "{name}: {found:?}"
        );
        let (mut ids, mut fields) = (BTreeSet::new(), BTreeSet::new());
        let mut sides: BTreeMap<String, u32> = BTreeMap::new();
        for panel in all(&dashboard["panels"]) {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}");
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                assert!(x < 24, "{name}: {title} is too wide");
                for y in at("y")..at("y") + at("h") {
                    assert!(fields.insert((x, y)), "{name}: {title} covers another panel");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(&panel["description"]).is_empty(), "{name}: {title}");
            assert_eq!(panel["datasource"], source, "{name}: {title}");
            if let Some((figure, _)) = title.split_once(": $") {
                *sides.entry(figure.to_owned()).or_default() += 1;
            }
        }
        assert!(
            sides.len() > 6 && sides.values().all(|count| *count == 2),
            "{name}: {sides:?}"
        );
    }
}

#[test]
fn every_metric_has_an_entry_that_tells_how_to_read_it_and_what_it_cannot_tell() {
    let page = read("docs/metrics.md");
    let mut entries: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<String> = line
            .trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect();
        let name = cells[0].trim_matches('`').split('{').next().unwrap().to_owned();
        assert!(entries.insert(name, cells).is_none(), "twice: {line}");
    }
    let wanted: BTreeSet<String> = probes::metric_names().into_iter().collect();
    assert_eq!(entries.keys().cloned().collect::<BTreeSet<_>>(), wanted);
    let labels: BTreeMap<String, &[&str]> = probes::metric_names()
        .into_iter()
        .zip(probes::metric_labels())
        .collect();
    for (name, cells) in &entries {
        let [shown, reading, limit] = cells.as_slice() else {
            panic!("{name} wants a reading and a limit: {cells:?}")
        };
        assert!(reading.len() > 10 && limit.len() > 10, "{name}: {cells:?}");
        if let Some((_, own)) = shown.trim_end_matches(['`', '}']).split_once('{') {
            for label in own.split(',') {
                assert!(labels[name].contains(&label.trim()), "{name} has no {label}");
            }
        }
    }
}

#[test]
fn every_alert_has_its_page_and_no_page_is_left_over() {
    let alerts: BTreeSet<String> = alerts().into_iter().collect();
    // The other pages there are of what people do, and are carried out by a test of their own.
    let pages: BTreeSet<String> = texts("docs/runbooks", ".md")
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("Driftline"))
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

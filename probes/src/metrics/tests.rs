//! The scrape as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::{MetricFamily, MetricType};
use prost::Message as _;
use stores::memory::{Pair, Settings};
use stores::{Meter, Usage};

use super::*;
use crate::clock::SimulatedClock;
use crate::engine::Part;
use crate::live::Native;
use crate::tracker::Tracker;
use crate::troubles::{NO_ANSWER, Tried};
use crate::{Config, FinalState, Polling, Settled};

/// Series of a probe of 40 tables, 12 topics and 6 buckets with a writer on each of two sites, at most.
const SERIES_BUDGET: usize = 1_600;

/// A board with its clock.
struct Rig {
    metrics: Metrics,
    clock: Arc<SimulatedClock>,
    pair: Pair,
}

impl Rig {
    fn new() -> Self {
        Self {
            metrics: Metrics::new("1.2.3"),
            clock: Arc::new(SimulatedClock::at(1_000_000, 0)),
            pair: Pair::new(Settings::default()),
        }
    }

    fn watch(&self, route: &Route, collection: Option<&str>, stream: &str) -> (Arc<Live>, RouteFigures) {
        let spec = RouteSpec {
            route: route.clone(),
            collection: collection.map(str::to_owned),
            stream: stream.to_owned(),
            writer: self.pair.primary().canary_writer.unwrap(),
            reader: self.pair.secondary().canary_reader.unwrap(),
            primary_status: None,
            secondary_status: None,
            settings: Config::default(),
            polling: Polling::AURORA,
            pace: None,
            part: Part::Both,
            single_writer: true,
        };
        let live = Arc::new(Live::new(Tracker::new("e", true, 1_000)));
        live.is_active.store(true, Ordering::Release);
        let figures = self.metrics.watch(&spec, live.clone(), self.clock.clone());
        (live, figures)
    }

    /// All series of the text form: (name, sorted labels) and the value.
    fn scrape(&self) -> BTreeMap<(String, Labels), f64> {
        parse(&self.metrics.render()).series
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<f64> = self
            .scrape()
            .into_iter()
            .filter(|((known, held), _)| {
                known == name && labels.iter().all(|(k, v)| held.get(*k).map(String::as_str) == Some(v))
            })
            .map(|(_, value)| value)
            .collect();
        assert!(found.len() < 2, "{name}{labels:?} fits {} series", found.len());
        found.first().copied()
    }
}

type Labels = BTreeMap<String, String>;

struct Parsed {
    series: BTreeMap<(String, Labels), f64>,
    families: BTreeMap<String, String>,
}

/// A strict reader of OpenMetrics text: it knows no more than what a scrape may contain, and panics at anything else.
fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed {
        series: BTreeMap::new(),
        families: BTreeMap::new(),
    };
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut helped = String::new();
    let mut family = String::new();
    for line in body.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split(' ').next().unwrap().to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "a type follows its help");
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            let is_new = parsed.families.insert(name.to_owned(), kind.to_owned()).is_none();
            assert!(is_new, "{name} is described twice");
            family = name.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let suffix = name
                .strip_prefix(&family)
                .unwrap_or_else(|| panic!("{line} under {family}"));
            let allowed: &[&str] = match parsed.families[&family].as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}");
            let is_new = parsed.series.insert((name, labels), value).is_none();
            assert!(is_new, "twice: {line}");
        }
    }
    parsed
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, behind) = rest.split_once("=\"").expect(line);
            let mut value = String::new();
            let mut chars = behind.char_indices();
            let closed = loop {
                match chars.next().expect(line) {
                    (_, '\\') => match chars.next().expect(line).1 {
                        'n' => value.push('\n'),
                        escaped @ ('\\' | '"') => value.push(escaped),
                        other => panic!("\\{other} in {line}"),
                    },
                    (at, '"') => break at,
                    (_, plain) => value.push(plain),
                }
            };
            let is_new = labels.insert(key.to_owned(), value).is_none();
            assert!(is_new, "{key} twice in {line}");
            rest = &behind[closed + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect(line).parse().expect(line);
    (name.to_owned(), labels, value)
}

fn route(dataset: &str, store: &str, primary: &str, secondary: &str) -> Route {
    Route {
        dataset: dataset.to_owned(),
        store: store.to_owned(),
        primary_site: primary.to_owned(),
        secondary_site: secondary.to_owned(),
        observer: "usw2/host".to_owned(),
    }
}

fn seen(sequence: u64, low_us: u64, high_us: u64) -> Settled {
    Settled {
        sequence,
        planned_us: 0,
        sent_us: 1,
        acked_us: Some(2),
        seen_us: Some(high_us + 1),
        low_us: Some(low_us),
        high_us: Some(high_us),
        low_known: true,
        state: FinalState::Seen,
    }
}

#[test]
fn streams_of_one_route_are_one_series_summed_or_worst() {
    let rig = Rig::new();
    let route = route("events", "kafka", "use1", "usw2");
    let (first, first_figures) = rig.watch(&route, None, "a");
    let (second, second_figures) = rig.watch(&route, None, "b");
    first.tracker().sent(1, 0, 0);
    first.tracker().acked(1, 1_000_000);
    second.tracker().sent(1, 0, 0);
    second.tracker().acked(1, 3_000_000);
    second.tracker().sent(2, 0, 0);
    rig.clock.advance(9_000_000);
    let lag = stores::CollectionLag {
        lag_records: Some(5_001),
        lag_us: None,
    };
    second.by_collection().insert("t".to_owned(), lag);
    first.rivals.store(1, Ordering::Relaxed);
    first.duplicates.store(2, Ordering::Relaxed);
    second.duplicates.store(3, Ordering::Relaxed);
    second.foreign.store(1, Ordering::Relaxed);
    first_figures.settled(&seen(1, 10, 20));
    second_figures.settled(&seen(1, 30, 40));
    let of = [("dataset", "events")];
    assert_eq!(rig.value("driftline_pending", &of), Some(3.0));
    assert_eq!(rig.value("driftline_oldest_unseen_seconds", &of), Some(9.0));
    assert_eq!(rig.value("driftline_canaries_duplicate_total", &of), Some(5.0));
    assert_eq!(rig.value("driftline_canaries_duplicate_total", &of), Some(5.0), "once");
    assert_eq!(rig.value("driftline_canaries_foreign_total", &of), Some(1.0));
    assert_eq!(rig.value("driftline_rival_probes_total", &of), Some(1.0));
    assert_eq!(
        rig.value("driftline_mirror_lag_records", &[("collection", "t")]),
        Some(5_001.0)
    );
    assert_eq!(rig.value("driftline_lag_high_seconds_count", &of), Some(2.0));
    assert_eq!(
        rig.value("driftline_canaries_total", &[("dataset", "events"), ("state", "seen")]),
        Some(2.0)
    );
    assert_eq!(
        rig.value("driftline_native_lag_seconds", &of),
        None,
        "not collected is absent"
    );
    assert_eq!(rig.value("postgres_replication_lag_seconds", &of), None);
}

#[test]
fn a_stream_that_starts_again_goes_on_counting_and_one_that_ended_has_no_age() {
    let rig = Rig::new();
    let route = route("orders", "aurora", "use1", "usw2");
    let (live, figures) = rig.watch(&route, None, "a");
    live.foreign.store(2, Ordering::Relaxed);
    live.tracker().sent(1, 0, 0);
    live.tracker().acked(1, 1_000_000);
    drop(figures);
    let of = [("dataset", "orders")];
    assert_eq!(rig.value("driftline_oldest_unseen_seconds", &of), None);
    let (live, _figures) = rig.watch(&route, None, "a");
    live.foreign.store(1, Ordering::Relaxed);
    assert_eq!(rig.value("driftline_canaries_foreign_total", &of), Some(3.0));
    assert_eq!(rig.value("driftline_oldest_unseen_seconds", &of), Some(0.0));
}

#[test]
fn forty_tables_twelve_topics_and_six_buckets_stay_within_the_budget() {
    let rig = Rig::new();
    let mut kept = Vec::new();
    for (primary, secondary) in [("use1", "usw2"), ("usw2", "use1")] {
        let mut collections = |dataset: &str, store: &str, names: Vec<String>| {
            let route = route(dataset, store, primary, secondary);
            for name in names {
                kept.push(rig.watch(&route, Some(&name), &format!("{name}/{primary}")));
            }
        };
        let named = |kind: &str, count: usize| (0..count).map(|n| format!("{kind}{n:02}")).collect();
        collections("profiles", "dynamodb", named("table", 40));
        collections("events", "kafka", named("topic", 12));
        collections("media", "s3", named("bucket", 6));
        kept.push(rig.watch(&route("orders", "aurora", primary, secondary), None, primary));
        let topics = named("topic", 12).into_iter().map(|topic: String| (topic, 7)).collect();
        rig.metrics
            .set_mirror_lag(&route("events", "kafka", primary, secondary), topics);
    }
    let mut unmeasured = Vec::new();
    for n in 0..5_000 {
        unmeasured.push(Unmeasured {
            dataset: "archive".to_owned(),
            store: "s3".to_owned(),
            collection: format!("prefix{n:04}"),
            reason: "no rule".to_owned(),
        });
    }
    rig.metrics.set_unmeasured(unmeasured);
    let series = rig.scrape();
    assert!(series.len() <= SERIES_BUDGET, "{} series", series.len());
    let of_unmeasured = |metric: &str| {
        let all = series.iter().filter(|((name, _), _)| name == metric);
        all.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    assert_eq!(of_unmeasured("driftline_unmeasured").len(), SERIES_MAX + 1);
    let dropped = rig
        .value("driftline_series_dropped", &[("metric", "driftline_unmeasured")])
        .unwrap();
    assert_eq!(dropped, f64::from(5_000 - u32::try_from(SERIES_MAX).unwrap()));
    assert_eq!(
        rig.value("driftline_series_dropped", &[("metric", "driftline_pending")]),
        Some(0.0)
    );
    assert_eq!(
        rig.value(
            "driftline_mirror_lag_records",
            &[("collection", "topic03"), ("primary_site", "use1")]
        ),
        Some(7.0)
    );
}

/// Such canaries have no fate yet, and nothing is pending: without these two figures a primary that refuses everything would look idle.
#[test]
fn writes_that_nobody_answers_show_before_their_fate_is_known() {
    let rig = Rig::new();
    let (live, figures) = rig.watch(&route("events", "kafka", "use1", "usw2"), None, "a");
    let value = |name: &str, labels: &[(&str, &str)]| rig.value(name, labels);
    assert_eq!(value("driftline_unanswered", &[]), Some(0.0));
    assert_eq!(value("driftline_errors_total", &[]), None, "no kind has occurred");
    for sequence in 1..=3 {
        live.tracker().sent(sequence, 0, 10);
        live.tracker().unknown(sequence, 20);
        live.troubles.failed(Tried::Write, "config", "the login is refused");
    }
    live.troubles.failed(Tried::Poll, NO_ANSWER, "silence");
    let errors = |operation: &str, kind: &str| {
        let labels = [("operation", operation), ("kind", kind), ("dataset", "events")];
        value("driftline_errors_total", &labels)
    };
    for _ in 0..2 {
        assert_eq!(value("driftline_unanswered", &[]), Some(3.0));
        assert_eq!(value("driftline_pending", &[]), Some(0.0));
        let unknown = [("state", "write_unknown")];
        assert_eq!(
            value("driftline_canaries_total", &unknown),
            Some(0.0),
            "they may appear"
        );
        assert_eq!(errors("write", "config"), Some(3.0));
        assert_eq!(errors("poll", NO_ANSWER), Some(1.0));
    }
    let status = crate::Status::now(&rig.metrics, true);
    let shown = &status.routes[0];
    assert_eq!(shown.unanswered, 3);
    assert_eq!(shown.write_error.as_deref(), Some("the login is refused"));
    assert_eq!(shown.poll_error.as_deref(), Some("silence"));

    // The probe ends: they have their fate. Counts of errors survive a stream that starts again.
    for settled in live.tracker().close() {
        figures.settled(&settled);
    }
    assert_eq!(value("driftline_unanswered", &[]), Some(0.0));
    assert_eq!(
        value("driftline_canaries_total", &[("state", "write_unknown")]),
        Some(3.0)
    );
    let (live, _figures) = rig.watch(&route("events", "kafka", "use1", "usw2"), None, "a");
    live.troubles.failed(Tried::Write, "config", "the login is refused");
    assert_eq!(errors("write", "config"), Some(4.0));
    live.troubles.succeeded(Tried::Write);
    assert_eq!(crate::Status::now(&rig.metrics, true).routes[0].write_error, None);
}

#[test]
fn names_that_hold_quotes_break_no_scrape() {
    let rig = Rig::new();
    let odd = "a\"b\\c\nd{e}=,";
    let _kept = rig.watch(&route(odd, "s3", "use1", "usw2"), Some(odd), "a");
    assert_eq!(
        rig.value("driftline_pending", &[("dataset", odd), ("collection", odd)]),
        Some(0.0)
    );
}

#[test]
fn every_name_is_described_and_documented() {
    let parsed = parse(&Metrics::new("1").render());
    let described: BTreeSet<&str> = parsed.families.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = names::ALL.iter().map(|name| name.base).collect();
    assert_eq!(described, listed);
    let page = include_str!("../../../docs/metrics.md");
    let headings: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .map(str::to_owned)
        .collect();
    let queried: BTreeSet<String> = metric_names().into_iter().collect();
    assert_eq!(headings, queried, "docs/metrics.md has one row for each name");
}

#[test]
fn series_carry_the_labels_that_are_listed_and_all_of_them_occur() {
    let rig = Rig::new();
    let orders = route("orders", "aurora", "use1", "usw2");
    let profiles = route("profiles", "dynamodb", "use1", "usw2");
    let (live, figures) = rig.watch(&orders, None, "a");
    let (keyed, _figures) = rig.watch(&profiles, Some("profiles"), "b");
    for live in [&live, &keyed] {
        live.tracker().sent(1, 0, 0);
        live.set_native(Native {
            lag_us: Some(1),
            lag_bytes: Some(1),
            role_conflict: Some(false),
            lag_as_of_us: Some(1),
            pending_operations: Some(1),
        });
    }
    live.troubles.failed(Tried::Write, "config", "refused");
    figures.settled(&seen(1, 0, 15_000));
    keyed.newest_sent_at_us.store(1, Ordering::Relaxed);
    let meter = Arc::new(Meter::default());
    meter.count(
        "GetItem",
        Usage {
            requests: 1,
            units: 1.0,
            bytes: 0,
        },
    );
    rig.metrics.add_meter("profiles", "dynamodb", "usw2", meter);
    rig.metrics
        .set_mirror_lag(&orders, BTreeMap::from([("t".to_owned(), 1)]));
    rig.metrics.set_event_active("failover", true);
    rig.metrics.set_budget(BudgetFigures {
        pace: 1.0,
        budget_usd_per_hour: 1.0,
        usd_per_hour: Some(1.0),
        words: String::new(),
    });
    rig.metrics.set_unmeasured(vec![Unmeasured {
        dataset: "archive".to_owned(),
        store: "s3".to_owned(),
        collection: "c".to_owned(),
        reason: "no rule".to_owned(),
    }]);
    rig.metrics.set_reconciled(vec![Reconciled {
        route: orders,
        last_success_at_us: Some(1),
        divergences_confirmed: Some(1),
        collections_unverified: Some(1),
    }]);
    rig.metrics.set_ledger(LedgerFigures {
        bytes: Some(1),
        sync_failures: 1,
        places: vec![PlaceFigures {
            place: "/copy".to_owned(),
            complete_until_us: Some(1),
            failures: 1,
        }],
    });
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((name, labels), _) in rig.scrape() {
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .map_or(name.clone(), str::to_owned);
        let labels = labels.into_keys().filter(|label| label != "le");
        shown.entry(name).or_default().extend(labels);
    }
    let listed: BTreeMap<String, BTreeSet<String>> = metric_names()
        .into_iter()
        .zip(metric_labels())
        .map(|(name, labels)| (name, labels.iter().map(|label| (*label).to_owned()).collect()))
        .collect();
    assert_eq!(shown, listed);
}

#[test]
fn what_the_program_tells_is_shown() {
    let rig = Rig::new();
    let orders = route("orders", "aurora", "use1", "usw2");
    rig.metrics.set_reconciled(vec![Reconciled {
        route: orders.clone(),
        last_success_at_us: Some(1_700_000_000_500_000),
        divergences_confirmed: Some(3),
        collections_unverified: None,
    }]);
    rig.metrics.set_ledger(LedgerFigures {
        bytes: Some(77),
        sync_failures: 1,
        places: vec![PlaceFigures {
            place: "/copy".to_owned(),
            complete_until_us: None,
            failures: 4,
        }],
    });
    for n in 0..100 {
        rig.metrics.set_event_active(&format!("kind{n}"), n == 99);
    }
    let of = [("dataset", "orders")];
    assert_eq!(
        rig.value("driftline_reconcile_last_success_timestamp_seconds", &of),
        Some(1_700_000_000.5)
    );
    assert_eq!(rig.value("driftline_divergences_confirmed", &of), Some(3.0));
    assert_eq!(
        rig.value("driftline_collections_unverified", &of),
        None,
        "unknown is not zero"
    );
    assert_eq!(rig.value("driftline_ledger_bytes", &[]), Some(77.0));
    assert_eq!(
        rig.value("driftline_ledger_upload_failures_total", &[("place", "/copy")]),
        Some(4.0)
    );
    assert_eq!(
        rig.value("driftline_ledger_uploaded_timestamp_seconds", &[]),
        None,
        "nothing is there"
    );
    assert_eq!(rig.value("driftline_event_active", &[("kind", OTHER)]), Some(1.0));
    assert_eq!(rig.value("driftline_event_active", &[("kind", "kind3")]), Some(0.0));
}

#[test]
fn requests_are_counted_by_the_meter_or_by_the_engine_and_never_twice() {
    let rig = Rig::new();
    let (live, _figures) = rig.watch(&route("profiles", "dynamodb", "use1", "usw2"), None, "a");
    live.polls.store(9, Ordering::Relaxed);
    let polls = [("dataset", "profiles"), ("operation", "poll")];
    assert_eq!(rig.value("driftline_requests_total", &polls), Some(9.0));
    let meter = Arc::new(Meter::default());
    let usage = Usage {
        requests: 4,
        units: 2.5,
        bytes: 0,
    };
    meter.count("GetItem", usage);
    rig.metrics.add_meter("profiles", "dynamodb", "usw2", meter.clone());
    rig.metrics.add_meter("profiles", "dynamodb", "usw2", meter);
    assert_eq!(rig.value("driftline_requests_total", &polls), None);
    let gets = [("site", "usw2"), ("operation", "GetItem")];
    assert_eq!(rig.value("driftline_requests_total", &gets), Some(4.0));
    assert_eq!(rig.value("driftline_request_units_total", &gets), Some(2.5));
}

#[test]
fn a_zero_of_the_store_is_shown_with_its_instant_and_beside_what_is_unseen() {
    let rig = Rig::new();
    let (live, _figures) = rig.watch(&route("media", "s3", "use1", "usw2"), Some("media/img/"), "a");
    live.tracker().sent(1, 0, 0);
    live.tracker().acked(1, 1_000_000);
    rig.clock.advance(900_000_000);
    live.set_native(Native {
        lag_us: Some(0),
        lag_as_of_us: Some(1_700_000_000_000_000),
        pending_operations: Some(7),
        ..Native::default()
    });
    let of = [("collection", "media/img/")];
    assert_eq!(rig.value("driftline_native_lag_seconds", &of), Some(0.0));
    assert_eq!(
        rig.value("driftline_native_as_of_timestamp_seconds", &of),
        Some(1_700_000_000.0)
    );
    assert_eq!(rig.value("driftline_native_pending_operations", &of), Some(7.0));
    assert_eq!(
        rig.value("driftline_oldest_unseen_seconds", &of),
        Some(900.0),
        "the contradiction"
    );
    live.set_native(Native::default());
    for name in [
        "driftline_native_lag_seconds",
        "driftline_native_as_of_timestamp_seconds",
        "driftline_native_pending_operations",
    ] {
        assert_eq!(rig.value(name, &of), None, "{name}: not collected is absent");
    }
}

#[test]
fn what_is_paid_for_beside_a_route_hides_no_requests_of_its_own() {
    let rig = Rig::new();
    let (live, _figures) = rig.watch(&route("events", "kafka", "use1", "usw2"), None, "a");
    live.polls.store(9, Ordering::Relaxed);
    let meter = Arc::new(Meter::partial());
    let usage = Usage {
        requests: 1,
        units: 2.0,
        bytes: 0,
    };
    meter.count("GetMetricData", usage);
    rig.metrics.add_meter("events", "kafka", "usw2", meter);
    let of = |operation| [("dataset", "events"), ("operation", operation)];
    assert_eq!(rig.value("driftline_requests_total", &of("poll")), Some(9.0));
    assert_eq!(rig.value("driftline_requests_total", &of("GetMetricData")), Some(1.0));
}

#[test]
fn protobuf_carries_native_histograms_that_agree_with_the_classic_ones() {
    let rig = Rig::new();
    let (_live, figures) = rig.watch(&route("orders", "aurora", "use1", "usw2"), None, "a");
    for high_us in [0, 15_000, 15_100, 470_000, 7_000_000] {
        figures.settled(&seen(1, 0, high_us));
    }
    let body = rig.metrics.render_protobuf();
    let mut rest = body.as_slice();
    let mut families = BTreeMap::new();
    while !rest.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut rest).unwrap();
        families.insert(family.name.clone(), family);
    }
    let names: BTreeSet<String> = families.keys().cloned().collect();
    assert_eq!(names, metric_names().into_iter().collect());
    let family = &families["driftline_lag_high_seconds"];
    assert_eq!(family.r#type(), MetricType::Histogram);
    let histogram = family.metric[0].histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema), (5, 3));
    assert_eq!(histogram.zero_count, 1, "0 is in the zero bucket");
    let (mut count, mut index, mut held) = (0, 0, Vec::new());
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().unwrap();
            if count > 0 {
                // Schema 3: eight buckets to a power of two, each closed above.
                held.push((2f64.powf(f64::from(index) / 8.0), count));
            }
            index += 1;
        }
    }
    let counts: Vec<i64> = held.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [2, 1, 1]);
    for ((upper, _), value) in held.iter().zip([0.015_1, 0.47, 7.0]) {
        assert!(
            *upper >= value && *upper / 2f64.powf(0.125) < value,
            "{value} in {upper}"
        );
    }
    let classic: Vec<u64> = histogram.bucket.iter().map(|bucket| bucket.cumulative_count).collect();
    assert_eq!(classic.last(), Some(&5));
    assert!(classic.is_sorted());
}

#[test]
fn streams_beyond_the_bound_are_probed_and_not_shown() {
    let rig = Rig::new();
    let route = route("orders", "aurora", "use1", "usw2");
    for n in 0..=STREAMS_MAX {
        let (_live, figures) = rig.watch(&route, None, &n.to_string());
        figures.skipped();
    }
    assert_eq!(rig.metrics.board.shown().streams.len(), STREAMS_MAX);
    let skipped = rig.value("driftline_skipped_total", &[("dataset", "orders")]).unwrap();
    assert_eq!(skipped, f64::from(u32::try_from(STREAMS_MAX).unwrap()));
}

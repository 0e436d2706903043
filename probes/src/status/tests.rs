//! The page as a person reads it, in each state.

use super::*;
use crate::metrics::{Lately, SPANS_MAX};

const ALL: [RouteState; 9] = [
    RouteState::RoleConflict,
    RouteState::Stalled,
    RouteState::Blind,
    RouteState::Late,
    RouteState::Unwritten,
    RouteState::Unheard,
    RouteState::Starting,
    RouteState::Ended,
    RouteState::Arriving,
];

/// A route as it looks in a state.
fn route(state: RouteState) -> RouteStatus {
    let (arrives, waits) = match state {
        RouteState::Arriving | RouteState::Late => (true, state == RouteState::Late),
        RouteState::Stalled | RouteState::Blind => (false, true),
        _ => (false, false),
    };
    let lately = |factor: u64| Lately {
        seen: 300,
        low_p50_us: 28_000 * factor,
        low_p99_us: 61_000 * factor,
        high_p50_us: 34_900 * factor,
        high_p99_us: 78_000 * factor,
    };
    let silent = if arrives { 0 } else { 40 };
    let spans = (0..SPANS_MAX).map(|at| {
        let has_seen = state != RouteState::Starting && (20..SPANS_MAX - silent).contains(&at);
        has_seen.then(|| lately(if at % 17 == 0 { 40 } else { 1 }))
    });
    RouteStatus {
        route: Route {
            dataset: "orders".to_owned(),
            store: "aurora".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
            observer: "usw2/probe-1".to_owned(),
        },
        state,
        state_for_us: waits.then_some(412_000_000),
        worst_collection: (state == RouteState::Late).then(|| "profiles <eu>".to_owned()),
        streams: if state == RouteState::Late { 12 } else { 1 },
        probed_for_us: 93_784_000_000,
        last_minute: arrives.then(|| lately(1)),
        oldest_unseen_us: waits.then_some(412_000_000),
        overdue_after_us: 30_000_000,
        pending: if waits { 2_060 } else { 0 },
        unanswered: if state == RouteState::Unwritten { 150 } else { 0 },
        write_error: (state == RouteState::Unwritten)
            .then(|| "site use1: write canary 7: <refused> (check the password)".to_owned()),
        poll_error: (state == RouteState::Blind)
            .then(|| "site usw2: look for canaries: no answer within 5 s".to_owned()),
        seen: 400_000,
        lost: u64::from(state == RouteState::RoleConflict) * 3,
        native_lag_us: arrives.then_some(0),
        native_as_of_us: None,
        spans: spans.collect(),
    }
}

fn status(routes: Vec<RouteStatus>) -> Status {
    Status {
        version: "1.2.3".to_owned(),
        is_ready: true,
        routes,
        unmeasured: vec![Unmeasured {
            dataset: "media".to_owned(),
            store: "s3".to_owned(),
            collection: "media-use1/<raw>/".to_owned(),
            reason: "no replication rule covers it".to_owned(),
        }],
        unmeasured_beyond: 0,
        events: Vec::new(),
        reconciled: Vec::new(),
        budget: None,
        span_us: SPAN_US,
    }
}

/// What changes from page to page.
fn live(page: &str) -> &str {
    let (from, to) = (page.find("<main").unwrap(), page.find("</main>").unwrap());
    &page[from..to]
}

#[test]
fn the_page_says_each_state_in_words() {
    for state in ALL {
        let page = status(vec![route(state)]).page();
        assert!(page.contains(state.words()), "{state:?}");
        insta::assert_snapshot!(format!("page_{state:?}").to_lowercase(), live(&page));
    }
}

#[test]
fn the_headline_counts_trouble_and_ignorance_apart() {
    let headline = |states: &[RouteState]| {
        let page = status(states.iter().copied().map(route).collect()).page();
        let (_, behind) = page.split_once("<h1>").unwrap();
        behind.split_once("</h1>").unwrap().0.to_owned()
    };
    use RouteState::{Arriving, Blind, Stalled};
    assert_eq!(headline(&[]), "No route is probed yet");
    assert_eq!(headline(&[Arriving, Arriving]), "Canaries arrive on all 2 routes");
    assert_eq!(headline(&[Arriving, Blind]), "Lag is not known on 1 of 2 routes");
    assert_eq!(headline(&[Arriving, Stalled]), "Trouble on 1 of 2 routes");
    assert_eq!(
        headline(&[Blind, Stalled, Arriving]),
        "Trouble on 1 of 3 routes, lag not known on 1 more"
    );
}

#[test]
fn names_cannot_break_out_of_the_page_and_a_long_list_is_counted() {
    let mut status = status(vec![route(RouteState::Late)]);
    let one = status.unmeasured[0].clone();
    status.unmeasured = vec![one; 120];
    status.unmeasured_beyond = 4;
    let page = status.page();
    assert!(!page.contains("<raw>") && !page.contains("<eu>"), "escaped");
    assert_eq!(page.matches("no replication rule").count(), 50);
    assert!(page.contains("<li>and 74 more</li>"));
}

#[test]
fn a_probe_that_is_slowed_says_so() {
    let mut status = status(vec![route(RouteState::Arriving)]);
    let words = "the probe is slowed to 25 % of its rate to stay within $0.0090 an hour (now about $0.0090)";
    status.budget = Some(BudgetFigures {
        pace: 0.25,
        budget_usd_per_hour: 0.009,
        usd_per_hour: Some(0.009),
        words: words.to_owned(),
    });
    let page = status.page();
    assert!(
        page.contains(&format!("<p class=\"small overdue\">{words}</p>")),
        "{page}"
    );
}

#[test]
fn the_page_asks_nobody_else_for_anything() {
    let page = status(ALL.map(route).into()).page();
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_document_for_programs_keeps_its_names() {
    let json = serde_json::to_value(status(vec![route(RouteState::Stalled)])).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    insta::assert_snapshot!(
        "json_keys",
        format!("{:?}\n{:?}", keys(&json), keys(&json["routes"][0]))
    );
    assert_eq!(json["routes"][0]["state"], "stalled");
    assert_eq!(json["routes"][0]["last_minute"], serde_json::Value::Null);
    let page = include_str!("../../../docs/metrics.md");
    for key in keys(&json).iter().chain(&keys(&json["routes"][0])) {
        assert!(
            page.contains(&format!("`{key}")),
            "docs/metrics.md does not mention {key}"
        );
    }
}

//! The status page: complete without scripts, kept up to date by a few lines of one.

use askama::Template;

use super::{RouteState, RouteStatus, Status};
use crate::metrics::{Lately, Unmeasured};

/// Unmeasured collections that the page lists; `/status.json` has more.
const LISTED_MAX: usize = 50;

#[derive(Debug, Template)]
#[template(path = "status.html")]
struct Page<'a> {
    status: &'a Status,
    headline: String,
    tone: &'static str,
    rows: Vec<Row<'a>>,
    listed: &'a [Unmeasured],
    beyond: Option<usize>,
}

/// One route in words.
#[derive(Debug)]
struct Row<'a> {
    route: &'a RouteStatus,
    tone: &'static str,
    word: &'static str,
    since: String,
    low: (String, String),
    high: (String, String),
    seen: String,
    oldest: String,
    is_overdue: bool,
    native: String,
    probed_for: String,
    spark: String,
}

impl Status {
    /// The page.
    pub fn page(&self) -> String {
        let rows: Vec<Row<'_>> = self.routes.iter().map(Row::of).collect();
        let bad = self.routes.iter().filter(|route| tone(route.state) == "no-go").count();
        let unsure = self.routes.iter().filter(|route| tone(route.state) == "unsure").count();
        let (tone, headline) = match (self.routes.len(), bad, unsure) {
            (0, ..) => ("unsure", "No route is probed yet".to_owned()),
            (1, 0, 0) => ("go", "Canaries arrive".to_owned()),
            (all, 0, 0) => ("go", format!("Canaries arrive on all {all} routes")),
            (all, 0, unsure) => ("unsure", format!("Lag is not known on {unsure} of {}", routes(all))),
            (all, bad, 0) => ("no-go", format!("Trouble on {bad} of {}", routes(all))),
            (all, bad, unsure) => (
                "no-go",
                format!("Trouble on {bad} of {}, lag not known on {unsure} more", routes(all)),
            ),
        };
        let (listed, rest) = self.unmeasured.split_at(self.unmeasured.len().min(LISTED_MAX));
        let page = Page {
            status: self,
            headline,
            tone,
            rows,
            listed,
            beyond: Some(rest.len() + self.unmeasured_beyond).filter(|beyond| *beyond > 0),
        };
        // Writing to a String cannot fail.
        page.render().unwrap_or_default()
    }
}

fn routes(count: usize) -> String {
    match count {
        1 => "1 route".to_owned(),
        count => format!("{count} routes"),
    }
}

fn tone(state: RouteState) -> &'static str {
    match state {
        RouteState::RoleConflict | RouteState::Stalled | RouteState::Late => "no-go",
        RouteState::Blind | RouteState::Unwritten | RouteState::Unheard | RouteState::Starting | RouteState::Ended => {
            "unsure"
        }
        RouteState::Arriving => "go",
    }
}

impl<'a> Row<'a> {
    fn of(route: &'a RouteStatus) -> Self {
        let lately = |of: fn(&Lately) -> u64, sign: &str| match &route.last_minute {
            Some(lately) => format!("{sign} {}", duration(of(lately))),
            None => "-".to_owned(),
        };
        Self {
            route,
            tone: tone(route.state),
            word: route.state.words(),
            since: route
                .state_for_us
                .map(|us| format!("for {}", duration(us)))
                .unwrap_or_default(),
            low: (
                lately(|lately| lately.low_p50_us, "\u{2265}"),
                lately(|lately| lately.low_p99_us, "\u{2265}"),
            ),
            high: (
                lately(|lately| lately.high_p50_us, "\u{2264}"),
                lately(|lately| lately.high_p99_us, "\u{2264}"),
            ),
            seen: match &route.last_minute {
                Some(lately) => format!("{} seen", lately.seen),
                None => "none seen".to_owned(),
            },
            oldest: route.oldest_unseen_us.map_or_else(|| "none".to_owned(), duration),
            is_overdue: route.oldest_unseen_us.is_some_and(|age| age > route.overdue_after_us),
            native: native(route),
            probed_for: duration(route.probed_for_us),
            spark: super::spark::spark(&route.spans),
        }
    }
}

/// The store's own lag with its instant: a metric may be minutes old.
fn native(route: &RouteStatus) -> String {
    let Some(lag_us) = route.native_lag_us else {
        return "not collected".to_owned();
    };
    let as_of = route.native_as_of_us;
    match as_of.and_then(|at_us| jiff::Timestamp::from_microsecond(at_us).ok()) {
        Some(at) => format!("{} at {} UTC", duration(lag_us), at.strftime("%H:%M:%S")),
        None => duration(lag_us),
    }
}

pub(super) fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

/// A duration in three digits or so, never rounded to nothing.
pub(super) fn duration(us: u64) -> String {
    let whole = us / 1_000_000;
    match us {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{us} \u{b5}s"),
        1_000..100_000 => format!("{:.1} ms", seconds(us) * 1_000.0),
        100_000..1_000_000 => format!("{:.0} ms", seconds(us) * 1_000.0),
        1_000_000..60_000_000 => format!("{:.1} s", seconds(us)),
        60_000_000..3_600_000_000 => format!("{} min {} s", whole / 60, whole % 60),
        3_600_000_000..172_800_000_000 => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

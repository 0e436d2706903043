//! What the probe knows now, for eyes and for programs: one entry for each route, and what nobody measures.

mod page;
mod spark;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Route;
use crate::metrics::{BudgetFigures, Glance, Lately, Metrics, Reconciled, SPAN_US, Unmeasured, Watched};
use crate::troubles::Tried;

/// The primary counts as taking no canaries after this long without an acknowledgement, or after as many slots of the schedule as
/// [`SLOTS_UNWRITTEN`] if that is longer.
const UNWRITTEN_US: u64 = 30_000_000;

/// See [`UNWRITTEN_US`].
const SLOTS_UNWRITTEN: u64 = 5;

/// What `/status.json` tells. Instants are microseconds since 1970 UTC; what is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The running program.
    pub version: String,
    /// Whether every route has started.
    pub is_ready: bool,
    /// By dataset, store and sites.
    pub routes: Vec<RouteStatus>,
    /// Collections whose lag nobody measures, the first of them.
    pub unmeasured: Vec<Unmeasured>,
    /// Unmeasured collections that are not listed.
    pub unmeasured_beyond: usize,
    /// Kinds of events that are going on.
    pub events: Vec<String>,
    /// What the newest reconciliations found.
    pub reconciled: Vec<Reconciled>,
    /// How a budget holds the probe; null: it has none.
    pub budget: Option<BudgetFigures>,
    /// Length of one entry of `spans`, microseconds.
    pub span_us: u64,
}

/// One route. Where it has several streams, counts are sums and ages are those of the worst.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteStatus {
    /// The route, and who observes it.
    pub route: Route,
    /// Its state: of its worst stream.
    pub state: RouteState,
    /// For how long it has been in it, microseconds; `None`: since it was started.
    pub state_for_us: Option<u64>,
    /// The collection that decides the state, where several are probed.
    pub worst_collection: Option<String>,
    /// Streams of canaries.
    pub streams: usize,
    /// For how long it has been probed, microseconds.
    pub probed_for_us: u64,
    /// Lag of the canaries that were seen in the last minute; null: none was.
    pub last_minute: Option<Lately>,
    /// Age of the oldest acknowledged canary that is unseen; null: none is.
    pub oldest_unseen_us: Option<u64>,
    /// Unseen canaries older than this are overdue.
    pub overdue_after_us: u64,
    /// Canaries under way, or acknowledged and unseen.
    pub pending: u64,
    /// Canaries that left, are unseen, and of which nobody knows whether they were written.
    pub unanswered: u64,
    /// What the last write of a canary ended with; null: it was acknowledged, or there was none.
    pub write_error: Option<String>,
    /// What the last look for canaries ended with; null: it was answered, or there was none.
    pub poll_error: Option<String>,
    /// Canaries that were seen, in this epoch.
    pub seen: u64,
    /// Canaries that are proved lost, in this epoch.
    pub lost: u64,
    /// Lag by the store's own account; null: not collected.
    pub native_lag_us: Option<u64>,
    /// The instant that it is of, microseconds since 1970 UTC: that of the oldest where there are several.
    pub native_as_of_us: Option<i64>,
    /// The last quarter of an hour, oldest first; null: nothing was seen.
    pub spans: Vec<Option<Lately>>,
}

/// The state of a route, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// Observed and stated roles disagree: nothing is written there.
    RoleConflict,
    /// Canaries wait, and nothing arrives although the secondary answers.
    Stalled,
    /// Canaries wait, and the secondary does not answer: nobody knows whether they arrived.
    Blind,
    /// Some canaries are overdue while others arrive.
    Late,
    /// The primary acknowledges no canaries: there is nothing to measure with.
    Unwritten,
    /// A watcher sees nothing new: nothing arrives, or nothing is written.
    Unheard,
    /// Nothing has been seen yet, and nothing is overdue.
    Starting,
    /// Not probed now: dormant, or stopped.
    Ended,
    /// Canaries arrive in time.
    Arriving,
}

impl RouteState {
    /// What it means, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::RoleConflict => "roles conflict: no canaries are written",
            Self::Stalled => "nothing arrives",
            Self::Blind => "the secondary does not answer: lag unknown",
            Self::Late => "some canaries are overdue, others arrive",
            Self::Unwritten => "the primary takes no canaries: lag unknown",
            Self::Unheard => "nothing new arrives, or nothing is written: lag unknown",
            Self::Starting => "starting: nothing has arrived yet",
            Self::Ended => "not probed now: lag unknown",
            Self::Arriving => "arriving",
        }
    }
}

/// One stream's part in the state of its route.
#[derive(Debug, Clone)]
struct Part {
    state: RouteState,
    for_us: Option<u64>,
    collection: Option<String>,
    glance: Glance,
}

impl Status {
    /// The status now.
    pub fn now(metrics: &Metrics, is_ready: bool) -> Self {
        let board = metrics.board();
        let shown = board.shown();
        let mut streams: BTreeMap<&Route, Vec<&Watched>> = BTreeMap::new();
        for ((route, _), stream) in &shown.streams {
            streams.entry(route).or_default().push(stream);
        }
        let routes = streams.into_iter().filter_map(|(route, streams)| {
            let first = streams.first()?;
            let now_us = first.clock.now_us();
            let (last_minute, spans) = match shown.routes.get(route) {
                Some(totals) => {
                    let recent = totals.recent();
                    (recent.last_minute(now_us), recent.spans(now_us))
                }
                None => (None, Vec::new()),
            };
            Some(RouteStatus {
                last_minute,
                spans,
                ..RouteStatus::of(route, &streams)?
            })
        });
        let routes = routes.collect();
        let told = board.told();
        let events = told.events.iter().filter(|(_, is_active)| **is_active);
        Self {
            version: board.version.clone(),
            is_ready,
            routes,
            unmeasured: told.unmeasured.clone(),
            unmeasured_beyond: told.unmeasured_beyond,
            events: events.map(|(kind, _)| kind.clone()).collect(),
            reconciled: told.reconciled.clone(),
            budget: told.budget.clone(),
            span_us: SPAN_US,
        }
    }
}

impl RouteStatus {
    fn of(route: &Route, streams: &[&Watched]) -> Option<Self> {
        let parts: Vec<Part> = streams.iter().map(|stream| Part::of(stream)).collect();
        let worst = parts
            .iter()
            .min_by_key(|part| (part.state, std::cmp::Reverse(part.glance.oldest_us)))?;
        let running = || parts.iter().filter(|part| !part.glance.has_ended);
        let sum = |of: fn(&Part) -> u64| parts.iter().map(of).sum();
        let trouble = |tried| {
            let mut active = streams.iter().zip(&parts).filter(|(_, part)| !part.glance.has_ended);
            active.find_map(|(stream, _)| stream.trouble(tried))
        };
        Some(Self {
            route: route.clone(),
            state: worst.state,
            state_for_us: worst.for_us,
            worst_collection: worst.collection.clone().filter(|_| streams.len() > 1),
            streams: streams.len(),
            probed_for_us: streams
                .iter()
                .map(|stream| stream.clock.now_us().saturating_sub(stream.started_us))
                .max()?,
            last_minute: None,
            oldest_unseen_us: running().filter_map(|part| part.glance.oldest_us).max(),
            overdue_after_us: streams.iter().map(|stream| stream.overdue_after_us).min()?,
            pending: running().map(|part| part.glance.accounting.pending).sum(),
            unanswered: running().map(|part| part.glance.unanswered).sum(),
            write_error: trouble(Tried::Write),
            poll_error: trouble(Tried::Poll),
            seen: sum(|part| part.glance.accounting.seen),
            lost: sum(|part| part.glance.accounting.lost),
            native_lag_us: running().filter_map(|part| part.glance.native.lag_us).max(),
            native_as_of_us: running().filter_map(|part| part.glance.native.lag_as_of_us).min(),
            spans: Vec::new(),
        })
    }
}

impl Part {
    fn of(stream: &Watched) -> Self {
        let glance = stream.glance();
        let (state, for_us) = judge(&glance, stream);
        Self {
            state,
            for_us,
            collection: stream.collection.clone(),
            glance,
        }
    }
}

/// The state of one stream and for how long it has been in it, as far as that is known.
fn judge(glance: &Glance, stream: &Watched) -> (RouteState, Option<u64>) {
    let since = |at_us: u64| glance.now_us.saturating_sub(at_us);
    let probed_for_us = since(stream.started_us);
    let overdue_us = glance.oldest_us.filter(|age| *age > stream.overdue_after_us);
    let unwritten_us = UNWRITTEN_US.max(stream.period_us().saturating_mul(SLOTS_UNWRITTEN));
    let unacked_for_us = glance.acked_us.map_or(probed_for_us, since);
    let silent_for_us = glance.answered_us.map_or(probed_for_us, since);
    if glance.has_ended {
        (RouteState::Ended, None)
    } else if glance.native.role_conflict == Some(true) {
        (RouteState::RoleConflict, None)
    } else if let Some(age_us) = overdue_us {
        let unseen_for_us = glance.seen_us.map_or(age_us, since);
        if silent_for_us > stream.overdue_after_us {
            (RouteState::Blind, Some(silent_for_us))
        } else if unseen_for_us > stream.overdue_after_us {
            (RouteState::Stalled, Some(age_us))
        } else {
            (RouteState::Late, Some(age_us))
        }
    } else if glance.is_watcher && silent_for_us > unwritten_us {
        (RouteState::Blind, Some(silent_for_us))
    } else if glance.is_watcher && unacked_for_us > unwritten_us {
        (RouteState::Unheard, Some(unacked_for_us))
    } else if unacked_for_us > unwritten_us {
        (RouteState::Unwritten, Some(unacked_for_us))
    } else if glance.seen_us.is_none() {
        (RouteState::Starting, Some(probed_for_us))
    } else {
        (RouteState::Arriving, None)
    }
}

#[cfg(test)]
mod tests;

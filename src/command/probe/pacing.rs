//! Holds the probe to its budget: what its requests cost decides how fast the routes that are paid for may go.

use std::sync::Arc;
use std::time::Duration;

use probes::{BudgetFigures, Metrics, Pace};
use reports::cost::{Budget, Guard};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::costs::Costs;

/// Between two decisions: long enough to hold some canaries, short enough that little is overspent before the first.
const DECIDE_EVERY: Duration = Duration::from_secs(60);

/// The guard of a running probe.
pub(super) struct Pacing {
    guard: Guard,
    costs: Arc<Costs>,
    metrics: Arc<Metrics>,
    pace: watch::Sender<Pace>,
    was_slowed: bool,
    was_over: bool,
}

impl Pacing {
    /// A guard over what `costs` counts, which tells its decisions to `pace`.
    pub(super) fn new(budget: Budget, costs: Arc<Costs>, metrics: Arc<Metrics>, pace: watch::Sender<Pace>) -> Self {
        Self {
            guard: Guard::new(budget),
            costs,
            metrics,
            pace,
            was_slowed: false,
            was_over: false,
        }
    }

    /// Until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut since = Instant::now();
        self.decide(Duration::ZERO);
        while stop
            .run_until_cancelled(tokio::time::sleep(DECIDE_EVERY))
            .await
            .is_some()
        {
            let elapsed = since.elapsed();
            since = Instant::now();
            self.decide(elapsed);
        }
    }

    fn decide(&mut self, elapsed: Duration) {
        let decided = self.guard.decide(self.costs.spent(), elapsed);
        let (is_slowed, is_over) = (decided.is_slowed(), decided.is_over_budget());
        if is_over && !self.was_over {
            tracing::error!("{decided}");
        } else if is_slowed && !self.was_slowed {
            tracing::warn!("{decided}; readings are rarer, and an RPO is told more coarsely");
        } else if self.was_slowed && !is_slowed {
            tracing::info!("the probe runs at its full rate again: {decided}");
        }
        (self.was_slowed, self.was_over) = (is_slowed, is_over);
        self.metrics.set_budget(BudgetFigures {
            pace: decided.factor,
            budget_usd_per_hour: decided.budget_usd_per_hour,
            usd_per_hour: decided.usd_per_hour,
            words: decided.to_string(),
        });
        self.pace.send_replace(Pace::of(decided.factor));
    }
}

#[cfg(test)]
mod tests {
    use stores::{Meter, Usage};

    use super::*;

    /// The pace after a minute in which so many requests were made, and after a long time without any.
    #[tokio::test(start_paused = true)]
    async fn requests_beyond_the_budget_slow_the_routes_and_their_end_lets_them_go() {
        let meter = Arc::new(Meter::default());
        let metrics = Arc::new(Metrics::new("1.2.3"));
        let (sender, pace) = watch::channel(Pace::FULL);
        let costs = Arc::new(Costs::for_test(meter.clone()));
        let stop = CancellationToken::new();
        // A million PutObject cost $5 here and as much at the copy: 3,600 in an hour are $0.036.
        let pacing = Pacing::new(Budget::new(0.009).unwrap(), costs, metrics.clone(), sender);
        let running = tokio::spawn(pacing.run(stop.clone()));
        let minute = async || tokio::time::sleep(DECIDE_EVERY + Duration::from_millis(1)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*pace.borrow(), Pace::FULL, "nothing was spent yet");
        meter.count(
            "PutObject",
            Usage {
                requests: 60,
                ..Usage::default()
            },
        );
        minute().await;
        let slowed = pace.borrow().share();
        assert!((slowed - 0.25).abs() < 0.01, "{slowed}");
        let text = metrics.render();
        assert!(text.contains("driftline_budget_usd_per_hour{} 0.009"), "{text}");
        assert!(text.contains("driftline_pace_ratio{} 0.2"), "{text}");
        for _ in 0..120 {
            minute().await;
        }
        assert_eq!(*pace.borrow(), Pace::FULL);
        stop.cancel();
        running.await.unwrap();
    }
}

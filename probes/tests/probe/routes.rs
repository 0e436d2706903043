//! Three sites of which two take writes: the canaries of one route are never those of another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use probes::{FinalState, Polling, RouteSpec};

use crate::rig::{Rig, Running, assert_all_seen, writers};
use crate::scattered::{Scattered, ends};

const SECOND: Duration = Duration::from_secs(1);

const ROUTES: [(&str, &str); 4] = [("use1", "usw2"), ("use1", "euw1"), ("usw2", "use1"), ("usw2", "euw1")];

fn stream((primary, secondary): (&str, &str)) -> String {
    format!("orders/{primary}>{secondary}")
}

fn along(spec: &RouteSpec, route: (&str, &str)) -> RouteSpec {
    let mut spec = spec.clone();
    spec.route.primary_site = route.0.to_owned();
    spec.route.secondary_site = route.1.to_owned();
    spec.stream = stream(route);
    spec.single_writer = false;
    spec
}

/// A count by route.
fn counts(running: &Running, name: &str) -> BTreeMap<String, f64> {
    let text = running.metrics.render();
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with(name)) {
        let label = |name: &str| {
            let (_, value) = line.split_once(&format!("{name}=\"")).unwrap();
            value.split('"').next().unwrap().to_owned()
        };
        let route = stream((&label("primary_site"), &label("secondary_site")));
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        *counts.entry(route).or_default() += value;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn canaries_of_two_writers_to_three_sites_stay_apart_and_a_site_that_is_no_writer_gets_none() {
    for is_ordered in [true, false] {
        // All of them in one store, which tells streams apart by nothing but their names.
        let store = Scattered::new(2, |n, _| Some(Duration::from_millis(5 + n * 37 % 400)));
        let store = ends(if is_ordered { store.ordered() } else { store });
        let polling = if is_ordered { Polling::AURORA } else { Polling::DYNAMODB };
        let mut rig = Rig::over(store.clone(), store.clone(), polling, "5/s");
        rig.stated.send_replace(writers(1, &["use1", "usw2"]));
        rig.spec = along(&rig.spec, ROUTES[0]);
        let others = ROUTES[1..].iter().map(|route| along(&rig.spec, *route)).collect();
        let running = rig.start_with(others);
        tokio::time::sleep(SECOND * 15).await;
        let writes = || counts(&running, "driftline_write_seconds_count{");
        let both = writes();
        assert!(
            both.len() == 4 && both.values().all(|written| *written > 40.0),
            "{both:?}"
        );

        running.stated.send_replace(writers(2, &["use1"]));
        tokio::time::sleep(SECOND * 2).await;
        let then = writes();
        tokio::time::sleep(SECOND * 10).await;
        for (route, written) in writes() {
            let more = written - then[&route];
            let is_writer = route.starts_with("orders/use1>");
            assert!(if is_writer { more > 20.0 } else { more < 0.5 }, "{more} on {route}");
        }
        let rivals: f64 = counts(&running, "driftline_rival_probes_total{").values().sum();
        assert!(rivals < 0.5, "taken for another probe");

        let left = running.stop().await.unwrap();
        let mut of_routes: BTreeMap<String, u64> = BTreeMap::new();
        for route in &left.summary.routes {
            let accounting = route.accounting;
            assert!(accounting.holds(), "{accounting:?}");
            assert_all_seen(&accounting, &route.stream);
            let name = stream((&route.route.primary_site, &route.route.secondary_site));
            assert_eq!(route.stream, name);
            of_routes.insert(name, accounting.seen);
        }
        assert_eq!(of_routes.len(), 4);
        let mut once = BTreeSet::new();
        for sample in left.samples.iter().filter(|sample| sample.state == FinalState::Seen) {
            let route = stream((&sample.route.primary_site, &sample.route.secondary_site));
            assert_eq!(sample.stream, route);
            let truth = store.truth_us(&sample.stream, sample.sequence).unwrap();
            let (low, high) = (sample.lag_low_us.unwrap(), sample.lag_high_us.unwrap());
            assert!(low <= truth && truth <= high, "{truth}: {sample:?}");
            assert!(once.insert((route.clone(), sample.sequence)), "twice: {sample:?}");
            *of_routes.get_mut(&route).unwrap() -= 1;
        }
        assert!(of_routes.values().all(|missing| *missing == 0), "{of_routes:?}");
    }
}

//! A budget slows the schedule: fewer slots, and none of them is skipped.

use std::time::Duration;

use probes::Pace;
use stores::memory::{Delay, Settings};
use tokio::sync::watch;

use crate::rig::{Rig, pair};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_slowed_stream_plans_less_and_skips_nothing_and_is_soon_at_its_rate_again() {
    let pair = pair(Settings {
        delay: Delay::Fixed(Duration::from_millis(5)),
        ..Settings::default()
    });
    let mut rig = Rig::new(&pair, "10/s");
    let pace = watch::Sender::new(Pace::FULL);
    rig.spec.pace = Some(pace.subscribe());
    let running = rig.start();
    tokio::time::sleep(MINUTE).await;
    pace.send_replace(Pace::of(0.1));
    tokio::time::sleep(MINUTE * 2).await;
    pace.send_replace(Pace::FULL);
    tokio::time::sleep(MINUTE).await;
    let left = running.stop().await.unwrap();
    let accounting = left.accounting();
    assert_eq!((accounting.skipped, accounting.pending), (0, 0), "{accounting:?}");
    let mut planned: Vec<i64> = left.samples.iter().map(|sample| sample.planned_at_us).collect();
    planned.sort_unstable();
    let start = crate::rig::WALL;
    let minute = i64::try_from(MINUTE.as_micros()).unwrap();
    let within = |from: i64, to: i64| {
        let span = start + from * minute..start + to * minute;
        planned.iter().filter(|at| span.contains(at)).count()
    };
    assert!((520..680).contains(&within(0, 1)), "{}", within(0, 1));
    assert!((80..160).contains(&within(1, 3)), "{}", within(1, 3));
    assert!((500..680).contains(&within(3, 4)), "{}", within(3, 4));
}

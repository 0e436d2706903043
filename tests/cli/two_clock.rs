//! One probe writes on one host, another watches on another: both are processes here, and a script vouches for their clocks.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;

use crate::fixture::{Story, wait_until};

/// What chrony says of a clock that is off by 362 us at most.
const TRACKING: &str = "A9FEA97B,169.254.169.123,4,1795251600.123456789,-0.000012345,0.000003000,0.000021000,-12.345,0.001,0.020,0.000400000,0.000150000,16.2,Normal";

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_reads_what_another_probe_writes_and_shows_nothing_that_it_cannot_know() {
    let story = Story::start("create table public.orders (id bigint primary key, note text)").await;
    let chronyc = story.path("chronyc");
    std::fs::write(&chronyc, format!("#!/bin/sh\necho '{TRACKING}'\n")).unwrap();
    std::fs::set_permissions(&chronyc, std::fs::Permissions::from_mode(0o755)).unwrap();
    let two = |rest: &str| {
        let good = story.config();
        format!("{good}[probe]\nname = \"shop-1\"\nclock = \"two\"\nchronyc = {chronyc:?}\n{rest}",)
    };
    story.write_config(&two(""));
    let writer = story.spawn("writer", &["probe"]);
    wait_until("it probes", || writer.log().contains("/metrics"));
    let of_writer = [story.path("out"), story.path("ledger")].map(|path| path.display().to_string());
    let own = two("part = \"watch\"\n")
        .replace(&of_writer[0], &format!("{}-watcher", of_writer[0]))
        .replace(&of_writer[1], &format!("{}-watcher", of_writer[1]));
    story.write_config(&own);
    let watched = story
        .run(&["--format", "json", "probe", "--for", "6s"])
        .expect(0)
        .json();
    let routes = watched["routes"].as_array().unwrap();
    let route = routes.iter().find(|route| route["dormant"] == false).unwrap();
    assert!(route["seen"].as_u64().unwrap() > 10, "{route:#}");
    assert_eq!(route["pending"], 0);
    let lag = story.run(&["--format", "json", "lag"]).expect(0).json();
    let read = &lag["lag"]["routes"][0];
    let (low, high) = (&read["low"]["p50_us"], &read["high"]["p50_us"]);
    assert_eq!(read["canaries"], read["bounded"], "{read:#}");
    // Both clocks are this machine's: no shorter than their error allows, and far from what a broken clock gives.
    let high = high.as_u64().unwrap();
    assert!(
        (700..5_000_000).contains(&high) && low.as_u64().unwrap() <= high,
        "{read:#}"
    );
    assert!(
        !story.path("ledger-watcher").exists(),
        "who writes nothing has nothing to prove"
    );
    writer.signal(Signal::SIGTERM);
    writer.expect(0);
}

//! `probe`, `event` and `rpo`: drains, deaths, and what the ledger proves afterwards.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::fixture::{Finished, Running, Story, parquet_files, wait_until};

const TABLES: &str = "create table public.orders (id bigint primary key, note text)";

/// The address that a running probe serves on, once every route has started.
pub(crate) fn ready(probe: &Running) -> String {
    let mut address = String::new();
    wait_until("the probe is ready", || {
        let log = probe.log();
        let Some(start) = log.find("http://") else { return false };
        address = log[start + 7..].split('/').next().unwrap_or_default().to_owned();
        get(&address, "/readyz").is_some_and(|(code, _)| code == 200)
    });
    address
}

pub(crate) fn get(address: &str, path: &str) -> Option<(u16, String)> {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let code = text.split(' ').nth(1)?.parse().ok()?;
    Some((code, text))
}

/// The first series of a metric.
pub(crate) fn metric(address: &str, name: &str) -> Option<f64> {
    let (_, text) = get(address, "/metrics")?;
    let line = text
        .lines()
        .find(|line| line.starts_with(name) && matches!(line.as_bytes().get(name.len()), Some(b'{' | b' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

pub(crate) fn seen(address: &str) -> f64 {
    let Some((_, text)) = get(address, "/metrics") else {
        return 0.0;
    };
    let lines = text
        .lines()
        .filter(|line| line.starts_with("driftline_canaries_total{") && line.contains("state=\"seen\""));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_and_leaves_evidence() {
    let story = Story::start(TABLES).await;
    let child = story.spawn("probe", &["probe", "--format", "json"]);
    let address = ready(&child);
    wait_until("ten canaries are seen", || seen(&address) >= 10.0);
    assert_eq!(get(&address, "/livez").map(|(code, _)| code), Some(200));
    child.signal(Signal::SIGTERM);
    child.expect(0);
    for table in ["runs", "lag_samples", "lag_intervals"] {
        assert!(
            !parquet_files(&story.path("out"), table).is_empty(),
            "{table} is missing"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_shows_as_the_age_of_the_oldest_unseen_canary() {
    let story = Story::start(TABLES).await;
    let child = story.spawn("probe", &["probe"]);
    let address = ready(&child);
    wait_until("canaries are seen", || seen(&address) >= 3.0);
    story.pair.pause_replay().await.expect("pause replay");
    wait_until("the oldest unseen canary is old", || {
        metric(&address, "driftline_oldest_unseen_seconds").is_some_and(|age| age > 2.0)
    });
    child.signal(Signal::SIGTERM);
    // Canaries are pending at the drain deadline: it cannot tell.
    child.expect(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_ledger_still_proves_the_loss() {
    let story = Story::start(TABLES).await;
    let child = story.spawn("probe", &["probe"]);
    let address = ready(&child);
    wait_until("canaries are seen", || seen(&address) >= 10.0);
    story
        .run(&["event", "start", "failover", "--from", "a", "--to", "b"])
        .expect(0);
    story.pair.cut();
    wait_until("canaries are unseen", || {
        metric(&address, "driftline_oldest_unseen_seconds").is_some_and(|age| age > 1.5)
    });
    child.signal(Signal::SIGKILL);
    assert_eq!(child.end().signal(), Some(9));
    // Before a promotion there is no fork to read.
    story.run(&["event", "mark", "promoted"]).expect(3);
    story.pair.promote().await.expect("promote");
    let marked = ["event", "mark", "promoted", "--format", "json"];
    let told = story.run(&marked).expect(0).json()["forks"]["db"].clone();
    assert!(told["position"].is_u64(), "{told}");

    // A restart makes the server forget its fork: then the canaries tell it, as an interval that holds what the server had said.
    story
        .pair
        .standby()
        .restart()
        .await
        .expect("restart the promoted server");
    let by_canaries = story.run(&marked).expect(0).json()["forks"]["db"].clone();
    assert!(by_canaries["position"].is_null(), "{by_canaries}");
    let at = |fork: &serde_json::Value, end: &str| fork[end].as_i64().unwrap();
    assert!(
        at(&by_canaries, "at_low_us") <= at(&told, "at_low_us")
            && at(&told, "at_high_us") <= at(&by_canaries, "at_high_us"),
        "{by_canaries} does not hold {told}"
    );

    let rpo = story
        .run(&["--writers", "b", "rpo", "--format", "json"])
        .expect(1)
        .json();
    let result = &rpo["results"][0];
    let lost = result["lost"].as_u64().unwrap();
    assert!(lost >= 3, "{rpo}");
    assert_eq!(result["shape"], "suffix", "{rpo}");
    let only_at_a = story
        .pair
        .primary()
        .value("driftline", "select max(seq)::text from driftline.canary")
        .await
        .unwrap()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    let at_b = story
        .pair
        .standby()
        .value("driftline", "select max(seq)::text from driftline.canary")
        .await
        .unwrap()
        .unwrap()
        .parse::<u64>()
        .unwrap();
    let unknown = result["unknown"].as_u64().unwrap();
    assert!(
        lost <= only_at_a - at_b && only_at_a - at_b <= lost + unknown + 1,
        "{lost} {unknown} {only_at_a} {at_b}"
    );

    // The next probe notices the death of the first.
    let next = story.run(&["--writers", "b", "probe", "--for", "1s"]);
    assert!(next.stderr.contains("killed"), "{next:?}");
    story.run(&["event", "end"]).expect(0);
}

/// A ledger that cannot be read is an error, and never no ledger or a shorter one: what it does not tell would not count as lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_damaged_or_foreign_is_an_error_and_a_torn_one_is_judged() {
    let story = Story::start(TABLES).await;
    story.run(&["probe", "--for", "2s"]).expect(0);
    story
        .run(&["event", "start", "failover", "--from", "a", "--to", "b"])
        .expect(0);
    story.pair.promote().await.expect("promote");
    story.run(&["event", "mark", "promoted"]).expect(0);
    let rpo = || story.run(&["--writers", "b", "rpo", "--format", "json"]);
    let acked = |finished: Finished| finished.json()["results"][0]["acked"].as_u64();
    let whole = acked(rpo().expect(0)).expect("a result");
    assert!(whole > 0);

    let ledger = ledgers(&story).pop().expect("a ledger");
    let written = std::fs::read(&ledger).expect("read the ledger");
    let refused = |name: &Path| {
        let name = name.file_name().expect("a name").to_string_lossy().into_owned();
        // The next probe would use its sequences again.
        for args in [
            &["--writers", "b", "rpo"][..],
            &["--writers", "a", "probe", "--for", "1s"],
        ] {
            let finished = story.run(args).expect(3);
            assert!(finished.stderr.contains(&name), "{args:?}: {}", finished.stderr);
            assert!(!finished.stderr.contains("no ledger"), "{args:?}: {}", finished.stderr);
        }
    };

    // One bit in the middle.
    let mut damaged = written.clone();
    damaged[written.len() / 2] ^= 1;
    std::fs::write(&ledger, damaged).expect("damage the ledger");
    refused(&ledger);

    // Cut short in the middle of its last frame, as by a crash: what is whole counts.
    std::fs::write(&ledger, &written[..written.len() - 3]).expect("tear the ledger");
    assert_eq!(acked(rpo()), Some(whole));
    std::fs::write(&ledger, &written).expect("mend the ledger");

    // Another file in the folder that calls itself a ledger.
    let foreign = story.path("ledger").join("foreign.ledger");
    std::fs::write(&foreign, "minutes of the meeting").expect("write the file");
    refused(&foreign);
    std::fs::remove_file(&foreign).expect("remove the file");

    // No folder, but a file in its place.
    std::fs::rename(story.path("ledger"), story.path("aside")).expect("move the folder");
    std::fs::write(story.path("ledger"), "").expect("write the file");
    refused(&story.path("ledger"));
    std::fs::remove_file(story.path("ledger")).expect("remove the file");
    // Nothing is there: that is told, and is no proof of anything.
    let finished = story.run(&["--writers", "b", "rpo"]).expect(3);
    assert!(finished.stderr.contains("no ledger"), "{}", finished.stderr);
}

fn ledgers(story: &Story) -> Vec<PathBuf> {
    let files = std::fs::read_dir(story.path("ledger")).expect("list the ledgers");
    files.map(|file| file.expect("list a ledger").path()).collect()
}

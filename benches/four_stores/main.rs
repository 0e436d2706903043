//! What a probe of all four stores together costs at its default rates: CPU, memory, and requests to each store.
//!
//! The stores are the lab's, in a process of their own (`driftline lab up`): PostgreSQL servers, and stand-ins of the others.
//! `DRIFTLINE_BENCH_SECONDS` changes how long it runs.

#[path = "../stage/mod.rs"]
mod stage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use stage::lab_up::{LabUp, driftline};
use stage::machine::Machine;
use stage::record::{say, verdict};
use stage::scrape::{free_address, label, scrape};
use stage::versions::Versions;
use stage::watch::{Cost, watch};

/// Most of one core that a probe may take, in percent.
const CPU_PERCENT_GOAL: f64 = 5.0;
/// Most resident memory, in units of 1,000,000 bytes.
const RESIDENT_MB_GOAL: f64 = 80.0;
/// The kinds of stores that have to be measured.
const STORES: [&str; 4] = ["aurora", "dynamodb", "kafka", "s3"];
/// Before the end of the run: late enough to count, early enough to be answered.
const SCRAPE_BEFORE_END: Duration = Duration::from_secs(2);
/// What the lab states and a user who says nothing does not.
const LAB_RATE: &str = "probe = { rate = \"5/s\" }\n";
const LAB_LISTEN: &str = "\"127.0.0.1:0\"";

/// The whole record.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    versions: Versions,
    seconds: u32,
    cost: Cost,
    /// CPU time of the process over its wall time, start and drain included.
    cpu_percent_of_a_core: f64,
    cpu_percent_goal: f64,
    resident_peak_mb_goal: f64,
    /// By store and operation, from the start until shortly before the end.
    requests: BTreeMap<String, BTreeMap<String, f64>>,
    requests_counted_for_seconds: f64,
    canaries: BTreeMap<String, Canaries>,
    /// What it printed: fates of canaries, and lag.
    printed: serde_json::Value,
}

/// The fate of the canaries of one store.
#[derive(Debug, Default, Clone, Serialize)]
struct Canaries {
    planned: u64,
    seen: u64,
    /// Slots that were so late that no canary left.
    skipped: u64,
}

fn main() -> anyhow::Result<()> {
    stage::run(measure())
}

async fn measure() -> anyhow::Result<()> {
    let machine = Machine::now();
    let versions = Versions::installed();
    let seconds: u32 = stage::asked("DRIFTLINE_BENCH_SECONDS", 120)?;
    say(format!("machine: {machine}\nversions: {versions}"))?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let lab = LabUp::start(folder.path()).await?;
    let address = free_address()?;
    let config = configuration(&lab, address)?;

    let mut command = driftline();
    command.arg("--config").arg(config);
    command.args(["probe", "--for", &format!("{seconds}s"), "--format", "json"]);
    let counted_for = Duration::from_secs(u64::from(seconds)).saturating_sub(SCRAPE_BEFORE_END);
    let requests = async {
        tokio::time::sleep(counted_for).await;
        scrape(address, "driftline_requests_total").await
    };
    let (ended, requests) = tokio::try_join!(watch(command, folder.path()), requests)?;
    let ended = ended.expect(0).context("driftline probe")?;
    lab.stop().await?;
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).context("what driftline printed")?;
    let results = Results {
        machine,
        versions,
        seconds,
        cpu_percent_of_a_core: 100.0 * ended.cost.cpu_seconds / ended.cost.wall_seconds,
        cpu_percent_goal: CPU_PERCENT_GOAL,
        resident_peak_mb_goal: RESIDENT_MB_GOAL,
        cost: ended.cost,
        requests: by_store(&requests)?,
        requests_counted_for_seconds: counted_for.as_secs_f64(),
        canaries: canaries(&printed)?,
        printed,
    };
    tell(&results)?;
    results.versions.keep("four-stores-default-rates", &results)
}

/// The lab's configuration with the default rates, and an address that can be scraped.
fn configuration(lab: &LabUp, address: SocketAddr) -> anyhow::Result<PathBuf> {
    let text = lab.config()?;
    anyhow::ensure!(
        text.contains(LAB_RATE) && text.contains(LAB_LISTEN),
        "the lab writes another configuration"
    );
    let text = text
        .replace(LAB_RATE, "")
        .replace(LAB_LISTEN, &format!("\"{address}\""));
    let file = lab.folder().join("default-rates.toml");
    std::fs::write(&file, text).context("write the configuration")?;
    Ok(file)
}

fn by_store(requests: &[(String, f64)]) -> anyhow::Result<BTreeMap<String, BTreeMap<String, f64>>> {
    let mut sums: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for (labels, count) in requests {
        let store = label(labels, "store").context("requests of no store")?;
        let operation = label(labels, "operation").context("requests of no operation")?;
        let of_store = sums.entry(store.to_owned()).or_default();
        *of_store.entry(operation.to_owned()).or_default() += count;
    }
    Ok(sums)
}

/// The cost counts only if canaries of all stores were written, and all of them seen.
fn canaries(printed: &serde_json::Value) -> anyhow::Result<BTreeMap<String, Canaries>> {
    let mut sums: BTreeMap<String, Canaries> = BTreeMap::new();
    for route in printed["routes"].as_array().context("no route was probed")? {
        let figure = |name: &str| route[name].as_u64().with_context(|| format!("no {name}: {route}"));
        let store = route["route"]["store"].as_str().context("a route without a store")?;
        let sum = sums.entry(store.to_owned()).or_default();
        sum.planned += figure("planned")?;
        sum.seen += figure("seen")?;
        sum.skipped += figure("skipped")?;
    }
    for store in STORES {
        let of_store = sums.get(store).with_context(|| format!("{store} was not probed"))?;
        anyhow::ensure!(
            of_store.seen > 0 && of_store.seen + of_store.skipped == of_store.planned,
            "{store} was not probed as it should: {of_store:?}"
        );
    }
    Ok(sums)
}

fn tell(results: &Results) -> anyhow::Result<()> {
    let (cpu, resident) = (results.cpu_percent_of_a_core, results.cost.resident_peak_mb);
    say(format!(
        "\nall four stores at default rates for {} s, the stores in another process",
        results.seconds
    ))?;
    for (store, operations) in &results.requests {
        let of_store = results.canaries.get(store).cloned().unwrap_or_default();
        let Canaries { planned, seen, skipped } = of_store;
        let rate = |count: &f64| format!("{:.2}/s", count / results.requests_counted_for_seconds);
        let shown: Vec<String> = operations
            .iter()
            .map(|(operation, count)| format!("{operation} {count} ({})", rate(count)))
            .collect();
        say(format!(
            "{store:<9} canaries planned {planned}, seen {seen}, skipped {skipped}; requests: {}",
            shown.join(", ")
        ))?;
    }
    say(format!(
        "CPU {cpu:.2} % of a core; below {CPU_PERCENT_GOAL} %: {}",
        verdict(cpu < CPU_PERCENT_GOAL)
    ))?;
    say(format!(
        "peak resident memory {resident:.1} MB; below {RESIDENT_MB_GOAL} MB: {}",
        verdict(resident < RESIDENT_MB_GOAL)
    ))
}

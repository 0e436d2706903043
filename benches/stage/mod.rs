//! What the benchmarks share: the machine that they ran on, a process that is watched, its evidence, and the record of a run.
#![allow(dead_code, reason = "no benchmark needs all of it")]

pub(crate) mod lab_up;
pub(crate) mod loading;
pub(crate) mod machine;
pub(crate) mod quantiles;
pub(crate) mod record;
pub(crate) mod samples;
pub(crate) mod scrape;
pub(crate) mod servers;
pub(crate) mod spread;
pub(crate) mod told;
pub(crate) mod versions;
pub(crate) mod watch;

use std::future::Future;
use std::str::FromStr;

use anyhow::Context as _;

/// Measures until it is done or interrupted; the servers that were started go with it either way.
pub(crate) fn run(measure: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime of the benchmark")?;
    runtime.block_on(async {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.context("listen for Ctrl-C").and(Err(anyhow::anyhow!("interrupted"))),
            measured = measure => measured,
        }
    })
}

/// The value of an environment variable, or `default` where there is none.
pub(crate) fn asked<T>(name: &str, default: T) -> anyhow::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}

/// The only route of a printed probe that is awake: what runs the other way sleeps until roles change.
pub(crate) fn awake_route(printed: &serde_json::Value) -> anyhow::Result<&serde_json::Value> {
    let routes = printed["routes"].as_array().context("no route was probed")?;
    let awake = routes.iter().find(|route| route["dormant"] == false);
    awake.context("no route is awake")
}

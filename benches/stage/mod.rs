//! What the benchmarks share: the machine that they ran on, a process that is watched, and the record of a run.

pub(crate) mod machine;
pub(crate) mod record;
pub(crate) mod watch;

use std::str::FromStr;

use anyhow::Context as _;

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

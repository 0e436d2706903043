//! A closed-loop probe: write, wait until it is seen, then the next. While replication stands still it takes one sample.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use lab::PgPair;

use super::fixture::DATABASE;

/// Between two looks: the floor of driftline's own polling of PostgreSQL.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Longer than any freeze: replication is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A row that is written at the primary and looked for at the standby.
pub(crate) struct ClosedLoop {
    primary: tokio_postgres::Client,
    standby: tokio_postgres::Client,
    write: tokio_postgres::Statement,
    look: tokio_postgres::Statement,
}

impl ClosedLoop {
    pub(crate) async fn prepare(pair: &PgPair, name: &str) -> anyhow::Result<Self> {
        let table = format!("public.closed_loop_{name}");
        let make = format!("create table {table} (number bigint not null); insert into {table} values (0)");
        pair.primary().execute(DATABASE, &make).await.context("make a table")?;
        pair.wait_replayed(PATIENCE).await.context("wait for the table")?;
        let primary = pair.primary().client(DATABASE).await?;
        let standby = pair.standby().client(DATABASE).await?;
        Ok(Self {
            write: primary.prepare(&format!("update {table} set number = $1")).await?,
            look: standby.prepare(&format!("select number from {table}")).await?,
            primary,
            standby,
        })
    }

    /// Lag of each write, from the statement until it was seen, microseconds. `gap`: writes are not closer than this.
    pub(crate) async fn run(&self, gap: Option<Duration>, until: Instant) -> anyhow::Result<Vec<u64>> {
        let mut lag_us = Vec::new();
        for number in 1_i64.. {
            let begun = Instant::now();
            if begun >= until {
                break;
            }
            self.primary.execute(&self.write, &[&number]).await.context("write")?;
            while self
                .standby
                .query_one(&self.look, &[])
                .await
                .context("look")?
                .try_get::<_, i64>(0)?
                < number
            {
                anyhow::ensure!(
                    begun.elapsed() < PATIENCE,
                    "a write was not replicated within {PATIENCE:?}"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
            lag_us.push(u64::try_from(begun.elapsed().as_micros())?);
            if let Some(gap) = gap {
                tokio::time::sleep_until((begun + gap).into()).await;
            }
        }
        Ok(lag_us)
    }
}

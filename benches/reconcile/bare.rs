//! The floor: one digest query of the whole table at each end, both at the same time, and nothing else.

use std::time::Instant;

use anyhow::Context as _;
use lab::{PgPair, PgServer};
use serde::Serialize;
use stores::aurora::{Config, Endpoint};

use crate::fixture::{DATABASE, Story};

/// As driftline's own sessions are: one process for each statement, nothing compiled.
const SESSION: &str = "set max_parallel_workers_per_gather = 0; set jit = off";
/// Any will do: the cost does not hang on it.
const SEED: u64 = 0x5eed;

/// One run of both queries.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    /// Until both had answered.
    pub(crate) wall_seconds: f64,
    primary_seconds: f64,
    standby_seconds: f64,
}

/// The expression with which driftline hashes a row of the table, from the store itself.
pub(crate) async fn row_digest(story: &Story, name: &str) -> anyhow::Result<String> {
    let file: toml::Table = story.config().parse().context("the configuration of the pair")?;
    let config: Config = file["connection"]["db"]["aurora"]
        .clone()
        .try_into()
        .context("its connection")?;
    let end = stores::aurora::open(&config, "a", Endpoint::Writer)?;
    let (catalog, ranged) = end.catalog.zip(end.ranged).context("the store cannot digest")?;
    let collections = catalog.collections().await?;
    let table = collections.iter().find(|collection| collection.name == name);
    let table = table.context("the store does not see the table")?;
    let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    Ok(ranged.recipe(table, &columns, SEED).await?.expression)
}

/// Digests the whole table at both ends at the same time.
pub(crate) async fn run(pair: &PgPair, row_digest: &str, name: &str, rows: u64) -> anyhow::Result<Times> {
    let sql = format!(
        "select count(*), count(x.h), sum(x.h)::text from (select {row_digest} as h from only {name} as t offset 0) x"
    );
    let clients = (session(pair.primary()).await?, session(pair.standby()).await?);
    let begun = Instant::now();
    let one = async |client: &tokio_postgres::Client| {
        let row = client.query_one(&sql, &[]).await?;
        anyhow::Ok((begun.elapsed().as_secs_f64(), (row.get(0), row.get(1), row.get(2))))
    };
    let (primary, standby) = tokio::try_join!(one(&clients.0), one(&clients.1)).context("a bare digest query")?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    let (counted, hashed, _): &(i64, i64, String) = &primary.1;
    let rows = i64::try_from(rows)?;
    anyhow::ensure!(
        primary.1 == standby.1 && (*counted, *hashed) == (rows, rows),
        "the bare queries do not agree on {rows} rows: {:?} and {:?}",
        primary.1,
        standby.1
    );
    Ok(Times {
        wall_seconds,
        primary_seconds: primary.0,
        standby_seconds: standby.0,
    })
}

async fn session(server: &PgServer) -> anyhow::Result<tokio_postgres::Client> {
    let client = server.client(DATABASE).await?;
    client.batch_execute(SESSION).await.context("set up a session")?;
    Ok(client)
}

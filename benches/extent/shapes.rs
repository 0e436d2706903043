//! The tables that are compared: more and more rows, many columns, long values.

use anyhow::Context as _;
use lab::PgPair;
use serde::Serialize;

use crate::fixture::DATABASE;
use crate::stage::loading;

/// Of each of three types in a wide row, behind its key.
const WIDE_OF_A_TYPE: u32 = 19;

/// What rows look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// Six columns, about a hundred bytes.
    Narrow,
    /// Sixty columns: a key, whole numbers, texts, numbers with decimals, two instants.
    Wide,
    /// A key and a text of 4 KB that does not compress.
    Long,
}

/// A table that is loaded at both ends.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) rows: u64,
    columns: u64,
    bytes: u64,
}

impl Data {
    pub(crate) fn rows_in_millions(&self) -> f64 {
        f64::from(u32::try_from(self.rows).unwrap_or(u32::MAX)) / 1e6
    }
}

impl std::fmt::Display for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {} rows x {} columns, {} MB with values that are kept apart",
            self.name,
            self.rows,
            self.columns,
            self.bytes / 1_000_000
        )
    }
}

impl Shape {
    fn name(self, rows: u64) -> String {
        let word = match self {
            Self::Narrow => "narrow",
            Self::Wide => "wide",
            Self::Long => "long",
        };
        format!("public.{word}_{rows}")
    }

    /// What a row is made of, from its number `i` and a hash `h` of it, behind the key.
    fn columns(self) -> Vec<(String, &'static str, String)> {
        let named = |name: &str, of: &'static str, value: &str| (name.to_owned(), of, value.to_owned());
        let instant = "timestamptz '2026-01-01 00:00:00+00' + i * interval '1.000001 seconds'";
        match self {
            Self::Narrow => vec![
                named("note", "text", "case when h % 20 = 0 then null else md5(h::text) end"),
                named("amount", "numeric(12, 2)", "(h % 100000000) / 100.0"),
                named("weight", "double precision", "sqrt(h)"),
                named("paid", "boolean", "h % 3 = 0"),
                named("placed_at", "timestamptz", instant),
            ],
            Self::Wide => {
                let mut columns = vec![
                    named("placed_at", "timestamptz", instant),
                    named("seen_at", "timestamptz", instant),
                ];
                for number in 0..WIDE_OF_A_TYPE {
                    columns.push((format!("n{number}"), "bigint", format!("h * {}", number + 1)));
                    columns.push((
                        format!("t{number}"),
                        "text",
                        format!("'value ' || (h % {})", 1000 + number),
                    ));
                    columns.push((
                        format!("d{number}"),
                        "numeric(14, 2)",
                        format!("(h % {}) / 100.0", 100_000 + number),
                    ));
                }
                columns
            }
            Self::Long => vec![named(
                "body",
                "text",
                "(select string_agg(md5((h + n)::text), '') from generate_series(1, 128) n)",
            )],
        }
    }
}

/// Makes the table at the primary, the same rows each time, and waits until the standby has them.
pub(crate) async fn load(pair: &PgPair, shape: Shape, rows: u64) -> anyhow::Result<Data> {
    let client = pair.primary().client(DATABASE).await?;
    let (name, columns) = (shape.name(rows), shape.columns());
    let defined: Vec<String> = columns.iter().map(|(column, of, _)| format!("{column} {of}")).collect();
    let values: Vec<&str> = columns.iter().map(|(_, _, value)| value.as_str()).collect();
    let make = format!("create table {name} (id bigint not null, {})", defined.join(", "));
    client.batch_execute(&make).await.context(make)?;
    let sizes = loading::load(pair, DATABASE, &name, &values.join(", "), rows).await?;
    // Behind the run of `init`, which grants what there was then.
    let grant = format!("grant select on {name} to driftline");
    client.batch_execute(&grant).await.context(grant)?;
    pair.wait_replayed(loading::REPLAY_PATIENCE).await?;
    Ok(Data {
        name,
        shape,
        rows,
        columns: u64::try_from(columns.len() + 1)?,
        bytes: sizes.table_bytes,
    })
}

/// Drops it at both ends.
pub(crate) async fn drop_table(pair: &PgPair, shape: Shape, rows: u64) -> anyhow::Result<()> {
    let sql = format!("drop table {}", shape.name(rows));
    pair.primary().execute(DATABASE, &sql).await?;
    pair.wait_replayed(loading::REPLAY_PATIENCE).await?;
    Ok(())
}

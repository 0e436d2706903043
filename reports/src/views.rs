//! `OUTPUT/views.sql`: the tables of an output as DuckDB opens them, `latest_run`, `latest_lag` and `open_divergences` over them, and the
//! same for Athena.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

use crate::tables::{self, FileName, Row, Table, TableError, TableWriter, Type, tables};

/// The date of files without rows. No row can be that old.
const NEVER: Date = jiff::civil::date(1970, 1, 1);

/// Writes `views.sql`, whole or not at all, unless it is there as it should be. Also gives every table a file without rows: an engine that
/// is asked for a table that nobody wrote yet then answers with no rows instead of an error.
///
/// # Errors
/// Unwritable output.
pub fn write_views(output: &Path) -> Result<PathBuf, TableError> {
    seed::<tables::RunRow>(output)?;
    seed::<tables::CoverageRow>(output)?;
    seed::<tables::ChunkRow>(output)?;
    seed::<tables::DivergenceRow>(output)?;
    seed::<tables::LagSampleRow>(output)?;
    seed::<tables::LagIntervalRow>(output)?;
    seed::<tables::RpoRow>(output)?;
    seed::<tables::RpoCanaryRow>(output)?;
    seed::<tables::EventRow>(output)?;
    seed::<tables::GateCriterionRow>(output)?;
    seed::<tables::CostRow>(output)?;
    let path = output.join("views.sql");
    let text = views_sql();
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(path);
    }
    replace(&path, &output.join(".views.sql.draft"), &text).map_err(|cause| TableError::Unwritable {
        path: path.clone(),
        cause,
    })?;
    Ok(path)
}

fn seed<R: Row>(output: &Path) -> Result<(), TableError> {
    let name = FileName::of_run("no-rows");
    let folder = output.join(R::table().name).join(format!("run_date={NEVER}"));
    if folder.join("no-rows.parquet").exists() {
        return Ok(());
    }
    let mut writer = TableWriter::<R>::create(output, name);
    writer.touch(NEVER)?;
    writer.finish().map(|_| ())
}

fn replace(path: &Path, draft: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The text of `views.sql`. DuckDB runs it as a whole, from inside the output folder; the part for Athena stands in a comment.
pub fn views_sql() -> String {
    let mut text = String::from(
        "-- Written by driftline; replaced when a newer version writes here.\n\
         -- DuckDB: cd into this folder, then: duckdb -init views.sql\n\
         -- Athena: see the end.\n\n",
    );
    // Writing to a String cannot fail.
    for table in tables() {
        let _ = writeln!(
            text,
            "CREATE OR REPLACE VIEW {0} AS SELECT * FROM read_parquet('{0}/*/*.parquet', hive_partitioning = true, union_by_name = true);",
            table.name
        );
    }
    text.push('\n');
    let views = views();
    text.push_str(&views);
    text.push_str(
        "\n/* Athena: replace s3://BUCKET/PREFIX, run each statement by itself, then the three views above.\n\n",
    );
    for table in tables() {
        text.push_str(&athena_table(table));
    }
    text.push_str("*/\n");
    text
}

fn views() -> String {
    let runs = columns(tables::RunRow::table());
    let lag = columns(tables::LagIntervalRow::table());
    let divergences = columns(tables::DivergenceRow::table());
    format!(
        "-- The newest run of each command, dataset and pair, as it stands now.
CREATE OR REPLACE VIEW latest_run AS
WITH revised AS (
  SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY revision DESC) AS nth_revision FROM runs
), ranked AS (
  SELECT *, row_number() OVER (
    PARTITION BY kind, dataset, primary_site, secondary_site ORDER BY started_at DESC, run_id DESC) AS nth_run
  FROM revised WHERE nth_revision = 1
)
SELECT {runs} FROM ranked WHERE nth_run = 1;

-- The newest interval of each route and observer, at its last revision; one row for each epoch in it.
CREATE OR REPLACE VIEW latest_lag AS
WITH revised AS (
  SELECT *, row_number() OVER (
    PARTITION BY dataset, store, primary_site, secondary_site, observer, epoch, interval_start
    ORDER BY revision DESC, run_id DESC) AS nth_revision
  FROM lag_intervals
), ranked AS (
  SELECT *, rank() OVER (
    PARTITION BY dataset, store, primary_site, secondary_site, observer ORDER BY interval_start DESC) AS nth_interval
  FROM revised WHERE nth_revision = 1
)
SELECT {lag} FROM ranked WHERE nth_interval = 1;

-- What is known to differ, or could not be told, since the last time that the collection was compared as a whole. A later run that
-- compared only part of it closes nothing: a key that it did not look at is still open.
CREATE OR REPLACE VIEW open_divergences AS
WITH committed AS (
  SELECT DISTINCT run_id FROM runs WHERE kind = 'reconcile' AND status <> 'running'
), looked_at AS (
  SELECT c.run_id, c.dataset, c.collection, least(c.primary_site, c.secondary_site) AS site_a,
    greatest(c.primary_site, c.secondary_site) AS site_b,
    CASE WHEN c.state IN ('verified', 'diverged') AND c.reason IS NULL THEN c.run_id END AS whole_run_id
  FROM coverage c JOIN committed ON committed.run_id = c.run_id
  WHERE c.state <> 'skipped'
), since AS (
  SELECT dataset, collection, site_a, site_b, max(whole_run_id) AS whole_run_id
  FROM looked_at GROUP BY dataset, collection, site_a, site_b
), listed AS (
  SELECT d.*, row_number() OVER (
    PARTITION BY d.dataset, since.site_a, since.site_b, d.collection, d.key, d.key_hash,
      CASE WHEN d.chunk_id IS NULL THEN concat(d.class, ' ', coalesce(d.detail, '')) END
    ORDER BY d.run_id DESC) AS nth_run
  FROM divergences d
  JOIN committed ON committed.run_id = d.run_id
  JOIN since ON since.dataset = d.dataset AND since.collection = d.collection
    AND since.site_a = least(d.primary_site, d.secondary_site)
    AND since.site_b = greatest(d.primary_site, d.secondary_site)
  WHERE d.run_id >= coalesce(since.whole_run_id, '')
    AND d.state IN ('confirmed', 'volatile', 'unverified', 'pending')
)
-- Keys that may not appear cannot be told apart: each of their rows stays.
SELECT {divergences} FROM listed
WHERE nth_run = 1 OR (key IS NULL AND key_hash IS NULL AND chunk_id IS NOT NULL);
"
    )
}

fn columns(table: &Table) -> String {
    let names = table.columns.iter().map(|column| format!("\"{}\"", column.name));
    names.collect::<Vec<_>>().join(", ")
}

fn athena_table(table: &Table) -> String {
    let name = table.name;
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("  `{}` {}", column.name, athena_type(column.kind)))
        .collect();
    format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{}\n) PARTITIONED BY (run_date date) STORED AS PARQUET\n\
         LOCATION 's3://BUCKET/PREFIX/{name}/'\n\
         TBLPROPERTIES ('projection.enabled' = 'true', 'projection.run_date.type' = 'date',\n  \
         'projection.run_date.format' = 'yyyy-MM-dd', 'projection.run_date.range' = '2026-01-01,NOW',\n  \
         'storage.location.template' = 's3://BUCKET/PREFIX/{name}/run_date=${{run_date}}');\n\n",
        columns.join(",\n")
    )
}

fn athena_type(kind: Type) -> &'static str {
    match kind {
        Type::Int64 => "bigint",
        Type::Double => "double",
        Type::Boolean => "boolean",
        Type::Text => "string",
        Type::TextList => "array<string>",
        Type::Timestamp => "timestamp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{RunRow, Span, read};

    #[test]
    fn every_table_has_a_file_and_no_row() {
        let output = tempfile::tempdir().unwrap();
        let path = write_views(output.path()).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for table in tables() {
            assert!(text.contains(&format!("read_parquet('{}/*/*.parquet'", table.name)));
            let file = output
                .path()
                .join(table.name)
                .join("run_date=1970-01-01/no-rows.parquet");
            assert!(file.is_file(), "{}", file.display());
        }
        assert_eq!(read::<RunRow>(output.path(), Span::ALL).unwrap().count(), 0);
    }

    #[test]
    fn an_old_text_is_replaced_and_the_right_one_is_left_alone() {
        let output = tempfile::tempdir().unwrap();
        let path = output.path().join("views.sql");
        std::fs::write(&path, "-- of an older version").unwrap();
        write_views(output.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), views_sql());
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        write_views(output.path()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert!(!output.path().join(".views.sql.draft").exists());
    }

    #[test]
    fn the_comment_for_athena_ends_where_it_should() {
        let text = views_sql();
        let (_, comment) = text.split_once("/* Athena").unwrap();
        assert_eq!(comment.matches("*/").count(), 1);
        assert!(comment.ends_with("*/\n"));
    }
}

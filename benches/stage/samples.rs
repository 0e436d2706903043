//! What a probe left in its `lag_samples`.

use std::path::Path;

use anyhow::Context as _;
use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One column of integers of all files below `output`, without its nulls.
pub(crate) fn column(output: &Path, name: &str) -> anyhow::Result<Vec<u64>> {
    let mut figures = Vec::new();
    let table = output.join("lag_samples");
    for date in std::fs::read_dir(&table).with_context(|| format!("list {}", table.display()))? {
        for file in std::fs::read_dir(date?.path())? {
            let file = std::fs::File::open(file?.path()).context("open a file of lag_samples")?;
            let rows = ParquetRecordBatchReaderBuilder::try_new(file).context("read a file of lag_samples")?;
            for batch in rows.build().context("read a file of lag_samples")? {
                let batch = batch.context("read a file of lag_samples")?;
                let column = batch
                    .column_by_name(name)
                    .with_context(|| format!("no column {name}"))?;
                let column = column
                    .as_primitive_opt::<Int64Type>()
                    .with_context(|| format!("{name} holds no integers"))?;
                for figure in column.iter().flatten() {
                    figures.push(u64::try_from(figure).with_context(|| format!("{name} is negative"))?);
                }
            }
        }
    }
    Ok(figures)
}

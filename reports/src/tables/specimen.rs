//! Rows that say something in every column, and rows that say as little as the contract allows: what readers are tried with.

use std::path::Path;

use super::schema::{Cell, Column, Row, Rule, Table, Type};
use super::{
    ChunkRow, CostRow, CoverageRow, DivergenceRow, EventRow, FileName, GateCriterionRow, LagIntervalRow, LagSampleRow,
    RpoCanaryRow, RpoRow, RunRow, SCHEMA_VERSION, TableError, TableWriter,
};

/// The run of every specimen. Its UUIDv7 says 2026-11-21 00:00 UTC.
pub(crate) const RUN_ID: &str = "01a1fb67-1800-7000-8000-000000000001";
/// One microsecond before 2026-11-21 00:00 UTC.
const AT_US: i64 = 1_795_219_199_999_999;

/// Writes two rows of every table under `output`: one full, one as sparse as the contract allows. For checks of other readers.
///
/// # Errors
/// Unwritable output.
pub fn write_specimens(output: &Path) -> Result<(), TableError> {
    write::<RunRow>(output)?;
    write::<CoverageRow>(output)?;
    write::<ChunkRow>(output)?;
    write::<DivergenceRow>(output)?;
    write::<LagSampleRow>(output)?;
    write::<LagIntervalRow>(output)?;
    write::<RpoRow>(output)?;
    write::<RpoCanaryRow>(output)?;
    write::<EventRow>(output)?;
    write::<GateCriterionRow>(output)?;
    write::<CostRow>(output)
}

/// The sparse row of a table, to be changed where it matters.
///
/// # Errors
/// Never, as long as the contract agrees with itself.
pub fn specimen<R: Row>() -> Result<R, TableError> {
    R::from_cells(sparse(R::table())).map_err(|(column, problem)| TableError::Contract {
        table: R::table().name,
        column: column.to_owned(),
        problem,
    })
}

fn write<R: Row>(output: &Path) -> Result<(), TableError> {
    let mut writer = TableWriter::<R>::create(output, FileName::of_run(RUN_ID));
    writer.push_cells(full(R::table()))?;
    writer.push_cells(sparse(R::table()))?;
    writer.finish().map(|_| ())
}

fn text_for(column: &Column) -> String {
    match &column.rule {
        Rule::Any if column.name == "run_id" => RUN_ID.to_owned(),
        Rule::Any => format!("{} é 'x'", column.name),
        Rule::OneOf(words) => words.last().copied().unwrap_or_default().to_owned(),
        Rule::Hex(digits) => "0f".repeat(digits / 2),
    }
}

pub(crate) fn full(table: &Table) -> Vec<Cell> {
    let cell = |column: &Column| match column.kind {
        Type::Int64 if column.name == "schema_version" => Cell::Int(SCHEMA_VERSION),
        // 2^53 + 1: a reader that goes through a double shows another number.
        Type::Int64 => Cell::Int(9_007_199_254_740_993),
        Type::Double => Cell::Double(-0.5),
        Type::Boolean => Cell::Bool(true),
        Type::Text => Cell::Text(text_for(column)),
        Type::TextList => Cell::List(vec![text_for(column), "second".to_owned()]),
        Type::Timestamp => Cell::At(AT_US),
    };
    table.columns.iter().map(cell).collect()
}

pub(crate) fn sparse(table: &Table) -> Vec<Cell> {
    let thin = |(column, cell): (&Column, Cell)| match cell {
        _ if column.nullable => Cell::Null,
        Cell::List(_) => Cell::List(Vec::new()),
        cell => cell,
    };
    table.columns.iter().zip(full(table)).map(thin).collect()
}

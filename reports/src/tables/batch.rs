//! Cells to Arrow columns and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::schema::{Cell, Table, Type, list_element};

/// Collects rows for one write.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    table: &'static Table,
    columns: Vec<Cells>,
    rows: usize,
    text_bytes: usize,
}

#[derive(Debug)]
enum Cells {
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
    Text(StringBuilder),
    List(ListBuilder<StringBuilder>),
    At(TimestampMicrosecondBuilder),
}

impl BatchBuilder {
    pub(crate) fn new(table: &'static Table) -> Self {
        Self {
            table,
            columns: table.columns.iter().map(|column| Cells::new(column.kind)).collect(),
            rows: 0,
            text_bytes: 0,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the texts held: what can grow without bound.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Adds a row whose cells were checked against the contract.
    pub(crate) fn push(&mut self, cells: Vec<Cell>) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.text_bytes += column.append(cell);
        }
        self.rows += 1;
    }

    /// The batch; empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.columns.iter_mut().map(Cells::finish).collect();
        self.rows = 0;
        self.text_bytes = 0;
        RecordBatch::try_new(self.table.arrow_schema(), arrays)
    }
}

impl Cells {
    fn new(kind: Type) -> Self {
        match kind {
            Type::Int64 => Self::Int(Int64Builder::new()),
            Type::Double => Self::Double(Float64Builder::new()),
            Type::Boolean => Self::Bool(BooleanBuilder::new()),
            Type::Text => Self::Text(StringBuilder::new()),
            Type::TextList => Self::List(ListBuilder::new(StringBuilder::new()).with_field(list_element())),
            Type::Timestamp => Self::At(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
        }
    }

    /// Appends a cell; a cell of another type becomes NULL, which the contract check has ruled out. Returns the bytes of its text.
    fn append(&mut self, cell: Cell) -> usize {
        match (self, cell) {
            (Self::Int(column), Cell::Int(value)) => column.append_value(value),
            (Self::Int(column), _) => column.append_null(),
            (Self::Double(column), Cell::Double(value)) => column.append_value(value),
            (Self::Double(column), _) => column.append_null(),
            (Self::Bool(column), Cell::Bool(value)) => column.append_value(value),
            (Self::Bool(column), _) => column.append_null(),
            (Self::At(column), Cell::At(value)) => column.append_value(value),
            (Self::At(column), _) => column.append_null(),
            (Self::Text(column), Cell::Text(value)) => {
                column.append_value(&value);
                return value.len();
            }
            (Self::Text(column), _) => column.append_null(),
            (Self::List(column), Cell::List(values)) => {
                let bytes = values.iter().map(String::len).sum();
                column.append_value(values.into_iter().map(Some));
                return bytes;
            }
            (Self::List(column), _) => column.append_null(),
        }
        0
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Int(column) => Arc::new(column.finish()),
            Self::Double(column) => Arc::new(column.finish()),
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
            Self::List(column) => Arc::new(column.finish()),
            Self::At(column) => Arc::new(column.finish()),
        }
    }
}

/// One cell of an array whose type was checked against the contract.
pub(crate) fn cell_of(array: &ArrayRef, kind: Type, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match kind {
        Type::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        Type::Double => Cell::Double(array.as_primitive::<Float64Type>().value(row)),
        Type::Boolean => Cell::Bool(array.as_boolean().value(row)),
        Type::Text => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        Type::Timestamp => Cell::At(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        Type::TextList => {
            let texts = array.as_list::<i32>().value(row);
            let texts = texts.as_string::<i32>();
            Cell::List(texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
        }
    }
}

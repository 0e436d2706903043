//! What a table is made of: types, nullability and rules of columns, and how Rust values become cells.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};

/// The types of the contract; there are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// INT64.
    Int64,
    /// DOUBLE.
    Double,
    /// BOOLEAN.
    Boolean,
    /// STRING.
    Text,
    /// `LIST<STRING>`: the list and its elements are never NULL.
    TextList,
    /// TIMESTAMP(MICROS, UTC).
    Timestamp,
}

impl Type {
    /// The word of the contract.
    pub fn word(self) -> &'static str {
        match self {
            Self::Int64 => "INT64",
            Self::Double => "DOUBLE",
            Self::Boolean => "BOOLEAN",
            Self::Text => "STRING",
            Self::TextList => "LIST<STRING>",
            Self::Timestamp => "TIMESTAMP(MICROS, UTC)",
        }
    }

    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Int64 => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Text => DataType::Utf8,
            Self::TextList => DataType::List(list_element()),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// `element` is the name that the Parquet specification gives to it.
pub(crate) fn list_element() -> Arc<ArrowField> {
    Arc::new(ArrowField::new("element", DataType::Utf8, false))
}

/// What a text must be, beyond being text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Any text but an empty one.
    Any,
    /// One of a closed list.
    OneOf(Vec<&'static str>),
    /// So many lower-case hex digits.
    Hex(usize),
}

impl Rule {
    /// What is wrong with `text`, in words.
    pub(crate) fn broken_by(&self, text: &str) -> Option<String> {
        match self {
            Self::Any if text.is_empty() => Some("empty text; nothing to say is NULL".to_owned()),
            Self::OneOf(words) if !words.contains(&text) => {
                Some(format!("`{text}` is not one of {}", words.join(", ")))
            }
            Self::Hex(digits) if !is_hex(text, *digits) => Some(format!("not {digits} lower-case hex digits")),
            _ => None,
        }
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// One value of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// INT64.
    Int(i64),
    /// DOUBLE.
    Double(f64),
    /// BOOLEAN.
    Bool(bool),
    /// STRING.
    Text(String),
    /// `LIST<STRING>`.
    List(Vec<String>),
    /// TIMESTAMP, microseconds since 1970 UTC.
    At(i64),
}

/// One column of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in files.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// Whether NULL may stand in it.
    pub nullable: bool,
    /// What a text in it must be.
    pub rule: Rule,
    /// What it says, for people.
    pub description: String,
}

impl Column {
    /// The column that holds values of `F`. `name` may be a raw identifier (`r#final`).
    pub(crate) fn of<F: Field>(name: &'static str, description: &str) -> Self {
        Self {
            name: name.strip_prefix("r#").unwrap_or(name),
            kind: F::TYPE,
            nullable: F::NULLABLE,
            rule: F::rule(),
            description: description.trim().to_owned(),
        }
    }

    /// What is wrong with a cell for this column, in words.
    pub(crate) fn broken_by(&self, cell: &Cell) -> Option<String> {
        let kind = match cell {
            Cell::Null if self.nullable => return None,
            Cell::Null => return Some("NULL where the contract wants a value".to_owned()),
            Cell::Int(_) => Type::Int64,
            Cell::Double(_) => Type::Double,
            Cell::Bool(_) => Type::Boolean,
            Cell::Text(_) => Type::Text,
            Cell::List(_) => Type::TextList,
            Cell::At(_) => Type::Timestamp,
        };
        if kind != self.kind {
            return Some(format!("{} where the contract wants {}", kind.word(), self.kind.word()));
        }
        match cell {
            Cell::Text(text) => self.rule.broken_by(text),
            Cell::List(texts) => texts.iter().find_map(|text| self.rule.broken_by(text)),
            _ => None,
        }
    }
}

/// One table of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name, which is the name of its folder.
    pub name: &'static str,
    /// What one row is.
    pub grain: String,
    /// The column whose UTC date is `run_date`; `run_id`: the instant in the UUIDv7.
    pub dated_by: &'static str,
    /// Its columns, in the order of the file.
    pub columns: Vec<Column>,
}

impl Table {
    pub(crate) fn new(name: &'static str, grain: &str, dated_by: &'static str, own: Vec<Column>) -> Self {
        let mut columns = vec![
            Column::of::<String>(
                "run_id",
                "The run that wrote the row: UUIDv7 text, so that runs sort by time.",
            ),
            Column::of::<i64>("schema_version", "The version of this contract."),
        ];
        columns.extend(own);
        Self {
            name,
            grain: grain.trim().to_owned(),
            dated_by,
            columns,
        }
    }

    /// Where a column stands.
    pub fn index_of(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known.name == column)
    }

    pub(crate) fn arrow_schema(&self) -> SchemaRef {
        let fields: Vec<ArrowField> = self
            .columns
            .iter()
            .map(|column| ArrowField::new(column.name, column.kind.arrow(), column.nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }
}

/// A row of a table. Made by the contract's macro alone: the struct, the columns and the conversions are one text.
pub trait Row: Sized + Send + 'static {
    /// The table.
    fn table() -> &'static Table;

    /// The cells, in the order of the columns.
    ///
    /// # Errors
    /// Column and reason, when a value has no place in its type.
    fn into_cells(self) -> Result<Vec<Cell>, (&'static str, String)>;

    /// The row of cells in the order of the columns.
    ///
    /// # Errors
    /// Column and reason, when a cell does not fit.
    fn from_cells(cells: Vec<Cell>) -> Result<Self, (&'static str, String)>;
}

/// A Rust type that fits into a column.
pub trait Field: Sized {
    /// The column's type.
    const TYPE: Type;
    /// Whether it has NULL.
    const NULLABLE: bool = false;

    /// What a text must be.
    fn rule() -> Rule {
        Rule::Any
    }

    /// The cell, or why there is none.
    ///
    /// # Errors
    /// The reason, in words.
    fn into_cell(self) -> Result<Cell, String>;

    /// The value, if the cell is one.
    fn from_cell(cell: Cell) -> Option<Self>;
}

/// An instant: microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtMicros(pub i64);

/// `N` lower-case hex digits; checked when written and when read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hex<const N: usize>(pub String);

macro_rules! field {
    ($type:ty, $kind:ident, $cell:ident) => {
        impl Field for $type {
            const TYPE: Type = Type::$kind;

            fn into_cell(self) -> Result<Cell, String> {
                Ok(Cell::$cell(self))
            }

            fn from_cell(cell: Cell) -> Option<Self> {
                match cell {
                    Cell::$cell(value) => Some(value),
                    _ => None,
                }
            }
        }
    };
}

field!(i64, Int64, Int);
field!(f64, Double, Double);
field!(bool, Boolean, Bool);
field!(String, Text, Text);
field!(Vec<String>, TextList, List);

impl Field for u64 {
    const TYPE: Type = Type::Int64;

    fn into_cell(self) -> Result<Cell, String> {
        i64::try_from(self)
            .map(Cell::Int)
            .map_err(|_| format!("{self} does not fit into INT64"))
    }

    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Int(value) => Self::try_from(value).ok(),
            _ => None,
        }
    }
}

impl Field for AtMicros {
    const TYPE: Type = Type::Timestamp;

    fn into_cell(self) -> Result<Cell, String> {
        Ok(Cell::At(self.0))
    }

    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::At(value) => Some(Self(value)),
            _ => None,
        }
    }
}

impl<const N: usize> Field for Hex<N> {
    const TYPE: Type = Type::Text;

    fn rule() -> Rule {
        Rule::Hex(N)
    }

    fn into_cell(self) -> Result<Cell, String> {
        Ok(Cell::Text(self.0))
    }

    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Text(value) => Some(Self(value)),
            _ => None,
        }
    }
}

impl<F: Field> Field for Option<F> {
    const TYPE: Type = F::TYPE;
    const NULLABLE: bool = true;

    fn rule() -> Rule {
        F::rule()
    }

    fn into_cell(self) -> Result<Cell, String> {
        self.map_or(Ok(Cell::Null), F::into_cell)
    }

    fn from_cell(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => F::from_cell(cell).map(Some),
        }
    }
}

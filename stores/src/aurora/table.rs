//! One table as driftline reads it.

use super::key_type::{KeyColumn, order_identity};
use super::quote::ident;
use super::shape::Shape;
use crate::{Collection, Column, Definition, KeyShape, Scope};

/// A table with everything that SQL for it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its number in this database.
    pub(crate) oid: u32,
    /// Schema, unquoted.
    pub(crate) schema: String,
    /// Name, unquoted.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: TableKind,
    /// Its columns in their order; dropped ones left out.
    pub(crate) columns: Vec<TableColumn>,
    /// Its key, or why there is none.
    pub(crate) key: Result<Vec<KeyColumn>, String>,
    /// Rows by statistics.
    pub(crate) rows_estimate: Option<u64>,
    /// Bytes with indexes and TOAST.
    pub(crate) bytes: Option<u64>,
    /// Blocks that hold its rows.
    pub(crate) blocks: u64,
    /// Why it cannot be read as a whole, with the remedy.
    pub(crate) unreadable: Option<String>,
    /// Why its rows are not meant to be the same at both ends.
    pub(crate) not_replicated: Option<String>,
    /// Its indexes, constraints, and the extensions of its types.
    pub(crate) definitions: Vec<Definition>,
    /// What of it is compared, and how.
    pub(crate) scope: Scope,
}

/// What holds rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    /// An ordinary table.
    Ordinary,
    /// The root of a partition tree.
    Partitioned,
    /// Its rows live in another server.
    Foreign,
    /// Its rows are derived.
    MaterializedView,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableColumn {
    /// Its name.
    pub(crate) name: String,
    /// Its type as the server writes it.
    pub(crate) type_name: String,
    /// Whether it may be NULL.
    pub(crate) nullable: bool,
    /// Its type.
    pub(crate) shape: Shape,
}

/// The schema and table that hold driftline's own canaries.
const CANARY_TABLE: (&str, &str) = ("driftline", "canary");

impl Table {
    /// `schema.table`, the name by which people and configuration know it.
    pub(crate) fn dotted(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// What to read from, in SQL. `only`, except for a partition root: children by inheritance are tables of their own, with keys of
    /// their own.
    pub(crate) fn from(&self) -> String {
        let only = match self.kind {
            TableKind::Partitioned => "",
            TableKind::Ordinary | TableKind::Foreign | TableKind::MaterializedView => "only ",
        };
        format!("{only}{}", self.qualified())
    }

    /// Its name in SQL.
    pub(crate) fn qualified(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }

    /// `condition`, and that the row is in the scope of the comparison.
    pub(crate) fn within(&self, condition: &str) -> String {
        match &self.scope.filter {
            None => condition.to_owned(),
            Some(filter) => format!("({condition}) and ({filter}\n)"),
        }
    }

    /// The column of this name.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The table as the contract of [`crate::Catalog`] shows it.
    pub(crate) fn collection(&self) -> Collection {
        Collection {
            name: self.dotted(),
            kind: match self.kind {
                TableKind::Ordinary => "table",
                TableKind::Partitioned => "partitioned table",
                TableKind::Foreign => "foreign table",
                TableKind::MaterializedView => "materialized view",
            }
            .to_owned(),
            columns: self.columns.iter().map(TableColumn::public).collect(),
            key: match &self.key {
                Ok(columns) => KeyShape::Usable {
                    columns: columns.iter().map(|column| column.name.clone()).collect(),
                    order_identity: order_identity(columns),
                },
                Err(reason) => KeyShape::Unusable(reason.clone()),
            },
            rows_estimate: self.rows_estimate,
            bytes: self.bytes,
            unreadable: self.unreadable.clone(),
            is_canary: (self.schema.as_str(), self.name.as_str()) == CANARY_TABLE,
            not_replicated: self.not_replicated.clone(),
            is_counter: false,
            definitions: self.definitions.clone(),
            scope: self.scope.clone(),
        }
    }
}

impl TableColumn {
    fn public(&self) -> Column {
        Column {
            name: self.name.clone(),
            type_name: self.type_name.clone(),
            nullable: self.nullable,
            not_comparable: self.shape.not_comparable(),
        }
    }
}

//! What can go wrong with tables, told by what the caller does next.

use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// An error of the tables.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The output takes no more: nothing half-written is visible. The run could not tell (exit 3).
    #[error("cannot write {}: {cause}{}", path.display(), hint(cause))]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// A file or folder of the output cannot be read: evidence is missing, so nothing may be concluded from the rest.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system or the Parquet reader says.
        cause: String,
    },
    /// A row breaks the contract: a fault of this program. The row is not written.
    #[error("table {table}, column {column}: {problem}")]
    Contract {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that is no table of this contract: made by another program or version. Read it with that version, or move it away.
    #[error("{}: column {column}: {problem} (written by another version of driftline, or by another program?)", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// A journal that contradicts itself. Nothing may be concluded from it.
    #[error("the reconcile journal contradicts itself: {0}; nothing was rendered, run the reconciliation again")]
    Contradiction(String),
    /// The journal cannot be read.
    #[error("cannot read the journal: {0}")]
    Journal(String),
}

fn hint(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            " (make room or choose another --output, then render again: the journal and the ledger still hold everything)"
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            " (give this user the right to write there, or choose another --output)"
        }
        _ => "",
    }
}

impl TableError {
    pub(crate) fn unwritable(path: &Path, cause: std::io::Error) -> Self {
        Self::Unwritable {
            path: path.to_owned(),
            cause,
        }
    }

    pub(crate) fn unreadable(path: &Path, cause: impl ToString) -> Self {
        Self::Unreadable {
            path: path.to_owned(),
            cause: cause.to_string(),
        }
    }

    /// What the Parquet writer says, with the system's own error when there is one inside.
    pub(crate) fn from_writer(path: &Path, error: ParquetError) -> Self {
        let cause = match error {
            ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
                Ok(cause) => *cause,
                Err(other) => std::io::Error::other(other),
            },
            other => std::io::Error::other(other),
        };
        Self::unwritable(path, cause)
    }
}

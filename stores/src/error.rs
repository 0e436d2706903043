//! What can go wrong at a store, told by what the caller does next.

use std::time::Duration;

/// Where and while doing what an error happened, in words for the person who reads it.
///
/// Never holds a secret or a row value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The site that was asked, e.g. `usw2`; the dataset is added by the caller, who knows it.
    pub site: String,
    /// What was tried, e.g. `digest public.orders [10, 20)`.
    pub tried: String,
    /// What came back, in the store's own words.
    pub cause: String,
    /// What the reader can do next; empty when there is nothing to advise.
    pub hint: String,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "site {}: {}: {}", self.site, self.tried, self.cause)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl Trouble {
    /// Trouble at `site` while doing `tried`.
    pub fn new(site: impl Into<String>, tried: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            site: site.into(),
            tried: tried.into(),
            cause: cause.into(),
            hint: String::new(),
        }
    }

    /// The same trouble with advice for the reader.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// An error of a store. The variant says what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Passing: connection cut, server busy, statement cancelled by a recovery conflict or a time-out.
    /// Try again, not before `after` when given, a bounded number of times.
    #[error("{trouble}")]
    Retryable {
        /// The earliest next try.
        after: Option<Duration>,
        /// Where and what.
        trouble: Trouble,
    },
    /// Nobody answered at the address. Try again a bounded number of times; then the result is unknown (exit 3).
    #[error("{0}")]
    Unreachable(Trouble),
    /// The connection stands but this role may not do that (no SELECT, row-level security). Record as not verified.
    #[error("{0}")]
    Denied(Trouble),
    /// The collection or object does not exist there. An answer, not a fault.
    #[error("{0}")]
    NotFound(Trouble),
    /// This store, version or table cannot do that at all. Record as not verified; do not try again.
    #[error("{0}")]
    Unsupported(Trouble),
    /// What came back breaks the protocol or our own format. Stop and report.
    #[error("{0}")]
    Corrupt(Trouble),
    /// The configuration has to change first: password, TLS, database name, the same data reached twice (exit 2).
    #[error("{0}")]
    Config(Trouble),
}

impl StoreError {
    /// The words of the error, whatever its variant.
    pub fn trouble(&self) -> &Trouble {
        match self {
            Self::Retryable { trouble, .. } => trouble,
            Self::Unreachable(t)
            | Self::Denied(t)
            | Self::NotFound(t)
            | Self::Unsupported(t)
            | Self::Corrupt(t)
            | Self::Config(t) => t,
        }
    }

    /// Whether a bounded number of further tries makes sense.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Retryable { .. } | Self::Unreachable(_))
    }

    /// A stable word for coverage reasons and metrics: `retryable`, `unreachable`, `denied`, `not_found`,
    /// `unsupported`, `corrupt`, `config`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retryable { .. } => "retryable",
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::NotFound(_) => "not_found",
            Self::Unsupported(_) => "unsupported",
            Self::Corrupt(_) => "corrupt",
            Self::Config(_) => "config",
        }
    }
}

/// The result of asking a store.
pub type Result<T> = std::result::Result<T, StoreError>;

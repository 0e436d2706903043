//! Who is stated to take writes. Roles that are observed start no canary: only a statement does.

use std::collections::BTreeSet;

use crate::Route;

/// The stated writers, as of one statement (the configuration, `--writers`, a state file, an event).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatedWriters {
    statement: u64,
    writers: BTreeSet<(String, String)>,
}

impl StatedWriters {
    /// Statement number `statement`: these sites take writes, each named with the `dataset` of its routes. A later statement has a
    /// higher number, also when it says the same again: that is how a role conflict is declared to be resolved.
    pub fn new(statement: u64, writers: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            statement,
            writers: writers.into_iter().collect(),
        }
    }

    /// The number of the statement.
    pub fn statement(&self) -> u64 {
        self.statement
    }

    /// Whether the primary of `route` is a writer.
    pub fn is_writer(&self, route: &Route) -> bool {
        self.writers
            .contains(&(route.dataset.clone(), route.primary_site.clone()))
    }
}

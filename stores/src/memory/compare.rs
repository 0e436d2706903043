//! What two readings of one key say together, on a physical pair.

use crate::{Class, Compare, Comparison, Reading, Readings, Row};

#[derive(Debug)]
pub(crate) struct PhysicalCompare;

impl Compare for PhysicalCompare {
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison {
        match (primary, secondary) {
            (Reading::Present(primary), Reading::Present(secondary)) => compare_rows(primary, secondary, columns),
            _ => compare_presence(primary, secondary),
        }
    }

    fn guard(
        &self,
        first: &Readings,
        secondary: &Readings,
        again: &Readings,
        index: usize,
    ) -> std::result::Result<(), String> {
        // Without a snapshot of the primary the ends are not a physical pair: no transaction number means anything at the other.
        let (Some(snapshot), None) = (&first.snapshot, &secondary.snapshot) else {
            return Ok(());
        };
        let begun = |transaction: &Option<u32>| transaction.is_some_and(|transaction| !snapshot.sees(transaction));
        match (secondary.rows.get(index), again.rows.get(index)) {
            (Some(Reading::Present(row)), _) if begun(&row.created_by) => {
                Err("the secondary shows a transaction that the primary did not show yet".to_owned())
            }
            (Some(Reading::Absent), Some(Reading::Present(row))) if begun(&row.ended_by) => {
                Err("the primary's row is being deleted by a transaction that it does not show yet".to_owned())
            }
            (Some(Reading::Present(there)), Some(Reading::Present(row)))
                if there.copies != row.copies && begun(&row.ended_by) =>
            {
                Err("a copy at the primary is being deleted by a transaction that it does not show yet".to_owned())
            }
            (Some(_), Some(_)) => Ok(()),
            _ => Err(format!("key {index} was not read at both ends")),
        }
    }
}

/// What can be said of a key that is absent on a side.
pub(crate) fn compare_presence(primary: &Reading, secondary: &Reading) -> Comparison {
    let class = match (primary, secondary) {
        (Reading::Present(_), Reading::Absent) => Class::MissingOnSecondary,
        (Reading::Absent, Reading::Present(_)) => Class::MissingOnPrimary,
        _ => return Comparison::Equal,
    };
    Comparison::Differs {
        class,
        detail: String::new(),
        columns: Vec::new(),
    }
}

/// A key that exists more often on one side.
pub(crate) fn duplicate(primary: u64, secondary: u64) -> Comparison {
    Comparison::Differs {
        class: Class::Duplicate,
        detail: format!("{primary} at the primary, {secondary} at the secondary"),
        columns: Vec::new(),
    }
}

fn compare_rows(primary: &Row, secondary: &Row, names: &[String]) -> Comparison {
    if primary.copies != secondary.copies {
        return duplicate(primary.copies, secondary.copies);
    }
    if primary.digest == secondary.digest {
        return Comparison::Equal;
    }
    let pairs = primary.columns.iter().zip(&secondary.columns).zip(names);
    let columns: Vec<String> = pairs
        .filter(|((primary, secondary), _)| primary != secondary)
        .map(|(_, name)| name.clone())
        .collect();
    let detail = if columns.is_empty() {
        "the rows differ and no single column does".to_owned()
    } else {
        String::new()
    };
    Comparison::Differs {
        class: Class::Different,
        detail,
        columns,
    }
}

//! What two readings of one key say together, on a physical pair.

use crate::{Class, Compare, Comparison, Reading, Readings, Row};

#[derive(Debug)]
pub(crate) struct PhysicalCompare;

impl Compare for PhysicalCompare {
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison {
        let whole = |class| Comparison::Differs {
            class,
            detail: String::new(),
            columns: Vec::new(),
        };
        match (primary, secondary) {
            (Reading::Absent, Reading::Absent) => Comparison::Equal,
            (Reading::Present(_), Reading::Absent) => whole(Class::MissingOnSecondary),
            (Reading::Absent, Reading::Present(_)) => whole(Class::MissingOnPrimary),
            (Reading::Present(primary), Reading::Present(secondary)) => compare_rows(primary, secondary, columns),
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
            (Some(_), Some(_)) => Ok(()),
            _ => Err(format!("key {index} was not read at both ends")),
        }
    }
}

fn compare_rows(primary: &Row, secondary: &Row, names: &[String]) -> Comparison {
    if primary.copies != secondary.copies {
        return Comparison::Differs {
            class: Class::Duplicate,
            detail: format!(
                "{} at the primary, {} at the secondary",
                primary.copies, secondary.copies
            ),
            columns: Vec::new(),
        };
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

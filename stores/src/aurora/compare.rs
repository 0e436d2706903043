//! What two readings of one row say together.

use crate::{Class, Compare, Comparison, Reading, Readings, Row};

/// Judges rows of PostgreSQL tables, by how the two copies are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowCompare {
    /// The secondary replays the primary's log, or nothing links the two.
    Physical,
    /// The secondary applies what the primary publishes, in transactions of its own.
    Logical,
}

impl Compare for RowCompare {
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison {
        match (primary, secondary) {
            (Reading::Absent, Reading::Absent) => Comparison::Equal,
            (Reading::Present(_), Reading::Absent) => missing(Class::MissingOnSecondary),
            (Reading::Absent, Reading::Present(_)) => missing(Class::MissingOnPrimary),
            (Reading::Present(primary), Reading::Present(secondary)) => compare_rows(primary, secondary, columns),
        }
    }

    /// On a physical pair transaction IDs mean the same at both ends, so the first reading's snapshot tells what was in flight. That the
    /// pair is physical shows in the secondary: it takes no writes, so it has no snapshot of its own; elsewhere there is nothing to guard by.
    fn guard(&self, first: &Readings, secondary: &Readings, again: &Readings, index: usize) -> Result<(), String> {
        if *self == Self::Physical && secondary.snapshot.is_some() {
            return Ok(());
        }
        let Some(snapshot) = &first.snapshot else {
            return Err("the first reading has no snapshot: the primary is a standby too".to_owned());
        };
        // The secondary's transactions say nothing about the primary's. A commit that waits for a synchronous standby there, and was applied
        // here already, shows in what it ends at the primary.
        if *self == Self::Logical {
            let here = again.rows.get(index).ok_or("a reading is incomplete")?;
            // What the secondary shows first has nothing at the primary yet that could tell of it.
            let may_be_inserted = match (here, secondary.rows.get(index)) {
                // The same row of the secondary is needed twice: what made it and does not end runs from the first of these votes to the last.
                (Reading::Absent, Some(Reading::Present(_))) => {
                    again.snapshot.as_ref().is_none_or(|later| snapshot.runs_on(later))
                }
                // Copies of a row without a key may be others in each vote, so every transaction that runs is a suspect.
                (Reading::Present(here), Some(Reading::Present(there))) => {
                    there.copies > here.copies && snapshot.xmin < snapshot.xmax
                }
                _ => false,
            };
            if may_be_inserted {
                return Err("a transaction of the primary that has not ended may have inserted it".to_owned());
            }
            return match here {
                Reading::Present(again) if again.ended_by.is_some_and(|xid| !snapshot.sees(xid)) => {
                    Err("the primary's row is locked or being changed by a transaction that had not ended".to_owned())
                }
                _ => Ok(()),
            };
        }
        let row = |readings: &Readings| readings.rows.get(index).cloned().ok_or("a reading is incomplete");
        match (row(secondary)?, row(again)?) {
            // Copies of a row without a key: a standby may show a delete before the primary does.
            (Reading::Present(secondary), Reading::Present(again))
                if secondary.copies != again.copies && again.ended_by.is_some_and(|xid| !snapshot.sees(xid)) =>
            {
                Err("a copy at the primary is locked or being deleted by a transaction that had not ended".to_owned())
            }
            (Reading::Present(secondary), _) => match secondary.created_by {
                None => Err("the secondary's row does not tell its transaction".to_owned()),
                Some(xid) if snapshot.sees(xid) => Ok(()),
                Some(_) => Err("the secondary's row is of a transaction that had not ended at the primary".to_owned()),
            },
            (Reading::Absent, Reading::Present(again)) => match again.ended_by {
                Some(xid) if !snapshot.sees(xid) => {
                    Err("the primary's row is locked or being deleted by a transaction that had not ended".to_owned())
                }
                _ => Ok(()),
            },
            (Reading::Absent, Reading::Absent) => Ok(()),
        }
    }
}

fn missing(class: Class) -> Comparison {
    Comparison::Differs {
        class,
        detail: String::new(),
        columns: Vec::new(),
    }
}

fn compare_rows(primary: &Row, secondary: &Row, columns: &[String]) -> Comparison {
    if primary.copies != secondary.copies {
        return Comparison::Differs {
            class: Class::Duplicate,
            detail: format!(
                "{} copies at the primary, {} at the secondary",
                primary.copies, secondary.copies
            ),
            columns: Vec::new(),
        };
    }
    if primary.digest == secondary.digest {
        return Comparison::Equal;
    }
    if primary.columns.len() != columns.len() || secondary.columns.len() != columns.len() {
        return Comparison::NotComparable("the two readings do not have the recipe's columns".to_owned());
    }
    let differing: Vec<String> = columns
        .iter()
        .zip(primary.columns.iter().zip(&secondary.columns))
        .filter(|(_, (primary, secondary))| primary != secondary)
        .map(|(name, _)| name.clone())
        .collect();
    let detail = match (differing.is_empty(), primary.copies) {
        (false, _) => String::new(),
        (true, 1) => "the digests of the rows differ, those of no single column do".to_owned(),
        (true, copies) => format!("{copies} rows have this key at each end; their sums differ"),
    };
    Comparison::Differs {
        class: Class::Different,
        detail,
        columns: differing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, RowDigest, Snapshot};

    fn row(digest: u128, columns: &[Option<u64>]) -> Row {
        Row {
            version: "1,(0,1),5".into(),
            digest: RowDigest(digest),
            columns: columns.to_vec(),
            values: None,
            changed_at_us: None,
            copies: 1,
            created_by: Some(100),
            ended_by: None,
            committed_at_us: None,
        }
    }

    fn readings(row: Reading, position: Option<u64>, xmin: Option<u64>) -> Readings {
        Readings {
            rows: vec![row],
            position: position.map(Position),
            snapshot: xmin.map(|xmin| Snapshot {
                xmin,
                xmax: xmin + 50,
                running: vec![xmin],
            }),
            instance: "i".into(),
        }
    }

    fn names() -> Vec<String> {
        vec!["id".into(), "a".into()]
    }

    #[test]
    fn classes_and_columns() {
        let one = Reading::Present(row(1, &[Some(1), Some(2)]));
        let null = Reading::Present(row(2, &[Some(1), None]));
        let mut twice = row(1, &[Some(1), Some(2)]);
        twice.copies = 2;
        let class = |a: &Reading, b: &Reading| match RowCompare::Physical.compare(a, b, &names()) {
            Comparison::Differs { class, columns, .. } => Some((class, columns.join(","))),
            _ => None,
        };
        assert_eq!(class(&one, &one), None);
        assert_eq!(class(&Reading::Absent, &Reading::Absent), None);
        assert_eq!(class(&one, &null), Some((Class::Different, "a".into())));
        assert_eq!(
            class(&one, &Reading::Absent),
            Some((Class::MissingOnSecondary, String::new()))
        );
        assert_eq!(
            class(&Reading::Absent, &one),
            Some((Class::MissingOnPrimary, String::new()))
        );
        assert_eq!(
            class(&one, &Reading::Present(twice)),
            Some((Class::Duplicate, String::new()))
        );
        let unnamed = Reading::Present(row(9, &[Some(1), Some(2)]));
        assert!(matches!(
            RowCompare::Physical.compare(&one, &unnamed, &names()),
            Comparison::Differs { class: Class::Different, columns, detail } if columns.is_empty() && !detail.is_empty()
        ));
        let short = Reading::Present(row(9, &[Some(1)]));
        assert!(matches!(
            RowCompare::Physical.compare(&one, &short, &names()),
            Comparison::NotComparable(_)
        ));
    }

    #[test]
    fn a_row_of_a_transaction_that_was_running_is_no_evidence() {
        let guard = |secondary: Reading, again: Reading, xmin: u64| {
            let first = readings(Reading::Absent, None, Some(xmin));
            RowCompare::Physical.guard(
                &first,
                &readings(secondary, Some(7), None),
                &readings(again, None, Some(xmin)),
                0,
            )
        };
        let present = || Reading::Present(row(1, &[]));
        assert!(guard(present(), Reading::Absent, 101).is_ok());
        assert!(guard(present(), Reading::Absent, 100).is_err());
        assert!(
            guard(present(), Reading::Absent, 60).is_err(),
            "begun after the oldest that runs: may be its savepoint"
        );
        let ended = |xid| {
            let mut row = row(1, &[]);
            row.ended_by = xid;
            Reading::Present(row)
        };
        assert!(guard(Reading::Absent, ended(None), 100).is_ok());
        assert!(guard(Reading::Absent, ended(Some(99)), 100).is_ok());
        assert!(guard(Reading::Absent, ended(Some(100)), 100).is_err());
        assert!(guard(Reading::Absent, ended(Some(2_000)), 100).is_err());
    }

    #[test]
    fn only_a_standby_is_guarded() {
        let present = || Reading::Present(row(1, &[]));
        let first = readings(present(), None, Some(1));
        let independent = readings(present(), None, Some(1));
        assert!(RowCompare::Physical.guard(&first, &independent, &first, 0).is_ok());
        let standby = readings(present(), Some(1), None);
        assert!(RowCompare::Physical.guard(&first, &standby, &first, 0).is_err());
        let without = readings(present(), Some(1), None);
        assert!(RowCompare::Physical.guard(&without, &standby, &without, 0).is_err());
    }
    #[test]
    fn between_logical_copies_a_pending_end_at_the_primary_is_no_evidence() {
        let guard = |again: Reading, secondary: Reading| {
            let first = readings(again.clone(), None, Some(100));
            RowCompare::Logical.guard(
                &first,
                &readings(secondary, Some(7), Some(5)),
                &readings(again, None, Some(100)),
                0,
            )
        };
        let mut pending = row(1, &[]);
        pending.ended_by = Some(100);
        assert!(guard(Reading::Present(pending.clone()), Reading::Absent).is_err());
        assert!(guard(Reading::Present(pending.clone()), Reading::Present(row(2, &[]))).is_err());
        pending.ended_by = Some(99);
        assert!(guard(Reading::Present(pending), Reading::Absent).is_ok());
        // Transaction 100 runs in both readings of the primary: it may have inserted what the secondary shows already.
        assert!(guard(Reading::Absent, Reading::Present(row(1, &[]))).is_err());
        let mut more = row(1, &[]);
        more.copies = 2;
        assert!(guard(Reading::Present(row(1, &[])), Reading::Present(more.clone())).is_err());
        let ended = RowCompare::Logical.guard(
            &readings(Reading::Absent, None, Some(100)),
            &readings(Reading::Present(row(1, &[])), Some(7), Some(5)),
            &readings(Reading::Absent, None, Some(101)),
            0,
        );
        assert!(ended.is_ok(), "what ran first has ended, and left no row");
        let one_more = RowCompare::Logical.guard(
            &readings(Reading::Present(row(1, &[])), None, Some(100)),
            &readings(Reading::Present(more), Some(7), Some(5)),
            &readings(Reading::Present(row(1, &[])), None, Some(101)),
            0,
        );
        assert!(one_more.is_err(), "the copy may be of another transaction in each vote");
        // The secondary's own transaction 4,000,000 is of another counter.
        let mut own = row(2, &[]);
        own.created_by = Some(4_000_000);
        assert!(guard(Reading::Present(row(1, &[])), Reading::Present(own)).is_ok());
    }
}

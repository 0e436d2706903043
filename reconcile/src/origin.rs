//! Where a divergence comes from, by the change times of its rows and the fork of the event. Pure: no I/O.

use stores::{Fork, Reading};

use crate::{ForkEvidence, Origin, Side};

/// How far a commit time may be from the place of its commit in the log: a server notes the time first, and writes the commit then.
const COMMIT_SLACK_US: u64 = 1_000_000;

/// When one side's row last changed, seen from the fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The side has no row: a delete leaves no evidence of its own.
    NoRow,
    /// It has a row that does not tell.
    Untold,
    /// Before the fork by its commit time, so both sides had it.
    CommittedBefore,
    /// Before the fork by what the row says of itself.
    Before,
    /// Within what is not known of the fork, or too near before it.
    Near,
    /// Later than the upper end of the fork.
    After,
}

/// What tells when a row changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The server's own record of commits: nothing that an application writes can be wrong about it.
    Commit(i64),
    /// A column.
    Column(i64),
}

impl Source {
    /// A commit time counts only beside a fork that was read from the log: that one is by the clock that dates commits, and its copies are
    /// physical ones, where a commit that was replayed keeps its time. A logical copy dates it anew.
    fn of(reading: &Reading, column: Option<&str>, fork: &Fork) -> Option<Self> {
        let Reading::Present(row) = reading else { return None };
        let by_column = || column.and(row.changed_at_us).map(Self::Column);
        let by_commit = row.committed_at_us.filter(|_| fork.position.is_some());
        by_commit.map(Self::Commit).or_else(by_column)
    }
}

/// Judges one key: its origin, and in words what that rests on.
pub(crate) fn origin(
    evidence: &ForkEvidence,
    column: Option<&str>,
    primary: &Reading,
    secondary: &Reading,
) -> (Origin, String) {
    let (old, new) = match evidence.old_side {
        Side::Primary => (primary, secondary),
        Side::Secondary => (secondary, primary),
    };
    let fork = &evidence.fork;
    let sources = (Source::of(old, column, fork), Source::of(new, column, fork));
    let is_commit = |source: Option<Source>| matches!(source, Some(Source::Commit(_)));
    let by_commits = is_commit(sources.0) || is_commit(sources.1);
    let named = match (by_commits, column) {
        (true, Some(column)) => format!("commit times, else {column}"),
        (true, None) => "commit times".to_owned(),
        (false, Some(column)) => column.to_owned(),
        (false, None) => {
            return (
                Origin::Unknown,
                "no commit time is kept, and no column is named that tells when a row changed".to_owned(),
            );
        }
    };
    // A transaction of the old side that began before the fork may have been committed behind it, and then its row was not replayed.
    // On the new side none can: it took no writes before it was promoted.
    let old_change = change(old, sources.0, fork, evidence.longest_transaction_us);
    let new_change = change(new, sources.1, fork, 0);
    let words = format!(
        "{named}: old side {}, new side {}; fork {}",
        say(sources.0, old_change),
        say(sources.1, new_change),
        say_fork(fork)
    );
    (decide(old_change, new_change), words)
}

/// The rule. Only `After` is evidence of a change behind the fork, and only what is before it, or no row, lets the other side be the only
/// one. A row that was committed before the fork was on both sides then: where it is missing now, that side deleted it.
pub(crate) fn decide(old: Change, new: Change) -> Origin {
    use Change::{After, Before, CommittedBefore, NoRow};
    match (old, new) {
        (After, After) => Origin::Conflict,
        (After, Before | CommittedBefore | NoRow) | (NoRow, CommittedBefore) => Origin::LostWrite,
        (Before | CommittedBefore | NoRow, After) | (CommittedBefore, NoRow) => Origin::NewWrite,
        _ => Origin::Unknown,
    }
}

/// `longest_us`: how long before its commit a row may have been dated by a column.
fn change(reading: &Reading, source: Option<Source>, fork: &Fork, longest_us: u64) -> Change {
    let surely_before = |margin_us| fork.at_low_us.saturating_sub_unsigned(margin_us);
    match (reading, source) {
        (Reading::Absent, _) => Change::NoRow,
        (Reading::Present(_), None) => Change::Untold,
        (_, Some(Source::Commit(at_us) | Source::Column(at_us))) if at_us > fork.at_high_us => Change::After,
        (_, Some(Source::Commit(at_us))) if at_us < surely_before(COMMIT_SLACK_US) => Change::CommittedBefore,
        (_, Some(Source::Column(at_us))) if at_us < surely_before(longest_us) => Change::Before,
        (_, Some(_)) => Change::Near,
    }
}

fn say(source: Option<Source>, change: Change) -> String {
    let (verb, at) = match source {
        Some(Source::Commit(at_us)) => ("was committed", say_instant(at_us)),
        Some(Source::Column(at_us)) => ("changed", say_instant(at_us)),
        None => ("changed", String::new()),
    };
    match change {
        Change::NoRow => "has no row".to_owned(),
        Change::Untold => "does not tell".to_owned(),
        Change::Before | Change::CommittedBefore => format!("{verb} before ({at})"),
        Change::Near => format!("{verb} too near to tell ({at})"),
        Change::After => format!("{verb} after ({at})"),
    }
}

fn say_fork(fork: &Fork) -> String {
    let (low, high) = (say_instant(fork.at_low_us), say_instant(fork.at_high_us));
    let at = if low == high {
        low
    } else {
        format!("between {low} and {high}")
    };
    if fork.evidence.is_empty() {
        at
    } else {
        format!("{at}, by {}", fork.evidence)
    }
}

fn say_instant(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| format!("{at_us} us"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stores::{Row, RowDigest};

    use super::*;

    const FORK: i64 = 1_000_000;

    fn row(changed_at_us: Option<i64>) -> Reading {
        Reading::Present(Row {
            version: "1".to_owned(),
            digest: RowDigest(1),
            columns: Vec::new(),
            values: None,
            changed_at_us,
            copies: 1,
            created_by: None,
            ended_by: None,
            committed_at_us: None,
        })
    }

    fn committed(at_us: i64) -> Reading {
        match row(Some(FORK + 5)) {
            Reading::Present(row) => Reading::Present(Row {
                committed_at_us: Some(at_us),
                ..row
            }),
            Reading::Absent => Reading::Absent,
        }
    }

    fn evidence(old_side: Side, width_us: i64, longest_transaction_us: u64) -> ForkEvidence {
        ForkEvidence {
            fork: Fork {
                position: None,
                at_low_us: FORK - width_us,
                at_high_us: FORK,
                evidence: "a test".to_owned(),
            },
            old_side,
            longest_transaction_us,
        }
    }

    fn judged(old: &Reading, new: &Reading) -> Origin {
        origin(&evidence(Side::Primary, 0, 100), Some("changed_at"), old, new).0
    }

    #[test]
    fn each_origin_by_its_rule() {
        let (before, after) = (row(Some(FORK - 101)), row(Some(FORK + 1)));
        assert_eq!(judged(&after, &before), Origin::LostWrite);
        assert_eq!(judged(&before, &after), Origin::NewWrite);
        assert_eq!(judged(&after, &after), Origin::Conflict);
        assert_eq!(judged(&after, &Reading::Absent), Origin::LostWrite);
        assert_eq!(judged(&Reading::Absent, &after), Origin::NewWrite);
        assert_eq!(judged(&before, &before), Origin::Unknown);
    }

    #[test]
    fn what_the_evidence_does_not_tell_is_unknown() {
        let after = row(Some(FORK + 1));
        let within_longest_transaction = row(Some(FORK - 100));
        assert_eq!(
            judged(&row(Some(FORK - 200)), &Reading::Absent),
            Origin::Unknown,
            "a delete on the new side"
        );
        assert_eq!(
            judged(&Reading::Absent, &row(Some(FORK - 200))),
            Origin::Unknown,
            "a delete on the old side"
        );
        assert_eq!(judged(&row(None), &after), Origin::Unknown);
        assert_eq!(judged(&within_longest_transaction, &after), Origin::Unknown);
        assert_eq!(judged(&within_longest_transaction, &Reading::Absent), Origin::Unknown);
        assert_eq!(
            judged(&row(Some(FORK)), &row(Some(FORK - 200))),
            Origin::Unknown,
            "not later than the upper end"
        );
        assert_eq!(judged(&after, &row(None)), Origin::Unknown);
        assert_eq!(
            judged(&after, &row(Some(FORK))),
            Origin::Unknown,
            "the new side, not surely before"
        );
        let no_column = origin(&evidence(Side::Primary, 0, 0), None, &after, &Reading::Absent);
        assert_eq!(no_column.0, Origin::Unknown);
    }

    #[test]
    fn commit_times_beat_what_rows_say_of_themselves_and_tell_deletes() {
        let by_log = ForkEvidence {
            fork: Fork {
                position: Some(stores::Position(1)),
                ..evidence(Side::Primary, 0, 0).fork
            },
            ..evidence(Side::Primary, 0, 60_000_000)
        };
        let judged = |old: &Reading, new: &Reading| origin(&by_log, None, old, new).0;
        let slack_us = i64::try_from(COMMIT_SLACK_US).unwrap();
        let (before, near, after) = (
            committed(FORK - slack_us - 1),
            committed(FORK - slack_us),
            committed(FORK + 1),
        );
        assert_eq!(judged(&after, &before), Origin::LostWrite);
        assert_eq!(judged(&before, &after), Origin::NewWrite);
        assert_eq!(judged(&after, &after), Origin::Conflict);
        assert_eq!(
            judged(&Reading::Absent, &before),
            Origin::LostWrite,
            "the old side deleted it"
        );
        assert_eq!(
            judged(&before, &Reading::Absent),
            Origin::NewWrite,
            "the new side deleted it"
        );
        for (old, new) in [
            (&near, &Reading::Absent),
            (&Reading::Absent, &near),
            (&near, &after),
            (&before, &before),
        ] {
            assert_eq!(judged(old, new), Origin::Unknown);
        }
        // A fork that was not read from the log is by another clock.
        let by_canaries = evidence(Side::Primary, 0, 60_000_000);
        assert_eq!(origin(&by_canaries, None, &before, &Reading::Absent).0, Origin::Unknown);
        let (_, words) = origin(&by_log, Some("updated_at"), &before, &row(Some(FORK + 9)));
        assert!(
            words.starts_with("commit times, else updated_at: old side was committed before")
                && words.contains("new side changed after"),
            "{words}"
        );
    }

    #[test]
    fn the_evidence_names_column_sides_and_fork() {
        let (_, words) = origin(
            &evidence(Side::Secondary, 10, 0),
            Some("updated_at"),
            &Reading::Absent,
            &row(Some(FORK + 5)),
        );
        assert_eq!(
            words,
            "updated_at: old side changed after (1970-01-01T00:00:01.000005Z), new side has no row; fork between \
             1970-01-01T00:00:00.99999Z and 1970-01-01T00:00:01Z, by a test"
        );
    }

    fn reading() -> impl Strategy<Value = Reading> {
        prop_oneof![
            Just(Reading::Absent),
            Just(row(None)),
            (-2_000i64..2_000).prop_map(|offset| row(Some(FORK + offset))),
        ]
    }

    fn at(reading: &Reading) -> Option<i64> {
        match reading {
            Reading::Absent => None,
            Reading::Present(row) => row.changed_at_us,
        }
    }

    proptest! {
        #[test]
        fn loss_is_claimed_only_with_evidence(old in reading(), new in reading(), width in 0i64..500, longest in 0u64..500) {
            let evidence = evidence(Side::Primary, width, longest);
            let claimed = origin(&evidence, Some("c"), &old, &new).0;
            let old_after = at(&old).is_some_and(|at| at > FORK);
            let new_after = at(&new).is_some_and(|at| at > FORK);
            match claimed {
                Origin::LostWrite => prop_assert!(old_after && !new_after),
                Origin::NewWrite => prop_assert!(new_after && !old_after),
                Origin::Conflict => prop_assert!(old_after && new_after),
                Origin::Unknown => prop_assert!(!(old_after && new_after)),
            }
        }

        #[test]
        fn a_new_write_is_never_claimed_near_the_fork(near in 0u64..=500, new in 1i64..1_000) {
            // Otherwise a lost write whose transaction began before the fork would count as no loss.
            let old = row(Some(FORK - i64::try_from(near).unwrap_or(0)));
            let claimed = origin(&evidence(Side::Primary, 0, 500), Some("c"), &old, &row(Some(FORK + new))).0;
            prop_assert_eq!(claimed, Origin::Unknown);
        }

        #[test]
        fn sides_and_origins_swap_together(old in reading(), new in reading()) {
            let as_primary = origin(&evidence(Side::Primary, 10, 50), Some("c"), &old, &new);
            let as_secondary = origin(&evidence(Side::Secondary, 10, 50), Some("c"), &new, &old);
            prop_assert_eq!(as_primary, as_secondary);
        }
    }
}

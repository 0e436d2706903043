//! What one bracket of readings says about one key. Pure: no I/O.

use stores::{Class, Compare, Comparison, Reading, Readings};

/// The readings of one recheck, in the order in which they were taken.
#[derive(Debug)]
pub(crate) struct Bracket {
    /// The primary, before the fence point was taken.
    pub(crate) first: Readings,
    /// The primary, in between: where nothing but time is a fence.
    pub(crate) between: Vec<Readings>,
    /// The secondary, before the gap. Only without a fence, where both sides are bracketed.
    pub(crate) secondary_before: Option<Readings>,
    /// The secondary, proved to have passed the fence point; or behind the gap.
    pub(crate) secondary: Readings,
    /// The primary again.
    pub(crate) again: Readings,
}

/// The readings with which the next bracket begins.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) primary: Readings,
    /// Only where both sides are bracketed.
    pub(crate) secondary: Option<Readings>,
}

impl Bracket {
    /// The last readings, of the keys that are still open only: one flag for each key of the bracket.
    pub(crate) fn next(self, is_open: &[bool]) -> Begun {
        let of = |mut readings: Readings| {
            let mut is_open = is_open.iter();
            readings.rows.retain(|_| is_open.next() == Some(&true));
            readings
        };
        Begun {
            primary: of(self.again),
            secondary: self.secondary_before.is_some().then(|| of(self.secondary)),
        }
    }
}

/// What a bracket says of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vote {
    /// Both sides held the same at one instant.
    Equal,
    /// They did not, and nothing was in flight.
    Differs(Difference),
    /// They cannot be compared; the reason.
    NotComparable(String),
    /// No conclusion; the reason.
    Inconclusive(String),
}

/// A difference of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) class: Class,
    pub(crate) detail: String,
    pub(crate) columns: Vec<String>,
}

/// Judges key `index` of a bracket. Conclusive only if no bracketed side changed and the store's guard allows it.
pub(crate) fn judge(compare: &dyn Compare, columns: &[String], bracket: &Bracket, index: usize) -> Vote {
    let primary = &bracket.again.rows[index];
    let secondary = &bracket.secondary.rows[index];
    let looks = bracket.between.iter().map(|readings| &readings.rows[index]);
    if !looks
        .chain([&bracket.first.rows[index]])
        .all(|before| is_unchanged(before, primary))
    {
        return Vote::Inconclusive("the primary's row changed while it was being looked at".to_owned());
    }
    if let Some(before) = &bracket.secondary_before
        && !is_unchanged(&before.rows[index], secondary)
    {
        return Vote::Inconclusive("the secondary's row changed while it was being looked at".to_owned());
    }
    if let Err(reason) = compare.guard(&bracket.first, &bracket.secondary, &bracket.again, index) {
        return Vote::Inconclusive(reason);
    }
    match compare.compare(primary, secondary, columns) {
        Comparison::Equal => Vote::Equal,
        Comparison::NotComparable(reason) => Vote::NotComparable(reason),
        Comparison::Differs { class, detail, columns } => Vote::Differs(Difference { class, detail, columns }),
    }
}

/// Whether two readings of one end show the same version. An absent row has none: see [`Streak`].
fn is_unchanged(before: &Reading, after: &Reading) -> bool {
    match (before, after) {
        (Reading::Absent, Reading::Absent) => true,
        (Reading::Present(before), Reading::Present(after)) => {
            before.version == after.version && before.digest == after.digest && before.copies == after.copies
        }
        _ => false,
    }
}

/// Conclusive votes in a row that it takes to decide, unless one proves it.
const VOTES_TO_DECIDE: u32 = 2;

/// The run of like votes that one key has behind it.
#[derive(Debug, Default)]
pub(crate) struct Streak {
    differs: u32,
    equal: u32,
    witness: (Option<String>, Option<String>),
}

/// What a streak amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A divergence.
    Confirmed,
    /// Was in flight only.
    Transient,
    /// Look again.
    Open,
}

impl Streak {
    /// Takes the next vote with the two readings that it rests on.
    ///
    /// - Equal behind a fence, with a row: one vote proves that the difference was in flight.
    /// - Equal without a fence, or absent on both sides: two votes that show the same versions. Nothing is in flight between copies
    ///   without a link, so two counters that happen to meet for an instant are not equal; and an absent row has no version, so a
    ///   bracket cannot tell "absent all the time" from "inserted and deleted meanwhile".
    /// - Different: two votes; where one side has no row, the row of the other must be the same version in both.
    pub(crate) fn take(&mut self, vote: &Vote, primary: &Reading, secondary: &Reading, is_fenced: bool) -> Decision {
        let witness = (version(primary), version(secondary));
        let is_same = self.witness == witness;
        let has_absent = witness.0.is_none() || witness.1.is_none();
        match vote {
            Vote::Equal if is_fenced && witness != (None, None) => return Decision::Transient,
            Vote::Equal => {
                self.differs = 0;
                self.equal = if is_same { self.equal + 1 } else { 1 };
            }
            Vote::Differs(_) => {
                self.equal = 0;
                self.differs = if is_same || !has_absent { self.differs + 1 } else { 1 };
            }
            Vote::NotComparable(_) | Vote::Inconclusive(_) => *self = Self::default(),
        }
        self.witness = witness;
        if self.differs >= VOTES_TO_DECIDE {
            Decision::Confirmed
        } else if self.equal >= VOTES_TO_DECIDE {
            Decision::Transient
        } else {
            Decision::Open
        }
    }

    /// Breaks the streak: nothing was learnt, and "in a row" no longer holds.
    pub(crate) fn interrupt(&mut self) {
        *self = Self::default();
    }
}

fn version(reading: &Reading) -> Option<String> {
    match reading {
        Reading::Absent => None,
        Reading::Present(row) => Some(row.version.clone()),
    }
}

#[cfg(test)]
mod tests {
    use stores::{Class, Row, RowDigest};

    use super::*;

    fn row(version: u32) -> Reading {
        Reading::Present(Row {
            version: version.to_string(),
            digest: RowDigest(1),
            columns: Vec::new(),
            values: None,
            changed_at_us: None,
            copies: 1,
            created_by: None,
            ended_by: None,
            committed_at_us: None,
        })
    }

    fn differs() -> Vote {
        Vote::Differs(Difference {
            class: Class::Different,
            detail: String::new(),
            columns: Vec::new(),
        })
    }

    fn moving() -> Vote {
        Vote::Inconclusive("it moved".to_owned())
    }

    /// The decision after each vote.
    fn decisions(is_fenced: bool, votes: &[(Vote, Reading, Reading)]) -> Vec<Decision> {
        let mut streak = Streak::default();
        let take =
            |(vote, primary, secondary): &(Vote, Reading, Reading)| streak.take(vote, primary, secondary, is_fenced);
        votes.iter().map(take).collect()
    }

    #[test]
    fn it_takes_two_differing_votes_in_a_row() {
        use Decision::{Confirmed, Open};
        let vote = |vote| (vote, row(1), row(2));
        for is_fenced in [true, false] {
            assert_eq!(
                decisions(is_fenced, &[vote(differs()), vote(differs())]),
                [Open, Confirmed]
            );
            let interrupted = [vote(differs()), vote(moving()), vote(differs()), vote(differs())];
            assert_eq!(decisions(is_fenced, &interrupted), [Open, Open, Open, Confirmed]);
        }
        let mut streak = Streak::default();
        assert_eq!(streak.take(&differs(), &row(1), &row(2), true), Open);
        streak.interrupt();
        assert_eq!(
            streak.take(&differs(), &row(1), &row(2), true),
            Open,
            "a bracket that failed breaks the row"
        );
    }

    fn readings(row: Reading) -> Readings {
        Readings {
            rows: vec![row],
            position: None,
            snapshot: None,
            instance: "one".to_owned(),
        }
    }

    /// Finds every two readings to be equal, and guards nothing.
    #[derive(Debug)]
    struct AllEqual;

    impl Compare for AllEqual {
        fn compare(&self, _: &Reading, _: &Reading, _: &[String]) -> Comparison {
            Comparison::Equal
        }

        fn guard(&self, _: &Readings, _: &Readings, _: &Readings, _: usize) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_side_that_changed_within_the_bracket_gives_no_vote() {
        let judged = |first, before: Option<Reading>, secondary, again| {
            let bracket = Bracket {
                first: readings(first),
                between: Vec::new(),
                secondary_before: before.map(readings),
                secondary: readings(secondary),
                again: readings(again),
            };
            judge(&AllEqual, &[], &bracket, 0)
        };
        assert_eq!(judged(row(1), None, row(7), row(1)), Vote::Equal);
        assert_eq!(judged(row(1), Some(row(7)), row(7), row(1)), Vote::Equal);
        for (first, before, secondary, again) in [
            (row(1), None, row(7), row(2)),
            (row(1), None, row(7), Reading::Absent),
            (Reading::Absent, None, row(7), row(1)),
            (row(1), Some(row(7)), row(8), row(1)),
            (row(1), Some(Reading::Absent), row(8), row(1)),
        ] {
            assert!(matches!(judged(first, before, secondary, again), Vote::Inconclusive(_)));
        }
    }

    #[test]
    fn the_next_bracket_begins_with_the_rows_of_the_keys_that_are_left() {
        let of = |rows: &[Reading]| Readings {
            rows: rows.to_vec(),
            ..readings(Reading::Absent)
        };
        let bracket = |secondary_before: Option<Readings>| Bracket {
            first: of(&[row(1), row(2), row(3)]),
            between: Vec::new(),
            secondary_before,
            secondary: of(&[row(4), row(5), row(6)]),
            again: of(&[row(1), Reading::Absent, row(3)]),
        };
        let begun = bracket(Some(of(&[row(4), row(5), row(6)]))).next(&[false, true, true]);
        assert_eq!(begun.primary.rows, [Reading::Absent, row(3)]);
        assert_eq!(begun.secondary.unwrap().rows, [row(5), row(6)]);
        assert!(bracket(None).next(&[true, false, false]).secondary.is_none());
    }

    #[test]
    fn a_row_that_was_another_in_between_gives_no_vote() {
        let judged = |between: Vec<Reading>| {
            let bracket = Bracket {
                first: readings(row(1)),
                between: between.into_iter().map(readings).collect(),
                secondary_before: None,
                secondary: readings(row(7)),
                again: readings(row(1)),
            };
            judge(&AllEqual, &[], &bracket, 0)
        };
        assert_eq!(judged(vec![row(1), row(1)]), Vote::Equal);
        for other in [row(2), Reading::Absent] {
            assert!(matches!(judged(vec![row(1), other]), Vote::Inconclusive(_)));
        }
    }

    #[test]
    fn an_equal_vote_between_two_differing_ones_breaks_the_row() {
        use Decision::Open;
        let votes = [
            (differs(), row(1), row(2)),
            (Vote::Equal, row(3), row(4)),
            (differs(), row(5), row(6)),
            (Vote::Equal, row(5), row(7)),
        ];
        assert_eq!(decisions(false, &votes), [Open; 4]);
    }

    #[test]
    fn a_vote_over_an_absent_row_counts_only_with_the_same_other_row() {
        use Decision::{Confirmed, Open};
        let absent = |version| (differs(), Reading::Absent, row(version));
        assert_eq!(decisions(true, &[absent(1), absent(1)]), [Open, Confirmed]);
        assert_eq!(
            decisions(true, &[absent(1), absent(2), absent(3)]),
            [Open; 3],
            "inserted and deleted in a loop"
        );
        let missing = |version| (differs(), row(version), Reading::Absent);
        assert_eq!(decisions(false, &[missing(1), missing(2)]), [Open; 2]);
        assert_eq!(
            decisions(true, &[absent(1), (differs(), row(1), Reading::Absent)]),
            [Open; 2]
        );
    }

    #[test]
    fn equal_behind_a_fence_is_in_flight_and_without_one_needs_rest() {
        use Decision::{Open, Transient};
        let equal = |primary, secondary| (Vote::Equal, row(primary), row(secondary));
        assert_eq!(decisions(true, &[equal(1, 1)]), [Transient]);
        assert_eq!(decisions(false, &[equal(1, 1), equal(1, 1)]), [Open, Transient]);
        assert_eq!(
            decisions(false, &[equal(1, 1), equal(2, 1), equal(2, 2)]),
            [Open; 3],
            "two counters that meet"
        );
        let gone = || (Vote::Equal, Reading::Absent, Reading::Absent);
        for is_fenced in [true, false] {
            assert_eq!(decisions(is_fenced, &[gone(), gone()]), [Open, Transient]);
            assert_eq!(
                decisions(is_fenced, &[gone(), (moving(), row(1), Reading::Absent), gone()]),
                [Open; 3]
            );
        }
    }
}

//! One sentence for a person.

use stores::{Class, Relation};

use crate::recheck::Decided;
use crate::{FenceKind, Origin, Pair, State};

/// What became of one key. Names sites and never a key or a value.
pub(crate) fn key(pair: &Pair, decided: &Decided, origin: Option<Origin>) -> String {
    let (primary, secondary) = (&pair.primary.site, &pair.secondary.site);
    let what = match decided.difference.class {
        Class::MissingOnSecondary => format!("Only {primary} has this key"),
        Class::MissingOnPrimary => format!("Only {secondary} has this key"),
        Class::Different if decided.difference.columns.is_empty() => {
            format!("{primary} and {secondary} hold different contents")
        }
        Class::Different => format!(
            "{primary} and {secondary} differ in {}",
            decided.difference.columns.join(", ")
        ),
        Class::Duplicate => format!("The key exists more often at {primary} or {secondary}"),
        Class::NotComparable => format!("{primary} and {secondary} cannot be compared"),
        other => format!("{primary} and {secondary} differ: {}", other.word()),
    };
    let how = match decided.state {
        State::Confirmed if pair.relation == Relation::Replicating && pair.fence == FenceKind::Time => {
            "confirmed twice in a row, each time behind a fence by time".to_owned()
        }
        State::Confirmed if pair.relation == Relation::Replicating => {
            "confirmed twice in a row, each time behind a fence of its own".to_owned()
        }
        State::Confirmed => "confirmed twice in a row, with both sides unchanged each time".to_owned(),
        State::Volatile => format!("no conclusion after {} rechecks: {}", decided.rechecks, decided.reason),
        _ => format!("not verified: {}", decided.reason),
    };
    let whence = match origin {
        Some(Origin::LostWrite) => " It was changed after the fork on the old side only: a lost write.",
        Some(Origin::NewWrite) => " It was changed after the fork on the new side only: not a loss.",
        Some(Origin::Conflict) => " It was changed after the fork on both sides.",
        Some(Origin::Unknown) => " The evidence does not tell where it comes from.",
        None => "",
    };
    format!("{what}; {how}.{whence}")
}

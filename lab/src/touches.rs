//! Which keys were written on one side after two servers parted, and what follows from that.

use std::collections::BTreeMap;

use crate::truth::{Planted, Truth};

/// Keys that were written, with what became of them. Filled by workloads and by plants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touches {
    keys: BTreeMap<(String, String), Touch>,
}

/// One key: whether it was there before the first write and after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Touch {
    before: bool,
    now: bool,
}

/// Which side of a failover a server is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The old primary.
    Old,
    /// The promoted one.
    New,
}

impl Touches {
    /// Notes one write that took place: `existed` just before it, `exists` after it.
    pub fn note(&mut self, collection: &str, key: &str, existed: bool, exists: bool) {
        self.keys
            .entry((collection.to_owned(), key.to_owned()))
            .and_modify(|touch| touch.now = exists)
            .or_insert(Touch {
                before: existed,
                now: exists,
            });
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes in later writes on the same side.
    pub fn extend(&mut self, later: &Self) {
        for ((collection, key), touch) in &later.keys {
            self.note(collection, key, touch.before, touch.now);
        }
    }

    /// The differences between an old primary and the promoted server, when these are all the writes since they parted
    /// and every write changed its row (the lab's do: they change `updated_at`). `primary` says which side a
    /// reconciliation calls primary.
    ///
    /// The origin is what evidence in the rows that are left can tell on servers that keep commit times, as the lab's do, not what an
    /// all-knowing witness would say: a row that is left on one side only tells whether *it* was written after the two parted. If it was
    /// not, both had it then, and the other side has deleted it since.
    pub fn truth(old: &Self, new: &Self, primary: Side) -> Truth {
        let mut keys: Vec<&(String, String)> = old.keys.keys().chain(new.keys.keys()).collect();
        keys.sort();
        keys.dedup();
        let divergences = keys
            .into_iter()
            .filter_map(|key| difference(key, old.keys.get(key).copied(), new.keys.get(key).copied(), primary))
            .collect();
        Truth { divergences }
    }
}

fn difference(key: &(String, String), old: Option<Touch>, new: Option<Touch>, primary: Side) -> Option<Planted> {
    let before = old.or(new)?.before;
    let on_old = old.map_or(before, |touch| touch.now);
    let on_new = new.map_or(before, |touch| touch.now);
    let (missing_on_new, missing_on_old) = match primary {
        Side::Old => ("missing_on_secondary", "missing_on_primary"),
        Side::New => ("missing_on_primary", "missing_on_secondary"),
    };
    let (class, origin) = match (on_old, on_new) {
        (false, false) => return None,
        (true, true) => ("different", both_left(old.is_some(), new.is_some())),
        (true, false) => (missing_on_new, if old.is_some() { "lost_write" } else { "new_write" }),
        (false, true) => (missing_on_old, if new.is_some() { "new_write" } else { "lost_write" }),
    };
    Some(Planted {
        collection: key.0.clone(),
        key: key.1.clone(),
        class: class.to_owned(),
        origin: Some(origin.to_owned()),
    })
}

fn both_left(written_on_old: bool, written_on_new: bool) -> &'static str {
    match (written_on_old, written_on_new) {
        (true, true) => "conflict",
        (true, false) => "lost_write",
        (false, _) => "new_write",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touches(writes: &[(&str, bool, bool)]) -> Touches {
        let mut touches = Touches::default();
        for (key, existed, exists) in writes {
            touches.note("t", key, *existed, *exists);
        }
        touches
    }

    fn told(truth: &Truth) -> Vec<(&str, &str, &str)> {
        truth
            .divergences
            .iter()
            .map(|one| {
                (
                    one.key.as_str(),
                    one.class.as_str(),
                    one.origin.as_deref().unwrap_or(""),
                )
            })
            .collect()
    }

    #[test]
    fn writes_on_one_side_or_both() {
        let old = touches(&[("inserted", false, true), ("both", true, true), ("updated", true, true)]);
        let new = touches(&[
            ("newly", false, true),
            ("both", true, true),
            ("updated here", true, true),
        ]);
        let truth = Touches::truth(&old, &new, Side::Old);
        assert_eq!(
            told(&truth),
            [
                ("both", "different", "conflict"),
                ("inserted", "missing_on_secondary", "lost_write"),
                ("newly", "missing_on_primary", "new_write"),
                ("updated", "different", "lost_write"),
                ("updated here", "different", "new_write"),
            ]
        );
        let turned = Touches::truth(&old, &new, Side::New);
        assert_eq!(told(&turned)[1], ("inserted", "missing_on_primary", "lost_write"));
    }

    #[test]
    fn deletes_are_told_by_the_row_that_is_left() {
        let old = touches(&[
            ("gone", true, false),
            ("came and went", false, true),
            ("came and went", true, false),
        ]);
        let new = touches(&[("gone too", true, false), ("kept", true, true)]);
        let mut old_more = touches(&[("kept", true, false)]);
        old_more.extend(&old);
        let truth = Touches::truth(&old_more, &new, Side::Old);
        assert_eq!(
            told(&truth),
            [
                ("gone", "missing_on_primary", "lost_write"),
                ("gone too", "missing_on_secondary", "new_write"),
                ("kept", "missing_on_primary", "new_write"),
            ]
        );
    }
}

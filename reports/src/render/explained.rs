//! One divergence explained: what was found, what it is now, what that means, and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use reconcile::{Divergence, KeyDisclosure, Origin, State};
use serde::Serialize;
use stores::Class;

use super::{plain, table, visible};

/// One key of one run, explained. Its JSON form is a contract: scripts read `now` and `exit_code`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// The run that found it.
    pub run_id: String,
    /// The dataset.
    pub dataset: String,
    /// The stated writer of that run.
    pub primary_site: String,
    /// The other site.
    pub secondary_site: String,
    /// What the run found.
    pub found: Look,
    /// What it is now; `null`: it could not be told.
    pub now: Option<Look>,
    /// Why it could not be told now; `null` otherwise.
    pub not_told: Option<String>,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// Both rows by column; `null` unless asked for.
    pub rows: Option<Vec<ColumnBeside>>,
    /// 0: equal now. 1: still differs. 3: could not tell.
    pub exit_code: u8,
}

/// What one look at the key said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// The stated writer of this look: roles may have changed between the two.
    pub primary_site: String,
    /// The other site.
    pub secondary_site: String,
    /// The collection.
    pub collection: String,
    /// The key as JSON, or `null` where it may not appear.
    pub key: Option<String>,
    /// Keyed hash of the key.
    pub key_hash: Option<String>,
    /// The class.
    pub class: &'static str,
    /// Store-specific words.
    pub detail: String,
    /// The state; `equal` when both sides hold the same now.
    pub state: &'static str,
    /// The origin; `null` without an event.
    pub origin: Option<&'static str>,
    /// What the origin rests on.
    pub origin_evidence: String,
    /// The columns that differ.
    pub columns: Vec<String>,
    /// Row digest at the primary; `null` = no row.
    pub primary_digest: Option<String>,
    /// Row digest at the secondary.
    pub secondary_digest: Option<String>,
    /// When the primary's row says that it changed.
    pub primary_changed_at: Option<String>,
    /// When the secondary's row says so.
    pub secondary_changed_at: Option<String>,
    /// First seen as different.
    pub first_seen_at: String,
    /// Last looked at.
    pub last_rechecked_at: Option<String>,
    /// Number of looks, conclusive or not.
    pub rechecks: u64,
    /// One sentence.
    pub explanation: String,
}

/// One column of both rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnBeside {
    /// Its name.
    pub column: String,
    /// The value at the primary; `null`: NULL, or no row (`primary_digest` is null then).
    pub primary: Option<String>,
    /// The value at the secondary.
    pub secondary: Option<String>,
    /// Whether the two differ, by the bytes that are compared and not by the text that is shown.
    pub differs: bool,
}

/// The state of a key that both sides hold alike.
const EQUAL: &str = "equal";

impl Look {
    /// One look. `sites`: primary and secondary of it.
    pub fn of(divergence: &Divergence, sites: (&str, &str)) -> Self {
        let is_equal = divergence.state == State::Transient;
        Self {
            primary_site: sites.0.to_owned(),
            secondary_site: sites.1.to_owned(),
            collection: divergence.collection.clone(),
            key: divergence.key.clone(),
            key_hash: divergence.key_hash.clone(),
            class: divergence.class.word(),
            detail: divergence.detail.clone(),
            state: if is_equal { EQUAL } else { divergence.state.word() },
            origin: divergence.origin.filter(|_| !is_equal).map(Origin::word),
            origin_evidence: divergence.origin_evidence.clone(),
            columns: divergence.columns.clone(),
            primary_digest: divergence.primary_digest.clone(),
            secondary_digest: divergence.secondary_digest.clone(),
            primary_changed_at: divergence.primary_changed_at_us.map(instant),
            secondary_changed_at: divergence.secondary_changed_at_us.map(instant),
            first_seen_at: instant(divergence.first_seen_at_us),
            last_rechecked_at: divergence.last_rechecked_at_us.map(instant),
            rechecks: divergence.rechecks,
            explanation: match is_equal {
                true => "Both sides hold the same now.".to_owned(),
                false => divergence.explanation.clone(),
            },
        }
    }
}

impl Explained {
    /// Puts together what a run found and what another look said. `now`: the look, with its sites, or why there is none.
    pub fn new(
        run: (&str, &str),
        sites: (&str, &str),
        found: &Divergence,
        now: Result<(&Divergence, (&str, &str)), String>,
    ) -> Self {
        let (state, class, origin) = match &now {
            Ok((one, _)) if one.state != State::Transient => (Some(one.state), one.class, one.origin.or(found.origin)),
            Ok((one, _)) => (Some(one.state), found.class, found.origin),
            Err(_) => (None, found.class, found.origin),
        };
        Self {
            run_id: run.0.to_owned(),
            dataset: run.1.to_owned(),
            primary_site: sites.0.to_owned(),
            secondary_site: sites.1.to_owned(),
            found: Look::of(found, sites),
            rows: now.as_ref().ok().and_then(|(one, _)| beside(one)),
            exit_code: match state {
                Some(State::Transient) => 0,
                Some(State::Confirmed) => 1,
                _ => 3,
            },
            not_told: now.as_ref().err().cloned(),
            now: now.ok().map(|(one, sites)| Look::of(one, sites)),
            meaning: meaning(class),
            advice: advice(state, origin),
        }
    }

    /// For a terminal.
    pub fn terminal(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, words: &str| {
            if !words.is_empty() {
                let _ = writeln!(text, "{name:<11} {}", visible(words));
            }
        };
        line("run", &self.run_id);
        line(
            "dataset",
            &format!(
                "{}, {} against {}",
                self.dataset, self.primary_site, self.secondary_site
            ),
        );
        line("collection", &self.found.collection);
        let hash = self.found.key_hash.as_deref();
        line(
            "key",
            self.found.key.as_deref().or(hash).unwrap_or("(keys do not appear)"),
        );
        line("found", &look(&self.found));
        line("", &self.found.explanation);
        line("origin", &self.found.origin_evidence);
        line("digests", &digests(&self.found));
        line("changed", &changes(&self.found));
        line(
            "looked at",
            &format!(
                "first {}, last {}, {} rechecks",
                self.found.first_seen_at,
                self.found.last_rechecked_at.as_deref().unwrap_or("never"),
                self.found.rechecks
            ),
        );
        match &self.now {
            Some(now) => {
                line("now", &look(now));
                line("", &now.explanation);
                line("digests", &digests(now));
            }
            None => line(
                "now",
                &format!("could not tell: {}", self.not_told.as_deref().unwrap_or_default()),
            ),
        }
        line("meaning", self.meaning);
        line("do", self.advice);
        if let (Some(rows), Some(now)) = (&self.rows, &self.now) {
            let mut beside = table(&["column", &plain(&now.primary_site), &plain(&now.secondary_site), ""]);
            for row in rows {
                beside.add_row([
                    plain(&row.column),
                    shown(row.primary.as_deref(), now.primary_digest.is_some()),
                    shown(row.secondary.as_deref(), now.secondary_digest.is_some()),
                    if row.differs { "differs" } else { "" }.to_owned(),
                ]);
            }
            let _ = writeln!(text, "\n{beside}");
        }
        text
    }
}

/// Whether the values of rows may be shown. Where keys may not appear, no value may: the columns of the key are among them.
pub fn may_show_rows(keys: KeyDisclosure) -> bool {
    keys == KeyDisclosure::Plain
}

fn shown(value: Option<&str>, has_row: bool) -> String {
    match value {
        Some(value) => plain(value),
        None if has_row => "NULL".to_owned(),
        None => "(no row)".to_owned(),
    }
}

fn look(look: &Look) -> String {
    let columns = match look.columns.is_empty() {
        true => String::new(),
        false => format!(" in {}", look.columns.join(", ")),
    };
    let origin = look.origin.map(|origin| format!(", {origin}")).unwrap_or_default();
    if look.state == EQUAL {
        return format!("{EQUAL}, by {} looks", look.rechecks);
    }
    format!("{}{columns}, {}{origin}", look.class, look.state)
}

fn digests(look: &Look) -> String {
    let of = |digest: &Option<String>| digest.clone().unwrap_or_else(|| "(no row)".to_owned());
    format!(
        "{} {}, {} {}",
        look.primary_site,
        of(&look.primary_digest),
        look.secondary_site,
        of(&look.secondary_digest)
    )
}

fn changes(look: &Look) -> String {
    if look.primary_changed_at.is_none() && look.secondary_changed_at.is_none() {
        return String::new();
    }
    let of = |at: &Option<String>| at.clone().unwrap_or_else(|| "not told".to_owned());
    format!(
        "{} {}, {} {}",
        look.primary_site,
        of(&look.primary_changed_at),
        look.secondary_site,
        of(&look.secondary_changed_at)
    )
}

/// Both rows by column, in the order of their names. Which columns differ is what the comparison says; where one side has no row, all do.
fn beside(look: &Divergence) -> Option<Vec<ColumnBeside>> {
    type Values = BTreeMap<String, Option<String>>;
    let values = |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str::<Values>(text).ok());
    let (primary, secondary) = (values(&look.primary_value), values(&look.secondary_value));
    let is_on_both = match (&primary, &secondary) {
        (None, None) => return None,
        (one, other) => one.is_some() && other.is_some(),
    };
    let present = [&primary, &secondary].into_iter().flatten();
    let names: BTreeSet<String> = present.flat_map(|values| values.keys().cloned()).collect();
    let of =
        |values: &Option<Values>, name: &str| values.as_ref().and_then(|values| values.get(name).cloned().flatten());
    let column = |name: String| ColumnBeside {
        primary: of(&primary, &name),
        secondary: of(&secondary, &name),
        differs: look.state != State::Transient && (!is_on_both || look.columns.contains(&name)),
        column: name,
    };
    Some(names.into_iter().map(column).collect())
}

fn meaning(class: Class) -> &'static str {
    match class {
        Class::MissingOnSecondary => {
            "the primary has a row that the secondary has not: it was written at the primary alone, or deleted at the secondary alone"
        }
        Class::MissingOnPrimary => {
            "the secondary has a row that the primary has not: it was written at the secondary alone, or deleted at the primary alone"
        }
        Class::Different => "both sides have the row, and its contents are not the same",
        Class::Duplicate => {
            "the row exists more often on one side: no unique key guards it there, or an index is damaged"
        }
        Class::Reordered => "both sides have the same contents in another order",
        Class::Metadata => "the contents are the same, and what the store says about them is not",
        Class::Expired => "one side has removed it by age and the other has not yet",
        Class::Position => "a counter or a position stands where it can give out again what was given out",
        Class::Schema => "the definitions of both sides differ, so rows were compared in what they share at most",
        Class::NotComparable => "the two values cannot be compared by what driftline knows of their type",
    }
}

fn advice(state: Option<State>, origin: Option<Origin>) -> &'static str {
    match (state, origin) {
        (Some(State::Transient), _) => {
            "nothing for this key; if nobody repaired it, find out what wrote it meanwhile, and run the reconciliation again before you rely on it"
        }
        (Some(State::Volatile), _) => {
            "look again when the row is written less often, or with the application paused: no two looks agreed"
        }
        (None | Some(State::Unverified | State::Pending | State::OutOfScope), _) => {
            "make both sites answer, then look again: until then nothing is known of this key"
        }
        (Some(State::Confirmed), Some(Origin::LostWrite)) => {
            "keep the old side: it holds the only copy; let the owner of the data decide whether to write it again at the new side"
        }
        (Some(State::Confirmed), Some(Origin::NewWrite)) => {
            "nothing was lost; it must reach the old side before a failback, by replication or by rebuilding that side"
        }
        (Some(State::Confirmed), Some(Origin::Conflict)) => {
            "both sides changed it after they parted: the owner of the data has to choose or merge; keep both sides until then"
        }
        (Some(State::Confirmed), Some(Origin::Unknown) | None) => {
            "keep both sides and this evidence; find out which side is right (a commit time, a log, its owner) before anything is repaired"
        }
    }
}

fn instant(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| format!("{at_us} us"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Divergence {
        crate::samples::divergence(0, 7)
    }

    fn explained(now: Result<&Divergence, &str>) -> Explained {
        let now = now.map(|one| (one, ("use1", "usw2"))).map_err(str::to_owned);
        Explained::new(("run", "payments"), ("use1", "usw2"), &found(), now)
    }

    #[test]
    fn only_a_look_that_found_both_sides_alike_is_0() {
        let of = |state| {
            let now = Divergence { state, ..found() };
            explained(Ok(&now)).exit_code
        };
        assert_eq!(of(State::Transient), 0);
        assert_eq!(of(State::Confirmed), 1);
        for state in [State::Volatile, State::Unverified, State::Pending, State::OutOfScope] {
            assert_eq!(of(state), 3, "{state:?}");
        }
        assert_eq!(explained(Err("nobody answers")).exit_code, 3);
    }

    #[test]
    fn rows_stand_beside_each_other_and_columns_that_differ_are_marked() {
        let now = Divergence {
            class: Class::Different,
            columns: vec!["note".to_owned()],
            primary_value: Some(r#"{"id":"7","note":"a|b\u001b[2J","amount":null}"#.to_owned()),
            secondary_value: Some(r#"{"id":"7","note":"c","amount":null}"#.to_owned()),
            secondary_digest: Some("1".to_owned()),
            ..found()
        };
        let text = explained(Ok(&now)).terminal();
        let row = text
            .lines()
            .find(|line| line.starts_with("| note"))
            .expect("the column");
        assert!(row.contains("differs") && row.contains("a\\|b"), "{row}");
        assert!(!text.contains('\u{1b}'), "nothing steers the terminal");
        let same = text
            .lines()
            .find(|line| line.starts_with("| amount"))
            .expect("the column");
        assert!(same.contains("NULL") && !same.contains("differs"), "{same}");
        let one_side = Divergence {
            secondary_value: None,
            secondary_digest: None,
            ..now
        };
        let text = explained(Ok(&one_side)).terminal();
        assert!(text.contains("(no row)"), "{text}");
        assert_eq!(text.matches("| differs").count(), 3, "{text}");
    }
}

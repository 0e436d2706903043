//! What stands on a terminal: text that is readable without colour, fits into a ticket as Markdown, and says first what matters.

use std::fmt::Write as _;

use comfy_table::{Table, presets::ASCII_MARKDOWN};
use reconcile::{Coverage, CoverageState, Origin, State};

use super::found::{Findings, Tally};

/// Columns of a key that are named in the text; the table has all.
const COLUMNS_SHOWN_MAX: usize = 4;

impl Findings {
    /// The findings as text, for standard output.
    pub fn terminal(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} ({}): {} compared with {}, run {}\n",
            plain(&self.dataset),
            plain(&self.store),
            plain(&self.primary_site),
            plain(&self.secondary_site),
            self.run_id
        );
        let _ = writeln!(text, "{}\n", self.headline());
        text.push_str(&self.collections_table());
        self.write_divergences(&mut text);
        self.write_not_verified(&mut text);
        let _ = writeln!(text, "\nexit {}: {}", self.exit_code, self.exit_meaning());
        text
    }

    fn headline(&self) -> String {
        let mut words = match (self.confirmed, self.complete) {
            (0, true) => "EQUAL: everything selected was compared, and nothing differs.".to_owned(),
            (0, false) => "COULD NOT TELL: no difference was confirmed, but not everything was verified.".to_owned(),
            (count, _) => format!("DIFFERENT: {}, confirmed.", counted(count, "divergence")),
        };
        let origins: Vec<String> = Origin::ALL
            .iter()
            .filter_map(|origin| self.origin_words(*origin))
            .collect();
        if !origins.is_empty() {
            let _ = write!(words, "\nBy origin: {}.", origins.join(", "));
        }
        if self.confirmed > 0 && !self.complete {
            words.push_str("\nNOT COMPLETE: there may be more; see what was not verified.");
        }
        words
    }

    fn origin_words(&self, origin: Origin) -> Option<String> {
        let of_it = |tally: &&Tally| tally.origin == Some(origin.word()) && tally.state == State::Confirmed.word();
        let count: u64 = self.divergences.iter().filter(of_it).map(|tally| tally.count).sum();
        let what = match origin {
            Origin::LostWrite => counted(count, "lost write"),
            Origin::NewWrite => format!("{} (no loss)", counted(count, "new write")),
            Origin::Conflict => counted(count, "conflict"),
            Origin::Unknown => format!("{count} unknown"),
        };
        (count > 0).then_some(what)
    }

    fn collections_table(&self) -> String {
        let looked_at: Vec<&Coverage> = self.collections.iter().filter(|one| !is_skipped(one)).collect();
        let skipped = self.collections.len() - looked_at.len();
        let mut table = table(&[
            "collection",
            "result",
            &format!("rows {}", plain(&self.primary_site)),
            &format!("rows {}", plain(&self.secondary_site)),
            "chunks equal",
            "confirmed",
            "volatile",
            "unverified",
            "transient",
        ]);
        for one in looked_at {
            table.add_row([
                plain(&one.collection),
                one.state.word().to_owned(),
                maybe(one.primary_rows),
                maybe(one.secondary_rows),
                format!("{} of {}", one.chunks_equal, one.chunks_total),
                one.confirmed.to_string(),
                one.volatile.to_string(),
                one.unverified.to_string(),
                one.transient.to_string(),
            ]);
        }
        let mut text = format!("{table}\n");
        if skipped > 0 {
            let _ = writeln!(
                text,
                "{} found and left out: see `coverage`.",
                counted_u(skipped, "collection")
            );
        }
        text
    }

    fn write_divergences(&self, text: &mut String) {
        if self.divergences.is_empty() {
            return;
        }
        let mut tallies = table(&["collection", "class", "origin", "state", "keys"]);
        for tally in &self.divergences {
            tallies.add_row([
                plain(&tally.collection),
                tally.class.to_owned(),
                tally.origin.unwrap_or("-").to_owned(),
                tally.state.to_owned(),
                tally.count.to_string(),
            ]);
        }
        let _ = writeln!(text, "\nWhat differs:\n{tallies}");
        if self.not_listed > 0 {
            let _ = writeln!(
                text,
                "{} counted and not listed.",
                counted(self.not_listed, "further divergence")
            );
        }
        let mut keys = table(&["collection", "key", "class", "state", "origin", "columns"]);
        for shown in &self.keys {
            keys.add_row([
                plain(&shown.collection),
                shown.key.as_deref().map_or("-".to_owned(), plain),
                shown.class.to_owned(),
                shown.state.to_owned(),
                shown.origin.unwrap_or("-").to_owned(),
                columns(&shown.columns),
            ]);
        }
        let _ = writeln!(text, "\nThe first {}:\n{keys}", counted_u(self.keys.len(), "key"));
        text.push_str("All of them: table `divergences`, or the view `open_divergences`.\n");
    }

    fn write_not_verified(&self, text: &mut String) {
        let open = |one: &&Coverage| !is_skipped(one) && !one.reason.is_empty();
        let mut reasons = table(&["collection", "result", "why"]);
        for one in self.collections.iter().filter(open) {
            reasons.add_row([plain(&one.collection), one.state.word().to_owned(), plain(&one.reason)]);
        }
        if !reasons.is_empty() {
            let _ = writeln!(text, "\nWhat was not verified:\n{reasons}");
        }
    }

    fn exit_meaning(&self) -> &'static str {
        match (self.exit_code, self.complete) {
            (0, _) => "everything selected is equal",
            (1, true) => "the copies differ, and everything selected was looked at",
            (1, false) => "the copies differ, and not everything was verified",
            _ => "could not tell: equal was not proved",
        }
    }
}

fn is_skipped(coverage: &Coverage) -> bool {
    coverage.state == CoverageState::Skipped
}

fn columns(columns: &[String]) -> String {
    if columns.is_empty() {
        return "-".to_owned();
    }
    let shown: Vec<String> = columns
        .iter()
        .take(COLUMNS_SHOWN_MAX)
        .map(|column| plain(column))
        .collect();
    match columns.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A table that is Markdown, whatever the terminal.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .force_no_tty()
        .load_style(ASCII_MARKDOWN)
        .set_header(header.to_vec());
    table
}

/// Names come from databases: nothing in them may steer a terminal or end a cell.
pub(crate) fn plain(text: &str) -> String {
    visible(text).replace('|', "\\|")
}

/// Nothing in the text may steer a terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            letter if letter.is_control() || is_invisible(letter) => visible.extend(letter.escape_unicode()),
            letter => visible.push(letter),
        }
    }
    visible
}

/// Marks that turn the direction of text, or hide in it.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn maybe(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

pub(crate) fn canaries(count: u64) -> String {
    match count {
        1 => "1 canary".to_owned(),
        count => format!("{count} canaries"),
    }
}

fn counted_u(count: usize, noun: &str) -> String {
    counted(u64::try_from(count).unwrap_or(u64::MAX), noun)
}

/// A duration as a person reads it, rounded up so that a bound stays one; `None` is unbounded.
pub(crate) fn at_most(us: Option<u64>) -> String {
    us.map_or_else(|| "unbounded".to_owned(), |us| duration(us, u64::div_ceil))
}

/// A duration rounded down.
pub(crate) fn at_least(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), |us| duration(us, |us, by| us / by))
}

fn duration(us: u64, divide: fn(u64, u64) -> u64) -> String {
    match us {
        0..10_000 => format!("{us} us"),
        10_000..10_000_000 => format!("{} ms", divide(us, 1_000)),
        10_000_000..600_000_000 => format!("{} s", divide(us, 1_000_000)),
        _ => format!("{} min", divide(us, 60_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::found::ShownKey;
    use super::*;
    use crate::samples::{RUN_ID, audit_coverage, coverage, skipped_coverage};

    fn findings(collections: Vec<Coverage>) -> Findings {
        Findings {
            run_id: RUN_ID.to_owned(),
            dataset: "payments".to_owned(),
            store: "aurora".to_owned(),
            primary_site: "use1".to_owned(),
            secondary_site: "usw2".to_owned(),
            complete: true,
            exit_code: 0,
            confirmed: 0,
            volatile: 0,
            unverified: 0,
            transient: 0,
            divergences: Vec::new(),
            not_listed: 0,
            keys: Vec::new(),
            collections,
        }
    }

    fn diverged() -> Findings {
        let orders = Coverage {
            state: CoverageState::Diverged,
            primary_rows: Some(301),
            chunks_equal: 2,
            chunks_different: 1,
            confirmed: 5,
            transient: 2,
            ..coverage()
        };
        let tally = |origin: Origin, class, count| Tally {
            collection: "public.orders".to_owned(),
            class,
            state: "confirmed",
            origin: Some(origin.word()),
            count,
        };
        Findings {
            complete: false,
            exit_code: 1,
            confirmed: 5,
            transient: 2,
            divergences: vec![
                tally(Origin::LostWrite, "missing_on_secondary", 1),
                tally(Origin::NewWrite, "missing_on_primary", 2),
                tally(Origin::Conflict, "different", 1),
            ],
            not_listed: 1,
            keys: vec![
                ShownKey {
                    collection: "public.orders".to_owned(),
                    key: Some(r#"{"id":150}"#.to_owned()),
                    class: "different",
                    state: "confirmed",
                    origin: Some("conflict"),
                    columns: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
                    explanation: Some("Both sides changed it after the fork.".to_owned()),
                },
                ShownKey {
                    collection: "public.orders".to_owned(),
                    key: None,
                    class: "missing_on_secondary",
                    state: "confirmed",
                    origin: Some("lost_write"),
                    columns: Vec::new(),
                    explanation: Some("Only use1 has this row.".to_owned()),
                },
            ],
            ..findings(vec![audit_coverage(), skipped_coverage(), orders])
        }
    }

    #[test]
    fn an_equal_pair_in_words() {
        insta::assert_snapshot!(findings(vec![coverage()]).terminal());
    }

    #[test]
    fn a_diverged_pair_in_words() {
        insta::assert_snapshot!(diverged().terminal());
    }

    #[test]
    fn what_could_not_be_told_in_words() {
        let open = Findings {
            complete: false,
            exit_code: 3,
            ..findings(vec![audit_coverage()])
        };
        insta::assert_snapshot!(open.terminal());
    }

    #[test]
    fn the_json_of_a_diverged_pair() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&diverged()).unwrap());
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m|\n\u{202e}é"), "a\\u{1b}[31m\\|\\u{a}\\u{202e}é");
    }

    #[test]
    fn bounds_are_never_rounded_inwards() {
        assert_eq!(at_most(Some(44_001)), "45 ms");
        assert_eq!(at_least(Some(44_999)), "44 ms");
        assert_eq!(at_most(None), "unbounded");
        assert_eq!(at_most(Some(600_000_001)), "11 min");
        assert_eq!(at_least(Some(9_999)), "9999 us");
    }
}

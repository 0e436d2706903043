//! What persons add to the evidence, from a TOML file: figures that no probe can measure, criteria that do not apply, waivers.
//! Everything of it is printed as supplied.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::policy::{Policy, PolicyError};
use super::quantity::Quantity;

/// The content of an evidence file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supplied {
    /// SHA-256 of the text that it was read from; empty when no file was given.
    #[serde(skip)]
    pub sha256: String,
    /// Figures.
    #[serde(default)]
    figure: Vec<Spanned<Figure>>,
    /// Criteria that do not apply.
    #[serde(default)]
    not_applicable: Vec<Spanned<NotApplicable>>,
    /// Waivers.
    #[serde(default)]
    waiver: Vec<Spanned<Waiver>>,
}

/// A figure that a person vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The criterion.
    pub criterion: String,
    /// The figure, with its unit.
    pub value: Quantity,
    /// The day on which it was measured (UTC).
    pub measured_on: Date,
    /// Who vouches for it.
    pub supplied_by: String,
    /// Where it comes from: a ticket, a report, an invoice.
    pub source: String,
}

/// A criterion that does not apply here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotApplicable {
    /// The criterion.
    pub criterion: String,
    /// Why.
    pub reason: String,
    /// Who says so.
    pub stated_by: String,
}

/// A criterion that does not count, for a time, because somebody answers for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The criterion.
    pub criterion: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub approver: String,
    /// The last day (UTC) on which it counts.
    pub expires: Date,
}

impl Supplied {
    /// Reads an evidence file for a policy. `origin` is the name of the file in errors.
    ///
    /// # Errors
    /// What is wrong, with its line and column: unknown keys, criteria that the policy does not have, a second entry for one
    /// criterion, a figure for a criterion that is measured, a figure in another unit, a waiver of what cannot be waived.
    pub fn parse(origin: &str, text: &str, policy: &Policy) -> Result<Self, PolicyError> {
        let mut supplied: Self = toml::from_str(text).map_err(|error| PolicyError::toml(origin, text, &error))?;
        supplied.sha256 = super::policy::sha256_text(text);
        supplied.contradiction(policy).map_or(Ok(supplied), |(span, message)| {
            Err(PolicyError::at(origin, text, Some(span), message))
        })
    }

    fn contradiction(&self, policy: &Policy) -> Option<(Range<usize>, String)> {
        let figures = self
            .figure
            .iter()
            .map(|f| (f.span(), f.get_ref().criterion.as_str(), Entry::Figure));
        let excluded = self
            .not_applicable
            .iter()
            .map(|n| (n.span(), n.get_ref().criterion.as_str(), Entry::NotApplicable));
        let waivers = self
            .waiver
            .iter()
            .map(|w| (w.span(), w.get_ref().criterion.as_str(), Entry::Waiver));
        let mut seen = BTreeSet::new();
        for (span, id, entry) in figures.chain(excluded).chain(waivers) {
            let Some(criterion) = policy.find(id) else {
                let known: Vec<&str> = policy.criteria().map(|criterion| criterion.id.as_str()).collect();
                let known = known.join(", ");
                return Some((
                    span,
                    format!("policy `{}` has no criterion `{id}`: it has {known}", policy.name),
                ));
            };
            if !seen.insert((id, entry)) {
                return Some((span, format!("criterion `{id}` has two entries of this kind")));
            }
            let fault = match (entry, criterion.kind.supplied()) {
                (Entry::Figure, None) => Some(format!(
                    "criterion `{id}` is measured: a figure cannot be supplied for it"
                )),
                (Entry::Figure, Some(rule)) => {
                    let expected = rule.bounds.go.get_ref().value().measure();
                    let given = self.figure(id).map(|figure| figure.value.measure());
                    (given != Some(expected)).then(|| {
                        format!(
                            "the figure for `{id}` must have the unit of its bound `{}`",
                            rule.bounds.go.get_ref()
                        )
                    })
                }
                (Entry::Waiver | Entry::NotApplicable, _) if !criterion.waivable => Some(format!(
                    "criterion `{id}` cannot be waived or left out: the policy says waivable = false"
                )),
                (Entry::Waiver | Entry::NotApplicable, _) => None,
            };
            if let Some(message) = fault {
                return Some((span, message));
            }
        }
        None
    }

    /// The figure of a criterion.
    pub fn figure(&self, criterion: &str) -> Option<&Figure> {
        self.figures().find(|figure| figure.criterion == criterion)
    }

    /// Why a criterion does not apply, if somebody says so.
    pub fn not_applicable(&self, criterion: &str) -> Option<&NotApplicable> {
        self.not_applicable
            .iter()
            .map(Spanned::get_ref)
            .find(|entry| entry.criterion == criterion)
    }

    /// The waiver of a criterion, expired or not.
    pub fn waiver(&self, criterion: &str) -> Option<&Waiver> {
        self.waiver
            .iter()
            .map(Spanned::get_ref)
            .find(|waiver| waiver.criterion == criterion)
    }

    /// All figures.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.figure.iter().map(Spanned::get_ref)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Figure,
    NotApplicable,
    Waiver,
}

#[cfg(test)]
mod tests {
    use super::super::policy::NINETY_DAY;
    use super::*;

    fn parse(text: &str) -> Result<Supplied, PolicyError> {
        let policy = Policy::parse("ninety-day.toml", NINETY_DAY).unwrap();
        Supplied::parse("evidence.toml", text, &policy)
    }

    const FIGURE: &str = "[[figure]]\ncriterion = 'restore-time'\nvalue = '12 min'\nmeasured_on = '2026-11-02'\nsupplied_by = 'R. Vogel'\nsource = 'drill 41'\n";

    #[test]
    fn a_figure_is_read() {
        let supplied = parse(FIGURE).unwrap();
        assert_eq!(
            supplied.figure("restore-time").unwrap().value,
            Quantity::micros(720_000_000)
        );
        assert!(supplied.figure("cost").is_none());
    }

    #[test]
    fn mistakes_show_their_line() {
        let cases = [
            (FIGURE.replace("restore-time", "restore"), "has no criterion `restore`"),
            (FIGURE.replace("restore-time", "no-loss"), "is measured"),
            (FIGURE.replace("12 min", "12 %"), "must have the unit"),
            (format!("{FIGURE}{FIGURE}"), "two entries"),
            (FIGURE.replace("source", "sauce"), "sauce"),
            (
                "\n[[waiver]]\ncriterion = 'no-loss'\nreason = 'x'\napprover = 'y'\nexpires = '2027-01-01'\n"
                    .to_owned(),
                "cannot be waived",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.place.is_some(), "{error}");
        }
    }
}

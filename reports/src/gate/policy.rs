//! A policy: thresholds and required evidence, as TOML. Keys that nobody knows, thresholds without a unit and contradictions
//! are errors that show their line.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::calendar::PeakWindow;
use super::quantity::{Bound, Measure, Quantity};
use crate::EventKind;

/// The policy of the second gate, as it is shipped.
pub const NINETY_DAY: &str = include_str!("../../../policies/ninety-day.toml");

/// A policy that was read and found free of contradictions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// SHA-256 of the text that it was read from, 64 hex digits.
    #[serde(skip)]
    pub sha256: String,
    /// The name that evidence uses.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// How far back evidence counts when nobody says so.
    pub window: Spanned<Quantity>,
    /// When blocks are enough.
    pub blocks: BlockRules,
    /// Hours in which the data layer must hold its bounds under load.
    #[serde(default)]
    pub peak: Vec<Spanned<PeakWindow>>,
    /// The lines of the policy, in the order in which they are printed.
    pub criterion: Vec<Spanned<Criterion>>,
}

/// When blocks (5 minutes of evidence) are enough to decide.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRules {
    /// GO needs that many blocks in the window, and none that exceeds.
    pub minimum: u32,
    /// Or that many separate episodes, and the bound of the next line.
    pub episodes_minimum: u32,
    /// With enough episodes, the one-sided 95 % Clopper-Pearson bound on the share of exceeding blocks stays below this.
    pub exceeding_share: Spanned<Quantity>,
    /// "Consistently" = in at least this share of the blocks of any day.
    pub consistently: Spanned<Quantity>,
}

/// One line of a policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    /// Stable name: waivers and evidence refer to it.
    pub id: String,
    /// The requirement in words.
    pub requirement: String,
    /// How far back evidence counts for this line, where it is not the policy's window.
    pub window: Option<Spanned<Quantity>>,
    /// Whether an approver may waive it.
    #[serde(default = "yes")]
    pub waivable: bool,
    /// What is judged.
    pub kind: Kind,
}

fn yes() -> bool {
    true
}

/// What a criterion judges: a closed list.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A quantile of every block outside of peak windows within a bound; beyond, when it is so *consistently*.
    LagSteady(LagRule),
    /// A quantile of every block in peak windows within a bound; beyond, when the quantile of any whole peak window is.
    LagPeak(LagRule),
    /// Lag was observed at all, in enough blocks.
    LagObserved(ObservedRule),
    /// Nothing that was acknowledged is missing after an event.
    Loss(EventRule),
    /// The event took place and did not fail.
    Promotion(EventRule),
    /// Time to restore from backup, supplied by a person.
    RestoreTime(SuppliedRule),
    /// Time until a rotated secret is taken up, supplied by a person.
    SecretRotation(SuppliedRule),
    /// Cost over plan, supplied by a person.
    Cost(SuppliedRule),
}

impl Kind {
    /// The word of the `gate_criteria.metric` column.
    pub fn metric(&self) -> String {
        match self {
            Self::LagSteady(rule) => format!("lag_{}_steady", rule.quantile.word()),
            Self::LagPeak(rule) => format!("lag_{}_peak", rule.quantile.word()),
            Self::LagObserved(_) => "lag_observed".to_owned(),
            Self::Loss(_) => "loss".to_owned(),
            Self::Promotion(_) => "promotion".to_owned(),
            Self::RestoreTime(_) => "restore_time".to_owned(),
            Self::SecretRotation(_) => "secret_rotation".to_owned(),
            Self::Cost(_) => "cost".to_owned(),
        }
    }

    /// Whether blocks of lag are judged.
    pub fn is_lag(&self) -> bool {
        matches!(self, Self::LagSteady(_) | Self::LagPeak(_) | Self::LagObserved(_))
    }

    /// The rule, where a person supplies the figure.
    pub fn supplied(&self) -> Option<&SuppliedRule> {
        match self {
            Self::RestoreTime(rule) | Self::SecretRotation(rule) | Self::Cost(rule) => Some(rule),
            _ => None,
        }
    }

    fn bounds(&self) -> Option<(Measure, &Bounds)> {
        match self {
            Self::LagSteady(rule) | Self::LagPeak(rule) => Some((Measure::Duration, &rule.bounds)),
            Self::RestoreTime(rule) | Self::SecretRotation(rule) => Some((Measure::Duration, &rule.bounds)),
            Self::Cost(rule) => Some((Measure::Percent, &rule.bounds)),
            Self::LagObserved(_) | Self::Loss(_) | Self::Promotion(_) => None,
        }
    }
}

/// A quantile of lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quantile {
    /// Median.
    #[serde(rename = "p50")]
    P50,
    /// 90th percentile.
    #[serde(rename = "p90")]
    P90,
    /// 95th percentile.
    #[serde(rename = "p95")]
    P95,
    /// 99th percentile.
    #[serde(rename = "p99")]
    P99,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    P999,
    /// The largest.
    #[serde(rename = "max")]
    Max,
}

impl Quantile {
    /// All of them, in the order in which blocks hold them.
    pub const ALL: [Self; 6] = [Self::P50, Self::P90, Self::P95, Self::P99, Self::P999, Self::Max];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
        }
    }

    /// Share in thousandths.
    fn per_mille(self) -> u64 {
        match self {
            Self::P50 => 500,
            Self::P90 => 900,
            Self::P95 => 950,
            Self::P99 => 990,
            Self::P999 => 999,
            Self::Max => 1_000,
        }
    }

    /// The rank of this quantile among `count` samples, from 1: the smallest with at least this share at or below it.
    pub(crate) fn rank(self, count: u64) -> u64 {
        count.saturating_mul(self.per_mille()).div_ceil(1_000)
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::P50 => 0,
            Self::P90 => 1,
            Self::P95 => 2,
            Self::P99 => 3,
            Self::P999 => 4,
            Self::Max => 5,
        }
    }
}

/// Thresholds of a figure. What satisfies none of them is INCONCLUSIVE.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// GO: by the high end.
    pub go: Spanned<Bound>,
    /// GO, with a remark when this tighter threshold is missed.
    pub remark: Option<Spanned<Bound>>,
    /// INVESTIGATE: by the low end.
    pub investigate: Option<Spanned<Bound>>,
    /// NO-GO: by the low end.
    pub no_go: Option<Spanned<Bound>>,
}

/// A bound on lag.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LagRule {
    /// `aurora`, ...
    pub store: String,
    /// Which quantile of a block.
    pub quantile: Quantile,
    /// The thresholds.
    pub bounds: Bounds,
}

/// Lag that only has to be observed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedRule {
    /// `dynamodb`, ...
    pub store: String,
}

/// Events that a criterion looks at.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// Kinds of event.
    pub events: Vec<EventKind>,
}

/// A figure that a person supplies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppliedRule {
    /// The thresholds.
    pub bounds: Bounds,
}

/// Why a policy or an evidence file cannot be used. Correct the file.
#[derive(Debug, thiserror::Error)]
pub struct PolicyError {
    /// The file, as the caller names it.
    pub origin: String,
    /// Line and column, from 1, where the place is known.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what is expected.
    pub message: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl PolicyError {
    pub(crate) fn at(origin: &str, text: &str, span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        let place = span.map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            (line, column)
        });
        Self {
            origin: origin.to_owned(),
            place,
            message: message.into(),
        }
    }

    pub(crate) fn toml(origin: &str, text: &str, error: &toml::de::Error) -> Self {
        Self::at(origin, text, error.span(), error.message())
    }
}

impl Policy {
    /// Reads a policy. `origin` is the name of the file in errors.
    ///
    /// # Errors
    /// What is wrong, with its line and column.
    pub fn parse(origin: &str, text: &str) -> Result<Self, PolicyError> {
        let mut policy: Self = toml::from_str(text).map_err(|error| PolicyError::toml(origin, text, &error))?;
        policy.sha256 = sha256_text(text);
        policy.contradiction().map_or(Ok(policy), |(span, message)| {
            Err(PolicyError::at(origin, text, Some(span), message))
        })
    }

    /// The first contradiction, with its place.
    fn contradiction(&self) -> Option<(Range<usize>, String)> {
        let mut ids = BTreeSet::new();
        expect_positive(&self.window, Measure::Duration)
            .or_else(|| expect_positive(&self.blocks.exceeding_share, Measure::Percent))
            .or_else(|| expect_positive(&self.blocks.consistently, Measure::Percent))
            .or_else(|| {
                self.peak
                    .iter()
                    .find_map(|peak| peak.get_ref().contradiction().map(|message| (peak.span(), message)))
            })
            .or_else(|| {
                self.criterion
                    .iter()
                    .find_map(|spanned| self.criterion_contradiction(spanned, &mut ids))
            })
            .or_else(|| {
                (self.criterion.is_empty() || self.blocks.minimum == 0 || self.blocks.episodes_minimum == 0).then(|| {
                    (0..0, "a policy needs at least one criterion, and blocks.minimum and blocks.episodes_minimum of at least 1".to_owned())
                })
            })
    }

    fn criterion_contradiction<'a>(
        &self,
        spanned: &'a Spanned<Criterion>,
        ids: &mut BTreeSet<&'a str>,
    ) -> Option<(Range<usize>, String)> {
        let criterion = spanned.get_ref();
        let id = &criterion.id;
        if !ids.insert(id) {
            return Some((spanned.span(), format!("criterion `{id}` stands here twice")));
        }
        if matches!(criterion.kind, Kind::LagPeak(_)) && self.peak.is_empty() {
            return Some((
                spanned.span(),
                format!("criterion `{id}` judges peak windows, and the policy names none: add [[peak]]"),
            ));
        }
        if let Kind::Loss(rule) | Kind::Promotion(rule) = &criterion.kind
            && rule.events.is_empty()
        {
            return Some((spanned.span(), format!("criterion `{id}` names no kind of event")));
        }
        if let Some(found) = criterion
            .window
            .as_ref()
            .and_then(|w| expect_positive(w, Measure::Duration))
        {
            return Some(found);
        }
        criterion
            .kind
            .bounds()
            .and_then(|(measure, bounds)| bounds.contradiction(measure))
    }

    /// The criterion of that id.
    pub fn find(&self, id: &str) -> Option<&Criterion> {
        self.criteria().find(|criterion| criterion.id == id)
    }

    /// The criteria in order.
    pub fn criteria(&self) -> impl Iterator<Item = &Criterion> {
        self.criterion.iter().map(Spanned::get_ref)
    }

    /// The peak windows in order.
    pub fn peaks(&self) -> impl Iterator<Item = &PeakWindow> {
        self.peak.iter().map(Spanned::get_ref)
    }
}

/// SHA-256 of a text, 64 lower-case hex digits.
pub(super) fn sha256_text(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn expect_positive(quantity: &Spanned<Quantity>, measure: Measure) -> Option<(Range<usize>, String)> {
    let value = quantity.get_ref();
    if value.measure() == measure && value.amount() > 0 {
        return None;
    }
    let wanted = match measure {
        Measure::Duration => "a length of time above zero, for example \"7 d\"",
        Measure::Percent => "a share above zero, for example \"20 %\"",
    };
    Some((quantity.span(), format!("`{value}` is not {wanted}")))
}

impl Bounds {
    fn contradiction(&self, measure: Measure) -> Option<(Range<usize>, String)> {
        let upper = [Some(&self.go), self.remark.as_ref()];
        let lower = [self.investigate.as_ref(), self.no_go.as_ref()];
        for (bounds, is_upper, example) in [(upper, true, "<= 200 ms"), (lower, false, "> 200 ms")] {
            for bound in bounds.into_iter().flatten() {
                if bound.get_ref().value().measure() != measure {
                    return Some((
                        bound.span(),
                        format!("`{}` does not have the unit of this figure", bound.get_ref()),
                    ));
                }
                if bound.get_ref().is_upper() != is_upper {
                    return Some((
                        bound.span(),
                        format!(
                            "`{}` points the wrong way: write for example \"{example}\"",
                            bound.get_ref()
                        ),
                    ));
                }
            }
        }
        let go = self.go.get_ref().value().amount();
        for bound in lower.into_iter().flatten() {
            let lower_value = bound.get_ref().value().amount();
            if lower_value < go || (lower_value == go && self.go.get_ref().holds(go) && bound.get_ref().holds(go)) {
                return Some((
                    bound.span(),
                    format!(
                        "`{}` overlaps go = \"{}\": one figure would get two verdicts",
                        bound.get_ref(),
                        self.go.get_ref()
                    ),
                ));
            }
        }
        if let (Some(investigate), Some(no_go)) = (&self.investigate, &self.no_go)
            && no_go.get_ref().value().amount() < investigate.get_ref().value().amount()
        {
            return Some((
                no_go.span(),
                "no_go starts below investigate, which could then never be reached".to_owned(),
            ));
        }
        self.remark
            .as_ref()
            .filter(|remark| remark.get_ref().value().amount() > go)
            .map(|remark| (remark.span(), "remark must be tighter than go".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(from: &str, to: &str) -> String {
        assert!(NINETY_DAY.contains(from), "the shipped policy no longer holds `{from}`");
        let text = NINETY_DAY.replacen(from, to, 1);
        Policy::parse("p.toml", &text).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_policy_is_sound() {
        let policy = Policy::parse("ninety-day.toml", NINETY_DAY).unwrap();
        assert_eq!(policy.name, "ninety-day");
        let ids: Vec<&str> = policy.criteria().map(|criterion| criterion.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "aurora-steady-lag",
                "aurora-peak-lag",
                "dynamodb-lag",
                "promotion",
                "demotion",
                "no-loss",
                "restore-time",
                "secret-rotation",
                "cost"
            ]
        );
    }

    #[test]
    fn an_unknown_key_shows_its_line() {
        let text = broken("minimum = 30", "minimun = 30");
        assert!(text.starts_with("p.toml:"), "{text}");
        assert!(text.contains("minimun"), "{text}");
    }

    #[test]
    fn a_threshold_needs_a_unit_and_a_side() {
        assert!(broken("go = \"<= 200 ms\"", "go = \"<= 200\"").contains("has no unit"));
        assert!(broken("go = \"<= 200 ms\"", "go = \"200 ms\"").contains("which side"));
        assert!(broken("go = \"<= 200 ms\"", "go = \">= 200 ms\"").contains("wrong way"));
        assert!(broken("go = \"<= 200 ms\"", "go = \"<= 20 %\"").contains("unit of this figure"));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(broken("investigate = \"> 200 ms\"", "investigate = \">= 200 ms\"").contains("two verdicts"));
        assert!(broken("no_go = \"> 500 ms\"", "no_go = \"> 300 us\"").contains("two verdicts"));
        assert!(broken("id = \"aurora-peak-lag\"", "id = \"aurora-steady-lag\"").contains("twice"));
        assert!(broken("remark = \"<= 100 ms\"", "remark = \"<= 300 ms\"").contains("tighter"));
        assert!(broken("window = \"7 d\"", "window = \"0 d\"").contains("above zero"));
    }

    #[test]
    fn ranks_are_never_below_the_share() {
        assert_eq!(Quantile::P50.rank(3), 2);
        assert_eq!(Quantile::P50.rank(4), 2);
        assert_eq!(Quantile::P99.rank(10), 10);
        assert_eq!(Quantile::P99.rank(100), 99);
        assert_eq!(Quantile::Max.rank(7), 7);
    }
}

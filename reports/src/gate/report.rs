//! The result of a gate: one verdict, and for each criterion the figure at both ends, the bound, the reason and the evidence.

use serde::Serialize;

use super::blocks::RouteLag;
use super::evidence::{Reconciliation, RunFacts};
use super::quantity::Measure;
use super::supplied::{Figure, NotApplicable, Waiver};
use crate::Event;

/// The four verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Proved to be within the policy.
    #[serde(rename = "GO")]
    Go,
    /// The evidence does not decide. Never to be read as GO.
    #[serde(rename = "INCONCLUSIVE")]
    Inconclusive,
    /// Proved to be beyond a bound that wants a look.
    #[serde(rename = "INVESTIGATE")]
    Investigate,
    /// Proved to be beyond a bound that stops.
    #[serde(rename = "NO-GO")]
    NoGo,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Go, Self::Investigate, Self::NoGo, Self::Inconclusive];

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Go => "GO",
            Self::Investigate => "INVESTIGATE",
            Self::NoGo => "NO-GO",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }

    /// The exit code of `gate run`: 0 for GO, 1 for INVESTIGATE and NO-GO, 3 for INCONCLUSIVE.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Go => 0,
            Self::Investigate | Self::NoGo => 1,
            Self::Inconclusive => 3,
        }
    }
}

/// Whether a criterion counts for the verdict of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It counts.
    Counted,
    /// Somebody answers for it; its own verdict is still shown.
    Waived(Waiver),
    /// Somebody says that it does not apply.
    NotApplicable(NotApplicable),
}

/// A stretch of time, microseconds since 1970 UTC; the end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Start.
    pub from_us: i64,
    /// End.
    pub to_us: i64,
}

impl Window {
    /// Whether an instant lies in it.
    pub fn holds(self, at_us: i64) -> bool {
        self.from_us <= at_us && at_us < self.to_us
    }
}

/// What the numbers of a result count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Microseconds.
    Us,
    /// Percent; amounts are held in thousandths.
    Percent,
    /// Keys that a reconciliation compared.
    Keys,
    /// Canaries.
    Canaries,
    /// Blocks of five minutes.
    Blocks,
    /// Nothing is counted.
    None,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Us,
        Self::Percent,
        Self::Keys,
        Self::Canaries,
        Self::Blocks,
        Self::None,
    ];

    /// The word of the `gate_criteria.unit` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Us => Measure::Duration.unit(),
            Self::Percent => Measure::Percent.unit(),
            Self::Keys => "keys",
            Self::Canaries => "canaries",
            Self::Blocks => "blocks",
            Self::None => "none",
        }
    }
}

/// One criterion applied to one route, event or supplied figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CriterionResult {
    /// The criterion.
    pub id: String,
    /// The requirement in words.
    pub requirement: String,
    /// What was judged, e.g. `lag_p50_steady`.
    pub metric: String,
    /// The route, the event or the source of the figure, in words. Empty when there is none.
    pub subject: String,
    /// The event, where one was judged.
    pub event_id: Option<String>,
    /// The dataset, where there is one.
    pub dataset: Option<String>,
    /// The store.
    pub store: Option<String>,
    /// Its primary.
    pub primary_site: Option<String>,
    /// Its secondary.
    pub secondary_site: Option<String>,
    /// The window that was judged.
    pub window: Window,
    /// The low end (of the worst block); in microseconds, thousandths of a percent, or a count.
    pub observed_low: Option<i64>,
    /// The high end; `None` beside a low end = unbounded.
    pub observed_high: Option<i64>,
    /// The bound that decided, or that was not reached.
    pub bound: Option<i64>,
    /// The same with its sign and unit, as the policy writes it.
    pub bound_text: String,
    /// What the three numbers count.
    pub unit: Unit,
    /// Blocks, events, rows or supplied figures behind the verdict.
    pub samples: u64,
    /// Its own verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// What to do next; empty for a plain GO.
    pub next: String,
    /// The runs that the evidence comes from.
    pub evidence_run_ids: Vec<String>,
    /// What a reader must know although it does not change the verdict.
    pub remark: String,
    /// Whether it counts.
    pub standing: Standing,
}

impl CriterionResult {
    /// Whether it counts for the verdict of the gate.
    pub fn is_counted(&self) -> bool {
        self.standing == Standing::Counted
    }
}

/// A loss, as the report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LossFacts {
    /// The run.
    pub run_id: String,
    /// The event.
    pub event_id: String,
    /// The route before the event.
    pub route: String,
    /// Acknowledged canaries that were judged.
    pub acked: u64,
    /// Of those, present after.
    pub survived: u64,
    /// Absent.
    pub lost: u64,
    /// Unknown outcome, and absent.
    pub unknown: u64,
    /// The measured RPO is not less.
    pub rpo_low_us: u64,
    /// And not more; `None` = unbounded.
    pub rpo_high_us: Option<u64>,
    /// `none`, `suffix`, ...
    pub shape: &'static str,
    /// Until when the ledger is complete.
    pub ledger_complete_until_us: i64,
}

/// A route with its blocks in the window, for the lag section.
#[derive(Debug, Clone, Serialize)]
pub struct LagSection {
    /// The route with its figures.
    pub lag: RouteLag,
    /// What the policy asks of it.
    pub charts: Vec<Chart>,
}

/// One criterion drawn over the blocks of a route.
#[derive(Debug, Clone, Serialize)]
pub struct Chart {
    /// The criterion.
    pub criterion_id: String,
    /// The quantile that is drawn.
    pub quantile: super::policy::Quantile,
    /// Thresholds with their words: (`GO <= 200 ms`, microseconds).
    pub thresholds: Vec<(String, i64)>,
}

/// A gate that was run.
#[derive(Debug, Clone, Serialize)]
pub struct GateReport {
    /// The run of the gate itself.
    pub run_id: String,
    /// The policy.
    pub policy: String,
    /// Its title.
    pub title: String,
    /// SHA-256 of the policy's text.
    pub policy_sha256: String,
    /// SHA-256 of the evidence file's text, if there is one.
    pub supplied_sha256: Option<String>,
    /// When it was judged.
    pub judged_at_us: i64,
    /// The window of the policy; a criterion may have a longer one.
    pub window: Window,
    /// The verdict.
    pub verdict: Verdict,
    /// Waivers that changed it, counted.
    pub waivers_used: usize,
    /// One sentence: why.
    pub headline: String,
    /// By criterion, in the order of the policy.
    pub criteria: Vec<CriterionResult>,
    /// Waivers that no longer count.
    pub expired_waivers: Vec<Waiver>,
    /// Figures that persons supplied.
    pub supplied: Vec<Figure>,
    /// Lag.
    pub lag: Vec<LagSection>,
    /// Losses.
    pub losses: Vec<LossFacts>,
    /// Comparisons.
    pub reconciliations: Vec<Reconciliation>,
    /// Events.
    pub events: Vec<Event>,
    /// Runs.
    pub runs: Vec<RunFacts>,
    /// Evidence that could not be used.
    pub problems: Vec<String>,
    /// Evidence that was left out by a rule, in words.
    pub notes: Vec<String>,
    /// The command that judges the same evidence again.
    pub reproduce: String,
    /// Version of driftline.
    pub tool_version: String,
}

impl GateReport {
    /// `GO`, `GO (2 waivers)`, `NO-GO`, ...
    pub fn verdict_text(&self) -> String {
        match self.waivers_used {
            0 => self.verdict.title().to_owned(),
            1 => format!("{} (1 waiver)", self.verdict.title()),
            n => format!("{} ({n} waivers)", self.verdict.title()),
        }
    }

    /// The exit code of `gate run`.
    pub fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }

    /// As JSON for scripts, indented.
    ///
    /// # Errors
    /// Only if a figure cannot be represented, which no figure here can cause.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

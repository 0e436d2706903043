//! The report as one page: no script, nothing fetched, light and dark, printable.

use std::collections::BTreeMap;

use askama::Template;

use super::calendar::instant_text;
use super::chart;
use super::evidence::{CollectionCoverage, Reconciliation};
use super::policy::Quantile;
use super::report::{CriterionResult, GateReport, LagSection, Standing, Verdict};
use super::terminal::{Step, next_steps, not_counted, observed_text, rounded};
use reconcile::{Origin, State};

/// Renders the page.
///
/// # Errors
/// Only what formatting into memory can give.
pub fn html(report: &GateReport) -> Result<String, askama::Error> {
    Page {
        report,
        verdict: report.verdict_text(),
        tone: tone(report.verdict),
        counts: counts(report),
        from: instant_text(report.window.from_us),
        to: instant_text(report.window.to_us),
        judged_at: instant_text(report.judged_at_us),
        next: next_steps(report).into_iter().map(StepView::of).collect(),
        not_counted: not_counted(report),
        criteria: criteria(report),
        lag: report.lag.iter().map(LagView::of).collect(),
        losses: losses(report),
        reconciliations: report.reconciliations.iter().map(ReconciliationView::of).collect(),
        events: events(report),
        runs: runs(report),
    }
    .render()
}

#[derive(Template)]
#[template(path = "gate.html")]
struct Page<'a> {
    report: &'a GateReport,
    verdict: String,
    tone: &'static str,
    counts: Vec<(&'static str, &'static str, usize)>,
    from: String,
    to: String,
    judged_at: String,
    next: Vec<StepView>,
    not_counted: Vec<String>,
    criteria: Vec<CriterionView<'a>>,
    lag: Vec<LagView<'a>>,
    losses: Vec<[String; 7]>,
    reconciliations: Vec<ReconciliationView<'a>>,
    events: Vec<[String; 6]>,
    runs: Vec<RunView<'a>>,
}

/// The class that gives a verdict its colour; its word always stands beside it.
fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Go => "go",
        Verdict::Investigate => "investigate",
        Verdict::NoGo => "no-go",
        Verdict::Inconclusive => "inconclusive",
    }
}

fn counts(report: &GateReport) -> Vec<(&'static str, &'static str, usize)> {
    let verdicts = [Verdict::NoGo, Verdict::Investigate, Verdict::Inconclusive, Verdict::Go];
    let mut counts: Vec<_> = verdicts
        .into_iter()
        .map(|verdict| {
            let is_it = |result: &&CriterionResult| result.is_counted() && result.verdict == verdict;
            (
                verdict.title(),
                tone(verdict),
                report.criteria.iter().filter(is_it).count(),
            )
        })
        .collect();
    let set_aside = |word: &'static str, is_it: fn(&Standing) -> bool| {
        let found = report.criteria.iter().filter(|result| is_it(&result.standing));
        (word, "set-aside", found.count())
    };
    counts.push(set_aside("waived", |standing| matches!(standing, Standing::Waived(_))));
    counts.push(set_aside("not applicable", |standing| {
        matches!(standing, Standing::NotApplicable(_))
    }));
    counts.retain(|(_, _, count)| *count > 0);
    counts
}

/// A step with its commands told apart from its words.
struct StepView {
    criterion: Option<(&'static str, String)>,
    /// Text, and whether it is a command.
    parts: Vec<(String, bool)>,
}

impl StepView {
    fn of(step: Step) -> Self {
        Self {
            criterion: step.criterion.map(|(verdict, id)| (tone(verdict), id)),
            parts: step
                .words
                .split('`')
                .enumerate()
                .map(|(place, part)| (part.to_owned(), place % 2 == 1))
                .collect(),
        }
    }
}

struct CriterionView<'a> {
    result: &'a CriterionResult,
    badge: &'static str,
    own_verdict: &'static str,
    tone: &'static str,
    observed: String,
}

/// What stops comes first; within a verdict the order of the policy.
fn criteria(report: &GateReport) -> Vec<CriterionView<'_>> {
    let mut views: Vec<CriterionView<'_>> = report.criteria.iter().map(CriterionView::of).collect();
    views.sort_by_key(|view| (!view.result.is_counted(), std::cmp::Reverse(view.result.verdict)));
    views
}

impl<'a> CriterionView<'a> {
    fn of(result: &'a CriterionResult) -> Self {
        let (badge, own_verdict) = match result.standing {
            Standing::Counted => (result.verdict.title(), ""),
            Standing::Waived(_) => ("waived", result.verdict.title()),
            Standing::NotApplicable(_) => ("not applicable", ""),
        };
        Self {
            result,
            badge,
            own_verdict,
            tone: if result.is_counted() {
                tone(result.verdict)
            } else {
                "set-aside"
            },
            observed: observed_text(result),
        }
    }
}

struct LagView<'a> {
    section: &'a LagSection,
    name: String,
    charts: Vec<(String, String, String)>,
    /// Label, low end, high end of the worst block.
    quantiles: Vec<[String; 3]>,
    canaries: Vec<(&'static str, String)>,
}

impl<'a> LagView<'a> {
    fn of(section: &'a LagSection) -> Self {
        let (route, blocks) = (&section.lag.route, &section.lag.blocks);
        let name = route.to_string();
        let charts = section.charts.iter().map(|chart| {
            let title = chart::title(&name, chart, blocks);
            let svg = chart::draw(&title, chart, blocks);
            (chart.criterion_id.clone(), chart.quantile.word().to_owned(), svg)
        });
        let sum = |figure: fn(&super::Figures) -> u64| grouped(blocks.iter().map(|block| figure(&block.figures)).sum());
        let oldest = blocks.iter().filter_map(|block| block.figures.oldest_unseen_us).max();
        Self {
            charts: charts.collect(),
            quantiles: Quantile::ALL
                .into_iter()
                .map(|quantile| worst(section, quantile))
                .collect(),
            canaries: vec![
                (
                    "blocks with evidence",
                    grouped(u64::try_from(blocks.len()).unwrap_or(u64::MAX)),
                ),
                ("canaries planned", sum(|figures| figures.planned)),
                ("seen", sum(|figures| figures.seen)),
                ("not seen yet", sum(|figures| figures.pending)),
                ("lost", sum(|figures| figures.lost)),
                ("overwritten before seen", sum(|figures| figures.superseded)),
                ("not written or unknown", sum(|figures| figures.not_written)),
                ("skipped", sum(|figures| figures.skipped)),
                ("oldest unseen", oldest.map_or("none".to_owned(), micros)),
            ],
            name,
            section,
        }
    }
}

fn worst(section: &LagSection, quantile: Quantile) -> [String; 3] {
    let blocks = &section.lag.blocks;
    let low = blocks
        .iter()
        .map(|block| block.figures.low(quantile))
        .max()
        .unwrap_or(0);
    let high = blocks
        .iter()
        .try_fold(0, |held, block| block.figures.high(quantile).map(|high| high.max(held)));
    [
        quantile.word().to_owned(),
        micros(low),
        high.map_or("unbounded".to_owned(), micros),
    ]
}

fn micros(us: u64) -> String {
    rounded(i64::try_from(us).unwrap_or(i64::MAX)).to_string()
}

/// `1 234 567`, with spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn losses(report: &GateReport) -> Vec<[String; 7]> {
    let rows = report.losses.iter().map(|loss| {
        let high = loss.rpo_high_us.map_or("unbounded".to_owned(), micros);
        let lost = if loss.unknown == 0 {
            grouped(loss.lost)
        } else {
            format!("{} to {}", grouped(loss.lost), grouped(loss.lost + loss.unknown))
        };
        [
            loss.route.clone(),
            loss.event_id.clone(),
            format!("{} to {high}", micros(loss.rpo_low_us)),
            format!("{lost} of {}", grouped(loss.acked)),
            loss.shape.to_owned(),
            instant_text(loss.ledger_complete_until_us),
            loss.run_id.clone(),
        ]
    });
    rows.collect()
}

struct ReconciliationView<'a> {
    run: &'a Reconciliation,
    started: String,
    origins: Vec<(&'static str, &'static str, String)>,
    verified: usize,
    collections: Vec<CollectionView<'a>>,
}

struct CollectionView<'a> {
    collection: &'a CollectionCoverage,
    tone: &'static str,
    rows: String,
}

impl<'a> ReconciliationView<'a> {
    fn of(run: &'a Reconciliation) -> Self {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for tally in run.keys.iter().filter(|tally| tally.state == State::Confirmed) {
            *counts.entry(tally.origin.map_or("", Origin::word)).or_default() += tally.count;
        }
        let words = [
            ("lost_write", "lost writes", "no-go"),
            ("conflict", "conflicts", "no-go"),
            ("unknown", "of unknown origin", "inconclusive"),
            ("", "without origin", "inconclusive"),
            ("new_write", "new writes, not a loss", "go"),
        ];
        // What was not verified comes first: it is what a reader must know.
        let mut collections: Vec<CollectionView<'_>> = run.collections.iter().map(CollectionView::of).collect();
        collections.sort_by_key(|view| (view.tone != "no-go", view.tone == "go"));
        Self {
            run,
            started: instant_text(run.started_at_us),
            origins: words
                .into_iter()
                .filter_map(|(key, label, tone)| Some((label, tone, grouped(*counts.get(key)?))))
                .collect(),
            verified: run
                .collections
                .iter()
                .filter(|collection| collection.is_compared())
                .count(),
            collections,
        }
    }
}

impl<'a> CollectionView<'a> {
    fn of(collection: &'a CollectionCoverage) -> Self {
        let rows = |count: Option<u64>| count.map_or("not counted".to_owned(), grouped);
        Self {
            collection,
            tone: match (collection.state, collection.is_compared()) {
                (reconcile::CoverageState::Verified, true) => "go",
                (reconcile::CoverageState::Diverged, _) => "no-go",
                _ => "inconclusive",
            },
            rows: format!(
                "{} / {}",
                rows(collection.primary_rows),
                rows(collection.secondary_rows)
            ),
        }
    }
}

fn events(report: &GateReport) -> Vec<[String; 6]> {
    let at = |at: Option<i64>| at.map_or("not recorded".to_owned(), instant_text);
    let rows = report.events.iter().map(|event| {
        let drill = if event.exercise { " (drill)" } else { "" };
        [
            format!("{}{drill}", event.kind.word()),
            format!("{} -> {}", event.from_site, event.to_site),
            instant_text(event.declared_at_us),
            at(event.promoted_at_us),
            at(event.traffic_shifted_at_us),
            event.outcome.clone().unwrap_or_else(|| "open".to_owned()),
        ]
    });
    rows.collect()
}

struct RunView<'a> {
    run: &'a super::RunFacts,
    started: String,
    config: String,
}

fn runs(report: &GateReport) -> Vec<RunView<'_>> {
    let views = report.runs.iter().map(|run| RunView {
        run,
        started: instant_text(run.started_at_us),
        config: run
            .config_sha256
            .as_deref()
            .unwrap_or("not recorded")
            .chars()
            .take(12)
            .collect(),
    });
    views.collect()
}

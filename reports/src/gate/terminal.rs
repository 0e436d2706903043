//! The report on a terminal: the verdict, why and what to do first; no colour is needed to read it.

use std::fmt::Write as _;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::calendar::instant_text;
use super::quantity::Quantity;
use super::report::{CriterionResult, GateReport, Standing, Unit, Verdict};
use crate::render::visible;

/// Widest that the short columns of the table get.
const VERDICT_COLUMNS: u16 = 17;
const CRITERION_COLUMNS: u16 = 30;
const OBSERVED_COLUMNS: u16 = 24;

/// Renders a report for a terminal of so many columns.
pub fn terminal(report: &GateReport, columns: u16) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}  {}: {}", report.verdict_text(), report.policy, report.title);
    let _ = writeln!(text, "{}", report.headline);
    let _ = writeln!(
        text,
        "Evidence from {} to {}.",
        instant_text(report.window.from_us),
        instant_text(report.window.to_us)
    );
    let _ = writeln!(text, "\n{}", table(report, columns));
    let steps: Vec<String> = next_steps(report)
        .into_iter()
        .map(|step| match step.criterion {
            Some((_, id)) => format!("{id}: {}", step.words),
            None => step.words,
        })
        .collect();
    list(&mut text, "What to do next", &steps, true);
    list(&mut text, "Evidence that could not be used", &report.problems, false);
    list(&mut text, "Left out", &report.notes, false);
    list(&mut text, "Not counted", &not_counted(report), false);
    let _ = writeln!(text, "\nThe same again: {}", report.reproduce);
    // Names come from databases and files: none of them may steer a terminal.
    text.lines().flat_map(|line| [visible(line), "\n".to_owned()]).collect()
}

fn list(text: &mut String, title: &str, entries: &[String], numbered: bool) {
    if entries.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    for (number, entry) in entries.iter().enumerate() {
        if numbered {
            let _ = writeln!(text, "  {}. {entry}", number + 1);
        } else {
            let _ = writeln!(text, "  - {entry}");
        }
    }
}

fn table(report: &GateReport, columns: u16) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .force_no_tty()
        .set_width(columns)
        .set_header(["verdict", "criterion", "observed", "why"]);
    for result in &report.criteria {
        let mut why = result.reason.clone();
        if !result.remark.is_empty() {
            let _ = write!(why, "\nRemark: {}", result.remark);
        }
        let observed = match result.bound_text.as_str() {
            "" => observed_text(result),
            bound => format!("{}\nbound {bound}", observed_text(result)),
        };
        let criterion = match result.subject.as_str() {
            "" => result.id.clone(),
            subject => format!("{}\n{subject}", result.id),
        };
        table.add_row([verdict_text(result), criterion, observed, why]);
    }
    // The reason is the longest text, so it gets what the others leave.
    let narrow = [VERDICT_COLUMNS, CRITERION_COLUMNS, OBSERVED_COLUMNS];
    table.set_constraints(narrow.map(|width| ColumnConstraint::UpperBoundary(Width::Fixed(width))));
    table.trim_fmt()
}

/// The verdict of a result with its standing.
pub(super) fn verdict_text(result: &CriterionResult) -> String {
    match &result.standing {
        Standing::Counted => result.verdict.title().to_owned(),
        Standing::Waived(_) => format!("waived ({})", result.verdict.title()),
        Standing::NotApplicable(_) => "not applicable".to_owned(),
    }
}

/// One figure with its unit.
pub(super) fn figure_text(unit: Unit, amount: i64) -> String {
    match unit {
        Unit::Us => rounded(amount).to_string(),
        Unit::Percent => Quantity::milli_percent(amount).to_string(),
        Unit::Keys | Unit::Canaries | Unit::Blocks => format!("{amount} {}", unit.word()),
        Unit::None => amount.to_string(),
    }
}

/// Microseconds with three digits behind the first: histograms hold no more.
pub(super) fn rounded(us: i64) -> Quantity {
    let mut step = 1;
    while us.unsigned_abs() / step >= 10_000 {
        step *= 10;
    }
    let step = i64::try_from(step).unwrap_or(1);
    Quantity::micros(us / step * step)
}

/// Both ends.
pub(super) fn observed_text(result: &CriterionResult) -> String {
    let Some(low) = result.observed_low else {
        // Some criteria are met or not, without a figure.
        let word = if result.samples > 0 {
            "no figure"
        } else {
            "not measured"
        };
        return word.to_owned();
    };
    match result.observed_high {
        Some(high) if high == low => figure_text(result.unit, low),
        Some(high) => format!(
            "{} to {}",
            figure_text(result.unit, low),
            figure_text(result.unit, high)
        ),
        None => format!("{} or more", figure_text(result.unit, low)),
    }
}

/// One step, with the criteria that ask for it and the worst of their verdicts; none for a problem of the evidence as a whole.
pub(super) struct Step {
    pub(super) criterion: Option<(Verdict, String)>,
    pub(super) words: String,
}

/// Steps of the results that count, worst first, each once for all criteria that ask for it.
pub(super) fn next_steps(report: &GateReport) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut results: Vec<&CriterionResult> = report.criteria.iter().collect();
    results.retain(|result| result.is_counted() && !result.next.is_empty());
    results.sort_by_key(|result| std::cmp::Reverse(result.verdict));
    if !report.problems.is_empty() {
        steps.push(Step {
            criterion: None,
            words: "make the evidence readable that could not be used (listed below): without it nothing is GO"
                .to_owned(),
        });
    }
    for result in results {
        let known = steps.iter_mut().find(|step| step.words == result.next);
        match known.and_then(|step| step.criterion.as_mut()) {
            Some((_, ids)) if ids.split(", ").any(|id| id == result.id) => (),
            Some((_, ids)) => *ids = format!("{ids}, {}", result.id),
            None => steps.push(Step {
                criterion: Some((result.verdict, result.id.clone())),
                words: result.next.clone(),
            }),
        }
    }
    steps
}

/// Waivers, also expired ones, and criteria that somebody set aside.
pub(super) fn not_counted(report: &GateReport) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for result in &report.criteria {
        let entry = match &result.standing {
            Standing::Counted => continue,
            Standing::Waived(waiver) => format!(
                "{}: waived by {} until {}: {}",
                result.id, waiver.approver, waiver.expires, waiver.reason
            ),
            Standing::NotApplicable(entry) => {
                format!(
                    "{}: does not apply, says {}: {}",
                    result.id, entry.stated_by, entry.reason
                )
            }
        };
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    for waiver in &report.expired_waivers {
        entries.push(format!(
            "{}: the waiver by {} expired on {} and does not count",
            waiver.criterion, waiver.approver, waiver.expires
        ));
    }
    entries
}

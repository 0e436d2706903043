//! The report on a terminal: the verdict, why and what to do first; no colour is needed to read it.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

use super::calendar::instant_text;
use super::quantity::Quantity;
use super::report::{CriterionResult, GateReport, Standing, Unit, Verdict};

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
    list(&mut text, "What to do next", &next_steps(report), true);
    list(&mut text, "Evidence that could not be used", &report.problems, false);
    list(&mut text, "Left out", &report.notes, false);
    list(&mut text, "Not counted", &not_counted(report), false);
    let _ = writeln!(text, "\nThe same again: {}", report.reproduce);
    text
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
        .set_header(["verdict", "criterion", "of", "observed", "bound", "why"]);
    for result in &report.criteria {
        let mut why = result.reason.clone();
        if !result.remark.is_empty() {
            let _ = write!(why, " (remark: {})", result.remark);
        }
        table.add_row([
            verdict_text(result),
            result.id.clone(),
            result.subject.clone(),
            observed_text(result),
            result.bound_text.clone(),
            why,
        ]);
    }
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
        return "not measured".to_owned();
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

/// Steps of the results that count, worst first, each step once.
pub(super) fn next_steps(report: &GateReport) -> Vec<String> {
    let mut steps: Vec<(Verdict, String, String)> = Vec::new();
    for result in report
        .criteria
        .iter()
        .filter(|result| result.is_counted() && !result.next.is_empty())
    {
        if !steps
            .iter()
            .any(|(_, id, step)| *id == result.id && *step == result.next)
        {
            steps.push((result.verdict, result.id.clone(), result.next.clone()));
        }
    }
    steps.sort_by_key(|(verdict, _, _)| std::cmp::Reverse(*verdict));
    let mut texts: Vec<String> = Vec::new();
    if !report.problems.is_empty() {
        texts.push(
            "make the evidence readable that could not be used (listed below): without it nothing is GO".to_owned(),
        );
    }
    texts.extend(steps.into_iter().map(|(_, id, step)| format!("{id}: {step}")));
    texts
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

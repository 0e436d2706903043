//! Figures that a person supplies.

use super::super::calendar::DAY_US;
use super::super::policy::{Criterion, SuppliedRule};
use super::super::quantity::Measure;
use super::super::report::{CriterionResult, Unit, Verdict, Window};
use super::super::supplied::Supplied;
use super::{Request, two_ended, undecided};

/// Judges a supplied figure: exact, so both ends are the same. Older than the window, or of a day that has not come, it does
/// not count.
pub(super) fn judge(
    criterion: &Criterion,
    rule: &SuppliedRule,
    supplied: &Supplied,
    request: &Request,
    window: Window,
) -> CriterionResult {
    let mut result = undecided(criterion, window);
    let bounds = &rule.bounds;
    let go = *bounds.go.get_ref();
    result.unit = match go.value().measure() {
        Measure::Duration => Unit::Us,
        Measure::Percent => Unit::Percent,
    };
    result.bound = Some(go.value().amount());
    result.bound_text = go.to_string();
    let Some(figure) = supplied.figure(&criterion.id) else {
        result.reason = "unmeasured: nobody supplied the figure".to_owned();
        result.next = format!(
            "add [[figure]] with criterion = \"{}\" to the evidence file",
            criterion.id
        );
        return result;
    };
    result.subject = figure.source.clone();
    result.samples = 1;
    result.observed_low = Some(figure.value.amount());
    result.observed_high = Some(figure.value.amount());
    let vouched = format!(
        "supplied by {} on the strength of {}",
        figure.supplied_by, figure.source
    );
    let midnight = figure
        .measured_on
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map(|zoned| zoned.timestamp().as_microsecond());
    let measured = match midnight {
        Ok(start) if start > request.judged_at_us => Err("lies in the future"),
        Ok(start) if start.saturating_add(DAY_US) <= window.from_us => Err("is older than the window"),
        Ok(_) => Ok(()),
        Err(_) => Err("is not a day that a clock can show"),
    };
    if let Err(fault) = measured {
        result.reason = format!("{} {vouched}, but its day {} {fault}", figure.value, figure.measured_on);
        result.next = "measure it again and supply the new figure".to_owned();
        return result;
    }
    result.verdict = two_ended(figure.value.amount(), Some(figure.value.amount()), bounds);
    let decided_by = match result.verdict {
        Verdict::NoGo => bounds.no_go.as_ref(),
        Verdict::Investigate => bounds.investigate.as_ref(),
        Verdict::Go | Verdict::Inconclusive => None,
    };
    if let Some(bound) = decided_by {
        result.bound = Some(bound.get_ref().value().amount());
        result.bound_text = bound.get_ref().to_string();
    }
    result.reason = match result.verdict {
        Verdict::Inconclusive => format!(
            "{} {vouched}: not {go}, and the policy names no verdict for it",
            figure.value
        ),
        _ => format!("{} {vouched}", figure.value),
    };
    if result.verdict != Verdict::Go {
        result.next = format!("bring it to {go}, measure again, and supply the new figure");
    }
    result.remark = format!("supplied by a person, measured on {}", figure.measured_on);
    result
}

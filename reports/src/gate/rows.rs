//! The result of a gate as rows of the `gate_criteria` table.

use std::path::{Path, PathBuf};

use super::calendar::instant_iso;
use super::quantity::to_f64;
use super::report::{CriterionResult, GateReport, Standing, Unit, Verdict};
use crate::tables::{self, FileName, GateCriterionRow, TableError, replace_rows};

/// Writes one row a result. The caller writes the `runs` row afterwards: it is the commit mark.
///
/// # Errors
/// Unwritable output.
pub fn write_gate(output: &Path, report: &GateReport) -> Result<Vec<PathBuf>, TableError> {
    let rows = report.criteria.iter().map(|result| row(report, result));
    replace_rows(output, FileName::of_run(&report.run_id), rows)
}

fn row(report: &GateReport, result: &CriterionResult) -> GateCriterionRow {
    GateCriterionRow {
        run_id: report.run_id.clone(),
        dataset: result.dataset.clone(),
        store: result.store.clone(),
        primary_site: result.primary_site.clone(),
        secondary_site: result.secondary_site.clone(),
        policy: report.policy.clone(),
        criterion_id: result.id.clone(),
        requirement: result.requirement.clone(),
        metric: result.metric.clone(),
        window: Some(format!(
            "{}/{}",
            instant_iso(result.window.from_us),
            instant_iso(result.window.to_us)
        )),
        observed_low: figure(result.unit, result.observed_low),
        observed_high: figure(result.unit, result.observed_high),
        bound: figure(result.unit, result.bound),
        unit: (result.unit != Unit::None).then(|| result.unit.word().to_owned()),
        samples: result.samples,
        verdict: verdict(result),
        reason: Some(reason(result)).filter(|reason| !reason.is_empty()),
        evidence_run_ids: result.evidence_run_ids.clone(),
    }
}

fn figure(unit: Unit, amount: Option<i64>) -> Option<f64> {
    let amount = to_f64(amount?);
    Some(if unit == Unit::Percent {
        amount / 1_000.0
    } else {
        amount
    })
}

fn verdict(result: &CriterionResult) -> tables::Verdict {
    match (&result.standing, result.verdict) {
        (Standing::NotApplicable(_), _) => tables::Verdict::NotApplicable,
        (Standing::Waived(_), _) => tables::Verdict::Waived,
        (Standing::Counted, Verdict::Go) => tables::Verdict::Go,
        (Standing::Counted, Verdict::Investigate) => tables::Verdict::Investigate,
        (Standing::Counted, Verdict::NoGo) => tables::Verdict::NoGo,
        (Standing::Counted, Verdict::Inconclusive) => tables::Verdict::Inconclusive,
    }
}

/// The reason; for what does not count, who says so and what the verdict would be.
fn reason(result: &CriterionResult) -> String {
    let own = match result.remark.as_str() {
        "" => result.reason.clone(),
        remark => format!("{} ({remark})", result.reason),
    };
    match &result.standing {
        Standing::Counted => own,
        Standing::Waived(waiver) => format!(
            "waived by {} until {}: {}; without it {}: {own}",
            waiver.approver,
            waiver.expires,
            waiver.reason,
            result.verdict.title()
        ),
        Standing::NotApplicable(entry) => format!("does not apply, says {}: {}", entry.stated_by, entry.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{MONDAY_US, run};
    use super::super::{Evidence, Supplied};
    use super::*;
    use crate::tables::{Span, read};

    #[test]
    fn every_result_is_a_row_that_reads_back() {
        let policy = super::super::fixture::policy();
        let text = "[[figure]]\ncriterion = 'cost'\nvalue = '20.5 %'\nmeasured_on = '2026-11-16'\nsupplied_by = 'R. Vogel'\nsource = 'invoice'\n\
                    [[waiver]]\ncriterion = 'dynamodb-lag'\nreason = 'later'\napprover = 'M. Okafor'\nexpires = '2027-01-01'\n\
                    [[not_applicable]]\ncriterion = 'aurora-peak-lag'\nreason = 'no peaks'\nstated_by = 'R. Vogel'\n";
        let supplied = Supplied::parse("evidence.toml", text, &policy).unwrap();
        let mut report = run(Evidence::default(), &supplied, MONDAY_US);
        report.run_id = crate::runs::new_run_id();
        let output = tempfile::tempdir().unwrap();
        write_gate(output.path(), &report).unwrap();
        let rows: Vec<GateCriterionRow> = read(output.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), report.criteria.len());
        let find = |id: &str| rows.iter().find(|row| row.criterion_id == id).unwrap();
        let cost = find("cost");
        assert_eq!(
            (cost.observed_high, cost.bound, cost.unit.as_deref()),
            (Some(20.5), Some(20.0), Some("percent"))
        );
        assert_eq!(cost.verdict, tables::Verdict::Investigate);
        assert_eq!(find("dynamodb-lag").verdict, tables::Verdict::Waived);
        assert!(
            find("dynamodb-lag")
                .reason
                .as_deref()
                .unwrap()
                .contains("without it INCONCLUSIVE")
        );
        assert_eq!(find("aurora-peak-lag").verdict, tables::Verdict::NotApplicable);
        assert_eq!(
            find("no-loss").window.as_deref(),
            Some("2026-08-18T00:00:00Z/2026-11-16T00:00:00Z")
        );
    }
}

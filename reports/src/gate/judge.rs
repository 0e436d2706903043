//! The verdict: pure, no clock, no file. Everything that decides is in the arguments.

mod events;
mod figures;
mod lag;

#[cfg(test)]
mod tests;

use super::evidence::Evidence;
use super::policy::{Bounds, Criterion, Kind, Policy};
use super::report::{Chart, CriterionResult, GateReport, LagSection, LossFacts, Standing, Unit, Verdict, Window};
use super::supplied::{Supplied, Waiver};

/// What one run of a gate is asked.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The run of the gate.
    pub run_id: String,
    /// Now, microseconds since 1970 UTC. Waivers expire by it.
    pub judged_at_us: i64,
    /// Start of the evidence; `None` = as far back as the policy says.
    pub from_us: Option<i64>,
    /// End of the evidence, exclusive; `None` = now.
    pub to_us: Option<i64>,
    /// Look at this event only.
    pub event_id: Option<String>,
    /// The command that judges the same evidence again.
    pub reproduce: String,
}

impl Request {
    /// The window of a criterion; of the policy when none is given.
    pub fn window(&self, policy: &Policy, criterion: Option<&Criterion>) -> Window {
        let to_us = self.to_us.unwrap_or(self.judged_at_us);
        let length = criterion
            .and_then(|criterion| criterion.window.as_ref())
            .unwrap_or(&policy.window)
            .get_ref()
            .amount();
        Window {
            from_us: self.from_us.unwrap_or_else(|| to_us.saturating_sub(length)),
            to_us,
        }
    }

    /// The window in which all evidence lies that criteria of this kind can count; the policy's own if there is none.
    pub fn widest_window(&self, policy: &Policy, is_of_kind: impl Fn(&Kind) -> bool) -> Window {
        policy
            .criteria()
            .filter(|criterion| is_of_kind(&criterion.kind))
            .map(|criterion| self.window(policy, Some(criterion)))
            .fold(self.window(policy, None), |widest, window| Window {
                from_us: widest.from_us.min(window.from_us),
                to_us: widest.to_us.max(window.to_us),
            })
    }
}

/// Applies a policy to evidence.
pub fn judge(policy: &Policy, supplied: &Supplied, evidence: Evidence, request: &Request) -> GateReport {
    let mut criteria: Vec<CriterionResult> = Vec::new();
    let mut expired_waivers = Vec::new();
    for criterion in policy.criteria() {
        let window = request.window(policy, Some(criterion));
        let mut results = judge_criterion(policy, criterion, supplied, &evidence, request, window);
        if let Some(waiver) = stand(criterion, supplied, request, &mut results) {
            expired_waivers.push(waiver);
        }
        criteria.append(&mut results);
    }
    let verdict = overall(&criteria, &evidence.problems);
    let waivers_used = policy
        .criteria()
        .filter(|criterion| {
            criteria.iter().any(|result| {
                result.id == criterion.id
                    && matches!(result.standing, Standing::Waived(_))
                    && result.verdict != Verdict::Go
            })
        })
        .count();
    GateReport {
        run_id: request.run_id.clone(),
        policy: policy.name.clone(),
        title: policy.title.clone(),
        policy_sha256: policy.sha256.clone(),
        supplied_sha256: (!supplied.sha256.is_empty()).then(|| supplied.sha256.clone()),
        judged_at_us: request.judged_at_us,
        window: request.window(policy, None),
        verdict,
        waivers_used,
        headline: headline(verdict, &criteria, &evidence.problems),
        criteria,
        expired_waivers,
        supplied: supplied.figures().cloned().collect(),
        lag: lag_sections(policy, &evidence, request),
        losses: loss_facts(&evidence),
        reconciliations: evidence.reconciliations,
        events: evidence.events,
        runs: evidence.runs,
        problems: evidence.problems,
        notes: evidence.notes,
        reproduce: request.reproduce.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn judge_criterion(
    policy: &Policy,
    criterion: &Criterion,
    supplied: &Supplied,
    evidence: &Evidence,
    request: &Request,
    window: Window,
) -> Vec<CriterionResult> {
    match &criterion.kind {
        Kind::LagSteady(rule) => lag::judge(policy, criterion, &rule.store, evidence, window, |lag, result| {
            lag::steady(policy, rule, lag, result);
        }),
        Kind::LagPeak(rule) => lag::judge(policy, criterion, &rule.store, evidence, window, |lag, result| {
            lag::peak(policy, rule, lag, result);
        }),
        Kind::LagObserved(rule) => lag::judge(policy, criterion, &rule.store, evidence, window, |lag, result| {
            lag::observed(policy, lag, result);
        }),
        Kind::Loss(rule) => events::loss(criterion, rule, evidence, request, window),
        Kind::Promotion(rule) => events::promotion(criterion, rule, evidence, request, window),
        Kind::RestoreTime(rule) | Kind::SecretRotation(rule) | Kind::Cost(rule) => {
            vec![figures::judge(criterion, rule, supplied, request, window)]
        }
    }
}

/// An undecided result, for a judge to fill in.
fn undecided(criterion: &Criterion, window: Window) -> CriterionResult {
    CriterionResult {
        id: criterion.id.clone(),
        requirement: criterion.requirement.clone(),
        metric: criterion.kind.metric(),
        subject: String::new(),
        event_id: None,
        dataset: None,
        store: None,
        primary_site: None,
        secondary_site: None,
        window,
        observed_low: None,
        observed_high: None,
        bound: None,
        bound_text: String::new(),
        unit: Unit::None,
        samples: 0,
        verdict: Verdict::Inconclusive,
        reason: String::new(),
        next: String::new(),
        evidence_run_ids: Vec::new(),
        remark: String::new(),
        standing: Standing::Counted,
    }
}

/// The verdict of one figure that is known to lie in [low, high]; no high end = unbounded. GO needs the high end within its
/// bound; INVESTIGATE and NO-GO need the low end beyond theirs; between them the figure does not decide.
fn two_ended(low: i64, high: Option<i64>, bounds: &Bounds) -> Verdict {
    let beyond =
        |bound: &Option<toml::Spanned<super::Bound>>| bound.as_ref().is_some_and(|bound| bound.get_ref().holds(low));
    if beyond(&bounds.no_go) {
        Verdict::NoGo
    } else if beyond(&bounds.investigate) {
        Verdict::Investigate
    } else if high.is_some_and(|high| bounds.go.get_ref().holds(high)) {
        Verdict::Go
    } else {
        Verdict::Inconclusive
    }
}

/// Sets whether the results of a criterion count; returns the waiver if it has expired.
fn stand(
    criterion: &Criterion,
    supplied: &Supplied,
    request: &Request,
    results: &mut [CriterionResult],
) -> Option<Waiver> {
    if let Some(entry) = supplied.not_applicable(&criterion.id) {
        for result in results.iter_mut() {
            if result.evidence_run_ids.is_empty() && result.samples == 0 {
                result.standing = Standing::NotApplicable(entry.clone());
            } else {
                add_remark(
                    result,
                    &format!(
                        "{} states that this does not apply; there is evidence, so it counts",
                        entry.stated_by
                    ),
                );
            }
        }
    }
    let waiver = supplied.waiver(&criterion.id)?;
    if has_expired(waiver, request.judged_at_us) {
        return Some(waiver.clone());
    }
    for result in results.iter_mut().filter(|result| result.is_counted()) {
        result.standing = Standing::Waived(waiver.clone());
    }
    None
}

/// A waiver counts until the end of its last day, UTC. An instant that no calendar holds is after every waiver.
fn has_expired(waiver: &Waiver, judged_at_us: i64) -> bool {
    jiff::Timestamp::from_microsecond(judged_at_us).map_or(true, |now| {
        now.to_zoned(jiff::tz::TimeZone::UTC).date() > waiver.expires
    })
}

fn add_remark(result: &mut CriterionResult, remark: &str) {
    if !result.remark.is_empty() {
        result.remark.push_str("; ");
    }
    result.remark.push_str(remark);
}

/// NO-GO if any criterion that counts is; else INVESTIGATE; else INCONCLUSIVE if any is, if evidence could not be used, or if
/// nothing was judged at all; else GO.
fn overall(criteria: &[CriterionResult], problems: &[String]) -> Verdict {
    let worst = criteria
        .iter()
        .filter(|result| result.is_counted())
        .map(|result| result.verdict)
        .max();
    // Waived results alone prove nothing.
    let least = if problems.is_empty() && worst.is_some() {
        Verdict::Go
    } else {
        Verdict::Inconclusive
    };
    worst.unwrap_or(Verdict::Inconclusive).max(least)
}

fn headline(verdict: Verdict, criteria: &[CriterionResult], problems: &[String]) -> String {
    let deciding: Vec<&CriterionResult> = criteria
        .iter()
        .filter(|result| result.is_counted() && result.verdict == verdict)
        .collect();
    match (verdict, deciding.as_slice()) {
        (Verdict::Go, all) => format!(
            "Every criterion that counts ({}) is proved to be within the policy.",
            all.len()
        ),
        (_, [first, rest @ ..]) => {
            let more = match rest.len() {
                0 => String::new(),
                1 => " One more result has this verdict.".to_owned(),
                n => format!(" {n} more results have this verdict."),
            };
            format!("{}: {}.{more}", first.id, first.reason)
        }
        (_, []) if problems.is_empty() => "No criterion counts: nothing was judged.".to_owned(),
        (_, []) => format!("Evidence exists that cannot be used: {}.", problems[0]),
    }
}

/// The routes with evidence, each with the lag criteria of its store.
fn lag_sections(policy: &Policy, evidence: &Evidence, request: &Request) -> Vec<LagSection> {
    let window = request.window(policy, None);
    let section = |lag: &super::RouteLag| {
        let mut lag = lag.clone();
        lag.blocks.retain(|block| lag::is_in(window, block.start_us));
        lag.peaks.retain(|peak| lag::is_in(window, peak.start_us));
        let charts = policy.criteria().filter_map(|criterion| match &criterion.kind {
            Kind::LagSteady(rule) | Kind::LagPeak(rule) if rule.store == lag.route.store => Some(Chart {
                criterion_id: criterion.id.clone(),
                quantile: rule.quantile,
                thresholds: thresholds(&rule.bounds),
            }),
            _ => None,
        });
        let charts = charts.collect();
        (!lag.blocks.is_empty()).then_some(LagSection { lag, charts })
    };
    evidence.lag.iter().filter_map(section).collect()
}

fn thresholds(bounds: &Bounds) -> Vec<(String, i64)> {
    let entries = [
        ("GO", Some(&bounds.go)),
        ("INVESTIGATE", bounds.investigate.as_ref()),
        ("NO-GO", bounds.no_go.as_ref()),
    ];
    entries
        .into_iter()
        .filter_map(|(word, bound)| {
            let bound = bound?.get_ref();
            Some((format!("{word} {bound}"), bound.value().amount()))
        })
        .collect()
}

fn loss_facts(evidence: &Evidence) -> Vec<LossFacts> {
    evidence
        .rpo
        .iter()
        .map(|sourced| {
            let rpo = &sourced.rpo;
            LossFacts {
                run_id: sourced.run_id.clone(),
                event_id: rpo.event_id.clone(),
                route: format!(
                    "{} {} -> {}",
                    rpo.route.dataset, rpo.route.primary_site, rpo.route.secondary_site
                ),
                acked: rpo.acked,
                survived: rpo.survived,
                lost: rpo.lost,
                unknown: rpo.unknown,
                rpo_low_us: rpo.rpo_low_us,
                rpo_high_us: rpo.rpo_high_us,
                shape: rpo.shape.word(),
                ledger_complete_until_us: rpo.ledger_complete_until_us,
            }
        })
        .collect()
}
